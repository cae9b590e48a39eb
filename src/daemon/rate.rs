//! Figures of the last minute: a rate or a quantile that is older says nothing of now.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What a figure is of, at most.
pub const SPAN: Duration = Duration::from_mins(1);
/// What a rate is of, at least. Frames that waited while the daemon started come all at once: over a shorter time they
/// would be a rate of their own.
const LEAST: Duration = Duration::from_secs(10);
/// Between two marks.
const STEP: Duration = Duration::from_secs(1);

/// How many a second of something that is counted, over the last minute.
#[derive(Debug, Default)]
pub struct Rate {
    /// The count at moments of the last minute, oldest first, a second apart; one older than that.
    marks: VecDeque<(Instant, u64)>,
}

impl Rate {
    /// The count is `total` now.
    pub fn note(&mut self, now: Instant, total: u64) {
        if self.marks.back().is_none_or(|(at, _)| now.saturating_duration_since(*at) >= STEP) {
            self.marks.push_back((now, total));
        }
        // The second one is old enough to begin the minute by.
        while self.marks.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) >= SPAN) {
            self.marks.pop_front();
        }
    }

    /// Nothing is counted for a while: what comes then is another rate.
    pub fn interrupt(&mut self) {
        self.marks.clear();
    }

    /// Each second, over the last minute or the part of it that was counted; `None` until that is ten seconds.
    pub fn per_second(&self, now: Instant, total: u64) -> Option<f64> {
        let (began, before) = self.marks.front()?;
        let span = now.saturating_duration_since(*began);
        (span >= LEAST).then(|| total.saturating_sub(*before) as f64 / span.as_secs_f64())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A camera of ten frames a second, of which `burst` waited at the start.
    fn watch(rate: &mut Rate, start: Instant, burst: u64, seconds: u64) -> (Instant, u64) {
        let mut now = start;
        for frame in 0..seconds * 10 {
            now = start + Duration::from_millis(frame * 100);
            rate.note(now, burst + frame);
        }
        (now, burst + seconds * 10 - 1)
    }

    /// Holds STA-07.
    #[test]
    fn frames_that_waited_at_the_start_are_no_rate() {
        let (mut rate, start) = (Rate::default(), Instant::now());
        assert_eq!(rate.per_second(start, 0), None);
        rate.note(start, 3);
        // The first report: 0.1 seconds, three frames.
        assert_eq!(rate.per_second(start + Duration::from_millis(102), 3), None);
        let (now, total) = watch(&mut rate, start, 3, 11);
        let told = rate.per_second(now, total).unwrap();
        assert!((9.9..10.1).contains(&told), "{told}");
    }

    #[test]
    fn rate_of_the_last_minute_forgets_what_was_before() {
        let (mut rate, start) = (Rate::default(), Instant::now());
        let (now, total) = watch(&mut rate, start, 0, 600);
        assert!(rate.marks.len() <= 62, "{}", rate.marks.len());
        // The camera stands still from here on, and a minute later that is the rate.
        let later = now + SPAN + Duration::from_secs(2);
        for second in 1..=62 {
            rate.note(now + Duration::from_secs(second), total);
        }
        assert!(rate.per_second(later, total).unwrap() < 0.2);
        rate.interrupt();
        assert_eq!(rate.per_second(later, total), None);
    }
}
