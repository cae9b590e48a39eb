//! Two people who look alike, both enrolled: which pairs there are, and what it costs to tell them apart.
//!
//! A pair stands in the record of the one who was enrolled with `--similar-to`, and holds for both: a face is named
//! as either only where it is ahead of the other by [`LOOKALIKE`]. It goes with the first of the two who is forgotten.

use std::collections::BTreeMap;

use super::hygiene::{Enrolment, mean};
use super::record::{PersonRecord, Profile};
use super::store::Tables;
use super::{GalleryError, enrolled};
use crate::recognition::matcher::LOOKALIKE;
use crate::recognition::{PersonId, PersonRef};

/// Two people who are enrolled as lookalikes.
#[derive(Debug, Clone, PartialEq)]
pub struct Lookalikes {
    pub people: [PersonRef; 2],
    /// Of the means of their looks; a cosine.
    pub similarity: f32,
    /// For each of the two.
    pub cost: [Cost; 2],
}

/// Of somebody's own looks, how many would not be named, because they are not ahead of the lookalike by the margin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Looks that could be judged, each by the others; none where there is but one.
    pub looks: usize,
    pub within: usize,
}

/// The pairs among these people, with what each costs.
pub fn lookalikes(people: &[Enrolment]) -> Vec<Lookalikes> {
    let mut found = Vec::new();
    for (index, one) in people.iter().enumerate() {
        for other in people.iter().skip(index + 1) {
            if !one.lookalikes.contains(&other.person.id) {
                continue;
            }
            let (Some(mean), Some(others)) = (mean(&one.looks, None), mean(&other.looks, None))
            else {
                continue;
            };
            found.push(Lookalikes {
                people: [one.person.clone(), other.person.clone()],
                similarity: mean.similarity(&others),
                cost: [cost(one, other), cost(other, one)],
            });
        }
    }
    found
}

fn cost(of: &Enrolment, lookalike: &Enrolment) -> Cost {
    let mut cost = Cost { looks: 0, within: 0 };
    let Some(other) = mean(&lookalike.looks, None) else { return cost };
    for (index, look) in of.looks.iter().enumerate() {
        let Some(own) = mean(&of.looks, Some(index)) else { continue };
        let ahead = look.template.similarity(&own) - look.template.similarity(&other);
        cost.looks += 1;
        cost.within += usize::from(!(ahead >= LOOKALIKE));
    }
    cost
}

/// The lookalikes of everybody who has any, whichever of the two records says so.
pub(super) fn pairs<'a>(
    profiles: impl Iterator<Item = &'a Profile>,
) -> BTreeMap<PersonId, Vec<PersonId>> {
    let mut pairs: BTreeMap<PersonId, Vec<PersonId>> = BTreeMap::new();
    for profile in profiles {
        for other in &profile.similar {
            for (one, other) in [(&profile.id, other), (other, &profile.id)] {
                let known = pairs.entry(one.clone()).or_default();
                if !known.contains(other) {
                    known.push(other.clone());
                }
            }
        }
    }
    // Records lie in a random order.
    for lookalikes in pairs.values_mut() {
        lookalikes.sort();
    }
    pairs
}

/// Notes that this person looks like those; each must be enrolled, and somebody else.
pub(super) fn pair(
    tables: &Tables<'_>,
    profile: &mut Profile,
    similar: &[PersonId],
) -> Result<(), GalleryError> {
    if similar.is_empty() {
        return Ok(());
    }
    let known: Vec<PersonId> = enrolled(tables)?.into_iter().map(|(_, p)| p.id).collect();
    for id in similar {
        if *id == profile.id {
            return Err(GalleryError::OwnLookalike(id.clone()));
        }
        if !known.contains(id) {
            return Err(GalleryError::unknown(id, &known));
        }
        if !profile.similar.contains(id) {
            profile.similar.push(id.clone());
        }
    }
    Ok(())
}

/// Nobody looks like this person any more.
pub(super) fn unpair(tables: &Tables<'_>, id: &PersonId) -> Result<(), GalleryError> {
    for (row, mut profile) in enrolled(tables)? {
        if profile.similar.contains(id) {
            profile.similar.retain(|other| other != id);
            tables.replace_person(row, &PersonRecord::Enrolled(profile))?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::recognition::Embedding;
    use crate::recognition::gallery::hygiene::{LookKey, LookTemplate};

    fn person(id: &str, like: &[&str], degrees: &[f32]) -> Enrolment {
        let look = |(number, degrees): (usize, &f32)| {
            let (sin, cos) = degrees.to_radians().sin_cos();
            let template = Embedding::normalized(vec![cos, sin]).unwrap();
            let added = jiff::Timestamp::UNIX_EPOCH;
            LookTemplate { key: LookKey::default(), number, added, template }
        };
        Enrolment {
            person: PersonRef { id: id.parse().unwrap(), name: id.to_owned() },
            looks: degrees.iter().enumerate().map(look).collect(),
            lookalikes: like.iter().map(|id| id.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn cost_counts_own_looks_that_are_not_ahead_of_the_lookalike() {
        let people = [
            person("ann", &["bea"], &[0.0, 2.0, 29.0]),
            person("bea", &["ann"], &[60.0, 62.0]),
            person("cat", &[], &[61.0]),
        ];
        let [pair] = &lookalikes(&people)[..] else { panic!("one pair") };
        assert_eq!(pair.people.clone().map(|p| p.name), ["ann", "bea"]);
        assert!((pair.similarity - 0.633).abs() < 0.01, "{}", pair.similarity);
        // Ann's last look is about half way.
        assert_eq!(pair.cost, [Cost { looks: 3, within: 1 }, Cost { looks: 2, within: 0 }]);
    }

    #[test]
    fn sole_look_cannot_be_judged() {
        let people = [person("ann", &["bea"], &[0.0]), person("bea", &["ann"], &[20.0, 22.0])];
        assert_eq!(lookalikes(&people)[0].cost[0], Cost { looks: 0, within: 0 });
    }
}
