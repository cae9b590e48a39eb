#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use super::keys::KEYS;
use super::{
    CameraSource, Config, ConfigError, Flip, LivenessMode, Rotation, Span, Speed, load::parse,
};

fn read(text: &str) -> Result<Config, ConfigError> {
    parse(Path::new("familiar.toml"), text)
}

#[test]
fn only_the_device_is_needed() {
    let config = read("device = \"porch\"").unwrap();
    assert_eq!(config.camera.source, CameraSource::Device("/dev/video0".into()));
    assert_eq!(config.recognition.frames, 3);
    assert!((config.recognition.false_match_rate - 1e-4).abs() < f64::EPSILON);
    assert_eq!(config.liveness.mode, LivenessMode::Auto);
    assert_eq!(config.events.departed_after.get(), Duration::from_secs(30));
    assert!(config.mqtt.is_none());
}

#[test]
fn the_example_of_the_contract_is_read() {
    let config = read(
        r#"
        device = "porch"
        [camera]
        source = "replay:frames"
        width = 640
        height = 480
        fps = 15
        loop = true
        speed = "max"
        rotate = 90
        flip = "horizontal"
        masks = [[[0.0, 0.0], [0.3, 0.0], [0.3, 1], [0, 1.0]]]
        smallest_face = 48
        [models]
        bundle = "/usr/share/familiar/models/facenet"
        [recognition]
        false_match_rate = 0.0001
        frames = 3
        [liveness]
        mode = "report"
        [events]
        unknown = false
        departed_after = "30s"
        [mqtt]
        url = "mqtts://broker.local:8883"
        username = "porch"
        ca = "/etc/familiar/ca.pem"
        prefix = "familiar"
        discovery_prefix = "homeassistant"
        [commands]
        unsigned = ["pause", "resume", "update"]
        [update]
        repository = "https://models.example.org/familiar"
        interval = "6h"
        groups = ["east", "pilot-1"]
        "#,
    )
    .unwrap();
    assert_eq!(config.camera.source, CameraSource::Replay("frames".into()));
    assert_eq!(config.camera.speed, Speed::Max);
    assert!(config.camera.repeat);
    assert_eq!(
        (config.camera.rotate, config.camera.flip),
        (Rotation::Quarter, Some(Flip::Horizontal))
    );
    assert_eq!(config.camera.smallest_face, Some(48));
    assert_eq!(config.camera.masks[0].points(), [[0.0, 0.0], [0.3, 0.0], [0.3, 1.0], [0.0, 1.0]]);
    assert_eq!(config.update.unwrap().interval, Span::from_secs(6 * 3600));
}

/// What is said of a file, after its name.
fn said(text: &str) -> String {
    match read(text) {
        Err(error @ ConfigError::Invalid { .. }) => {
            error.to_string().strip_prefix("familiar.toml: ").unwrap().to_owned()
        }
        other => panic!("{text}: {other:?}"),
    }
}

/// File, line, key, what is wrong, and a line that would be right.
/// Holds CLI-01, CLI-02.
#[test]
fn wrong_configuration_is_explained_in_the_operators_words() {
    for (text, expected) in WRONG {
        assert_eq!(said(text), *expected, "{text}");
    }
}

#[rustfmt::skip] // a table
const WRONG: &[(&str, &str)] = &[
    // nothing, or not the main thing
    ("", "line 1: `device` is missing; write it above the first section: device = \"porch\""),
    ("[camera]\nfps = 15", "line 1: `device` is missing; write it above the first section: device = \"porch\""),
    ("device = \"a\"\n\n[mqtt]\nusername = \"a\"", "line 3: [mqtt] has no `url`; write it below this line: url = \"mqtts://broker.local:8883\""),
    ("device = \"a\"\n[update]\n", "line 2: [update] has no `repository`; write it below this line: repository = \"https://models.example.org/familiar\""),
    // types
    ("device = 5", "line 1: `device`: 5 is not a name of 1 to 64 of a-z, 0-9, _ and -, in quotes; for example: device = \"porch\""),
    ("device = [\"a\"]", "line 1: `device`: [\"a\"] is not a name of 1 to 64 of a-z, 0-9, _ and -, in quotes; for example: device = \"porch\""),
    ("device = \"a\"\n[camera]\nfps = \"fast\"", "line 3: `fps` in [camera]: \"fast\" is not a number of frames a second, 0.1 to 240; for example: fps = 15"),
    ("device = \"a\"\n[camera]\nwidth = -1", "line 3: `width` in [camera]: -1 is not a width in pixels, 16 to 8192; for example: width = 640"),
    ("device = \"a\"\n[camera]\nwidth = 640.5", "line 3: `width` in [camera]: 640.5 is not a width in pixels, 16 to 8192; for example: width = 640"),
    ("device = \"a\"\n[camera]\nwidth = 99999999999", "line 3: `width` in [camera]: 99999999999 is not a width in pixels, 16 to 8192; for example: width = 640"),
    ("device = \"a\"\n[camera]\nloop = \"yes\"", "line 3: `loop` in [camera]: \"yes\" is not true or false; for example: loop = true"),
    ("device = \"a\"\n[camera]\nspeed = \"slow\"", "line 3: `speed` in [camera]: \"slow\" is not \"pace\" or \"max\"; for example: speed = \"max\""),
    ("device = \"a\"\n[camera]\nspeed = 2", "line 3: `speed` in [camera]: 2 is not \"pace\" or \"max\"; for example: speed = \"max\""),
    ("device = \"a\"\n[liveness]\nmode = true", "line 3: `mode` in [liveness]: true is not \"auto\", \"enforce\", \"report\" or \"off\"; for example: mode = \"auto\""),
    ("device = \"a\"\n[events]\ndeparted_after = 30", "line 3: `departed_after` in [events]: 30 is not a duration, in quotes; for example: departed_after = \"30s\""),
    ("device = \"a\"\n[commands]\nunsigned = \"pause\"", "line 3: `unsigned` in [commands]: \"pause\" is not a list of \"pause\", \"resume\" and \"update\"; for example: unsigned = [\"pause\", \"resume\"]"),
    ("device = \"a\"\n[commands]\nunsigned = [\"stop\"]", "line 3: `unsigned` in [commands]: [\"stop\"] is not a list of \"pause\", \"resume\" and \"update\"; for example: unsigned = [\"pause\", \"resume\"]"),
    ("device = \"a\"\ncamera = \"/dev/video0\"", "line 2: `camera`: \"/dev/video0\" is not a section: [camera] in a line of its own, its keys below it; for example: [camera]"),
    ("device = \"a\"\nmqtt.url = true", "line 2: `url` in [mqtt]: true is not an address mqtts://HOST[:PORT] or mqtt://HOST[:PORT], in quotes; for example: url = \"mqtts://broker.local:8883\""),
    ("device = \"a\"\ncamera = { fps = true }", "line 2: `fps` in [camera]: true is not a number of frames a second, 0.1 to 240; for example: fps = 15"),
    // ranges and forms
    ("device = \"Porch\"", "line 1: `device`: device name \"Porch\" is not 1 to 64 of a-z, 0-9, _ and -; for example: device = \"porch\""),
    ("device = \"a\"\n[camera]\nfps = 1001", "line 3: `fps` in [camera]: 1001 frames a second are not within 0.1 to 240; for example: fps = 15"),
    ("device = \"a\"\n[recognition]\nfalse_match_rate = 1", "line 3: `false_match_rate` in [recognition]: 1 is not a rate between 0 and 1; for example: false_match_rate = 0.0001"),
    ("device = \"a\"\n[events]\ndeparted_after = \"soon\"", "line 3: `departed_after` in [events]: \"soon\" is not a duration such as \"30s\", \"5m\" or \"6h\"; for example: departed_after = \"30s\""),
    ("device = \"a\"\n[mqtt]\nurl = \"mqtt://x\"\nprefix = \"a/+/b\"", "line 4: `prefix` in [mqtt]: \"a/+/b\" is not a topic prefix without wildcards; for example: prefix = \"familiar\""),
    // unknown keys: near, elsewhere, something else, or neither
    ("device = \"a\"\n[camera]\nsourse = \"/dev/video1\"", "line 3: unknown key `sourse` in [camera]; did you mean `source`? For example: source = \"/dev/video0\""),
    ("device = \"a\"\n\n[recogniton]\nframes = 3", "line 3: unknown key `recogniton`; did you mean `recognition`? For example: [recognition]"),
    ("device = \"a\"\nfps = 15", "line 2: unknown key `fps`: it belongs below a line [camera]: fps = 15"),
    ("[camera]\ndevice = \"a\"", "line 2: unknown key `device` in [camera]: the camera is `source`: source = \"/dev/video0\""),
    ("[mqtt]\nurl = \"mqtts://h\"\ndevice = \"a\"", "line 3: unknown key `device` in [mqtt]: it belongs above the first section: device = \"porch\""),
    ("device = \"a\"\n[mqtt]\nurl = \"mqtts://h\"\npassword = \"hunter22\"", "line 4: unknown key `password` in [mqtt]: a password does not belong in this file: it is the secret `mqtt-password` (docs/configuration.md#secrets)"),
    ("device = \"a\"\n[mqtt]\nhost = \"h\"", "line 3: unknown key `host` in [mqtt]: the broker's host and port are in `url`: url = \"mqtts://broker.local:8883\""),
    ("device = \"a\"\n[liveness]\nzebra = 1", "line 3: unknown key `zebra` in [liveness]; known here: mode"),
    ("device = \"a\"\n[outbox]\n\"a\\u001b[31m\" = 1", "line 3: unknown key `a\\u001b[31m` in [outbox]; known here: events, age"),
    // no password is repeated
    ("device = \"a\"\n[update]\nrepository = [\"https://u:hunter22@h\"]", "line 3: `repository` in [update]: [\"https://***@h\"] is not an https:// address or a folder, in quotes; for example: repository = \"https://models.example.org/familiar\""),
    // not TOML
    ("device = porch", "line 1: `device`: string values must be quoted; for example: device = \"porch\""),
    ("device = \"porch", "line 1: `device`: invalid basic string; for example: device = \"porch\""),
    ("device = \"a\"\n[camera]\nfps =", "line 3: `fps` in [camera]: the value is missing; for example: fps = 15"),
    ("device = \"a\"\n[camera]\nfps 15", "line 3: `fps` in [camera]: key with no value; for example: fps = 15"),
    ("device = \"a\"\ndevice = \"b\"", "line 2: `device` is in this file twice"),
    ("device = \"a\"\n[camera]\n[camera]", "line 3: `camera` is in this file twice"),
    ("device: porch", "line 1: `device`: key with no value; for example: device = \"porch\""),
    ("device = \"a\"\n[camera\nfps = 15", "line 2: unclosed table; a line is KEY = VALUE or [SECTION]"),
];

/// The table of keys is that of the parser, and its lines are right.
/// Holds CLI-01.
#[test]
fn every_key_is_explained_by_a_line_that_is_right() {
    let sections: Vec<&str> =
        KEYS.iter().filter(|key| key.example.starts_with('[')).map(|key| key.name).collect();
    let mut count = 0;
    for section in std::iter::once("").chain(sections) {
        let header = if section.is_empty() { String::new() } else { format!("[{section}]\n") };
        // What the parser says of a key that is not: which keys are.
        let error = toml::from_str::<Config>(&format!("{header}zebra = 1")).unwrap_err();
        let known: BTreeSet<&str> = error.message().split('`').skip(3).step_by(2).collect();
        let explained: BTreeSet<&str> =
            KEYS.iter().filter(|key| key.section == section).map(|key| key.name).collect();
        assert_eq!(known, explained, "[{section}]: src/config/keys.rs");
        for key in KEYS.iter().filter(|key| key.section == section) {
            count += 1;
            let needed = match (section, key.name) {
                ("", "mqtt") | ("mqtt", _) if key.name != "url" => "url = \"mqtts://h\"\n",
                ("", "update") | ("update", _) if key.name != "repository" => {
                    "repository = \"/r\"\n"
                }
                _ => "",
            };
            let text = match (section, key.name) {
                ("", "device") => key.example.to_owned(),
                ("", _) => format!("device = \"a\"\n{}\n{needed}", key.example),
                _ => format!("device = \"a\"\n{header}{}\n{needed}", key.example),
            };
            read(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        }
    }
    assert_eq!(count, KEYS.len());
}

#[test]
fn values_out_of_range_are_refused_where_they_stand() {
    for (text, line) in [
        ("device = \"Porch\"", 1),
        ("device = \"a/b\"", 1),
        ("device = \"\"", 1),
        ("device = \"a\"\n[recognition]\nframes = 0", 3),
        ("device = \"a\"\n[recognition]\nframes = 17", 3),
        ("device = \"a\"\n[recognition]\nfalse_match_rate = 1", 3),
        ("device = \"a\"\n[recognition]\nfalse_match_rate = 0.0", 3),
        ("device = \"a\"\n[recognition]\nfalse_match_rate = nan", 3),
        ("device = \"a\"\n[camera]\nfps = 0", 3),
        ("device = \"a\"\n[camera]\nfps = 1001", 3),
        ("device = \"a\"\n[camera]\nwidth = 0", 3),
        ("device = \"a\"\n[camera]\nsource = \"rtsp://user:word@10.0.0.2/1\"", 3),
        ("device = \"a\"\n[camera]\nrotate = 45", 3),
        ("device = \"a\"\n[camera]\nflip = \"both\"", 3),
        ("device = \"a\"\n[camera]\nsmallest_face = 8", 3),
        ("device = \"a\"\n[camera]\nmasks = [[[0.0, 0.0], [1.0, 1.0]]]", 3),
        ("device = \"a\"\n[camera]\nmasks = [[[0.0, 0.0], [1.5, 1.0], [1.0, 0.0]]]", 3),
        ("device = \"a\"\n[camera]\nmasks = [[[0.0, 0.0], [nan, 1.0], [1.0, 0.0]]]", 3),
        ("device = \"a\"\n[events]\ndeparted_after = \"-3s\"", 3),
        ("device = \"a\"\n[events]\ndeparted_after = \"soon\"", 3),
        ("device = \"a\"\n[liveness]\nmode = \"maybe\"", 3),
        ("device = \"a\"\n[update]\nrepository = \"/r\"\ngroups = [\"East\"]", 4),
        ("device = \"a\"\n[mqtt]\nurl = \"mqtt://x\"\nprefix = \"a/+/b\"", 4),
    ] {
        match read(text) {
            Err(ConfigError::Invalid { line: found, .. }) => assert_eq!(found, line, "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }
}
