//! What decides: the verified, loaded and self-tested models and what the configuration makes of them.

use std::path::Path;

use super::DaemonError;
use crate::config::{LivenessMode, Located};
use crate::model::manifest::Manifest;
use crate::model::slots::{self, BootError, Booted, Origin, Outcome, Slots};
use crate::model::{BundleError, Engine, EngineError, TrustAnchors, VerifiedBundle};
use crate::recognition::{LivenessPolicy, LookThresholds, Settings, Thresholds};
use crate::system::state::StateDirectory;

/// Looks for which thresholds are asked; more than the configuration allows to demand.
const MOST_LOOKS: usize = 16;

/// An engine that fits the configuration, and how it is decided by it.
pub struct Running {
    pub engine: Engine,
    pub settings: Settings,
    pub state: ModelState,
    /// To be confirmed.
    pub on_trial: bool,
    /// The last change of models.
    pub last: Option<Outcome>,
}

/// What is told of the bundle that runs.
#[derive(Debug, Clone)]
pub struct ModelState {
    pub verified: jiff::Timestamp,
    pub origin: Origin,
    pub trouble: Option<String>,
}

/// The installed bundle, else the one before, else the factory's, which the configuration names.
pub fn start(located: &Located, state: &StateDirectory) -> Result<Running, DaemonError> {
    let anchors = TrustAnchors::load(&located.directory().join("trust.d"))?;
    let load = |bundle| load(located, bundle);
    let factory = &located.config.models.bundle;
    let mut slots = match Slots::open(state) {
        Ok(slots) => slots,
        Err(error) => {
            log::error!("the factory's model bundle is taken: {error}");
            let bundle = VerifiedBundle::open(factory, &anchors)?;
            let verified = jiff::Timestamp::now();
            let engine = load(bundle)
                .map_err(|source| DaemonError::Engine { bundle: factory.clone(), source })?;
            let trouble = Some(error.to_string());
            let origin = Origin::Factory;
            let settings = settings(located, &engine)?;
            let state = ModelState { verified, origin, trouble };
            return Ok(Running { engine, settings, state, on_trial: false, last: None });
        }
    };
    let mut unfit = None;
    loop {
        let booted = slots.boot(factory, &anchors, load)?;
        let settings = match settings(located, &booted.engine) {
            Ok(settings) => settings,
            // It may be a sound bundle, but not one for this configuration.
            Err(error) if booted.on_trial => {
                let model = booted.engine.identity();
                log::error!("model {} {} is not used: {error}", model.name, model.version);
                unfit = Some(error.to_string());
                slots.give_up(&model.digest, &error.to_string())?;
                continue;
            }
            Err(error) => return Err(error),
        };
        let Booted { engine, origin, verified, on_trial, trouble } = booted;
        let state = ModelState { verified, origin, trouble: unfit.or(trouble) };
        let last = slots.record().last.clone();
        return Ok(Running { engine, settings, state, on_trial, last });
    }
}

/// Whether another bundle is to run than the one that does: something was installed, or gone back from.
pub fn has_changed(state: &StateDirectory, running: &ModelState, engine: &Engine) -> bool {
    let current = match slots::look(state.path()) {
        Ok(record) => record.and_then(|record| record.current),
        Err(_) => return false,
    };
    match current {
        Some(slot) => slot.model.digest != engine.identity().digest,
        None => running.origin != Origin::Factory,
    }
}

/// Loads and self-tests a bundle with what the configuration needs of it.
pub fn load(located: &Located, bundle: VerifiedBundle) -> Result<Engine, EngineError> {
    if located.config.liveness.mode == LivenessMode::Off {
        Engine::start(bundle)
    } else {
        Engine::start_with_liveness(bundle)
    }
}

/// Whether the daemon would run with a bundle as it is configured.
pub fn fits(located: &Located, manifest: &Manifest) -> Result<(), DaemonError> {
    let config = &located.config;
    let thresholds = Thresholds::new(&manifest.calibration)?;
    for looks in [1, config.recognition.frames] {
        thresholds.at(config.recognition.false_match_rate, looks)?;
    }
    if config.liveness.mode == LivenessMode::Enforce && manifest.liveness.is_empty() {
        return Err(DaemonError::Liveness("the model bundle has no liveness model"));
    }
    Ok(())
}

/// The bundle that a start would run, without starting it.
pub fn chosen(
    state: &Path,
    factory: &Path,
    anchors: &TrustAnchors,
) -> Result<VerifiedBundle, BundleError> {
    slots::chosen(state, factory, anchors).map(|(bundle, ..)| bundle)
}

impl From<BootError> for DaemonError {
    fn from(error: BootError) -> Self {
        match error {
            BootError::Bundle(error) => Self::Bundle(error),
            BootError::Engine { directory, source } => Self::Engine { bundle: directory, source },
            error @ BootError::Swapped { .. } => Self::Swapped(error),
        }
    }
}

/// What is done by the bundle's liveness networks, which are loaded and self-tested if they are needed.
pub fn decide_liveness(
    located: &Located,
    engine: &Engine,
) -> Result<Option<LivenessPolicy>, DaemonError> {
    let enforce = match (located.config.liveness.mode, engine.has_liveness()) {
        (LivenessMode::Off, _) => return Ok(None),
        (LivenessMode::Enforce, false) => {
            return Err(DaemonError::Liveness("the model bundle has no liveness model"));
        }
        (LivenessMode::Auto | LivenessMode::Report, false) => {
            log::warn!(
                "liveness is off: the model bundle has no liveness model; a photograph held before the camera is \
                 taken for its person"
            );
            return Ok(None);
        }
        (LivenessMode::Auto | LivenessMode::Enforce, true) => true,
        (LivenessMode::Report, true) => {
            log::warn!(
                "liveness is only reported: a photograph held before the camera is taken for its person"
            );
            false
        }
    };
    let bundle = &located.config.models.bundle;
    engine
        .load_liveness()
        .map_err(|source| DaemonError::Engine { bundle: bundle.clone(), source })?;
    Ok(Some(LivenessPolicy { threshold: engine.manifest().liveness_threshold(), enforce }))
}

/// How to decide, by the bundle's calibration for the configured rate.
pub fn settings(located: &Located, engine: &Engine) -> Result<Settings, DaemonError> {
    let config = &located.config;
    let rate = config.recognition.false_match_rate;
    let thresholds = LookThresholds::ask(MOST_LOOKS, |looks| engine.threshold(rate, looks))?
        .ok_or(DaemonError::NoThreshold)?;
    let liveness = decide_liveness(located, engine)?;
    Ok(Settings::new(&config.recognition, &config.events, thresholds)
        .with_liveness(liveness)
        .with_smallest_face(config.camera.smallest_face))
}
