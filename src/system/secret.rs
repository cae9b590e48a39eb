//! Secrets: systemd credentials, else files of mode 0600 in the state directory.

use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::state::StateDirectory;

/// Largest secret that is read, in bytes.
const LIMIT: u64 = 64 * 1024;

/// The bytes of a secret; wiped when dropped.
pub type Secret = Zeroizing<Vec<u8>>;

#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("secret {}: {source}", .path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("secret {}: mode {mode:04o} lets others read it; chmod 0600", .path.display())]
    TooOpen { path: PathBuf, mode: u32 },
    #[error("secret {}: not a regular file of at most {LIMIT} bytes", .path.display())]
    NotAFile { path: PathBuf },
}

/// Reads the secret `name` from `$CREDENTIALS_DIRECTORY`, else from the state directory; `None` if
/// it is in neither.
pub fn read(state: &StateDirectory, name: &str) -> Result<Option<Secret>, SecretError> {
    if let Some(directory) = std::env::var_os("CREDENTIALS_DIRECTORY") {
        // systemd gives credentials mode 0400 or 0440 in a folder that only the service may enter.
        if let Some(secret) = read_file(&Path::new(&directory).join(name), 0o007)? {
            return Ok(Some(secret));
        }
    }
    read_file(&state.file(name), 0o077)
}

/// Writes a new secret into the state directory, mode 0600, durably; an existing one is an error.
pub fn create(state: &StateDirectory, name: &str, bytes: &[u8]) -> Result<(), SecretError> {
    let path = state.file(name);
    let write = || -> std::io::Result<()> {
        // Whole or not at all: a crash in the middle must not leave half a key behind.
        let temporary = state.file(&format!(".{name}.{}", std::process::id()));
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)?;
        let linked = file
            .write_all(bytes)
            .and_then(|()| file.sync_all())
            .and_then(|()| std::fs::hard_link(&temporary, &path));
        std::fs::remove_file(&temporary)?;
        linked?;
        std::fs::File::open(state.path())?.sync_all()
    };
    write().map_err(|source| SecretError::Io { path: path.clone(), source })
}

/// Reads a file that only its owner may read, if it exists.
pub fn read_file(path: &Path, forbidden: u32) -> Result<Option<Secret>, SecretError> {
    let io = |source| SecretError::Io { path: path.to_owned(), source };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    let metadata = file.metadata().map_err(io)?;
    if !metadata.is_file() || metadata.len() > LIMIT {
        return Err(SecretError::NotAFile { path: path.to_owned() });
    }
    let mode = metadata.mode() & 0o777;
    if mode & forbidden != 0 {
        return Err(SecretError::TooOpen { path: path.to_owned(), mode });
    }
    // Room for the whole from the start: growing would leave copies behind that nothing wipes.
    let mut bytes = Zeroizing::new(Vec::with_capacity(metadata.len() as usize + 1));
    file.take(LIMIT).read_to_end(&mut bytes).map_err(io)?;
    Ok(Some(bytes))
}
