#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::Duration;

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

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_nearest() {
    let error = read("device = \"porch\"\n[camera]\nsourse = \"/dev/video1\"\n").unwrap_err();
    assert_eq!(
        error.to_string(),
        "familiar.toml: line 3: unknown key `sourse`; did you mean `source`?"
    );
}

#[test]
fn an_unknown_section_is_named() {
    let error = read("device = \"porch\"\n\n[recogniton]\nframes = 3\n").unwrap_err();
    assert_eq!(
        error.to_string(),
        "familiar.toml: line 3: unknown key `recogniton`; did you mean `recognition`?"
    );
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
