//! When a frame is worth a detection.
//!
//! | in view | motion | still |
//! |---|---|---|
//! | a face that needs looks, or one that was just missed | every 90 ms | every 90 ms |
//! | faces that are named, or known to be nobody's | every 300 ms | every 2 s |
//! | no face | every 90 ms, after 3 s without finding one every 300 ms | every 10 s (after a failure 300 ms) |
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

#[derive(Debug)]
pub(super) struct Attention {
    departed_after: Duration,
    last: Option<Duration>,
    /// When motion began that no face explains.
    unexplained: Option<Duration>,
    /// The last detection failed: whatever moved in its frame has not been looked at.
    failed: bool,
}

impl Attention {
    pub(super) fn new(departed_after: Duration) -> Self {
        Self { departed_after, last: None, unexplained: None, failed: false }
    }

    pub(super) fn due(
        &mut self,
        moving: bool,
        subjects: &BTreeMap<TrackId, Subject>,
        tracker: &Tracker,
        media: Duration,
    ) -> bool {
        if !moving {
            self.unexplained = None;
        }
        let Some(last) = self.last else { return true };
        let eager = tracker.tracks().iter().any(|track| {
            track.missed > 0 || subjects.get(&track.id).is_none_or(|s| s.is_eager(media))
        });
        let bound = self.departed_after / 4;
        let interval = match (tracker.tracks().is_empty(), moving) {
            (false, _) if eager => EAGER,
            (false, true) => RELAXED.min(bound),
            (false, false) => STILL.min(bound),
            (true, true) => {
                let since = *self.unexplained.get_or_insert(media);
                if media.saturating_sub(since) < PATIENCE { EAGER } else { RELAXED }
            }
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

    pub(super) fn found(&mut self, face: bool, media: Duration) {
        self.failed = false;
        self.unexplained = if face { None } else { self.unexplained.or(Some(media)) };
    }
}
