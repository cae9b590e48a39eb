//! Home Assistant's device discovery: one retained message that tells which entities this device has
//! and on which of its topics they are (contract §4; format of Home Assistant 2024.12 and later).
//!
//! It holds no secret and no state, only topics, names and templates, and is not signed: Home
//! Assistant checks no signatures. What it believes, it believes because of the broker's access rules
//! (`docs/home-assistant.md`).

mod entities;
mod ids;

use serde_json::{Map, Value, json};

use super::topics::Topics;
use crate::config::UnsignedCommand;
use crate::recognition::{PersonId, PersonRef};

/// People who get entities of their own, at most.
pub const PEOPLE_LIMIT: usize = 64;
/// Longest message, in bytes: some brokers and bridges take no packet beyond 64 KiB.
pub const LIMIT: usize = 60 * 1024;
/// What of it may tell of people; the rest is for what removes entities.
const PEOPLE_BYTES: usize = 52 * 1024;
/// People whose entities are removed by one message, at most.
const REMOVALS: usize = 256;

/// What a discovery message rests on.
#[derive(Debug, Clone, Copy)]
pub struct Setting<'a> {
    pub topics: &'a Topics,
    /// `[mqtt] discovery_prefix`, not empty.
    pub discovery_prefix: &'a str,
    /// Thumbprint of the device's key: shown as its serial number, no part of any identifier.
    pub kid: &'a str,
    /// Of this program.
    pub version: &'a str,
    /// `[commands] unsigned`: what Home Assistant may be given a control for.
    pub commands: &'a [UnsignedCommand],
}

/// The retained message that introduces the device to Home Assistant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovery {
    topic: String,
    text: String,
    left_out: usize,
}

impl Discovery {
    /// Tells of the device and of `people`, the first [`PEOPLE_LIMIT`] in the order of their ids and as
    /// many as [`LIMIT`] bytes hold; has Home Assistant remove the entities of `gone`.
    pub fn new(setting: &Setting<'_>, people: &[PersonRef], gone: &[PersonId]) -> Self {
        let mut components = entities::of_device(setting);
        let mut people: Vec<&PersonRef> = people.iter().collect();
        people.sort_by(|a, b| a.id.cmp(&b.id));
        people.dedup_by(|a, b| a.id == b.id);

        let mut room = Room { left: PEOPLE_BYTES.saturating_sub(length(&components)) };
        let told = people
            .iter()
            .take(PEOPLE_LIMIT)
            .take_while(|person| room.add(&mut components, entities::of_person(setting, person)))
            .count();
        let left_out = &people[told..];

        // Who was told of before, and is now beyond the limit, goes as one who is no longer enrolled.
        let mut room = Room { left: LIMIT - PEOPLE_BYTES };
        let enrolled = |id: &PersonId| people[..told].iter().any(|person| person.id == *id);
        let gone = gone.iter().filter(|id| !enrolled(id));
        for id in gone.chain(left_out.iter().map(|person| &person.id)).take(REMOVALS) {
            if !room.add(&mut components, entities::of_nobody(id)) {
                break;
            }
        }

        let message = json!({
            "dev": {
                "ids": [format!("familiar_{}", ids::device(setting.topics))],
                "name": ids::device_name(setting.topics),
                "mf": "familiar",
                "mdl": "Face recognition",
                "sw": setting.version,
                "sn": setting.kid,
            },
            "o": { "name": "familiar", "sw": setting.version },
            // Shared by all that do not say otherwise.
            "avty_t": setting.topics.availability(),
            "stat_t": setting.topics.health(),
            "cmps": components,
        });
        Self {
            topic: Self::topic_of(setting.discovery_prefix, setting.topics),
            text: message.to_string(),
            left_out: left_out.len(),
        }
    }

    /// Where a device's discovery message is; an empty text there has Home Assistant forget the device.
    pub fn topic_of(discovery_prefix: &str, topics: &Topics) -> String {
        format!("{discovery_prefix}/device/{}/config", ids::device(topics))
    }

    /// Where it was in versions that left the prefix out, if that is another topic: two sites of another prefix
    /// shared it.
    pub fn topic_without_prefix(discovery_prefix: &str, topics: &Topics) -> Option<String> {
        let device = topics.device();
        let before = format!("{discovery_prefix}/device/{device}/config");
        (before != Self::topic_of(discovery_prefix, topics)).then_some(before)
    }

    /// Where Home Assistant tells that it has started (`online`) or stops.
    pub fn birth_topic(discovery_prefix: &str) -> String {
        format!("{discovery_prefix}/status")
    }

    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// One line of JSON, at most [`LIMIT`] bytes.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// How many people have no entities because there are too many.
    pub fn left_out(&self) -> usize {
        self.left_out
    }
}

/// A named component, or what removes one.
type Component = (String, Value);

/// Bytes that components may still take.
struct Room {
    left: usize,
}

impl Room {
    /// Takes all of them in, or none if they do not fit.
    fn add(&mut self, to: &mut Map<String, Value>, components: [Component; 2]) -> bool {
        let size: usize = components.iter().map(|(key, value)| key.len() + length(value) + 4).sum();
        let fits = size <= self.left;
        if fits {
            self.left -= size;
            to.extend(components);
        }
        fits
    }
}

/// In bytes of JSON.
fn length(value: &impl serde::Serialize) -> usize {
    serde_json::to_string(value).map_or(LIMIT, |text| text.len())
}
