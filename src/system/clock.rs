//! Whether the system clock can be believed.

use serde::{Deserialize, Serialize};

/// State of the system clock as the kernel knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClockState {
    Synchronized,
    Unsynchronized,
}

/// The date, and whether it can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Date {
    pub time: jiff::Timestamp,
    pub state: ClockState,
}

impl Date {
    pub fn now() -> Self {
        Self { time: jiff::Timestamp::now(), state: state() }
    }
}

/// Asks the kernel whether a time daemon disciplines the clock (`STA_UNSYNC`, adjtimex(2)).
pub fn state() -> ClockState {
    // SAFETY: `timex` is plain data for which all-zero is valid; with `modes` = 0 adjtimex only reads
    // the clock's state into the structure, which outlives the call.
    #[allow(unsafe_code)]
    let (result, status) = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        let result = libc::adjtimex(&raw mut timex);
        (result, timex.status)
    };
    if result < 0 || result == libc::TIME_ERROR || status & libc::STA_UNSYNC != 0 {
        ClockState::Unsynchronized
    } else {
        ClockState::Synchronized
    }
}
