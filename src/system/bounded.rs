//! Reading a file that somebody else may have made: a regular file, and no more of it than is sensible.

use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result};
use std::path::Path;

/// The bytes of a regular file of at most `limit` bytes. A larger one is not read, and a FIFO or a device not
/// opened, for it might never end.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let wrong = |what: String| Error::new(ErrorKind::InvalidData, what);
    let too_large = || wrong(format!("larger than {limit} bytes"));
    // Asked before opening: to open a FIFO waits for somebody to write to it.
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(wrong("not a regular file".to_owned()));
    }
    if metadata.len() > limit {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(metadata.len() as usize + 1);
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit { Err(too_large()) } else { Ok(bytes) }
}

/// The same of a file that holds UTF-8 text.
pub fn read_text(path: &Path, limit: u64) -> Result<String> {
    String::from_utf8(read(path, limit)?)
        .map_err(|_| Error::new(ErrorKind::InvalidData, "not UTF-8 text"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Holds ROB-13.
    #[test]
    fn no_more_than_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "abc").unwrap();
        assert_eq!(read(&path, 3).unwrap(), b"abc");
        assert_eq!(read_text(&path, 3).unwrap(), "abc");
        assert!(read(&path, 2).unwrap_err().to_string().contains("larger than 2 bytes"));
        std::fs::write(&path, [0xff]).unwrap();
        assert!(read_text(&path, 3).is_err());
    }

    /// Holds ROB-14.
    #[test]
    fn what_never_ends_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        for path in [fifo.as_path(), Path::new("/dev/zero"), folder.path()] {
            assert!(read(path, 10).unwrap_err().to_string().contains("not a regular file"));
        }
    }
}
