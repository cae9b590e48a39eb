//! Facts become signed events, durable before anybody hears of them (contract §3, §5).
//!
//! [`Ledger::record`] gives a fact its place in the device's chain, signs it and stores it in one
//! transaction; [`crate::mqtt`] takes it from the [`Outbox`] and removes it on the broker's
//! acknowledgement. [`verify`](jws::Envelope::verify) is the other end, for consumers.

mod age;
mod bounds;
pub mod chain;
pub mod identity;
pub mod jwk;
pub mod jws;
mod key;
mod ledger;
pub mod line;
pub mod outbox;
pub mod payload;
pub mod pins;
pub mod rotation;
pub mod store;
mod vouch;

pub use bounds::Limits;
pub use jwk::{KeyRing, PublicKey};
pub use jws::{SignedMessage, Typ};
pub use key::{DeviceKey, KeyError};
pub(crate) use key::{from_pem as key_from_pem, generate as new_key_pem};
pub use ledger::{Ledger, LedgerError};
pub use line::Line;
pub use outbox::Outbox;
pub use payload::{Context, Fact};
pub use rotation::{RotateError, open};
pub use vouch::{Former, Last};
