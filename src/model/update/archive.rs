//! A bundle in one archive: `tar --format=ustar`, flat. It is unpacked into memory and nowhere else, and
//! nothing of it is believed before the bundle's own signature holds.

use std::collections::BTreeMap;
use std::io::{self, Read};

use tar::{Archive, EntryType};

/// As for a bundle in a folder.
const COUNT_LIMIT: usize = 256;
const FILE_LIMIT: u64 = 512 << 20;
const TOTAL_LIMIT: u64 = 1 << 30;

/// Why an archive is not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("the archive cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("the archive holds more than {COUNT_LIMIT} files")]
    TooMany,
    #[error("{}: not a plain file name; a bundle has no folders", .0.escape_debug())]
    Name(String),
    #[error("{}: neither a file nor the folder itself (kind {:?}); pack with tar --format=ustar", .name.escape_debug(), .kind)]
    Kind { name: String, kind: EntryType },
    #[error("{}: twice in the archive", .0.escape_debug())]
    Twice(String),
    #[error("{}: with it the archive is larger than a bundle may be", .0.escape_debug())]
    TooLarge(String),
}

/// Name to content of the files in an archive.
pub fn unpack(archive: impl Read) -> Result<BTreeMap<String, Vec<u8>>, ArchiveError> {
    let mut archive = Archive::new(archive);
    let mut files = BTreeMap::new();
    let mut total = 0;
    // Raw: extension headers, which can rename and resize what follows, are entries, and refused.
    for entry in archive.entries()?.raw(true) {
        let mut entry = entry?;
        let path = entry.path_bytes().into_owned();
        let kind = entry.header().entry_type();
        let path = String::from_utf8(path).map_err(|error| {
            ArchiveError::Name(String::from_utf8_lossy(error.as_bytes()).into())
        })?;
        if kind == EntryType::Directory && (path == "./" || path == ".") {
            continue;
        }
        if kind != EntryType::Regular {
            return Err(ArchiveError::Kind { name: path, kind });
        }
        let name = path.strip_prefix("./").unwrap_or(&path);
        if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\\', '\0']) {
            return Err(ArchiveError::Name(path));
        }
        if files.contains_key(name) {
            return Err(ArchiveError::Twice(path));
        }
        if files.len() == COUNT_LIMIT {
            return Err(ArchiveError::TooMany);
        }
        let size = entry.size();
        total += size;
        if size > FILE_LIMIT || total > TOTAL_LIMIT {
            return Err(ArchiveError::TooLarge(path));
        }
        // No room is taken on the word of a header: it may be longer than the archive.
        let mut bytes = Vec::with_capacity(size.min(1 << 20) as usize);
        entry.by_ref().take(size).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != size {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        files.insert(name.to_owned(), bytes);
    }
    Ok(files)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn header(name: &[u8], kind: EntryType, size: u64) -> tar::Header {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(0o644);
        header.set_cksum();
        header
    }

    fn tar(entries: &[(&[u8], EntryType, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, kind, content) in entries {
            bytes.extend_from_slice(header(name, *kind, content.len() as u64).as_bytes());
            bytes.extend_from_slice(content);
            bytes.resize(bytes.len().next_multiple_of(512), 0);
        }
        bytes.resize(bytes.len() + 1024, 0);
        bytes
    }

    const FILE: EntryType = EntryType::Regular;

    #[test]
    fn flat_archive() {
        let bytes =
            tar(&[(b"./", EntryType::Directory, b""), (b"./a", FILE, b"1"), (b"b", FILE, b"22")]);
        let files = unpack(bytes.as_slice()).unwrap();
        assert_eq!(files.len(), 2);
        assert_eq!((files["a"].as_slice(), files["b"].as_slice()), (&b"1"[..], &b"22"[..]));
    }

    #[test]
    fn traversal() {
        for name in [
            &b"../a"[..],
            b"/etc/passwd",
            b"a/b",
            b"./../a",
            b"..",
            b".",
            b"./",
            b"",
            b"a\\b",
            b"././a",
            b"\xff",
        ] {
            let outcome = unpack(tar(&[(name, FILE, b"x")]).as_slice());
            assert!(matches!(outcome, Err(ArchiveError::Name(_))), "{name:?}: {outcome:?}");
        }
    }

    #[test]
    fn links_devices_and_extensions() {
        for kind in [
            EntryType::Symlink,
            EntryType::Link,
            EntryType::Directory,
            EntryType::Fifo,
            EntryType::Char,
            EntryType::Block,
            EntryType::Continuous,
            EntryType::GNULongName,
            EntryType::GNULongLink,
            EntryType::GNUSparse,
            EntryType::XHeader,
            EntryType::XGlobalHeader,
        ] {
            let outcome = unpack(tar(&[(b"a", kind, b""), (b"b", FILE, b"x")]).as_slice());
            assert!(matches!(outcome, Err(ArchiveError::Kind { .. })), "{kind:?}: {outcome:?}");
        }
    }

    #[test]
    fn bombs() {
        // Sizes that a header claims.
        for size in [FILE_LIMIT + 1, 1 << 40, u64::MAX >> 1] {
            let mut bytes = header(b"a", FILE, size).as_bytes().to_vec();
            bytes.resize(4096, 0);
            assert!(unpack(bytes.as_slice()).is_err(), "{size}");
        }
        // An honest size that never comes.
        let mut bytes = header(b"a", FILE, 100 << 20).as_bytes().to_vec();
        bytes.resize(4096, 0);
        assert!(matches!(unpack(bytes.as_slice()), Err(ArchiveError::Io(_))));
        // More files than a bundle has.
        let names: Vec<String> = (0..=COUNT_LIMIT).map(|number| number.to_string()).collect();
        let entries: Vec<(&[u8], EntryType, &[u8])> =
            names.iter().map(|name| (name.as_bytes(), FILE, &b""[..])).collect();
        assert!(matches!(unpack(tar(&entries).as_slice()), Err(ArchiveError::TooMany)));
        let twice = tar(&[(b"a", FILE, b"1"), (b"./a", FILE, b"2")]);
        assert!(matches!(unpack(twice.as_slice()), Err(ArchiveError::Twice(_))));
    }

    #[test]
    fn mutated_archives_never_panic() {
        let sound = tar(&[(b"a", FILE, &[7; 600]), (b"b", FILE, b"22")]);
        let mut random = fastrand::Rng::with_seed(11);
        for _ in 0..20_000 {
            let mut bytes = sound.clone();
            for _ in 0..random.usize(1..6) {
                let at = random.usize(..bytes.len());
                bytes[at] = random.u8(..);
            }
            bytes.truncate(random.usize(..=bytes.len()));
            drop(unpack(bytes.as_slice()));
        }
    }
}
