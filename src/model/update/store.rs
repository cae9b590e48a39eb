//! What is trusted of a repository, on the disk: the bytes as they came, one file for each role.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::system::disk;
use crate::system::state::StateDirectory;

/// The last time at which the device knew what time it was.
const TIME: &str = "last-known-good-time";

/// Cannot read or write what is trusted.
#[derive(Debug, thiserror::Error)]
#[error("{}: {}", .path.display(), disk::told(.path, .source))]
pub struct StoreError {
    path: PathBuf,
    source: std::io::Error,
}

/// A folder of trusted metadata.
#[derive(Debug)]
pub struct Store(StateDirectory);

impl Store {
    /// Opens the folder; makes it where there is none.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let error =
            |error| StoreError { path: path.to_owned(), source: std::io::Error::other(error) };
        StateDirectory::at(path.to_owned()).map(Self).map_err(error)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The trusted file of a role; `None` where there is none.
    pub fn read(&self, role: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.read_file(&file(role))
    }

    /// Replaces it, durably, whole or not at all.
    pub fn write(&self, role: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.write_file(&file(role), bytes)
    }

    pub fn time(&self) -> Result<Option<Timestamp>, StoreError> {
        let text = self.read_file(TIME)?;
        // What cannot be read binds nobody: it is a bar to old metadata, not a key.
        Ok(text.and_then(|text| String::from_utf8(text).ok()?.trim().parse().ok()))
    }

    pub fn write_time(&self, time: Timestamp) -> Result<(), StoreError> {
        self.write_file(TIME, time.to_string().as_bytes())
    }

    fn read_file(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        match std::fs::read(self.0.file(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StoreError { path: self.0.file(name), source }),
        }
    }

    fn write_file(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let error = |source| StoreError { path: self.0.file(name), source };
        self.0.replace(name, bytes).map_err(error)
    }
}

fn file(role: &str) -> String {
    format!("{}.json", quote(role))
}

/// A name as one level of a path or an address: all but unreserved characters (RFC 3986 §2.3) as `%XX`.
pub fn quote(name: &str) -> String {
    name.bytes().fold(String::new(), |mut quoted, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            quoted.push(char::from(byte));
        } else {
            quoted.push('%');
            for half in [byte >> 4, byte & 15] {
                quoted.push(char::from(b"0123456789ABCDEF"[usize::from(half)]));
            }
        }
        quoted
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn role_names_stay_in_the_folder() {
        for (role, name) in [
            ("../x", "..%2Fx.json"),
            ("/etc/x", "%2Fetc%2Fx.json"),
            ("a?#", "a%3F%23.json"),
            ("ä", "%C3%A4.json"),
            ("..", "...json"),
            ("\0", "%00.json"),
        ] {
            assert_eq!(file(role), name);
        }
    }
}
