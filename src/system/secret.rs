//! Secrets: systemd credentials, else files of mode 0600 in the state directory.

use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use super::disk;
use super::state::StateDirectory;

/// Largest secret that is read, in bytes.
const LIMIT: u64 = 64 * 1024;
/// An unfinished file so old belongs to nobody who still runs.
const STALE: Duration = Duration::from_mins(10);

/// The bytes of a secret; wiped when dropped.
pub type Secret = Zeroizing<Vec<u8>>;

#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("secret {}: {}", .path.display(), disk::told(.path, .source))]
    Io { path: PathBuf, source: std::io::Error },
    #[error("secret {}: mode {mode:04o} lets others read it; chmod 0600", .path.display())]
    TooOpen { path: PathBuf, mode: u32 },
    #[error("secret {}: not a regular file of at most {LIMIT} bytes", .path.display())]
    NotAFile { path: PathBuf },
}

/// Reads the secret `name` from `$CREDENTIALS_DIRECTORY`, else from the state directory; `None` if
/// it is in neither.
pub fn read(state: &StateDirectory, name: &str) -> Result<Option<Secret>, SecretError> {
    Ok(find(state, name)?.map(|(secret, _)| secret))
}

/// Where a secret was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Given by systemd; not ours to change.
    Credential,
    State,
}

/// As [`read`], and where it was found.
pub fn find(state: &StateDirectory, name: &str) -> Result<Option<(Secret, Source)>, SecretError> {
    if let Some(directory) = std::env::var_os("CREDENTIALS_DIRECTORY") {
        // systemd gives credentials mode 0400 or 0440 in a folder that only the service may enter.
        if let Some(secret) = read_file(&Path::new(&directory).join(name), 0o007)? {
            return Ok(Some((secret, Source::Credential)));
        }
    }
    Ok(read_file(&state.file(name), 0o077)?.map(|secret| (secret, Source::State)))
}

/// Writes a new secret into the state directory, mode 0600, durably; an existing one is an error.
pub fn create(state: &StateDirectory, name: &str, bytes: &[u8]) -> Result<(), SecretError> {
    let path = state.file(name);
    let write = || -> std::io::Result<()> {
        remove_stale(state, name);
        // Whole or not at all: a crash in the middle must not leave half a key behind. By a name that
        // no other thread or process has, now or before.
        let temporary = state.file(&format!(".{name}.{:016x}", fastrand::u64(..)));
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
        state.sync()
    };
    write().map_err(|source| SecretError::Io { path: path.clone(), source })
}

/// What a crash left of unfinished secrets of this name: wiped once nobody can be writing it any more.
fn remove_stale(state: &StateDirectory, name: &str) {
    let Ok(entries) = std::fs::read_dir(state.path()) else { return };
    let prefix = format!(".{name}.");
    for entry in entries.flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(&prefix);
        let age = entry.metadata().and_then(|m| m.modified()).map(|time| time.elapsed());
        if ours && age.is_ok_and(|age| age.is_ok_and(|age| age > STALE)) {
            // Its bytes are no secret in use: whether this succeeds does not matter.
            let _ = wipe(&entry.path());
        }
    }
}

/// Overwrites a file and removes it. File systems and disks that write elsewhere than where they wrote
/// before (btrfs, flash) keep the old bytes until they need the room. Of a link the link alone is removed.
pub fn wipe(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let mut file = match options.write(true).custom_flags(libc::O_NOFOLLOW).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            return std::fs::remove_file(path);
        }
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len().min(LIMIT) as usize;
    file.write_all(&vec![0; length])?;
    file.sync_all()?;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn stale_file_of_a_dead_process() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDirectory::at(folder.path().to_owned()).unwrap();
        let stale = state.file(&format!(".key.{}", std::process::id()));
        std::fs::write(&stale, b"half a secr").unwrap();
        let young = state.file(".key.0123456789abcdef");
        std::fs::write(&young, b"somebody is writing").unwrap();
        let hour = std::time::SystemTime::now() - Duration::from_hours(1);
        std::fs::File::options().write(true).open(&stale).unwrap().set_modified(hour).unwrap();
        create(&state, "key", b"secret").unwrap();
        assert!(!stale.exists() && young.exists());
        assert_eq!(read(&state, "key").unwrap().unwrap().as_slice(), b"secret");
    }

    #[test]
    fn wiping_a_link_leaves_its_target() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        std::fs::write(&target, b"another's").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        wipe(&link).unwrap();
        assert!(link.symlink_metadata().is_err());
        assert_eq!(std::fs::read(&target).unwrap(), b"another's");
        wipe(&target).unwrap();
        assert!(!target.exists());
    }

    #[test]
    fn many_threads_make_one_secret() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDirectory::at(folder.path().to_owned()).unwrap();
        let made = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for thread in 0..16u8 {
                let (state, made) = (&state, &made);
                scope.spawn(move || match create(state, "key", &[thread; 32]) {
                    Ok(()) => drop(made.fetch_add(1, std::sync::atomic::Ordering::SeqCst)),
                    Err(SecretError::Io { path, source }) => {
                        assert_eq!(source.kind(), std::io::ErrorKind::AlreadyExists);
                        assert!(path.ends_with("key"));
                    }
                    Err(other) => panic!("{other}"),
                });
            }
        });
        assert_eq!(made.into_inner(), 1);
        let secret = read(&state, "key").unwrap().unwrap();
        assert!(secret.len() == 32 && secret.iter().all(|byte| *byte == secret[0]));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
