//! familiar knows the faces of a household or a site and tells of them in signed facts.
//!
//! The modules lie along the path of the data:
//! [`camera`] → [`face`] → [`recognition`] → [`event`] → [`mqtt`],
//! with [`model`] (trust in the networks that are run) and [`system`] (the machine) at its sides.
//! [`daemon`] joins them; [`cli`] is what a person types.

// First: its macros print for the modules below.
#[macro_use]
pub mod system;

pub mod camera;
pub mod cli;
pub mod command;
pub mod config;
pub mod daemon;
pub mod evaluate;
pub mod event;
pub mod face;
pub mod model;
pub mod mqtt;
pub mod recognition;
#[doc(hidden)]
pub mod untrusted;
