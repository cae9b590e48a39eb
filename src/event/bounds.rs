//! What the outbox holds at most: how many events, and how old.

use std::time::Duration;

use rusqlite::{Connection, Transaction};

use super::payload::Lost;
use crate::config;

/// The bounds of the outbox; beyond them the oldest events go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// At least 2: an event, and one that tells what was dropped for it.
    pub events: u64,
    /// By the outbox's own clock, in whole seconds.
    pub age: Duration,
}

impl Limits {
    fn seconds(self) -> i64 {
        i64::try_from(self.age.as_secs()).unwrap_or(i64::MAX)
    }

    /// How much of the time that the machine was switched off counts at once, in seconds.
    pub(super) fn most_off(self) -> i64 {
        self.seconds() / 2
    }

    /// How often the age is looked at. So much older may an event become.
    pub(super) fn look(self) -> Duration {
        (self.age / 100).clamp(Duration::from_millis(100), Duration::from_hours(1))
    }
}

impl From<&config::Outbox> for Limits {
    fn from(outbox: &config::Outbox) -> Self {
        Self { events: outbox.events, age: outbox.age.get() }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::from(&config::Outbox::default())
    }
}

/// Events that are dropped at once, at most: one transaction must not keep others waiting.
const CHUNK: i64 = 10_000;

/// Drops the oldest hundredth when the outbox is full, and tells which.
pub(super) fn make_room(
    transaction: &Transaction<'_>,
    limits: Limits,
) -> rusqlite::Result<Option<Lost>> {
    let held = count(transaction)?;
    // Two may come in: the event and the overflow that tells of this.
    let capacity = limits.events.max(2);
    if held < capacity {
        return Ok(None);
    }
    let chunk = (held + 2 - capacity).max((capacity / 100).min(CHUNK.unsigned_abs()));
    drop_oldest(transaction, chunk.cast_signed()).map(Some)
}

/// Drops the oldest events that are older than the limit at `now`, tells which, and whether there may
/// be more of them.
pub(super) fn expire(
    transaction: &Transaction<'_>,
    limits: Limits,
    now: i64,
) -> rusqlite::Result<Option<(Lost, bool)>> {
    let due = now.saturating_sub(limits.seconds());
    let old: i64 = transaction.query_row(
        "SELECT count(*) FROM (SELECT recorded FROM outbox ORDER BY position LIMIT ?1)
         WHERE recorded < ?2",
        [CHUNK, due],
        |row| row.get(0),
    )?;
    if old == 0 {
        return Ok(None);
    }
    let lost = drop_oldest(transaction, old)?;
    let more: Option<bool> = transaction.query_row(
        "SELECT (SELECT recorded FROM outbox ORDER BY position LIMIT 1) < ?1",
        [due],
        |row| row.get(0),
    )?;
    Ok(Some((lost, more == Some(true))))
}

/// Drops up to `number` events from the oldest on, as far as they are of one key: only so the range of
/// numbers has a meaning. An overflow event among them hands on what it told.
fn drop_oldest(transaction: &Transaction<'_>, number: i64) -> rusqlite::Result<Lost> {
    let lost = transaction.query_row(
        "WITH oldest AS (SELECT position, kid, seq, lost_from FROM outbox ORDER BY position LIMIT ?1)
         SELECT min(min(seq, coalesce(lost_from, seq))), max(seq), kid FROM oldest
         WHERE kid = (SELECT kid FROM oldest ORDER BY position LIMIT 1)",
        [number],
        |row| {
            let [from, to] = [row.get::<_, i64>(0)?, row.get(1)?].map(i64::cast_unsigned);
            Ok(Lost { from, to, kid: Some(row.get(2)?) })
        },
    )?;
    transaction.execute(
        "DELETE FROM outbox WHERE position IN
             (SELECT position FROM outbox ORDER BY position LIMIT ?1)
         AND kid = (SELECT kid FROM outbox ORDER BY position LIMIT 1)",
        [number],
    )?;
    Ok(lost)
}

/// Events in the outbox. Positions have no holes but where another key's events were kept, so the
/// span is the number, or a little more, without counting.
pub(super) fn count(connection: &Connection) -> rusqlite::Result<u64> {
    connection
        .prepare_cached(
            "SELECT coalesce((SELECT max(position) FROM outbox)
                 - (SELECT min(position) FROM outbox) + 1, 0)",
        )?
        .query_row([], |row| row.get::<_, i64>(0))
        .map(i64::cast_unsigned)
}
