//! Finding and reading the configuration file, and the small parsers of its values.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, de::Error as _};

use super::explain::explain;
use super::{Config, ConfigError, Span};
use crate::system::bounded;

/// Largest configuration, in bytes; one that says everything has under 2,000.
pub const LIMIT: u64 = 64 * 1024;

/// A configuration and where it lay; its neighbours are `trust.d`, `root.json` and `operators.jwks`.
#[derive(Debug, Clone)]
pub struct Located {
    pub config: Config,
    pub path: PathBuf,
}

impl Located {
    /// The folder of the configuration file.
    pub fn directory(&self) -> &Path {
        match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        }
    }
}

/// Reads the configuration from `--config`, else `$CONFIGURATION_DIRECTORY/familiar.toml`, else
/// `/etc/familiar/familiar.toml`.
pub fn find(given: Option<&Path>) -> Result<Located, ConfigError> {
    if let Some(path) = given {
        return read(path);
    }
    let from_systemd = std::env::var_os("CONFIGURATION_DIRECTORY")
        .map(|directory| PathBuf::from(directory).join("familiar.toml"));
    let looked: Vec<PathBuf> =
        from_systemd.into_iter().chain([PathBuf::from("/etc/familiar/familiar.toml")]).collect();
    match looked.iter().find(|path| path.exists()) {
        Some(path) => read(path),
        None => Err(ConfigError::Missing { looked }),
    }
}

fn read(path: &Path) -> Result<Located, ConfigError> {
    let text = bounded::read_text(path, LIMIT)
        .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    let config = parse(path, &text)?;
    Ok(Located { config, path: path.to_owned() })
}

pub(crate) fn parse(path: &Path, text: &str) -> Result<Config, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let (line, message) = explain(text, &error);
        ConfigError::Invalid { path: path.to_owned(), line, message }
    })
}

pub(super) fn probability<'de, D: Deserializer<'de>>(de: D) -> Result<f64, D::Error> {
    let rate = f64::deserialize(de)?;
    if rate > 0.0 && rate < 1.0 {
        Ok(rate)
    } else {
        Err(D::Error::custom(format!("{rate} is not a rate between 0 and 1")))
    }
}

pub(super) fn looks<'de, D: Deserializer<'de>>(de: D) -> Result<usize, D::Error> {
    let looks = usize::deserialize(de)?;
    if (1..=16).contains(&looks) {
        Ok(looks)
    } else {
        Err(D::Error::custom(format!("{looks} looks are not within 1 to 16")))
    }
}

pub(super) fn side<'de, D: Deserializer<'de>>(de: D) -> Result<u32, D::Error> {
    let side = u32::deserialize(de)?;
    if (16..=8192).contains(&side) {
        Ok(side)
    } else {
        Err(D::Error::custom(format!("{side} pixels are not within 16 to 8192")))
    }
}

pub(super) fn frame_rate<'de, D: Deserializer<'de>>(de: D) -> Result<f64, D::Error> {
    let rate = f64::deserialize(de)?;
    if (0.1..=240.0).contains(&rate) {
        Ok(rate)
    } else {
        Err(D::Error::custom(format!("{rate} frames a second are not within 0.1 to 240")))
    }
}

pub(super) fn limit<'de, D: Deserializer<'de>>(de: D) -> Result<u32, D::Error> {
    let events = u32::deserialize(de)?;
    if (1..=10_000).contains(&events) {
        Ok(events)
    } else {
        Err(D::Error::custom(format!("{events} events a minute are not within 1 to 10000")))
    }
}

pub(super) fn capacity<'de, D: Deserializer<'de>>(de: D) -> Result<u64, D::Error> {
    let events = u64::deserialize(de)?;
    if (100..=10_000_000).contains(&events) {
        Ok(events)
    } else {
        Err(D::Error::custom(format!("{events} events are not within 100 to 10000000")))
    }
}

pub(super) fn age<'de, D: Deserializer<'de>>(de: D) -> Result<Span, D::Error> {
    let age = Span::deserialize(de)?;
    if age >= Span::from_secs(60) {
        Ok(age)
    } else {
        Err(D::Error::custom("an age under a minute would drop events that are on their way"))
    }
}

pub(super) fn topic<'de, D: Deserializer<'de>>(de: D) -> Result<String, D::Error> {
    let topic = topic_or_nothing(de)?;
    if topic.is_empty() { Err(D::Error::custom("a topic prefix is empty")) } else { Ok(topic) }
}

pub(super) fn topic_or_nothing<'de, D: Deserializer<'de>>(de: D) -> Result<String, D::Error> {
    let topic = String::deserialize(de)?;
    let level = |level: &str| !level.is_empty() && !level.contains(['+', '#', '$', '\0']);
    if topic.is_empty() || (topic.len() <= 128 && topic.split('/').all(level)) {
        Ok(topic)
    } else {
        Err(D::Error::custom(format!("{topic:?} is not a topic prefix without wildcards")))
    }
}

pub(super) fn prefix() -> String {
    "familiar".to_owned()
}

pub(super) fn discovery_prefix() -> String {
    "homeassistant".to_owned()
}

pub(super) fn update_interval() -> Span {
    Span::from_secs(6 * 3600)
}
