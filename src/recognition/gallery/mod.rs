//! The gallery: who is enrolled, with their templates, encrypted at rest.
//!
//! `gallery.db` in the state directory is an SQLite file whose rows hold sealed records only
//! (AES-256-GCM, see [`seal`]); the key is the secret `gallery-key`. Somebody who has the file but not
//! the key learns how many people and looks it holds and roughly how long a record is, nothing else;
//! somebody who writes to it can make it refuse to open, but not change, swap, add or take away a
//! record. What is not defended: putting back an older copy of the whole file.
//!
//! What lies in a record is no embedding of the public network but one turned by a secret of this gallery's
//! ([`transform`]): [`Gallery::candidates`] and [`Gallery::looks`] are to be compared with a
//! [`Gallery::probe`], never with what the network gave.
//!
//! Several processes may have it open at once: the daemon reads while `enroll` and `forget` write.

mod admission;
mod anchor;
pub(crate) mod backup;
mod comparable;
mod erase;
mod error;
mod expiry;
mod fit;
mod hygiene;
mod look;
mod lookalike;
mod migrate;
mod name;
mod record;
mod seal;
mod store;
mod transform;

pub use admission::{Admission, Admitted, Limits, Refusal};
pub use anchor::{Anchor, AnchorTemplate, NewAnchor};
pub use backup::{BACKUP_LIMIT, Backup, BackupError, Passphrase, Restore, Restored};
pub use erase::Erasure;
pub use error::GalleryError;
pub use expiry::{Expiry, Term};
pub use fit::Fit;
pub use hygiene::{Alike, Enrolment, Harm, Hurtful, LookKey, LookTemplate, hurtful};
pub use look::{LookRefusal, SECOND_FACE, sole_look};
pub use lookalike::{Cost, Lookalikes, lookalikes};
pub use name::PersonName;
pub use transform::Transform;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::{Candidate, Embedding, PersonId, PersonRef, Space, Usable};
use crate::system::clock::{Date, Uptime};
use crate::system::state::StateDirectory;
use comparable::{Comparable, comparable, made_by};
use lookalike::{pair, pairs};
use record::{LookRecord, PersonRecord, Profile};
use store::{Store, Tables};

/// The most people a gallery holds. With [`MAXIMUM_LOOKS`] it keeps the number of records under one
/// key at about 2^20, far from the 2^32 that random 96-bit nonces allow (NIST SP 800-38D, 8.3).
pub const MAXIMUM_PEOPLE: usize = 16_384;

/// The most looks kept of one person.
pub const MAXIMUM_LOOKS: usize = 64;

/// The enrolled people of this device.
#[derive(Debug)]
pub struct Gallery {
    store: Store,
}

/// Somebody to enrol.
#[derive(Debug, Clone)]
pub struct NewPerson {
    pub name: PersonName,
    /// `None`: made from the name, with `-2`, `-3`, … if it is taken.
    pub id: Option<PersonId>,
    /// What was agreed to, in the operator's words.
    pub consent: Option<String>,
    /// From then on the person is not recognised any more, and the daemon erases them.
    pub expires: Option<Expiry>,
}

/// An enrolled person, without templates.
#[derive(Debug, Clone, PartialEq)]
pub struct Person {
    pub id: PersonId,
    pub name: String,
    pub consent: Option<String>,
    pub enrolled: Timestamp,
    pub expires: Option<Expiry>,
    /// Number of looks by the digest of the embedder that made them.
    pub looks: BTreeMap<String, usize>,
    /// Enrolled people who look like this one.
    pub lookalikes: Vec<PersonId>,
}

impl Person {
    pub fn reference(&self) -> PersonRef {
        PersonRef { id: self.id.clone(), name: self.name.clone() }
    }

    pub fn expired(&self, now: Timestamp) -> bool {
        self.expires.as_ref().is_some_and(|end| end.is_over(now, &Uptime::now()))
    }

    /// Looks that the embedder with this digest made.
    pub fn looks_by(&self, embedder: &str) -> usize {
        self.looks.get(embedder).copied().unwrap_or(0)
    }

    /// Looks that can be compared in this space.
    pub fn usable(&self, space: &Space) -> Usable {
        space.usable(|embedder| self.looks_by(embedder))
    }

    pub fn total_looks(&self) -> usize {
        self.looks.values().sum()
    }
}

/// What may be told of one enrolled look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookFacts {
    /// Digest of the embedder that made it.
    pub embedder: String,
    pub added: Timestamp,
    /// Numbers in its template.
    pub dimensions: usize,
}

/// A mark of the gallery's state; two that differ mean that something may have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generation {
    others: i64,
    own: u64,
}

impl Gallery {
    /// Whether anybody was ever enrolled here.
    pub fn exists(state: &StateDirectory) -> bool {
        state.file(store::FILE).exists()
    }

    /// Opens the gallery, or makes an empty one with a new key where there is neither.
    ///
    /// An existing store is never opened without its key, and never in plain.
    pub fn open(state: &StateDirectory) -> Result<Self, GalleryError> {
        Ok(Self { store: Store::open(state)? })
    }

    /// Opens the gallery for readers: where there is none, it is an empty one in memory, and neither store
    /// nor key are made.
    pub fn look(state: &StateDirectory) -> Result<Self, GalleryError> {
        let path = state.file(store::FILE);
        let store = match path.symlink_metadata() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Store::empty()?,
            _ => Store::open(state)?,
        };
        Ok(Self { store })
    }

    /// A look as the templates of this gallery can be compared with it.
    pub fn probe(&self, look: &Embedding) -> Result<Embedding, GalleryError> {
        self.store.transform().probe(look)
    }

    /// What [`Self::probe`] does, for whoever compares without the gallery at hand.
    pub fn transform(&self) -> Arc<Transform> {
        self.store.transform().clone()
    }

    /// Enrols a person with at least one look made by the embedder with this digest.
    pub fn add(
        &mut self,
        person: NewPerson,
        looks: &[Embedding],
        embedder: &str,
    ) -> Result<PersonRef, GalleryError> {
        self.add_similar(person, &[], looks, embedder)
    }

    /// The same for somebody who looks like these people, who are enrolled.
    pub fn add_similar(
        &mut self,
        person: NewPerson,
        similar: &[PersonId],
        looks: &[Embedding],
        embedder: &str,
    ) -> Result<PersonRef, GalleryError> {
        let now = Timestamp::now();
        self.store.write(|tables| {
            let known = tables.people()?;
            if known.len() >= MAXIMUM_PEOPLE {
                return Err(GalleryError::Full);
            }
            let taken = |id: &PersonId| known.iter().any(|(_, record)| record.id() == id);
            let id = match person.id {
                Some(id) if taken(&id) => return Err(GalleryError::IdTaken(id)),
                Some(id) => id,
                None => person.name.free_id(taken),
            };
            let reference = PersonRef { id: id.clone(), name: person.name.to_string() };
            let mut profile = Profile {
                id,
                name: person.name.into(),
                consent: person.consent,
                enrolled: now,
                expires: person.expires,
                similar: Vec::new(),
            };
            pair(tables, &mut profile, similar)?;
            let row = tables.insert_person(&PersonRecord::Enrolled(profile))?;
            insert_looks(tables, row, looks, embedder, now)?;
            Ok(reference)
        })
    }

    /// Adds looks to somebody enrolled; `consent` and `expires` replace the old ones where given.
    pub fn add_looks(
        &mut self,
        id: &PersonId,
        looks: &[Embedding],
        embedder: &str,
        consent: Option<String>,
        expires: Option<Expiry>,
    ) -> Result<PersonRef, GalleryError> {
        self.add_looks_similar(id, &[], looks, embedder, consent, expires)
    }

    /// The same for somebody who, as is known now, looks like these people, who are enrolled.
    pub fn add_looks_similar(
        &mut self,
        id: &PersonId,
        similar: &[PersonId],
        looks: &[Embedding],
        embedder: &str,
        consent: Option<String>,
        expires: Option<Expiry>,
    ) -> Result<PersonRef, GalleryError> {
        let now = Timestamp::now();
        self.store.write(|tables| {
            let (row, mut profile) = find(tables, id)?;
            insert_looks(tables, row, looks, embedder, now)?;
            let reference = PersonRef { id: profile.id.clone(), name: profile.name.clone() };
            if consent.is_some() || expires.is_some() || !similar.is_empty() {
                pair(tables, &mut profile, similar)?;
                profile.consent = consent.or(profile.consent);
                profile.expires = expires.or(profile.expires);
                tables.replace_person(row, &PersonRecord::Enrolled(profile))?;
            }
            Ok(reference)
        })
    }

    pub fn rename(&mut self, id: &PersonId, name: PersonName) -> Result<PersonRef, GalleryError> {
        self.store.write(|tables| {
            let (row, mut profile) = find(tables, id)?;
            profile.name = name.into();
            let reference = PersonRef { id: profile.id.clone(), name: profile.name.clone() };
            tables.replace_person(row, &PersonRecord::Enrolled(profile))?;
            Ok(reference)
        })
    }

    /// Everybody enrolled, in the order of enrolment; those being erased are left out.
    pub fn people(&self) -> Result<Vec<Person>, GalleryError> {
        let mut people = self.store.read(|tables| {
            let mut people = Vec::new();
            let mut all_looks = tables.all_looks()?;
            let profiles = enrolled(tables)?;
            let mut pairs = pairs(profiles.iter().map(|(_, profile)| profile));
            for (row, profile) in profiles {
                let mut looks = BTreeMap::new();
                for look in all_looks.remove(&row).unwrap_or_default() {
                    *looks.entry(look.embedder).or_insert(0) += 1;
                }
                people.push(Person {
                    lookalikes: pairs.remove(&profile.id).unwrap_or_default(),
                    id: profile.id,
                    name: profile.name,
                    consent: profile.consent,
                    enrolled: profile.enrolled,
                    expires: profile.expires,
                    looks,
                });
            }
            Ok(people)
        })?;
        people.sort_by(|a, b| (a.enrolled, &a.id).cmp(&(b.enrolled, &b.id)));
        Ok(people)
    }

    /// One person; an unknown id is an error that names the nearest one.
    pub fn person(&self, id: &PersonId) -> Result<Person, GalleryError> {
        let people = self.people()?;
        let ids: Vec<PersonId> = people.iter().map(|person| person.id.clone()).collect();
        people
            .into_iter()
            .find(|person| &person.id == id)
            .ok_or_else(|| GalleryError::unknown(id, &ids))
    }

    /// The people to match against, now: those not expired and not being erased, who have looks of this space, or
    /// else such that can be mapped into it. Others are left out; [`Gallery::people`] tells of them.
    pub fn candidates(&self, space: &Space) -> Result<Vec<Candidate>, GalleryError> {
        self.candidates_at(space, Timestamp::now())
    }

    /// The same for a given time.
    pub fn candidates_at(
        &self,
        space: &Space,
        now: Timestamp,
    ) -> Result<Vec<Candidate>, GalleryError> {
        let uptime = Uptime::now();
        let mut candidates = self.store.read(|tables| {
            let mut candidates = Vec::new();
            let mut all_looks = tables.all_looks()?;
            let profiles = enrolled(tables)?;
            let mut pairs = pairs(profiles.iter().map(|(_, profile)| profile));
            for (row, profile) in profiles {
                if profile.expires.is_some_and(|end| end.is_over(now, &uptime)) {
                    continue;
                }
                let looks = all_looks.remove(&row).unwrap_or_default();
                let Comparable { looks, reserve } = comparable(tables, space, looks)?;
                if let Some(template) = Embedding::pooled(&looks) {
                    let lookalikes = pairs.remove(&profile.id).unwrap_or_default();
                    let person = PersonRef { id: profile.id, name: profile.name };
                    let looks = looks.len();
                    candidates.push(Candidate { person, template, looks, reserve, lookalikes });
                }
            }
            Ok(candidates)
        })?;
        candidates.sort_by(|a, b| a.person.id.cmp(&b.person.id));
        Ok(candidates)
    }

    /// The looks of one person that this embedder made, oldest first, as templates; empty for an unknown id.
    pub fn looks(&self, id: &PersonId, embedder: &str) -> Result<Vec<Embedding>, GalleryError> {
        self.store.read(|tables| match enrolled(tables)?.into_iter().find(|(_, p)| &p.id == id) {
            Some((row, _)) => Ok(made_by(embedder, tables.looks(row)?)),
            None => Ok(Vec::new()),
        })
    }

    /// What may be told of one person's looks, oldest first.
    pub fn look_facts(&self, id: &PersonId) -> Result<Vec<LookFacts>, GalleryError> {
        self.store.read(|tables| {
            let (row, _) = find(tables, id)?;
            let facts = tables.looks(row)?.into_iter().map(|look| LookFacts {
                embedder: look.embedder,
                added: look.added,
                dimensions: look.template.values().len(),
            });
            Ok(facts.collect())
        })
    }

    /// When the time of everybody who has one is over, people and anchors.
    pub fn expiries(&self) -> Result<Vec<Expiry>, GalleryError> {
        self.store.read(|tables| {
            let people = tables.people()?;
            Ok(people.iter().filter_map(|(_, record)| record.expires().cloned()).collect())
        })
    }

    /// Turns spans into dates where the date is known by now, and notes what is left of the others.
    pub fn renew_expiries(&mut self, date: &Date) -> Result<(), GalleryError> {
        let uptime = Uptime::now();
        self.store.write(|tables| {
            for (row, record) in tables.people()? {
                let renewed = record.expires().and_then(|end| end.renewed(date, &uptime));
                if let Some(renewed) = renewed {
                    tables.replace_person(row, &record.expiring(|_| renewed))?;
                }
            }
            Ok(())
        })
    }

    /// Cheap to ask every few frames: differs after any process has changed the gallery.
    pub fn generation(&self) -> Result<Generation, GalleryError> {
        let (others, own) = self.store.generation()?;
        Ok(Generation { others, own })
    }
}

fn enrolled(tables: &Tables<'_>) -> Result<Vec<(i64, Profile)>, GalleryError> {
    let people = tables.people()?;
    Ok(people
        .into_iter()
        .filter_map(|(row, record)| match record {
            PersonRecord::Enrolled(profile) => Some((row, profile)),
            PersonRecord::Anchor(_) | PersonRecord::Erasing { .. } => None,
        })
        .collect())
}

fn find(tables: &Tables<'_>, id: &PersonId) -> Result<(i64, Profile), GalleryError> {
    let people = enrolled(tables)?;
    let ids: Vec<PersonId> = people.iter().map(|(_, profile)| profile.id.clone()).collect();
    people
        .into_iter()
        .find(|(_, profile)| &profile.id == id)
        .ok_or_else(|| GalleryError::unknown(id, &ids))
}

fn insert_looks(
    tables: &Tables<'_>,
    person: i64,
    looks: &[Embedding],
    embedder: &str,
    added: Timestamp,
) -> Result<(), GalleryError> {
    if looks.is_empty() {
        return Err(GalleryError::NoLooks);
    }
    if tables.looks(person)?.len() + looks.len() > MAXIMUM_LOOKS {
        return Err(GalleryError::TooManyLooks);
    }
    for (number, look) in (0..).zip(looks) {
        let (embedder, template) = (embedder.to_owned(), tables.key.transform().protect(look)?);
        // Rows are random: a millisecond apart, they keep their order and can be told by number.
        let added = added.checked_add(SignedDuration::from_millis(number)).unwrap_or(added);
        tables.insert_look(person, &LookRecord { embedder, added, template })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
