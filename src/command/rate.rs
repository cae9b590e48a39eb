//! How often commands are taken and refusals answered.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::system::bucket::TokenBucket;

/// Commands a minute (contract §4).
const COMMANDS: usize = 10;
const MINUTE: Duration = Duration::from_mins(1);

/// Refusals a minute that are answered, of each of two kinds; the others are only counted.
const ANSWERS: u32 = 50;

/// At most ten in any minute. A token bucket would let up to twice as many through in its first.
#[derive(Debug, Clone, Default)]
pub struct Window(VecDeque<Instant>);

impl Window {
    /// Takes one of the ten; `false` if all were taken within the last minute. A `now` before an earlier
    /// one frees nothing.
    pub fn take(&mut self, now: Instant) -> bool {
        while self.0.front().is_some_and(|taken| now.saturating_duration_since(*taken) >= MINUTE) {
            self.0.pop_front();
        }
        let free = self.0.len() < COMMANDS;
        if free {
            self.0.push_back(now);
        }
        free
    }
}

/// Bounds the answers to refusals, so that a flood is not answered by a flood. Whoever may publish can
/// cause refusals; those that only an operator's signature causes have a share of their own.
#[derive(Debug, Clone)]
pub struct Answers {
    signed: TokenBucket,
    others: TokenBucket,
}

impl Answers {
    pub fn new() -> Self {
        let bucket = TokenBucket::new(ANSWERS, ANSWERS);
        Self { signed: bucket.clone(), others: bucket }
    }

    pub fn take(&mut self, signed: bool, now: Instant) -> bool {
        if signed { self.signed.take(now) } else { self.others.take(now) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_more_than_ten_in_any_minute() {
        let mut window = Window::default();
        let start = Instant::now();
        let mut taken: Vec<u64> = Vec::new();
        // One each second for ten minutes, and a burst at the beginning.
        for second in (0..20).map(|_| 0).chain(0..600) {
            if window.take(start + Duration::from_secs(second)) {
                taken.push(second);
            }
        }
        for (n, first) in taken.iter().enumerate() {
            let within = taken[n..].iter().take_while(|second| *second - first < 60).count();
            assert!(within <= 10, "{within} from second {first} on");
        }
        assert_eq!(taken.len(), 100);
    }
}
