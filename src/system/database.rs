//! SQLite files of ours: known by their header, made and brought up to date, and looked at for damage.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};

/// How long one process waits for another's transaction.
const BUSY: Duration = Duration::from_secs(10);

/// What a file of one kind is known by and made of.
pub struct Kind {
    /// `application_id` in the header.
    pub application: i32,
    /// What makes an empty file one of the newest format.
    pub schema: &'static str,
    /// What makes a file of format 1 one of format 2, and so on; the newest format is one more than these.
    pub migrations: &'static [&'static str],
}

/// Why a file is not usable.
#[derive(Debug)]
pub enum Trouble {
    Sqlite(rusqlite::Error),
    /// Damaged, of a newer program, or somebody else's.
    Unfit(String),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Unfit(error.to_string())
            }
            _ => Self::Sqlite(error),
        }
    }
}

impl Kind {
    fn format(&self) -> i32 {
        self.migrations.len() as i32 + 1
    }

    /// Opens a file with a write-ahead log. Takes the write lock only to make it or to bring it up to date.
    /// With `durable`, what was committed survives a power cut; else it may be undone by one.
    pub fn open(&self, path: &Path, durable: bool) -> Result<Connection, Trouble> {
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(BUSY)?;
        // The daemon may write to its state directory alone (landlock.rs).
        connection.pragma_update(None, "temp_store", "memory")?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", if durable { "full" } else { "normal" })?;
        if header(&connection)? != (self.application, self.format()) {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            self.prepare(&transaction)?;
            transaction.commit()?;
        }
        Ok(connection)
    }

    fn prepare(&self, transaction: &Transaction<'_>) -> Result<(), Trouble> {
        let unfit = |what: String| Err(Trouble::Unfit(what));
        let newest = self.format();
        match header(transaction)? {
            (0, 0) => {
                let tables: i64 =
                    transaction
                        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
                if tables != 0 {
                    return unfit("is somebody else's database".to_owned());
                }
                transaction.execute_batch(self.schema)?;
                transaction.pragma_update(None, "application_id", self.application)?;
            }
            (application, format @ 1..) if application == self.application && format <= newest => {
                for migration in &self.migrations[format as usize - 1..] {
                    transaction.execute_batch(migration)?;
                }
            }
            (application, format) if application == self.application => {
                return unfit(format!("has format {format}, this program knows {newest}"));
            }
            _ => return unfit("is somebody else's database".to_owned()),
        }
        Ok(transaction.pragma_update(None, "user_version", newest)?)
    }
}

/// Reads the whole file and says whether it is sound. Others may write meanwhile.
pub fn check(connection: &Connection) -> Result<(), Trouble> {
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict == "ok" { Ok(()) } else { Err(Trouble::Unfit(verdict)) }
}

/// Moves the journal into the file and gives its room back to the disk, as far as readers let it.
pub fn empty_journal(connection: &Connection) {
    let emptied = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    if let Err(error) = emptied {
        log::debug!("a journal stays: {error}");
    }
}

/// `application_id` and `user_version`.
fn header(connection: &Connection) -> rusqlite::Result<(i32, i32)> {
    let number = |name| connection.pragma_query_value(None, name, |row| row.get(0));
    Ok((number("application_id")?, number("user_version")?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const KIND: Kind = Kind {
        application: 7,
        schema: "CREATE TABLE a (x INTEGER, y INTEGER); CREATE TABLE b (z INTEGER);",
        migrations: &["ALTER TABLE a ADD COLUMN y INTEGER;", "CREATE TABLE b (z INTEGER);"],
    };

    #[test]
    fn every_format_becomes_the_newest() {
        let folder = tempfile::tempdir().unwrap();
        for (format, old) in [
            (0, ""),
            (1, "CREATE TABLE a (x INTEGER);"),
            (2, "CREATE TABLE a (x INTEGER, y INTEGER);"),
            (3, KIND.schema),
        ] {
            let path = folder.path().join(format.to_string());
            let made = Connection::open(&path).unwrap();
            made.execute_batch(old).unwrap();
            if format > 0 {
                made.pragma_update(None, "application_id", 7).unwrap();
                made.pragma_update(None, "user_version", format).unwrap();
            }
            drop(made);
            for _ in 0..2 {
                let connection = KIND.open(&path, true).unwrap();
                connection.execute_batch("INSERT INTO a (x, y) SELECT 1, count(*) FROM b").unwrap();
                check(&connection).unwrap();
                assert_eq!(header(&connection).unwrap(), (7, 3));
            }
        }
    }

    #[test]
    fn others_files_are_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        for (application, format, text) in
            [(7, 4, "has format 4"), (8, 1, "somebody else"), (0, 0, "somebody else")]
        {
            let path = folder.path().join(format!("{application}-{format}"));
            let other = Connection::open(&path).unwrap();
            other.execute_batch("CREATE TABLE theirs (x INTEGER)").unwrap();
            other.pragma_update(None, "application_id", application).unwrap();
            other.pragma_update(None, "user_version", format).unwrap();
            let Err(Trouble::Unfit(what)) = KIND.open(&path, true) else { panic!("{text}") };
            assert!(what.contains(text), "{what}");
            assert_eq!(header(&other).unwrap(), (application, format));
        }
    }
}
