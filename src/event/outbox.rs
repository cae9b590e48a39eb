//! The publisher's side of the database: what is to be sent, in order, and what was acknowledged.

use std::cell::Cell;
use std::path::PathBuf;

use rusqlite::{Connection, OptionalExtension};

use super::bounds;
use super::jwk::PublicKey;
use super::jws::SignedMessage;
use super::store::{self, Durability, StoreError};
use crate::system::state::StateDirectory;

/// Events that wait for the broker's acknowledgement, of every key, oldest first.
#[derive(Debug)]
pub struct Outbox {
    connection: Connection,
    path: PathBuf,
    /// Acknowledged, and still there because the disk was full.
    owed: Cell<Option<Position>>,
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
        Ok(Self { connection, path, owed: Cell::new(None) })
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

    /// Forgets the events up to `position`, all acknowledged by the broker. On a full disk there is no
    /// room for that either, as the journal grows first: then they go with the next that are
    /// acknowledged, or by [`Self::settle`]. Should the process end before, they are sent again.
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
                outcome
            }
        }
    }

    /// Forgets what could not be forgotten at its time.
    pub fn settle(&self) -> Result<(), StoreError> {
        self.owed.get().map_or(Ok(()), |position| self.acknowledged(position))
    }

    fn forget(&self, position: Position) -> Result<(), StoreError> {
        self.connection
            .prepare_cached("DELETE FROM outbox WHERE position <= ?1")
            .and_then(|mut delete| delete.execute([position.0]))
            .map(drop)
            .map_err(|source| StoreError::of(&self.path, source))
    }

    /// Events that wait.
    pub fn depth(&self) -> Result<u64, StoreError> {
        bounds::count(&self.connection).map_err(|source| StoreError::of(&self.path, source))
    }
}
