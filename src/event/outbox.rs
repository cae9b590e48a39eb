//! The publisher's side of the database: what is to be sent, in order, and what was acknowledged.

use std::cell::Cell;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension};

use super::bounds;
use super::jwk::PublicKey;
use super::jws::SignedMessage;
use super::store::{self, Durability, StoreError};
use crate::recognition::PersonId;
use crate::system::database;
use crate::system::state::StateDirectory;

/// How often the journal is emptied, at most.
const TIDY: Duration = Duration::from_mins(1);

/// Events that wait for the broker's acknowledgement, of every key, oldest first.
#[derive(Debug)]
pub struct Outbox {
    connection: Connection,
    path: PathBuf,
    /// Acknowledged, and still there because the disk was full.
    owed: Cell<Option<Position>>,
    /// The journal may still hold what was forgotten.
    residue: Cell<bool>,
    tidied: Cell<Option<Instant>>,
}

/// A place in the order of sending; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Position(i64);

#[derive(Debug, Clone)]
pub struct Entry {
    pub position: Position,
    pub seq: u64,
    pub message: SignedMessage,
}

impl Outbox {
    pub fn open(state: &StateDirectory) -> Result<Self, StoreError> {
        let (connection, path) = store::open(state, Durability::Relaxed)?;
        // An earlier run may have left something.
        let residue = Cell::new(true);
        Ok(Self { connection, path, owed: Cell::new(None), residue, tidied: Cell::new(None) })
    }

    /// The oldest event that waits.
    pub fn oldest(&self) -> Result<Option<Entry>, StoreError> {
        self.after(self.owed.get().unwrap_or_default())
    }

    /// The oldest event after `position`. An event that no longer is what this device signed (a disk
    /// that changes bytes) is an error that names it: it is never sent.
    pub fn after(&self, position: Position) -> Result<Option<Entry>, StoreError> {
        let row = self
            .connection
            .prepare_cached(
                "SELECT position, outbox.seq, message, public FROM outbox JOIN chain USING (kid)
                 WHERE position > ?1 ORDER BY position LIMIT 1",
            )
            .and_then(|mut statement| {
                statement
                    .query_row([position.0], |row| {
                        let public: [u8; 32] = row.get(3)?;
                        Ok((row.get(0)?, row.get::<_, i64>(1)?, row.get::<_, String>(2)?, public))
                    })
                    .optional()
            })
            .map_err(|source| StoreError::of(&self.path, source))?;
        let Some((position, seq, text, public)) = row else { return Ok(None) };
        let message = SignedMessage::reload(text, &PublicKey::from_bytes(public)).map_err(|e| {
            StoreError::Damaged { path: self.path.clone(), what: format!("event {seq}: {e}") }
        })?;
        Ok(Some(Entry { position: Position(position), seq: seq as u64, message }))
    }

    /// Whether the key `kid` took the place of `known`, directly or not.
    pub fn is_newer(&self, kid: &str, known: &str) -> Result<bool, StoreError> {
        // Keys are in the table in the order in which they came.
        self.connection
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM chain WHERE kid = ?1
                 AND rowid > (SELECT rowid FROM chain WHERE kid = ?2))",
            )
            .and_then(|mut statement| statement.query_row([kid, known], |row| row.get(0)))
            .map_err(|source| StoreError::of(&self.path, source))
    }

    /// Forgets the event at `position`, which the broker has acknowledged. On a full disk there is no
    /// room for that either, as the journal grows first: then it goes with the next that is
    /// acknowledged, or by [`Self::settle`]. Should the process end before, it is sent again.
    pub fn acknowledged(&self, position: Position) -> Result<(), StoreError> {
        match self.forget(position) {
            Err(StoreError::Full { .. }) => {
                if self.owed.replace(Some(position)).is_none() {
                    log::warn!("the disk is too full to note what the broker has taken");
                }
                Ok(())
            }
            outcome => {
                self.owed.set(None);
                self.residue.set(true);
                outcome
            }
        }
    }

    /// Forgets what could not be forgotten at its time; and once nothing waits, removes from the disk what
    /// is left of delivered events in the journal. Call it now and then.
    pub fn settle(&self) -> Result<(), StoreError> {
        if let Some(position) = self.owed.get() {
            self.acknowledged(position)?;
        }
        let due = self.tidied.get().is_none_or(|tidied| tidied.elapsed() >= TIDY);
        if self.residue.get() && due && self.depth()? == 0 {
            database::empty_journal(&self.connection);
            self.residue.set(false);
            self.tidied.set(Some(Instant::now()));
        }
        Ok(())
    }

    fn forget(&self, position: Position) -> Result<(), StoreError> {
        self.connection
            .prepare_cached("DELETE FROM outbox WHERE position <= ?1")
            .and_then(|mut delete| delete.execute([position.0]))
            .map(drop)
            .map_err(|source| StoreError::of(&self.path, source))
    }

    /// Events that wait and name this person.
    pub fn about(&self, person: &PersonId) -> Result<u64, StoreError> {
        let failed = |source| StoreError::of(&self.path, source);
        let mut statement =
            self.connection.prepare("SELECT message FROM outbox").map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        let mut count = 0;
        while let Some(row) = rows.next().map_err(failed)? {
            let message: String = row.get(0).map_err(failed)?;
            count += u64::from(names(&message, person));
        }
        Ok(count)
    }

    /// Events that wait.
    pub fn depth(&self) -> Result<u64, StoreError> {
        bounds::count(&self.connection).map_err(|source| StoreError::of(&self.path, source))
    }
}

/// Whether the payload of an event is about this person.
fn names(message: &str, person: &PersonId) -> bool {
    #[derive(serde::Deserialize)]
    struct Payload {
        person: Option<Named>,
    }
    #[derive(serde::Deserialize)]
    struct Named {
        id: String,
    }
    #[derive(serde::Deserialize)]
    struct Message {
        payload: String,
    }
    let Ok(Message { payload }) = serde_json::from_str(message) else { return false };
    serde_json::from_str::<Payload>(&payload)
        .is_ok_and(|payload| payload.person.is_some_and(|named| named.id == person.as_str()))
}
