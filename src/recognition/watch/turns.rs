//! Who is served when several faces want a look (or a liveness score) and a frame has one to give.
//!
//! Three times of four it is the neediest, the largest first among equals. Who is nearest to a name comes first, for a
//! name is worth more than two beginnings; who has one already comes last. Each fourth time it is whoever has waited longest, so that no stream of new or large faces
//! keeps anybody waiting for ever: of `n` faces in view each is served within `4 n` turns.

use std::cmp::Reverse;
use std::time::Duration;

use crate::face::track::TrackId;

/// One turn in so many goes by the time that was waited.
const FAIR: u32 = 4;

/// Counts turns that were given.
#[derive(Debug, Default)]
pub(super) struct Turns(u32);

/// A face that wants one.
#[derive(Debug)]
pub(super) struct Wanting<N> {
    pub id: TrackId,
    /// More is more.
    pub need: N,
    /// When it was last served, or first seen, media time.
    pub since: Duration,
}

impl Turns {
    /// The order in which they are to be tried. They come largest face first.
    pub(super) fn order<N: Ord + Copy>(&self, wanting: &mut [Wanting<N>]) {
        if self.0 % FAIR == FAIR - 1 {
            wanting.sort_by_key(|wanting| wanting.since);
        } else {
            wanting.sort_by_key(|wanting| Reverse(wanting.need)); // stable: the largest face first
        }
    }

    pub(super) fn given(&mut self) {
        self.0 = self.0.wrapping_add(1);
    }
}
