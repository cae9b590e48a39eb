//! From several looks at one track to a name: better none than a wrong one.

use std::time::Duration;

use super::matcher::nearest;
use super::{Candidate, Embedding};

/// The pooled look must be nearer to the person than to anyone else by this much (cosine), else it
/// is a tie. Two enrolled people this much alike need a human to tell them apart.
pub const TIE: f32 = 0.05;
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
/// of someone else. (About one in fifty pairs of different people is more alike than that.)
const BELONGING: f32 = 0.25;

/// Cosine thresholds by the number of pooled looks: averaging makes strangers more alike, too.
#[derive(Debug, Clone, PartialEq)]
pub struct LookThresholds(Vec<f32>);

impl LookThresholds {
    /// `by_looks[0]` is for one look. `None` if there is none or one is not within -1 to 1.
    pub fn new(by_looks: Vec<f32>) -> Option<Self> {
        let sound = by_looks.iter().all(|threshold| (-1.0..=1.0).contains(threshold));
        (sound && !by_looks.is_empty()).then_some(Self(by_looks))
    }

    /// Asks `threshold` (as [`Engine::threshold`](crate::model)) for 1 to `most` looks.
    pub fn ask<E>(
        most: usize,
        threshold: impl FnMut(usize) -> Result<f32, E>,
    ) -> Result<Option<Self>, E> {
        (1..=most).map(threshold).collect::<Result<_, _>>().map(Self::new)
    }

    /// For more looks than there are thresholds, the last one.
    pub fn at(&self, looks: usize) -> f32 {
        self.0[looks.clamp(1, self.0.len()) - 1]
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
    /// They agree that it is nobody enrolled; `similarity` to the nearest, 0 if nobody is.
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
    /// looks kept reaches the threshold and is ahead of the second nearest by [`TIE`].
    pub fn finding(&self, candidates: &[Candidate], thresholds: &LookThresholds) -> Finding {
        let Some(pooled) = self.pooled() else { return Finding::Undecided };
        if self.looks.len() < self.frames {
            return Finding::Undecided;
        }
        let Some(best) = nearest(&pooled, candidates) else {
            return self.nobody(0.0, thresholds.at(self.looks.len()));
        };
        let mut agreeing = 0;
        let mut contradicted = false;
        for look in &self.looks {
            let Some(own) = nearest(&look.embedding, candidates) else { continue };
            agreeing += usize::from(own.index == best.index);
            contradicted |= own.index != best.index && own.similarity >= thresholds.at(1);
        }
        let candidate = &candidates[best.index];
        let threshold = thresholds.at(self.looks.len().max(candidate.looks));
        if best.similarity < threshold {
            return self.nobody(best.similarity, threshold);
        }
        let majority = agreeing as f32 >= AGREEING * self.looks.len() as f32;
        if contradicted || !majority || agreeing < self.frames || best.margin() < TIE {
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
        let looks = self.looks.len();
        let span = self
            .latest()
            .zip(self.first)
            .map_or(Duration::ZERO, |(latest, first)| latest.saturating_sub(first));
        if looks >= self.frames.max(UNKNOWN_LOOKS)
            && span >= UNKNOWN_AFTER
            && similarity < threshold - CLEARLY
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
