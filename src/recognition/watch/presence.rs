//! Who is present: an appearance begins when a person is named and ends when the person has not
//! been seen for a time, however many tracks it takes.

use std::time::Duration;

use jiff::Timestamp;

use crate::face::track::TrackId;
use crate::recognition::{Candidate, Decision, PersonRef, Verdict};

/// A track must be this much more alike to take a person from another one in view.
const BETTER: f32 = 0.03;

/// An enrolled person in view, or out of view for less than `departed_after`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Present<'a> {
    pub person: &'a PersonRef,
    /// Number of the appearance.
    pub track: u64,
    pub since: Timestamp,
    pub last_seen: Timestamp,
}

#[derive(Debug)]
struct Appearance {
    person: PersonRef,
    number: TrackId,
    since: Timestamp,
    /// Last seen, on media time and by the clock.
    seen: (Duration, Timestamp),
    /// Last looked at and found to be the same person.
    confirmed: (Duration, Timestamp),
    /// The track that shows the person now, and how alike it was when named.
    track: Option<(TrackId, f32)>,
}

/// What became of a track's claim to show a person.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// The person was not present.
    Arrived,
    /// The person was; a track that showed the person less well has lost its claim.
    Continued { instead_of: Option<TrackId> },
    /// Another track in view shows the person better.
    Refused,
}

#[derive(Debug)]
pub(super) struct Presences {
    departed_after: Duration,
    appearances: Vec<Appearance>,
}

impl Presences {
    pub(super) fn new(departed_after: Duration) -> Self {
        Self { departed_after, appearances: Vec::new() }
    }

    pub(super) fn departed_after(&mut self, time: Duration) {
        self.departed_after = time;
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Present<'_>> {
        self.appearances.iter().map(|appearance| Present {
            person: &appearance.person,
            track: appearance.number.get(),
            since: appearance.since,
            last_seen: appearance.seen.1,
        })
    }

    /// Drops, silently, who is no longer enrolled, and takes over new names.
    pub(super) fn keep_only(&mut self, candidates: &[Candidate]) {
        self.appearances.retain_mut(|appearance| {
            let current = candidates.iter().find(|c| c.person.id == appearance.person.id);
            if let Some(current) = current {
                appearance.person.name.clone_from(&current.person.name);
            }
            current.is_some()
        });
    }

    pub(super) fn claim(
        &mut self,
        person: &PersonRef,
        track: TrackId,
        similarity: f32,
        media: Duration,
        time: Timestamp,
    ) -> Claim {
        let now = (media, time);
        let Some(known) = self.appearances.iter_mut().find(|a| a.person.id == person.id) else {
            self.appearances.push(Appearance {
                person: person.clone(),
                number: track,
                since: time,
                seen: now,
                confirmed: now,
                track: Some((track, similarity)),
            });
            return Claim::Arrived;
        };
        let rival = known.track.filter(|(other, _)| *other != track);
        // A rival that is not in view now is the same person a moment ago.
        if let Some((_, held)) = rival
            && known.seen.0 == media
            && similarity < held + BETTER
        {
            return Claim::Refused;
        }
        known.track = Some((track, similarity));
        known.seen = now;
        known.confirmed = now;
        Claim::Continued { instead_of: rival.map(|(other, _)| other) }
    }

    pub(super) fn seen(&mut self, track: TrackId, media: Duration, time: Timestamp) {
        if let Some(appearance) = self.of(track) {
            appearance.seen = (media, time);
        }
    }

    pub(super) fn confirmed(&mut self, track: TrackId, media: Duration, time: Timestamp) {
        if let Some(appearance) = self.of(track) {
            appearance.confirmed = (media, time);
        }
    }

    /// The track ended.
    pub(super) fn detach(&mut self, track: TrackId) {
        if let Some(appearance) = self.of(track) {
            appearance.track = None;
        }
    }

    /// The track turned out to show someone else, who knows since when.
    pub(super) fn disprove(&mut self, track: TrackId) {
        if let Some(appearance) = self.of(track) {
            appearance.track = None;
            appearance.seen = appearance.confirmed;
        }
    }

    /// Who has not been seen for long enough.
    pub(super) fn departures(&mut self, media: Duration, time: Timestamp) -> Vec<Decision> {
        let gone = |appearance: &Appearance| {
            media.saturating_sub(appearance.seen.0) >= self.departed_after
        };
        let decisions = self
            .appearances
            .iter()
            .filter(|appearance| gone(appearance))
            .map(|appearance| Decision {
                time,
                track: appearance.number.get(),
                verdict: Verdict::Departed { person: appearance.person.clone() },
            })
            .collect();
        self.appearances.retain(|appearance| !gone(appearance));
        decisions
    }

    fn of(&mut self, track: TrackId) -> Option<&mut Appearance> {
        self.appearances.iter_mut().find(|a| a.track.is_some_and(|(id, _)| id == track))
    }
}
