//! The database `outbox.db`: head of each key's chain, and the events not yet acknowledged.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::system::database::{self, Kind, Trouble};
use crate::system::disk;
use crate::system::state::StateDirectory;

pub const NAME: &str = "outbox.db";

/// How long a reader waits for another's transaction.
const PATIENCE: Duration = Duration::from_secs(10);

/// Pages of 4 KiB in the journal before they move into the database.
const JOURNAL_PAGES: i32 = 256;

const KIND: Kind = Kind {
    application: 0x666d_6c72, // "fmlr"
    schema: SCHEMA,
    migrations: &[FROM_1],
};

const SCHEMA: &str = "
    -- One chain for each device key. It outlives the events: the next one is linked to it even when
    -- the outbox is empty.
    CREATE TABLE chain (
        kid TEXT PRIMARY KEY NOT NULL,
        public BLOB NOT NULL CHECK (length(public) = 32),
        seq INTEGER NOT NULL CHECK (seq >= 0),
        link TEXT,
        -- The key that took this one's place; a key with a successor signs no event any more.
        successor TEXT
    ) STRICT;
    -- AUTOINCREMENT: a position is never used twice, so a position that was acknowledged late can
    -- never name another event.
    CREATE TABLE outbox (
        position INTEGER PRIMARY KEY AUTOINCREMENT,
        kid TEXT NOT NULL REFERENCES chain (kid),
        seq INTEGER NOT NULL,
        -- What an overflow event tells of; absent for the others.
        lost_from INTEGER,
        message TEXT NOT NULL,
        -- When, in seconds by the outbox's own clock (age.rs).
        recorded INTEGER NOT NULL DEFAULT 0,
        UNIQUE (kid, seq)
    ) STRICT;
    -- The outbox's own clock, as last noted (age.rs).
    CREATE TABLE age (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        now INTEGER NOT NULL,
        boot TEXT NOT NULL,
        up INTEGER NOT NULL,
        date INTEGER,
        dated INTEGER NOT NULL,
        started INTEGER
    ) STRICT;
";

/// From format 1, of version 0.1.0. What lies there is as old as the outbox's clock: it begins now.
const FROM_1: &str = "
    ALTER TABLE chain ADD COLUMN successor TEXT;
    ALTER TABLE outbox ADD COLUMN recorded INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE age (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        now INTEGER NOT NULL,
        boot TEXT NOT NULL,
        up INTEGER NOT NULL,
        date INTEGER,
        dated INTEGER NOT NULL,
        started INTEGER
    ) STRICT;
";

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("outbox {}: {}", .path.display(), disk::told(.path, .source))]
    Io { path: PathBuf, source: std::io::Error },
    #[error("outbox {}: {}", .path.display(), disk::told_by_sqlite(.path, .source))]
    Database { path: PathBuf, source: rusqlite::Error },
    #[error("outbox {}: the disk is full: make room on it; nothing stored was lost, this event was not taken", .path.display())]
    Full { path: PathBuf },
    #[error("outbox {}: {what}; move it away: the next start then begins a new chain with a new key, for which the old one vouches, and what was not delivered is lost", .path.display())]
    Damaged { path: PathBuf, what: String },
}

impl StoreError {
    pub(super) fn of(path: &Path, source: rusqlite::Error) -> Self {
        Self::from_trouble(path, source.into())
    }

    fn from_trouble(path: &Path, trouble: Trouble) -> Self {
        let path = path.to_owned();
        match trouble {
            Trouble::Unfit(what) => Self::Damaged { path, what },
            Trouble::Sqlite(source) if source.sqlite_error_code() == Some(ErrorCode::DiskFull) => {
                Self::Full { path }
            }
            Trouble::Sqlite(source) => Self::Database { path, source },
        }
    }
}

/// When a transaction is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    /// At its end: what was recorded survives a power cut.
    Full,
    /// Soon: a lost removal only means that an event is sent twice.
    Relaxed,
}

/// Opens the database, made with mode 0600 where it is missing.
pub(super) fn open(
    state: &StateDirectory,
    durability: Durability,
) -> Result<(Connection, PathBuf), StoreError> {
    let path =
        state.private(NAME).map_err(|source| StoreError::Io { path: state.file(NAME), source })?;
    let connection = KIND
        .open(&path, durability == Durability::Full)
        .map_err(|trouble| StoreError::from_trouble(&path, trouble))?;
    settle(&connection).map_err(|source| StoreError::of(&path, source))?;
    Ok((connection, path))
}

/// Opens the database as it is, for readers: nothing is made, and nothing brought up to date.
pub(super) fn look(state: &StateDirectory) -> Result<Connection, StoreError> {
    let path = state.file(NAME);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(&path, flags)
        .and_then(|connection| connection.busy_timeout(PATIENCE).map(|()| connection))
        .map_err(|source| StoreError::of(&path, source))
}

fn settle(connection: &Connection) -> rusqlite::Result<()> {
    // A small disk must not be filled by the journal alone: with SQLite's own 1000 pages it would be,
    // and then never emptied, for only a commit that succeeds empties it.
    connection.pragma_update(None, "wal_autocheckpoint", JOURNAL_PAGES)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // What was delivered or dropped does not linger in the file.
    connection.pragma_update(None, "secure_delete", true)
}

/// Reads the whole database and says whether it is sound; once at each start is enough, for a large outbox
/// takes time. One that is not there is made.
pub fn verify(state: &StateDirectory) -> Result<(), StoreError> {
    let (connection, path) = open(state, Durability::Relaxed)?;
    database::check(&connection).map_err(|trouble| StoreError::from_trouble(&path, trouble))
}
