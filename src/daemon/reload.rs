//! SIGHUP: the configuration is read again and takes effect, whole or not at all.

use std::sync::Arc;

use super::models::Running;
use super::voice::Voice;
use super::{Daemon, DaemonError, models, speak};
use crate::command::{CommandError, Gate};
use crate::config::{self, Config, Located};
use crate::event::{self, Context, DeviceKey, Ledger, LedgerError};
use crate::model::Engine;
use crate::mqtt::Broker;
use crate::recognition::Settings;
use crate::system::notify;

/// What a configuration that holds asks for, ready to be taken over.
struct Next {
    located: Located,
    /// `None`: the one there is.
    models: Option<Running>,
    settings: Settings,
    key: Arc<DeviceKey>,
    ledger: Ledger,
    broker: Option<Broker>,
    /// Where there was none.
    gate: Option<Gate>,
}

impl Daemon {
    /// Takes over what can be read again: configuration, models, keys, certificates and passwords, operators.
    /// If anything is wrong, all but the operators stays as it was, and the log and `health` say what. An
    /// error is one in the middle of taking over: there is no way on from there but a new start.
    pub(super) fn reload(&mut self) -> Result<(), DaemonError> {
        notify::reloading();
        match self.read_again() {
            Ok(next) => {
                self.take_over(next)?;
                self.misconfigured = None;
                log::info!("the configuration was read again");
            }
            Err(error) => {
                log::error!("the configuration stays as it was: {error}");
                self.misconfigured = Some(super::health::short(&error.to_string()));
            }
        }
        self.schedule.want();
        notify::ready(&self.in_words());
        Ok(())
    }

    fn read_again(&mut self) -> Result<Next, DaemonError> {
        // Of this alone there is no way back, whatever else is wrong: whoever was taken out of the
        // operators is out.
        if let Some(gate) = &mut self.gate {
            gate.reload(&self.located).map_err(CommandError::from)?;
        }
        let located = config::find(Some(&self.located.path))?;
        let (old, new) = (&self.located.config, &located.config);
        if old.device != new.device {
            let (before, after) = (old.device.to_string(), new.device.to_string());
            return Err(DaemonError::Renamed { before, after });
        }
        if let Some(what) = self.layer.lacks(&located) {
            return Err(DaemonError::Confined(what));
        }
        let gate = match (&self.gate, &new.mqtt) {
            (None, Some(_)) => Some(Gate::open(&located, &self.state)?),
            _ => None,
        };
        let broker = new.mqtt.as_ref().map(|mqtt| Broker::new(mqtt, &self.state)).transpose()?;
        let same = old.models.bundle == new.models.bundle
            && !models::has_changed(&self.state, &self.models, &self.engine);
        let models = if same { None } else { Some(models::start(&located, &self.state)?) };
        let engine = models.as_ref().map_or(self.engine.as_ref(), |running| &running.engine);
        let settings = match &models {
            Some(running) => running.settings.clone(),
            None => models::settings(&located, engine)?,
        };
        let (key, ledger) = self.open_ledger(new, engine)?;
        Ok(Next { located, models, settings, key, ledger, broker, gate })
    }

    fn take_over(&mut self, next: Next) -> Result<(), DaemonError> {
        let Next { located, models, settings, key, ledger, broker, gate } = next;
        // It runs beside what runs already, by what is configured.
        self.polling.interrupt();
        let config = &located.config;
        let mapping = config.models.mapping;
        if let Some(running) = models {
            self.use_models(running, mapping)?;
        } else if mapping != self.located.config.models.mapping {
            self.people.use_space(self.engine.space().mapped_if(mapping))?;
            // Tracks may carry names that were told by way of it.
            self.watch.interrupt();
        }
        if config.update != self.located.config.update
            && let Some(update) = &config.update
        {
            self.polling.reconfigure(update.interval.get());
        }
        if gate.is_some() || config.mqtt.is_none() {
            self.gate = gate;
        }
        self.watch.reconfigure(settings);
        self.register.departed_after(config.events.departed_after.get());
        self.limits.reconfigure(&config.events);
        self.sight.change(config.camera.clone());
        self.key = key;
        self.teller.replace_ledger(ledger);
        self.located = located;
        self.reconnect(broker)
    }

    /// Speaks to the broker anew: a certificate, a password or the key may have changed.
    fn reconnect(&mut self, broker: Option<Broker>) -> Result<(), DaemonError> {
        let unsaid = self.voice.take().map(Voice::stop).unwrap_or_default();
        let Some(broker) = broker else { return Ok(()) };
        let voice = speak(&self.located, broker, &self.key, &self.state)?;
        for outcome in unsaid {
            voice.publisher().answer(outcome);
        }
        self.register.owe(voice.owed());
        self.voice = Some(voice);
        self.register.tell_all_again();
        Ok(())
    }

    /// Somebody has rotated the device's key: events are signed by the new one from here on, and the
    /// identity tells of it.
    pub(super) fn take_new_key(&mut self) -> Result<(), DaemonError> {
        let (key, ledger) = self.open_ledger(&self.located.config, &self.engine)?;
        log::warn!("the device key was rotated; events are signed by {} from now on", key.kid());
        self.teller.replace_ledger(ledger);
        if let Some(voice) = &mut self.voice {
            let identity = key.identity(voice.device()).map_err(LedgerError::from)?;
            voice.renew(key.clone(), identity);
        }
        self.key = key;
        self.register.tell_all_again();
        self.schedule.want();
        Ok(())
    }

    /// The device's key and the ledger that signs by it, for the same start of the program.
    pub(super) fn open_ledger(
        &self,
        config: &Config,
        engine: &Engine,
    ) -> Result<(Arc<DeviceKey>, Ledger), DaemonError> {
        let context = Context {
            boot: self.teller.ledger().context().boot,
            ..Context::new(
                config.device.clone(),
                &config.camera.source,
                Some(engine.identity().clone()),
            )
        };
        Ok(event::open(&self.state, context, (&config.outbox).into())?)
    }
}
