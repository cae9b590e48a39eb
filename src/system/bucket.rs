//! How often something may happen: a token bucket on monotonic time.

use std::time::{Duration, Instant};

/// Holds up to `burst` tokens and gains `per_minute` a minute; each that is taken lets one thing pass.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    per_minute: u32,
    burst: u32,
    tokens: f64,
    filled: Option<Instant>,
}

impl TokenBucket {
    /// A full bucket.
    pub fn new(per_minute: u32, burst: u32) -> Self {
        Self { per_minute, burst, tokens: f64::from(burst), filled: None }
    }

    /// Takes a token; `false` if there is none. A `now` before an earlier one gains nothing.
    pub fn take(&mut self, now: Instant) -> bool {
        let gained = self
            .filled
            .map_or(Duration::ZERO, |filled| now.saturating_duration_since(filled))
            .as_secs_f64()
            * f64::from(self.per_minute)
            / 60.0;
        self.tokens = (self.tokens + gained).min(f64::from(self.burst));
        self.filled = Some(self.filled.map_or(now, |filled| filled.max(now)));
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            true
        } else {
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_then_the_rate() {
        let mut bucket = TokenBucket::new(10, 10);
        let start = Instant::now();
        let taken =
            |bucket: &mut TokenBucket, at: Instant| (0..100).filter(|_| bucket.take(at)).count();
        assert_eq!(taken(&mut bucket, start), 10);
        assert_eq!(taken(&mut bucket, start + Duration::from_secs(5)), 0);
        assert_eq!(taken(&mut bucket, start + Duration::from_secs(13)), 2);
        // Time that goes back gains nothing, neither then nor when it comes again.
        assert_eq!(taken(&mut bucket, start), 0);
        assert_eq!(taken(&mut bucket, start + Duration::from_secs(13)), 0);
        assert_eq!(taken(&mut bucket, start + Duration::from_hours(1)), 10);
    }
}
