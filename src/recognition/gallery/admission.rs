//! Which looks of a person may be enrolled: not the same one twice, none that looks like somebody else
//! already enrolled, none that does not fit the person's others.

use crate::recognition::{Candidate, Embedding, PersonRef};

/// Above this cosine similarity two looks are the same picture (or the same frame, compressed again).
const SAME_PICTURE: f32 = 0.999;

/// Cosine thresholds of the bundle's calibration table.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// From this on a look is taken for another person (the configured false match rate, one look).
    pub another: f32,
    /// Below this a look does not belong to the person's other looks. Looser than `another`: it only has
    /// to find pictures of somebody else that went into the wrong folder.
    pub same: f32,
}

/// Why a look is not enrolled.
#[derive(Debug, Clone, PartialEq)]
pub enum Refusal {
    /// Index of the look it repeats among those offered; `None`: one enrolled before.
    Repeats(Option<usize>),
    LooksLike {
        person: PersonRef,
        similarity: f32,
        /// By how much it is nearer to the mean of this person's other looks; `None` if there is no other.
        ahead: Option<f32>,
    },
    /// Similarity to the mean of the person's other looks.
    Outlier { similarity: f32 },
}

/// The outcome for one of the looks offered.
#[derive(Debug, Clone, PartialEq)]
pub enum Admitted {
    Yes,
    No(Refusal),
}

/// Judges looks of one person against the gallery.
#[derive(Debug)]
pub struct Admission<'a> {
    pub limits: Limits,
    /// Everybody enrolled but this person and those who are known to look alike.
    pub others: &'a [Candidate],
    /// This person's looks so far.
    pub enrolled: &'a [Embedding],
}

impl Admission<'_> {
    /// One outcome for each look, in their order.
    ///
    /// Outliers: while a look's similarity to the mean of the remaining ones is under the limit, the worst
    /// goes (of equals the last one). Looks enrolled before are not judged again; they count for the mean.
    pub fn judge(&self, looks: &[Embedding]) -> Vec<Admitted> {
        let mut outcomes: Vec<Admitted> = (0..looks.len())
            .map(|index| self.alone(looks, index).map_or(Admitted::Yes, Admitted::No))
            .collect();
        while let Some((worst, similarity)) = self.worst(looks, &outcomes)
            && similarity < self.limits.same
        {
            outcomes[worst] = Admitted::No(Refusal::Outlier { similarity });
        }
        outcomes
    }

    fn alone(&self, looks: &[Embedding], index: usize) -> Option<Refusal> {
        let look = &looks[index];
        let same = |other: &Embedding| look.similarity(other) >= SAME_PICTURE;
        if self.enrolled.iter().any(same) {
            return Some(Refusal::Repeats(None));
        }
        if let Some(first) = looks[..index].iter().position(same) {
            return Some(Refusal::Repeats(Some(first)));
        }
        let (nearest, similarity) = self
            .others
            .iter()
            .map(|other| (other, look.similarity(&other.template)))
            .max_by(|a, b| a.1.total_cmp(&b.1))?;
        (similarity >= self.limits.another + nearest.reserve).then(|| {
            let rest = looks.iter().enumerate().filter(|(other, _)| *other != index);
            let own = Embedding::pooled(rest.map(|(_, rest)| rest).chain(self.enrolled));
            let ahead = own.map(|own| look.similarity(&own) - similarity);
            Refusal::LooksLike { person: nearest.person.clone(), similarity, ahead }
        })
    }

    /// The admitted look that fits the others least, if there are others.
    fn worst(&self, looks: &[Embedding], outcomes: &[Admitted]) -> Option<(usize, f32)> {
        let admitted =
            || looks.iter().enumerate().filter(|(index, _)| outcomes[*index] == Admitted::Yes);
        admitted()
            .filter_map(|(index, look)| {
                let rest = admitted().filter(|(other, _)| *other != index).map(|(_, rest)| rest);
                let mean = Embedding::pooled(rest.chain(self.enrolled))?;
                Some((index, look.similarity(&mean)))
            })
            .min_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { another: 0.6, same: 0.4 };

    /// A look of the person on axis `person`, `noise` away from it along another axis.
    fn look(person: usize, noise: usize, amount: f32) -> Embedding {
        let mut values = vec![0.0; 32];
        values[person] = 1.0;
        values[8 + noise] = amount;
        Embedding::normalized(values).unwrap()
    }

    fn candidate(id: &str, template: Embedding) -> Candidate {
        let person = PersonRef { id: id.parse().unwrap(), name: id.to_owned() };
        Candidate { person, template, looks: 1, reserve: 0.0, lookalikes: Vec::new() }
    }

    #[test]
    fn agreeing_looks_admitted() {
        let admission = Admission { limits: LIMITS, others: &[], enrolled: &[] };
        let looks = [look(0, 0, 0.4), look(0, 1, 0.4), look(0, 2, 0.4)];
        assert_eq!(admission.judge(&looks), vec![Admitted::Yes; 3]);
        assert_eq!(admission.judge(&looks[..1]), vec![Admitted::Yes]);
        assert_eq!(admission.judge(&[]), vec![]);
    }

    #[test]
    fn same_picture_twice_refused() {
        let enrolled = [look(0, 0, 0.3)];
        let admission = Admission { limits: LIMITS, others: &[], enrolled: &enrolled };
        let looks = [look(0, 1, 0.3), look(0, 0, 0.3), look(0, 1, 0.3)];
        assert_eq!(
            admission.judge(&looks),
            vec![
                Admitted::Yes,
                Admitted::No(Refusal::Repeats(None)),
                Admitted::No(Refusal::Repeats(Some(0))),
            ]
        );
    }

    #[test]
    fn second_person_under_another_name_refused() {
        let others = [candidate("bob", look(1, 0, 0.1)), candidate("ann", look(0, 0, 0.1))];
        let admission = Admission { limits: LIMITS, others: &others, enrolled: &[] };
        let outcomes = admission.judge(&[look(0, 3, 0.2), look(2, 3, 0.2)]);
        let Admitted::No(Refusal::LooksLike { person, similarity, ahead }) = &outcomes[0] else {
            panic!("{outcomes:?}")
        };
        assert_eq!(person.id.as_str(), "ann");
        assert!(*similarity > 0.9);
        // The other look offered is of somebody else altogether.
        assert!(ahead.is_some_and(|ahead| ahead < -0.8), "{ahead:?}");
        assert_eq!(outcomes[1], Admitted::Yes);
    }

    #[test]
    fn picture_of_somebody_else_refused() {
        let admission = Admission { limits: LIMITS, others: &[], enrolled: &[] };
        let looks = [look(1, 0, 0.2), look(0, 1, 0.2), look(0, 2, 0.2), look(0, 3, 0.2)];
        let outcomes = admission.judge(&looks);
        assert!(matches!(outcomes[0], Admitted::No(Refusal::Outlier { .. })), "{outcomes:?}");
        assert_eq!(outcomes[1..], vec![Admitted::Yes; 3]);

        // Of two that disagree the first stays; with a look enrolled before, that one decides.
        let outcomes = admission.judge(&looks[..2]);
        assert!(matches!(outcomes[..], [Admitted::Yes, Admitted::No(Refusal::Outlier { .. })]));
        let enrolled = [look(0, 5, 0.2)];
        let admission = Admission { enrolled: &enrolled, ..admission };
        let outcomes = admission.judge(&looks[..2]);
        assert!(matches!(outcomes[..], [Admitted::No(Refusal::Outlier { .. }), Admitted::Yes]));
    }
}
