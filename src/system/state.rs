//! The state directory: `$STATE_DIRECTORY`, else `/var/lib/familiar`.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::disk;

/// The folder that keeps keys, gallery and outbox.
#[derive(Debug, Clone)]
pub struct StateDirectory(PathBuf);

#[derive(Debug, thiserror::Error)]
#[error(
    "cannot make the state directory {}: {}; or set STATE_DIRECTORY to a folder this user may write",
    .path.display(), disk::told(.path, .source)
)]
pub struct StateError {
    path: PathBuf,
    source: std::io::Error,
}

impl StateDirectory {
    /// Finds the directory and makes it with mode 0700 if it is missing.
    pub fn open() -> Result<Self, StateError> {
        Self::at(Self::locate())
    }

    /// The directory as it is or would be, for readers: nothing is made.
    pub fn there() -> Self {
        Self(Self::locate())
    }

    /// Where it is, or would be.
    pub fn locate() -> PathBuf {
        // systemd separates several by colons; the first is ours.
        match std::env::var("STATE_DIRECTORY") {
            Ok(value) if !value.is_empty() => {
                PathBuf::from(value.split(':').next().unwrap_or_default())
            }
            _ => PathBuf::from("/var/lib/familiar"),
        }
    }

    /// The same for a given path.
    pub fn at(path: PathBuf) -> Result<Self, StateError> {
        match std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path) {
            Ok(()) => Ok(Self(path)),
            Err(source) => Err(StateError { path, source }),
        }
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Makes sure that a file is there and nobody else may touch it: mode 0600 before a database opens it,
    /// whose journal files take the same mode. A wider mode is an error.
    ///
    /// One that is there is not opened: to close it again would drop the locks that SQLite holds on it
    /// for this process (POSIX, fcntl(2)), and another process could remove the journal under it.
    pub fn private(&self, name: &str) -> std::io::Result<PathBuf> {
        let path = self.file(name);
        let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        match made {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let mode = std::fs::metadata(&path)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            let message = format!("mode {mode:04o} lets others at it; chmod 0600");
            return Err(std::io::Error::new(std::io::ErrorKind::PermissionDenied, message));
        }
        Ok(path)
    }

    /// Puts a file there, mode 0600, durably, whole or not at all, in place of the one before.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        let temporary = self.file(&format!(".{name}.{:016x}", fastrand::u64(..)));
        let write = || {
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&temporary)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            std::fs::rename(&temporary, self.file(name))?;
            self.sync()
        };
        write().inspect_err(|_| drop(std::fs::remove_file(&temporary)))
    }

    /// Removes a file, durably; one that is not there is none.
    pub fn remove(&self, name: &str) -> std::io::Result<()> {
        match std::fs::remove_file(self.file(name)) {
            Ok(()) => self.sync(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Makes names that were made, changed or removed durable.
    pub fn sync(&self) -> std::io::Result<()> {
        std::fs::File::open(&self.0)?.sync_all()
    }
}
