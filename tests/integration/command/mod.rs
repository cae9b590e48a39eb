//! Commands to the device, by attack.

mod gate;
mod site;
