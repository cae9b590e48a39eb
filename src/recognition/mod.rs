//! Whose face it is: embeddings, the gallery of enrolled people, matching and consensus.

mod embedding;

pub use embedding::Embedding;
