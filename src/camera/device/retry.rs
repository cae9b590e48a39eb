//! How long to wait before the next attempt, and which frames are too many.

use std::time::Duration;

/// Doubling waits with jitter, so that a fleet after a power cut does not move in step.
#[derive(Debug, Clone)]
pub struct Backoff {
    pub first: Duration,
    pub most: Duration,
    failures: u32,
}

impl Backoff {
    pub fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, failures: 0 }
    }

    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// The wait before the next attempt: between half and all of `first` · 2ⁿ, at most `most`.
    pub fn next(&mut self) -> Duration {
        let whole = self.first.saturating_mul(2u32.saturating_pow(self.failures)).min(self.most);
        self.failures = self.failures.saturating_add(1).min(31);
        whole.mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}

/// Lets so many frames pass a second and no more, evenly.
#[derive(Debug, Clone)]
pub struct Pacer {
    period: Duration,
    due: Duration,
}

impl Pacer {
    pub fn new(fps: f64) -> Self {
        Self { period: Duration::from_secs_f64(1.0 / fps), due: Duration::ZERO }
    }

    /// Whether a frame at this time (never going back) passes.
    pub fn admit(&mut self, at: Duration) -> bool {
        // A frame a little early is on time: cameras jitter.
        if at + self.period / 4 < self.due {
            return false;
        }
        let late = at.saturating_sub(self.due) > self.period;
        self.due = if late { at + self.period } else { self.due + self.period };
        true
    }
}
