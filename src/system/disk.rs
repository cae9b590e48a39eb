//! What a disk or its rights refuse, in words that say what to do.

use std::io::{Error, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rusqlite::ffi;
use rustix::fs::StatVfsMountFlags;
use rustix::io::Errno;

use super::plain::in_words;

const FULL: &str = "the disk is full: make room on it";
const READ_ONLY: &str = "the file system is read-only: the kernel mounts a disk so that has failed (see `dmesg`); \
                         mount it for writing";
const BROKEN: &str = "see `dmesg`: a disk or an SD card that is worn out does that";

/// Why something could not be done with a file.
pub fn told(path: &Path, error: &Error) -> String {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOSPC) => FULL.to_owned(),
        Some(Errno::DQUOT) => "the disk quota is used up: make room".to_owned(),
        Some(Errno::ROFS) => READ_ONLY.to_owned(),
        Some(Errno::IO) => format!("the disk failed (input/output error); {BROKEN}"),
        Some(Errno::LOOP) => "is a symbolic link, which is not followed here".to_owned(),
        _ if error.kind() == ErrorKind::PermissionDenied => denied(path, error),
        _ => in_words(&error.to_string()).into_owned(),
    }
}

/// Why something could not be done with a database.
pub fn told_by_sqlite(path: &Path, error: &rusqlite::Error) -> String {
    let rusqlite::Error::SqliteFailure(ffi::Error { extended_code, .. }, _) = error else {
        return error.to_string();
    };
    let folder = path.parent().unwrap_or(path);
    match (extended_code & 0xff, *extended_code) {
        (ffi::SQLITE_FULL, _) => FULL.to_owned(),
        // Opening and writing fail by these names whatever the reason.
        (ffi::SQLITE_IOERR | ffi::SQLITE_CANTOPEN | ffi::SQLITE_READONLY, _)
            if is_read_only(folder) =>
        {
            READ_ONLY.to_owned()
        }
        (ffi::SQLITE_IOERR | ffi::SQLITE_CANTOPEN, _) if is_full(folder) => FULL.to_owned(),
        (ffi::SQLITE_IOERR, code) => {
            let what = match code {
                ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC => {
                    "the disk did not confirm that data was written (fsync)"
                }
                ffi::SQLITE_IOERR_WRITE | ffi::SQLITE_IOERR_TRUNCATE => {
                    "the disk failed while writing"
                }
                ffi::SQLITE_IOERR_READ | ffi::SQLITE_IOERR_SHORT_READ => {
                    "the disk failed while reading"
                }
                _ => "the disk failed",
            };
            format!("{what}; {BROKEN}")
        }
        (ffi::SQLITE_CANTOPEN | ffi::SQLITE_READONLY | ffi::SQLITE_PERM, _) => {
            denied(path, &Error::from(ErrorKind::PermissionDenied))
        }
        (ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED, _) => {
            "another process has kept it locked for too long; try again".to_owned()
        }
        _ => error.to_string(),
    }
}

/// Where a file belongs to somebody else, who that is and how to change it.
fn denied(path: &Path, error: &Error) -> String {
    let user = rustix::process::geteuid().as_raw();
    // The file itself, or the first folder above it that there is.
    let found = path.ancestors().find_map(|path| Some((path, path.symlink_metadata().ok()?.uid())));
    match found {
        Some((at, owner)) if owner != user && at == path => {
            let folder = path.parent().and_then(|folder| folder.metadata().ok());
            if folder.is_some_and(|folder| folder.uid() == user) {
                // Made by root in this user's folder, by a version that did so.
                format!(
                    "it belongs to user {owner}, and this is user {user}: `sudo chown {user} {}`",
                    path.display()
                )
            } else {
                format!(
                    "it belongs to user {owner}, and this is user {user}: run it as that user, or with sudo"
                )
            }
        }
        Some((at, owner)) if owner != user => {
            format!(
                "{} belongs to user {owner}, and this is user {user}: run it as that user, or with sudo",
                at.display()
            )
        }
        _ => in_words(&error.to_string()).into_owned(),
    }
}

fn is_read_only(folder: &Path) -> bool {
    rustix::fs::statvfs(folder).is_ok_and(|stat| stat.f_flag.contains(StatVfsMountFlags::RDONLY))
}

fn is_full(folder: &Path) -> bool {
    rustix::fs::statvfs(folder).is_ok_and(|stat| stat.f_blocks > 0 && stat.f_bavail == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sqlite(extended_code: i32) -> rusqlite::Error {
        rusqlite::Error::SqliteFailure(ffi::Error::new(extended_code), None)
    }

    #[test]
    fn what_the_disk_refuses_says_what_to_do() {
        let path = Path::new("/no/such/folder/file");
        for (errno, words) in [
            (Errno::NOSPC, "make room"),
            (Errno::ROFS, "read-only"),
            (Errno::IO, "dmesg"),
            (Errno::NOENT, "No such file"),
        ] {
            let text = told(path, &errno.into());
            assert!(text.contains(words) && !text.contains("os error"), "{text}");
        }
        for (code, words) in [
            (ffi::SQLITE_FULL, "make room"),
            (ffi::SQLITE_IOERR_FSYNC, "fsync"),
            (ffi::SQLITE_IOERR_WRITE, "while writing"),
            (ffi::SQLITE_BUSY, "locked for too long"),
        ] {
            let text = told_by_sqlite(path, &sqlite(code));
            assert!(text.contains(words) && !text.contains("disk I/O error"), "{text}");
        }
    }
}
