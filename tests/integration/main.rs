//! Behaviour through what the outside sees: the binary, its files and its messages.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod adapters;
mod arm;
mod binary;
mod bundle;
mod bundle_signature;
mod bundle_signing;
mod check;
mod check_unit;
mod command;
mod corpora;
mod daemon;
mod dependencies;
mod engine;
mod evaluate;
mod events;
mod fleet;
mod full_disk;
#[path = "../../fuzz/src/fuzzed/mod.rs"]
mod fuzzed;
mod home_assistant;
mod liveness;
mod lying_broker;
mod mapping;
mod messages;
mod mqtt;
mod republish;
mod rotation;
mod setup;
mod shadow;
mod slots;
mod soak;
mod sockets;
mod states;
mod support;
mod unit;
mod updates;

mod gallery;
mod webcam;

mod documents;
