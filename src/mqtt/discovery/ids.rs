//! Ids in Home Assistant, such that no two devices, people or entities share one.
//!
//! Home Assistant knows an entity by its *unique id*, which nobody sees, and shows it under an *entity id*, which it
//! takes from us when it first meets the entity and keeps from then on. Topics and unique ids below the default prefix
//! are as they always were, so that nobody's entities are lost; another prefix is part of them.

use crate::mqtt::topics::Topics;
use crate::recognition::PersonId;

/// Between device and prefix in [`device`]: a device's name has no capital letters.
const AT: &str = "-AT-";
/// Longest share of the prefix in an entity id, which has 255 characters at most.
const PREFIX_SHARE: usize = 64;
/// What the device's own entity ids end with: no person's may.
const RESERVED: &[&str] = &[
    "face",
    "last_person",
    "state",
    "camera",
    "frame_rate",
    "temperature",
    "memory",
    "outbox",
    "storage",
    "clock",
    "refused_commands",
    "model",
    "last_report",
    "pause",
    "resume",
];

/// The device's level of the discovery topic, `[a-zA-Z0-9_-]+`: its name; below another prefix than the default,
/// `NAME-AT-PREFIX`, where each byte of the prefix that is not allowed, and `X`, becomes `X` and two hexadecimal digits.
pub(super) fn device(topics: &Topics) -> String {
    let name = topics.device();
    if topics.prefix().is_default() {
        return name.to_string();
    }
    let mut id = format!("{name}{AT}");
    for byte in topics.prefix().as_str().bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'W' | b'Y' | b'Z' | b'0'..=b'9' | b'_' | b'-' => {
                id.push(byte.into());
            }
            _ => id.extend(["X".to_owned(), format!("{byte:02x}")]),
        }
    }
    id
}

/// What Home Assistant calls the device: its name, with any prefix but the default.
pub(super) fn device_name(topics: &Topics) -> String {
    let (prefix, name) = (topics.prefix(), topics.device());
    if prefix.is_default() { name.to_string() } else { format!("{name} ({prefix})") }
}

/// `PREFIX/DEVICE/KEY`. Neither a device's name nor a key has a slash, so no two of them make the same id.
pub(super) fn unique(topics: &Topics, key: &str) -> String {
    format!("{}/{key}", topics.place())
}

/// `PLATFORM.DEVICE_ENTITY`, or `PLATFORM.DEVICE_PREFIX_ENTITY` below another prefix than the default. Devices whose
/// names differ in nothing but `-` and `_` get the same, and a number from Home Assistant.
pub(super) fn entity(topics: &Topics, platform: &str, entity: &str) -> String {
    let mut words = words(topics.device().as_str());
    let prefix = topics.prefix().as_str().to_ascii_lowercase();
    let share: String = prefix.chars().take(PREFIX_SHARE).collect();
    if !topics.prefix().is_default() {
        words.extend(self::words(&share));
    }
    words.push(entity);
    format!("{platform}.{}", words.join("_"))
}

/// A person's part of an entity id, `[a-z0-9]+(_[a-z0-9]+)*`; another one for each id, and never one of the device's.
///
/// An id of words with single dashes between them is shown by these words: `ann-lee` → `ann_lee`. Any other gets a
/// number at its end that tells where its dashes and underscores are: after a 0, a 0 for each word, 1 for a dash, 2 for
/// an underscore; `ann_lee` → `ann_lee_0020`. So does an id that would be taken for a numbered one, or for an
/// entity of the device: `camera` → `camera_00`.
pub(super) fn person(id: &PersonId) -> String {
    let id = id.as_str();
    let mut words = words(id);
    let shown = words.join("_");
    let plain = id == words.join("-")
        && words.last().is_some_and(|word| !is_number(word))
        && !RESERVED.contains(&shown.as_str());
    if plain {
        return shown;
    }
    let mut number = "0".to_owned();
    let mut before = '-';
    for c in id.chars() {
        match c {
            '-' => number.push('1'),
            '_' => number.push('2'),
            _ if before == '-' || before == '_' => number.push('0'),
            _ => {}
        }
        before = c;
    }
    words.push(&number);
    words.join("_")
}

/// Whether it could be the number that [`person`] adds.
fn is_number(word: &str) -> bool {
    word.len() >= 2 && word.starts_with('0') && word.chars().all(|c| ('0'..='2').contains(&c))
}

/// Runs of ASCII letters and digits: an entity id has no double underscore, and none at its ends.
fn words(text: &str) -> Vec<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::config::UnsignedCommand;
    use crate::mqtt::discovery::{Setting, entities};
    use crate::mqtt::topics::Prefix;

    fn topics(prefix: &str, device: &str) -> Topics {
        let prefix = Prefix::try_from(prefix.to_owned()).unwrap();
        Topics::new(&prefix, &device.to_owned().try_into().unwrap())
    }

    /// Every text of these characters, up to this length.
    fn every(characters: &str, longest: usize) -> Vec<String> {
        let mut all = vec![String::new()];
        let mut last = all.clone();
        for _ in 0..longest {
            last = last
                .iter()
                .flat_map(|text| characters.chars().map(move |c| format!("{text}{c}")))
                .collect();
            all.extend(last.iter().cloned());
        }
        all.retain(|text| !text.is_empty());
        all
    }

    fn is_part_of_an_entity_id(text: &str) -> bool {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let outer = text.starts_with('_') || text.ends_with('_');
        !text.is_empty() && text.chars().all(allowed) && !text.contains("__") && !outer
    }

    /// No two of them, and none ends as another kind of entity does.
    fn assert_distinct(ids: &[String]) {
        let mut met = HashMap::new();
        for text in ids {
            let id: PersonId = text.parse().unwrap();
            let shown = person(&id);
            assert!(is_part_of_an_entity_id(&shown), "{text}: {shown}");
            assert!(!RESERVED.contains(&shown.as_str()), "{text}: {shown}");
            if let Some(other) = met.insert(shown.clone(), text) {
                panic!("{other} and {text} are both {shown}");
            }
        }
    }

    /// Holds HAS-06.
    #[test]
    fn entity_ids_of_people_are_distinct_whatever_their_ids() {
        assert_distinct(&every("a0_-", 7));
        assert_distinct(&every("012_-", 6));
        // Ids that are what others become, and the device's own.
        let mut all: Vec<String> = every("a02_-", 4);
        for _ in 0..2 {
            let made: Vec<String> = all
                .iter()
                .map(|text| person(&text.parse().unwrap()))
                .flat_map(|shown| [shown.replace('_', "-"), shown])
                .collect();
            all.extend(made);
        }
        all.extend(RESERVED.iter().flat_map(|word| [word.to_string(), word.replace('_', "-")]));
        all.retain(|text| text.len() <= 64);
        all.sort();
        all.dedup();
        assert_distinct(&all);
        // Random long ones.
        let random = |_| {
            let length = fastrand::usize(1..=64);
            (0..length).map(|_| char::from(fastrand::choice(b"ab01_-").copied().unwrap())).collect()
        };
        let mut random: Vec<String> = (0..20_000).map(random).collect();
        random.sort();
        random.dedup();
        assert_distinct(&random);
    }

    #[test]
    fn usual_ids_are_shown_as_they_are() {
        for (id, shown) in [
            ("zoe", "zoe"),
            ("zoe-muller", "zoe_muller"),
            ("ann-2", "ann_2"),
            ("ann_2", "ann_2_0020"),
            ("camera", "camera_00"),
            ("last-person", "last_person_0010"),
            ("_", "02"),
            ("a--b", "a_b_00110"),
            ("a-00", "a_00_0010"),
        ] {
            assert_eq!(person(&id.parse().unwrap()), shown, "{id}");
        }
    }

    #[test]
    fn every_entity_of_the_device_is_reserved() {
        let topics = topics("familiar", "porch");
        let allowed = [UnsignedCommand::Pause, UnsignedCommand::Resume];
        for commands in [&allowed[..], &allowed[..1], &allowed[1..], &[]] {
            let setting = Setting {
                topics: &topics,
                discovery_prefix: "homeassistant",
                kid: "kid",
                version: "1",
                commands,
            };
            for (key, component) in entities::of_device(&setting) {
                let Some(id) = component["def_ent_id"].as_str() else { continue };
                let end = id.split_once(".porch_").unwrap().1;
                assert!(RESERVED.contains(&end), "{key}: {id}");
            }
        }
    }

    /// Holds HAS-06.
    #[test]
    fn devices_of_another_prefix_share_no_id() {
        // As they were before prefixes were part of them.
        let porch = topics("familiar", "porch");
        assert_eq!(device(&porch), "porch");
        assert_eq!(device_name(&porch), "porch");
        assert_eq!(unique(&porch, "person_zoe"), "familiar/porch/person_zoe");
        assert_eq!(entity(&porch, "sensor", "zoe_last_seen"), "sensor.porch_zoe_last_seen");
        let other = topics("Home/site2", "front-door");
        assert_eq!(device(&other), "front-door-AT-HomeX2fsite2");
        assert_eq!(device_name(&other), "front-door (Home/site2)");
        assert_eq!(unique(&other, "face"), "Home/site2/front-door/face");
        assert_eq!(entity(&other, "event", "face"), "event.front_door_home_site2_face");

        let mut met = HashMap::new();
        let prefixes =
            ["familiar", "Familiar", "a", "a-b", "a/b", "a_b", "aX2fb", "a/b-AT-c", "дом", "X"];
        for prefix in prefixes {
            for name in ["a", "b", "a-b", "a_b", "at", "familiar", "a-at-b"] {
                let topics = topics(prefix, name);
                let id = device(&topics);
                let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
                assert!(id.chars().all(allowed), "{id}");
                for id in [id, unique(&topics, "face")] {
                    let other = met.insert(id.clone(), topics.clone());
                    assert!(other.is_none(), "{other:?} and {topics:?}: {id}");
                }
            }
        }
    }
}
