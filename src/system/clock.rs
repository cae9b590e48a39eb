//! Whether the system clock can be believed.

use std::path::Path;
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;
use serde::{Deserialize, Serialize};
use uuid::{ContextV7, Uuid};

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

/// How long the machine has run, by a clock that nobody can set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uptime {
    /// Which start of the machine this is; empty where the kernel does not say.
    pub boot: String,
    /// Seconds since then, sleep included (`CLOCK_BOOTTIME`).
    pub seconds: u64,
}

impl Uptime {
    pub fn now() -> Self {
        static BOOT: LazyLock<String> = LazyLock::new(|| {
            let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
            id.unwrap_or_default().trim().to_owned()
        });
        let seconds = rustix::time::clock_gettime(rustix::time::ClockId::Boottime).tv_sec;
        Self { boot: BOOT.clone(), seconds: seconds.unsigned_abs() }
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

/// A new UUIDv7. A clock before 1970, which version 7 cannot say (and `Uuid::now_v7` panics of), counts as 1970.
pub fn new_id() -> Uuid {
    static CONTEXT: Mutex<ContextV7> = Mutex::new(ContextV7::new());
    id_at(&CONTEXT, jiff::Timestamp::now())
}

fn id_at(context: &Mutex<ContextV7>, now: jiff::Timestamp) -> Uuid {
    let now = now.max(jiff::Timestamp::UNIX_EPOCH);
    let (seconds, nanoseconds) = (now.as_second(), now.subsec_nanosecond());
    Uuid::new_v7(uuid::Timestamp::from_unix(
        context,
        seconds.unsigned_abs(),
        nanoseconds.unsigned_abs(),
    ))
}

/// The time by which rustls judges certificates. Its own panics of a clock before 1970; by this one they are not valid yet.
#[derive(Debug)]
pub struct TlsClock;

impl TimeProvider for TlsClock {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = jiff::Timestamp::now().as_second().max(0).unsigned_abs();
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

/// Processor time that the calling thread has taken so far.
pub fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    // Neither is ever negative on this clock.
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_before_1970_has_ids_of_its_own() {
        let context = Mutex::new(ContextV7::new());
        let early = jiff::Timestamp::UNIX_EPOCH - jiff::SignedDuration::from_hours(24);
        let ids = [early, early, jiff::Timestamp::MIN, jiff::Timestamp::UNIX_EPOCH]
            .map(|time| id_at(&context, time));
        assert!(ids.iter().all(|id| id.get_version_num() == 7));
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{ids:?}");
    }

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
