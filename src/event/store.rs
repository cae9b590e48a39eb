//! The database `outbox.db`: head of each key's chain, and the events not yet acknowledged.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OptionalExtension};

use crate::system::state::StateDirectory;

pub const NAME: &str = "outbox.db";

/// "fmlr"; marks the file as ours.
const APPLICATION: i32 = 0x666d_6c72;
const FORMAT: i32 = 2;
/// Pages of 4 KiB in the journal before they move into the database.
const JOURNAL_PAGES: i32 = 256;
/// How long one process waits for another's transaction.
const BUSY: Duration = Duration::from_secs(10);

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
";

/// The outbox's own clock, as last noted (age.rs).
const AGE: &str = "
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
const MIGRATION: &str = "
    ALTER TABLE chain ADD COLUMN successor TEXT;
    ALTER TABLE outbox ADD COLUMN recorded INTEGER NOT NULL DEFAULT 0;
";

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("outbox {}: {source}", .path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("outbox {}: {source}", .path.display())]
    Database { path: PathBuf, source: rusqlite::Error },
    #[error("outbox {}: the disk is full; nothing stored was lost, this event was not taken", .path.display())]
    Full { path: PathBuf },
    #[error("outbox {}: {what}; move it away: the next start then begins a new chain with a new key, for which the old one vouches, and what was not delivered is lost", .path.display())]
    Damaged { path: PathBuf, what: String },
}

impl StoreError {
    pub(super) fn of(path: &Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full { path },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Damaged { path, what: source.to_string() }
            }
            _ => Self::Database { path, source },
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
    let connection =
        connect(&path, durability).map_err(|source| StoreError::of(&path, source))??;
    Ok((connection, path))
}

/// Reads the whole database and says whether it is sound. It must be there.
pub fn verify(state: &StateDirectory) -> Result<(), StoreError> {
    open(state, Durability::Full).map(drop)
}

fn connect(
    path: &Path,
    durability: Durability,
) -> rusqlite::Result<Result<Connection, StoreError>> {
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    let synchronous = if durability == Durability::Full { "full" } else { "normal" };
    connection.pragma_update(None, "synchronous", synchronous)?;
    // A small disk must not be filled by the journal alone: with SQLite's own 1000 pages it would be,
    // and then never emptied, for only a commit that succeeds empties it.
    connection.pragma_update(None, "wal_autocheckpoint", JOURNAL_PAGES)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // What was delivered or dropped does not linger in the file.
    connection.pragma_update(None, "secure_delete", true)?;
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let number = |name| transaction.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let damaged = |what: String| Ok(Err(StoreError::Damaged { path: path.to_owned(), what }));
    match (number("application_id")?, number("user_version")?) {
        (0, 0) => {
            let tables: i64 =
                transaction
                    .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
            if tables != 0 {
                return damaged("is somebody else's database".to_owned());
            }
            transaction.execute_batch(SCHEMA)?;
            transaction.execute_batch(AGE)?;
            transaction.pragma_update(None, "application_id", APPLICATION)?;
            transaction.pragma_update(None, "user_version", FORMAT)?;
        }
        (APPLICATION, 1) => {
            transaction.execute_batch(MIGRATION)?;
            transaction.execute_batch(AGE)?;
            transaction.pragma_update(None, "user_version", FORMAT)?;
        }
        // Once for each start is enough, and reading a large outbox whole takes time.
        (APPLICATION, FORMAT) if durability == Durability::Relaxed => {}
        (APPLICATION, FORMAT) => {
            let mut check = transaction.prepare("PRAGMA quick_check(1)")?;
            let verdict: Option<String> = check.query_row([], |row| row.get(0)).optional()?;
            if verdict.as_deref() != Some("ok") {
                return damaged(verdict.unwrap_or_default());
            }
        }
        (APPLICATION, version) => {
            return damaged(format!("has format {version}, this program knows {FORMAT}"));
        }
        _ => return damaged("is somebody else's database".to_owned()),
    }
    transaction.commit()?;
    Ok(Ok(connection))
}

/// Moves the journal into the database and gives its room back to the disk, as far as readers let it.
pub(super) fn empty_journal(connection: &Connection) {
    let emptied = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    if let Err(error) = emptied {
        log::debug!("the outbox's journal stays: {error}");
    }
}
