//! The configured models, verified, loaded and self-tested, for the verbs that look at pictures.

use std::path::Path;

use super::{Failure, Global};
use crate::model::{Engine, EngineError, TrustAnchors, VerifiedBundle};

/// Opens the bundle of the configuration; its trust anchors are in `trust.d` beside the configuration file.
pub fn open(global: &Global) -> Result<Engine, Failure> {
    let located = global.located()?;
    open_at(&located.config.models.bundle, &located.directory().join("trust.d"))
}

/// Opens a bundle that one of the anchors in `trust` has signed. What does not hold is exit 3.
pub fn open_at(bundle: &Path, trust: &Path) -> Result<Engine, Failure> {
    let anchors = TrustAnchors::load(trust).map_err(Failure::refused)?;
    let verified = VerifiedBundle::open(bundle, &anchors).map_err(Failure::refused)?;
    start(verified, bundle)
}

pub fn start(verified: VerifiedBundle, directory: &Path) -> Result<Engine, Failure> {
    Engine::start(verified).map_err(|error| refused(directory, &error))
}

fn refused(directory: &Path, error: &EngineError) -> Failure {
    Failure::refused(format!("model bundle {}: {error}", directory.display()))
}
