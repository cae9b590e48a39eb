//! Whose face it is: embeddings, the gallery of enrolled people, matching and consensus.

mod decision;
mod embedding;
mod person;

pub use decision::{Decision, Evidence, LivenessScore, LivenessVerdict, Verdict};
pub use embedding::Embedding;
pub use person::{Candidate, PersonId, PersonRef};
