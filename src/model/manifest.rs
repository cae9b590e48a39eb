//! `bundle.toml`: what the networks of a bundle are, how they want to be fed and what they give.
//! Other models are taken by writing another manifest, not other code.

mod parse;
mod version;

use serde::{Deserialize, Serialize};

pub use parse::ManifestError;
pub use version::Version;

/// The manifest of a bundle, format 1. Unknown keys are errors.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// 1
    pub format: u32,
    /// `[a-z0-9_-]{1,64}`
    pub name: String,
    /// `MAJOR.MINOR.PATCH`
    pub version: String,
    /// SPDX expression over all models.
    pub licence: String,
    /// Oldest version of the daemon that can run this bundle, `MAJOR.MINOR.PATCH`.
    pub minimum_daemon: String,
    pub embedder: Embedder,
    pub detector: Detector,
    /// The networks whose live scores are averaged; may be absent.
    #[serde(default)]
    pub liveness: Vec<Liveness>,
    /// How their scores are judged; absent in bundles of before it was decided by.
    pub liveness_decision: Option<LivenessDecision>,
    /// One table for each number of pooled looks.
    pub calibration: Vec<Calibration>,
    /// Ways from the embedding spaces of other models into this one's; may be absent.
    #[serde(default)]
    pub mapping: Vec<Mapping>,
}

/// A network's input tensor: one picture, float32.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    pub width: u32,
    pub height: u32,
    pub layout: Layout,
    pub channels: Channels,
    /// value = (byte - mean) * scale, per channel in the order of `channels`.
    pub mean: [f32; 3],
    pub scale: [f32; 3],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    Nchw,
    Nhwc,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Channels {
    Rgb,
    Bgr,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Embedder {
    /// Name of the ONNX file in the bundle.
    pub file: String,
    pub input: Input,
    pub crop: Crop,
    /// Length of the embedding.
    pub dimensions: usize,
    pub distance: Distance,
    /// Name of the embedding space, `[a-z0-9_-]{1,64}`. By it the signer says that embeddings of every bundle
    /// that names the same space may be compared; without it they are compared with those of the very
    /// same network alone.
    pub space: Option<String>,
}

/// How a face is cut from a frame for an embedder.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Crop {
    /// The detector's box, enlarged on each side by `margin` / 2 times its width and height, clamped to the
    /// frame, stretched to the input's size.
    Box { margin: f32 },
    /// The square about the box's centre with side = `scale` × the box's longer side; what lies beyond the
    /// frame repeats its edge.
    Square { scale: f32 },
    /// A similarity transform (least squares, Umeyama 1991) that brings the five landmarks, in
    /// [`crate::face::DetectedFace`]'s order, to `template` (in fractions of the input's width and height).
    FivePoint { template: [[f32; 2]; 5] },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Distance {
    Cosine,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Detector {
    pub file: String,
    pub decoder: Decoder,
    pub input: Input,
    /// Faces below this confidence are not reported, 0 to 1.
    pub score_threshold: f32,
    /// Of two boxes that overlap by more (IoU), the weaker goes.
    pub overlap_threshold: f32,
}

/// How a detector's output tensors become faces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decoder {
    Yunet,
    Centerface,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Liveness {
    pub file: String,
    pub input: Input,
    /// The crop is the detector's box (brought to the shape its authors used) enlarged by this factor.
    pub crop_scale: f32,
    /// Which of the softmax outputs is "live".
    pub live_class: usize,
}

/// The bar for a face to be live, chosen on recordings that the card names.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LivenessDecision {
    /// Mean score (over the networks, then over the frames of a track) from which on a face is live, 0 to 1.
    pub threshold: f32,
}

/// For a bundle that gives none: more likely live than not, as its networks see it.
const LIVENESS_THRESHOLD: f32 = 0.5;

impl Manifest {
    /// Mean score from which on a face is live, 0 to 1: the bundle's, else one half.
    pub fn liveness_threshold(&self) -> f32 {
        self.liveness_decision.map_or(LIVENESS_THRESHOLD, |decision| decision.threshold)
    }
}

/// How templates of another model become templates of this one, so that nobody need be enrolled again.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// The other model's space: the name its manifest gives, or what its templates are bound to (`sha256:…`, as
    /// `familiar model verify` tells).
    pub from: String,
    /// Name of the file in the bundle, see [`crate::recognition::Mapping::parse`].
    pub file: String,
    /// Length of the other model's embedding.
    pub dimensions: usize,
    /// Cosine, 0 to 2: what a mapped template must be nearer than a native one at every rate of the calibration.
    pub reserve: f32,
    /// Impostor pairs (mapped template, look by this model) that `reserve` was measured on.
    pub pairs: u64,
}

/// Measured similarity of different people: "so often two people look at least that much alike".
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Pooled looks on each side.
    pub looks: usize,
    /// Impostor pairs it was measured on.
    pub pairs: u64,
    /// False match rate (descending) and cosine threshold (ascending).
    pub points: Vec<CalibrationPoint>,
}

#[derive(Debug, Clone, Copy, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CalibrationPoint {
    pub false_match_rate: f64,
    pub similarity: f32,
}
