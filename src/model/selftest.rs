//! The self-test of a bundle: does this engine on this machine compute what the bundle's makers computed?
//!
//! `selftest.toml` lists the cases, `selftest.bin` holds pictures (RGB bytes) and embeddings (little-endian
//! float32) at the offsets the cases give.

use image::RgbImage;
use serde::Deserialize;

use super::manifest::{Input, Manifest};
use crate::face::{BoundingBox, DetectedFace, Detector, LivenessNetwork, Point};
use crate::recognition::{Embedder, Embedding, Mapping};

/// Largest difference of a detector's score.
const SCORE_TOLERANCE: f32 = 0.05;

#[derive(Debug, thiserror::Error)]
pub enum SelfTestError {
    #[error("selftest.toml: {0}")]
    Format(String),
    #[error("{test} is said to lie at offset {offset} of selftest.bin, which has {length} bytes")]
    Offset { test: String, offset: usize, length: usize },
    #[error("the bundle has no self-test for its {0}")]
    None(String),
    #[error(
        "{test}: cosine to the expected embedding is {cosine:.5}, at least {minimum} is wanted"
    )]
    Embedding { test: String, cosine: f32, minimum: f32 },
    #[error(
        "{test}: the mapped embedding has a cosine of {cosine:.5} to that of this model, at least {minimum} is \
         wanted: the mapping is not from the space it names, or not into this one"
    )]
    Mapping { test: String, cosine: f32, minimum: f32 },
    #[error("{test}: {found} faces found, {expected} expected")]
    Faces { test: String, found: usize, expected: usize },
    #[error("{test}: face {face} is {off:.2} pixels off, {tolerance} are allowed")]
    Place { test: String, face: usize, off: f32, tolerance: f32 },
    #[error("{test}: score of face {face} is {found:.3}, {expected:.3} expected")]
    Score { test: String, face: usize, found: f32, expected: f32 },
    #[error("{test}: scores {found:?} are not within {tolerance} of {expected:?}")]
    Liveness { test: String, found: Vec<f32>, expected: Vec<f32>, tolerance: f32 },
    #[error("{test}: {source}")]
    Network { test: String, source: super::network::NetworkError },
}

/// The cases of one bundle with their pictures.
#[derive(Debug)]
pub(super) struct SelfTest {
    pub(super) embedder: Vec<EmbedderCase>,
    pub(super) detector: Vec<DetectorCase>,
    pub(super) liveness: Vec<LivenessCase>,
    pub(super) mapping: Vec<MappingCase>,
}

#[derive(Debug)]
pub(super) struct EmbedderCase {
    name: String,
    picture: RgbImage,
    embedding: Embedding,
    minimum_cosine: f32,
}

#[derive(Debug)]
pub(super) struct DetectorCase {
    name: String,
    picture: RgbImage,
    faces: Vec<DetectedFace>,
    tolerance: f32,
}

#[derive(Debug)]
pub(super) struct LivenessCase {
    /// The bundle's file that it tests.
    pub(super) model: String,
    name: String,
    picture: RgbImage,
    scores: Vec<f32>,
    tolerance: f32,
}

/// Two embeddings of one face.
#[derive(Debug)]
pub(super) struct MappingCase {
    /// The bundle's file that it tests.
    pub(super) file: String,
    name: String,
    /// By the model that the mapping leads away from, and by this one.
    other: Embedding,
    own: Embedding,
    minimum_cosine: f32,
}

impl SelfTest {
    /// Takes verified text and bytes apart. A bundle must test its embedder, its detector, every liveness network and
    /// every mapping.
    pub(super) fn parse(
        manifest: &Manifest,
        text: &[u8],
        bytes: &[u8],
    ) -> Result<Self, SelfTestError> {
        let text = std::str::from_utf8(text).map_err(|e| SelfTestError::Format(e.to_string()))?;
        let file: File =
            toml::from_str(text).map_err(|e| SelfTestError::Format(e.message().to_owned()))?;
        let store = Store(bytes);
        let embedder = number(file.embedder, "embedder", |name, case: EmbedderToml| {
            Ok(EmbedderCase {
                picture: store.picture(&name, case.image, &manifest.embedder.input)?,
                embedding: store.embedding(&name, case.embedding, manifest.embedder.dimensions)?,
                minimum_cosine: case.minimum_cosine,
                name,
            })
        })?;
        let detector = number(file.detector, "detector", |name, case: DetectorToml| {
            Ok(DetectorCase {
                picture: store.picture(&name, case.image, &manifest.detector.input)?,
                faces: case.faces.into_iter().map(DetectedFace::from).collect(),
                tolerance: case.tolerance,
                name,
            })
        })?;
        let liveness = number(file.liveness, "liveness", |name, case: LivenessToml| {
            let network = manifest.liveness.iter().find(|network| network.file == case.model);
            let network = network.ok_or_else(|| {
                SelfTestError::Format(format!("{name}: no liveness network {}", case.model))
            })?;
            Ok(LivenessCase {
                picture: store.picture(&name, case.image, &network.input)?,
                model: case.model,
                scores: case.scores,
                tolerance: case.tolerance,
                name,
            })
        })?;
        let mapping = number(file.mapping, "mapping", |name, case: MappingToml| {
            let mapping = manifest.mapping.iter().find(|mapping| mapping.file == case.file);
            let mapping = mapping.ok_or_else(|| {
                SelfTestError::Format(format!("{name}: no mapping {}", case.file))
            })?;
            Ok(MappingCase {
                file: case.file,
                other: store.embedding(&name, case.other, mapping.dimensions)?,
                own: store.embedding(&name, case.own, manifest.embedder.dimensions)?,
                minimum_cosine: case.minimum_cosine,
                name,
            })
        })?;
        let found = detector.iter().any(|case| !case.faces.is_empty());
        if embedder.is_empty() {
            return Err(SelfTestError::None("embedder".into()));
        }
        if !found {
            return Err(SelfTestError::None("detector (with a face)".into()));
        }
        for network in &manifest.liveness {
            if liveness.iter().all(|case| case.model != network.file) {
                return Err(SelfTestError::None(network.file.clone()));
            }
        }
        for declared in &manifest.mapping {
            if mapping.iter().all(|case| case.file != declared.file) {
                return Err(SelfTestError::None(declared.file.clone()));
            }
        }
        Ok(Self { embedder, detector, liveness, mapping })
    }
}

impl EmbedderCase {
    pub(super) fn run(&self, embedder: &Embedder) -> Result<(), SelfTestError> {
        let test = self.name.clone();
        let found = match embedder.embed_crop(&self.picture) {
            Ok(found) => found,
            Err(source) => return Err(SelfTestError::Network { test, source }),
        };
        let (cosine, minimum) = (found.similarity(&self.embedding), self.minimum_cosine);
        if cosine >= minimum {
            Ok(())
        } else {
            Err(SelfTestError::Embedding { test, cosine, minimum })
        }
    }
}

impl MappingCase {
    pub(super) fn run(&self, mapping: &Mapping) -> Result<(), SelfTestError> {
        let mapped = mapping.map(&self.other);
        let cosine = mapped.map_or(-1.0, |mapped| mapped.similarity(&self.own));
        let (test, minimum) = (self.name.clone(), self.minimum_cosine);
        if cosine >= minimum {
            Ok(())
        } else {
            Err(SelfTestError::Mapping { test, cosine, minimum })
        }
    }
}

impl DetectorCase {
    pub(super) fn run(&self, detector: &Detector) -> Result<(), SelfTestError> {
        let test = self.name.clone();
        let found = match detector.detect_scaled(&self.picture) {
            Ok(found) => found,
            Err(source) => return Err(SelfTestError::Network { test, source }),
        };
        if found.len() != self.faces.len() {
            let (found, expected) = (found.len(), self.faces.len());
            return Err(SelfTestError::Faces { test, found, expected });
        }
        for (face, expected) in self.faces.iter().enumerate() {
            // Two faces of nearly one score may change places.
            let nearest = found.iter().min_by(|a, b| off(a, expected).total_cmp(&off(b, expected)));
            let Some(nearest) = nearest else { continue };
            let (off, tolerance) = (off(nearest, expected), self.tolerance);
            if !(off <= tolerance) {
                return Err(SelfTestError::Place { test, face, off, tolerance });
            }
            if !((nearest.score - expected.score).abs() <= SCORE_TOLERANCE) {
                let (found, expected) = (nearest.score, expected.score);
                return Err(SelfTestError::Score { test, face, found, expected });
            }
        }
        Ok(())
    }
}

impl LivenessCase {
    pub(super) fn run(&self, network: &LivenessNetwork) -> Result<(), SelfTestError> {
        let test = self.name.clone();
        let found = match network.classes(&self.picture) {
            Ok(found) => found,
            Err(source) => return Err(SelfTestError::Network { test, source }),
        };
        let close = |(a, b): (&f32, &f32)| (a - b).abs() <= self.tolerance;
        if found.len() == self.scores.len() && found.iter().zip(&self.scores).all(close) {
            return Ok(());
        }
        let (expected, tolerance) = (self.scores.clone(), self.tolerance);
        Err(SelfTestError::Liveness { test, found, expected, tolerance })
    }
}

/// Largest difference of any coordinate, in pixels.
fn off(a: &DetectedFace, b: &DetectedFace) -> f32 {
    let corners = |face: &DetectedFace| {
        let BoundingBox { x, y, width, height } = face.bounds;
        [x, y, x + width, y + height]
    };
    let of_corners = corners(a).into_iter().zip(corners(b)).map(|(a, b)| (a - b).abs());
    let points = a.landmarks.iter().zip(&b.landmarks);
    let of_points = points.map(|(a, b)| (a.x - b.x).abs().max((a.y - b.y).abs()));
    of_corners.chain(of_points).fold(0.0, f32::max)
}

/// Names the cases of one kind ("embedder self-test 1") and makes them.
fn number<T, C>(
    cases: Vec<T>,
    kind: &str,
    make: impl Fn(String, T) -> Result<C, SelfTestError>,
) -> Result<Vec<C>, SelfTestError> {
    let named = cases.into_iter().enumerate();
    named.map(|(at, case)| make(format!("{kind} self-test {}", at + 1), case)).collect()
}

/// `selftest.bin`.
struct Store<'a>(&'a [u8]);

impl Store<'_> {
    fn part(&self, test: &str, place: Place, length: usize) -> Result<&[u8], SelfTestError> {
        let end = place.offset.checked_add(length);
        end.and_then(|end| self.0.get(place.offset..end)).ok_or_else(|| SelfTestError::Offset {
            test: test.to_owned(),
            offset: place.offset,
            length: self.0.len(),
        })
    }

    fn picture(&self, test: &str, place: Place, input: &Input) -> Result<RgbImage, SelfTestError> {
        let length = (input.width as usize)
            .checked_mul(input.height as usize)
            .and_then(|pixels| pixels.checked_mul(3))
            .ok_or_else(|| SelfTestError::Format("a picture beyond all bounds".into()))?;
        let bytes = self.part(test, place, length)?.to_vec();
        RgbImage::from_raw(input.width, input.height, bytes)
            .ok_or_else(|| SelfTestError::Format("a picture of the wrong size".into()))
    }

    fn embedding(
        &self,
        test: &str,
        place: Place,
        length: usize,
    ) -> Result<Embedding, SelfTestError> {
        let bytes = self.part(test, place, length.saturating_mul(4))?;
        let (words, _) = bytes.as_chunks::<4>();
        Embedding::normalized(words.iter().map(|word| f32::from_le_bytes(*word)).collect())
            .ok_or_else(|| SelfTestError::Format(format!("{test}: not an embedding")))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    embedder: Vec<EmbedderToml>,
    #[serde(default)]
    detector: Vec<DetectorToml>,
    #[serde(default)]
    liveness: Vec<LivenessToml>,
    #[serde(default)]
    mapping: Vec<MappingToml>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    offset: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EmbedderToml {
    image: Place,
    embedding: Place,
    minimum_cosine: f32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MappingToml {
    file: String,
    other: Place,
    own: Place,
    minimum_cosine: f32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DetectorToml {
    image: Place,
    tolerance: f32,
    faces: Vec<FaceToml>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FaceToml {
    #[serde(rename = "box")]
    bounds: [f32; 4],
    landmarks: [[f32; 2]; 5],
    score: f32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LivenessToml {
    model: String,
    image: Place,
    scores: Vec<f32>,
    tolerance: f32,
}

impl From<FaceToml> for DetectedFace {
    fn from(face: FaceToml) -> Self {
        let [x, y, width, height] = face.bounds;
        Self {
            bounds: BoundingBox { x, y, width, height },
            score: face.score,
            landmarks: face.landmarks.map(|[x, y]| Point { x, y }),
        }
    }
}
