//! Whose face it is: embeddings, the gallery of enrolled people, matching and consensus.

mod decision;
mod embedder;
mod embedding;
mod person;
mod threshold;

pub use decision::{Decision, Evidence, LivenessScore, LivenessVerdict, Verdict};
pub use embedder::Embedder;
pub use embedding::Embedding;
pub use person::{Candidate, PersonId, PersonRef};
pub use threshold::{ThresholdError, Thresholds};
