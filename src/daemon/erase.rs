//! People who go: by command, or because their time is over.

use super::{Daemon, DaemonError};
use crate::event::LedgerError;
use crate::recognition::PersonId;
use crate::system::clock::Date;

impl Daemon {
    /// Takes over what other processes changed in the gallery, and erases those whose time is over.
    pub(super) fn tend_people(&mut self) {
        if !self.people.is_due() {
            return;
        }
        let date = Date::now();
        self.people.refresh(&date);
        let mut erased = self.people.erase_expired(self.teller.ledger(), &date);
        if is_rotated(&erased) {
            erased = self.tell_by_the_new_key().map(|()| true);
        }
        match erased {
            Ok(true) => self.wake_publisher(),
            Ok(false) => {}
            Err(error) => {
                log::error!("who expired is not erased yet, trying again in a minute: {error}");
            }
        }
    }

    pub(super) fn forget(&mut self, person: &PersonId) -> Result<(), DaemonError> {
        let mut forgotten = self.people.forget(person, self.teller.ledger());
        if is_rotated(&forgotten) {
            forgotten = self.tell_by_the_new_key();
        }
        forgotten?;
        self.wake_publisher();
        Ok(())
    }

    /// The records are erased already; what is left is to tell of it.
    fn tell_by_the_new_key(&mut self) -> Result<(), DaemonError> {
        self.take_new_key()?;
        self.people.settle(self.teller.ledger())
    }
}

fn is_rotated<T>(outcome: &Result<T, DaemonError>) -> bool {
    matches!(outcome, Err(DaemonError::Ledger(LedgerError::Rotated { .. })))
}
