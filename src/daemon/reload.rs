//! SIGHUP: the configuration is read again and takes effect, whole or not at all.

use std::sync::Arc;

use super::{Daemon, DaemonError, models, speak};
use crate::command::{CommandError, Gate};
use crate::config::{self, Config, Located};
use crate::event::{self, Context, DeviceKey, Ledger, LedgerError};
use crate::model::Engine;
use crate::mqtt::Broker;
use crate::system::notify;

impl Daemon {
    /// Takes over what can be read again: configuration, models, keys, certificates and passwords, operators.
    /// If anything is wrong, all but the operators stays as it was, and the log and `health` say what.
    pub(super) fn reload(&mut self) {
        notify::reloading();
        match self.try_reload() {
            Ok(()) => {
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
    }

    fn try_reload(&mut self) -> Result<(), DaemonError> {
        // Of this alone there is no way back, whatever else is wrong: whoever was taken out of the
        // operators is out.
        if let Some(gate) = &mut self.gate {
            gate.reload(&self.located).map_err(CommandError::from)?;
        }
        // All that can fail comes before anything else is changed.
        let located = config::find(Some(&self.located.path))?;
        let (old, new) = (&self.located.config, &located.config);
        if old.device != new.device {
            let (before, after) = (old.device.to_string(), new.device.to_string());
            return Err(DaemonError::Renamed { before, after });
        }
        let gate = match (&self.gate, &new.mqtt) {
            (None, Some(_)) => Some(Gate::open(&located, &self.state)?),
            _ => None,
        };
        let broker = new.mqtt.as_ref().map(|mqtt| Broker::new(mqtt, &self.state)).transpose()?;
        let models = if old.models == new.models {
            models::decide_liveness(new.liveness.mode, self.engine.has_liveness())?;
            None
        } else {
            Some(models::start(&located)?)
        };
        let engine = models.as_ref().map_or(&self.engine, |(engine, _)| engine);
        let settings = models::settings(&located, engine)?;
        let (key, ledger) = self.open_ledger(new, engine)?;

        if let Some((engine, verified)) = models {
            self.engine = engine;
            self.verified = verified;
            self.people.use_embedder(self.engine.embedder_digest())?;
        }
        if gate.is_some() || located.config.mqtt.is_none() {
            self.gate = gate;
        }
        self.watch.reconfigure(settings);
        self.register.departed_after(new.events.departed_after.get());
        self.limits.reconfigure(&new.events);
        self.sight.change(new.camera.clone());
        self.key = key;
        self.teller.replace_ledger(ledger);
        self.located = located;
        self.reconnect(broker)
    }

    /// Speaks to the broker anew: a certificate, a password or the key may have changed.
    fn reconnect(&mut self, broker: Option<Broker>) -> Result<(), DaemonError> {
        if let Some(voice) = self.voice.take() {
            voice.into_publisher().stop();
        }
        let located: &Located = &self.located;
        self.voice =
            broker.map(|broker| speak(located, broker, &self.key, &self.state)).transpose()?;
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
    fn open_ledger(
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
