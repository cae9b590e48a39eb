//! When somebody's time is over: at a date; or, for whoever was enrolled while the clock could not be believed, after a
//! span.
//!
//! A span counts while the machine runs, by a clock that nobody sets (`CLOCK_BOOTTIME`). Once the date is synchronised,
//! what is left of it becomes a date. So nobody is lost to a clock of 1970, and nobody stays for ever where the date is
//! never known: there a span lasts longer than it says by the time that the machine is switched off, and no more.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::system::clock::{ClockState, Date, Uptime};

/// How often what is left of a span is written down while the machine runs. So much of it is lost at a power cut.
const NOTED: u64 = 3600;

/// The end of somebody's time. In a record a date is text, as before; a span is an object, at which a version that
/// knows none refuses the record rather than keeping the person for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Expiry {
    At(Timestamp),
    After(Term),
}

/// What was left of a span, and when that was noted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Term {
    /// Seconds.
    left: u64,
    /// Which start of the machine, and seconds since then.
    boot: String,
    up: u64,
}

impl From<Timestamp> for Expiry {
    fn from(end: Timestamp) -> Self {
        Self::At(end)
    }
}

impl Expiry {
    /// So long from now on; `None` if that is beyond all dates.
    pub fn after(span: Duration, date: &Date, uptime: &Uptime) -> Option<Self> {
        let end = date.time.checked_add(SignedDuration::try_from(span).ok()?).ok()?;
        Some(match date.state {
            ClockState::Synchronized => Self::At(end),
            ClockState::Unsynchronized => Self::After(Term {
                left: span.as_secs(),
                boot: uptime.boot.clone(),
                up: uptime.seconds,
            }),
        })
    }

    /// The date, if there is one already.
    pub fn date(&self) -> Option<Timestamp> {
        match self {
            Self::At(end) => Some(*end),
            Self::After(_) => None,
        }
    }

    /// Whether it is over by this time, right or wrong: then the person is not recognised.
    pub fn is_over(&self, time: Timestamp, uptime: &Uptime) -> bool {
        match self {
            Self::At(end) => *end <= time,
            Self::After(term) => term.left(uptime) == 0,
        }
    }

    /// Whether it is over beyond doubt, so that the person may be erased.
    pub fn is_certainly_over(&self, date: &Date, uptime: &Uptime) -> bool {
        match self {
            Self::At(end) => date.state == ClockState::Synchronized && *end <= date.time,
            Self::After(term) => term.left(uptime) == 0,
        }
    }

    /// What is to be kept in its place: the date that has become known, or what is left by now.
    pub fn renewed(&self, date: &Date, uptime: &Uptime) -> Option<Self> {
        let Self::After(term) = self else { return None };
        let left = term.left(uptime);
        if date.state == ClockState::Synchronized {
            return Self::after(Duration::from_secs(left), date, uptime)
                .or(Some(Self::At(Timestamp::MAX)));
        }
        let elapsed = term.left - left;
        // A start of the machine is noted soon: from then on its seconds count one by one.
        let due = elapsed >= NOTED || (elapsed > 0 && term.boot != uptime.boot) || left == 0;
        (due && elapsed > 0)
            .then(|| Self::After(Term { left, boot: uptime.boot.clone(), up: uptime.seconds }))
    }

    /// For another machine, on which nothing of it has passed.
    pub(super) fn carried_over(&self, date: &Date, uptime: &Uptime) -> Self {
        match self {
            Self::At(end) => Self::At(*end),
            Self::After(term) => Self::after(Duration::from_secs(term.left), date, uptime)
                .unwrap_or(Self::At(Timestamp::MAX)),
        }
    }

    /// For a backup: with what is left now.
    pub(super) fn noted(&self, uptime: &Uptime) -> Self {
        match self {
            Self::At(end) => Self::At(*end),
            Self::After(term) => Self::After(Term {
                left: term.left(uptime),
                boot: uptime.boot.clone(),
                up: uptime.seconds,
            }),
        }
    }
}

impl Term {
    /// Seconds that are left.
    pub fn left(&self, uptime: &Uptime) -> u64 {
        // Of a start before this one only what was noted is known.
        let same = self.boot == uptime.boot && uptime.seconds >= self.up;
        let passed = if same { uptime.seconds - self.up } else { uptime.seconds };
        self.left.saturating_sub(passed)
    }
}

impl std::fmt::Display for Expiry {
    /// `2026-11-28T12:00:00Z`, or `90 days from when the clock is set`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::At(end) => write!(f, "{end:.0}"),
            Self::After(term) => {
                let left = term.left(&Uptime::now());
                let (number, unit) = match left {
                    172_800.. => (left.div_ceil(86_400), "days"),
                    7_200.. => (left.div_ceil(3_600), "hours"),
                    _ => (left.div_ceil(60), "minutes"),
                };
                write!(f, "{number} {unit} from when the clock is set")
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    fn uptime(boot: &str, seconds: u64) -> Uptime {
        Uptime { boot: boot.to_owned(), seconds }
    }

    fn date(time: &str, state: ClockState) -> Date {
        Date { time: time.parse().unwrap(), state }
    }

    fn wrong(seconds: u64) -> Date {
        let time = Timestamp::from_second(seconds as i64).unwrap();
        Date { time, state: ClockState::Unsynchronized }
    }

    #[test]
    fn span_of_1970_becomes_a_date_when_the_clock_is_right() {
        let ninety = Duration::from_secs(90 * DAY);
        let span = Expiry::after(ninety, &wrong(100), &uptime("a", 100)).unwrap();
        assert_eq!(span.date(), None);
        // Ten minutes later the time server answers.
        let right = date("2026-11-28T12:10:00Z", ClockState::Synchronized);
        assert!(!span.is_over(right.time, &uptime("a", 700)));
        let renewed = span.renewed(&right, &uptime("a", 700)).unwrap();
        assert_eq!(renewed.date(), Some("2027-02-26T12:00:00Z".parse().unwrap()));
        assert_eq!(renewed.renewed(&right, &uptime("a", 800)), None);
    }

    /// Holds ROB-01.
    #[test]
    fn span_counts_the_time_that_a_machine_without_a_date_runs() {
        let mut span =
            Expiry::after(Duration::from_secs(3 * DAY), &wrong(100), &uptime("a", 100)).unwrap();
        // Switched off every night, and never on the net.
        for (day, boot) in ["a", "b", "c", "d", "e", "f"].iter().enumerate() {
            for hour in 1..=12_u64 {
                let now = uptime(boot, 100 + hour * 3600);
                let over = day as u64 * 12 + hour >= 72;
                assert_eq!(span.is_certainly_over(&wrong(0), &now), over, "day {day}, hour {hour}");
                span = span.renewed(&wrong(0), &now).unwrap_or(span);
            }
        }
        assert!(span.is_over(Timestamp::UNIX_EPOCH, &uptime("g", 0)));
    }

    #[test]
    fn jumps_of_a_wrong_clock_end_no_span() {
        let span = Expiry::after(Duration::from_secs(DAY), &wrong(0), &uptime("a", 10)).unwrap();
        for time in [Timestamp::MIN, Timestamp::UNIX_EPOCH, Timestamp::MAX] {
            assert!(!span.is_over(time, &uptime("a", 20)));
            let jumped = Date { time, state: ClockState::Unsynchronized };
            assert!(!span.is_certainly_over(&jumped, &uptime("a", 20)));
        }
    }

    #[test]
    fn record_of_a_date_is_as_it_was() {
        let end: Timestamp = "2026-11-28T12:00:00Z".parse().unwrap();
        let text = serde_json::to_string(&Expiry::At(end)).unwrap();
        assert_eq!(text, serde_json::to_string(&end).unwrap());
        assert_eq!(serde_json::from_str::<Expiry>(&text).unwrap(), Expiry::At(end));
        let span = Expiry::after(Duration::from_secs(DAY), &wrong(0), &uptime("a", 10)).unwrap();
        let text = serde_json::to_string(&span).unwrap();
        assert_eq!(serde_json::from_str::<Expiry>(&text).unwrap(), span);
        // A version that knows only dates does not take it for none.
        assert!(serde_json::from_str::<Option<Timestamp>>(&text).is_err());
    }
}
