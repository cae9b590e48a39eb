//! Which face is which from frame to frame.
//!
//! Faces are joined to tracks by how far and how much they changed in size, in units of their own
//! size, from where the track was last or from where its motion would have brought it. Where two
//! faces or two tracks compete for the same place (people who cross, a face behind a face) the
//! tracks are broken: a new track costs a few looks, a mixed one could name the wrong person.

use std::time::Duration;

use super::{BoundingBox, DetectedFace, Point};

/// Tracks at a time; beyond, the smallest faces go unseen.
pub const CAPACITY: usize = 32;
/// A track that was not found in this many detections…
const MISSES: u32 = 3;
/// …and for this long has ended;
const MISSING: Duration = Duration::from_millis(700);
/// so has one that nobody looked for.
const GAP: Duration = Duration::from_secs(4);
/// Closeness (1 the same place and size, 0 a face's width off) that joins.
const JOIN: f32 = 0.25;
/// A rival this near in closeness makes it ambiguous.
const RIVAL: f32 = 0.3;

/// Counts up within a start of the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrackId(u64);

impl TrackId {
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// One face over time.
#[derive(Debug, Clone)]
pub struct Track {
    pub id: TrackId,
    /// As it was last found.
    pub face: DetectedFace,
    /// When it was first and last found, media time.
    pub first: Duration,
    pub seen: Duration,
    /// Detections in which it was found.
    pub hits: u32,
    /// Detections since in which it was not found.
    pub missed: u32,
    /// Pixels per second.
    velocity: Point,
}

/// What a detection changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// Tracks found in this detection, new ones included; largest face first.
    pub seen: Vec<TrackId>,
    /// Tracks that are no more, the broken ones included.
    pub ended: Vec<TrackId>,
    pub started: usize,
    pub broken: usize,
    /// Faces for which there was no room.
    pub crowded_out: usize,
}

/// The tracks alive.
#[derive(Debug, Default)]
pub struct Tracker {
    tracks: Vec<Track>,
    last: u64,
}

impl Tracker {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn tracks(&self) -> &[Track] {
        &self.tracks
    }

    pub fn get(&self, id: TrackId) -> Option<&Track> {
        self.tracks.iter().find(|track| track.id == id)
    }

    /// Takes the faces of a detection at `media`.
    pub fn update(&mut self, faces: &[DetectedFace], media: Duration) -> Update {
        let mut update = Update { ended: self.expire(media), ..Update::default() };
        let mut faces: Vec<&DetectedFace> =
            faces.iter().filter(|face| face.bounds.area() > 0.0).collect();
        faces.sort_by(|a, b| b.bounds.area().total_cmp(&a.bounds.area()));
        update.crowded_out = faces.len().saturating_sub(CAPACITY);
        faces.truncate(CAPACITY);

        let broken = self.ambiguous(&faces, media);
        update.broken = broken.len();
        self.tracks.retain(|track| !broken.contains(&track.id));
        update.ended.extend(broken);

        let joined = self.join(&faces, media);
        for track in &mut self.tracks {
            if !joined.contains(&Some(track.id)) {
                track.missed += 1;
            }
        }
        for (face, id) in faces.into_iter().zip(joined) {
            let known = self.tracks.iter_mut().find(|track| Some(track.id) == id);
            if let Some(track) = known {
                track.follow(face, media);
                update.seen.push(track.id);
            } else if self.make_room(&mut update.ended) {
                update.started += 1;
                update.seen.push(self.start(face, media));
            } else {
                update.crowded_out += 1;
            }
        }
        let lost =
            |track: &Track| track.missed >= MISSES && media.saturating_sub(track.seen) >= MISSING;
        update.ended.extend(self.tracks.iter().filter(|track| lost(track)).map(|track| track.id));
        self.tracks.retain(|track| !lost(track));
        update
    }

    /// Ends the tracks that nobody looked for in a long time, as when the camera was away.
    pub fn expire(&mut self, media: Duration) -> Vec<TrackId> {
        let old = |track: &Track| media.saturating_sub(track.seen) >= GAP;
        let ended = self.tracks.iter().filter(|track| old(track)).map(|track| track.id).collect();
        self.tracks.retain(|track| !old(track));
        ended
    }

    /// Gives a track a new id: what was known of it does not hold for what is seen now.
    pub fn renew(&mut self, id: TrackId) -> Option<TrackId> {
        let track = self.tracks.iter_mut().find(|track| track.id == id)?;
        self.last += 1;
        track.id = TrackId(self.last);
        track.first = track.seen;
        Some(track.id)
    }

    /// Tracks that compete with others for one face, or that two faces compete for.
    fn ambiguous(&self, faces: &[&DetectedFace], media: Duration) -> Vec<TrackId> {
        let mut broken = Vec::new();
        for face in faces {
            let near: Vec<(f32, TrackId)> = self
                .tracks
                .iter()
                .map(|track| (track.closeness(&face.bounds, media), track.id))
                .filter(|(closeness, _)| *closeness >= JOIN)
                .collect();
            let best = near.iter().map(|(closeness, _)| *closeness).fold(0.0, f32::max);
            let rivals = near.iter().filter(|(closeness, _)| *closeness > best - RIVAL);
            if rivals.clone().count() > 1 {
                broken.extend(rivals.map(|(_, id)| *id));
            }
        }
        for track in &self.tracks {
            let near = || {
                faces
                    .iter()
                    .map(|face| track.closeness(&face.bounds, media))
                    .filter(|closeness| *closeness >= JOIN)
            };
            let best = near().fold(0.0, f32::max);
            if near().filter(|closeness| *closeness > best - RIVAL).count() > 1 {
                broken.push(track.id);
            }
        }
        broken.sort_unstable();
        broken.dedup();
        broken
    }

    /// For each face the track it continues: the closest pairs first.
    fn join(&self, faces: &[&DetectedFace], media: Duration) -> Vec<Option<TrackId>> {
        let mut pairs: Vec<(f32, usize, TrackId)> = Vec::new();
        for track in &self.tracks {
            pairs.extend(faces.iter().enumerate().filter_map(|(index, face)| {
                let closeness = track.closeness(&face.bounds, media);
                (closeness >= JOIN).then_some((closeness, index, track.id))
            }));
        }
        pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut joined = vec![None; faces.len()];
        for (_, index, id) in pairs {
            if joined[index].is_none() && !joined.contains(&Some(id)) {
                joined[index] = Some(id);
            }
        }
        joined
    }

    /// Room for a new track, at the cost of one that is not in view if need be.
    fn make_room(&mut self, ended: &mut Vec<TrackId>) -> bool {
        if self.tracks.len() < CAPACITY {
            return true;
        }
        let missing = (0..self.tracks.len())
            .filter(|&index| self.tracks[index].missed > 0)
            .max_by_key(|&index| self.tracks[index].missed);
        if let Some(index) = missing {
            ended.push(self.tracks.swap_remove(index).id);
        }
        missing.is_some()
    }

    fn start(&mut self, face: &DetectedFace, media: Duration) -> TrackId {
        self.last += 1;
        let id = TrackId(self.last);
        self.tracks.push(Track {
            id,
            face: *face,
            first: media,
            seen: media,
            hits: 1,
            missed: 0,
            velocity: Point::default(),
        });
        id
    }
}

impl Track {
    fn follow(&mut self, face: &DetectedFace, media: Duration) {
        let elapsed = media.saturating_sub(self.seen).as_secs_f32();
        if elapsed > 0.0 {
            let (from, to) = (self.face.bounds.center(), face.bounds.center());
            self.velocity = Point { x: (to.x - from.x) / elapsed, y: (to.y - from.y) / elapsed };
        }
        self.face = *face;
        self.seen = media;
        self.hits += 1;
        self.missed = 0;
    }

    /// 1 for the same place and size; less by each face's side of distance and each e-fold of size.
    /// The longer ago the track was seen, the more distance is forgiven.
    fn closeness(&self, bounds: &BoundingBox, media: Duration) -> f32 {
        let elapsed = media.saturating_sub(self.seen).as_secs_f32().min(1.0);
        let last = self.face.bounds.center();
        let moved =
            Point { x: last.x + self.velocity.x * elapsed, y: last.y + self.velocity.y * elapsed };
        let (old, new) = (self.face.bounds.area().max(1.0).sqrt(), bounds.area().max(1.0).sqrt());
        let side = f32::midpoint(old, new) * (1.0 + elapsed);
        let center = bounds.center();
        let distance = |from: Point| (center.x - from.x).hypot(center.y - from.y) / side;
        1.0 - distance(last).min(distance(moved)) - (new / old).ln().abs()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn face(x: f32, y: f32, side: f32) -> DetectedFace {
        DetectedFace {
            bounds: BoundingBox { x, y, width: side, height: side },
            score: 0.9,
            landmarks: [Point::default(); 5],
        }
    }

    fn at(frame: u64) -> Duration {
        Duration::from_millis(100 * frame)
    }

    #[test]
    fn a_walking_face_is_one_track() {
        let mut tracker = Tracker::new();
        let first = tracker.update(&[face(0.0, 0.0, 80.0)], at(0)).seen;
        for frame in 1..20 {
            let seen = tracker.update(&[face(25.0 * frame as f32, 0.0, 80.0)], at(frame)).seen;
            assert_eq!(seen, first);
        }
    }

    #[test]
    fn missing_for_a_moment_is_not_gone() {
        let mut tracker = Tracker::new();
        let first = tracker.update(&[face(0.0, 0.0, 80.0)], at(0)).seen;
        for frame in 1..5 {
            assert!(tracker.update(&[], at(frame)).ended.is_empty());
        }
        assert_eq!(tracker.update(&[face(8.0, 0.0, 80.0)], at(5)).seen, first);
        let ended: Vec<_> =
            (6..20).flat_map(|frame| tracker.update(&[], at(frame)).ended).collect();
        assert_eq!(ended, first);
        assert!(tracker.tracks().is_empty());
    }

    #[test]
    fn crossing_breaks_both() {
        let mut tracker = Tracker::new();
        let mut ids = std::collections::BTreeMap::new();
        for frame in 0..41 {
            let x = 15.0 * frame as f32;
            let faces = [face(x, 0.0, 80.0), face(600.0 - x, 0.0, 84.0)];
            // While one covers the other only one is found.
            let hidden = (x - (600.0 - x)).abs() < 50.0;
            tracker.update(if hidden { &faces[..1] } else { &faces }, at(frame));
            let moving_right = |track: &Track| (track.face.bounds.width - 80.0).abs() < 1.0;
            for track in tracker.tracks().iter().filter(|track| track.missed == 0) {
                let before = ids.insert(track.id, moving_right(track));
                assert!(before.is_none_or(|before| before == moving_right(track)), "mixed");
            }
        }
        assert!(ids.len() >= 4, "{ids:?}");
    }

    #[test]
    fn side_by_side_is_not_ambiguous() {
        let mut tracker = Tracker::new();
        for frame in 0..10 {
            let update = tracker.update(&[face(0.0, 0.0, 80.0), face(85.0, 4.0, 80.0)], at(frame));
            assert_eq!(update.broken, 0);
        }
        assert_eq!(tracker.tracks().len(), 2);
    }

    /// Holds ROB-09.
    #[test]
    fn crowd_is_bounded() {
        let mut tracker = Tracker::new();
        let crowd: Vec<_> = (0..100)
            .map(|n| face((n % 10) as f32 * 150.0, (n / 10) as f32 * 150.0, 40.0 + n as f32))
            .collect();
        for frame in 0..3 {
            let update = tracker.update(&crowd, at(frame));
            assert_eq!(update.crowded_out, 100 - CAPACITY);
            assert_eq!(tracker.tracks().len(), CAPACITY);
        }
        let smallest = tracker.tracks().iter().map(|track| track.face.bounds.width as u32).min();
        assert_eq!(smallest, Some(140 - CAPACITY as u32), "the largest are served");
    }

    #[test]
    fn a_long_gap_ends_tracks() {
        let mut tracker = Tracker::new();
        let first = tracker.update(&[face(0.0, 0.0, 80.0)], at(0)).seen;
        let update = tracker.update(&[face(0.0, 0.0, 80.0)], at(60));
        assert_eq!(update.ended, first);
        assert_ne!(update.seen, first);
    }
}
