//! Looking for updates while the daemon watches: at the configured interval, at this device's own moment of it, or
//! when somebody asks. The work is done beside the camera's thread.

use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::models::{self, ModelState, Running};
use super::updater::{Found, UpdateError, Updater};
use super::{Daemon, DaemonError, health};
use crate::model::digest::Sha256;
use crate::model::slots::{InstallError, Kind, Origin, Outcome, Slots};
use crate::system::clock::{self, ClockState, Date};

/// What came of one look.
enum Done {
    Nothing(Option<String>),
    Installed(Box<Running>),
}

/// When to look, and who is looking.
pub struct Polling {
    next: Instant,
    worker: Option<Receiver<Result<Done, UpdateError>>>,
    /// Newest version that the repository lists.
    pub newest: Option<String>,
}

impl Polling {
    /// The first look comes at this device's share of the interval, so that ten thousand devices that come
    /// back after a power cut do not ask at once.
    pub fn new(device: &str, interval: Duration) -> Self {
        let next = Instant::now() + interval.mul_f64(share(device));
        Self { next, worker: None, newest: None }
    }

    /// The repository or the interval is another now.
    pub fn reconfigure(&mut self, device: &str, interval: Duration) {
        self.next = Self::new(device, interval).next;
        self.newest = None;
    }
}

/// A device's own moment of an interval, 0 to 1 (exclusive).
fn share(device: &str) -> f64 {
    let [a, b, c, d, ..] = *Sha256::of(device.as_bytes()).as_bytes();
    f64::from(u32::from_be_bytes([a, b, c, d])) / 2f64.powi(32)
}

impl Daemon {
    /// Looks when it is time to, and takes over what was installed.
    pub(super) fn tend_updates(&mut self) -> Result<(), DaemonError> {
        if let Some(update) = &self.located.config.update
            && self.polling.next <= Instant::now()
        {
            // A tenth earlier or later: what fell together falls apart again.
            let interval = update.interval.get();
            self.polling.next = Instant::now() + interval.mul_f64(0.9 + 0.2 * fastrand::f64());
            if clock::state() == ClockState::Synchronized {
                self.look_for_update(false);
            } else {
                self.failed_to_update(&UpdateError::Clock);
            }
        }
        let Some(worker) = &self.polling.worker else { return Ok(()) };
        let done = match worker.try_recv() {
            Err(TryRecvError::Empty) => return Ok(()),
            Err(TryRecvError::Disconnected) => None, // it panicked, and has said so
            Ok(done) => Some(done),
        };
        self.polling.worker = None;
        match done {
            Some(Ok(Done::Installed(running))) => {
                self.polling.newest = Some(running.engine.identity().version.clone());
                self.switch(*running)?;
            }
            Some(Ok(Done::Nothing(newest))) => {
                self.polling.newest = newest;
                // What failed before does so no more.
                if self.update.as_ref().is_some_and(|last| last.outcome == Kind::Failed) {
                    let slots = Slots::open(&self.state).ok();
                    self.update = slots.and_then(|slots| slots.record().last.clone());
                    self.schedule.want();
                }
            }
            Some(Err(error)) => self.failed_to_update(&error),
            None => log::error!("looking for an update ended without a result"),
        }
        Ok(())
    }

    /// Begins to look; `false` if somebody is at it.
    pub(super) fn look_for_update(&mut self, explicit: bool) -> bool {
        if self.polling.worker.is_some() {
            return false;
        }
        let (sender, receiver) = channel();
        let (located, state) = (self.located.clone(), self.state.clone());
        let (device, running) = (self.key.kid().to_owned(), self.engine.identity().clone());
        std::thread::spawn(move || {
            let work = || {
                let updater = Updater::new(&located, &state)?;
                match updater.run(Date::now(), &device, &running, explicit)? {
                    Found::Nothing(newest) => Ok(Done::Nothing(newest)),
                    Found::Installed(installed) => {
                        let settings = models::settings(&located, &installed.engine)
                            .map_err(UpdateError::Unfit)?;
                        // From here on it counts: what follows is its first start.
                        let mut slots = Slots::open(&state)?;
                        slots.started(&installed.model.digest)?;
                        let state = ModelState {
                            verified: Timestamp::now(),
                            origin: Origin::Installed(installed.place),
                            trouble: None,
                        };
                        let last = slots.record().last.clone();
                        let engine = installed.engine;
                        let running = Running { engine, settings, state, on_trial: true, last };
                        Ok(Done::Installed(Box::new(running)))
                    }
                }
            };
            // Nobody listens any more: the daemon has ended, and boots what was installed.
            drop(sender.send(work()));
        });
        self.polling.worker = Some(receiver);
        true
    }

    fn failed_to_update(&mut self, error: &UpdateError) {
        if let UpdateError::Install(InstallError::OnTrial(_) | InstallError::Already(_)) = error {
            log::debug!("{error}");
            return;
        }
        log::warn!("{error}");
        let reason = health::short(&error.to_string());
        let same = self.update.as_ref().is_some_and(|last| last.reason.as_ref() == Some(&reason));
        // What was found unfit on this device is told by the slots, with its name.
        let refused = Slots::open(&self.state).ok().and_then(|slots| slots.record().last.clone());
        if let UpdateError::Install(InstallError::Unfit { .. }) = error {
            self.update = refused;
        } else if !same {
            let (time, outcome) = (Timestamp::now(), Kind::Failed);
            self.update = Some(Outcome { time, outcome, model: None, reason: Some(reason) });
        }
        self.schedule.want();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_do_not_ask_at_once() {
        let mut tenths = [0; 10];
        for device in 0..10_000 {
            tenths[(share(&format!("device {device}")) * 10.0) as usize] += 1;
        }
        assert!(tenths.iter().all(|count| (850..1150).contains(count)), "{tenths:?}");
    }
}
