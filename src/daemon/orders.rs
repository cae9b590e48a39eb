//! What others tell the device, judged by the gate and done.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{Daemon, DaemonError, PAUSED, discovery_prefix, health};
use crate::command::{Accepted, Answer, Command, Judgement, Moment, Trouble};
use crate::event::LedgerError;
use crate::mqtt::publisher::{Inbound, Received};
use crate::recognition::PersonId;
use crate::recognition::gallery::GalleryError;
use crate::system::clock::Date;

/// Messages looked at between two frames, at most: a flood must not keep the camera waiting.
const AT_ONCE: usize = 16;
/// Home Assistant's birth message is heard so often, at most; each has all states said again.
const BIRTHS: Duration = Duration::from_secs(10);

impl Daemon {
    /// Takes what came in since the last frame.
    pub(super) fn obey(&mut self) {
        for _ in 0..AT_ONCE {
            let Some(received) = self.voice.as_ref().and_then(super::Voice::received) else {
                return;
            };
            self.hear(&received);
        }
    }

    fn hear(&mut self, received: &Received) {
        let Some(gate) = &mut self.gate else { return };
        let at = Moment::now();
        let Received { inbound, payload, retained } = received;
        let judgement = match inbound {
            // A retained one is of long ago, and with the connection everything was just said.
            Inbound::HomeAssistant if *retained => return,
            Inbound::HomeAssistant => return self.hear_home_assistant(payload),
            Inbound::Command => gate.judge(payload, *retained, &at),
            Inbound::Set(name) => {
                let allowed = &self.located.config.commands.unsigned;
                gate.unsigned(name, payload, *retained, allowed, &at)
            }
        };
        let answer = match judgement {
            Judgement::Accepted(accepted) => Some(self.execute(&accepted)),
            Judgement::Refused(refused) => refused.answer(),
        };
        if let (Some(answer), Some(voice)) = (answer, &self.voice) {
            voice.answer(&answer.to_json(voice.device(), &at));
        }
    }

    /// It has started, and wants to know what there is.
    fn hear_home_assistant(&mut self, payload: &[u8]) {
        let often = self.birth.is_some_and(|heard| heard.elapsed() < BIRTHS);
        if payload != b"online" || often || discovery_prefix(&self.located).is_none() {
            return;
        }
        self.birth = Some(Instant::now());
        if let Some(voice) = &self.voice {
            log::debug!("Home Assistant has started");
            voice.publisher().repeat();
        }
    }

    fn execute(&mut self, accepted: &Accepted) -> Answer {
        match accepted.command() {
            Command::Pause => {
                self.pause();
                accepted.done("paused")
            }
            Command::Resume => {
                self.resume();
                accepted.done("watching")
            }
            Command::Forget { person } => match self.forget(person) {
                Ok(()) => accepted.done("erased"),
                Err(DaemonError::Gallery(GalleryError::Unknown { .. })) => {
                    accepted.failed(Trouble::NoSuchPerson, "nobody of that id is enrolled")
                }
                Err(error) => accepted.failed(Trouble::Internal, &error.to_string()),
            },
            Command::Update | Command::Rollback => {
                accepted.failed(Trouble::NotAvailable, "this version takes no model updates")
            }
            Command::IdentifyDevice => {
                log::warn!("this device was asked to identify itself");
                accepted.done("see the device's log").with_data(self.identification())
            }
            Command::Health => {
                self.schedule.want();
                accepted.done("sent")
            }
        }
    }

    fn pause(&mut self) {
        log::info!("paused");
        // First on the disk: after a power cut it must still hold.
        if let Err(error) = self.state.replace(PAUSED, b"") {
            log::error!("paused, but a restart will not know it: {PAUSED}: {error}");
        }
        self.sight.pause();
        self.watch.interrupt();
        self.schedule.want();
    }

    fn resume(&mut self) {
        log::info!("watching again");
        match std::fs::remove_file(self.state.file(PAUSED)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                log::error!("watching, but a restart will not know it: {PAUSED}: {error}");
            }
            _ => {}
        }
        self.sight.resume();
        self.schedule.want();
    }

    /// Takes over what other processes changed in the gallery, and erases those whose time is over.
    pub(super) fn tend_people(&mut self) {
        if !self.people.is_due() {
            return;
        }
        let date = Date::now();
        self.people.refresh(&date);
        let mut erased = self.people.erase_expired(self.teller.ledger(), &date);
        if let Err(DaemonError::Ledger(LedgerError::Rotated { .. })) = erased {
            erased = self
                .take_new_key()
                .and_then(|()| self.people.settle(self.teller.ledger()))
                .map(|()| true);
        }
        match (erased, &self.voice) {
            (Ok(true), Some(voice)) => voice.publisher().notify(),
            (Ok(_), _) => {}
            (Err(error), _) => {
                log::error!("who expired is not erased yet, trying again in a minute: {error}");
            }
        }
    }

    fn forget(&mut self, person: &PersonId) -> Result<(), DaemonError> {
        let mut forgotten = self.people.forget(person, self.teller.ledger());
        if let Err(DaemonError::Ledger(LedgerError::Rotated { .. })) = forgotten {
            // The record is erased already; what is left is to tell of it, by the new key.
            self.take_new_key()?;
            forgotten = self.people.settle(self.teller.ledger());
        }
        forgotten?;
        if let Some(voice) = &self.voice {
            voice.publisher().notify();
        }
        Ok(())
    }

    /// What tells this device from the others.
    fn identification(&self) -> serde_json::Value {
        let read = |path| std::fs::read_to_string(path).ok();
        // The device tree ends its strings by a zero.
        let trim = |text: String| health::short(text.trim_end_matches(['\0', '\n']));
        json!({
            "key": self.key.kid(),
            "hostname": read("/proc/sys/kernel/hostname").map(trim),
            "hardware": read("/proc/device-tree/model").map(trim),
            "camera": self.sight.format().map(|format| health::short(&format)),
            "version": env!("CARGO_PKG_VERSION"),
            "uptime": self.began.elapsed().as_secs(),
        })
    }
}
