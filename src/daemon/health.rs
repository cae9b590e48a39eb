//! How the device is, for whoever looks after many: one retained, signed report (contract §4, `health`).
//!
//! Sent every minute, and at once when something changes that an operator acts upon, but at most every
//! five seconds. A report has about a kilobyte and a half.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::latency::Quantiles;
use super::shadow::Progress;
use crate::model::ModelIdentity;
use crate::model::slots::{Figures, Identity, Kind, Outcome};
use crate::system::clock::ClockState;
use crate::system::log::kind;

/// Between two reports when nothing happens.
const INTERVAL: Duration = Duration::from_mins(1);
/// Between two reports when much happens.
const LEAST: Duration = Duration::from_secs(5);

/// The report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub v: u8,
    pub device: String,
    pub time: String,
    pub clock: ClockState,
    /// Random id of this start, as in events.
    pub boot: Uuid,
    /// Seconds since the start.
    pub uptime: u64,
    pub state: State,
    /// Of the program.
    pub version: &'static str,
    /// Thumbprint of the device's key.
    pub key: String,
    pub model: Model,
    pub camera: Camera,
    pub latency_ms: Latencies,
    /// Enrolled; held to be present now.
    pub people: usize,
    /// Of these, compared by templates that the bundle maps from another model's space; and not recognised before
    /// they are enrolled again, for their templates are of another model.
    pub mapped: usize,
    pub enrol_again: usize,
    pub present: usize,
    /// Since the start: people recognised, strangers told of, attacks on the camera, arrivals that the limits kept back.
    pub recognized: u64,
    pub unknown: u64,
    pub spoof: u64,
    pub limited: u64,
    pub refusals: Refusals,
    pub commands: Commands,
    pub memory_mib: Memory,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature_c: Option<f64>,
    pub outbox: Outbox,
    pub broker: Broker,
    /// An update under way: downloaded, tested, in its shadow run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updating: Option<Progress>,
    /// The last change of models, and what came of it.
    pub update: Option<Update>,
    /// What went wrong last with the configuration, until a reload succeeds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub configuration: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Watching,
    Paused,
    Blind,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Model {
    #[serde(flatten)]
    pub identity: ModelIdentity,
    /// When its signature was last verified.
    pub verified: String,
    /// `factory`, or the slot it is installed in: `a` or `b`.
    pub origin: &'static str,
    /// Installed, and not yet confirmed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub trial: bool,
    /// Why it is not the one that should run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Update {
    pub time: String,
    pub outcome: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<Identity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What the model's shadow run found, where there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Figures>,
    /// Newest version that the repository lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Camera {
    pub state: CameraState,
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// Over the last minute of watching; absent until ten seconds of it are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frames_per_second: Option<f64>,
    /// Frames that could not be decoded, since the start.
    pub broken: u64,
    /// Frames passed over because frames so large come faster than there is time for, since the start.
    pub heavy: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CameraState {
    Ok,
    Away,
    Paused,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Latencies {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detect: Option<Quantiles>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embed: Option<Quantiles>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub liveness: Option<Quantiles>,
}

/// Since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Refusals {
    /// Faces not looked at: too small, turned, dark, blurred and so on.
    pub quality: u64,
    /// Frames in which a network failed.
    pub failures: u64,
    /// Frames that made the program panic.
    pub panics: u64,
    /// Faces in a crowd for which there was no track left.
    pub crowded: u64,
    /// Looks that had to wait because another face had the frame's only one.
    pub put_off: u64,
    /// Messages to the device that nobody took because too many came.
    pub messages: u64,
}

/// Since the start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Commands {
    pub accepted: u64,
    pub refused: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_refusal: Option<LastRefusal>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LastRefusal {
    pub time: String,
    pub reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Memory {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub now: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outbox {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<u64>,
    pub capacity: u64,
    /// Whether events can be recorded.
    pub storing: bool,
    /// Decisions that wait in memory for the disk, and those that were lost so.
    pub waiting: usize,
    pub lost: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// Since the start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Broker {
    pub connections: u64,
    pub acknowledged: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// Another device that was met under this one's prefix and name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rival: Option<String>,
    /// What the broker does not take beside events, or does not let the device hear: the first of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
}

/// Entries in one report, at most.
pub const LEFT_OUT: usize = 4;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    pub what: String,
    pub why: String,
}

/// What an operator acts upon: a change is told at once.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::struct_excessive_bools)] // each is a fact of its own
struct Alarm {
    state: State,
    storing: bool,
    clock: ClockState,
    digest: String,
    /// The kind of it: a text may count seconds.
    trouble: Option<String>,
    left_out: Vec<String>,
    update: Option<Update>,
    updating: Option<Progress>,
    people: usize,
    refused: u64,
    /// Whether there is a frame rate.
    rated: bool,
    /// Whether any arrival was kept back.
    limited: bool,
    /// Whether any frame made the program panic.
    panicked: bool,
    configuration: Option<String>,
    rival: Option<String>,
}

/// When to report.
pub struct Schedule {
    last: Option<(Instant, Alarm)>,
    /// Somebody asked.
    wanted: bool,
}

impl Schedule {
    pub fn new() -> Self {
        Self { last: None, wanted: false }
    }

    /// Has the next look report.
    pub fn want(&mut self) {
        self.wanted = true;
    }

    /// Whether it is worth making a report, to be shown to [`Schedule::is_due`].
    pub fn look(&self) -> bool {
        self.wanted || self.last.as_ref().is_none_or(|(time, _)| time.elapsed() >= LEAST)
    }

    /// Whether to send this report; it then counts as sent.
    pub fn is_due(&mut self, report: &Report) -> bool {
        let alarm = Alarm {
            state: report.state,
            storing: report.outbox.storing,
            clock: report.clock,
            digest: report.model.identity.digest.clone(),
            trouble: report.model.trouble.as_deref().map(kind),
            left_out: report.broker.left_out.iter().map(|left| left.what.clone()).collect(),
            update: report.update.clone().map(Update::by_kind),
            updating: report.updating.clone(),
            people: report.people,
            refused: report.commands.refused,
            rated: report.camera.frames_per_second.is_some(),
            limited: report.limited > 0,
            panicked: report.refusals.panics > 0,
            configuration: report.configuration.as_deref().map(kind),
            rival: report.broker.rival.clone(),
        };
        let due = self.wanted
            || self
                .last
                .as_ref()
                .is_none_or(|(time, before)| time.elapsed() >= INTERVAL || *before != alarm);
        if due {
            self.last = Some((Instant::now(), alarm));
            self.wanted = false;
        }
        due
    }
}

impl Update {
    pub fn new(outcome: Outcome, newest: Option<&str>) -> Self {
        let Outcome { time: at, outcome, model, reason, shadow } = outcome;
        let reason = reason.map(|reason| short(&reason));
        Self { time: time(at), outcome, model, reason, shadow, version: newest.map(short) }
    }

    /// As it is compared: an attempt that fails again for the same reason is no news, whenever and by whatever figures.
    fn by_kind(self) -> Self {
        let reason = self.reason.as_deref().map(kind);
        let time = if self.outcome == Kind::Failed { String::new() } else { self.time };
        Self { time, reason, ..self }
    }
}

impl Report {
    /// One line of JSON.
    pub fn to_json(&self) -> String {
        // Numbers, strings and structs only: this cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// A text of somebody else's making, cut to what fits a report.
pub fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

pub fn time(time: Timestamp) -> String {
    format!("{time:.3}")
}

pub fn mebibytes(bytes: u64) -> u64 {
    bytes >> 20
}
