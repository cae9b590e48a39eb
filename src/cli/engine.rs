//! The models, verified, loaded and self-tested, for the verbs that look at pictures.

use std::path::{Path, PathBuf};

use super::{Failure, Global};
use crate::config::Located;
use crate::model::{Engine, EngineError, TrustAnchors, VerifiedBundle, slots};
use crate::system::state::StateDirectory;

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
    /// The bundle asked for, else the one that runs on this device; verified, and its folder.
    pub fn open(&self, global: &Global) -> Result<(VerifiedBundle, PathBuf), Failure> {
        match (&self.bundle, &self.trust) {
            (Some(bundle), Some(trust)) => Ok((verify(bundle, trust)?, bundle.clone())),
            _ => running(global),
        }
    }
}

/// Starts the bundle that runs on this device.
pub fn open(global: &Global) -> Result<Engine, Failure> {
    let (bundle, directory) = running(global)?;
    start(bundle, &directory)
}

/// Starts the bundle asked for, else the one that runs on this device.
pub fn open_chosen(global: &Global, choice: &Choice) -> Result<Engine, Failure> {
    let (bundle, directory) = choice.open(global)?;
    start(bundle, &directory)
}

/// The bundle that the daemon would run: the installed one, else the factory's of the configuration, by the
/// trust anchors in `trust.d` beside it; verified, and its folder.
pub fn running(global: &Global) -> Result<(VerifiedBundle, PathBuf), Failure> {
    let located = global.located()?;
    let anchors = anchors(&located)?;
    let state = StateDirectory::locate();
    let (bundle, directory, _) = slots::chosen(&state, &located.config.models.bundle, &anchors)?;
    Ok((bundle, directory))
}

/// Those beside the configuration.
pub fn anchors(located: &Located) -> Result<TrustAnchors, Failure> {
    Ok(TrustAnchors::load(&located.directory().join("trust.d"))?)
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
