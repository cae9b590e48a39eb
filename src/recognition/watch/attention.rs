//! When a frame is worth a detection.
//!
//! | in view | motion | still |
//! |---|---|---|
//! | a face that needs looks, or one that was just missed | every 90 ms | every 90 ms |
//! | faces that are named, or known to be nobody's | every 300 ms | every 2 s |
//! | no face | every 90 ms, after 3 s without finding one every 300 ms | every 10 s (after a failure 300 ms) |
//!
//! Ten seconds of stillness give one of those three seconds back, so that what flickers on and off wins nothing by it.
//!
//! 90 ms: each frame of a camera at 10 frames a second, every second one at 15. The longer ones
//! shrink to a quarter of `departed_after`, so that nobody departs for want of looking.

use std::collections::BTreeMap;
use std::time::Duration;

use super::subject::Subject;
use crate::face::track::{TrackId, Tracker};

const EAGER: Duration = Duration::from_millis(90);
const RELAXED: Duration = Duration::from_millis(300);
const STILL: Duration = Duration::from_secs(2);
const EMPTY: Duration = Duration::from_secs(10);
/// Motion without a face for this long is a tree or a television.
const PATIENCE: Duration = Duration::from_secs(3);
/// How much longer than it was spent it takes to win patience back.
const RECOVERY: u32 = 10;

#[derive(Debug)]
pub(super) struct Attention {
    departed_after: Duration,
    last: Option<Duration>,
    /// The frame before.
    seen: Duration,
    /// For how long there was motion that no face explains, at most [`PATIENCE`].
    unexplained: Duration,
    /// The last detection failed: whatever moved in its frame has not been looked at.
    failed: bool,
}

impl Attention {
    pub(super) fn new(departed_after: Duration) -> Self {
        Self {
            departed_after,
            last: None,
            seen: Duration::ZERO,
            unexplained: Duration::ZERO,
            failed: false,
        }
    }

    pub(super) fn due(
        &mut self,
        moving: bool,
        subjects: &BTreeMap<TrackId, Subject>,
        tracker: &Tracker,
        media: Duration,
    ) -> bool {
        let elapsed = media.saturating_sub(std::mem::replace(&mut self.seen, media));
        if !moving {
            self.unexplained = self.unexplained.saturating_sub(elapsed / RECOVERY);
        } else if tracker.tracks().is_empty() {
            self.unexplained = (self.unexplained + elapsed).min(PATIENCE);
        }
        let Some(last) = self.last else { return true };
        let eager = tracker.tracks().iter().any(|track| match (track.hits, track.missed) {
            (_, 0) => subjects.get(&track.id).is_none_or(|subject| subject.is_eager(media)),
            (1, _) => false, // once found and not again: the detector was mistaken
            _ => true,
        });
        let bound = self.departed_after / 4;
        let interval = match (tracker.tracks().is_empty(), moving) {
            (false, _) if eager => EAGER,
            (false, true) => RELAXED.min(bound),
            (false, false) => STILL.min(bound),
            (true, true) if self.unexplained < PATIENCE => EAGER,
            (true, true) => RELAXED,
            (true, false) if self.failed => RELAXED,
            (true, false) => EMPTY,
        };
        media.saturating_sub(last) >= interval.max(EAGER)
    }

    /// A detection is being made; until [`Self::found`] it counts as failed.
    pub(super) fn looked(&mut self, media: Duration) {
        self.last = Some(media);
        self.failed = true;
    }

    pub(super) fn found(&mut self, face: bool) {
        self.failed = false;
        if face {
            self.unexplained = Duration::ZERO;
        }
    }
}
