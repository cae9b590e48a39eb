//! How often a bundle was tried beside the running one without an end in good order: written down before it is loaded,
//! so that one that brings the daemon or the machine down is not tried for ever.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::updater::FOLDER;
use crate::system::bounded;
use crate::system::disk;
use crate::system::state::StateDirectory;

/// File in the update's folder.
const NAME: &str = "attempts.json";
/// Attempts cut short, after which there is no further one.
const MOST: u32 = 3;
/// Largest file, in bytes.
const LIMIT: u64 = 4096;

/// The file that says it.
pub struct Attempts<'a> {
    folder: &'a StateDirectory,
}

#[derive(Debug, Serialize, Deserialize)]
struct Written {
    digest: String,
    starts: u32,
}

impl<'a> Attempts<'a> {
    /// In the folder of the updater.
    pub fn of(folder: &'a StateDirectory) -> Self {
        Self { folder }
    }

    pub fn path(&self) -> PathBuf {
        self.folder.file(NAME)
    }

    /// Counts an attempt at a bundle; the inner error is how many there were, if there is to be no other. The outer one
    /// is a disk that does not take the count: then nothing is tried.
    pub fn begin(&self, digest: &str) -> io::Result<Result<(), u32>> {
        let text = bounded::read_text(&self.path(), LIMIT).unwrap_or_default();
        // Damaged, or of another bundle: the count begins again.
        let written = serde_json::from_str::<Written>(&text).ok();
        let starts = written.filter(|written| written.digest == digest).map_or(0, |w| w.starts);
        if starts >= MOST {
            return Ok(Err(starts));
        }
        let next = Written { digest: digest.to_owned(), starts: starts + 1 };
        self.folder.replace(NAME, &serde_json::to_vec(&next)?)?;
        Ok(Ok(()))
    }

    /// It came to an end in good order, whatever that was.
    pub fn end(&self) {
        if let Err(error) = self.folder.remove(NAME) {
            let path = self.path();
            log::error!("{}: {}", path.display(), disk::told(&path, &error));
        }
    }
}

/// The daemon ends in good order: the attempt under way was no failed one.
pub fn end_in_good_order(state: &StateDirectory) {
    match StateDirectory::at(state.file(FOLDER)) {
        Ok(folder) => Attempts::of(&folder).end(),
        Err(error) => log::error!("{error}"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn bundle_that_brings_the_daemon_down_is_not_tried_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDirectory::at(folder.path().join("update")).unwrap();
        let attempts = Attempts::of(&state);
        for _ in 0..MOST {
            assert_eq!(attempts.begin("sha256:aa").unwrap(), Ok(()));
        }
        assert_eq!(attempts.begin("sha256:aa").unwrap(), Err(3));
        // Another bundle is another matter, and so is one that came to an end.
        assert_eq!(attempts.begin("sha256:bb").unwrap(), Ok(()));
        attempts.end();
        assert_eq!(attempts.begin("sha256:aa").unwrap(), Ok(()));
        std::fs::write(attempts.path(), "{").unwrap();
        assert_eq!(attempts.begin("sha256:aa").unwrap(), Ok(()));
    }
}
