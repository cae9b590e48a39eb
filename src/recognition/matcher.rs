//! Who of the enrolled is nearest to a probe.

use super::{Candidate, Embedding};

/// The nearest candidate of a probe, and how near the next one is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Nearest {
    /// Place in the candidates given.
    pub index: usize,
    /// Cosine similarity, -1 to 1.
    pub similarity: f32,
    /// Similarity to the second nearest; `None` if there is but one candidate.
    pub runner_up: Option<f32>,
}

impl Nearest {
    /// How far ahead of the second nearest; infinite if there is none.
    pub fn margin(&self) -> f32 {
        self.runner_up.map_or(f32::INFINITY, |second| self.similarity - second)
    }
}

/// Compares `probe` with every candidate, whoever is found, so that the time taken tells nothing
/// of who is enrolled. `None` if there is no candidate.
pub fn nearest(probe: &Embedding, candidates: &[Candidate]) -> Option<Nearest> {
    let mut best: Option<(usize, f32)> = None;
    let mut second = None;
    for (index, candidate) in candidates.iter().enumerate() {
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
    best.map(|(index, similarity)| Nearest { index, similarity, runner_up: second })
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
    fn twins_have_no_margin() {
        let probe = Embedding::normalized(vec![1.0, 0.0]).unwrap();
        let twins = [candidate("a", [1.0, 0.1]), candidate("b", [1.0, 0.1])];
        assert!(nearest(&probe, &twins).unwrap().margin().abs() < 1e-6);
    }
}
