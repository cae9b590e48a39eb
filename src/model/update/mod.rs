//! Model updates out of a TUF repository (The Update Framework 1.0) on a static host or in a folder.

pub mod archive;
mod canonical;
pub mod client;
mod connector;
pub mod download;
pub mod fetch;
mod key;
pub mod metadata;
pub mod release;
pub mod store;
pub mod time;
