//! What is known of the face on one track. It ends with the track, and its embeddings with it.

use std::time::Duration;

use crate::recognition::consensus::{Consensus, Finding, Look, LookThresholds, same_face};
use crate::recognition::liveness::TrackLiveness;
use crate::recognition::matcher::{Known, nearest};
use crate::recognition::{Embedding, LivenessPolicy, LivenessScore, PersonId};

/// Between looks until there are enough to name a person: looks at neighbouring frames are copies.
const FIRST_LOOKS: Duration = Duration::from_millis(150);
/// Between looks until the track's looks are full.
const MORE_LOOKS: Duration = Duration::from_millis(400);
/// A full track takes a better look at any time (not more often than [`MORE_LOOKS`]), and any good
/// look after a while that grows with its age, within these bounds.
const REFRESH: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));
const CLEARLY_BETTER: f32 = 0.1;
/// A named person is looked at again this often, to notice if someone else took the place.
const VERIFY: Duration = Duration::from_secs(5);
/// Looks in a row that must show someone else before a named track is split.
const DOUBTS: u32 = 2;
/// A track that lost its claim to a person waits this long before the next.
const STEP_BACK: Duration = Duration::from_secs(5);
/// A face that gave no good look for this long is no longer followed eagerly.
const EAGERNESS: Duration = Duration::from_secs(5);
/// A track must have been found in this many detections before it is looked at.
const HITS: u32 = 2;

/// What a look at a track meant.
#[derive(Debug)]
pub(super) enum Check {
    /// The track is not named yet; the look counts.
    Added,
    /// The named person, still.
    Confirmed,
    /// Not like the named person; one more such look and it is someone else.
    Doubted,
    /// The track shows someone else than before.
    SomeoneElse(Look),
}

/// Whether liveness lets it be said whose face it is.
#[derive(Debug)]
pub(super) enum Clearance {
    /// Not before there is a verdict.
    Pending,
    /// Now, and with that word on its liveness.
    Given(Option<LivenessScore>),
}

#[derive(Debug)]
pub(super) struct Subject {
    consensus: Consensus,
    frames: usize,
    begun: Duration,
    /// The last look or the last change: what eagerness counts from.
    progress: Duration,
    not_before: Duration,
    named: Option<Named>,
    unknown: bool,
    liveness: TrackLiveness,
    /// There is a name, and no verdict yet that it may rest on.
    waiting: bool,
    /// Since when it is held to be an attack.
    barred: Option<Duration>,
    /// An attack was told.
    spoofed: bool,
}

#[derive(Debug)]
struct Named {
    person: PersonId,
    /// The pooled looks that the name rests on.
    anchor: Embedding,
    looks: usize,
    verified: Duration,
    doubts: u32,
}

impl Subject {
    pub(super) fn new(frames: usize, media: Duration) -> Self {
        Self {
            consensus: Consensus::new(frames),
            frames,
            begun: media,
            progress: media,
            not_before: Duration::ZERO,
            named: None,
            unknown: false,
            liveness: TrackLiveness::default(),
            waiting: false,
            barred: None,
            spoofed: false,
        }
    }

    pub(super) fn begin_with(&mut self, look: Look) {
        self.consensus.add(look);
    }

    pub(super) fn person(&self) -> Option<&PersonId> {
        self.named.as_ref().map(|named| &named.person)
    }

    /// Whether each frame should be looked at for this face's sake.
    pub(super) fn is_eager(&self, media: Duration) -> bool {
        let hungry = match &self.named {
            Some(named) => named.doubts > 0,
            None => !self.consensus.is_full(),
        };
        let hungry = self.barred.is_none() && (hungry || self.liveness_is_open());
        hungry && media >= self.not_before && media.saturating_sub(self.progress) < EAGERNESS
    }

    /// How much a look at this face is needed now, more is more; `None`: not at all.
    pub(super) fn need(&self, hits: u32, media: Duration) -> Option<u32> {
        if media < self.not_before || hits < HITS || self.barred.is_some() {
            return None;
        }
        let since = self.consensus.latest().map(|latest| media.saturating_sub(latest));
        if let Some(named) = &self.named {
            let wait = if named.doubts > 0 { FIRST_LOOKS } else { VERIFY };
            return (media.saturating_sub(named.verified) >= wait).then_some(named.doubts);
        }
        let looks = self.consensus.looks().len();
        // Who has begun is finished: in a crowd one after the other gets a name, not all of them at the end.
        let (wait, need) =
            if looks < self.frames { (FIRST_LOOKS, 100 + looks as u32) } else { (MORE_LOOKS, 50) };
        since.is_none_or(|since| since >= wait).then_some(need)
    }

    /// When there was last a look at it; when it appeared, if never.
    pub(super) fn looked(&self) -> Duration {
        let named = self.named.as_ref().map(|named| named.verified);
        named.or_else(|| self.consensus.latest()).unwrap_or(self.begun)
    }

    /// When it was last asked whether it is live; when it appeared, if never.
    pub(super) fn examined(&self) -> Duration {
        self.liveness.scored().unwrap_or(self.begun)
    }

    /// Whether a look of this quality tells anything new.
    pub(super) fn improved_by(&self, quality: f32, media: Duration) -> bool {
        if self.named.is_some() || !self.consensus.is_full() {
            return true;
        }
        let age = media.saturating_sub(self.begun);
        let latest = self.consensus.latest().unwrap_or_default();
        media.saturating_sub(latest) >= (age / 4).clamp(REFRESH.0, REFRESH.1)
            || quality > self.consensus.worst_quality() + CLEARLY_BETTER
    }

    pub(super) fn take(
        &mut self,
        look: Look,
        candidates: Known<'_>,
        thresholds: &LookThresholds,
    ) -> Check {
        self.progress = look.taken;
        let Some(named) = &mut self.named else {
            if !self.consensus.belongs(&look.embedding, thresholds) {
                return Check::SomeoneElse(look);
            }
            self.consensus.add(look);
            return Check::Added;
        };
        named.verified = look.taken;
        if named.is_shown_by(&look.embedding, candidates, thresholds) {
            named.doubts = 0;
            return Check::Confirmed;
        }
        named.doubts += 1;
        if named.doubts >= DOUBTS { Check::SomeoneElse(look) } else { Check::Doubted }
    }

    pub(super) fn finding(&self, candidates: Known<'_>, thresholds: &LookThresholds) -> Finding {
        self.consensus.finding(candidates, thresholds)
    }

    /// The looks have done their work: only their mean is kept.
    pub(super) fn name(&mut self, person: PersonId, media: Duration) {
        if let Some(anchor) = self.consensus.pooled() {
            let looks = self.consensus.looks().len();
            self.named = Some(Named { person, anchor, looks, verified: media, doubts: 0 });
            self.waiting = false;
            self.consensus.clear();
        }
    }

    /// Another track shows this person better.
    pub(super) fn step_back(&mut self, media: Duration) {
        self.named = None;
        self.consensus.clear();
        self.liveness = TrackLiveness::default();
        self.not_before = media + STEP_BACK;
    }

    #[cfg(test)]
    pub(super) fn looks(&self) -> usize {
        self.consensus.looks().len()
    }

    pub(super) fn is_unknown(&self) -> bool {
        self.unknown
    }

    pub(super) fn becomes_unknown(&mut self) {
        self.unknown = true;
    }
}

/// Live, or a picture of somebody?
impl Subject {
    /// The same face as one that was told to be an attack, to be looked at anew.
    pub(super) fn after_an_attack(frames: usize, media: Duration) -> Self {
        Self { spoofed: true, ..Self::new(frames, media) }
    }

    /// How much a score is needed now, more is more; `None`: not at all.
    pub(super) fn wants_liveness(&self, hits: u32, media: Duration) -> Option<(bool, usize)> {
        let wants = hits >= HITS
            && self.barred.is_none()
            && self.liveness.wants(self.named.is_some(), media);
        wants.then_some((self.waiting, self.liveness.gathered()))
    }

    /// Takes a score; gives a verdict when one was made.
    pub(super) fn score(
        &mut self,
        score: f32,
        threshold: f32,
        media: Duration,
    ) -> Option<LivenessScore> {
        if self.liveness.is_open() {
            self.progress = media;
        }
        self.liveness.take(score, threshold, media)
    }

    /// Whether it may be said now whose face it is, or that it is nobody's.
    pub(super) fn cleared(&mut self, policy: Option<LivenessPolicy>, media: Duration) -> Clearance {
        let Some(policy) = policy else { return Clearance::Given(None) };
        if !policy.enforce {
            return Clearance::Given(self.liveness.so_far(policy.threshold));
        }
        let live = self.liveness.supports_a_name(media);
        self.waiting = live.is_none();
        if live.is_some() { Clearance::Given(live) } else { Clearance::Pending }
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.waiting
    }

    /// It is an attack. What was known of the face is dropped, and it is looked at no more. True if that
    /// was not told yet.
    pub(super) fn bar(&mut self, media: Duration) -> bool {
        self.named = None;
        self.consensus.clear();
        self.waiting = false;
        self.barred = Some(media);
        !std::mem::replace(&mut self.spoofed, true)
    }

    pub(super) fn barred_since(&self) -> Option<Duration> {
        self.barred
    }

    /// Similarity to the nearest of the enrolled, the threshold for that, and the looks it rests on; zeros
    /// if the face was not looked at.
    pub(super) fn nearest(
        &self,
        candidates: Known<'_>,
        thresholds: &LookThresholds,
    ) -> (f32, f32, usize) {
        let looks = self.consensus.looks().len();
        let (pooled, looks) = match &self.named {
            Some(named) => (Some(named.anchor.clone()), named.looks),
            None => (self.consensus.pooled(), looks),
        };
        let best = pooled.as_ref().and_then(|pooled| nearest(pooled, candidates));
        let Some(best) = best else { return (0.0, thresholds.between(looks, looks), looks) };
        let template = candidates[best.index].looks;
        (best.similarity, thresholds.between(looks, template) + best.reserve, looks)
    }

    fn liveness_is_open(&self) -> bool {
        self.liveness.gathered() > 0 || (self.waiting && self.liveness.is_open())
    }
}

impl Named {
    fn is_shown_by(
        &self,
        look: &Embedding,
        candidates: Known<'_>,
        thresholds: &LookThresholds,
    ) -> bool {
        let Some(best) = nearest(look, candidates) else { return false };
        if best.passes_as_anchor(thresholds.at(1)) {
            return false; // also one that was made since the name was given
        }
        let nearest = &candidates[best.index];
        let is_own = nearest.person.id == self.person;
        let is_either =
            !best.is_no_lookalike() && (is_own || nearest.lookalikes.contains(&self.person));
        if is_own && !is_either {
            return same_face(look, &self.anchor, thresholds) || best.passes(thresholds.at(1));
        }
        // It says nothing of who it is, unless it is clearly somebody else; but it is the face of before.
        (is_either || !best.passes(thresholds.at(1)))
            && look.similarity(&self.anchor) >= thresholds.at(1)
    }
}
