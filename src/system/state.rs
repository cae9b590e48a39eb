//! The state directory: `$STATE_DIRECTORY`, else `/var/lib/familiar`.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The folder that keeps keys, gallery and outbox.
#[derive(Debug, Clone)]
pub struct StateDirectory(PathBuf);

#[derive(Debug, thiserror::Error)]
#[error("cannot make the state directory {}: {source}; set STATE_DIRECTORY to a folder this user may write", .path.display())]
pub struct StateError {
    path: PathBuf,
    source: std::io::Error,
}

impl StateDirectory {
    /// Finds the directory and makes it with mode 0700 if it is missing.
    pub fn open() -> Result<Self, StateError> {
        // systemd separates several by colons; the first is ours.
        let path = match std::env::var("STATE_DIRECTORY") {
            Ok(value) if !value.is_empty() => {
                PathBuf::from(value.split(':').next().unwrap_or_default())
            }
            _ => PathBuf::from("/var/lib/familiar"),
        };
        Self::at(path)
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
    pub fn private(&self, name: &str) -> std::io::Result<PathBuf> {
        let path = self.file(name);
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)?;
        let mode = file.metadata()?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            let message = format!("mode {mode:04o} lets others at it; chmod 0600");
            return Err(std::io::Error::new(std::io::ErrorKind::PermissionDenied, message));
        }
        Ok(path)
    }

    /// Puts a file there, mode 0600, whole or not at all, in place of the one before.
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
            std::fs::rename(&temporary, self.file(name))
        };
        write().inspect_err(|_| drop(std::fs::remove_file(&temporary)))
    }
}
