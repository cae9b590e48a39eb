//! Behaviour through what the outside sees: the binary, its files and its messages.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bundle;
mod bundle_signing;
mod events;
mod messages;
mod mqtt;
mod support;
