//! Negative anchors: faces that must never be taken for a person, such as a portrait on the wall, a doll, or
//! a neighbour who looks like somebody enrolled.
//!
//! An anchor has an id and looks, but no name and no presence, and nothing is ever told of it: whoever is as
//! near to an anchor as to the nearest person is nobody ([`crate::recognition::matcher`]).

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::expiry::Expiry;
use super::record::{AnchorProfile, PersonRecord};
use super::store::Tables;
use super::{Gallery, GalleryError, MAXIMUM_PEOPLE, comparable, insert_looks};
use crate::recognition::{Embedding, PersonId, Space, Usable};
use crate::system::clock::{Date, Uptime};

/// A face to keep as an anchor.
#[derive(Debug, Clone, Default)]
pub struct NewAnchor {
    /// `None`: `not-1`, `not-2`, …, the first that is free.
    pub id: Option<PersonId>,
    /// Who agreed or what it is, in the operator's words.
    pub consent: Option<String>,
    /// From then on it is not compared with any more, and the daemon erases it.
    pub expires: Option<Expiry>,
}

/// An anchor without its templates.
#[derive(Debug, Clone, PartialEq)]
pub struct Anchor {
    pub id: PersonId,
    pub consent: Option<String>,
    pub enrolled: Timestamp,
    pub expires: Option<Expiry>,
    /// Number of looks by the digest of the embedder that made them.
    pub looks: BTreeMap<String, usize>,
}

impl Anchor {
    pub fn expired(&self, now: Timestamp) -> bool {
        self.expires.as_ref().is_some_and(|end| end.is_over(now, &Uptime::now()))
    }

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

/// An anchor as the matcher sees one.
#[derive(Debug, Clone)]
pub struct AnchorTemplate {
    pub id: PersonId,
    /// Normalised mean of its looks.
    pub template: Embedding,
}

impl Gallery {
    /// Keeps a face as an anchor, by at least one look made by the embedder with this digest.
    pub fn add_anchor(
        &mut self,
        anchor: NewAnchor,
        looks: &[Embedding],
        embedder: &str,
    ) -> Result<PersonId, GalleryError> {
        let now = Timestamp::now();
        self.store.write(|tables| {
            let known = tables.people()?;
            if known.len() >= MAXIMUM_PEOPLE {
                return Err(GalleryError::Full);
            }
            let taken = |id: &PersonId| known.iter().any(|(_, record)| record.id() == id);
            let id = match anchor.id {
                Some(id) if taken(&id) => return Err(GalleryError::IdTaken(id)),
                Some(id) => id,
                None => (1..=known.len() + 1)
                    .filter_map(|number| PersonId::try_from(format!("not-{number}")).ok())
                    .find(|id| !taken(id))
                    .ok_or(GalleryError::Full)?,
            };
            let row = tables.insert_person(&PersonRecord::Anchor(AnchorProfile {
                id: id.clone(),
                consent: anchor.consent,
                enrolled: now,
                expires: anchor.expires,
            }))?;
            insert_looks(tables, row, looks, embedder, now)?;
            Ok(id)
        })
    }

    /// All anchors, in the order in which they were made.
    pub fn anchors(&self) -> Result<Vec<Anchor>, GalleryError> {
        let mut anchors = self.store.read(|tables| {
            let mut found = Vec::new();
            let mut all_looks = tables.all_looks()?;
            for (row, profile) in anchored(tables)? {
                let mut looks = BTreeMap::new();
                for look in all_looks.remove(&row).unwrap_or_default() {
                    *looks.entry(look.embedder).or_insert(0) += 1;
                }
                let AnchorProfile { id, consent, enrolled, expires } = profile;
                found.push(Anchor { id, consent, enrolled, expires, looks });
            }
            Ok(found)
        })?;
        anchors.sort_by(|a, b| (a.enrolled, &a.id).cmp(&(b.enrolled, &b.id)));
        Ok(anchors)
    }

    pub fn anchor(&self, id: &PersonId) -> Result<Option<Anchor>, GalleryError> {
        Ok(self.anchors()?.into_iter().find(|anchor| &anchor.id == id))
    }

    /// The anchors to compare with, now: those not expired that have looks of this space, or such that can be
    /// mapped into it.
    pub fn anchor_templates(&self, space: &Space) -> Result<Vec<AnchorTemplate>, GalleryError> {
        self.anchor_templates_at(space, Timestamp::now())
    }

    /// The same for a given time.
    pub fn anchor_templates_at(
        &self,
        space: &Space,
        now: Timestamp,
    ) -> Result<Vec<AnchorTemplate>, GalleryError> {
        let uptime = Uptime::now();
        self.store.read(|tables| {
            let mut templates = Vec::new();
            let mut all_looks = tables.all_looks()?;
            for (row, profile) in anchored(tables)? {
                if profile.expires.is_some_and(|end| end.is_over(now, &uptime)) {
                    continue;
                }
                let looks = all_looks.remove(&row).unwrap_or_default();
                let looks = comparable(tables, space, looks)?.looks;
                if let Some(template) = Embedding::pooled(&looks) {
                    templates.push(AnchorTemplate { id: profile.id, template });
                }
            }
            templates.sort_by(|a, b| a.id.cmp(&b.id));
            Ok(templates)
        })
    }

    /// Erases an anchor, so that no byte of it is left; `false` if there is none of this id. No event tells of
    /// it, for none told that it was there.
    pub fn erase_anchor(&mut self, id: &PersonId) -> Result<bool, GalleryError> {
        self.store.delete(|tables| {
            let found = anchored(tables)?.into_iter().find(|(_, profile)| &profile.id == id);
            if let Some((row, _)) = &found {
                tables.delete_person(*row)?;
            }
            Ok(found.is_some())
        })
    }

    /// Erases those whose time is over beyond doubt.
    pub fn erase_expired_anchors(&mut self, date: &Date) -> Result<bool, GalleryError> {
        let uptime = Uptime::now();
        self.store.delete(|tables| {
            let mut erased = false;
            for (row, profile) in anchored(tables)? {
                if profile.expires.is_some_and(|end| end.is_certainly_over(date, &uptime)) {
                    tables.delete_person(row)?;
                    erased = true;
                }
            }
            Ok(erased)
        })
    }
}

fn anchored(tables: &Tables<'_>) -> Result<Vec<(i64, AnchorProfile)>, GalleryError> {
    let people = tables.people()?;
    Ok(people
        .into_iter()
        .filter_map(|(row, record)| match record {
            PersonRecord::Anchor(profile) => Some((row, profile)),
            PersonRecord::Enrolled(_) | PersonRecord::Erasing { .. } => None,
        })
        .collect())
}
