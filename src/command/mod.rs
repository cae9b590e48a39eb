//! Commands to the device: only what an operator signed for it, once, in time (contract §4).
//!
//! [`Gate`] is the only way in: it judges bytes from the broker, and nothing else can make an
//! [`Accepted`]. Every refusal has a stable [code](Refusal::code), and every outcome becomes a signed
//! [`Answer`].

mod gate;
mod operator_key;
mod operators;
mod rate;
mod request;
mod result;
mod seen;

pub use gate::{Accepted, Counters, Gate, Judgement, LastRefusal, Origin, Refused};
pub use operator_key::{OperatorKey, OperatorKeyError};
pub use operators::{OperatorsError, load as load_operators};
pub use request::{Command, CommandId, LONGEST, Order, SKEW};
pub use result::{Answer, Reference, Refusal, Reported, Trouble, request_digest};
pub use seen::SeenError;

use std::time::Instant;

use jiff::Timestamp;

use crate::system::clock::{self, ClockState};

/// Largest command, in bytes (contract §4).
pub const LIMIT: usize = crate::event::jws::COMMAND_LIMIT;

/// When something is judged.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    pub time: Timestamp,
    /// Whether `time` can be believed.
    pub clock: ClockState,
    /// For rates: a clock that nobody sets.
    pub monotonic: Instant,
}

impl Moment {
    pub fn now() -> Self {
        Self { time: Timestamp::now(), clock: clock::state(), monotonic: Instant::now() }
    }
}

/// Why commands cannot be judged at all.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error(transparent)]
    Operators(#[from] OperatorsError),
    #[error(transparent)]
    Seen(#[from] SeenError),
}
