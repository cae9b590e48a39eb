//! What the daemon says of its state: presence of each person, and its own health.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::health::{
    self, Broker, Camera, CameraState, Commands, LastRefusal, Latencies, Memory, Model, Outbox,
    Refusals, Report, State,
};
use super::shadow::Shadow;
use super::sight;
use super::{Daemon, discovery_prefix};
use crate::command::Gate;
use crate::event::Typ;
use crate::event::payload::camera_name;
use crate::mqtt::Statement;
use crate::mqtt::discovery::{Discovery, PEOPLE_LIMIT, Setting};
use crate::system::{clock, memory, notify, temperature};

impl Daemon {
    /// Tells what changed; `media` is where the watched time line has come to, `None` while nobody
    /// watches.
    pub(super) fn report(&mut self, media: Option<Duration>) {
        self.count_frames();
        let Some(voice) = &self.voice else { return self.register.update_alone(&self.people) };
        let present = self.watch.present();
        self.register.update(&self.people, present, media, voice);
        let publisher = voice.publisher();
        let prefix = discovery_prefix(&self.located);
        let introduced = prefix.is_none_or(|prefix| {
            publisher.is_settled(&Discovery::topic_of(prefix, voice.topics()))
        });
        self.register.settle(|id| introduced && publisher.is_settled(&voice.topics().person(id)));
        if self.register.take_change() {
            if let Some(prefix) = prefix {
                let setting = Setting {
                    topics: voice.topics(),
                    discovery_prefix: prefix,
                    kid: voice.kid(),
                    version: env!("CARGO_PKG_VERSION"),
                    commands: &self.located.config.commands.unsigned,
                };
                let gone = self.register.gone();
                let discovery = Discovery::new(&setting, self.people.enrolled(), &gone);
                if discovery.left_out() > 0 {
                    log::warn!(
                        "{} people have no entities of their own in Home Assistant: it is told of {} at most",
                        discovery.left_out(),
                        PEOPLE_LIMIT
                    );
                }
                publisher.retain(Statement::Discovery(discovery));
            }
            let enrolled = self.people.enrolled();
            self.limits.keep_only(|id| enrolled.iter().any(|person| person.id == *id));
        }
        if self.schedule.look() {
            let report = self.health();
            if self.schedule.is_due(&report)
                && let Some(voice) = &self.voice
            {
                voice.state(Typ::Health, voice.topics().health(), &report.to_json());
                notify::status(&self.in_words());
            }
        }
    }

    /// While nobody watches there is no rate.
    fn count_frames(&mut self) {
        match self.sight.state() {
            sight::State::Watching => {
                self.frames.note(Instant::now(), self.sight.counters().frames);
            }
            sight::State::Paused | sight::State::Blind => self.frames.interrupt(),
        }
    }

    /// For `systemctl status`.
    pub(super) fn in_words(&self) -> String {
        let enrolled = self.people.candidates().len();
        match self.sight.state() {
            sight::State::Watching => format!("Watching; {enrolled} enrolled"),
            sight::State::Paused => "Paused".to_owned(),
            sight::State::Blind => "The camera is away".to_owned(),
        }
    }

    fn health(&self) -> Report {
        let config = &self.located.config;
        let watched = self.watch.counters();
        let camera = self.sight.counters();
        let status =
            self.voice.as_ref().map(|voice| voice.publisher().status()).unwrap_or_default();
        let (state, camera_state) = match self.sight.state() {
            sight::State::Watching => (State::Watching, CameraState::Ok),
            sight::State::Paused => (State::Paused, CameraState::Paused),
            sight::State::Blind => (State::Blind, CameraState::Away),
        };
        let rate = self.frames.per_second(Instant::now(), camera.frames);
        let ledger = self.teller.ledger();
        Report {
            v: 1,
            device: config.device.to_string(),
            time: health::time(Timestamp::now()),
            clock: clock::state(),
            boot: ledger.context().boot,
            uptime: self.began.elapsed().as_secs(),
            state,
            version: env!("CARGO_PKG_VERSION"),
            key: self.key.kid().to_owned(),
            model: Model {
                identity: self.engine.identity().clone(),
                verified: health::time(self.models.verified),
                origin: self.models.origin.name(),
                trial: self.trial.is_some(),
                trouble: self.models.trouble.as_deref().map(health::short),
            },
            camera: Camera {
                state: camera_state,
                name: camera_name(&config.camera.source),
                format: self.sight.format().map(|format| health::short(&format)),
                frames_per_second: rate.map(|rate| (rate * 10.0).round() / 10.0),
                broken: camera.skipped_broken + camera.skipped_too_large,
                heavy: camera.dropped_heavy,
            },
            latency_ms: Latencies {
                detect: self.latency.detect(),
                embed: self.latency.embed(),
                liveness: self.latency.liveness(),
            },
            people: self.people.enrolled().len(),
            mapped: self.people.fit().mapped.len(),
            enrol_again: self.people.fit().foreign.len(),
            present: self.register.present(),
            recognized: watched.named,
            unknown: watched.unknown,
            spoof: watched.spoofs,
            limited: self.limits.limited(),
            refusals: Refusals {
                quality: watched.refusals.total(),
                failures: watched.failures,
                panics: watched.panics,
                crowded: watched.crowded_out,
                put_off: watched.put_off,
                messages: self.voice.as_ref().map_or(0, |voice| voice.publisher().dropped()),
            },
            commands: self.commands(),
            memory_mib: Memory {
                now: memory::resident().map(health::mebibytes),
                peak: memory::peak().map(health::mebibytes),
            },
            temperature_c: temperature::hottest(),
            outbox: Outbox {
                depth: ledger.depth().ok(),
                capacity: config.outbox.events,
                storing: self.teller.trouble().is_none(),
                waiting: self.teller.waiting(),
                lost: self.teller.lost(),
                trouble: self.teller.trouble().map(health::short),
            },
            broker: Broker {
                connections: status.connections,
                acknowledged: status.acknowledged,
                trouble: status.trouble.map(|trouble| health::short(&trouble)),
                rival: status.rival.map(|rival| health::short(&rival)),
                left_out: status
                    .left_out
                    .iter()
                    .take(health::LEFT_OUT)
                    .map(|left| health::LeftOut {
                        what: health::short(&left.what),
                        why: health::short(&left.why),
                    })
                    .collect(),
            },
            updating: self.polling.shadow.as_ref().and_then(Shadow::progress),
            update: {
                let newest = self.polling.newest.as_deref();
                self.update.clone().map(|outcome| health::Update::new(outcome, newest))
            },
            configuration: self.misconfigured.clone(),
        }
    }

    fn commands(&self) -> Commands {
        let counters = self.gate.as_ref().map(Gate::counters).cloned().unwrap_or_default();
        Commands {
            accepted: counters.accepted,
            refused: counters.refused,
            last_refusal: counters.last_refusal.map(|last| LastRefusal {
                time: health::time(last.time),
                reason: last.reason.code().to_owned(),
            }),
        }
    }
}
