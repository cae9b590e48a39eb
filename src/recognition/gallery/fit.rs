//! Who was enrolled with another model than the one that looks now.

use super::Person;
use crate::recognition::{PersonRef, Space, Usable};

/// The people without a look of a space, in the order they were given.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fit {
    /// Compared by looks that are mapped into it.
    pub mapped: Vec<PersonRef>,
    /// Not compared before they are enrolled again.
    pub foreign: Vec<PersonRef>,
}

impl Fit {
    pub fn of<'a>(people: impl IntoIterator<Item = &'a Person>, space: &Space) -> Self {
        let mut fit = Self::default();
        for person in people {
            match person.usable(space) {
                Usable::Native(_) => {}
                Usable::Mapped(_) => fit.mapped.push(person.reference()),
                Usable::None => fit.foreign.push(person.reference()),
            }
        }
        fit
    }
}
