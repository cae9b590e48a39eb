//! Who may command the device: `operators.jwks` beside the configuration (contract §2).

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::event::KeyRing;
use crate::event::jwk::{self, JwkError};

/// Name of the file: a JWK set of public Ed25519 keys.
const NAME: &str = "operators.jwks";

#[derive(Debug, thiserror::Error)]
pub enum OperatorsError {
    #[error("operators {}: {source}", .path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("operators {}: not a regular file", .path.display())]
    NotAFile { path: PathBuf },
    #[error("operators {}: mode {mode:04o} lets others say who may command; chmod 0644", .path.display())]
    TooOpen { path: PathBuf, mode: u32 },
    #[error("operators {}: belongs to user {owner}, who is neither root nor the one who runs this; chown it", .path.display())]
    Owner { path: PathBuf, owner: u32 },
    #[error("operators {}: {source}", .path.display())]
    Malformed { path: PathBuf, source: JwkError },
}

/// Reads the keys of those who may command. No file, or an empty set: nobody.
///
/// What the file says is as good as who may write it, so it must belong to root or to this user, and
/// be writable by nobody else.
pub fn load(directory: &Path) -> Result<KeyRing, OperatorsError> {
    let path = directory.join(NAME);
    let Some(text) = read(&path)? else { return Ok(KeyRing::default()) };
    match KeyRing::from_json(&text) {
        Ok(keys) => Ok(keys),
        Err(JwkError::Empty) => Ok(KeyRing::default()),
        Err(source) => Err(OperatorsError::Malformed { path, source }),
    }
}

fn read(path: &Path) -> Result<Option<String>, OperatorsError> {
    let io = |source| OperatorsError::Io { path: path.to_owned(), source };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    // Of the open file, not of the path: nobody can exchange it in between.
    let metadata = file.metadata().map_err(io)?;
    let path = || path.to_owned();
    if !metadata.is_file() {
        return Err(OperatorsError::NotAFile { path: path() });
    }
    let mode = metadata.mode() & 0o777;
    if mode & 0o022 != 0 {
        return Err(OperatorsError::TooOpen { path: path(), mode });
    }
    let owner = metadata.uid();
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        return Err(OperatorsError::Owner { path: path(), owner });
    }
    let mut text = String::new();
    file.take(jwk::LIMIT as u64 + 1).read_to_string(&mut text).map_err(io)?;
    Ok(Some(text))
}
