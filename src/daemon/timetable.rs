//! When a device asks its update repository: every interval, at a moment of its own, across restarts and whatever
//! the clock does.
//!
//! While the program runs, the kernel's monotonic time counts, which nobody sets. Across a restart there is only the
//! date: that of the last look is kept, and where it says nothing (there was none, the clock was set back, or the
//! interval is long over) the device asks soon, but not at once: ten thousand of them may have come back together.

use std::time::Duration;

use jiff::Timestamp;

use super::updater::FOLDER;
use crate::system::bounded;
use crate::system::disk;
use crate::system::state::StateDirectory;

/// File in the update's folder: when the repository was last asked.
const NAME: &str = "asked";
/// Largest such file, in bytes.
const LIMIT: u64 = 64;
/// Parts of the interval within which a device asks that is overdue: 5 minutes to an hour where the interval is six
/// hours. At random, and anew at each start, so that one that is never up for an hour has its turn all the same.
const SOONEST: u32 = 72;
const LATEST: u32 = 6;

/// After a look: a tenth earlier or later, so that what fell together falls apart again.
pub fn after_a_look(interval: Duration, random: f64) -> Duration {
    interval.mul_f64(0.9 + 0.2 * random)
}

/// Overdue, or not possible just now.
pub fn soon(interval: Duration, random: f64) -> Duration {
    let (soonest, latest) = (interval / SOONEST, interval / LATEST);
    soonest + latest.saturating_sub(soonest).mul_f64(random)
}

/// From a start on; `random` is 0 to 1.
pub fn at_start(
    last: Option<Timestamp>,
    now: Timestamp,
    interval: Duration,
    random: f64,
) -> Duration {
    let gone = last.and_then(|last| Duration::try_from(now.duration_since(last)).ok());
    let left = gone.and_then(|gone| after_a_look(interval, random).checked_sub(gone));
    match left {
        Some(left) => left.max(interval / SOONEST),
        None => soon(interval, random),
    }
}

/// When the repository was last asked, as far as that is known.
pub fn last_asked(state: &StateDirectory) -> Option<Timestamp> {
    bounded::read_text(&state.file(FOLDER).join(NAME), LIMIT).ok()?.trim().parse().ok()
}

/// Notes that it is asked now. Without the note the next start asks sooner; that is all.
pub fn note_asked(state: &StateDirectory) {
    let note = || {
        let folder = StateDirectory::at(state.file(FOLDER)).map_err(std::io::Error::other)?;
        folder.replace(NAME, Timestamp::now().to_string().as_bytes())
    };
    if let Err(error) = note() {
        let path = state.file(FOLDER).join(NAME);
        log::warn!("{}: {}", path.display(), disk::told(&path, &error));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_hours(6);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn tenths(span: Duration, waits: impl Iterator<Item = Duration>) -> [u32; 10] {
        let mut tenths = [0; 10];
        for wait in waits {
            tenths[(wait.as_secs_f64() / span.as_secs_f64() * 10.0) as usize] += 1;
        }
        tenths
    }

    /// Holds UPD-19.
    #[test]
    fn restart_does_not_begin_the_interval_anew() {
        // Rebooted every day, asked five hours ago: an hour is left, give or take the tenth.
        let wait = at_start(Some(at(0)), at(5 * 3600), INTERVAL, 0.5);
        assert_eq!(wait, Duration::from_hours(1));
        // Rebooted every ten minutes: each start is nearer.
        let waits: Vec<_> =
            (0..36).map(|start| at_start(Some(at(0)), at(start * 600), INTERVAL, 0.5)).collect();
        assert!(waits.windows(2).all(|pair| pair[1] < pair[0] || pair[0] == INTERVAL / SOONEST));
        assert_eq!(at_start(Some(at(0)), at(0), INTERVAL, 0.5), INTERVAL);
    }

    /// Holds UPD-19.
    #[test]
    fn clock_that_jumps_does_not_stop_polling() {
        let year = 365 * 24 * 3600;
        for (last, now) in [(at(year), at(0)), (at(0), at(year)), (Timestamp::MAX, at(0))] {
            for random in [0.0, 0.5, 0.999] {
                let wait = at_start(Some(last), now, INTERVAL, random);
                assert!(wait >= INTERVAL / SOONEST && wait <= INTERVAL / LATEST, "{wait:?}");
            }
        }
        // A board without a clock battery, each time in 1970.
        let boot = Timestamp::UNIX_EPOCH;
        assert!(at_start(Some(at(0)), boot, INTERVAL, 0.9) <= INTERVAL / LATEST);
        assert!(at_start(None, boot, INTERVAL, 0.9) <= INTERVAL / LATEST);
    }

    /// Holds UPD-20.
    #[test]
    fn devices_do_not_ask_at_once() {
        // Ten thousand devices, whose last looks lie anywhere in the interval, lose power for ten minutes ...
        let mut random = fastrand::Rng::with_seed(7);
        let mut draw = || random.f64();
        let (mut short, mut long) = (Vec::new(), Vec::new());
        for _ in 0..10_000 {
            let last = at((draw() * INTERVAL.as_secs_f64()) as i64 - 6 * 3600);
            short.push(at_start(Some(last), at(600), INTERVAL, draw()));
            // ... or for a night.
            long.push(at_start(Some(last), at(10 * 3600), INTERVAL, draw()));
        }
        let spread = tenths(INTERVAL.mul_f64(1.2), short.into_iter());
        assert!(spread.iter().all(|count| *count < 2000), "{spread:?}");
        assert!(long.iter().all(|wait| *wait >= INTERVAL / SOONEST));
        let window = (INTERVAL / LATEST).saturating_sub(INTERVAL / SOONEST);
        let spread =
            tenths(window, long.into_iter().map(|wait| wait.saturating_sub(INTERVAL / SOONEST)));
        assert!(spread.iter().all(|count| (850..1150).contains(count)), "{spread:?}");
    }

    #[test]
    fn last_look_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDirectory::at(folder.path().join("state")).unwrap();
        assert_eq!(last_asked(&state), None);
        note_asked(&state);
        let ago = Timestamp::now().duration_since(last_asked(&state).unwrap());
        assert!(!ago.is_negative() && ago.as_secs() < 3600);
        std::fs::write(state.file(FOLDER).join(NAME), "\0\0\0").unwrap();
        assert_eq!(last_asked(&state), None);
    }
}
