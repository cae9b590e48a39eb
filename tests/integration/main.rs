//! Behaviour through what the outside sees: the binary, its files and its messages.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bundle;
mod bundle_signature;
mod bundle_signing;
mod command;
mod daemon;
mod engine;
mod events;
mod lying_broker;
mod full_disk;
mod messages;
mod mqtt;
mod soak;
mod states;
mod rotation;
mod support;

mod gallery;
mod webcam;

mod documents;
