//! Topics below `PREFIX/DEVICE/` (contract §4).

use ring::digest::{SHA256, digest};

use crate::config::DeviceName;
use crate::event::Typ;
use crate::recognition::PersonId;

/// Longest prefix, in bytes.
const PREFIX_LIMIT: usize = 256;
/// The prefix that `[mqtt] prefix` has by default. What is not below a topic (ids in Home Assistant) names the
/// prefix only where it is another one.
const DEFAULT_PREFIX: &str = "familiar";

/// The first levels of every topic: neither empty nor with wildcards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix(String);

impl TryFrom<String> for Prefix {
    type Error = String;

    fn try_from(prefix: String) -> Result<Self, String> {
        let sound = (1..=PREFIX_LIMIT).contains(&prefix.len())
            && !prefix.starts_with('$')
            && prefix.split('/').all(|level| !level.is_empty())
            && !prefix.contains(|c: char| c == '+' || c == '#' || c.is_control());
        if sound {
            Ok(Self(prefix))
        } else {
            Err(format!(
                "`prefix` {prefix:?} is not 1 to {PREFIX_LIMIT} bytes of topic levels without +, # \
                 and empty levels"
            ))
        }
    }
}

impl Prefix {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn is_default(&self) -> bool {
        self.0 == DEFAULT_PREFIX
    }

    /// Whether one of them is the other, or a topic below it.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.0 == other.0 || self.strip(&other.0).is_some() || other.strip(&self.0).is_some()
    }

    /// What of a topic is below the prefix.
    pub fn strip<'a>(&self, topic: &'a str) -> Option<&'a str> {
        topic.strip_prefix(&self.0)?.strip_prefix('/')
    }
}

impl std::fmt::Display for Prefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The topics of one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    prefix: Prefix,
    device: DeviceName,
    base: String,
}

impl Topics {
    pub fn new(prefix: &Prefix, device: &DeviceName) -> Self {
        Self {
            prefix: prefix.clone(),
            device: device.clone(),
            base: format!("{}/{device}", prefix.0),
        }
    }

    pub fn prefix(&self) -> &Prefix {
        &self.prefix
    }

    pub fn device(&self) -> &DeviceName {
        &self.device
    }

    /// `PREFIX/DEVICE`: where all of the device's topics are.
    pub fn place(&self) -> &str {
        &self.base
    }

    /// MQTT client id of the device with this key (its thumbprint): `familiar-DEVICE-` and 16 hexadecimal digits
    /// that differ for another prefix, device or key. Two clients with one id would throw each other off for ever.
    pub fn client_id(&self, kid: &str) -> String {
        // A NUL is in no topic and no thumbprint.
        let scope = digest(&SHA256, format!("{}\0{kid}", self.base).as_bytes());
        let scope = scope.as_ref()[..8].iter().fold(0, |all, byte| all << 8 | u64::from(*byte));
        format!("familiar-{}-{scope:016x}", self.device)
    }

    pub fn event(&self) -> String {
        format!("{}/event", self.base)
    }

    pub fn availability(&self) -> String {
        format!("{}/availability", self.base)
    }

    pub fn identity(&self) -> String {
        format!("{}/identity", self.base)
    }

    pub fn person(&self, id: &PersonId) -> String {
        format!("{}/person/{id}", self.base)
    }

    pub fn health(&self) -> String {
        format!("{}/health", self.base)
    }

    pub fn command(&self) -> String {
        format!("{}/command", self.base)
    }

    pub fn result(&self) -> String {
        format!("{}/result", self.base)
    }

    /// Of one unsigned command.
    pub fn set(&self, name: &str) -> String {
        format!("{}/set/{name}", self.base)
    }

    /// Filter for everything of this device.
    pub fn everything(&self) -> String {
        format!("{}/#", self.base)
    }
}

/// Filter for everything of every device.
pub fn every_device(prefix: &Prefix) -> String {
    format!("{}/+/#", prefix.0)
}

/// Filter for the identities of every device.
pub fn every_identity(prefix: &Prefix) -> String {
    format!("{}/+/identity", prefix.0)
}

/// What a topic below the prefix carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// A signed message of that kind.
    Signed(Typ),
    /// `online` or `offline`, plain text.
    Availability,
    /// What others tell the device.
    ToDevice,
    /// Nothing that the contract knows.
    Other,
}

/// Takes a topic apart into the device's name and what it carries; `None` if it is not below the
/// prefix.
pub fn parse<'a>(prefix: &Prefix, topic: &'a str) -> Option<(&'a str, Content)> {
    let (device, rest) = prefix.strip(topic)?.split_once('/')?;
    let content = match rest.split_once('/').unwrap_or((rest, "")) {
        ("event", "") => Content::Signed(Typ::Event),
        ("identity", "") => Content::Signed(Typ::Identity),
        ("health", "") => Content::Signed(Typ::Health),
        ("result", "") => Content::Signed(Typ::Result),
        ("person", id) if !id.is_empty() => Content::Signed(Typ::Presence),
        ("availability", "") => Content::Availability,
        ("command", "") | ("set", _) => Content::ToDevice,
        _ => Content::Other,
    };
    Some((device, content))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn topics_of_a_device() {
        let prefix = Prefix::try_from("home/familiar".to_owned()).unwrap();
        let topics = Topics::new(&prefix, &DeviceName::try_from("porch".to_owned()).unwrap());
        assert_eq!(topics.event(), "home/familiar/porch/event");
        let event = Content::Signed(Typ::Event);
        assert_eq!(parse(&prefix, "home/familiar/porch/event"), Some(("porch", event)));
        assert_eq!(parse(&prefix, "home/familiar/porch/event/x").unwrap().1, Content::Other);
        assert_eq!(parse(&prefix, "home/familiar/porch/person/").unwrap().1, Content::Other);
        assert_eq!(parse(&prefix, "home/familiarporch/event"), None);
        assert_eq!(parse(&prefix, "other/porch/event"), None);
    }

    /// Holds MQT-24.
    #[test]
    fn client_ids_of_another_prefix_device_or_key_differ() {
        let id = |prefix: &str, device: &str, kid: &str| {
            let prefix = Prefix::try_from(prefix.to_owned()).unwrap();
            Topics::new(&prefix, &DeviceName::try_from(device.to_owned()).unwrap()).client_id(kid)
        };
        let porch = id("familiar", "porch", "key");
        assert!(porch.starts_with("familiar-porch-"), "{porch}");
        assert_eq!(porch, id("familiar", "porch", "key"));
        let others = [
            id("site2", "porch", "key"),
            id("familiar", "porch2", "key"),
            id("familiar", "porch", "key2"),
            id("familiar/porch", "key", "porch"),
        ];
        let all: std::collections::BTreeSet<&String> = others.iter().chain([&porch]).collect();
        assert_eq!(all.len(), 5, "{all:?}");
    }

    #[test]
    fn prefixes_within_each_other() {
        let prefix = |text: &str| Prefix::try_from(text.to_owned()).unwrap();
        for (a, b, overlap) in [
            ("familiar", "familiar", true),
            ("familiar", "familiar/plain", true),
            ("home/familiar", "home", true),
            ("familiar", "familiar2", false),
            ("a/b", "a/c", false),
        ] {
            assert_eq!(prefix(a).overlaps(&prefix(b)), overlap, "{a} {b}");
            assert_eq!(prefix(b).overlaps(&prefix(a)), overlap, "{b} {a}");
        }
    }

    #[test]
    fn prefixes_that_reach_further() {
        for prefix in ["", "+", "a/#", "/a", "a/", "a//b", "$SYS", "a\0b"] {
            assert!(Prefix::try_from(prefix.to_owned()).is_err(), "{prefix:?}");
        }
    }
}
