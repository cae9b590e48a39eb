//! The configuration file: one TOML document, parsed once into types that hold only sensible values.

mod duration;
mod error;
mod explain;
mod keys;
pub(crate) mod load;
mod picture;
mod source;
#[cfg(test)]
mod tests;

pub use duration::Span;
pub use error::ConfigError;
pub use load::{Located, find};
pub use picture::{Flip, Polygon, Rotation};
pub use source::CameraSource;

use std::path::PathBuf;

use serde::Deserialize;

/// The whole configuration. Unknown keys are errors (see [`ConfigError`]).
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Topic level and Home Assistant object id.
    pub device: DeviceName,
    #[serde(default)]
    pub camera: Camera,
    #[serde(default)]
    pub models: Models,
    #[serde(default)]
    pub recognition: Recognition,
    #[serde(default)]
    pub liveness: Liveness,
    #[serde(default)]
    pub events: Events,
    #[serde(default)]
    pub outbox: Outbox,
    /// Absent: events stay in the local outbox.
    pub mqtt: Option<Mqtt>,
    #[serde(default)]
    pub commands: Commands,
    pub update: Option<Update>,
}

/// A device's name: `[a-z0-9_-]{1,64}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct DeviceName(String);

impl DeviceName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for DeviceName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for DeviceName {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::try_from(name.to_owned())
    }
}

impl TryFrom<String> for DeviceName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        if is_plain(&name) {
            Ok(Self(name))
        } else {
            Err(format!("device name {name:?} is not 1 to 64 of a-z, 0-9, _ and -"))
        }
    }
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Camera {
    pub source: CameraSource,
    /// Wishes; the camera's nearest offer is taken. Pixels, 16 to 8192.
    #[serde(deserialize_with = "load::side")]
    pub width: u32,
    #[serde(deserialize_with = "load::side")]
    pub height: u32,
    /// Frames a second, 0.1 to 240.
    #[serde(deserialize_with = "load::frame_rate")]
    pub fps: f64,
    /// Replay only: begin again at the end.
    #[serde(rename = "loop")]
    pub repeat: bool,
    /// Replay only.
    pub speed: Speed,
    /// Clockwise; the picture is turned before it is mirrored.
    pub rotate: Rotation,
    pub flip: Option<Flip>,
    /// What is never looked at, in the picture as it is after `rotate` and `flip`; 32 polygons at most.
    #[serde(deserialize_with = "picture::masks")]
    pub masks: Vec<Polygon>,
    /// Pixels between a face's sides, 16 to 4096, below which it is nobody's. `None`: the quality gate alone decides.
    #[serde(deserialize_with = "picture::smallest_face")]
    pub smallest_face: Option<u32>,
}

impl Default for Camera {
    fn default() -> Self {
        Self {
            source: CameraSource::Device(PathBuf::from("/dev/video0")),
            width: 640,
            height: 480,
            fps: 15.0,
            repeat: false,
            speed: Speed::Pace,
            rotate: Rotation::None,
            flip: None,
            masks: Vec::new(),
            smallest_face: None,
        }
    }
}

/// The pace of a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Speed {
    /// As `fps` says; a slow pipeline loses frames, as with a camera.
    Pace,
    /// As fast as the pipeline takes them; no frame is lost.
    Max,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Models {
    /// The factory's; an installed one goes before it.
    pub bundle: PathBuf,
    /// An installed bundle is confirmed when the daemon has watched with it for so long.
    pub trial: Span,
    /// An update looks at live frames beside the running model for so long, before it takes over; zero: not at all.
    pub shadow: Span,
    /// Whether templates of another model are compared by way of a mapping that the bundle brings.
    pub mapping: bool,
}

impl Default for Models {
    fn default() -> Self {
        let bundle = PathBuf::from("/usr/share/familiar/models/facenet");
        Self { bundle, trial: Span::from_secs(600), shadow: Span::from_secs(60), mapping: true }
    }
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recognition {
    /// Probability that two different people's looks are taken for one person, 0 < rate < 1.
    #[serde(deserialize_with = "load::probability")]
    pub false_match_rate: f64,
    /// Looks that must agree before a person is named, 1 to 16.
    #[serde(deserialize_with = "load::looks")]
    pub frames: usize,
}

impl Default for Recognition {
    fn default() -> Self {
        Self { false_match_rate: 1e-4, frames: 3 }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Liveness {
    pub mode: LivenessMode,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LivenessMode {
    #[default]
    Auto,
    Enforce,
    Report,
    Off,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Events {
    /// Also tell of strangers.
    pub unknown: bool,
    /// A person unseen for this long has departed.
    pub departed_after: Span,
    /// Arrivals told a minute, of everybody together and of each person, 1 to 10,000; the same number
    /// may come at once.
    #[serde(deserialize_with = "load::limit")]
    pub limit: u32,
    #[serde(deserialize_with = "load::limit")]
    pub limit_per_person: u32,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            unknown: false,
            departed_after: Span::from_secs(30),
            limit: 60,
            limit_per_person: 10,
        }
    }
}

/// What is kept for a broker that is away.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Outbox {
    /// Events, 100 to 10,000,000.
    #[serde(deserialize_with = "load::capacity")]
    pub events: u64,
    /// Events older than this go; at least a minute.
    #[serde(deserialize_with = "load::age")]
    pub age: Span,
}

impl Default for Outbox {
    fn default() -> Self {
        Self { events: 100_000, age: Span::from_secs(30 * 24 * 3600) }
    }
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mqtt {
    /// `mqtts://host[:port]`, or `mqtt://` (loopback, unless `allow_plaintext`).
    pub url: String,
    #[serde(default)]
    pub allow_plaintext: bool,
    pub username: Option<String>,
    pub ca: Option<PathBuf>,
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// First topic levels; no wildcards.
    #[serde(default = "load::prefix", deserialize_with = "load::topic")]
    pub prefix: String,
    /// Empty: no discovery.
    #[serde(default = "load::discovery_prefix", deserialize_with = "load::topic_or_nothing")]
    pub discovery_prefix: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Commands {
    pub unsigned: Vec<UnsignedCommand>,
}

/// Commands that the broker's own access rules may protect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnsignedCommand {
    Pause,
    Resume,
    Update,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Update {
    pub repository: String,
    #[serde(default = "load::update_interval")]
    pub interval: Span,
    /// Groups that this device is in: a release may be for some of them alone.
    #[serde(default)]
    pub groups: Vec<Group>,
    /// PEM file with the certificates that may sign the repository's; absent: the system's.
    pub ca: Option<PathBuf>,
}

/// A group of devices: `[a-z0-9_-]{1,64}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Group(String);

impl Group {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Group {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        if is_plain(&name) {
            Ok(Self(name))
        } else {
            Err(format!("group {name:?} is not 1 to 64 of a-z, 0-9, _ and -"))
        }
    }
}

fn is_plain(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    (1..=64).contains(&name.len()) && name.chars().all(allowed)
}
