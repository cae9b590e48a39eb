//! A bundle that was installed proves itself, or is gone back from.

use std::time::{Duration, Instant};

use crate::recognition::watch::Counters;

/// Failures of its networks and panics on trial, together, that are too many.
const TROUBLES: u64 = 3;
/// A pause between two frames counts as watching up to here.
const STEP: Duration = Duration::from_secs(1);

/// What has come of it so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Wait,
    Confirm,
    GiveUp(String),
}

/// Time in which frames came. While the camera is away or the device is paused, none passes.
#[derive(Debug, Default)]
pub struct Watched {
    time: Duration,
    frame: Option<Instant>,
}

impl Watched {
    /// There was a frame.
    pub fn frame(&mut self, now: Instant) {
        if let Some(last) = self.frame.replace(now) {
            self.time += now.saturating_duration_since(last).min(STEP);
        }
    }

    pub fn time(&self) -> Duration {
        self.time
    }
}

/// The time that a bundle on trial has watched without trouble.
#[derive(Debug)]
pub struct Trial {
    needed: Duration,
    watched: Watched,
    /// Failures and panics before it began.
    before: u64,
}

impl Trial {
    pub fn new(needed: Duration, counters: &Counters) -> Self {
        Self { needed, watched: Watched::default(), before: troubles(counters) }
    }

    /// After a look at the camera; `frame` if there was one. Blind or paused, nothing is proved.
    pub fn look(&mut self, now: Instant, frame: bool, counters: &Counters) -> Verdict {
        let troubles = troubles(counters).saturating_sub(self.before);
        if troubles >= TROUBLES {
            return Verdict::GiveUp(format!(
                "{troubles} failures on trial, after {} s of watching",
                self.watched.time().as_secs()
            ));
        }
        if frame {
            self.watched.frame(now);
            if self.watched.time() >= self.needed {
                return Verdict::Confirm;
            }
        }
        Verdict::Wait
    }
}

fn troubles(counters: &Counters) -> u64 {
    counters.failures + counters.panics
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Duration = Duration::from_millis(100);

    fn counters(failures: u64, panics: u64) -> Counters {
        Counters { failures, panics, ..Counters::default() }
    }

    /// Holds UPD-01.
    #[test]
    fn watching_without_trouble_confirms_after_the_configured_time() {
        let start = Instant::now();
        let mut trial = Trial::new(Duration::from_secs(10), &counters(7, 1));
        for frame in 0..100 {
            let verdict = trial.look(start + FRAME * frame, true, &counters(8, 2));
            assert_eq!(verdict, Verdict::Wait, "{frame}");
        }
        assert_eq!(trial.look(start + FRAME * 100, true, &counters(8, 2)), Verdict::Confirm);
    }

    /// Holds UPD-01.
    #[test]
    fn blind_device_proves_nothing() {
        let start = Instant::now();
        let mut trial = Trial::new(Duration::from_secs(10), &counters(0, 0));
        assert_eq!(trial.look(start, true, &counters(0, 0)), Verdict::Wait);
        let hour = start + Duration::from_hours(1);
        assert_eq!(trial.look(hour, false, &counters(0, 0)), Verdict::Wait);
        // One frame after an hour is no hour of watching.
        assert_eq!(trial.look(hour, true, &counters(0, 0)), Verdict::Wait);
    }

    /// Holds UPD-05.
    #[test]
    fn failing_networks_are_given_up() {
        let start = Instant::now();
        let mut trial = Trial::new(FRAME, &counters(5, 0));
        assert_eq!(trial.look(start, true, &counters(6, 1)), Verdict::Wait);
        assert!(matches!(trial.look(start, false, &counters(7, 1)), Verdict::GiveUp(_)));
    }
}
