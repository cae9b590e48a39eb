//! One daemon on a state directory: a lock that ends with its process, however that ends.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::disk;
use super::state::StateDirectory;

/// File in the state directory. Only the lock on it counts; its text names the holder. It stays when the daemon
/// ends, for a file that is removed could be locked by two.
const NAME: &str = "daemon.lock";
/// Longest text that is read, in bytes.
const LIMIT: u64 = 512;
/// How often the text is read again while its writer may not have written it yet.
const LOOKS: u32 = 10;
const BETWEEN: Duration = Duration::from_millis(20);

/// The right to be the daemon of a state directory, for as long as it lives.
#[derive(Debug)]
pub struct DaemonLock {
    _file: File,
}

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error(
        "{}: {holder} already uses this state directory, and only one may. Stop that one first \
         (`systemctl stop familiar`), or give this one a directory of its own (STATE_DIRECTORY)",
        .directory.display()
    )]
    Held { directory: PathBuf, holder: String },
    #[error("{}: cannot be locked: {what}", .path.display())]
    Io { path: PathBuf, what: String },
}

/// Who holds the lock.
#[derive(Debug, Serialize, Deserialize)]
struct Holder {
    pid: i32,
    /// When it began, by its own clock.
    since: String,
}

impl DaemonLock {
    /// Takes the lock; [`LockError::Held`] names the process that has it.
    pub fn take(state: &StateDirectory) -> Result<Self, LockError> {
        let path = state.file(NAME);
        let failed = |error: std::io::Error| LockError::Io {
            path: path.clone(),
            what: disk::told(&path, &error),
        };
        let mut file = open(&path).map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let (directory, holder) = (state.path().to_owned(), holder(&mut file));
                return Err(LockError::Held { directory, holder });
            }
            Err(error) => return Err(failed(error.into())),
        }
        // Without its text the lock holds all the same: a full disk keeps no daemon from starting.
        if let Err(error) = write(&mut file) {
            log::debug!("{}: {error}", path.display());
        }
        Ok(Self { _file: file })
    }
}

/// Whether a daemon holds the lock of a state directory. Nothing is made or written for it.
pub fn is_held(state: &StateDirectory) -> bool {
    let path = state.file(NAME);
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_file())
        && File::open(path)
            .is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockShared).is_err())
}

fn open(path: &Path) -> std::io::Result<File> {
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        // Neither another file by way of a link, nor a FIFO that waits for its other end.
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32)
        .open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(std::io::Error::other("not a regular file"))
    }
}

fn write(file: &mut File) -> std::io::Result<()> {
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    let since = format!("{:.0}", jiff::Timestamp::now());
    let text = serde_json::to_vec(&Holder { pid, since })?;
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(&text)
}

/// In words. What an earlier holder left may still lie there for a moment: nobody is named who is gone.
fn holder(file: &mut File) -> String {
    for look in 0..LOOKS {
        if look > 0 {
            std::thread::sleep(BETWEEN);
        }
        if let Some(Holder { pid, since }) = read(file)
            && is_alive(pid)
        {
            let since: String = since.chars().filter(char::is_ascii_graphic).take(40).collect();
            return format!("`familiar run`, pid {pid}, since {since},");
        }
    }
    "another `familiar run`".to_owned()
}

fn read(file: &mut File) -> Option<Holder> {
    let mut text = Vec::new();
    file.rewind().ok()?;
    file.take(LIMIT).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

fn is_alive(pid: i32) -> bool {
    let pid = rustix::process::Pid::from_raw(pid.max(0));
    // One that this user may not signal is there all the same.
    pid.is_some_and(|pid| {
        !matches!(rustix::process::test_kill_process(pid), Err(Errno::SRCH | Errno::INVAL))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Holds STA-02, STA-03.
    #[test]
    fn second_lock_names_the_first_and_is_free_again_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDirectory::at(folder.path().to_owned()).unwrap();
        let first = DaemonLock::take(&state).unwrap();
        let refused = DaemonLock::take(&state).unwrap_err().to_string();
        let pid = format!("pid {}, since 20", std::process::id());
        assert!(refused.contains(&pid) && refused.contains("familiar run"), "{refused}");
        drop(first);
        DaemonLock::take(&state).unwrap();
    }

    #[test]
    fn text_of_a_holder_that_is_gone_names_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDirectory::at(folder.path().to_owned()).unwrap();
        let first = DaemonLock::take(&state).unwrap();
        // No process has this number: it is above the kernel's largest.
        std::fs::write(state.file(NAME), r#"{"pid":2000000000,"since":"2026-01-01T00:00:00Z"}"#)
            .unwrap();
        let refused = DaemonLock::take(&state).unwrap_err().to_string();
        assert!(refused.contains("another `familiar run`"), "{refused}");
        drop(first);
        // Nor does what lies there keep anybody out.
        DaemonLock::take(&state).unwrap();
    }

    #[test]
    fn link_in_place_of_the_lock_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDirectory::at(folder.path().join("state")).unwrap();
        let other = folder.path().join("other");
        std::fs::write(&other, "somebody's").unwrap();
        std::os::unix::fs::symlink(&other, state.file(NAME)).unwrap();
        assert!(matches!(DaemonLock::take(&state), Err(LockError::Io { .. })));
        assert_eq!(std::fs::read_to_string(&other).unwrap(), "somebody's");
    }
}
