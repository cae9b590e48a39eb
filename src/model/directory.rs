//! A bundle's directory: opened once, listed once, each file read once, through descriptors only.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Dir, FileType, Mode, OFlags, fstat, open, openat};
use rustix::io::Errno;

/// Most files in a bundle.
const COUNT_LIMIT: usize = 256;

/// An open directory of files.
#[derive(Debug)]
pub struct Directory(OwnedFd);

/// Why a directory or a file of it cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    #[error("cannot open the directory: {0}")]
    Open(Errno),
    #[error("cannot list the directory: {0}")]
    List(Errno),
    #[error("it holds more than {COUNT_LIMIT} files")]
    TooMany,
    #[error("{0}: the name is not UTF-8")]
    Name(String),
    #[error("{file}: is missing")]
    Missing { file: String },
    #[error("{file}: is a symbolic link")]
    SymbolicLink { file: String },
    #[error("{file}: is not a regular file")]
    NotRegular { file: String },
    #[error("{file}: is larger than {limit} bytes")]
    TooLarge { file: String, limit: u64 },
    #[error("{file}: {source}")]
    Io { file: String, source: std::io::Error },
}

impl Directory {
    pub fn open(path: &Path) -> Result<Self, DirectoryError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        open(path, flags, Mode::empty()).map(Self).map_err(DirectoryError::Open)
    }

    /// The names of all entries, of whatever kind.
    pub fn list(&self) -> Result<BTreeSet<String>, DirectoryError> {
        let mut names = BTreeSet::new();
        for entry in Dir::read_from(&self.0).map_err(DirectoryError::List)? {
            let entry = entry.map_err(DirectoryError::List)?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            if names.len() == COUNT_LIMIT {
                return Err(DirectoryError::TooMany);
            }
            match name.to_str() {
                Ok(name) => names.insert(name.to_owned()),
                Err(_) => return Err(DirectoryError::Name(name.to_string_lossy().into_owned())),
            };
        }
        Ok(names)
    }

    /// Reads a regular file of at most `limit` bytes, following no link.
    pub fn read(&self, file: &str, limit: u64) -> Result<Vec<u8>, DirectoryError> {
        let name = || file.escape_debug().to_string();
        // NONBLOCK: opening a FIFO must not wait for somebody to write to it.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let descriptor =
            openat(&self.0, file, flags, Mode::empty()).map_err(|error| match error {
                Errno::LOOP => DirectoryError::SymbolicLink { file: name() },
                Errno::NOENT => DirectoryError::Missing { file: name() },
                Errno::NXIO => DirectoryError::NotRegular { file: name() }, // a socket
                error => DirectoryError::Io { file: name(), source: error.into() },
            })?;
        let io = |source| DirectoryError::Io { file: name(), source };
        let stat = fstat(&descriptor).map_err(|error| io(error.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(DirectoryError::NotRegular { file: name() });
        }
        let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
        let too_large = || DirectoryError::TooLarge { file: name(), limit };
        if size > limit {
            return Err(too_large());
        }
        let mut bytes = Vec::with_capacity(size as usize + 1);
        File::from(descriptor).take(limit + 1).read_to_end(&mut bytes).map_err(io)?;
        if bytes.len() as u64 > limit {
            return Err(too_large()); // it grew while it was read
        }
        Ok(bytes)
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
