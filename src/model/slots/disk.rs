//! The file system operations of an installation. All of them are here, so that a test can stop a device
//! before and after each of them and take back what a power cut may take back.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Does what is asked of it, durably where it says so.
#[derive(Debug, Default)]
pub struct Disk {
    #[cfg(test)]
    pub fault: Option<std::rc::Rc<super::fault::Fault>>,
}

impl Disk {
    /// A folder for the owner alone; one that is there stays.
    pub fn make_folder(&self, path: &Path) -> io::Result<()> {
        self.point()?;
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    /// Writes a new file of mode 0600 and waits until its content is on the disk; its name is not, before
    /// [`Disk::sync_folder`].
    pub fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.point()?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        self.unsynced(path);
        file.write_all(bytes)?;
        self.point()?;
        file.sync_all()?;
        self.synced(path);
        self.point()
    }

    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.point()?;
        self.replacing(from, to);
        std::fs::rename(from, to)?;
        self.point()
    }

    /// Waits until the names in a folder are on the disk.
    pub fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.point()?;
        File::open(path)?.sync_all()?;
        self.replaced(path);
        self.point()
    }

    /// Removes a file; none is there afterwards.
    pub fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.point()?;
        gone(std::fs::remove_file(path))
    }

    /// Removes a folder and what is in it, entry by entry.
    pub fn remove_folder(&self, path: &Path) -> io::Result<()> {
        let entries = match std::fs::read_dir(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            // Not a folder: somebody else's doing.
            Err(error) if error.kind() == ErrorKind::NotADirectory => {
                return self.remove_file(path);
            }
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                self.remove_folder(&entry.path())?;
            } else {
                self.remove_file(&entry.path())?;
            }
        }
        self.point()?;
        gone(std::fs::remove_dir(path))
    }
}

fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Nothing in a program; in tests, places at which the power fails.
#[cfg(not(test))]
#[allow(clippy::unused_self, clippy::unnecessary_wraps)]
impl Disk {
    fn point(&self) -> io::Result<()> {
        Ok(())
    }
    fn unsynced(&self, _: &Path) {}
    fn synced(&self, _: &Path) {}
    fn replacing(&self, _: &Path, _: &Path) {}
    fn replaced(&self, _: &Path) {}
}

#[cfg(test)]
impl Disk {
    fn point(&self) -> io::Result<()> {
        self.fault.as_ref().map_or(Ok(()), |fault| fault.point())
    }
    fn unsynced(&self, path: &Path) {
        self.fault.iter().for_each(|fault| fault.unsynced(path));
    }
    fn synced(&self, path: &Path) {
        self.fault.iter().for_each(|fault| fault.synced(path));
    }
    fn replacing(&self, from: &Path, to: &Path) {
        self.fault.iter().for_each(|fault| fault.replacing(from, to));
    }
    fn replaced(&self, folder: &Path) {
        self.fault.iter().for_each(|fault| fault.replaced(folder));
    }
}
