//! Looking for updates while the daemon watches: at the configured interval, at this device's own moment of it, or
//! when somebody asks. The work is done beside the camera's thread.

use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::attempts;
use super::models::{self, ModelState, Running};
use super::shadow::Shadow;
use super::timetable;
use super::updater::{Found, UpdateError, Updater};
use super::{Daemon, DaemonError, health};
use crate::model::slots::{InstallError, Kind, Origin, Outcome, Slots};
use crate::system::clock::{self, ClockState, Date};
use crate::system::log::kind;
use crate::system::state::StateDirectory;

/// What came of one look.
enum Done {
    Nothing(Option<String>),
    Installed(Box<Running>),
}

/// A look under way.
struct Look {
    done: Receiver<Result<Done, UpdateError>>,
    /// Somebody asked for it.
    explicit: bool,
}

/// When to look, and who is looking.
pub struct Polling {
    next: Instant,
    look: Option<Look>,
    /// The daemon's end of a shadow run, while there is a look.
    pub shadow: Option<Shadow>,
    /// Newest version that the repository lists.
    pub newest: Option<String>,
}

impl Polling {
    /// The interval goes on across restarts.
    pub fn new(state: &StateDirectory, interval: Duration) -> Self {
        let (last, now) = (timetable::last_asked(state), Timestamp::now());
        let wait = timetable::at_start(last, now, bounded(interval), fastrand::f64());
        Self { next: Instant::now() + wait, look: None, shadow: None, newest: None }
    }

    /// The repository or the interval is another now.
    pub fn reconfigure(&mut self, interval: Duration) {
        self.next = Instant::now() + timetable::soon(bounded(interval), fastrand::f64());
        self.newest = None;
    }

    /// Ends a shadow run under way without a verdict; it is begun again by the next look, which comes at once.
    pub fn interrupt(&mut self) {
        self.shadow = None;
    }

    /// The daemon ends in good order.
    pub fn stop(&mut self, state: &StateDirectory) {
        if self.look.take().is_some() {
            attempts::end_in_good_order(state);
        }
    }
}

impl Daemon {
    /// Looks when it is time to, and takes over what was installed.
    pub(super) fn tend_updates(&mut self) -> Result<(), DaemonError> {
        if let Some(update) = &self.located.config.update
            && self.polling.next <= Instant::now()
        {
            let interval = bounded(update.interval.get());
            let (now, random) = (Instant::now(), fastrand::f64());
            if clock::state() == ClockState::Synchronized {
                self.polling.next = now + timetable::after_a_look(interval, random);
                self.look_for_update(false);
            } else {
                // The time server may be a little late.
                self.polling.next = now + timetable::soon(interval, random);
                self.failed_to_update(&UpdateError::Clock);
            }
        }
        self.tend_shadow();
        let Some(Look { done, explicit }) = &self.polling.look else { return Ok(()) };
        let explicit = *explicit;
        let done = match done.try_recv() {
            Err(TryRecvError::Empty) => return Ok(()),
            Err(TryRecvError::Disconnected) => None, // it panicked, and has said so
            Ok(done) => Some(done),
        };
        (self.polling.look, self.polling.shadow) = (None, None);
        match done {
            Some(Err(UpdateError::Interrupted)) => {
                self.look_for_update(explicit);
            }
            Some(Ok(Done::Installed(running))) => {
                self.polling.newest = Some(running.engine.identity().version.clone());
                self.take_installed(*running)?;
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
        if self.polling.look.is_some() {
            return false;
        }
        timetable::note_asked(&self.state);
        let (shadow, beside) = self.prepare_shadow();
        let (sender, receiver) = channel();
        let (located, state) = (self.located.clone(), self.state.clone());
        let (device, running) = (self.key.kid().to_owned(), self.engine.identity().clone());
        std::thread::spawn(move || {
            let work = || {
                let updater = Updater::new(&located, &state)?;
                match updater.run(Date::now(), &device, &running, explicit, Some(&beside))? {
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
            let done = work();
            // The daemon's loop alone holds the engine before, and lets go of it when it switches.
            drop(beside);
            drop(sender.send(done));
        });
        self.polling.look = Some(Look { done: receiver, explicit });
        self.polling.shadow = Some(shadow);
        true
    }

    /// By the configuration as it is now: it may have been read again since the look began.
    fn take_installed(&mut self, mut running: Running) -> Result<(), DaemonError> {
        match models::settings(&self.located, &running.engine) {
            Ok(settings) => {
                running.settings = settings;
                self.switch(running)
            }
            Err(error) => {
                let model = running.engine.identity().clone();
                log::error!("model {} {} is not used: {error}", model.name, model.version);
                self.note(|slots| slots.give_up(&model.digest, &error.to_string()));
                self.schedule.want();
                Ok(())
            }
        }
    }

    fn failed_to_update(&mut self, error: &UpdateError) {
        if let UpdateError::Install(InstallError::OnTrial(_) | InstallError::Already(_)) = error {
            log::debug!("{error}");
            return;
        }
        log::warn!("{error}");
        let reason = health::short(&error.to_string());
        let same = self
            .update
            .as_ref()
            .is_some_and(|last| last.reason.as_deref().map(kind) == Some(kind(&reason)));
        // What was found unfit on this device is told by the slots, with its name.
        let refused = Slots::open(&self.state).ok().and_then(|slots| slots.record().last.clone());
        if matches!(
            error,
            UpdateError::Install(InstallError::Unfit { .. }) | UpdateError::Shadow { .. }
        ) {
            self.update = refused;
        } else if !same {
            let (time, outcome) = (Timestamp::now(), Kind::Failed);
            let reason = Some(reason);
            self.update = Some(Outcome { time, outcome, model: None, reason, shadow: None });
        }
        self.schedule.want();
    }
}

/// A time that can be added to another.
fn bounded(interval: Duration) -> Duration {
    interval.min(Duration::from_hours(24 * 365))
}
