//! From one bundle to another while the daemon runs.

use std::sync::Arc;
use std::time::Instant;

use super::models::{self, Running};
use super::trial::{Trial, Verdict};
use super::updater::{UpdateError, Updater, is_listed};
use super::{Daemon, DaemonError};
use crate::model::TrustAnchors;
use crate::model::slots::{Slots, SlotsError};
use crate::system::memory;

impl Daemon {
    /// Confirms the bundle on trial, or goes back from it. `frame`: one was looked at.
    pub(super) fn tend_trial(&mut self, frame: bool) -> Result<(), DaemonError> {
        let Some(trial) = &mut self.trial else { return Ok(()) };
        let verdict = trial.look(Instant::now(), frame, self.watch.counters());
        let model = self.engine.identity().clone();
        match verdict {
            Verdict::Wait => return Ok(()),
            Verdict::Confirm => {
                log::info!("model {} {} is confirmed", model.name, model.version);
                self.trial = None;
                self.note(|slots| slots.confirm(&model.digest));
            }
            Verdict::GiveUp(reason) => {
                log::error!("model {} {} is given up: {reason}", model.name, model.version);
                self.note(|slots| slots.give_up(&model.digest, &reason));
                let running = models::start(&self.located, &self.state)?;
                self.switch(running)?;
            }
        }
        self.schedule.want();
        Ok(())
    }

    /// An orderly end on trial is no failed start.
    pub(super) fn end_trial(&mut self) {
        if self.trial.take().is_some() {
            let digest = self.engine.identity().digest.clone();
            self.note(|slots| slots.stopped(&digest));
        }
    }

    /// Writes down what came of the trial. If that fails it is told, and counts as never said.
    pub(super) fn note(&mut self, change: impl FnOnce(&mut Slots) -> Result<bool, SlotsError>) {
        let noted = Slots::open(&self.state).and_then(|mut slots| {
            change(&mut slots)?;
            Ok(slots.record().last.clone())
        });
        match noted {
            Ok(last) => self.update = last,
            Err(error) => log::error!("{error}"),
        }
    }

    /// Recognises with another bundle from the next frame on.
    pub(super) fn switch(&mut self, running: Running) -> Result<(), DaemonError> {
        let began = Instant::now();
        let (key, ledger) = self.open_ledger(&self.located.config, &running.engine)?;
        let settings = running.settings.clone();
        self.use_models(running, self.located.config.models.mapping)?;
        self.watch.reconfigure(settings);
        self.key = key;
        self.teller.replace_ledger(ledger);
        self.schedule.want();
        log::info!("switched in {} ms", began.elapsed().as_millis());
        Ok(())
    }

    /// To the bundle before, if the repository still lists it. Gives its version, or why not.
    pub(super) fn roll_back(&mut self) -> Result<String, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let trust = self.located.directory().join("trust.d");
        let anchors = TrustAnchors::load(&trust).map_err(|error| text(&error))?;
        let updater = match Updater::at_once(&self.located, &self.state) {
            Ok(updater) => Some(updater),
            Err(UpdateError::NotConfigured) => None,
            Err(error) => return Err(text(&error)),
        };
        let factory = &self.located.config.models.bundle;
        Slots::open(&self.state)
            .map_err(|error| text(&error))?
            .rollback(factory, &anchors, |model| is_listed(updater.as_ref(), model))
            .map_err(|error| text(&error))?;
        drop(updater);
        let running = models::start(&self.located, &self.state).map_err(|error| text(&error))?;
        self.switch(running).map_err(|error| text(&error))?;
        Ok(self.engine.identity().version.clone())
    }

    /// The templates first: no look is ever compared with those of another model. `mapping`: whether templates may be
    /// mapped, as configured.
    pub(super) fn use_models(
        &mut self,
        running: Running,
        mapping: bool,
    ) -> Result<(), DaemonError> {
        self.people.use_space(running.engine.space().mapped_if(mapping))?;
        let Running { engine, state, last, on_trial, .. } = running;
        // The last hold on the one before: its memory goes back.
        self.engine = Arc::new(engine);
        memory::trim();
        self.models = state;
        self.update = last;
        let needed = self.located.config.models.trial.get();
        self.trial = on_trial.then(|| Trial::new(needed, self.watch.counters()));
        // Tracks carry looks of the model before.
        self.watch.interrupt();
        let model = self.engine.identity();
        log::info!("recognising with model {} {} ({})", model.name, model.version, model.digest);
        Ok(())
    }
}
