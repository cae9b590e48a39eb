//! The keys of the configuration in words: what each must be, with a line that would be right. Errors are made of
//! these ([`super::explain`]); a test holds that no key is left out.

/// One key.
#[derive(Debug)]
pub(super) struct Key {
    /// Empty: above the first section.
    pub section: &'static str,
    pub name: &'static str,
    /// Completes "… is not".
    pub must: &'static str,
    /// A line of the file.
    pub example: &'static str,
}

const fn key(
    section: &'static str,
    name: &'static str,
    must: &'static str,
    example: &'static str,
) -> Key {
    Key { section, name, must, example }
}

#[rustfmt::skip] // a table
pub(super) const KEYS: &[Key] = &[
    key("", "device", "a name of 1 to 64 of a-z, 0-9, _ and -, in quotes", "device = \"porch\""),
    key("", "camera", "a section: [camera] in a line of its own, its keys below it", "[camera]"),
    key("", "models", "a section: [models] in a line of its own, its keys below it", "[models]"),
    key("", "recognition", "a section: [recognition] in a line of its own, its keys below it", "[recognition]"),
    key("", "liveness", "a section: [liveness] in a line of its own, its keys below it", "[liveness]"),
    key("", "events", "a section: [events] in a line of its own, its keys below it", "[events]"),
    key("", "outbox", "a section: [outbox] in a line of its own, its keys below it", "[outbox]"),
    key("", "mqtt", "a section: [mqtt] in a line of its own, its keys below it", "[mqtt]"),
    key("", "commands", "a section: [commands] in a line of its own, its keys below it", "[commands]"),
    key("", "update", "a section: [update] in a line of its own, its keys below it", "[update]"),
    key("camera", "source", "a camera's device or replay:FOLDER, in quotes", "source = \"/dev/video0\""),
    key("camera", "width", "a width in pixels, 16 to 8192", "width = 640"),
    key("camera", "height", "a height in pixels, 16 to 8192", "height = 480"),
    key("camera", "fps", "a number of frames a second, 0.1 to 240", "fps = 15"),
    key("camera", "loop", "true or false", "loop = true"),
    key("camera", "rotate", "0, 90, 180 or 270", "rotate = 90"),
    key("camera", "flip", "\"horizontal\" or \"vertical\"", "flip = \"horizontal\""),
    key(
        "camera",
        "masks",
        "polygons, each of three points or more in fractions of the picture",
        "masks = [[[0.0, 0.0], [0.3, 0.0], [0.3, 1.0]]]",
    ),
    key("camera", "smallest_face", "a number of pixels", "smallest_face = 48"),
    key("camera", "speed", "\"pace\" or \"max\"", "speed = \"max\""),
    key("models", "bundle", "a folder, in quotes", "bundle = \"/usr/share/familiar/models/facenet\""),
    key("models", "trial", "a duration, in quotes", "trial = \"10m\""),
    key("models", "shadow", "a duration, in quotes", "shadow = \"1m\""),
    key("models", "mapping", "true or false", "mapping = true"),
    key("recognition", "false_match_rate", "a rate between 0 and 1", "false_match_rate = 0.0001"),
    key("recognition", "frames", "a number of looks, 1 to 16", "frames = 3"),
    key("liveness", "mode", "\"auto\", \"enforce\", \"report\" or \"off\"", "mode = \"auto\""),
    key("events", "unknown", "true or false", "unknown = true"),
    key("events", "departed_after", "a duration, in quotes", "departed_after = \"30s\""),
    key("events", "limit", "a number of events a minute, 1 to 10000", "limit = 60"),
    key("events", "limit_per_person", "a number of events a minute, 1 to 10000", "limit_per_person = 10"),
    key("outbox", "events", "a number of events, 100 to 10000000", "events = 100000"),
    key("outbox", "age", "a duration of at least a minute, in quotes", "age = \"30 days\""),
    key("mqtt", "url", "an address mqtts://HOST[:PORT] or mqtt://HOST[:PORT], in quotes", "url = \"mqtts://broker.local:8883\""),
    key("mqtt", "allow_plaintext", "true or false", "allow_plaintext = true"),
    key("mqtt", "username", "a name, in quotes", "username = \"porch\""),
    key("mqtt", "ca", "a PEM file, in quotes", "ca = \"/etc/familiar/ca.pem\""),
    key("mqtt", "cert", "a PEM file, in quotes", "cert = \"/etc/familiar/porch.pem\""),
    key("mqtt", "key", "a PEM file, in quotes", "key = \"/etc/familiar/porch.key\""),
    key("mqtt", "prefix", "the first level or levels of topics, without wildcards, in quotes", "prefix = \"familiar\""),
    key("mqtt", "discovery_prefix", "the first level or levels of topics, without wildcards, in quotes", "discovery_prefix = \"homeassistant\""),
    key("commands", "unsigned", "a list of \"pause\", \"resume\" and \"update\"", "unsigned = [\"pause\", \"resume\"]"),
    key("update", "repository", "an https:// address or a folder, in quotes", "repository = \"https://models.example.org/familiar\""),
    key("update", "interval", "a duration, in quotes", "interval = \"6h\""),
    key("update", "groups", "a list of names of 1 to 64 of a-z, 0-9, _ and -", "groups = [\"pilot\"]"),
    key("update", "ca", "a PEM file, in quotes", "ca = \"/etc/familiar/ca.pem\""),
];

/// What people write that is no key, and what to do instead.
#[rustfmt::skip] // a table
const INSTEAD: &[(&str, &[&str], &str)] = &[
    ("mqtt", &["password", "passwd", "pass", "mqtt_password"], "a password does not belong in this file: it is the secret `mqtt-password` (docs/configuration.md#secrets)"),
    ("mqtt", &["host", "hostname", "server", "broker", "address", "port"], "the broker's host and port are in `url`: url = \"mqtts://broker.local:8883\""),
    ("mqtt", &["tls", "ssl", "encryption"], "mqtts:// in `url` is TLS, mqtt:// is none"),
    ("mqtt", &["topic", "base_topic"], "the first level of every topic is `prefix`: prefix = \"familiar\""),
    ("mqtt", &["client_id"], "the client id is made from the device's name"),
    ("camera", &["device", "path", "url", "rtsp"], "the camera is `source`: source = \"/dev/video0\""),
    ("update", &["url", "address", "server"], "the place of updates is `repository`: repository = \"https://models.example.org/familiar\""),
    ("recognition", &["threshold", "similarity", "confidence"], "the threshold follows from `false_match_rate`: false_match_rate = 0.0001"),
];

pub(super) fn find(section: &str, name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.section == section && key.name == name)
}

/// What to do where somebody wrote a key that there is not in this section.
pub(super) fn instead(section: &str, name: &str) -> Option<&'static str> {
    let of = |entry: &&(&str, &[&str], _)| entry.0 == section && entry.1.contains(&name);
    INSTEAD.iter().find(of).map(|(.., advice)| *advice)
}

/// Where a key of this name belongs that stands elsewhere, if there is one such place.
pub(super) fn elsewhere(section: &str, name: &str) -> Option<&'static Key> {
    let mut found = KEYS.iter().filter(|key| key.section != section && key.name == name);
    found.next().filter(|_| found.next().is_none())
}
