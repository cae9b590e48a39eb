//! Ids of commands that were taken, kept until none of them could be taken again, across restarts
//! (`commands.db`).
//!
//! What is dropped stays refused whatever the clock says later: `forgotten` holds the latest expiry of
//! all that was dropped, and a command that expires no later than that is never taken.

use std::path::PathBuf;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::request::{CommandId, SKEW};
use crate::system::database::{self, Kind, Trouble};
use crate::system::disk;
use crate::system::state::StateDirectory;

const NAME: &str = "commands.db";

const KIND: Kind = Kind {
    application: 0x666d_6c63, // "fmlc"
    schema: SCHEMA,
    migrations: &[],
};

/// Ids kept of each operator. Ten a minute, each for 24 hours and the skew at both ends, are 14,500: within
/// the rate it is never reached.
const MOST: i64 = 16_384;

const SCHEMA: &str = "
    CREATE TABLE seen (
        id TEXT PRIMARY KEY NOT NULL,
        operator TEXT NOT NULL,
        -- Milliseconds since 1970, as signed.
        expires INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX seen_operator ON seen (operator);
    CREATE TABLE marks (
        only INTEGER PRIMARY KEY CHECK (only = 0),
        -- The latest `issued` of all that were taken.
        issued INTEGER NOT NULL,
        -- The latest `expires` of all ids that were dropped.
        forgotten INTEGER NOT NULL
    ) STRICT;
    INSERT INTO marks VALUES (0, -9223372036854775808, -9223372036854775808);
";

#[derive(Debug, thiserror::Error)]
pub enum SeenError {
    #[error("ids of commands {}: {}", .path.display(), disk::told(.path, .source))]
    Io { path: PathBuf, source: std::io::Error },
    #[error("ids of commands {}: {}", .path.display(), disk::told_by_sqlite(.path, .source))]
    Database { path: PathBuf, source: rusqlite::Error },
    #[error("ids of commands {}: {what}; without it, commands of the last 24 hours could be replayed. Move it away once they have expired", .path.display())]
    Damaged { path: PathBuf, what: String },
}

/// What became of an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remembered {
    /// New, and on the disk.
    New,
    Seen,
    /// Expires so early that it may have been dropped.
    Forgotten,
    /// The operator has too many.
    Full,
}

pub struct Seen {
    connection: Connection,
    path: PathBuf,
    latest: Option<Timestamp>,
}

impl Seen {
    /// Opens the file, made with mode 0600 where it is missing.
    pub fn open(state: &StateDirectory) -> Result<Self, SeenError> {
        let path = state
            .private(NAME)
            .map_err(|source| SeenError::Io { path: state.file(NAME), source })?;
        let open = || -> Result<Connection, Trouble> {
            let connection = KIND.open(&path, true)?;
            database::check(&connection)?;
            Ok(connection)
        };
        let connection = open().map_err(|trouble| match trouble {
            Trouble::Unfit(what) => SeenError::Damaged { path: path.clone(), what },
            Trouble::Sqlite(source) => SeenError::Database { path: path.clone(), source },
        })?;
        let mut seen = Self { connection, path, latest: None };
        seen.latest = seen.read_latest().map_err(|e| seen.error(e))?;
        Ok(seen)
    }

    /// The latest time at which a command that was taken had been issued.
    pub fn latest(&self) -> Option<Timestamp> {
        self.latest
    }

    /// Whether the command was taken before, or may have been.
    pub fn look(&self, id: &CommandId, expires: Timestamp) -> Result<Remembered, SeenError> {
        look(&self.connection, id, expires).map_err(|e| self.error(e))
    }

    /// Writes the id down, durably, before anything is done by it. Drops what has expired by `now`.
    pub fn remember(
        &mut self,
        id: &CommandId,
        operator: &str,
        issued: Timestamp,
        expires: Timestamp,
        now: Timestamp,
    ) -> Result<Remembered, SeenError> {
        let path = self.path.clone();
        let remembered = remember(&mut self.connection, id, operator, issued, expires, now)
            .map_err(|source| SeenError::Database { path, source })?;
        if remembered == Remembered::New {
            self.latest = self.latest.max(Some(issued));
        }
        Ok(remembered)
    }

    fn read_latest(&self) -> rusqlite::Result<Option<Timestamp>> {
        let issued = self.connection.query_row("SELECT issued FROM marks", [], |row| row.get(0))?;
        Ok(Timestamp::from_millisecond(issued).ok())
    }

    fn error(&self, source: rusqlite::Error) -> SeenError {
        SeenError::Database { path: self.path.clone(), source }
    }
}

fn look(
    connection: &Connection,
    id: &CommandId,
    expires: Timestamp,
) -> rusqlite::Result<Remembered> {
    let mut query = connection.prepare("SELECT 1 FROM seen WHERE id = ?1")?;
    if query.query_row([id.as_str()], |_| Ok(())).optional()?.is_some() {
        return Ok(Remembered::Seen);
    }
    let mut query = connection.prepare("SELECT forgotten FROM marks")?;
    let forgotten: i64 = query.query_row([], |row| row.get(0))?;
    let gone = expires.as_millisecond() <= forgotten;
    Ok(if gone { Remembered::Forgotten } else { Remembered::New })
}

fn remember(
    connection: &mut Connection,
    id: &CommandId,
    operator: &str,
    issued: Timestamp,
    expires: Timestamp,
    now: Timestamp,
) -> rusqlite::Result<Remembered> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found = look(&transaction, id, expires)?;
    if found != Remembered::New {
        return Ok(found);
    }
    // One millisecond more for what `as_millisecond` cuts off.
    let until = now.as_millisecond().saturating_sub(SKEW.as_millis() as i64 + 1);
    transaction.execute(
        "UPDATE marks SET issued = max(issued, ?1), forgotten = max(forgotten,
            coalesce((SELECT max(expires) FROM seen WHERE expires < ?2), forgotten))",
        params![issued.as_millisecond(), until],
    )?;
    transaction.execute("DELETE FROM seen WHERE expires < ?1", [until])?;
    let kept: i64 = transaction.query_row(
        "SELECT count(*) FROM seen WHERE operator = ?1",
        [operator],
        |row| row.get(0),
    )?;
    if kept >= MOST {
        return Ok(Remembered::Full);
    }
    transaction.execute(
        "INSERT INTO seen (id, operator, expires) VALUES (?1, ?2, ?3)",
        params![id.as_str(), operator, expires.as_millisecond()],
    )?;
    transaction.commit()?;
    Ok(Remembered::New)
}
