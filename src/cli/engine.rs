//! The models, verified, loaded and self-tested, for the verbs that look at pictures.

use std::path::{Path, PathBuf};

use super::{Failure, Global};
use crate::model::{Engine, EngineError, TrustAnchors, VerifiedBundle};

/// Another bundle than the configuration's, for verbs that measure models.
#[derive(Debug, clap::Args)]
pub struct Choice {
    /// Model bundle to measure [default: the configuration's]
    #[arg(long, value_name = "DIR", requires = "trust")]
    bundle: Option<PathBuf>,
    /// Folder of trust anchors (*.pub) for --bundle
    #[arg(long, value_name = "DIR", requires = "bundle")]
    trust: Option<PathBuf>,
}

impl Choice {
    /// Folders of the bundle and of the anchors that may have signed it.
    pub fn directories(&self, global: &Global) -> Result<(PathBuf, PathBuf), Failure> {
        if let (Some(bundle), Some(trust)) = (&self.bundle, &self.trust) {
            return Ok((bundle.clone(), trust.clone()));
        }
        configured(global)
    }
}

/// Opens the bundle of the configuration; its trust anchors are in `trust.d` beside the configuration file.
pub fn open(global: &Global) -> Result<Engine, Failure> {
    let (bundle, trust) = configured(global)?;
    start(verify(&bundle, &trust)?, &bundle)
}

/// Opens the bundle asked for, else that of the configuration.
pub fn open_chosen(global: &Global, choice: &Choice) -> Result<Engine, Failure> {
    let (bundle, trust) = choice.directories(global)?;
    start(verify(&bundle, &trust)?, &bundle)
}

/// Verifies a bundle that one of the anchors in `trust` has signed. What does not hold is exit 3.
pub fn verify(bundle: &Path, trust: &Path) -> Result<VerifiedBundle, Failure> {
    let anchors = TrustAnchors::load(trust).map_err(Failure::refused)?;
    VerifiedBundle::open(bundle, &anchors).map_err(Failure::refused)
}

/// Loads and self-tests a verified bundle; `directory` is named in errors.
pub fn start(verified: VerifiedBundle, directory: &Path) -> Result<Engine, Failure> {
    Engine::start(verified).map_err(|error| refused(directory, &error))
}

pub fn refused(directory: &Path, error: &EngineError) -> Failure {
    Failure::refused(format!("model bundle {}: {error}", directory.display()))
}

/// Folders of the configured bundle and of the anchors beside the configuration.
pub fn configured(global: &Global) -> Result<(PathBuf, PathBuf), Failure> {
    let located = global.located()?;
    Ok((located.config.models.bundle.clone(), located.directory().join("trust.d")))
}
