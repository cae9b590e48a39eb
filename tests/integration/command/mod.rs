//! Commands to the device, by attack.

mod daemon;
mod foreign;
mod gate;
mod site;
