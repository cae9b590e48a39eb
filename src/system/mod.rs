//! The machine: where state lies, secrets, the clock, the journal, readiness.

#[macro_use]
pub mod plain;

pub mod bounded;
pub mod bucket;
pub mod clock;
pub mod confine;
pub mod contain;
pub mod database;
pub mod dial;
pub mod disk;
pub mod landlock;
pub mod lock;
pub mod log;
pub mod memory;
pub mod nearest;
pub mod notify;
pub mod owner;
pub mod pipe;
pub mod secret;
pub mod signals;
pub mod state;
pub mod temperature;
pub mod terminal;
pub mod tls;
pub mod unit;
