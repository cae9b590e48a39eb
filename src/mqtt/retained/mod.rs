//! What brokers were ever given to keep by this device: a record of every retained topic, made durable before anything
//! is published on it, so that all of it can be cleared one day.
//!
//! Devices get other names, prefixes and brokers. What was published under a former name, a presence with a person's
//! name among it, would otherwise stay at the broker for ever. The record, `published.db` in the state directory, holds
//! topics and key thumbprints and nothing of what was published. [`clear`] has the broker forget.

pub mod clear;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, params};

use crate::recognition::PersonId;
use crate::system::database::{self, Kind, Trouble};
use crate::system::state::StateDirectory;

const NAME: &str = "published.db";
/// Topics on record at which no further person is published: the fullest gallery under eight names.
const LIMIT: i64 = 131_072;

const KIND: Kind = Kind {
    application: 0x666d_7274, // "fmrt"
    schema: "
    CREATE TABLE retained (
        -- Host of the broker: another port or scheme is the same one.
        broker TEXT NOT NULL,
        topic TEXT NOT NULL,
        -- PREFIX/DEVICE that published it.
        place TEXT NOT NULL,
        -- 0: an earlier version may have published it, or another device.
        certain INTEGER NOT NULL,
        PRIMARY KEY (broker, topic)
    ) STRICT, WITHOUT ROWID;
    -- Thumbprints of the keys that this device ever published by.
    CREATE TABLE keys (kid TEXT PRIMARY KEY NOT NULL) STRICT, WITHOUT ROWID;
    ",
    migrations: &[],
};

#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("{}: {source}", .path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{}: {source}", .path.display())]
    Database { path: PathBuf, source: rusqlite::Error },
    #[error("{}: {what}; move it away and restart; a new one is created, and what was published under former names has to be cleared by hand", .path.display())]
    Unfit { path: PathBuf, what: String },
    #[error("{}: holds {LIMIT} topics, and no more are published; clear those of former names or brokers (`familiar check` names them)", .path.display())]
    Full { path: PathBuf },
}

impl RecordError {
    fn of(path: &Path, trouble: Trouble) -> Self {
        let path = path.to_owned();
        match trouble {
            Trouble::Sqlite(source) => Self::Database { path, source },
            Trouble::Unfit(what) => Self::Unfit { path, what },
        }
    }
}

/// A retained topic that this device published on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// See [`super::Broker::name`].
    pub broker: String,
    pub topic: String,
    /// `PREFIX/DEVICE` that published it.
    pub place: String,
    /// `false`: it is only known that an earlier version may have, and another device as well.
    pub certain: bool,
}

impl Kept {
    /// What of the topic is below the place; `None`: it is elsewhere, as discovery is.
    pub fn below(&self) -> Option<&str> {
        self.topic.strip_prefix(&self.place)?.strip_prefix('/')
    }

    pub fn is_of(&self, person: &PersonId) -> bool {
        self.below().and_then(|rest| rest.strip_prefix("person/")) == Some(person.as_str())
    }
}

/// The record, open.
#[derive(Debug)]
pub struct Record {
    connection: Connection,
    path: PathBuf,
    /// It was not there before.
    new: bool,
}

impl Record {
    /// Opens it, or makes it where there is none.
    pub fn open(state: &StateDirectory) -> Result<Self, RecordError> {
        let new = !state.file(NAME).exists();
        let path = state
            .private(NAME)
            .map_err(|source| RecordError::Io { path: state.file(NAME), source })?;
        let connection =
            KIND.open(&path, true).map_err(|trouble| RecordError::of(&path, trouble))?;
        let record = Self { connection, path, new };
        // A person's id does not linger in the file.
        record.run(|connection| connection.pragma_update(None, "secure_delete", true))?;
        Ok(record)
    }

    /// Opens it where there is one.
    pub fn find(state: &StateDirectory) -> Result<Option<Self>, RecordError> {
        if state.file(NAME).exists() { Self::open(state).map(Some) } else { Ok(None) }
    }

    /// Whether this made it.
    pub fn is_new(&self) -> bool {
        self.new
    }

    /// The same, but in place of one that cannot be read a new one is begun; the old is kept as `published.db.unfit`.
    pub fn open_or_renew(state: &StateDirectory) -> Result<Self, RecordError> {
        let error = match Self::open(state) {
            Err(error @ RecordError::Unfit { .. }) => error,
            outcome => return outcome,
        };
        log::error!("{error}");
        let path = state.file(NAME);
        let moved = std::fs::rename(&path, state.file(&format!("{NAME}.unfit")))
            .and_then(|()| state.remove(&format!("{NAME}-wal")))
            .and_then(|()| state.remove(&format!("{NAME}-shm")));
        moved.map_err(|source| RecordError::Io { path, source })?;
        Self::open(state)
    }

    /// Notes topics, durably, all or none. People's are refused where there are too many.
    pub fn note(&self, topics: &[Kept]) -> Result<(), RecordError> {
        let of_person = |kept: &Kept| kept.below().is_some_and(|rest| rest.starts_with("person/"));
        if topics.iter().any(of_person) {
            let count: i64 = self.run(|connection| {
                connection.query_row("SELECT count(*) FROM retained", [], |row| row.get(0))
            })?;
            if count + topics.len() as i64 > LIMIT {
                return Err(RecordError::Full { path: self.path.clone() });
            }
        }
        self.run(|connection| {
            let transaction = connection.unchecked_transaction()?;
            for Kept { broker, topic, place, certain } in topics {
                transaction
                    .prepare_cached("INSERT OR REPLACE INTO retained VALUES (?1, ?2, ?3, ?4)")?
                    .execute(params![broker, topic, place, certain])?;
            }
            transaction.commit()
        })
    }

    /// Notes a key that is about to publish, durably.
    pub fn note_key(&self, kid: &str) -> Result<(), RecordError> {
        self.run(|connection| {
            connection.execute("INSERT OR IGNORE INTO keys VALUES (?1)", [kid]).map(drop)
        })
    }

    /// The broker no longer keeps these topics.
    pub fn remove<'a>(
        &self,
        broker: &str,
        topics: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), RecordError> {
        self.run(|connection| {
            let transaction = connection.unchecked_transaction()?;
            for topic in topics {
                transaction
                    .prepare_cached("DELETE FROM retained WHERE broker = ?1 AND topic = ?2")?
                    .execute([broker, topic])?;
            }
            transaction.commit()
        })?;
        database::empty_journal(&self.connection);
        Ok(())
    }

    /// Everything on record.
    pub fn all(&self) -> Result<Vec<Kept>, RecordError> {
        self.run(|connection| {
            connection
                .prepare("SELECT broker, topic, place, certain FROM retained")?
                .query_map([], |row| {
                    Ok(Kept {
                        broker: row.get(0)?,
                        topic: row.get(1)?,
                        place: row.get(2)?,
                        certain: row.get(3)?,
                    })
                })?
                .collect()
        })
    }

    /// Thumbprints of all keys that this device ever published by.
    pub fn keys(&self) -> Result<BTreeSet<String>, RecordError> {
        self.run(|connection| {
            connection.prepare("SELECT kid FROM keys")?.query_map([], |row| row.get(0))?.collect()
        })
    }

    fn run<T>(
        &self,
        ask: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, RecordError> {
        ask(&self.connection).map_err(|error| RecordError::of(&self.path, error.into()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn kept(broker: &str, topic: &str) -> Kept {
        let place = "familiar/porch".to_owned();
        Kept { broker: broker.to_owned(), topic: topic.to_owned(), place, certain: true }
    }

    /// Holds STA-13.
    #[test]
    fn topics_on_record_survive_restart_gone_when_cleared() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDirectory::at(folder.path().to_owned()).unwrap();
        assert!(Record::find(&state).unwrap().is_none() && !state.file(NAME).exists());
        let ada = kept("here", "familiar/porch/person/ada-quux");
        let record = Record::open(&state).unwrap();
        assert!(record.is_new());
        let all = [ada.clone(), kept("here", "familiar/porch/health"), kept("there", &ada.topic)];
        record.note(&all).unwrap();
        record.note(&all).unwrap();
        record.note_key("kid").unwrap();
        drop(record);

        let record = Record::find(&state).unwrap().unwrap();
        assert!(!record.is_new());
        assert_eq!(record.keys().unwrap(), BTreeSet::from(["kid".to_owned()]));
        let all = record.all().unwrap();
        assert_eq!(all.len(), 3);
        assert!(all.contains(&ada) && ada.is_of(&"ada-quux".parse().unwrap()));
        assert!(!ada.is_of(&"ada".parse().unwrap()));
        for broker in ["here", "there"] {
            record.remove(broker, [ada.topic.as_str()]).unwrap();
        }
        assert_eq!(record.all().unwrap(), [kept("here", "familiar/porch/health")]);
        for file in std::fs::read_dir(folder.path()).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            assert!(!bytes.windows(8).any(|bytes| bytes == b"ada-quux"));
        }
    }

    #[test]
    fn damaged_record_is_named_and_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDirectory::at(folder.path().to_owned()).unwrap();
        drop(Record::open(&state).unwrap());
        std::fs::write(state.file(NAME), b"no database".repeat(1000)).unwrap();
        let error = Record::open(&state).unwrap_err();
        assert!(matches!(error, RecordError::Unfit { .. }), "{error}");
        assert!(error.to_string().contains("published.db"), "{error}");
        let record = Record::open_or_renew(&state).unwrap();
        assert!(record.is_new() && record.all().unwrap().is_empty());
        assert!(state.file("published.db.unfit").exists());
    }

    #[test]
    fn full_record_takes_the_device_but_no_further_person() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDirectory::at(folder.path().to_owned()).unwrap();
        let record = Record::open(&state).unwrap();
        let person = |number: i64| kept("here", &format!("familiar/porch/person/{number}"));
        let many: Vec<Kept> = (0..LIMIT).map(person).collect();
        record.note(&many).unwrap();
        record.note(&[kept("here", "familiar/porch/health")]).unwrap();
        let refused = record.note(&[person(LIMIT)]);
        assert!(matches!(refused, Err(RecordError::Full { .. })), "{refused:?}");
    }
}
