//! What an event says (contract §3; `schemas/event.schema.json`). No pixels, crops or embeddings.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::config::{CameraSource, DeviceName};
use crate::model::ModelIdentity;
use crate::recognition::{Decision, Evidence, LivenessVerdict, PersonId, Verdict};
use crate::system::clock::{self, ClockState};

/// Longest name of a camera, in bytes.
const CAMERA_LIMIT: usize = 64;

/// What is the same for every event of one start of a program.
#[derive(Debug, Clone)]
pub struct Context {
    pub device: DeviceName,
    /// See [`camera_name`].
    pub camera: String,
    /// Random id of this start.
    pub boot: Uuid,
    /// Which models decide; `None` where none was loaded (`forget`).
    pub model: Option<ModelIdentity>,
}

impl Context {
    /// A context with a new `boot`.
    pub fn new(device: DeviceName, camera: &CameraSource, model: Option<ModelIdentity>) -> Self {
        Self { device, camera: camera_name(camera), boot: clock::new_id(), model }
    }
}

/// What is to be told.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    Decision(Decision),
    /// A person was forgotten or expired.
    Erased {
        person: PersonId,
        time: Timestamp,
    },
}

/// What the ledger gives an event: its place in the chain of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub seq: u64,
    pub prev: Option<String>,
}

/// Which events left the outbox unsent because it was full or they were old: of `from` to `to`, those
/// that never came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lost {
    pub from: u64,
    pub to: u64,
    /// Whose numbers these are, where it is not the key that signed this: an earlier one of the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
}

/// A camera's name in events: the last part of a device's path, `replay` for recorded frames (a
/// path would tell of the machine, not of the camera).
pub fn camera_name(source: &CameraSource) -> String {
    let name = match source {
        CameraSource::Replay(_) => "replay".into(),
        CameraSource::Device(path) => {
            path.file_name().unwrap_or(path.as_os_str()).to_string_lossy()
        }
    };
    let end = (0..=CAMERA_LIMIT.min(name.len())).rev().find(|at| name.is_char_boundary(*at));
    name[..end.unwrap_or(0)].to_owned()
}

/// The payload of one event, one line of JSON.
pub(super) fn of_fact(context: &Context, place: &Place, fact: &Fact, clock: ClockState) -> String {
    let (time, body) = match fact {
        Fact::Decision(decision) => (decision.time, of_decision(context, decision)),
        Fact::Erased { person, time } => {
            let person = Some(Person { id: person.as_str(), name: None });
            (*time, Body { person, ..Body::of("erased") })
        }
    };
    write(context, place, (time, clock), &body)
}

pub(super) fn of_overflow(context: &Context, place: &Place, lost: &Lost) -> String {
    let body = Body { overflow: Some(lost), ..Body::of("overflow") };
    write(context, place, (Timestamp::now(), clock::state()), &body)
}

fn of_decision<'a>(context: &'a Context, decision: &'a Decision) -> Body<'a> {
    let person = |p: &'a crate::recognition::PersonRef| {
        Some(Person { id: p.id.as_str(), name: Some(&p.name) })
    };
    let body = match &decision.verdict {
        Verdict::Recognized { person: p, evidence } => {
            Body { person: person(p), ..Body::of("recognized") }.resting_on(evidence)
        }
        Verdict::Departed { person: p } => Body { person: person(p), ..Body::of("departed") },
        Verdict::Unknown { evidence } => Body::of("unknown").resting_on(evidence),
        Verdict::Spoof { evidence } => Body::of("spoof").resting_on(evidence),
    };
    Body { track: Some(decision.track), model: context.model.as_ref(), ..body }
}

#[derive(Serialize)]
struct Payload<'a> {
    v: u8,
    event_type: &'static str,
    id: Uuid,
    device: &'a str,
    camera: &'a str,
    boot: Uuid,
    seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev: Option<&'a str>,
    time: String,
    clock: ClockState,
    #[serde(flatten)]
    body: &'a Body<'a>,
}

#[derive(Serialize, Default)]
struct Body<'a> {
    #[serde(skip)]
    event_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    track: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    person: Option<Person<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    similarity: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    threshold: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    false_match_rate: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frames: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    liveness: Option<Liveness>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a ModelIdentity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    overflow: Option<&'a Lost>,
}

#[derive(Serialize)]
struct Person<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
}

#[derive(Serialize)]
struct Liveness {
    score: f64,
    verdict: LivenessVerdict,
}

impl Body<'_> {
    fn of(event_type: &'static str) -> Self {
        Self { event_type, ..Self::default() }
    }

    fn resting_on(self, evidence: &Evidence) -> Self {
        Self {
            similarity: Some(rounded(evidence.similarity)),
            threshold: Some(rounded(evidence.threshold)),
            false_match_rate: Some(evidence.false_match_rate),
            frames: Some(evidence.frames),
            liveness: evidence
                .liveness
                .map(|l| Liveness { score: rounded(l.score), verdict: l.verdict }),
            ..self
        }
    }
}

fn write(
    context: &Context,
    place: &Place,
    (time, clock): (Timestamp, ClockState),
    body: &Body<'_>,
) -> String {
    let payload = Payload {
        v: 1,
        event_type: body.event_type,
        id: clock::new_id(),
        device: context.device.as_str(),
        camera: &context.camera,
        boot: context.boot,
        seq: place.seq,
        prev: place.prev.as_deref(),
        time: format!("{time:.3}"),
        clock,
        body,
    };
    // Numbers, strings and structs only: this cannot fail, and an empty payload would not verify as
    // an event anywhere.
    serde_json::to_string(&payload).unwrap_or_default()
}

/// Four decimals: finer than the difference between two machines running one network.
fn rounded(value: f32) -> f64 {
    (f64::from(value) * 1e4).round() / 1e4
}

/// What the chain of events is checked by; everything else in an event is for its reader.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Link {
    pub event_type: String,
    pub device: String,
    pub seq: u64,
    pub prev: Option<String>,
    #[serde(default)]
    pub overflow: Option<Lost>,
}

impl Link {
    /// Reads it from the verified payload of an event.
    pub fn of(payload: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Version {
            v: u64,
        }
        let text = |e: serde_json::Error| format!("payload: {e}");
        let Version { v } = serde_json::from_str(payload).map_err(text)?;
        if v != 1 {
            return Err(format!("event of version {v}; this program knows version 1"));
        }
        let link: Self = serde_json::from_str(payload).map_err(text)?;
        if (link.seq == 1) == link.prev.is_some() {
            return Err("`prev` belongs into every event but the first, number 1".to_owned());
        }
        Ok(link)
    }
}
