//! Notifications to the service manager; without one, nothing happens.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use super::plain;

pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(&plain::message(status))]);
}

/// Reading the configuration again; [`ready`] ends it.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => log::debug!("service manager not told: {error}"),
    }
}

pub fn status(status: &str) {
    // A line break would begin another variable of the protocol.
    tell(&[NotifyState::Status(&plain::message(status))]);
}

pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        log::debug!("service manager not told: {error}");
    }
}

/// The service manager's watchdog: it restarts a service that does not feed it in time.
#[derive(Debug)]
pub struct Watchdog {
    /// How often to feed it: a third of its patience. `None` where nobody watches.
    every: Option<Duration>,
    fed: Option<Instant>,
}

impl Watchdog {
    /// What `WATCHDOG_USEC` asks for.
    pub fn new() -> Self {
        Self { every: sd_notify::watchdog_enabled().map(|patience| patience / 3), fed: None }
    }

    /// Feeds it when it is time to, if `alive` says so; asked only then.
    pub fn feed(&mut self, alive: impl FnOnce() -> bool) {
        let Some(every) = self.every else { return };
        if self.fed.is_none_or(|fed| fed.elapsed() >= every) && alive() {
            tell(&[NotifyState::Watchdog]);
            self.fed = Some(Instant::now());
        }
    }
}

impl Default for Watchdog {
    fn default() -> Self {
        Self::new()
    }
}
