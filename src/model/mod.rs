//! The models: trust (who signed them, are these the signed bytes) and running them in tract.

pub mod engine;
pub mod manifest;
pub mod network;
mod selftest;
mod weights;

/// Which bundle a decision rests on, as events tell it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ModelIdentity {
    pub name: String,
    pub version: String,
    /// OMS root digest, `sha256:…`
    pub digest: String,
}
