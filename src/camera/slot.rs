//! The one place between the capture thread and the pipeline.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::pixels::Encoding;

/// A frame as it came, not yet decoded: one that is never taken costs no decoding.
#[derive(Debug)]
pub struct Captured {
    pub bytes: Vec<u8>,
    pub encoding: Encoding,
    pub number: u64,
    pub time: jiff::Timestamp,
    pub media: Duration,
}

/// What became of the frames; every one is in exactly one of `frames`, `skipped_…`, `dropped_…`,
/// except the one that waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Decoded and given to the pipeline.
    pub frames: u64,
    /// Truncated, undecodable, empty, short, or marked as damaged by the driver.
    pub skipped_broken: u64,
    /// Over the limits of bytes or pixels.
    pub skipped_too_large: u64,
    /// Replaced by a newer one before the pipeline asked.
    pub dropped_stale: u64,
    /// So large that the ones before it were work enough for the time.
    pub dropped_heavy: u64,
    /// More than the wished rate.
    pub dropped_surplus: u64,
    /// Times a device stopped giving frames without an error.
    pub timeouts: u64,
    /// Times a device was opened again.
    pub reopened: u64,
}

impl Counters {
    /// Frames that could not be shown for what they are.
    pub fn skipped(&self) -> u64 {
        self.skipped_broken + self.skipped_too_large
    }

    /// Frames that there was no time for.
    fn dropped(&self) -> u64 {
        self.dropped_stale + self.dropped_heavy + self.dropped_surplus
    }
}

impl std::ops::Add for Counters {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        Self {
            frames: self.frames + more.frames,
            skipped_broken: self.skipped_broken + more.skipped_broken,
            skipped_too_large: self.skipped_too_large + more.skipped_too_large,
            dropped_stale: self.dropped_stale + more.dropped_stale,
            dropped_heavy: self.dropped_heavy + more.dropped_heavy,
            dropped_surplus: self.dropped_surplus + more.dropped_surplus,
            timeouts: self.timeouts + more.timeouts,
            reopened: self.reopened + more.reopened,
        }
    }
}

pub enum Taken {
    Captured(Captured),
    Nothing,
    Lost(String),
    End,
}

#[derive(Default)]
struct State {
    waiting: Option<Captured>,
    /// An outage that the pipeline has not heard of.
    lost: Option<String>,
    ended: bool,
    /// The pipeline has asked for a frame at least once.
    wanted: bool,
    /// The pipeline is gone.
    closed: bool,
    counters: Counters,
    /// Frames that the pipeline has taken and not counted yet: one or none.
    in_work: u32,
    /// Why the first frame was skipped that was.
    first_skipped: Option<String>,
    format: String,
    /// A used buffer, to be filled again.
    spare: Vec<u8>,
}

#[derive(Default)]
pub struct Slot {
    state: Mutex<State>,
    changed: Condvar,
}

/// The capture thread's side. Every `false` means that the pipeline is gone.
impl Slot {
    /// Leaves a frame; one that still waits is replaced.
    pub fn offer(&self, captured: Captured) -> bool {
        let mut state = self.lock();
        if let Some(stale) = state.waiting.replace(captured) {
            state.counters.dropped_stale += 1;
            state.spare = stale.bytes;
        }
        self.changed.notify_all();
        !state.closed
    }

    /// Leaves a frame once the one before has been taken.
    pub fn hand_over(&self, captured: Captured) -> bool {
        let mut state = self.lock();
        while state.waiting.is_some() && !state.closed {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting = Some(captured);
        self.changed.notify_all();
        !state.closed
    }

    /// Tells of an outage; what was still waiting is older news.
    pub fn lose(&self, reason: String) {
        let mut state = self.lock();
        if state.waiting.take().is_some() {
            state.counters.dropped_stale += 1;
        }
        state.lost = Some(reason);
        self.changed.notify_all();
    }

    /// No frame will follow.
    pub fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }

    /// Waits until the pipeline asks for its first frame.
    pub fn wait_until_wanted(&self) -> bool {
        let mut state = self.lock();
        while !state.wanted && !state.closed {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        !state.closed
    }

    /// Sleeps, but not beyond the pipeline's end.
    pub fn sleep_until(&self, deadline: Instant) -> bool {
        let mut state = self.lock();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if state.closed || left.is_zero() {
                return !state.closed;
            }
            (state, _) =
                self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub fn is_open(&self) -> bool {
        !self.lock().closed
    }

    pub fn spare(&self) -> Vec<u8> {
        std::mem::take(&mut self.lock().spare)
    }

    pub fn set_format(&self, format: String) {
        self.lock().format = format;
    }

    pub fn count(&self, change: impl FnOnce(&mut Counters)) {
        change(&mut self.lock().counters);
    }

    /// Remembers the first of the reasons for which frames were skipped.
    pub fn note_skipped(&self, reason: impl FnOnce() -> String) {
        self.lock().first_skipped.get_or_insert_with(reason);
    }

    /// Whether frames came and not one of them could be shown.
    pub fn is_unreadable(&self) -> bool {
        let state = self.lock();
        let idle = state.waiting.is_none() && state.in_work == 0;
        idle && state.counters.skipped() > 0 && state.counters.frames == 0
    }
}

/// The pipeline's side.
impl Slot {
    /// What comes first: an outage not yet told, a frame, the end, or the deadline.
    pub fn take(&self, deadline: Instant) -> Taken {
        let mut state = self.lock();
        state.wanted = true;
        self.changed.notify_all();
        loop {
            if let Some(reason) = state.lost.take() {
                return Taken::Lost(reason);
            }
            if let Some(captured) = state.waiting.take() {
                state.in_work += 1;
                self.changed.notify_all();
                return Taken::Captured(captured);
            }
            if state.ended {
                return Taken::End;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Taken::Nothing;
            }
            (state, _) =
                self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// After the frame that it was of has been counted.
    pub fn give_back(&self, spare: Vec<u8>) {
        let mut state = self.lock();
        state.spare = spare;
        state.in_work = state.in_work.saturating_sub(1);
    }

    pub fn counters(&self) -> Counters {
        self.lock().counters
    }

    pub fn format(&self) -> String {
        self.lock().format.clone()
    }

    pub fn first_skipped(&self) -> Option<String> {
        self.lock().first_skipped.clone()
    }

    /// Whether nothing that came, if anything came, could be shown.
    pub fn showed_nothing(&self) -> bool {
        let counters = self.lock().counters;
        counters.frames == 0 && (counters.skipped() > 0 || counters.dropped() == 0)
    }

    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// A thread that panicked with the lock left whole values behind, so the state stays usable.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
