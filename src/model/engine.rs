//! The networks of one verified bundle, loaded and self-tested.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use image::RgbImage;

use super::ModelIdentity;
use super::bundle::{VerifiedBundle, VerifiedModel};
use super::digest::Sha256;
use super::manifest::{self, Manifest};
use super::network::NetworkError;
use super::selftest::{
    DetectorCase, EmbedderCase, LivenessCase, MappingCase, SelfTest, SelfTestError,
};
use crate::face::{DetectedFace, Detector, LivenessNetwork};
use crate::recognition::{
    Embedder, Embedding, Mapping, MappingError, Space, ThresholdError, Thresholds,
};
use crate::system::memory;

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("bundle.toml names {file}, which the bundle does not have")]
    Missing { file: String },
    #[error("{file}: {source}")]
    Network { file: String, source: NetworkError },
    #[error("{file}: {source}")]
    Mapping { file: String, source: MappingError },
    #[error("self-test of the models failed, they are not used: {0}")]
    SelfTest(#[from] SelfTestError),
    #[error("bundle.toml: {0}")]
    Calibration(#[from] ThresholdError),
    #[error("loading {file} ended without a result")]
    Thread { file: String },
}

/// The networks of one bundle. Exists only if the bundle was verified and passed its self-test on this machine.
pub struct Engine {
    identity: ModelIdentity,
    manifest: Manifest,
    embedder: Embedder,
    space: Space,
    detector: Detector,
    thresholds: Thresholds,
    liveness: Mutex<Liveness>,
    startup: Startup,
}

/// What the parts of a start took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Startup {
    /// Loading, on two threads at once.
    pub embedder: Duration,
    pub detector: Duration,
    /// Self-tests, on the same two threads.
    pub embedder_test: Duration,
    pub detector_test: Duration,
    /// From the verified bundle to a ready engine.
    pub total: Duration,
}

impl Engine {
    /// Loads embedder and detector and runs their self-tests. Liveness networks wait until they are needed.
    pub fn start(bundle: VerifiedBundle) -> Result<Self, EngineError> {
        memory::compactly(|| Self::load(bundle, false))
    }

    /// Loads and tests the liveness networks as well, beside the embedder, which takes longer.
    pub fn start_with_liveness(bundle: VerifiedBundle) -> Result<Self, EngineError> {
        memory::compactly(|| Self::load(bundle, true))
    }

    fn load(mut bundle: VerifiedBundle, with_liveness: bool) -> Result<Self, EngineError> {
        let began = Instant::now();
        let manifest = bundle.manifest().clone();
        let identity = bundle.identity();
        let thresholds = Thresholds::new(&manifest.calibration)?;
        let SelfTest {
            embedder: embedder_cases,
            detector: detector_cases,
            liveness: liveness_cases,
            mapping: mapping_cases,
        } = SelfTest::parse(
            &manifest,
            file(&bundle, "selftest.toml")?,
            file(&bundle, "selftest.bin")?,
        )?;
        let mappings = start_mappings(&bundle, &mapping_cases)?;
        let embedder_model = take(&mut bundle, &manifest.embedder.file)?;
        let detector_model = take(&mut bundle, &manifest.detector.file)?;
        let mut waiting = Vec::new();
        for network in &manifest.liveness {
            waiting.push((take(&mut bundle, &network.file)?, network.clone()));
        }
        drop(bundle);
        let mut liveness = Liveness::Waiting { networks: waiting, cases: liveness_cases };

        let (embedder, others) = std::thread::scope(|scope| {
            let others = scope.spawn(|| {
                let detector = start_detector(detector_model, &manifest.detector, &detector_cases)?;
                if with_liveness {
                    liveness.ready()?;
                }
                Ok(detector)
            });
            let embedder = start_embedder(embedder_model, &manifest.embedder, &embedder_cases);
            let file = &manifest.detector.file;
            let lost = |_| Err(EngineError::Thread { file: file.clone() });
            (embedder, others.join().unwrap_or_else(lost))
        });
        let (embedder, embedder_digest, embedder_times) = embedder?;
        let (detector, detector_times) = others?;
        let startup = Startup {
            embedder: embedder_times.0,
            embedder_test: embedder_times.1,
            detector: detector_times.0,
            detector_test: detector_times.1,
            total: began.elapsed(),
        };
        log::debug!("models ready: {startup:?}");
        Ok(Self {
            identity,
            manifest,
            embedder,
            space: Space::new(embedder_digest).with_mappings(mappings),
            detector,
            thresholds,
            liveness: Mutex::new(liveness),
            startup,
        })
    }

    pub fn identity(&self) -> &ModelIdentity {
        &self.identity
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    pub fn startup(&self) -> Startup {
        self.startup
    }

    /// What templates of the gallery are bound to, `sha256:…`: the embedding space that the manifest names, else
    /// the embedder's file and its manifest entry but for the file's name. Other networks of a bundle may
    /// change without enrolling people anew.
    pub fn embedder_digest(&self) -> &str {
        self.space.digest()
    }

    /// The space of [`Self::embedder_digest`], with the bundle's mappings into it.
    pub fn space(&self) -> &Space {
        &self.space
    }

    pub fn embedder(&self) -> &Embedder {
        &self.embedder
    }

    pub fn detector(&self) -> &Detector {
        &self.detector
    }

    /// The faces of a frame, most confident first, in its pixels.
    pub fn detect(&self, frame: &RgbImage) -> Result<Vec<DetectedFace>, NetworkError> {
        self.detector.detect(frame)
    }

    /// The same for a still, whose faces may be small, see [`Detector::detect_still`].
    pub fn detect_still(&self, still: &RgbImage) -> Result<Vec<DetectedFace>, NetworkError> {
        self.detector.detect_still(still)
    }

    pub fn embed(&self, frame: &RgbImage, face: &DetectedFace) -> Result<Embedding, NetworkError> {
        self.embedder.embed(frame, face)
    }

    /// Cosine similarity above which a look (`looks` pooled) is taken for a template at that false match rate.
    pub fn threshold(&self, false_match_rate: f64, looks: usize) -> Result<f32, ThresholdError> {
        self.thresholds.at(false_match_rate, looks)
    }

    pub fn thresholds(&self) -> &Thresholds {
        &self.thresholds
    }

    /// Does the bundle have liveness networks?
    pub fn has_liveness(&self) -> bool {
        !self.manifest.liveness.is_empty()
    }

    /// Loads and self-tests the liveness networks, if that has not been done; nothing to do if there are none.
    pub fn load_liveness(&self) -> Result<(), EngineError> {
        self.liveness_networks().map(drop)
    }

    /// Probability that a face is live, 0 to 1: the mean over the bundle's networks; `None` if it has none.
    pub fn liveness(
        &self,
        frame: &RgbImage,
        face: &DetectedFace,
    ) -> Result<Option<f32>, EngineError> {
        let networks = self.liveness_networks()?;
        let mut sum = 0.0;
        for (network, described) in networks.iter().zip(&self.manifest.liveness) {
            sum += network
                .score(frame, face)
                .map_err(|source| EngineError::Network { file: described.file.clone(), source })?;
        }
        Ok((!networks.is_empty()).then(|| sum / networks.len() as f32))
    }

    fn liveness_networks(&self) -> Result<Arc<Vec<LivenessNetwork>>, EngineError> {
        self.liveness.lock().unwrap_or_else(PoisonError::into_inner).ready()
    }

    /// The engine with another crop than the bundle's, to measure it; thresholds then do not hold.
    #[must_use]
    pub fn with_crop(mut self, crop: manifest::Crop) -> Self {
        self.embedder = self.embedder.with_crop(crop);
        self
    }
}

/// Liveness networks are small, but not every device uses them.
enum Liveness {
    Waiting { networks: Vec<(VerifiedModel, manifest::Liveness)>, cases: Vec<LivenessCase> },
    Ready(Arc<Vec<LivenessNetwork>>),
    Refused,
}

impl Liveness {
    fn ready(&mut self) -> Result<Arc<Vec<LivenessNetwork>>, EngineError> {
        if let Self::Ready(networks) = self {
            return Ok(Arc::clone(networks));
        }
        // Whatever fails below, these networks are not tried again.
        let Self::Waiting { networks: waiting, cases } = std::mem::replace(self, Self::Refused)
        else {
            return Err(SelfTestError::None("liveness networks, refused before".into()).into());
        };
        let mut networks = Vec::with_capacity(waiting.len());
        for (model, described) in waiting {
            let file = described.file.clone();
            let network = LivenessNetwork::load(model, &described)
                .map_err(|source| EngineError::Network { file, source })?;
            for case in cases.iter().filter(|case| case.model == described.file) {
                case.run(&network)?;
            }
            networks.push(network);
        }
        let networks = Arc::new(networks);
        *self = Self::Ready(Arc::clone(&networks));
        Ok(networks)
    }
}

type Times = (Duration, Duration);

fn start_embedder(
    model: VerifiedModel,
    manifest: &manifest::Embedder,
    cases: &[EmbedderCase],
) -> Result<(Embedder, String, Times), EngineError> {
    let began = Instant::now();
    let digest = digest(&model, manifest);
    let embedder = Embedder::load(model, manifest)
        .map_err(|source| EngineError::Network { file: manifest.file.clone(), source })?;
    let loaded = began.elapsed();
    for case in cases {
        case.run(&embedder)?;
    }
    Ok((embedder, digest, (loaded, began.elapsed().saturating_sub(loaded))))
}

fn start_detector(
    model: VerifiedModel,
    manifest: &manifest::Detector,
    cases: &[DetectorCase],
) -> Result<(Detector, Times), EngineError> {
    let began = Instant::now();
    let detector = Detector::load(model, manifest)
        .map_err(|source| EngineError::Network { file: manifest.file.clone(), source })?;
    let loaded = began.elapsed();
    for case in cases {
        case.run(&detector)?;
    }
    Ok((detector, (loaded, began.elapsed().saturating_sub(loaded))))
}

/// What [`Engine::space`] would be, without loading a network; its mappings are not tested.
pub fn space(mut bundle: VerifiedBundle) -> Result<Space, EngineError> {
    let mappings = start_mappings(&bundle, &[])?;
    let entry = bundle.manifest().embedder.clone();
    let model = take(&mut bundle, &entry.file)?;
    Ok(Space::new(digest(&model, &entry)).with_mappings(mappings))
}

fn start_mappings(
    bundle: &VerifiedBundle,
    cases: &[MappingCase],
) -> Result<Vec<Mapping>, EngineError> {
    let manifest::Embedder { dimensions, distance, .. } = bundle.manifest().embedder;
    let mut mappings = Vec::new();
    for declared in &bundle.manifest().mapping {
        let named = !declared.from.starts_with("sha256:");
        let from = if named {
            space_digest(&declared.from, declared.dimensions, distance)
        } else {
            declared.from.clone()
        };
        let bytes = file(bundle, &declared.file)?;
        let mapping =
            Mapping::parse(bytes, from, declared.dimensions, dimensions, declared.reserve)
                .map_err(|source| EngineError::Mapping { file: declared.file.clone(), source })?;
        for case in cases.iter().filter(|case| case.file == declared.file) {
            case.run(&mapping)?;
        }
        mappings.push(mapping);
    }
    Ok(mappings)
}

/// Of a space that a manifest names. Its signer answers for what is said of it: the network may be any.
fn space_digest(name: &str, dimensions: usize, distance: manifest::Distance) -> String {
    let entry =
        serde_json::json!({ "space": name, "dimensions": dimensions, "distance": distance });
    format!("sha256:{}", Sha256::of(entry.to_string().as_bytes()))
}

fn digest(model: &VerifiedModel, manifest: &manifest::Embedder) -> String {
    if let Some(space) = &manifest.space {
        return space_digest(space, manifest.dimensions, manifest.distance);
    }
    let entry = serde_json::json!({
        "input": manifest.input,
        "crop": manifest.crop,
        "dimensions": manifest.dimensions,
        "distance": manifest.distance,
    });
    format!("sha256:{}", Sha256::of(format!("{}{entry}", model.digest()).as_bytes()))
}

fn file<'a>(bundle: &'a VerifiedBundle, name: &str) -> Result<&'a [u8], EngineError> {
    bundle.file(name).ok_or_else(|| EngineError::Missing { file: name.to_owned() })
}

fn take(bundle: &mut VerifiedBundle, name: &str) -> Result<VerifiedModel, EngineError> {
    bundle.take_model(name).ok_or_else(|| EngineError::Missing { file: name.to_owned() })
}
