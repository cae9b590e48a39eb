//! A power cut, for tests: at one chosen operation everything stops, and what was not yet waited for is
//! lost or torn.

use std::cell::{Cell, RefCell};
use std::io;
use std::path::{Path, PathBuf};

/// What becomes of renames that the folder was not yet synced for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renames {
    Kept,
    Lost,
}

#[derive(Debug)]
pub struct Fault {
    /// Points to pass before the power fails.
    left: Cell<usize>,
    failed: Cell<bool>,
    unsynced: RefCell<Vec<PathBuf>>,
    /// What was under a name before it was replaced.
    replaced: RefCell<Vec<(PathBuf, Option<Vec<u8>>)>>,
}

impl Fault {
    pub fn after(points: usize) -> Self {
        Self {
            left: Cell::new(points),
            failed: Cell::new(false),
            unsynced: RefCell::default(),
            replaced: RefCell::default(),
        }
    }

    pub fn has_failed(&self) -> bool {
        self.failed.get()
    }

    /// An error once, and ever after, the power has failed.
    pub fn point(&self) -> io::Result<()> {
        if self.left.get() == 0 {
            self.failed.set(true);
            return Err(io::Error::other("the power has failed"));
        }
        self.left.set(self.left.get() - 1);
        Ok(())
    }

    pub fn unsynced(&self, path: &Path) {
        self.unsynced.borrow_mut().push(path.to_owned());
    }

    pub fn synced(&self, path: &Path) {
        self.unsynced.borrow_mut().retain(|unsynced| unsynced != path);
    }

    pub fn replacing(&self, from: &Path, to: &Path) {
        self.replaced.borrow_mut().push((to.to_owned(), std::fs::read(to).ok()));
        // Content that was not waited for is torn under its new name, too.
        for unsynced in self.unsynced.borrow_mut().iter_mut().filter(|path| *path == from) {
            to.clone_into(unsynced);
        }
    }

    pub fn replaced(&self, folder: &Path) {
        self.replaced.borrow_mut().retain(|(path, _)| path.parent() != Some(folder));
    }

    /// Leaves the disk as the cut may have left it.
    pub fn settle(&self, renames: Renames) {
        for path in self.unsynced.borrow().iter() {
            if let Ok(bytes) = std::fs::read(path) {
                std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
            }
        }
        if renames == Renames::Lost {
            for (path, before) in self.replaced.borrow().iter().rev() {
                match before {
                    Some(bytes) => std::fs::write(path, bytes).unwrap(),
                    None => drop(std::fs::remove_file(path)),
                }
            }
        }
    }
}
