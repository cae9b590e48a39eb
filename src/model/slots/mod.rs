//! Two slots for installed bundles, below `models/` in the state directory, and one file that says which
//! of them boots.
//!
//! `slots.json` is the only pointer. It is replaced whole (written beside, synced, renamed, folder synced),
//! and only when all that it points to is complete on the disk and was verified as it lies there. A slot is
//! written only while nothing points to it. So at every instant a start finds a whole bundle that was verified:
//! the new one, the one before, or the factory's.

mod boot;
mod disk;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod fault;
mod figures;
mod install;
mod record;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

pub use boot::BootError;
pub use boot::{Booted, Origin, chosen, open_slot};
pub use figures::{Agreement, Cost, Costs, Figures, Names};
pub use install::{Admission, By, InstallError, Installed, RollbackError};
pub use record::{Identity, Kind, Outcome, Place, Record, Refused, Slot, Why};

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};

use crate::system::disk::told as disk_trouble;
use crate::system::state::StateDirectory;
use disk::Disk;

/// Folder in the state directory.
const FOLDER: &str = "models";
/// The pointer, and what it is while it is written.
const POINTER: &str = "slots.json";
const UNFINISHED: &str = ".slots.json.new";
const LOCK: &str = "lock";
/// Largest pointer, in bytes; a full one has about 40 KiB.
const POINTER_LIMIT: u64 = 256 * 1024;
/// Starts on trial without a confirmation, after which the one before runs.
const ATTEMPTS: u32 = 3;

/// The slots cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SlotsError {
    #[error("{}: {}", .path.display(), disk_trouble(.path, .source))]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: damaged ({why}); installed models are not used before the next installation", .path.display())]
    Damaged { path: PathBuf, why: String },
}

/// The slots, with nobody else at them.
#[derive(Debug)]
pub struct Slots {
    root: PathBuf,
    disk: Disk,
    record: Record,
    /// Why the pointer could not be read.
    damaged: Option<String>,
    /// Held until this is dropped.
    _lock: File,
}

impl Slots {
    /// Opens the slots of a device; waits while another process installs or boots.
    pub fn open(state: &StateDirectory) -> Result<Self, SlotsError> {
        Self::with_disk(state, Disk::default())
    }

    fn with_disk(state: &StateDirectory, disk: Disk) -> Result<Self, SlotsError> {
        let root = state.file(FOLDER);
        let io = |source| SlotsError::Io { path: root.clone(), source };
        disk.make_folder(&root).map_err(io)?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(root.join(LOCK))
            .map_err(io)?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|error| io(error.into()))?;
        let (record, damaged) = match read(&root) {
            Ok(record) => (record.unwrap_or_default(), None),
            Err(SlotsError::Damaged { why, .. }) => (Record::default(), Some(why)),
            Err(error) => return Err(error),
        };
        Ok(Self { root, disk, record, damaged, _lock: lock })
    }

    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The folder of a slot's bundle.
    pub fn folder(&self, place: Place) -> PathBuf {
        self.root.join(place.name())
    }

    /// The bundle on trial has proved itself; `false` if none of that digest is on trial.
    pub fn confirm(&mut self, digest: &str) -> Result<bool, SlotsError> {
        self.on_trial(digest, |record| record.confirm(Timestamp::now()))
    }

    /// The bundle on trial is no good: the one before boots, and this one is never tried again.
    pub fn give_up(&mut self, digest: &str, reason: &str) -> Result<bool, SlotsError> {
        self.on_trial(digest, |record| record.fall_back(reason, Timestamp::now()))
    }

    /// A bundle on trial was taken into use without a start of the daemon: counted as one.
    pub fn started(&mut self, digest: &str) -> Result<bool, SlotsError> {
        self.on_trial(digest, |record| {
            if let Some(Slot { trial: Some(starts), .. }) = &mut record.current {
                *starts += 1;
            }
        })
    }

    /// The daemon ended in good order: this start was no failed one.
    pub fn stopped(&mut self, digest: &str) -> Result<bool, SlotsError> {
        self.on_trial(digest, |record| {
            if let Some(Slot { trial: Some(starts), .. }) = &mut record.current {
                *starts = starts.saturating_sub(1);
            }
        })
    }

    fn on_trial(
        &mut self,
        digest: &str,
        change: impl FnOnce(&mut Record),
    ) -> Result<bool, SlotsError> {
        let is = |slot: &Slot| slot.trial.is_some() && slot.model.digest == digest;
        if !self.record.current.as_ref().is_some_and(is) {
            return Ok(false);
        }
        self.change(change).map(|()| true)
    }

    /// Changes the record, on the disk first.
    fn change(&mut self, change: impl FnOnce(&mut Record)) -> Result<(), SlotsError> {
        let mut next = self.record.clone();
        change(&mut next);
        next.serial += 1;
        self.write(&next)
            .map_err(|source| SlotsError::Io { path: self.root.join(POINTER), source })?;
        self.record = next;
        self.damaged = None;
        Ok(())
    }

    fn write(&self, record: &Record) -> io::Result<()> {
        let unfinished = self.root.join(UNFINISHED);
        self.disk.remove_file(&unfinished)?;
        self.disk.write(&unfinished, &serde_json::to_vec(record)?)?;
        self.disk.rename(&unfinished, &self.root.join(POINTER))?;
        self.disk.sync_folder(&self.root)
    }
}

/// The record as it lies there, for whoever only wants to look; `None` where nothing was ever installed.
pub fn look(state: &Path) -> Result<Option<Record>, SlotsError> {
    read(&state.join(FOLDER))
}

/// The folder of a slot's bundle, for whoever only wants to look.
pub fn folder(state: &Path, place: Place) -> PathBuf {
    state.join(FOLDER).join(place.name())
}

fn read(root: &Path) -> Result<Option<Record>, SlotsError> {
    let path = root.join(POINTER);
    let bytes = match File::open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file.and_then(|file| {
            let mut bytes = Vec::new();
            file.take(POINTER_LIMIT + 1).read_to_end(&mut bytes).map(|_| bytes)
        }),
    };
    let bytes = bytes.map_err(|source| SlotsError::Io { path: path.clone(), source })?;
    let damaged = |why: String| SlotsError::Damaged { path: path.clone(), why };
    if bytes.len() as u64 > POINTER_LIMIT {
        return Err(damaged(format!("larger than {POINTER_LIMIT} bytes")));
    }
    let record: Record =
        serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    if record.v != 1 {
        return Err(damaged(format!("format {}", record.v)));
    }
    Ok(Some(record))
}
