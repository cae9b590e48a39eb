//! familiar knows the faces of a household or a site and tells of them in signed facts.
//!
//! The modules lie along the path of the data:
//! [`camera`] → [`face`] → [`recognition`] → [`event`] → [`mqtt`],
//! with [`model`] (trust in the networks that are run) and [`system`] (the machine) at its sides.
//! [`daemon`] joins them; [`cli`] is what a person types.

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
pub mod system;
#[doc(hidden)]
pub mod untrusted;
