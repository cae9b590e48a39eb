//! From several looks at one track to a name: better none than a wrong one.

use std::time::Duration;

use super::Embedding;
use super::matcher::{Known, nearest};

/// A stranger is "clearly" nobody this far below the threshold.
const CLEARLY: f32 = 0.1;
/// Share of the looks kept that must agree, beside the configured number.
const AGREEING: f32 = 2.0 / 3.0;
/// Looks kept of a track, if the configuration does not ask for more.
const KEPT: usize = 8;
/// Looks and time after which a face can be called unknown: a name may take a better look.
const UNKNOWN_LOOKS: usize = 5;
const UNKNOWN_AFTER: Duration = Duration::from_secs(2);
/// A look this far below the single-look threshold to the other looks of its track is taken to be
/// of someone else. (With FaceNet and a threshold of 0.6 about one in two hundred pairs of
/// different people is more alike than that; looks of one sequence hardly ever are less.)
const BELONGING: f32 = 0.15;

/// Added to the calibrated threshold before a person is named. Calibration compares photographs of
/// the whole world; before one camera, strangers share its room, light and often their origin, and
/// are more alike: mean cosine of three pooled looks 0.43 between six people filmed by one webcam, 0
/// between people of LFW (FaceNet, centred). This lies half way between the most alike strangers and the
/// least alike recording of an enrolled person, three looks against four at 1 in 10,000: chosen on
/// four of the six and judged on the other two, all fifteen ways, its median is 0.078. Six people
/// are few: see docs/evaluation.md.
pub const ONE_CAMERA: f32 = 0.08;

/// Cosine thresholds by the number of pooled looks: averaging makes strangers more alike, too.
#[derive(Debug, Clone, PartialEq)]
pub struct LookThresholds {
    by_looks: Vec<f32>,
    reserve: f32,
}

impl LookThresholds {
    /// `by_looks[0]` is for one look. `None` if there is none or one is not within -1 to 1.
    pub fn new(by_looks: Vec<f32>) -> Option<Self> {
        let sound = by_looks.iter().all(|threshold| (-1.0..=1.0).contains(threshold));
        (sound && !by_looks.is_empty()).then_some(Self { by_looks, reserve: ONE_CAMERA })
    }

    /// Asks `threshold` (as [`Engine::threshold`](crate::model)) for 1 to `most` looks.
    pub fn ask<E>(
        most: usize,
        threshold: impl FnMut(usize) -> Result<f32, E>,
    ) -> Result<Option<Self>, E> {
        (1..=most).map(threshold).collect::<Result<_, _>>().map(Self::new)
    }

    /// With another reserve than [`ONE_CAMERA`], at least 0.
    #[must_use]
    pub fn with_reserve(mut self, reserve: f32) -> Self {
        self.reserve = reserve.max(0.0);
        self
    }

    /// As calibrated. For more looks than there are thresholds, the last one.
    pub fn at(&self, looks: usize) -> f32 {
        self.by_looks[looks.clamp(1, self.by_looks.len()) - 1]
    }

    /// What a person is named at, reserve included. For means of different numbers of looks: the calibration pools as many on either side, and
    /// similarity moves with 1 / looks (see [`super::Thresholds::at`]), so their harmonic mean,
    /// rounded up.
    pub fn between(&self, probe: usize, template: usize) -> f32 {
        let (probe, template) = (probe.max(1), template.max(1));
        self.at((2 * probe * template).div_ceil(probe + template)) + self.reserve
    }
}

/// A face seen once, well enough.
#[derive(Debug)]
pub struct Look {
    pub embedding: Embedding,
    /// 0 to 1, [`crate::face::quality::Quality::score`].
    pub quality: f32,
    /// Media time.
    pub taken: Duration,
}

/// What the looks at a track say.
#[derive(Debug, Clone, PartialEq)]
pub enum Finding {
    /// More or better looks are needed, or they contradict each other.
    Undecided,
    /// They agree on `candidates[index]`.
    Person { index: usize, similarity: f32, threshold: f32, frames: usize },
    /// They agree that it is nobody enrolled; `similarity` to the nearest person, 0 if nobody is: at the
    /// threshold or above it only where a negative anchor is at least as near.
    Nobody { similarity: f32, threshold: f32, frames: usize },
}

/// The best looks at one track. Its embeddings are wiped with it.
#[derive(Debug)]
pub struct Consensus {
    frames: usize,
    looks: Vec<Look>,
    first: Option<Duration>,
}

impl Consensus {
    /// `frames`: looks that must agree before a person is named.
    pub fn new(frames: usize) -> Self {
        Self { frames: frames.max(1), looks: Vec::new(), first: None }
    }

    pub fn looks(&self) -> &[Look] {
        &self.looks
    }

    pub fn is_full(&self) -> bool {
        self.looks.len() >= KEPT.max(self.frames)
    }

    /// The time of the last look.
    pub fn latest(&self) -> Option<Duration> {
        self.looks.iter().map(|look| look.taken).max()
    }

    /// The quality a look must exceed to be better than the worst one kept.
    pub fn worst_quality(&self) -> f32 {
        self.looks.iter().map(|look| look.quality).fold(f32::INFINITY, f32::min)
    }

    /// The normalised mean of all looks kept.
    pub fn pooled(&self) -> Option<Embedding> {
        Embedding::pooled(self.looks.iter().map(|look| &look.embedding))
    }

    /// Whether a look can be of the face that the others show.
    pub fn belongs(&self, embedding: &Embedding, thresholds: &LookThresholds) -> bool {
        self.pooled().is_none_or(|pooled| same_face(&pooled, embedding, thresholds))
    }

    /// Keeps a look; of too many, the one of the poorest quality that is not this one goes.
    pub fn add(&mut self, look: Look) {
        self.first.get_or_insert(look.taken);
        if self.is_full() {
            let worst = (0..self.looks.len())
                .min_by(|&a, &b| self.looks[a].quality.total_cmp(&self.looks[b].quality));
            if let Some(worst) = worst {
                self.looks.swap_remove(worst);
            }
        }
        self.looks.push(look);
    }

    pub fn clear(&mut self) {
        self.looks.clear();
        self.first = None;
    }

    /// A person is named when at least `frames` looks and two thirds of those kept have this
    /// person as their nearest, no look on its own passes as somebody else, and the mean of all
    /// looks kept reaches the threshold and is ahead of everybody else ([`super::matcher::Nearest::is_clear`]). A negative anchor
    /// counts as somebody else; if it is at least as near as the person, it is nobody.
    pub fn finding<'a>(&self, known: impl Into<Known<'a>>, thresholds: &LookThresholds) -> Finding {
        let candidates = known.into();
        let Some(pooled) = self.pooled() else { return Finding::Undecided };
        if self.looks.len() < self.frames {
            return Finding::Undecided;
        }
        let Some(best) = nearest(&pooled, candidates) else {
            return self.nobody(0.0, thresholds.between(self.looks.len(), self.looks.len()));
        };
        let mut agreeing = 0;
        let mut contradicted = false;
        for look in &self.looks {
            let Some(own) = nearest(&look.embedding, candidates) else { continue };
            agreeing += usize::from(own.index == best.index && !own.is_barred());
            contradicted |= own.index != best.index && own.passes(thresholds.at(1));
            contradicted |= own.passes_as_anchor(thresholds.at(1));
        }
        let candidate = &candidates[best.index];
        let threshold = thresholds.between(self.looks.len(), candidate.looks) + best.reserve;
        if best.is_barred() {
            let clear = best.passes_as_anchor(threshold);
            return self.nobody_or_undecided(clear, best.similarity, threshold);
        }
        if best.similarity < threshold {
            return self.nobody(best.similarity, threshold);
        }
        let majority = agreeing as f32 >= AGREEING * self.looks.len() as f32;
        if contradicted || !majority || agreeing < self.frames || !best.is_clear() {
            return Finding::Undecided;
        }
        Finding::Person {
            index: best.index,
            similarity: best.similarity,
            threshold,
            frames: agreeing,
        }
    }

    fn nobody(&self, similarity: f32, threshold: f32) -> Finding {
        self.nobody_or_undecided(false, similarity, threshold)
    }

    /// `clear`: it is so even if the nearest person is near.
    fn nobody_or_undecided(&self, clear: bool, similarity: f32, threshold: f32) -> Finding {
        let looks = self.looks.len();
        let span = self
            .latest()
            .zip(self.first)
            .map_or(Duration::ZERO, |(latest, first)| latest.saturating_sub(first));
        if looks >= self.frames.max(UNKNOWN_LOOKS)
            && span >= UNKNOWN_AFTER
            && (clear || similarity < threshold - CLEARLY)
        {
            Finding::Nobody { similarity, threshold, frames: looks }
        } else {
            Finding::Undecided
        }
    }
}

/// Whether two looks at one track can be of one face; much laxer than recognising.
pub fn same_face(a: &Embedding, b: &Embedding, thresholds: &LookThresholds) -> bool {
    a.similarity(b) >= thresholds.at(1) - BELONGING
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::recognition::gallery::AnchorTemplate;
    use crate::recognition::{Candidate, PersonRef};

    /// On the unit circle, at some degrees.
    fn at(degrees: f32) -> Embedding {
        let (sin, cos) = degrees.to_radians().sin_cos();
        Embedding::normalized(vec![cos, sin]).unwrap()
    }

    fn candidate(id: &str, degrees: f32, looks: usize) -> Candidate {
        let person = PersonRef { id: id.parse().unwrap(), name: id.to_owned() };
        Candidate { person, template: at(degrees), looks, reserve: 0.0, lookalikes: Vec::new() }
    }

    fn thresholds() -> LookThresholds {
        LookThresholds::new(vec![0.8, 0.85, 0.9, 0.92]).unwrap().with_reserve(0.0)
    }

    fn consensus(frames: usize, degrees: &[f32]) -> Consensus {
        let mut consensus = Consensus::new(frames);
        for (second, degrees) in degrees.iter().enumerate() {
            consensus.add(look(*degrees, 0.5, second as u64));
        }
        consensus
    }

    fn look(degrees: f32, quality: f32, second: u64) -> Look {
        Look { embedding: at(degrees), quality, taken: Duration::from_secs(second) }
    }

    fn named(finding: &Finding) -> Option<usize> {
        if let Finding::Person { index, .. } = finding { Some(*index) } else { None }
    }

    #[test]
    fn as_many_looks_as_asked_for() {
        let people = [candidate("a", 0.0, 1), candidate("b", 90.0, 1)];
        for frames in 1..=5 {
            for looks in 1..=6 {
                let found = consensus(frames, &vec![5.0; looks]).finding(&people, &thresholds());
                assert_eq!(named(&found), (looks >= frames).then_some(0), "{looks} of {frames}");
            }
        }
    }

    /// What another model saw of the person must be nearer than what this one saw.
    /// Holds UPD-25.
    #[test]
    fn mapped_template_must_be_nearer_by_its_reserve() {
        let looks = consensus(3, &[25.0; 3]);
        let mut people = [candidate("a", 0.0, 3)];
        let thresholds = thresholds();
        assert_eq!(named(&looks.finding(&people, &thresholds)), Some(0));
        people[0].reserve = 0.01;
        assert_eq!(named(&looks.finding(&people, &thresholds)), None);
    }

    #[test]
    fn one_confident_look_at_another_is_a_veto() {
        let people = [candidate("a", 0.0, 1), candidate("b", 75.0, 1)];
        let thresholds = thresholds();
        let clear = consensus(3, &[0.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(named(&clear.finding(&people, &thresholds)), Some(0));
        let vetoed = consensus(3, &[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 45.0]);
        assert_eq!(vetoed.finding(&people, &thresholds), Finding::Undecided);
        // The mean alone would have passed.
        assert!(vetoed.pooled().unwrap().similarity(&at(0.0)) > thresholds.at(7));
    }

    #[test]
    fn a_bare_majority_is_no_agreement() {
        // Weak looks at `b` are no veto, but three of five are not two thirds.
        let people = [candidate("a", 0.0, 1), candidate("b", 80.0, 1)];
        let thresholds = LookThresholds::new(vec![0.9]).unwrap().with_reserve(0.0);
        let looks = consensus(3, &[0.0, 0.0, 0.0, 41.0, 41.0]);
        assert!(looks.pooled().unwrap().similarity(&at(0.0)) > 0.9);
        assert_eq!(looks.finding(&people, &thresholds), Finding::Undecided);
    }

    #[test]
    fn a_tie_is_no_name() {
        let looks = consensus(3, &[10.0, 10.0, 10.0]);
        let alone = [candidate("a", 0.0, 1)];
        assert_eq!(named(&looks.finding(&alone, &thresholds())), Some(0));
        let near = [candidate("a", 0.0, 1), candidate("b", 22.0, 1)];
        assert_eq!(looks.finding(&near, &thresholds()), Finding::Undecided);
    }

    /// Holds GAL-15.
    #[test]
    fn lookalikes_need_a_wider_margin_than_a_tie() {
        // cos 5 - cos 22 = 0.069
        let mut people = [candidate("a", 0.0, 1), candidate("b", 27.0, 1)];
        let looks = consensus(3, &[5.0, 5.0, 5.0]);
        let thresholds = LookThresholds::new(vec![0.95]).unwrap().with_reserve(0.0);
        assert_eq!(named(&looks.finding(&people, &thresholds)), Some(0));
        people[0].lookalikes.push(people[1].person.id.clone());
        people[1].lookalikes.push(people[0].person.id.clone());
        assert_eq!(looks.finding(&people, &thresholds), Finding::Undecided);
        let clear = consensus(3, &[-5.0, -5.0, -5.0]);
        assert_eq!(named(&clear.finding(&people, &thresholds)), Some(0));
    }

    #[test]
    fn anchor_is_never_taken_for_a_person() {
        let people = [candidate("a", 0.0, 1)];
        let found = |degrees: &[f32], anchor| {
            let anchors = [AnchorTemplate { id: "not-1".parse().unwrap(), template: at(anchor) }];
            consensus(3, degrees).finding(Known::new(&people, &anchors), &thresholds())
        };
        // The face of the anchor passes for the person but for the anchor, and is told as a stranger.
        assert_eq!(named(&consensus(3, &[20.0; 5]).finding(&people, &thresholds())), Some(0));
        assert!(matches!(found(&[20.0; 5], 22.0), Finding::Nobody { similarity, threshold, .. }
            if similarity >= threshold));
        assert_eq!(found(&[20.0; 4], 22.0), Finding::Undecided, "too early for a stranger");
        // The person is still named, unless they cannot be told apart.
        assert_eq!(named(&found(&[2.0; 5], 30.0)), Some(0));
        assert_eq!(found(&[10.0; 5], 22.0), Finding::Undecided, "a tie");
        // One confident look at the anchor is a veto.
        assert_eq!(named(&found(&[0.0; 7], 45.0)), Some(0));
        assert_eq!(found(&[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 40.0], 45.0), Finding::Undecided);
        // An anchor far from everybody changes nothing.
        assert_eq!(named(&found(&[5.0; 5], 120.0)), Some(0));
    }

    #[test]
    fn the_threshold_is_for_the_looks_on_both_sides() {
        let threshold = |looks, enrolled| {
            let people = [candidate("a", 0.0, enrolled)];
            match consensus(1, &vec![5.0; looks]).finding(&people, &thresholds()) {
                Finding::Person { threshold, .. } => threshold,
                other => panic!("{other:?}"),
            }
        };
        let pairs =
            [(1, 1, 0.8), (2, 1, 0.85), (1, 3, 0.85), (3, 3, 0.9), (4, 3, 0.92), (2, 16, 0.92)];
        for (looks, enrolled, expected) in pairs {
            let found = threshold(looks, enrolled);
            assert!((found - expected).abs() < 1e-6, "{looks} against {enrolled}: {found}");
        }
    }

    #[test]
    fn one_camera_asks_for_more() {
        let people = [candidate("a", 0.0, 3)];
        let looks = consensus(3, &[25.0, 25.0, 25.0]); // 0.906
        assert_eq!(named(&looks.finding(&people, &thresholds())), Some(0));
        let reserved = thresholds().with_reserve(0.06);
        assert_eq!(looks.finding(&people, &reserved), Finding::Undecided);
        assert!((reserved.between(3, 3) - 0.96).abs() < 1e-6 && reserved.at(3) < 0.91);
    }

    #[test]
    fn nobody_only_when_clearly_so() {
        let people = [candidate("a", 0.0, 1)];
        let nobody = |degrees, looks| {
            let found = consensus(3, &vec![degrees; looks]).finding(&people, &thresholds());
            matches!(found, Finding::Nobody { .. })
        };
        assert!(nobody(60.0, 5));
        assert!(!nobody(60.0, 4), "too few looks");
        assert!(!nobody(30.0, 8), "0.87 is not clearly below 0.92");
    }

    #[test]
    fn the_best_looks_are_kept() {
        let mut consensus = Consensus::new(3);
        for second in 0..20 {
            consensus.add(look(0.0, 1.0 / (1 + second) as f32, second));
        }
        assert_eq!(consensus.looks().len(), KEPT);
        let mut kept: Vec<u64> = consensus.looks().iter().map(|l| l.taken.as_secs()).collect();
        kept.sort_unstable();
        assert_eq!(kept, [0, 1, 2, 3, 4, 5, 6, 19]);
        assert_eq!(consensus.latest(), Some(Duration::from_secs(19)));
    }

    #[test]
    fn another_face_does_not_belong() {
        let looks = consensus(3, &[0.0, 10.0]);
        assert!(looks.belongs(&at(40.0), &thresholds()));
        assert!(!looks.belongs(&at(80.0), &thresholds()));
    }
}
