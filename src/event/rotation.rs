//! A new device key in place of the old one, and the way back to one whole key after any crash.
//!
//! The new key waits, durable, in `device-key.next`. One transaction of the outbox's database then names it
//! as the old key's successor: from that moment the ledger takes no event by the old key, and the new one
//! counts. Only then the file takes the old one's place, and the old private key is overwritten. What a
//! crash leaves undone is done by whoever opens the key next; a `device-key.next` that no transaction
//! names never counted and is wiped. All of it happens under the database's write lock.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use zeroize::Zeroizing;

use super::bounds::Limits;
use super::jwk::PublicKey;
use super::key::{DeviceKey, KeyError, NAME};
use super::ledger::{Ledger, LedgerError};
use super::payload::Context;
use super::store::{self, Durability, StoreError};
use super::vouch::{Last, Vouch};
use crate::config::DeviceName;
use crate::system::disk;
use crate::system::secret::{self, SecretError, Source};
use crate::system::state::StateDirectory;

/// The key to come.
const NEXT: &str = "device-key.next";
/// The key that was, until its bytes are overwritten.
const RETIRED: &str = "device-key.retired";
/// Thumbprints of the keys whose chains have begun, one a line: it tells a new key from one whose
/// database was lost.
const BEGUN: &str = "device-key.begun";
/// Size in bytes from which it begins anew: hundreds of keys.
const BEGUN_LIMIT: u64 = 32 * 1024;

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    pub old: PublicKey,
    pub new: PublicKey,
    /// Where the old key's chain ended; `None` if the device lost it.
    pub last: Option<Last>,
}

#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("{}: {}", .path.display(), disk::told(.path, .source))]
    Io { path: std::path::PathBuf, source: std::io::Error },
    #[error(
        "the device key is a systemd credential, which this program cannot replace; put the key into \
         the state directory as `{NAME}` (mode 0600) and take it out of the unit, rotate, and make a \
         credential of the new `{NAME}` (systemd-creds encrypt) where you want one"
    )]
    Credential,
    #[error(
        "`{NAME}` was replaced by {successor} before, and that key is not here: restore the newest \
         `{NAME}`, or move `{NAME}` and `outbox.db` away; consumers must then be told the new key"
    )]
    Rotated { successor: String },
}

/// The device's key and the ledger that signs with it, ready for events; the way to open both.
///
/// Makes the key on the first start, finishes a rotation that was cut short, and where the database was
/// lost, and with it the place in the chain, takes a new key that the old one vouches for: no number
/// comes twice. Call it again when [`Ledger::record`] says [`LedgerError::Rotated`].
pub fn open(
    state: &StateDirectory,
    context: Context,
    limits: Limits,
) -> Result<(Arc<DeviceKey>, Ledger), RotateError> {
    // Another process may rotate between the two steps; each of them is a moment, so twice is rare.
    for _ in 0..8 {
        let key = Arc::new(DeviceKey::open_or_create(state)?);
        match Ledger::open(state, key.clone(), context.clone(), limits) {
            Ok(ledger) => return Ok((key, ledger)),
            Err(LedgerError::ChainLost { .. }) => {
                log::error!(
                    "outbox.db was lost, and with it the place in the chain of key {} and what was not \
                     yet delivered; a new key takes its place, so that no number comes twice",
                    key.kid()
                );
                rotate(state, &context.device)?;
            }
            Err(LedgerError::Rotated { successor })
                if DeviceKey::open(state).is_ok_and(|now| now.kid() == key.kid()) =>
            {
                return Err(RotateError::Rotated { successor });
            }
            Err(LedgerError::Rotated { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(RotateError::Io {
        path: state.file(NAME),
        source: std::io::Error::other("was replaced again and again while it was opened"),
    })
}

/// Replaces the device key by a new one for which the old one vouches.
pub fn rotate(state: &StateDirectory, device: &DeviceName) -> Result<Rotation, RotateError> {
    settle(state)?;
    let (mut connection, path) = store::open(state, Durability::Full)?;
    let database = |source| RotateError::Store(StoreError::of(&path, source));
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(database)?;
    // Read under the lock: nobody else replaces it meanwhile.
    let old = DeviceKey::read(state)?;
    if old.is_credential() {
        return Err(RotateError::Credential);
    }
    let last = match head(&transaction, old.kid()).map_err(database)? {
        Some(Head { successor: Some(successor), .. }) => {
            return Err(RotateError::Rotated { successor });
        }
        Some(Head { last, .. }) => Some(last),
        None if has_begun(state, old.kid())? => None,
        None => Some(Last { seq: 0, link: None }),
    };
    let (new, pem) = DeviceKey::generate()?;
    let vouch = Vouch::new(&old, device, new.public(), last.clone());
    let text = Zeroizing::new(format!("{}{}", old.explanation(&vouch), pem.as_str()));
    secret::create(state, NEXT, text.as_bytes()).map_err(KeyError::from)?;
    step("next");
    let named = transaction
        .execute(
            "INSERT INTO chain (kid, public, seq, successor) VALUES (?1, ?2, 0, ?3)
             ON CONFLICT (kid) DO UPDATE SET successor = ?3",
            params![old.kid(), old.public().as_bytes(), new.kid()],
        )
        .and_then(|_| {
            transaction.execute(
                "INSERT INTO chain (kid, public, seq) VALUES (?1, ?2, 0)",
                params![new.kid(), new.public().as_bytes()],
            )
        })
        .and_then(|_| transaction.commit());
    if let Err(error) = named {
        // Unless the commit did succeed after all, it never counted: the next one to look decides.
        settle(state)?;
        return Err(database(error));
    }
    step("named");
    settle(state)?;
    Ok(Rotation { old: old.public().clone(), new: new.public().clone(), last })
}

/// Finishes or undoes a rotation that was cut short. Costs two looks at the file system if there is none.
pub(super) fn settle(state: &StateDirectory) -> Result<(), KeyError> {
    let (next, retired, current) = (state.file(NEXT), state.file(RETIRED), state.file(NAME));
    let present = |path: &Path| std::fs::symlink_metadata(path).is_ok();
    if !present(&next) && !present(&retired) {
        return Ok(());
    }
    let io = |source| KeyError::Secret(SecretError::Io { path: current.clone(), source });
    let (mut connection, path) = store::open(state, Durability::Full)?;
    let database = |source| KeyError::Store(StoreError::of(&path, source));
    // Held to the end: two that settle at once would wipe each other's key.
    let lock =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(database)?;
    if let Some(text) = secret::read_file(&next, 0o077)? {
        let new = DeviceKey::parse(&text, Source::State).ok();
        let old = match &new {
            Some(new) => predecessor(&lock, new.kid()).map_err(database)?,
            None => None,
        };
        let file = secret::read_file(&current, 0o077)?;
        let now = file.map(|text| DeviceKey::parse(&text, Source::State).ok());
        match (old, now) {
            // Named, so it counts: in the place of the old key, and of a file that is no key any more.
            (Some(old), now) if now.iter().flatten().all(|key| key.kid() == old) => {
                if now.is_some() && !same(&retired, &current) {
                    secret::wipe(&retired).map_err(io)?;
                    std::fs::hard_link(&current, &retired).map_err(io)?;
                }
                step("linked");
                std::fs::rename(&next, &current).map_err(io)?;
                state.sync().map_err(io)?;
                step("renamed");
            }
            // Somebody has put a third key there; which of them counts is not ours to say.
            (Some(_), _) => {
                log::warn!(
                    "{NEXT} waits for the key that it replaces, and `{NAME}` is another one"
                );
            }
            (None, _) => secret::wipe(&next).map_err(io)?,
        }
    }
    // The same file by two names is the key itself: then only the name goes.
    if same(&retired, &current) {
        std::fs::remove_file(&retired).map_err(io)?;
    } else {
        secret::wipe(&retired).map_err(io)?;
    }
    state.sync().map_err(io)?;
    drop(lock);
    Ok(())
}

/// The key that counts, for readers: a rotation that was cut short is taken into account, and left to the
/// daemon to finish.
pub(super) fn look(state: &StateDirectory) -> Result<DeviceKey, KeyError> {
    // First what waits: meanwhile it may take its place.
    let next = secret::read_file(&state.file(NEXT), 0o077)?;
    let current = DeviceKey::read(state);
    let Some(new) = next.and_then(|text| DeviceKey::parse(&text, Source::State).ok()) else {
        return current;
    };
    if !state.file(store::NAME).exists() {
        return current;
    }
    let connection = store::look(state)?;
    let database = |source| StoreError::of(&state.file(store::NAME), source);
    let old = predecessor(&connection, new.kid()).map_err(database)?;
    match (&current, old) {
        (Ok(now), Some(old)) if now.kid() == old && !now.is_credential() => Ok(new),
        (Err(KeyError::Missing | KeyError::Malformed), Some(_)) => Ok(new),
        _ => current,
    }
}

/// The key whose successor this one is, by the database.
fn predecessor(connection: &Connection, kid: &str) -> rusqlite::Result<Option<String>> {
    connection
        .query_row("SELECT kid FROM chain WHERE successor = ?1", [kid], |row| row.get(0))
        .optional()
}

fn same(a: &Path, b: &Path) -> bool {
    matches!((std::fs::metadata(a), std::fs::metadata(b)),
        (Ok(a), Ok(b)) if (a.dev(), a.ino()) == (b.dev(), b.ino()))
}

/// Between two steps, where a test may let the power fail.
#[cfg(not(test))]
fn step(_name: &str) {}
#[cfg(test)]
use tests::step;

struct Head {
    last: Last,
    successor: Option<String>,
}

fn head(connection: &Connection, kid: &str) -> rusqlite::Result<Option<Head>> {
    connection
        .query_row("SELECT seq, link, successor FROM chain WHERE kid = ?1", [kid], |row| {
            let last = Last { seq: row.get::<_, i64>(0)? as u64, link: row.get(1)? };
            Ok(Head { last, successor: row.get(2)? })
        })
        .optional()
}

/// Whether this key's chain has begun, as its own record says.
pub(super) fn has_begun(state: &StateDirectory, kid: &str) -> Result<bool, KeyError> {
    let text = secret::read_file(&state.file(BEGUN), 0o077)?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&text).lines().any(|line| line == kid))
}

/// Notes, durably, that this key's chain has begun. Before its first event.
pub(super) fn note_begun(state: &StateDirectory, kid: &str) -> Result<(), KeyError> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    if has_begun(state, kid)? {
        return Ok(());
    }
    let path = state.file(BEGUN);
    // Long ago began what nobody can have any more: a record that cannot grow for ever.
    if std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() > BEGUN_LIMIT) {
        secret::wipe(&path)
            .map_err(|source| KeyError::Secret(SecretError::Io { path: path.clone(), source }))?;
    }
    let write = || {
        // One small write at the end: processes that do so at once note the same.
        let mut file =
            std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
        file.write_all(format!("{kid}\n").as_bytes())?;
        file.sync_all()?;
        state.sync()
    };
    write().map_err(|source| KeyError::Secret(SecretError::Io { path: path.clone(), source }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use std::cell::Cell;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::config::CameraSource;
    use crate::event::jws::Envelope;
    use crate::event::vouch::MOST;
    use crate::event::{Fact, identity};

    thread_local!(static CUT: Cell<&'static str> = const { Cell::new("") });

    /// Unwinding drops the transaction as the end of the process would: rolled back.
    pub(super) fn step(name: &str) {
        assert!(CUT.get() != name, "the power fails at {name}");
    }

    fn porch() -> DeviceName {
        DeviceName::try_from("porch".to_owned()).unwrap()
    }

    fn context() -> Context {
        Context::new(porch(), &CameraSource::Device("video".into()), None)
    }

    fn fact() -> Fact {
        Fact::Erased { person: "ada".parse().unwrap(), time: jiff::Timestamp::now() }
    }

    fn names(state: &StateDirectory) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(state.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .filter(|name| !name.starts_with("outbox.db"))
            .collect();
        names.sort();
        names
    }

    /// Holds KEY-04.
    #[test]
    fn rotation_cut_short_at_each_step() {
        for (cut, rotated) in
            [("next", false), ("named", true), ("linked", true), ("renamed", true)]
        {
            let folder = tempfile::tempdir().unwrap();
            let state = StateDirectory::at(folder.path().to_owned()).unwrap();
            let (old, ledger) = open(&state, context(), Limits::default()).unwrap();
            ledger.record(&fact()).unwrap();
            let secret = std::fs::read(state.file(NAME)).unwrap();
            CUT.set(cut);
            catch_unwind(AssertUnwindSafe(|| rotate(&state, &porch()))).unwrap_err();
            CUT.set("");
            // Whoever still holds the old key signs with it, or is told; never both keys sign.
            assert_eq!(ledger.check_key().is_err(), rotated, "{cut}");
            match ledger.record(&fact()) {
                Ok(_) => assert!(!rotated, "{cut}"),
                Err(LedgerError::Rotated { .. }) => assert!(rotated, "{cut}"),
                Err(other) => panic!("{other}"),
            }
            // Who only looks sees the key that counts, and leaves all as it lies.
            let before = names(&state);
            let seen = DeviceKey::look(&state).unwrap();
            assert_eq!((seen.kid() != old.kid(), names(&state)), (rotated, before), "{cut}");
            let (key, ledger) = open(&state, context(), Limits::default()).unwrap();
            ledger.record(&fact()).unwrap();
            assert_eq!(key.kid(), seen.kid(), "{cut}");
            assert_eq!(names(&state), [NAME, BEGUN], "{cut}");
            assert_eq!(std::fs::read(state.file(NAME)).unwrap() != secret, rotated);
            // And it can be done after all.
            let done = rotate(&state, &porch()).unwrap();
            assert_eq!(done.old, *key.public());
            assert_eq!(DeviceKey::open(&state).unwrap().public(), &done.new);
        }
    }

    /// Holds KEY-02.
    #[test]
    fn identity_fits_whatever_the_names() {
        for (name, most) in [("porch", MOST), (&"d".repeat(64), MOST - 1)] {
            let folder = tempfile::tempdir().unwrap();
            let state = StateDirectory::at(folder.path().to_owned()).unwrap();
            let device = DeviceName::try_from(name.to_owned()).unwrap();
            for round in 0..8 {
                open(&state, context(), Limits::default()).unwrap().1.record(&fact()).unwrap();
                let key = DeviceKey::open(&state).unwrap();
                let message = key.identity(&device).unwrap();
                let met =
                    identity::introduction(Envelope::parse(message.as_str()).unwrap()).unwrap();
                let bytes = message.as_str().len();
                assert!(met.former.len() >= most.min(round), "{} in {bytes}", met.former.len());
                // A device of another name was never vouched for.
                let other = key.identity(&DeviceName::try_from("yard".to_owned()).unwrap());
                let other = Envelope::parse(other.unwrap().as_str()).unwrap();
                assert_eq!(identity::introduction(other).unwrap().former, []);
                // Long chains have long numbers.
                Connection::open(state.file(store::NAME))
                    .unwrap()
                    .execute("UPDATE chain SET seq = 4000000000000000000", [])
                    .unwrap();
                rotate(&state, &device).unwrap();
            }
        }
    }

    /// Holds KEY-04.
    #[test]
    fn key_that_counts_is_never_wiped() {
        // The power fails once the new key is named, and then the old key's file is gone, or no key any more.
        for left in [None, Some("no key")] {
            let folder = tempfile::tempdir().unwrap();
            let state = StateDirectory::at(folder.path().to_owned()).unwrap();
            let (old, _) = open(&state, context(), Limits::default()).unwrap();
            CUT.set("named");
            catch_unwind(AssertUnwindSafe(|| rotate(&state, &porch()))).unwrap_err();
            CUT.set("");
            std::fs::remove_file(state.file(NAME)).unwrap();
            if let Some(text) = left {
                secret::create(&state, NAME, text.as_bytes()).unwrap();
            }
            let (key, ledger) = open(&state, context(), Limits::default()).unwrap();
            assert_ne!(key.kid(), old.kid());
            ledger.record(&fact()).unwrap();
            let message = key.identity(&porch()).unwrap();
            let met = identity::introduction(Envelope::parse(message.as_str()).unwrap()).unwrap();
            assert_eq!(met.former[0].key, *old.public());
            assert_eq!(names(&state), [NAME, BEGUN]);
        }
    }

    #[test]
    fn old_key_file_restored() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDirectory::at(folder.path().to_owned()).unwrap();
        open(&state, context(), Limits::default()).unwrap();
        let old = std::fs::read(state.file(NAME)).unwrap();
        rotate(&state, &porch()).unwrap();
        std::fs::write(state.file(NAME), &old).unwrap();
        let refused = open(&state, context(), Limits::default()).unwrap_err();
        assert!(matches!(refused, RotateError::Rotated { .. }), "{refused}");
        // A second successor is not to be had.
        let refused = rotate(&state, &porch()).unwrap_err();
        assert!(matches!(refused, RotateError::Rotated { .. }), "{refused}");
    }

    /// Holds KEY-11.
    #[test]
    fn lost_database_begins_no_number_again() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDirectory::at(folder.path().to_owned()).unwrap();
        let (old, ledger) = open(&state, context(), Limits::default()).unwrap();
        ledger.record(&fact()).unwrap();
        drop(ledger);
        for name in ["outbox.db", "outbox.db-wal", "outbox.db-shm"] {
            let _ = std::fs::remove_file(state.file(name));
        }
        let refused = Ledger::open(&state, old.clone(), context(), Limits::default()).unwrap_err();
        assert!(matches!(refused, LedgerError::ChainLost { .. }), "{refused}");
        let (key, ledger) = open(&state, context(), Limits::default()).unwrap();
        assert_ne!(key.kid(), old.kid());
        ledger.record(&fact()).unwrap();
        let message = key.identity(&porch()).unwrap();
        let met = identity::introduction(Envelope::parse(message.as_str()).unwrap()).unwrap();
        assert_eq!(met.former[0].key, *old.public());
        assert_eq!(met.former[0].last, None);
        // Once is enough.
        assert_eq!(open(&state, context(), Limits::default()).unwrap().0.kid(), key.kid());
    }
}
