//! What time it is for an expiry date, on a device whose clock may be wrong.
//!
//! A clock that is not synchronised may say 1970, or any year. Then what is known is that it is not
//! earlier than the last known good time: that of the last refresh which succeeded while the clock was
//! synchronised. Metadata that had expired by then is refused whatever the clock says, also after it was
//! set back by force. What expired between then and the true date cannot be told: hence nothing is
//! installed by itself before the clock is synchronised ([`Now::is_certain`]).
//!
//! The last known good time cannot lock a device out: it only rises at a refresh in which all metadata was
//! still valid at that time, so it never lies beyond the expiry of what the publisher really signed. A
//! publisher who goes on signing is always believed.

use jiff::Timestamp;

use crate::system::clock::{ClockState, Date};

/// The time that expiry is judged by, fixed for one refresh (TUF specification 5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    pub time: Timestamp,
    certain: bool,
}

impl Now {
    /// From the clock and the last known good time.
    pub fn new(date: Date, last_good: Option<Timestamp>) -> Self {
        let time = last_good.map_or(date.time, |last| date.time.max(last));
        Self { time, certain: date.state == ClockState::Synchronized }
    }

    /// Some other time, of which nothing is known.
    pub fn at(time: Timestamp) -> Self {
        Self { time, certain: false }
    }

    /// Whether a frozen repository would be noticed.
    pub fn is_certain(self) -> bool {
        self.certain
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn clock_of_1970_takes_the_last_known_good_time() {
        let last: Timestamp = "2026-11-01T00:00:00Z".parse().unwrap();
        let epoch = Date { time: Timestamp::UNIX_EPOCH, state: ClockState::Unsynchronized };
        assert_eq!(Now::new(epoch, Some(last)).time, last);
        assert!(!Now::new(epoch, Some(last)).is_certain());
        // Set back by whoever answers for the time servers: what had expired stays expired.
        let back = Date { state: ClockState::Synchronized, ..epoch };
        assert_eq!(Now::new(back, Some(last)).time, last);
        assert_eq!(Now::new(epoch, None).time, Timestamp::UNIX_EPOCH);
    }
}
