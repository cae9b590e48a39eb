//! MQTT 5 to the broker: signed events out of the outbox, in order, until each is acknowledged
//! (contract §4, §5).
//!
//! Version 5 because a broker of version 3.1.1 has no way to say that it refused a message: it
//! acknowledges what its access rules then drop. `rumqttc` gives the packets; the connection is ours
//! ([`client`]), since its event loop forgets unacknowledged messages when the broker has forgotten
//! the session, can be stuck on a packet id, and takes no TLS stream but its own, whose certificate
//! verifier has open advisories.

pub mod broker;
pub mod client;
pub mod discovery;
pub(crate) mod packets;
pub mod publisher;
pub mod reason;
pub mod retained;
mod stream;
pub mod topics;

pub use broker::{Broker, BrokerError, PASSWORD};
pub use client::{ClientError, Connection, Incoming, Session};
pub use discovery::Discovery;
pub use publisher::{Ears, Publisher, Statement, Status};
pub use topics::Topics;
