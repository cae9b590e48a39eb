//! What decides: the verified, loaded and self-tested models and what the configuration makes of them.

use std::path::Path;

use super::DaemonError;
use crate::config::{LivenessMode, Located};
use crate::model::{Engine, TrustAnchors, VerifiedBundle};
use crate::recognition::{LookThresholds, Settings};

/// Looks for which thresholds are asked; more than the configuration allows to demand.
const MOST_LOOKS: usize = 16;

/// The engine that the configuration names, and when its bundle was verified.
pub fn start(located: &Located) -> Result<(Engine, jiff::Timestamp), DaemonError> {
    let bundle = &located.config.models.bundle;
    let engine = start_engine(bundle, &located.directory().join("trust.d"))?;
    decide_liveness(located.config.liveness.mode, engine.has_liveness())?;
    Ok((engine, jiff::Timestamp::now()))
}

fn start_engine(bundle: &Path, trust: &Path) -> Result<Engine, DaemonError> {
    let anchors = TrustAnchors::load(trust)?;
    let verified = VerifiedBundle::open(bundle, &anchors)?;
    Engine::start(verified)
        .map_err(|source| DaemonError::Engine { bundle: bundle.to_owned(), source })
}

/// This version carries the liveness networks and does not decide by them; whoever demands that it
/// does must not be left to believe it.
pub fn decide_liveness(mode: LivenessMode, carried: bool) -> Result<(), DaemonError> {
    match (mode, carried) {
        (LivenessMode::Off, _) => {}
        (LivenessMode::Enforce, false) => {
            return Err(DaemonError::Liveness("the model bundle has no liveness model"));
        }
        (LivenessMode::Enforce, true) => {
            return Err(DaemonError::Liveness(
                "this version cannot decide liveness yet; a photograph would be taken for its person",
            ));
        }
        (LivenessMode::Auto | LivenessMode::Report, _) => log::warn!(
            "liveness is off: {}; a photograph held before the camera is taken for its person",
            if carried {
                "this version does not decide by the bundle's liveness models yet"
            } else {
                "the model bundle has no liveness model"
            }
        ),
    }
    Ok(())
}

/// How to decide, by the bundle's calibration for the configured rate.
pub fn settings(located: &Located, engine: &Engine) -> Result<Settings, DaemonError> {
    let config = &located.config;
    let rate = config.recognition.false_match_rate;
    let thresholds = LookThresholds::ask(MOST_LOOKS, |looks| engine.threshold(rate, looks))?
        .ok_or(DaemonError::NoThreshold)?;
    Ok(Settings::new(&config.recognition, &config.events, thresholds))
}
