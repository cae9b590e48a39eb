//! Behaviour through what the outside sees: the binary, its files and its messages.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod adapters;
mod arm;
mod binary;
mod broken_disk;
mod broker_names;
mod bundle;
mod bundle_signature;
mod bundle_signing;
mod camera;
mod certificates;
mod check;
mod check_unit;
mod clock;
mod command;
mod corpora;
mod daemon;
mod dependencies;
mod engine;
mod evaluate;
mod event_files;
mod events;
mod fleet;
mod full_disk;
#[path = "../../fuzz/src/fuzzed/mod.rs"]
mod fuzzed;
mod home_assistant;
mod left_out;
mod liveness;
mod lying_broker;
mod mapping;
mod messages;
mod mqtt;
mod names;
mod renamed;
mod republish;
mod rotation;
mod setup;
mod shadow;
mod slots;
mod soak;
mod sockets;
mod state_directory;
mod states;
mod support;
mod unit;
mod updates;

mod gallery;
mod webcam;

mod documented_broker;
mod documents;
