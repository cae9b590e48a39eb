//! From frames to decisions: motion, detection, tracks, looks, names, presence.
//!
//! All intervals are on media time, so that a jump of the clock or the speed of a replay changes
//! nothing. Each frame costs the motion gate; a detection and at most one embedding come on top
//! when there is something to learn (see [`attention`]).

mod attention;
mod counters;
mod presence;
mod presentation;
mod subject;
#[cfg(test)]
mod tests;
mod turns;

pub use counters::{Counters, Refusals};
pub use presence::Present;

use std::collections::BTreeMap;
use std::time::Duration;

use image::RgbImage;

use super::consensus::{Finding, Look, LookThresholds};
use super::matcher::Known;
use super::{Decision, Embedding, Evidence, LivenessPolicy, Verdict};
use crate::camera::Frame;
use crate::config;
use crate::face::DetectedFace;
use crate::face::motion::MotionGate;
use crate::face::quality::QualityGate;
use crate::face::track::{TrackId, Tracker};
use crate::model::engine::{Engine, EngineError};
use crate::model::network::NetworkError;
use crate::system::contain::contained;
use attention::Attention;
use presence::{Claim, Presences};
use subject::{Check, Clearance, Subject};
use turns::{Turns, Wanting};

/// The networks, as the watch needs them.
pub trait Eyes {
    type Error: std::fmt::Display;

    /// The faces in a frame, in its pixels.
    fn detect(&self, image: &RgbImage) -> Result<Vec<DetectedFace>, Self::Error>;

    /// The embedding of one of them.
    fn embed(&self, image: &RgbImage, face: &DetectedFace) -> Result<Embedding, Self::Error>;

    /// Probability that it is live, 0 to 1; `None` where no network can tell.
    fn liveness(&self, _: &RgbImage, _: &DetectedFace) -> Result<Option<f32>, Self::Error> {
        Ok(None)
    }
}

impl Eyes for Engine {
    type Error = NetworkError;

    fn detect(&self, image: &RgbImage) -> Result<Vec<DetectedFace>, NetworkError> {
        Self::detect(self, image)
    }

    fn embed(&self, image: &RgbImage, face: &DetectedFace) -> Result<Embedding, NetworkError> {
        Self::embed(self, image, face)
    }

    fn liveness(&self, image: &RgbImage, face: &DetectedFace) -> Result<Option<f32>, NetworkError> {
        Self::liveness(self, image, face).map_err(|error| match error {
            EngineError::Network { source, .. } => source,
            other => NetworkError::Output {
                wanted: "liveness networks".to_owned(),
                found: other.to_string(),
            },
        })
    }
}

/// How to decide.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Looks that must agree before a person is named, at least 1.
    pub frames: usize,
    /// What `thresholds` were picked for; told in the evidence.
    pub false_match_rate: f64,
    pub thresholds: LookThresholds,
    /// Also tell of strangers.
    pub unknown: bool,
    /// A person unseen for this long has departed.
    pub departed_after: Duration,
    pub quality: QualityGate,
    /// Pixels between a face's sides, below which it is nobody's.
    pub smallest_face: Option<f32>,
    /// `None`: pictures of a face are taken for the face.
    pub liveness: Option<LivenessPolicy>,
}

impl Settings {
    /// What the configuration says, with the quality gate for passers-by.
    pub fn new(
        recognition: &config::Recognition,
        events: &config::Events,
        thresholds: LookThresholds,
    ) -> Self {
        Self {
            frames: recognition.frames,
            false_match_rate: recognition.false_match_rate,
            thresholds,
            unknown: events.unknown,
            departed_after: events.departed_after.get(),
            quality: QualityGate::recognition(),
            smallest_face: None,
            liveness: None,
        }
    }

    #[must_use]
    pub fn with_smallest_face(self, pixels: Option<u32>) -> Self {
        Self { smallest_face: pixels.map(|pixels| pixels as f32), ..self }
    }

    #[must_use]
    pub fn with_liveness(self, liveness: Option<LivenessPolicy>) -> Self {
        Self { liveness, ..self }
    }
}

/// Watches one camera.
#[derive(Debug)]
pub struct Watch {
    settings: Settings,
    motion: MotionGate,
    attention: Attention,
    tracker: Tracker,
    subjects: BTreeMap<TrackId, Subject>,
    presences: Presences,
    counters: Counters,
    /// The last detection or embedding failed; say it once, not ten times a second.
    failing: bool,
    panics_in_a_row: u32,
    look_turns: Turns,
    liveness_turns: Turns,
}

impl Watch {
    pub fn new(settings: Settings) -> Self {
        Self {
            motion: MotionGate::new(),
            attention: Attention::new(settings.departed_after),
            tracker: Tracker::new(),
            subjects: BTreeMap::new(),
            presences: Presences::new(settings.departed_after),
            counters: Counters::default(),
            failing: false,
            panics_in_a_row: 0,
            look_turns: Turns::default(),
            liveness_turns: Turns::default(),
            settings,
        }
    }

    /// Decides by other settings from here on. Who is present stays so; looks taken so far are not
    /// carried over.
    pub fn reconfigure(&mut self, settings: Settings) {
        self.interrupt();
        self.attention = Attention::new(settings.departed_after);
        self.presences.departed_after(settings.departed_after);
        self.settings = settings;
    }

    /// Nobody watched for a while: whoever is in view next is looked at anew. Who was present stays
    /// so until the watch has missed them for as long as it takes to depart.
    pub fn interrupt(&mut self) {
        let ended = self.tracker.expire(Duration::MAX);
        self.end(&ended);
        self.motion = MotionGate::new();
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Who is held to be present.
    pub fn present(&self) -> impl Iterator<Item = Present<'_>> {
        self.presences.iter()
    }

    /// Takes the next frame. A failure of the eyes is counted and costs this frame only; a panic, wherever,
    /// costs the tracks as well.
    pub fn observe<'a, E: Eyes>(
        &mut self,
        frame: &Frame,
        eyes: &E,
        candidates: impl Into<Known<'a>>,
    ) -> Vec<Decision> {
        let candidates = candidates.into();
        let mut decisions = Vec::new();
        self.counters.frames += 1;
        match contained(|| self.take_in(frame, eyes, candidates, &mut decisions)) {
            // What panics in every detection must not be hidden by the frames between two of them.
            Ok(true) => self.panics_in_a_row = 0,
            Ok(false) => {}
            Err(panic) => self.pick_up(frame.number, &panic),
        }
        decisions
    }

    /// Frames in which a panic was contained, since the last that was looked at to its end.
    pub fn panics_in_a_row(&self) -> u32 {
        self.panics_in_a_row
    }

    /// Tracks may be half-changed, so none is kept: whoever is in view is looked at anew.
    fn pick_up(&mut self, frame: u64, panic: &str) {
        self.counters.panics += 1;
        self.panics_in_a_row += 1;
        if self.counters.panics.is_power_of_two() {
            let so_far = self.counters.panics;
            log::error!(
                "frame {frame} skipped, for it made the program panic, {so_far} so far: {panic}"
            );
        }
        if let Err(panic) = contained(|| self.interrupt()) {
            log::error!("and again: {panic}");
        }
        self.subjects.clear();
    }

    /// Whether the frame was worth a detection.
    fn take_in<E: Eyes>(
        &mut self,
        frame: &Frame,
        eyes: &E,
        candidates: Known<'_>,
        decisions: &mut Vec<Decision>,
    ) -> bool {
        self.presences.keep_only(&candidates);
        let moving = self.motion.observe(&frame.image, frame.mask.as_deref(), frame.media);
        self.counters.moving += u64::from(moving);
        let due = self.attention.due(moving, &self.subjects, &self.tracker, frame.media);
        if due {
            match self.look_at(frame, eyes, candidates, decisions) {
                Ok(()) => self.failing = false,
                Err(error) => {
                    self.counters.failures += 1;
                    if !std::mem::replace(&mut self.failing, true) {
                        log::warn!("frame {} skipped: {error}", frame.number);
                    }
                }
            }
        }
        decisions.extend(self.presences.departures(frame.media, frame.time));
        due
    }

    /// No frame came: time passes all the same. `media` continues the frames' time line.
    pub fn quiet<'a>(
        &mut self,
        media: Duration,
        time: jiff::Timestamp,
        candidates: impl Into<Known<'a>>,
    ) -> Vec<Decision> {
        let candidates = candidates.into();
        self.presences.keep_only(&candidates);
        let ended = self.tracker.expire(media);
        self.end(&ended);
        self.presences.departures(media, time)
    }

    fn look_at<E: Eyes>(
        &mut self,
        frame: &Frame,
        eyes: &E,
        candidates: Known<'_>,
        decisions: &mut Vec<Decision>,
    ) -> Result<(), E::Error> {
        self.attention.looked(frame.media);
        self.counters.detections += 1;
        let mut faces = eyes.detect(&frame.image)?;
        faces.retain(|face| self.counts(frame, face));
        self.attention.found(!faces.is_empty());
        self.counters.faces += faces.len() as u64;
        let update = self.tracker.update(&faces, frame.media);
        self.counters.tracks += update.started as u64;
        self.counters.broken_tracks += update.broken as u64;
        self.counters.crowded_out += update.crowded_out as u64;
        self.end(&update.ended);
        for &id in &update.seen {
            self.subjects
                .entry(id)
                .or_insert_with(|| Subject::new(self.settings.frames, frame.media));
            self.presences.seen(id, frame.media, frame.time);
        }
        self.forget_the_forgotten(candidates);
        self.look_closer(frame, eyes, &update.seen, candidates, decisions)?;
        self.examine(frame, eyes, &update.seen, candidates, decisions)
    }

    /// What lies in a mask or is too small is nobody's: it has no track, and is no stranger.
    fn counts(&mut self, frame: &Frame, face: &DetectedFace) -> bool {
        let small = self.settings.smallest_face.is_some_and(|least| face.bounds.width < least);
        let masked = frame.hides(face);
        self.counters.refusals.small += u64::from(small && !masked);
        self.counters.masked += u64::from(masked);
        !small && !masked
    }

    /// One embedding a frame: of the first whose turn it is that can be looked at well.
    fn look_closer<E: Eyes>(
        &mut self,
        frame: &Frame,
        eyes: &E,
        seen: &[TrackId],
        candidates: Known<'_>,
        decisions: &mut Vec<Decision>,
    ) -> Result<(), E::Error> {
        let mut wanting = self.wanting(seen, |subject, hits| {
            Some((subject.need(hits, frame.media)?, subject.looked()))
        });
        self.look_turns.order(&mut wanting);
        for (at, &Wanting { id, .. }) in wanting.iter().enumerate() {
            let (Some(track), Some(subject)) = (self.tracker.get(id), self.subjects.get(&id))
            else {
                continue;
            };
            let face = track.face;
            let quality = match self.settings.quality.assess(&frame.image, &face) {
                Ok(quality) => quality,
                Err(refusal) => {
                    self.counters.refusals.count(&refusal);
                    continue;
                }
            };
            if !subject.improved_by(quality.score, frame.media) {
                continue;
            }
            self.counters.embeddings += 1;
            self.counters.put_off += (wanting.len() - at - 1) as u64;
            self.look_turns.given();
            let embedding = eyes.embed(&frame.image, &face)?;
            let look = Look { embedding, quality: quality.score, taken: frame.media };
            self.take(id, look, frame, candidates, decisions);
            break;
        }
        Ok(())
    }

    /// The faces of `seen` that `want` something (how much, and since when), in the order of `seen`.
    fn wanting<N>(
        &self,
        seen: &[TrackId],
        want: impl Fn(&Subject, u32) -> Option<(N, Duration)>,
    ) -> Vec<Wanting<N>> {
        let wanting = |&id: &TrackId| {
            let (track, subject) = (self.tracker.get(id)?, self.subjects.get(&id)?);
            want(subject, track.hits).map(|(need, since)| Wanting { id, need, since })
        };
        seen.iter().filter_map(wanting).collect()
    }

    /// A look at a track, and what follows from it.
    fn take(
        &mut self,
        id: TrackId,
        look: Look,
        frame: &Frame,
        candidates: Known<'_>,
        decisions: &mut Vec<Decision>,
    ) {
        let Some(subject) = self.subjects.get_mut(&id) else { return };
        match subject.take(look, candidates, &self.settings.thresholds) {
            Check::Confirmed => self.presences.confirmed(id, frame.media, frame.time),
            Check::Doubted => {}
            Check::Added => self.conclude(id, frame, candidates, decisions),
            Check::SomeoneElse(look) => {
                self.counters.split_tracks += 1;
                self.presences.disprove(id);
                self.subjects.remove(&id);
                if let Some(renewed) = self.tracker.renew(id) {
                    let mut subject = Subject::new(self.settings.frames, frame.media);
                    subject.begin_with(look);
                    self.subjects.insert(renewed, subject);
                }
            }
        }
    }

    fn conclude(
        &mut self,
        id: TrackId,
        frame: &Frame,
        candidates: Known<'_>,
        decisions: &mut Vec<Decision>,
    ) {
        let Some(subject) = self.subjects.get_mut(&id) else { return };
        let decide =
            |verdict, track: TrackId| Decision { time: frame.time, track: track.get(), verdict };
        let evidence = |similarity, threshold, frames, liveness| Evidence {
            similarity,
            threshold,
            false_match_rate: self.settings.false_match_rate,
            frames,
            liveness,
        };
        match subject.finding(candidates, &self.settings.thresholds) {
            Finding::Person { index, similarity, threshold, frames } => {
                let Clearance::Given(liveness) =
                    subject.cleared(self.settings.liveness, frame.media)
                else {
                    return;
                };
                let person = &candidates[index].person;
                match self.presences.claim(person, id, similarity, frame.media, frame.time) {
                    Claim::Refused => return subject.step_back(frame.media),
                    Claim::Arrived => {
                        self.counters.named += 1;
                        let evidence = evidence(similarity, threshold, frames, liveness);
                        let verdict = Verdict::Recognized { person: person.clone(), evidence };
                        decisions.push(decide(verdict, id));
                    }
                    Claim::Continued { instead_of } => {
                        if let Some(loser) = instead_of.and_then(|id| self.subjects.get_mut(&id)) {
                            loser.step_back(frame.media);
                        }
                    }
                }
                if let Some(subject) = self.subjects.get_mut(&id) {
                    subject.name(person.id.clone(), frame.media);
                }
            }
            Finding::Nobody { similarity, threshold, frames } => {
                if self.settings.unknown
                    && !subject.is_unknown()
                    && let Clearance::Given(liveness) =
                        subject.cleared(self.settings.liveness, frame.media)
                {
                    subject.becomes_unknown();
                    self.counters.unknown += 1;
                    let evidence = evidence(similarity, threshold, frames, liveness);
                    decisions.push(decide(Verdict::Unknown { evidence }, id));
                }
            }
            Finding::Undecided => {}
        }
    }

    /// Tracks named after people who are no longer enrolled begin anew.
    fn forget_the_forgotten(&mut self, candidates: Known<'_>) {
        let forgotten: Vec<TrackId> = self
            .subjects
            .iter()
            .filter(|(_, subject)| {
                subject.person().is_some_and(|id| candidates.iter().all(|c| c.person.id != *id))
            })
            .map(|(id, _)| *id)
            .collect();
        for id in forgotten {
            self.subjects.remove(&id);
            if let Some((renewed, seen)) = self
                .tracker
                .renew(id)
                .and_then(|id| self.tracker.get(id).map(|track| (id, track.seen)))
            {
                self.subjects.insert(renewed, Subject::new(self.settings.frames, seen));
            }
        }
    }

    fn end(&mut self, tracks: &[TrackId]) {
        for id in tracks {
            self.subjects.remove(id);
            self.presences.detach(*id);
        }
    }
}
