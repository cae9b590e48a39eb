//! What in a gallery hurts: looks that make people be taken for each other, and people who are nearly one.

use jiff::Timestamp;

use super::lookalike::pairs;
use super::{Gallery, GalleryError, enrolled, find};
use crate::recognition::consensus::LookThresholds;
use crate::recognition::gallery::AnchorTemplate;
use crate::recognition::{Embedding, PersonId, PersonRef};
use crate::system::clock::Uptime;

/// Which record a look is; for [`Gallery::drop_look`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LookKey(i64);

/// One look of a person, as a template.
#[derive(Debug, Clone)]
pub struct LookTemplate {
    pub key: LookKey,
    /// Place among all looks of the person, oldest first, from 1.
    pub number: usize,
    pub added: Timestamp,
    pub template: Embedding,
}

/// A person with the looks of one embedder, at least one.
#[derive(Debug, Clone)]
pub struct Enrolment {
    pub person: PersonRef,
    pub looks: Vec<LookTemplate>,
    /// Enrolled people who look like this one.
    pub lookalikes: Vec<PersonId>,
}

/// What a look does that it should not. Similarities are cosines; `own` is that to the mean of the person's
/// other looks, `None` if there is no other.
#[derive(Debug, Clone, PartialEq)]
pub enum Harm {
    /// It would be taken for another person, or is nearer to one than to its own.
    NearAnother { other: PersonRef, similarity: f32, threshold: f32, own: Option<f32> },
    /// It is at least as near to a negative anchor as to its own person, and so names nobody.
    NearAnchor { anchor: PersonId, similarity: f32, own: Option<f32> },
    /// It would not be taken for its own person.
    FarFromOwn { own: f32, threshold: f32 },
}

impl Harm {
    /// How far it is on the wrong side, more is worse.
    fn severity(&self) -> f32 {
        match self {
            Self::NearAnother { similarity, threshold, own, .. } => {
                (similarity - threshold).max(own.map_or(f32::MIN, |own| similarity - own))
            }
            Self::NearAnchor { similarity, own, .. } => similarity - own.unwrap_or(0.0),
            Self::FarFromOwn { own, threshold } => threshold - own,
        }
    }
}

/// A look that hurts.
#[derive(Debug, Clone, PartialEq)]
pub struct Hurtful {
    pub person: PersonRef,
    pub look: LookKey,
    pub number: usize,
    pub added: Timestamp,
    pub harm: Harm,
    /// It is the person's last, which is never dropped.
    pub last: bool,
}

/// Two people whose means would be taken for each other, whatever look were dropped, and who were not enrolled as
/// lookalikes.
#[derive(Debug, Clone, PartialEq)]
pub struct Alike {
    pub people: [PersonRef; 2],
    pub similarity: f32,
    pub threshold: f32,
}

impl Gallery {
    /// The people now enrolled with their looks by this embedder; who has none, or whose time is over, is left
    /// out.
    pub fn enrolments(&self, embedder: &str) -> Result<Vec<Enrolment>, GalleryError> {
        let (now, uptime) = (Timestamp::now(), Uptime::now());
        let mut enrolments = self.store.read(|tables| {
            let mut enrolments = Vec::new();
            let profiles = enrolled(tables)?;
            let mut pairs = pairs(profiles.iter().map(|(_, profile)| profile));
            for (row, profile) in profiles {
                if profile.expires.is_some_and(|end| end.is_over(now, &uptime)) {
                    continue;
                }
                let looks: Vec<LookTemplate> = tables
                    .numbered_looks(row)?
                    .into_iter()
                    .zip(1..)
                    .filter(|((_, look), _)| look.embedder == embedder)
                    .map(|((key, look), number)| LookTemplate {
                        key: LookKey(key),
                        number,
                        added: look.added,
                        template: look.template.into_template(),
                    })
                    .collect();
                if !looks.is_empty() {
                    let lookalikes = pairs.remove(&profile.id).unwrap_or_default();
                    let person = PersonRef { id: profile.id, name: profile.name };
                    enrolments.push(Enrolment { person, looks, lookalikes });
                }
            }
            Ok(enrolments)
        })?;
        enrolments.sort_by(|a, b| a.person.id.cmp(&b.person.id));
        Ok(enrolments)
    }

    /// Drops one look, so that no byte of it is left; `false` if the person has it no more. The last look by
    /// the same embedder stays: that is for [`Gallery::begin_erasure`].
    pub fn drop_look(&mut self, id: &PersonId, look: LookKey) -> Result<bool, GalleryError> {
        self.store.delete(|tables| {
            let (row, _) = find(tables, id)?;
            let looks = tables.numbered_looks(row)?;
            let Some((_, dropped)) = looks.iter().find(|(key, _)| *key == look.0) else {
                return Ok(false);
            };
            if looks.iter().filter(|(_, other)| other.embedder == dropped.embedder).count() < 2 {
                return Err(GalleryError::NoLooks);
            }
            tables.delete_look(look.0, row)
        })
    }
}

/// The looks that hurt, the worst first, and the people who are nearly one.
///
/// One look at a time: a wrong one bends its person's mean, so that right ones of either person seem wrong.
/// So the worst is put aside and the others are judged anew without it, until nothing hurts. A look that is
/// near another person only because the two people are alike is not held against it. Thresholds are as
/// calibrated: enrolled pictures do not come from one camera.
pub fn hurtful(
    mut people: Vec<Enrolment>,
    anchors: &[AnchorTemplate],
    thresholds: &LookThresholds,
) -> (Vec<Hurtful>, Vec<Alike>) {
    let thresholds = thresholds.clone().with_reserve(0.0);
    let mut told: Vec<Hurtful> = Vec::new();
    loop {
        let means: Vec<Option<Embedding>> = people.iter().map(|p| mean(&p.looks, None)).collect();
        let judge = Judge { people: &people, means: &means, anchors, thresholds: &thresholds };
        let worst = (0..people.len())
            .flat_map(|person| (0..people[person].looks.len()).map(move |look| (person, look)))
            .filter(|&(person, look)| {
                told.iter().all(|told| told.look != people[person].looks[look].key)
            })
            .filter_map(|(person, look)| Some((person, look, judge.harm(person, look)?)))
            .max_by(|a, b| a.2.severity().total_cmp(&b.2.severity()));
        let Some((person, look, harm)) = worst else {
            return (told, judge.alike());
        };
        let last = people[person].looks.len() == 1;
        let LookTemplate { key, number, added, .. } = people[person].looks[look];
        let owner = people[person].person.clone();
        told.push(Hurtful { person: owner, look: key, number, added, harm, last });
        if !last {
            people[person].looks.remove(look);
        }
    }
}

/// Of all looks but the one at `without`.
pub(super) fn mean(looks: &[LookTemplate], without: Option<usize>) -> Option<Embedding> {
    let kept = looks.iter().enumerate().filter(|(index, _)| Some(*index) != without);
    Embedding::pooled(kept.map(|(_, look)| &look.template))
}

struct Judge<'a> {
    people: &'a [Enrolment],
    means: &'a [Option<Embedding>],
    anchors: &'a [AnchorTemplate],
    thresholds: &'a LookThresholds,
}

impl Judge<'_> {
    fn harm(&self, person: usize, look: usize) -> Option<Harm> {
        let looks = &self.people[person].looks;
        let template = &looks[look].template;
        let rest = mean(looks, Some(look));
        let own = rest.as_ref().map(|rest| template.similarity(rest));
        let other = self.near_another(person, template, rest.as_ref(), own, looks.len());
        let anchor = self
            .anchors
            .iter()
            .map(|anchor| (anchor, template.similarity(&anchor.template)))
            .max_by(|a, b| a.1.total_cmp(&b.1))
            // A sole look has no other to be compared with: it hurts where the anchor would be taken for it.
            .filter(|(_, similarity)| *similarity >= own.unwrap_or(self.thresholds.at(1)))
            .map(|(anchor, similarity)| Harm::NearAnchor {
                anchor: anchor.id.clone(),
                similarity,
                own,
            });
        let far = own.and_then(|own| {
            let threshold = self.thresholds.between(1, looks.len() - 1);
            (own < threshold).then_some(Harm::FarFromOwn { own, threshold })
        });
        other.or(anchor).or(far)
    }

    fn near_another(
        &self,
        person: usize,
        template: &Embedding,
        rest: Option<&Embedding>,
        own: Option<f32>,
        looks: usize,
    ) -> Option<Harm> {
        let others = self.people.iter().zip(self.means).enumerate();
        others
            .filter(|(index, _)| *index != person)
            .filter_map(|(_, (other, mean))| {
                let mean = mean.as_ref()?;
                let similarity = template.similarity(mean);
                let threshold = self.thresholds.between(1, other.looks.len());
                let nearer = own.is_some_and(|own| similarity > own);
                if similarity < threshold && !nearer {
                    return None;
                }
                // Without this look, too: then it is the two people who are alike. A sole look is its person.
                let alike = rest.is_none_or(|rest| {
                    rest.similarity(mean) >= self.thresholds.between(looks - 1, other.looks.len())
                });
                if alike && !nearer {
                    return None;
                }
                let other = other.person.clone();
                Some(Harm::NearAnother { other, similarity, threshold, own })
            })
            .max_by(|a, b| a.severity().total_cmp(&b.severity()))
    }

    fn alike(&self) -> Vec<Alike> {
        let mut alike = Vec::new();
        for (index, (one, mean)) in self.people.iter().zip(self.means).enumerate() {
            for (other, other_mean) in self.people.iter().zip(self.means).skip(index + 1) {
                let (Some(mean), Some(other_mean)) = (mean, other_mean) else { continue };
                if one.lookalikes.contains(&other.person.id) {
                    continue;
                }
                let similarity = mean.similarity(other_mean);
                let threshold = self.thresholds.between(one.looks.len(), other.looks.len());
                if similarity >= threshold {
                    let people = [one.person.clone(), other.person.clone()];
                    alike.push(Alike { people, similarity, threshold });
                }
            }
        }
        alike
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn thresholds() -> LookThresholds {
        LookThresholds::new(vec![0.6, 0.65, 0.7]).unwrap()
    }

    /// Looks at these degrees on a circle; keys count on through all people.
    fn people(enrolments: &[(&str, &[f32])]) -> Vec<Enrolment> {
        let mut key = 0;
        let mut look = |(number, degrees): (usize, &f32)| {
            key += 1;
            let (sin, cos) = degrees.to_radians().sin_cos();
            LookTemplate {
                key: LookKey(key),
                number: number + 1,
                added: Timestamp::UNIX_EPOCH,
                template: Embedding::normalized(vec![cos, sin]).unwrap(),
            }
        };
        enrolments
            .iter()
            .map(|(id, degrees)| Enrolment {
                person: PersonRef { id: id.parse().unwrap(), name: (*id).to_owned() },
                looks: degrees.iter().enumerate().map(&mut look).collect(),
                lookalikes: Vec::new(),
            })
            .collect()
    }

    fn told(found: &[Hurtful]) -> Vec<(&str, usize)> {
        found.iter().map(|hurtful| (hurtful.person.id.as_str(), hurtful.number)).collect()
    }

    #[test]
    fn sound_gallery_has_nothing_that_hurts() {
        let sound =
            people(&[("ann", &[0.0, 20.0, 10.0]), ("bob", &[90.0, 100.0]), ("cat", &[200.0])]);
        assert_eq!(hurtful(sound, &[], &thresholds()), (vec![], vec![]));
    }

    /// Holds GAL-10.
    #[test]
    fn only_the_wrong_look_is_blamed() {
        // One of Bob's went to Ann, and bends her mean.
        let mixed = people(&[("ann", &[0.0, 10.0, 92.0]), ("bob", &[90.0, 100.0, 80.0])]);
        let (found, alike) = hurtful(mixed, &[], &thresholds());
        assert_eq!((told(&found), alike), (vec![("ann", 3)], vec![]));
        assert!(
            matches!(&found[0].harm, Harm::NearAnother { other, similarity, own: Some(own), .. }
            if other.id.as_str() == "bob" && *similarity > 0.99 && *own < 0.2)
        );
    }

    /// Holds GAL-10.
    #[test]
    fn look_far_from_its_own() {
        let (found, _) = hurtful(people(&[("ann", &[0.0, 10.0, 120.0, 5.0])]), &[], &thresholds());
        assert_eq!(told(&found), [("ann", 3)]);
        assert!(matches!(found[0].harm, Harm::FarFromOwn { own, .. } if own < 0.0));
        assert!(!found[0].last);
    }

    /// Holds GAL-10.
    #[test]
    fn twins_are_told_as_two_people_and_lose_no_look() {
        let twins = people(&[("ann", &[0.0, 10.0]), ("eve", &[5.0, 12.0]), ("sole", &[8.0])]);
        let (found, alike) = hurtful(twins, &[], &thresholds());
        let pairs: Vec<_> = alike.iter().map(|a| a.people.clone().map(|p| p.name)).collect();
        assert_eq!(pairs.len(), 3, "{alike:?}");
        // Nearer to the other than to its own is held against a look all the same; never the last one.
        assert!(found.iter().all(|f| matches!(f.harm, Harm::NearAnother { .. })), "{found:?}");
        for id in ["ann", "eve"] {
            assert!(found.iter().filter(|f| f.person.id.as_str() == id && !f.last).count() < 2);
        }
        assert!(!told(&found).contains(&("sole", 1)));
    }

    #[test]
    fn lookalikes_not_reported_when_enrolled_as_such() {
        let mut pair = people(&[("ann", &[0.0, 10.0]), ("eve", &[5.0, 12.0])]);
        pair[0].lookalikes.push("eve".parse().unwrap());
        pair[1].lookalikes.push("ann".parse().unwrap());
        assert_eq!(hurtful(pair, &[], &thresholds()).1, vec![]);
    }

    /// Holds GAL-10.
    #[test]
    fn anchor_on_a_person_is_told() {
        let anchor = |degrees: f32| {
            let (sin, cos) = degrees.to_radians().sin_cos();
            let template = Embedding::normalized(vec![cos, sin]).unwrap();
            [AnchorTemplate { id: "not-1".parse().unwrap(), template }]
        };
        let enrolled = || people(&[("ann", &[0.0, 20.0]), ("bob", &[180.0])]);
        assert_eq!(hurtful(enrolled(), &anchor(90.0), &thresholds()).0, vec![]);
        let (found, _) = hurtful(enrolled(), &anchor(181.0), &thresholds());
        assert_eq!(told(&found), [("bob", 1)]);
        assert!(found[0].last && matches!(found[0].harm, Harm::NearAnchor { .. }));
    }
}
