//! How old events are, by a clock that no wrong date can move.
//!
//! A device without a clock battery wakes up in the past, a lying or mistaken time server moves it into
//! the future, and either would make every event in the outbox too young or too old at once. So the
//! outbox keeps a clock of its own, in seconds, that only goes forward:
//!
//! * While the machine runs it follows `CLOCK_BOOTTIME`, which counts sleep and which nobody can set.
//! * What passed while the machine was switched off only the date can tell. It counts once the kernel
//!   says that the date is synchronized, as it did before; never backward, and never more at once than
//!   [`Limits::most_off`](super::Limits), half of the age limit. One wrong date can never empty the
//!   outbox, and a right one makes events of a device that was in a drawer old sooner.
//!
//! Events recorded after a start, before the date was known, are no older for the time before it.

use rusqlite::{OptionalExtension, Transaction, params};

use crate::system::clock::{self, ClockState, Uptime};

/// What the machine's clocks say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reading {
    /// Which start of the machine this is.
    pub boot: String,
    /// Seconds since then, sleep included.
    pub up: i64,
    /// Seconds since 1970, where the date can be believed.
    pub date: Option<i64>,
}

impl Reading {
    pub fn now() -> Self {
        // Where the kernel does not say, a smaller time since the start tells of another start.
        let Uptime { boot, seconds } = Uptime::now();
        let date = (clock::state() == ClockState::Synchronized)
            .then(|| jiff::Timestamp::now().as_second());
        Self { boot, up: seconds.cast_signed(), date }
    }
}

/// The clock as it was last noted, the one row of the table `age`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AgeClock {
    /// Its time.
    pub now: i64,
    boot: String,
    up: i64,
    /// The last date that could be believed, and what this clock said then.
    dated: Option<(i64, i64)>,
    /// The machine has started since then: the events after this position are of this start.
    started: Option<i64>,
}

/// Time that the machine was switched off and that has just become known: events after the position
/// are to be moved along, for they came later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Off {
    seconds: i64,
    after: i64,
}

impl AgeClock {
    fn begin(reading: &Reading) -> Self {
        let Reading { boot, up, date } = reading.clone();
        Self { now: 0, boot, up, dated: date.map(|date| (date, 0)), started: None }
    }

    fn advance(&self, reading: &Reading, most_off: i64, newest: i64) -> (Self, Option<Off>) {
        let same = self.boot == reading.boot && reading.up >= self.up;
        let passed = if same { reading.up - self.up } else { reading.up };
        let mut next = Self {
            now: self.now + passed.max(0),
            boot: reading.boot.clone(),
            up: reading.up,
            dated: self.dated,
            started: if same { self.started } else { self.started.or(Some(newest)) },
        };
        let mut off = None;
        if let Some(date) = reading.date {
            if let (Some((then, at)), Some(after)) = (next.dated, next.started) {
                let unseen = date.saturating_sub(then).saturating_sub(next.now - at);
                let seconds = unseen.clamp(0, most_off);
                next.now += seconds;
                off = (seconds > 0).then_some(Off { seconds, after });
            }
            next.dated = Some((date, next.now));
            next.started = None;
        }
        (next, off)
    }
}

/// How stale the noted clock may be, in seconds. What lies between is lost if the machine stops
/// without a date, and events are as much younger.
const NOTED: i64 = 60;

/// The time by this clock, noted in the database now and then.
pub(super) fn now(
    transaction: &Transaction<'_>,
    reading: &Reading,
    most_off: i64,
) -> rusqlite::Result<i64> {
    let Some(last) = load(transaction)? else {
        let begun = AgeClock::begin(reading);
        save(transaction, &begun)?;
        return Ok(begun.now);
    };
    let newest = transaction
        .query_row("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'", [], |row| row.get(0))
        .optional()?
        .unwrap_or(0);
    let (next, off) = last.advance(reading, most_off, newest);
    if let Some(Off { seconds, after }) = off {
        log::info!(
            "the machine was off for a while; what waits in the outbox is {seconds} s older"
        );
        transaction.execute(
            "UPDATE outbox SET recorded = recorded + ?1 WHERE position > ?2",
            [seconds, after],
        )?;
    }
    let turned = next.boot != last.boot
        || next.started != last.started
        || next.dated.is_some() != last.dated.is_some();
    if turned || next.now - last.now >= NOTED {
        save(transaction, &next)?;
    }
    Ok(next.now)
}

fn load(transaction: &Transaction<'_>) -> rusqlite::Result<Option<AgeClock>> {
    transaction
        .prepare_cached("SELECT now, boot, up, date, dated, started FROM age")?
        .query_row([], |row| {
            let date: Option<i64> = row.get(3)?;
            let at: i64 = row.get(4)?;
            Ok(AgeClock {
                now: row.get(0)?,
                boot: row.get(1)?,
                up: row.get(2)?,
                dated: date.map(|date| (date, at)),
                started: row.get(5)?,
            })
        })
        .optional()
}

fn save(transaction: &Transaction<'_>, clock: &AgeClock) -> rusqlite::Result<()> {
    let (date, at) = clock.dated.unzip();
    transaction
        .execute(
            "INSERT OR REPLACE INTO age (one, now, boot, up, date, dated, started)
             VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6)",
            params![clock.now, clock.boot, clock.up, date, at.unwrap_or(0), clock.started],
        )
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;
    const MOST_OFF: i64 = 15 * DAY;
    /// Some day in 2026.
    const TODAY: i64 = 1_795_000_000;

    fn reading(boot: &str, up: i64, date: Option<i64>) -> Reading {
        Reading { boot: boot.to_owned(), up, date }
    }

    /// What the clock says after each reading, and by how much later events were moved along.
    fn tell(readings: &[Reading]) -> Vec<(i64, i64)> {
        let mut clock = AgeClock::begin(&readings[0]);
        let mut told = Vec::new();
        for reading in &readings[1..] {
            let (next, off) = clock.advance(reading, MOST_OFF, 7);
            assert!(next.now >= clock.now, "it never goes back");
            assert!(off.is_none_or(|off| off.after == 7));
            told.push((next.now, off.map_or(0, |off| off.seconds)));
            clock = next;
        }
        told
    }

    /// Holds EVT-08.
    #[test]
    fn jumps_of_the_date_move_nothing_while_the_machine_runs() {
        for jump in [DAY, 40 * 365 * DAY, -DAY, -TODAY, i64::MAX / 2] {
            let told = tell(&[
                reading("a", 100, Some(TODAY)),
                reading("a", 110, Some(TODAY + 10)),
                reading("a", 120, Some(TODAY + 20 + jump)),
                reading("a", 130, None),
                reading("a", 140, Some(TODAY + 40)),
            ]);
            assert_eq!(told, [(10, 0), (20, 0), (30, 0), (40, 0)], "{jump}");
        }
    }

    #[test]
    fn time_switched_off_counts_when_the_date_is_known() {
        let told = tell(&[
            reading("a", 100, Some(TODAY)),
            // A battery-less clock, first in the past and then unsynchronized, tells nothing.
            reading("b", 5, None),
            reading("b", 30, None),
            reading("b", 40, Some(TODAY + 3 * DAY)),
            reading("b", 50, Some(TODAY + 3 * DAY + 10)),
        ]);
        assert_eq!(told, [(5, 0), (30, 0), (3 * DAY, 3 * DAY - 40), (3 * DAY + 10, 0)]);
    }

    #[test]
    fn one_wrong_date_after_a_start_does_not_make_all_old() {
        let told = tell(&[
            reading("a", 100, Some(TODAY)),
            reading("b", 10, Some(TODAY + 11 * 365 * DAY)),
            reading("b", 20, Some(TODAY + 30)),
            reading("c", 10, Some(TODAY + 100)),
        ]);
        let after = MOST_OFF + 10;
        assert_eq!(told, [(after, MOST_OFF), (after + 10, 0), (after + 80, 60)]);
    }

    /// Holds EVT-09.
    #[test]
    fn a_date_of_the_past_keeps_nothing_for_ever() {
        let told = tell(&[
            reading("a", 100, Some(TODAY)),
            reading("b", 10, Some(0)),
            reading("b", 10 + 31 * DAY, Some(31 * DAY)),
        ]);
        assert_eq!(told, [(10, 0), (31 * DAY + 10, 0)]);
    }

    #[test]
    fn a_kernel_that_names_no_start_is_told_by_its_clock() {
        let told = tell(&[reading("", 1000, None), reading("", 1010, None), reading("", 7, None)]);
        assert_eq!(told, [(10, 0), (17, 0)]);
    }
}
