//! Whether the system clock can be believed.

use std::path::Path;

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

/// What systemd-timesyncd leaves once it has set the clock, for as long as it runs (systemd-time-wait-sync(8)).
const TIMESYNCD: &str = "/run/systemd/timesync/synchronized";

/// Whether a time daemon disciplines the clock: by the kernel's word, or, in a sandbox in which the
/// kernel may not be asked (`ProtectClock=` of the unit), by systemd-timesyncd's.
pub fn state() -> ClockState {
    by(ask_the_kernel(), Path::new(TIMESYNCD))
}

fn by(kernel: Option<bool>, mark: &Path) -> ClockState {
    if kernel.unwrap_or_else(|| mark.exists()) {
        ClockState::Synchronized
    } else {
        ClockState::Unsynchronized
    }
}

/// `STA_UNSYNC`, adjtimex(2); `None` if it may not be asked.
fn ask_the_kernel() -> Option<bool> {
    // SAFETY: `timex` is plain data for which all-zero is valid; with `modes` = 0 adjtimex only reads
    // the clock's state into the structure, which outlives the call.
    #[allow(unsafe_code)]
    let (result, status) = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        let result = libc::adjtimex(&raw mut timex);
        (result, timex.status)
    };
    (result >= 0).then_some(result != libc::TIME_ERROR && status & libc::STA_UNSYNC == 0)
}

/// Processor time that the calling thread has taken so far.
pub fn thread_time() -> std::time::Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    // Neither is ever negative on this clock.
    std::time::Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sandbox_without_the_kernels_word_takes_the_time_daemons() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let nowhere = here.join("no/such/file");
        assert_eq!(by(None, here), ClockState::Synchronized);
        assert_eq!(by(None, &nowhere), ClockState::Unsynchronized);
        // Where the kernel answers, nobody else is believed.
        assert_eq!(by(Some(false), here), ClockState::Unsynchronized);
        assert_eq!(by(Some(true), &nowhere), ClockState::Synchronized);
    }
}
