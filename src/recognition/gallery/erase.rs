//! Forgetting a person, so that a crash at any point leaves either the person or a debt that is paid.
//!
//! 1. [`Gallery::begin_erasure`]: one transaction deletes every template and the name and leaves a
//!    tombstone with the id; the file is written anew and its log emptied, so that no byte of them is left.
//! 2. The caller records the signed `erased` event (and clears what the broker retains).
//! 3. [`Gallery::finish_erasure`]: the tombstone goes.
//!
//! The event is only told after it is true. A crash between 2 and 3 makes a restarted process tell it
//! again: at least once, as all events are delivered.

use super::lookalike::unpair;
use super::record::PersonRecord;
use super::{Gallery, GalleryError, find};
use crate::recognition::PersonId;

/// An erasure that was begun: the person is no candidate any more, the `erased` event is due.
#[derive(Debug)]
#[must_use = "record the `erased` event, then finish_erasure"]
pub struct Erasure {
    row: i64,
    person: PersonId,
}

impl Erasure {
    pub fn person(&self) -> &PersonId {
        &self.person
    }
}

impl Gallery {
    /// Erases templates and name. Beginning again what was begun before is no error.
    pub fn begin_erasure(&mut self, id: &PersonId) -> Result<Erasure, GalleryError> {
        let row = self.store.write(|tables| {
            for (row, record) in tables.people()? {
                if matches!(&record, PersonRecord::Erasing { id: erasing } if erasing == id) {
                    return Ok(row);
                }
            }
            let (row, _) = find(tables, id)?;
            tables.delete_looks(row)?;
            unpair(tables, id)?;
            tables.replace_person(row, &PersonRecord::Erasing { id: id.clone() })?;
            Ok(row)
        })?;
        self.store.wipe()?;
        Ok(Erasure { row, person: id.clone() })
    }

    /// Erasures that a crash or an error cut short; finish them at start.
    pub fn unfinished_erasures(&mut self) -> Result<Vec<Erasure>, GalleryError> {
        let unfinished: Vec<Erasure> = self.store.read(|tables| {
            let people = tables.people()?;
            Ok(people
                .into_iter()
                .filter_map(|(row, record)| match record {
                    PersonRecord::Erasing { id } => Some(Erasure { row, person: id }),
                    PersonRecord::Enrolled(_) | PersonRecord::Anchor(_) => None,
                })
                .collect())
        })?;
        if !unfinished.is_empty() {
            self.store.wipe()?; // it may have been cut short before that
        }
        Ok(unfinished)
    }

    /// Takes the last trace, once the `erased` event is durable. Finishing twice is no error.
    pub fn finish_erasure(&mut self, erasure: Erasure) -> Result<(), GalleryError> {
        let Erasure { row, person } = erasure;
        self.store.write(|tables| {
            let tombstone = |record: &PersonRecord| matches!(record, PersonRecord::Erasing { id } if *id == person);
            if tables.people()?.iter().any(|(at, record)| *at == row && tombstone(record)) {
                tables.delete_person(row)?;
            }
            Ok(())
        })?;
        self.store.wipe()
    }

    /// Finishes every begun erasure, telling each through `tell` before its last trace goes; stops at the
    /// first that cannot be told.
    pub fn settle_erasures<E: From<GalleryError>>(
        &mut self,
        mut tell: impl FnMut(&PersonId) -> Result<(), E>,
    ) -> Result<Vec<PersonId>, E> {
        let mut settled = Vec::new();
        for erasure in self.unfinished_erasures()? {
            tell(erasure.person())?;
            settled.push(erasure.person().clone());
            self.finish_erasure(erasure)?;
        }
        Ok(settled)
    }
}
