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

#[cfg(test)]
mod tests {
    use super::*;

    /// Holds CAM-18.
    #[test]
    fn waits_double_up_to_the_most_and_begin_again() {
        let (first, most) = (Duration::from_millis(500), Duration::from_secs(30));
        let mut backoff = Backoff::new(first, most);
        for _ in 0..2 {
            for failure in 0..100_u32 {
                let whole = first.saturating_mul(1 << failure.min(10)).min(most);
                let wait = backoff.next();
                assert!((whole / 2..=whole).contains(&wait), "{failure}: {wait:?}");
            }
            backoff.reset();
        }
    }

    #[test]
    fn waits_are_spread() {
        let hour = Duration::from_hours(1);
        let waits: std::collections::HashSet<_> =
            (0..20).map(|_| Backoff::new(hour, hour).next()).collect();
        assert!(waits.len() > 10);
    }

    fn passed(wished: f64, given: f64, jitter: f64) -> usize {
        let mut pacer = Pacer::new(wished);
        let mut random = fastrand::Rng::with_seed(1);
        let frames = (0..(given * 60.0) as u32)
            .map(|n| (f64::from(n) + jitter * random.f64()) / given)
            .filter(|&at| pacer.admit(Duration::from_secs_f64(at)));
        frames.count()
    }

    #[test]
    fn pacer_gives_the_wished_rate_of_a_faster_camera() {
        for (wished, given) in [(15.0, 30.0), (10.0, 30.0), (15.0, 60.0), (20.0, 30.0), (7.0, 30.0)]
        {
            let wanted = (wished * 60.0) as usize;
            for jitter in [0.0, 0.2] {
                let passed = passed(wished, given, jitter);
                assert!(passed.abs_diff(wanted) <= wanted / 20, "{wished} of {given}: {passed}");
            }
        }
    }

    #[test]
    fn pacer_leaves_a_camera_of_the_wished_rate_alone() {
        for given in [15.0, 14.0, 5.0] {
            assert_eq!(passed(15.0, given, 0.2), (given * 60.0) as usize, "{given}");
        }
    }
}
