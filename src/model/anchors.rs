//! Trust anchors: the public keys whose signatures make a bundle one to be run.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::public_key::{PublicKey, PublicKeyError};

/// Largest anchor file, in bytes; a P-384 key has 215.
const FILE_LIMIT: u64 = 16 * 1024;
/// Most anchors in one directory.
const COUNT_LIMIT: usize = 64;

/// The keys that may sign models, at least one.
#[derive(Debug, Clone)]
pub struct TrustAnchors(Vec<Anchor>);

/// A trusted key, and the file it came from.
#[derive(Debug, Clone)]
pub struct Anchor {
    pub file: PathBuf,
    pub key: PublicKey,
}

/// Why there is nothing to trust; each message names the file or folder.
#[derive(Debug, thiserror::Error)]
pub enum AnchorError {
    #[error("trust anchors {}: no such folder; make it and put the PEM public key of whom you let sign models into it, as NAME.pub", .directory.display())]
    NoDirectory { directory: PathBuf },
    #[error("trust anchors {}: no *.pub file in it; put the PEM public key of whom you let sign models there, as NAME.pub", .directory.display())]
    Empty { directory: PathBuf },
    #[error("trust anchors {}: more than {COUNT_LIMIT} *.pub files", .directory.display())]
    TooMany { directory: PathBuf },
    #[error("trust anchor {}: {source}", .path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("trust anchor {}: not a regular file of at most {FILE_LIMIT} bytes of text", .path.display())]
    NotAKeyFile { path: PathBuf },
    #[error("trust anchor {}: {source}; replace it or take it away", .path.display())]
    Invalid { path: PathBuf, source: PublicKeyError },
}

impl TrustAnchors {
    /// Reads all `*.pub` of a `trust.d` directory, in name order. One that cannot be read is an
    /// error: an operator who put it there relies on it.
    pub fn load(directory: &Path) -> Result<Self, AnchorError> {
        let unreadable = |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::NotFound => {
                AnchorError::NoDirectory { directory: directory.to_owned() }
            }
            _ => AnchorError::Unreadable { path: directory.to_owned(), source },
        };
        let mut files = Vec::new();
        for entry in std::fs::read_dir(directory).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            if path.extension().is_some_and(|extension| extension == "pub") {
                if files.len() == COUNT_LIMIT {
                    return Err(AnchorError::TooMany { directory: directory.to_owned() });
                }
                files.push(path);
            }
        }
        if files.is_empty() {
            return Err(AnchorError::Empty { directory: directory.to_owned() });
        }
        files.sort();
        files.iter().map(|file| Anchor::read(file)).collect::<Result<_, _>>().map(Self)
    }

    /// Takes these keys and no others; `None` if there are none.
    pub fn new(anchors: Vec<Anchor>) -> Option<Self> {
        (!anchors.is_empty()).then_some(Self(anchors))
    }

    pub fn iter(&self) -> impl Iterator<Item = &Anchor> {
        self.0.iter()
    }
}

impl Anchor {
    /// Reads one PEM public key.
    pub fn read(path: &Path) -> Result<Self, AnchorError> {
        let unreadable = |source| AnchorError::Unreadable { path: path.to_owned(), source };
        let not_a_key = || AnchorError::NotAKeyFile { path: path.to_owned() };
        // Ask before opening: a FIFO would make the open wait for a writer.
        if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
            return Err(not_a_key());
        }
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(unreadable)?;
        file.take(FILE_LIMIT + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        let pem = String::from_utf8(bytes).map_err(|_| not_a_key())?;
        if pem.len() as u64 > FILE_LIMIT {
            return Err(not_a_key());
        }
        match PublicKey::from_pem(&pem) {
            Ok(key) => Ok(Self { file: path.to_owned(), key }),
            Err(source) => Err(AnchorError::Invalid { path: path.to_owned(), source }),
        }
    }

    /// The file's name, for people.
    pub fn name(&self) -> String {
        self.file.file_name().unwrap_or(self.file.as_os_str()).to_string_lossy().into_owned()
    }
}
