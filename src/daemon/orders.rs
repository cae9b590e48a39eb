//! What others tell the device, judged by the gate and done.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{Daemon, DaemonError, PAUSED, health};
use crate::command::{Accepted, Answer, Command, Judgement, Moment, Trouble};
use crate::mqtt::publisher::{Inbound, Received};
use crate::recognition::gallery::GalleryError;
use crate::system::disk;

/// Messages looked at between two frames, at most: a flood must not keep the camera waiting.
const AT_ONCE: usize = 16;
/// Home Assistant's birth message is heard so often, at most; each has all states said again.
const BIRTHS: Duration = Duration::from_secs(10);

impl Daemon {
    /// Takes what came in since the last frame.
    pub(super) fn obey(&mut self) {
        self.hear_home_assistant();
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

    /// It has started, and wants to know what there is; not heard too often, for each time all is said.
    fn hear_home_assistant(&mut self) {
        let Some(voice) = &self.voice else { return };
        if self.birth.is_none_or(|heard| heard.elapsed() >= BIRTHS)
            && voice.publisher().take_birth()
        {
            self.birth = Some(Instant::now());
            log::debug!("Home Assistant has started");
            voice.publisher().repeat();
        }
    }

    fn execute(&mut self, accepted: &Accepted) -> Answer {
        match accepted.command() {
            Command::Pause => accepted.done(self.pause()),
            Command::Resume => accepted.done(self.resume()),
            Command::Forget { person } => match self.forget(person) {
                Ok(()) => accepted.done("erased"),
                Err(DaemonError::Gallery(GalleryError::Unknown { .. })) => {
                    accepted.failed(Trouble::NoSuchPerson, "nobody of that id is enrolled")
                }
                Err(error) => accepted.failed(Trouble::Internal, &error.to_string()),
            },
            Command::Update if self.located.config.update.is_none() => {
                accepted.failed(Trouble::NotAvailable, "this device has no [update] configured")
            }
            Command::Update => {
                if self.look_for_update(true) {
                    accepted.done("looking; health tells what comes of it")
                } else {
                    accepted.done("looking already; health tells what comes of it")
                }
            }
            Command::Rollback => match self.roll_back() {
                Ok(version) => accepted.done("gone back").with_data(json!({ "version": version })),
                Err(error) => accepted.failed(Trouble::NotAvailable, &error),
            },
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

    /// Says what came of it.
    fn pause(&mut self) -> &'static str {
        log::info!("paused");
        // First on the disk: after a power cut it must still hold.
        let noted = self.state.replace(PAUSED, b"");
        self.sight.pause();
        self.watch.interrupt();
        self.schedule.want();
        match noted {
            Ok(()) => "paused",
            Err(error) => {
                log::error!(
                    "paused, but a restart will not know it: {}",
                    self.pause_trouble(&error)
                );
                "paused, but it could not be written down: a restart ends it"
            }
        }
    }

    fn resume(&mut self) -> &'static str {
        log::info!("watching again");
        let noted = self.state.remove(PAUSED);
        self.sight.resume();
        self.schedule.want();
        match noted {
            Ok(()) => "watching",
            Err(error) => {
                log::error!(
                    "watching, but a restart will not know it: {}",
                    self.pause_trouble(&error)
                );
                "watching, but it could not be written down: after a restart it is paused again"
            }
        }
    }

    fn pause_trouble(&self, error: &std::io::Error) -> String {
        let path = self.state.file(PAUSED);
        format!("{}: {}", path.display(), disk::told(&path, error))
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
