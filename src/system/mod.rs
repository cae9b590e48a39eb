//! The machine: where state lies, secrets, the clock, the journal, readiness.

pub mod clock;
pub mod log;
pub mod memory;
pub mod notify;
pub mod secret;
pub mod state;
pub mod stop;
