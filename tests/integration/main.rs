//! Behaviour through what the outside sees: the binary, its files and its messages.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bundle;
mod bundle_signature;
mod bundle_signing;
mod daemon;
mod engine;
mod events;
mod home_assistant;
mod messages;
mod mqtt;
mod support;

mod gallery;
mod webcam;

mod documents;
