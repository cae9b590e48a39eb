//! What decides: the verified, loaded and self-tested models and what the configuration makes of them.

use std::path::Path;

use super::DaemonError;
use crate::config::{LivenessMode, Located};
use crate::model::{Engine, TrustAnchors, VerifiedBundle};
use crate::recognition::{LivenessPolicy, LookThresholds, Settings};

/// Looks for which thresholds are asked; more than the configuration allows to demand.
const MOST_LOOKS: usize = 16;

/// The engine that the configuration names, and when its bundle was verified.
pub fn start(located: &Located) -> Result<(Engine, jiff::Timestamp), DaemonError> {
    let bundle = &located.config.models.bundle;
    let liveness = located.config.liveness.mode != LivenessMode::Off;
    let engine = start_engine(bundle, &located.directory().join("trust.d"), liveness)?;
    Ok((engine, jiff::Timestamp::now()))
}

fn start_engine(bundle: &Path, trust: &Path, liveness: bool) -> Result<Engine, DaemonError> {
    let anchors = TrustAnchors::load(trust)?;
    let verified = VerifiedBundle::open(bundle, &anchors)?;
    let started =
        if liveness { Engine::start_with_liveness(verified) } else { Engine::start(verified) };
    started.map_err(|source| DaemonError::Engine { bundle: bundle.to_owned(), source })
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
    Ok(Settings::new(&config.recognition, &config.events, thresholds).with_liveness(liveness))
}
