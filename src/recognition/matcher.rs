//! Who of the enrolled is nearest to a probe, and whether a face that is nobody is as near.

use super::gallery::AnchorTemplate;
use super::{Candidate, Embedding};

/// A probe must be nearer to the person than to anyone else by this much (cosine), else it is a tie.
pub const TIE: f32 = 0.05;

/// And nearer than to somebody who was enrolled as this person's lookalike by this much.
pub const LOOKALIKE: f32 = 0.1;

/// Whom a probe is compared with. It is the slice of the people; anchors are nobody and have no place in it.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    people: &'a [Candidate],
    anchors: &'a [AnchorTemplate],
}

impl<'a> Known<'a> {
    pub fn new(people: &'a [Candidate], anchors: &'a [AnchorTemplate]) -> Self {
        Self { people, anchors }
    }
}

impl std::ops::Deref for Known<'_> {
    type Target = [Candidate];

    fn deref(&self) -> &[Candidate] {
        self.people
    }
}

/// Without anchors.
impl<'a> From<&'a [Candidate]> for Known<'a> {
    fn from(people: &'a [Candidate]) -> Self {
        Self::new(people, &[])
    }
}

impl<'a> From<&'a Vec<Candidate>> for Known<'a> {
    fn from(people: &'a Vec<Candidate>) -> Self {
        Self::new(people, &[])
    }
}

impl<'a, const N: usize> From<&'a [Candidate; N]> for Known<'a> {
    fn from(people: &'a [Candidate; N]) -> Self {
        Self::new(people, &[])
    }
}

/// The nearest candidate of a probe, and how near the next one is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Nearest {
    /// Place in the candidates given.
    pub index: usize,
    /// Cosine similarity, -1 to 1.
    pub similarity: f32,
    /// Cosine that the person's threshold is higher by, see [`Candidate::reserve`].
    pub reserve: f32,
    /// Similarity to the second nearest; `None` if there is but one candidate.
    pub runner_up: Option<f32>,
    /// Similarity to the nearest negative anchor; `None` if there is none.
    pub anchor: Option<f32>,
    /// Similarity to the nearest of the person's lookalikes; `None` if there is none.
    pub lookalike: Option<f32>,
}

impl Nearest {
    /// Whether the person is as near as this threshold asks, the person's reserve included.
    pub fn passes(&self, threshold: f32) -> bool {
        self.similarity >= threshold + self.reserve
    }

    /// How far ahead of the second nearest, person or anchor; infinite if there is none. Negative if an
    /// anchor is nearer.
    pub fn margin(&self) -> f32 {
        let second = self.runner_up.into_iter().chain(self.anchor).reduce(f32::max);
        second.map_or(f32::INFINITY, |second| self.similarity - second)
    }

    /// Whether it is far enough ahead of everybody else to be named: by [`TIE`], of a lookalike by [`LOOKALIKE`].
    pub fn is_clear(&self) -> bool {
        self.margin() >= TIE && self.is_no_lookalike()
    }

    /// Whether it cannot be a lookalike of the person.
    pub fn is_no_lookalike(&self) -> bool {
        self.lookalike.is_none_or(|lookalike| self.similarity - lookalike >= LOOKALIKE)
    }

    /// A negative anchor is at least as near as the person: it is nobody, however near the person.
    pub fn is_barred(&self) -> bool {
        self.anchor.is_some_and(|anchor| anchor >= self.similarity)
    }

    /// Barred, by an anchor that the probe would be taken for.
    pub fn passes_as_anchor(&self, threshold: f32) -> bool {
        self.is_barred() && self.anchor.is_some_and(|anchor| anchor >= threshold)
    }
}

/// Compares `probe` with every candidate and anchor, whoever is found, so that the time taken tells nothing
/// of who is enrolled. `None` if there is no candidate.
pub fn nearest<'a>(probe: &Embedding, known: impl Into<Known<'a>>) -> Option<Nearest> {
    let known = known.into();
    let mut best: Option<(usize, f32)> = None;
    let mut second = None;
    for (index, candidate) in known.iter().enumerate() {
        let similarity = probe.similarity(&candidate.template);
        match best {
            Some((_, leader)) if similarity <= leader => {
                second = Some(second.map_or(similarity, |second: f32| second.max(similarity)));
            }
            _ => {
                second = best.map(|(_, leader)| leader);
                best = Some((index, similarity));
            }
        }
    }
    let anchors = known.anchors.iter().map(|anchor| probe.similarity(&anchor.template));
    let anchor = anchors.reduce(f32::max);
    best.map(|(index, similarity)| {
        let Candidate { person, reserve, .. } = &known[index];
        let lookalikes = known.iter().filter(|other| other.lookalikes.contains(&person.id));
        let lookalike = lookalikes.map(|other| probe.similarity(&other.template)).reduce(f32::max);
        Nearest { index, similarity, reserve: *reserve, runner_up: second, anchor, lookalike }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::recognition::PersonRef;

    fn candidate(id: &str, template: [f32; 2]) -> Candidate {
        Candidate {
            person: PersonRef { id: id.parse().unwrap(), name: id.to_owned() },
            template: Embedding::normalized(template.to_vec()).unwrap(),
            looks: 1,
            reserve: 0.0,
            lookalikes: Vec::new(),
        }
    }

    #[test]
    fn nearest_and_second_in_any_order() {
        let probe = Embedding::normalized(vec![1.0, 0.0]).unwrap();
        let mut candidates =
            [candidate("a", [1.0, 0.1]), candidate("b", [1.0, 0.5]), candidate("c", [0.0, 1.0])];
        for turn in 0..3 {
            candidates.rotate_left(turn);
            let found = nearest(&probe, &candidates).unwrap();
            assert_eq!(candidates[found.index].person.name, "a");
            assert!((found.similarity - 0.995).abs() < 1e-3);
            assert!((found.runner_up.unwrap() - 0.894).abs() < 1e-3);
        }
    }

    #[test]
    fn one_candidate_has_no_second_and_none_is_none() {
        let probe = Embedding::normalized(vec![1.0, 0.0]).unwrap();
        assert_eq!(nearest(&probe, &[]), None);
        let alone = nearest(&probe, &[candidate("a", [0.0, 1.0])]).unwrap();
        assert!(alone.runner_up.is_none() && alone.margin() > 1.0);
    }

    #[test]
    fn anchor_as_near_as_the_person_bars_the_name() {
        let probe = Embedding::normalized(vec![1.0, 0.0]).unwrap();
        let people = [candidate("a", [1.0, 0.1])];
        let found = |anchor: [f32; 2]| {
            let template = Embedding::normalized(anchor.to_vec()).unwrap();
            let anchors = [AnchorTemplate { id: "not-1".parse().unwrap(), template }];
            nearest(&probe, Known::new(&people, &anchors)).unwrap()
        };
        assert!(!found([1.0, 0.5]).is_barred() && found([1.0, 0.5]).margin() < 0.2);
        for anchor in [[1.0, 0.05], [1.0, 0.1]] {
            let nearest = found(anchor);
            assert!(nearest.is_barred() && nearest.margin() <= 0.0);
            assert!(nearest.passes_as_anchor(0.9) && !nearest.passes_as_anchor(1.1));
        }
    }

    #[test]
    fn lookalike_must_be_farther_than_anybody_else() {
        let probe = Embedding::normalized(vec![1.0, 0.0]).unwrap();
        // Ahead by 0.07: more than a tie, less than what a lookalike asks for.
        let mut people = [candidate("a", [1.0, 0.1]), candidate("b", [1.0, 0.4])];
        let found = nearest(&probe, &people).unwrap();
        assert!((0.05..0.1).contains(&found.margin()) && found.is_clear(), "{found:?}");
        people[0].lookalikes.push("b".parse().unwrap());
        people[1].lookalikes.push("a".parse().unwrap());
        let found = nearest(&probe, &people).unwrap();
        assert!(found.lookalike.is_some() && !found.is_clear(), "{found:?}");
        people[1].template = Embedding::normalized(vec![1.0, 0.7]).unwrap();
        assert!(nearest(&probe, &people).unwrap().is_clear());
    }

    #[test]
    fn twins_have_no_margin() {
        let probe = Embedding::normalized(vec![1.0, 0.0]).unwrap();
        let twins = [candidate("a", [1.0, 0.1]), candidate("b", [1.0, 0.1])];
        assert!(nearest(&probe, &twins).unwrap().margin().abs() < 1e-6);
    }
}
