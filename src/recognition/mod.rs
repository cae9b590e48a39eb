//! Whose face it is: embeddings, the gallery of enrolled people, matching and consensus.

pub mod consensus;
mod decision;
mod embedder;
mod embedding;
pub mod gallery;
pub mod liveness;
pub mod matcher;
mod person;
mod space;
mod threshold;
pub mod watch;

pub use consensus::LookThresholds;
pub use decision::{Decision, Evidence, LivenessScore, LivenessVerdict, Verdict};
pub use embedder::Embedder;
pub use embedding::Embedding;
pub use gallery::{Gallery, GalleryError};
pub use liveness::LivenessPolicy;
pub use person::{Candidate, PersonId, PersonRef};
pub use space::{Mapping, MappingError, Space, Usable};
pub use threshold::{ThresholdError, Thresholds};
pub use watch::{Eyes, Settings, Watch};
