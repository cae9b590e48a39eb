//! The only way an event comes into being: numbered, linked, signed and stored in one transaction.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::jws::{SignedMessage, TooLong, Typ};
use super::key::{DeviceKey, KeyError};
use super::payload::{self, Context, Fact, Lost, Place};
use super::rotation;
use super::store::{self, Durability, StoreError};
use crate::system::state::StateDirectory;

/// Events that the outbox holds while the broker is away.
pub const CAPACITY: u64 = 100_000;

/// Records facts as events of one device key. Several threads and processes may record at once.
#[derive(Debug)]
pub struct Ledger {
    connection: Mutex<Connection>,
    path: PathBuf,
    key: Arc<DeviceKey>,
    context: Context,
    capacity: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    TooLong(#[from] TooLong),
    #[error("the device key was replaced by {successor}; the old one signs no more")]
    Rotated { successor: String },
    #[error(
        "outbox.db was lost or replaced: it does not know where the chain of key {kid} stands, and must not begin it again"
    )]
    ChainLost { kid: String },
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl Ledger {
    /// Prefer [`super::open`], which also knows what to do about [`LedgerError::Rotated`] and
    /// [`LedgerError::ChainLost`].
    pub fn open(
        state: &StateDirectory,
        key: Arc<DeviceKey>,
        context: Context,
    ) -> Result<Self, LedgerError> {
        let (mut connection, path) = store::open(state, Durability::Full)?;
        let store = |source| LedgerError::Store(StoreError::of(&path, source));
        let kid = key.kid();
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(store)?;
        if next_place(&transaction, kid).map_err(store)?.is_none() {
            if rotation::has_begun(state, kid)? {
                return Err(LedgerError::ChainLost { kid: kid.to_owned() });
            }
            transaction
                .execute(
                    "INSERT INTO chain (kid, public, seq) VALUES (?1, ?2, 0)",
                    params![kid, key.public().as_bytes()],
                )
                .map_err(store)?;
        }
        refuse_rotated(&transaction, kid, store)?;
        transaction.commit().map_err(store)?;
        rotation::note_begun(state, kid)?;
        Ok(Self { connection: Mutex::new(connection), path, key, context, capacity: CAPACITY })
    }

    /// Bounds the outbox to `events`, at least 2, in place of [`CAPACITY`].
    #[must_use]
    pub fn with_capacity(self, events: u64) -> Self {
        Self { capacity: events.max(2), ..self }
    }

    /// Makes an event of `fact`. When this returns, it is on the disk and will be published; after an
    /// error nothing has changed, and the next event takes the same number. [`LedgerError::Rotated`]:
    /// open key and ledger again ([`super::open`]), and record it by the new key.
    pub fn record(&self, fact: &Fact) -> Result<SignedMessage, LedgerError> {
        let mut connection = self.lock();
        let store = |source| LedgerError::Store(StoreError::of(&self.path, source));
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(store)?;
        refuse_rotated(&transaction, self.key.kid(), store)?;
        if let Some(lost) = make_room(&transaction, self.capacity).map_err(store)? {
            log::warn!("outbox full: events {} to {} go unsent", lost.from, lost.to);
            self.append(&transaction, Some(lost.from), |place| {
                payload::of_overflow(&self.context, place, lost)
            })?;
        }
        let message =
            self.append(&transaction, None, |place| payload::of_fact(&self.context, place, fact))?;
        transaction.commit().map_err(store)?;
        Ok(message)
    }

    /// Events in the outbox, of every key.
    pub fn depth(&self) -> Result<u64, LedgerError> {
        count(&self.lock()).map_err(|source| StoreError::of(&self.path, source).into())
    }

    pub fn context(&self) -> &Context {
        &self.context
    }

    fn append(
        &self,
        transaction: &Transaction<'_>,
        lost_from: Option<u64>,
        payload: impl FnOnce(&Place) -> String,
    ) -> Result<SignedMessage, LedgerError> {
        let store = |source| LedgerError::Store(StoreError::of(&self.path, source));
        let kid = self.key.kid();
        let place = next_place(transaction, kid).map_err(store)?.ok_or_else(|| {
            let what = "the chain of this device's key is gone".to_owned();
            StoreError::Damaged { path: self.path.clone(), what }
        })?;
        let message = self.key.sign(Typ::Event, &payload(&place))?;
        let seq = place.seq.cast_signed();
        transaction
            .execute(
                "INSERT INTO outbox (kid, seq, lost_from, message) VALUES (?1, ?2, ?3, ?4)",
                params![kid, seq, lost_from.map(u64::cast_signed), message.as_str()],
            )
            .and_then(|_| {
                transaction.execute(
                    "UPDATE chain SET seq = ?2, link = ?3 WHERE kid = ?1",
                    params![kid, seq, message.link()],
                )
            })
            .map_err(store)?;
        Ok(message)
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic inside a transaction rolled it back: the connection is as good as before.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A key with a successor signs no event any more.
fn refuse_rotated(
    transaction: &Transaction<'_>,
    kid: &str,
    store: impl Fn(rusqlite::Error) -> LedgerError,
) -> Result<(), LedgerError> {
    let successor: Option<String> = transaction
        .query_row("SELECT successor FROM chain WHERE kid = ?1", [kid], |row| row.get(0))
        .optional()
        .map_err(store)?
        .flatten();
    successor.map_or(Ok(()), |successor| Err(LedgerError::Rotated { successor }))
}

fn next_place(transaction: &Transaction<'_>, kid: &str) -> rusqlite::Result<Option<Place>> {
    transaction
        .query_row("SELECT seq, link FROM chain WHERE kid = ?1", [kid], |row| {
            Ok(Place { seq: row.get::<_, i64>(0)? as u64 + 1, prev: row.get(1)? })
        })
        .optional()
}

/// Drops the oldest hundredth when the outbox is full, and tells which. An overflow event among them
/// hands what it told on to the new one. Runs of one key at a time, so that the range has a meaning.
fn make_room(transaction: &Transaction<'_>, capacity: u64) -> rusqlite::Result<Option<Lost>> {
    let held = count(transaction)?;
    // Two may come in: the event and the overflow that tells of this.
    if held < capacity {
        return Ok(None);
    }
    let chunk = (held + 2 - capacity).max(capacity / 100).cast_signed();
    let lost = transaction.query_row(
        "WITH oldest AS (SELECT position, kid, seq, lost_from FROM outbox ORDER BY position LIMIT ?1)
         SELECT min(min(seq, coalesce(lost_from, seq))), max(seq) FROM oldest
         WHERE kid = (SELECT kid FROM oldest ORDER BY position LIMIT 1)",
        [chunk],
        |row| Ok(Lost { from: row.get::<_, i64>(0)? as u64, to: row.get::<_, i64>(1)? as u64 }),
    )?;
    transaction.execute(
        "DELETE FROM outbox WHERE position IN
             (SELECT position FROM outbox ORDER BY position LIMIT ?1)
         AND kid = (SELECT kid FROM outbox ORDER BY position LIMIT 1)",
        [chunk],
    )?;
    Ok(Some(lost))
}

/// Events in the outbox. Positions have no holes but where another key's events were kept, so the
/// span is the number, or a little more, without counting.
pub(super) fn count(connection: &Connection) -> rusqlite::Result<u64> {
    connection
        .query_row(
            "SELECT coalesce((SELECT max(position) FROM outbox)
                 - (SELECT min(position) FROM outbox) + 1, 0)",
            [],
            |row| row.get::<_, i64>(0),
        )
        .map(|n| n as u64)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::{CameraSource, DeviceName};

    #[test]
    fn full_disk() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDirectory::at(folder.path().to_owned()).unwrap();
        let key = Arc::new(DeviceKey::open_or_create(&state).unwrap());
        let device = DeviceName::try_from("porch".to_owned()).unwrap();
        let context = Context::new(device, &CameraSource::Device("video".into()), None);
        let ledger = Ledger::open(&state, key, context).unwrap();
        let fact = || Fact::Erased { person: "ada".parse().unwrap(), time: jiff::Timestamp::now() };
        ledger.record(&fact()).unwrap();
        // SQLite reports a full disk and its own limit in the same way.
        let limit = |pages: i64| {
            ledger
                .lock()
                .pragma_update_and_check(None, "max_page_count", pages, |row| row.get::<_, i64>(0))
        };
        limit(1).unwrap();
        let mut stored = 1;
        let error = loop {
            match ledger.record(&fact()) {
                Ok(_) => stored += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, LedgerError::Store(StoreError::Full { .. })), "{error}");
        assert_eq!(ledger.depth().unwrap(), stored);
        limit(1_000_000).unwrap();
        let next = ledger.record(&fact()).unwrap();
        // The number that was not taken is the next one's.
        assert!(next.as_str().contains(&format!("\\\"seq\\\":{}", stored + 1)));
    }
}
