//! The only way an event comes into being: numbered, linked, signed and stored in one transaction.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::age::{self, Reading};
use super::bounds::{self, Limits};
use super::jws::{SignedMessage, TooLong, Typ};
use super::key::{DeviceKey, KeyError};
use super::payload::{self, Context, Fact, Lost, Place};
use super::rotation;
use super::store::{self, Durability, StoreError};
use crate::system::clock::{self, ClockState};
use crate::system::database;
use crate::system::state::StateDirectory;

/// Records facts as events of one device key. Several threads and processes may record at once.
#[derive(Debug)]
pub struct Ledger {
    database: Mutex<Database>,
    path: PathBuf,
    key: Arc<DeviceKey>,
    context: Context,
    limits: Limits,
}

#[derive(Debug)]
struct Database {
    connection: Connection,
    /// When the age of the events is to be looked at again.
    look: Instant,
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
        limits: Limits,
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
        let database = Mutex::new(Database { connection, look: Instant::now() });
        Ok(Self { database, path, key, context, limits })
    }

    /// Makes an event of `fact`. When this returns, it is on the disk and will be published; after an
    /// error nothing has changed, and the next event takes the same number. [`LedgerError::Rotated`]:
    /// open key and ledger again ([`super::open`]), and record it by the new key.
    pub fn record(&self, fact: &Fact) -> Result<SignedMessage, LedgerError> {
        self.record_of(fact, clock::state())
    }

    /// The same of a fact whose time was read when the clock was in this state: it may have waited for the disk since.
    pub fn record_of(&self, fact: &Fact, clock: ClockState) -> Result<SignedMessage, LedgerError> {
        let reading = Reading::now();
        match self.record_at(fact, clock, &reading) {
            Err(LedgerError::Store(StoreError::Full { .. })) => {
                // It may be the journal that fills the disk, and what it holds has its place already.
                database::empty_journal(&self.lock().connection);
                self.record_at(fact, clock, &reading)
            }
            recorded => recorded,
        }
    }

    /// Drops what has become too old, in times in which nothing is recorded. Cheap: it looks at the disk
    /// a hundred times within the limit, at most. Call it often.
    pub fn expire(&self) -> Result<(), LedgerError> {
        self.expire_at(&Reading::now())
    }

    /// [`LedgerError::Rotated`] if another key took this one's place meanwhile; for times in which no event
    /// asks. Cheap: one row.
    pub fn check_key(&self) -> Result<(), LedgerError> {
        let mut database = self.lock();
        let store = |source| LedgerError::Store(StoreError::of(&self.path, source));
        let transaction = database.connection.transaction().map_err(store)?;
        refuse_rotated(&transaction, self.key.kid(), store)
    }

    /// Events in the outbox, of every key.
    pub fn depth(&self) -> Result<u64, LedgerError> {
        bounds::count(&self.lock().connection)
            .map_err(|source| StoreError::of(&self.path, source).into())
    }

    pub fn limits(&self) -> Limits {
        self.limits
    }

    pub fn context(&self) -> &Context {
        &self.context
    }

    fn record_at(
        &self,
        fact: &Fact,
        clock: ClockState,
        reading: &Reading,
    ) -> Result<SignedMessage, LedgerError> {
        let mut database = self.lock();
        let Database { connection, look } = &mut *database;
        let store = |source| LedgerError::Store(StoreError::of(&self.path, source));
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(store)?;
        let now = age::now(&transaction, reading, self.limits.most_off()).map_err(store)?;
        let next_look = self.drop_old(&transaction, *look, now)?;
        if let Some(lost) = bounds::make_room(&transaction, self.limits).map_err(store)? {
            log::warn!("outbox full: events {} to {} go unsent", lost.from, lost.to);
            self.append_overflow(&transaction, now, lost)?;
        }
        let message = self.append(&transaction, now, None, |place| {
            payload::of_fact(&self.context, place, fact, clock)
        })?;
        transaction.commit().map_err(store)?;
        *look = next_look;
        Ok(message)
    }

    fn expire_at(&self, reading: &Reading) -> Result<(), LedgerError> {
        let mut database = self.lock();
        let Database { connection, look } = &mut *database;
        if Instant::now() < *look {
            return Ok(());
        }
        let store = |source| LedgerError::Store(StoreError::of(&self.path, source));
        // Also after an error: a disk that takes nothing is not asked at each frame.
        let due = std::mem::replace(look, Instant::now() + self.limits.look());
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(store)?;
        let now = age::now(&transaction, reading, self.limits.most_off()).map_err(store)?;
        let next_look = self.drop_old(&transaction, due, now)?;
        transaction.commit().map_err(store)?;
        *look = next_look;
        Ok(())
    }

    /// If it is time to `look`; gives the next time.
    fn drop_old(
        &self,
        transaction: &Transaction<'_>,
        look: Instant,
        now: i64,
    ) -> Result<Instant, LedgerError> {
        if Instant::now() < look {
            return Ok(look);
        }
        let next = Instant::now() + self.limits.look();
        let dropped = bounds::expire(transaction, self.limits, now)
            .map_err(|source| StoreError::of(&self.path, source))?;
        let Some((lost, more)) = dropped else { return Ok(next) };
        log::warn!("too old: events {} to {} go unsent", lost.from, lost.to);
        self.append_overflow(transaction, now, lost)?;
        Ok(if more { look } else { next })
    }

    fn append_overflow(
        &self,
        transaction: &Transaction<'_>,
        now: i64,
        mut lost: Lost,
    ) -> Result<SignedMessage, LedgerError> {
        let kid = lost.kid.take_if(|kid| kid != self.key.kid());
        let lost = Lost { kid, ..lost };
        // Handed on when this goes too; but not under another key's numbers.
        let lost_from = lost.kid.is_none().then_some(lost.from);
        self.append(transaction, now, lost_from, |place| {
            payload::of_overflow(&self.context, place, &lost)
        })
    }

    fn append(
        &self,
        transaction: &Transaction<'_>,
        now: i64,
        lost_from: Option<u64>,
        payload: impl FnOnce(&Place) -> String,
    ) -> Result<SignedMessage, LedgerError> {
        let store = |source| LedgerError::Store(StoreError::of(&self.path, source));
        let kid = self.key.kid();
        refuse_rotated(transaction, kid, store)?;
        let place = next_place(transaction, kid).map_err(store)?.ok_or_else(|| {
            let what = "the chain of this device's key is gone".to_owned();
            StoreError::Damaged { path: self.path.clone(), what }
        })?;
        let message = self.key.sign(Typ::Event, &payload(&place))?;
        let seq = place.seq.cast_signed();
        transaction
            .prepare_cached(
                "INSERT INTO outbox (kid, seq, lost_from, message, recorded)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )
            .and_then(|mut insert| {
                let lost_from = lost_from.map(u64::cast_signed);
                insert.execute(params![kid, seq, lost_from, message.as_str(), now])
            })
            .and_then(|_| {
                transaction.prepare_cached("UPDATE chain SET seq = ?2, link = ?3 WHERE kid = ?1")
            })
            .and_then(|mut update| update.execute(params![kid, seq, message.link()]))
            .map_err(store)?;
        Ok(message)
    }

    fn lock(&self) -> MutexGuard<'_, Database> {
        // A panic inside a transaction rolled it back: the connection is as good as before.
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A key with a successor signs no event any more.
fn refuse_rotated(
    transaction: &Transaction<'_>,
    kid: &str,
    store: impl Fn(rusqlite::Error) -> LedgerError,
) -> Result<(), LedgerError> {
    let successor: Option<String> = transaction
        .prepare_cached("SELECT successor FROM chain WHERE kid = ?1")
        .and_then(|mut select| select.query_row([kid], |row| row.get(0)).optional())
        .map_err(store)?
        .flatten();
    successor.map_or(Ok(()), |successor| Err(LedgerError::Rotated { successor }))
}

fn next_place(transaction: &Transaction<'_>, kid: &str) -> rusqlite::Result<Option<Place>> {
    transaction
        .prepare_cached("SELECT seq, link FROM chain WHERE kid = ?1")?
        .query_row([kid], |row| {
            Ok(Place { seq: row.get::<_, i64>(0)? as u64 + 1, prev: row.get(1)? })
        })
        .optional()
}

#[cfg(test)]
mod tests;
