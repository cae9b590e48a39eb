//! The models: trust (who signed them, are these the signed bytes) and running them in tract.

pub mod anchors;
pub mod bundle;
pub mod digest;
mod directory;
mod dsse;
pub mod engine;
mod excerpt;
pub mod manifest;
pub mod network;
mod public_key;
mod selftest;
mod sign;
pub(crate) mod signature;
pub mod slots;
pub(crate) mod statement;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod testing;
pub mod update;
mod weights;

pub use anchors::{Anchor, AnchorError, TrustAnchors};
pub use bundle::{BundleError, VerifiedBundle, VerifiedFiles, VerifiedModel};
pub use engine::{Engine, EngineError, space};
pub use network::NetworkError;
pub use sign::{SignError, SigningKey, sign};

/// Which bundle a decision rests on, as events tell it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ModelIdentity {
    pub name: String,
    pub version: String,
    /// OMS root digest, `sha256:…`
    pub digest: String,
}
