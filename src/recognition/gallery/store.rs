//! The SQLite file below the gallery: opening it, its tables of sealed records, transactions.

use std::collections::HashMap;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ring::digest;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior, params};

use super::GalleryError;
use super::migrate;
use super::record::{LookRecord, PersonRecord};
use super::seal::{FORMAT, Place, SealingKey};
use super::transform::Transform;
use crate::system::secret;
use crate::system::state::StateDirectory;

pub(super) const FILE: &str = "gallery.db";
pub(super) const KEY: &str = "gallery-key";

/// `application_id` in the file's header: "famG".
const APPLICATION: i64 = 0x6661_6D47;

/// How long one process waits for another's transaction; they last milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

// No index: a damaged one would hide rows that the census has seen.
const TABLES: &str = "
    CREATE TABLE census (row INTEGER PRIMARY KEY CHECK (row = 0), sealed BLOB NOT NULL) STRICT;
    CREATE TABLE person (row INTEGER PRIMARY KEY, sealed BLOB NOT NULL) STRICT;
    CREATE TABLE look (row INTEGER PRIMARY KEY, person INTEGER NOT NULL, sealed BLOB NOT NULL) STRICT;
";

#[derive(Debug)]
pub(super) struct Store {
    connection: Connection,
    key: SealingKey,
    path: PathBuf,
}

impl Store {
    pub(super) fn open(state: &StateDirectory) -> Result<Self, GalleryError> {
        let path = state.file(FILE);
        // The store first, then the key: whoever makes both makes the key first.
        let exists = match path.symlink_metadata() {
            Ok(_) => true,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
            Err(source) => return Err(GalleryError::Io { path, source }),
        };
        let key = match secret::read(state, KEY)? {
            Some(secret) => SealingKey::parse(&secret)?,
            None if exists => return Err(GalleryError::KeyMissing { store: path }),
            None => make_key(state)?,
        };
        owner_only(&path, exists)?;

        // Without CREATE: a store that vanished meanwhile is an error, not a new one with mode 0644.
        let connection = Connection::open_with_flags(
            &path,
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        connection.busy_timeout(PATIENCE)?;
        write_ahead(&connection)?;
        connection.execute_batch(
            "PRAGMA synchronous = FULL;      -- a commit that returned survives power loss
             PRAGMA secure_delete = ON;      -- what is deleted is overwritten
             PRAGMA temp_store = MEMORY;
             PRAGMA trusted_schema = OFF;
             PRAGMA cell_size_check = ON;",
        )?;
        let mut store = Self { connection, key, path };
        store.prepare()?;
        Ok(store)
    }

    /// A store that is nowhere but in memory, under a key that nobody has.
    pub(super) fn empty() -> Result<Self, GalleryError> {
        let key = SealingKey::parse(SealingKey::generate()?.as_bytes())?;
        let connection = Connection::open_in_memory()?;
        let mut store = Self { connection, key, path: PathBuf::from(FILE) };
        store.prepare()?;
        Ok(store)
    }

    /// Makes the tables of a new store; checks format and key of an existing one.
    fn prepare(&mut self) -> Result<(), GalleryError> {
        let number = |tx: &Transaction<'_>, name| tx.pragma_query_value(None, name, |r| r.get(0));
        let tx = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (application, format): (i64, i64) =
            (number(&tx, "application_id")?, number(&tx, "user_version")?);
        let tables = Tables { connection: &tx, key: &self.key, path: &self.path };
        match (application, format) {
            (0, 0) => {
                tx.execute_batch(TABLES)?;
                tx.pragma_update(None, "application_id", APPLICATION)?;
                tx.pragma_update(None, "user_version", FORMAT)?;
                tables.take_census()?;
                tx.commit()?;
            }
            (APPLICATION, FORMAT) => tables.check_census()?,
            (
                APPLICATION,
                migrate::PLAIN
                | migrate::TURNED
                | migrate::TURNED_WIPE_DUE
                | migrate::WITHOUT_LOOKALIKES
                | migrate::WITHOUT_LOOKALIKES_WIPE_DUE,
            ) => {
                migrate::to_this_format(&tables, format)?;
                tx.pragma_update(None, "user_version", migrate::WIPE_DUE)?;
                tx.commit()?;
                self.settle_wipe()?;
            }
            // Another process migrates or erases, or was stopped while it did.
            (APPLICATION, migrate::WIPE_DUE) => {
                tables.check_census()?;
                drop(tx);
                self.settle_wipe()?;
            }
            (_, found) => {
                let store = self.path.clone();
                return Err(GalleryError::Format { store, found, known: FORMAT });
            }
        }
        Ok(())
    }

    /// [`Self::write`], and no byte of what `work` deleted is left behind, sealed though it was: a crash between
    /// the two leaves a store that is wiped when it is next opened. Says whether `work` did delete anything.
    pub(super) fn delete(
        &mut self,
        work: impl FnOnce(&Tables<'_>) -> Result<bool, GalleryError>,
    ) -> Result<bool, GalleryError> {
        let deleted = self.write(|tables| {
            let deleted = work(tables)?;
            if deleted {
                tables.connection.pragma_update(None, "user_version", migrate::WIPE_DUE)?;
            }
            Ok(deleted)
        })?;
        if deleted {
            self.settle_wipe()?;
        }
        Ok(deleted)
    }

    fn settle_wipe(&self) -> Result<(), GalleryError> {
        self.wipe()?;
        self.connection.pragma_update(None, "user_version", FORMAT)?;
        Ok(())
    }

    pub(super) fn transform(&self) -> &Arc<Transform> {
        self.key.transform()
    }

    /// Reads within one snapshot.
    pub(super) fn read<T>(
        &self,
        work: impl FnOnce(&Tables<'_>) -> Result<T, GalleryError>,
    ) -> Result<T, GalleryError> {
        let tx = Transaction::new_unchecked(&self.connection, TransactionBehavior::Deferred)?;
        let tables = Tables { connection: &tx, key: &self.key, path: &self.path };
        tables.check_census()?;
        work(&tables)
    }

    /// Reads and writes within one transaction, which is undone if `work` fails.
    pub(super) fn write<T>(
        &mut self,
        work: impl FnOnce(&Tables<'_>) -> Result<T, GalleryError>,
    ) -> Result<T, GalleryError> {
        let tx = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let tables = Tables { connection: &tx, key: &self.key, path: &self.path };
        tables.check_census()?;
        let result = work(&tables)?;
        tables.take_census()?;
        tx.commit()?;
        Ok(result)
    }

    /// Wipes what was deleted from the files. `secure_delete` alone is not enough: SQLite leaves copies of
    /// cells in the free space of pages that it rebalances. So the file is written anew from the rows there
    /// are, and the write-ahead log is emptied. Waits for readers.
    pub(super) fn wipe(&self) -> Result<(), GalleryError> {
        self.connection.execute_batch("VACUUM")?;
        let busy: i64 =
            self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
        if busy == 0 { Ok(()) } else { Err(GalleryError::Busy { store: self.path.clone() }) }
    }

    /// Changes of other connections, changes of this one.
    pub(super) fn generation(&self) -> Result<(i64, u64), GalleryError> {
        let others = self.connection.pragma_query_value(None, "data_version", |r| r.get(0))?;
        Ok((others, self.connection.total_changes()))
    }
}

/// The tables within a transaction.
pub(super) struct Tables<'a> {
    pub connection: &'a Connection,
    pub key: &'a SealingKey,
    pub path: &'a Path,
}

impl Tables<'_> {
    pub(super) fn people(&self) -> Result<Vec<(i64, PersonRecord)>, GalleryError> {
        let mut statement = self.connection.prepare("SELECT row, sealed FROM person")?;
        let mut rows = statement.query([])?;
        let mut people = Vec::new();
        while let Some(row) = rows.next()? {
            let id = row.get(0)?;
            let plain =
                self.key.open(Place::Person { row: id }, row.get_ref(1)?.as_blob_or_empty());
            let record = plain.and_then(|plain| PersonRecord::decode(&plain));
            people.push((id, record.ok_or(GalleryError::Damaged { what: "a person's record" })?));
        }
        Ok(people)
    }

    /// Everybody's looks by their person's (or anchor's) row, oldest first.
    pub(super) fn all_looks(&self) -> Result<HashMap<i64, Vec<LookRecord>>, GalleryError> {
        let mut statement =
            self.connection.prepare("SELECT row, sealed, person FROM look ORDER BY row")?;
        let mut rows = statement.query([])?;
        let mut looks: HashMap<i64, Vec<LookRecord>> = HashMap::new();
        while let Some(row) = rows.next()? {
            let person = row.get(2)?;
            looks.entry(person).or_default().push(self.look(row, person)?);
        }
        for looks in looks.values_mut() {
            looks.sort_by_key(|look| look.added);
        }
        Ok(looks)
    }

    /// One person's looks, oldest first.
    pub(super) fn looks(&self, person: i64) -> Result<Vec<LookRecord>, GalleryError> {
        Ok(self.numbered_looks(person)?.into_iter().map(|(_, look)| look).collect())
    }

    /// The same with their rows.
    pub(super) fn numbered_looks(
        &self,
        person: i64,
    ) -> Result<Vec<(i64, LookRecord)>, GalleryError> {
        let mut statement = self
            .connection
            .prepare("SELECT row, sealed FROM look WHERE person = ?1 ORDER BY row")?;
        let mut rows = statement.query([person])?;
        let mut looks = Vec::new();
        while let Some(row) = rows.next()? {
            looks.push((row.get(0)?, self.look(row, person)?));
        }
        looks.sort_by_key(|(row, look)| (look.added, *row));
        Ok(looks)
    }

    fn look(&self, row: &rusqlite::Row<'_>, person: i64) -> Result<LookRecord, GalleryError> {
        let place = Place::Look { row: row.get(0)?, person };
        let plain = self.key.open(place, row.get_ref(1)?.as_blob_or_empty());
        plain
            .and_then(|plain| LookRecord::decode(&plain))
            .ok_or(GalleryError::Damaged { what: "a template" })
    }

    pub(super) fn insert_person(&self, record: &PersonRecord) -> Result<i64, GalleryError> {
        let row = self.key.random_row()?;
        let sealed = self.seal_person(row, record)?;
        self.connection
            .execute("INSERT INTO person (row, sealed) VALUES (?1, ?2)", params![row, sealed])?;
        Ok(row)
    }

    pub(super) fn replace_person(
        &self,
        row: i64,
        record: &PersonRecord,
    ) -> Result<(), GalleryError> {
        let sealed = self.seal_person(row, record)?;
        self.connection
            .execute("UPDATE person SET sealed = ?2 WHERE row = ?1", params![row, sealed])?;
        Ok(())
    }

    pub(super) fn insert_look(&self, person: i64, look: &LookRecord) -> Result<(), GalleryError> {
        let row = self.key.random_row()?;
        let sealed = self.key.seal(Place::Look { row, person }, &look.encode())?;
        self.connection.execute(
            "INSERT INTO look (row, person, sealed) VALUES (?1, ?2, ?3)",
            params![row, person, sealed],
        )?;
        Ok(())
    }

    pub(super) fn delete_looks(&self, person: i64) -> Result<(), GalleryError> {
        self.connection.execute("DELETE FROM look WHERE person = ?1", [person])?;
        Ok(())
    }

    /// Says whether there was this look of this person.
    pub(super) fn delete_look(&self, row: i64, person: i64) -> Result<bool, GalleryError> {
        let deleted = self
            .connection
            .execute("DELETE FROM look WHERE row = ?1 AND person = ?2", params![row, person])?;
        Ok(deleted > 0)
    }

    pub(super) fn delete_person(&self, row: i64) -> Result<(), GalleryError> {
        self.delete_looks(row)?;
        self.connection.execute("DELETE FROM person WHERE row = ?1", [row])?;
        Ok(())
    }

    fn seal_person(&self, row: i64, record: &PersonRecord) -> Result<Vec<u8>, GalleryError> {
        let plain =
            record.encode().map_err(|_| GalleryError::Damaged { what: "a person's record" })?;
        self.key.seal(Place::Person { row }, &plain)
    }

    /// Seals the digest over all rows, so that no row can be added, taken away or put back from before.
    pub(super) fn take_census(&self) -> Result<(), GalleryError> {
        let sealed = self.key.seal(Place::Census, self.census()?.as_ref())?;
        self.connection
            .execute("INSERT OR REPLACE INTO census (row, sealed) VALUES (0, ?1)", [sealed])?;
        Ok(())
    }

    /// Also tells whether the key is the one this store was made with.
    fn check_census(&self) -> Result<(), GalleryError> {
        self.check_census_as(FORMAT)
    }

    /// The same for a store of another format.
    pub(super) fn check_census_as(&self, format: i64) -> Result<(), GalleryError> {
        let sealed: Vec<u8> =
            self.connection
                .query_row("SELECT sealed FROM census WHERE row = 0", [], |r| r.get(0))?;
        let Some(expected) = self.key.open_as(format, Place::Census, &sealed) else {
            return Err(GalleryError::WrongKey { store: self.path.to_owned() });
        };
        if self.census()?.as_ref() != expected.as_slice() {
            return Err(GalleryError::Damaged { what: "the digest over all records" });
        }
        Ok(())
    }

    pub(super) fn census(&self) -> Result<digest::Digest, GalleryError> {
        let mut context = digest::Context::new(&digest::SHA256);
        for table in [
            "SELECT row, row, sealed FROM person ORDER BY row",
            "SELECT row, person, sealed FROM look ORDER BY row",
        ] {
            context.update(table.as_bytes());
            let mut statement = self.connection.prepare(table)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let sealed = row.get_ref(2)?.as_blob_or_empty();
                context.update(&row.get::<_, i64>(0)?.to_le_bytes());
                context.update(&row.get::<_, i64>(1)?.to_le_bytes());
                context.update(&(sealed.len() as u64).to_le_bytes());
                context.update(sealed);
            }
        }
        Ok(context.finish())
    }
}

trait BlobOrEmpty<'a> {
    /// The bytes; a value of another type opens as little as an empty one.
    fn as_blob_or_empty(&self) -> &'a [u8];
}

impl<'a> BlobOrEmpty<'a> for rusqlite::types::ValueRef<'a> {
    fn as_blob_or_empty(&self) -> &'a [u8] {
        self.as_blob().unwrap_or_default()
    }
}

/// Makes a key; if another process was faster, its key.
fn make_key(state: &StateDirectory) -> Result<SealingKey, GalleryError> {
    let text = SealingKey::generate()?;
    match secret::create(state, KEY, text.as_bytes()) {
        Ok(()) => SealingKey::parse(text.as_bytes()),
        Err(error) => match secret::read(state, KEY)? {
            Some(other) => SealingKey::parse(&other),
            None => Err(error.into()),
        },
    }
}

/// Makes the file with mode 0600 if it is missing (SQLite gives its log and index the same mode), and
/// takes the rights of others away where somebody gave them.
fn owner_only(path: &Path, exists: bool) -> Result<(), GalleryError> {
    let io = |source| GalleryError::Io { path: path.to_owned(), source };
    if !exists {
        // Opened only if this makes it: closing a file drops this process's SQLite locks on it.
        match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(io(error)),
        }
    }
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        let Ok(metadata) = std::fs::metadata(&name) else { continue };
        if metadata.permissions().mode() & 0o077 != 0 {
            std::fs::set_permissions(&name, std::fs::Permissions::from_mode(0o600)).map_err(io)?;
            log::warn!("{}: others could read it; mode set to 0600", name.display());
        }
    }
    Ok(())
}

/// Switches to write-ahead logging. Two processes that make a store at once may meet here, and SQLite does not wait then.
fn write_ahead(connection: &Connection) -> Result<(), GalleryError> {
    let mut attempts = 0;
    loop {
        let outcome = connection
            .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0));
        match outcome {
            Ok(_) => return Ok(()),
            Err(error) if attempts == 200 || !is_busy(&error) => return Err(error.into()),
            Err(_) => attempts += 1,
        }
        std::thread::sleep(Duration::from_millis(25));
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked)
    )
}
