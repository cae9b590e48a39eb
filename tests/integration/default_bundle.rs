//! The default bundle, as `make models` built it here, and generated people whose pictures look like photographs: what the small
//! networks of the other tests cannot show. Nothing here depends on which detector it has, or on liveness.

use std::path::{Path, PathBuf};

use familiar::model::{Engine, TrustAnchors, VerifiedBundle};
use image::imageops::{FilterType, replace, resize};
use image::{Rgb, RgbImage};
use serde_json::Value;

use crate::liveness::{events, kinds};
use crate::support::home::Home;
use crate::support::mosquitto::{Mosquitto, Subscriber, wait};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn json(home: &Home, arguments: &[&str]) -> (Option<i32>, Value) {
    let output = home.familiar(&[arguments, &["--json"]].concat());
    let data = serde_json::from_slice(&output.stdout);
    (output.status.code(), data.unwrap_or_else(|error| panic!("{error}: {output:?}")))
}

/// Holds REC-05.
#[test]
fn real_bundle_passes_its_self_test() {
    let Some(home) = Home::new("real_bundle_passes_its_self_test") else { return };
    let anchors = TrustAnchors::load(&home.path("trust.d")).unwrap();
    let engine = Engine::start(VerifiedBundle::open(&home.bundle, &anchors).unwrap()).unwrap();
    let empty = RgbImage::from_pixel(640, 480, Rgb([90, 120, 150]));
    assert!(engine.detect(&empty).unwrap().is_empty());
    assert!(engine.embedder_digest().starts_with("sha256:"));
    engine.load_liveness().unwrap();
}

/// Two pictures side by side.
fn beside(left: &Path, right: &Path) -> RgbImage {
    let scaled = |path| {
        let picture = image::open(path).unwrap().to_rgb8();
        resize(&picture, 640, 640, FilterType::Triangle)
    };
    let mut both = RgbImage::new(1280, 640);
    replace(&mut both, &scaled(left), 0, 0);
    replace(&mut both, &scaled(right), 640, 0);
    both
}

/// Enrolled from one picture, known on another; a stranger is nobody.
#[test]
fn generated_people_are_enrolled_and_identified() {
    let Some(home) = Home::new("generated_people_are_enrolled_and_identified") else { return };
    for (name, person) in [("One", "P001"), ("Two", "P002")] {
        home.enroll(name, person);
    }
    let probes = [
        (home.picture("P001", "amateur_selfie.jpg"), Some("one")),
        (home.picture("P002", "amateur_selfie.jpg"), Some("two")),
        (home.picture("P003", "studio_portrait.jpg"), None),
    ];
    let both = home.path("both.jpg");
    let portrait = |person| home.picture(person, "studio_portrait.jpg");
    beside(&portrait("P002"), &portrait("P001")).save(&both).unwrap();
    let mut paths: Vec<&str> = probes.iter().map(|(path, _)| text(path)).collect();
    paths.push(text(&both));
    let (code, photos) = json(&home, &[&["identify"], &paths[..]].concat());
    assert_eq!(code, Some(0));
    for ((_, who), photo) in probes.iter().zip(photos.as_array().unwrap()) {
        let faces = photo["faces"].as_array().unwrap();
        assert_eq!(faces.len(), 1, "{photo}");
        assert_eq!(faces[0]["person"]["id"].as_str(), *who, "{photo}");
    }
    // Two on one picture, each at the right place.
    let faces = photos[3]["faces"].as_array().unwrap();
    let found: Vec<Option<&str>> = faces.iter().map(|f| f["person"]["id"].as_str()).collect();
    assert_eq!(found, [Some("two"), Some("one")]);
    assert!(faces[0]["box"][0].as_f64().unwrap() < 640.0);
    assert!(faces[1]["box"][0].as_f64().unwrap() >= 640.0);
}

#[test]
fn unfit_photographs_are_refused_with_the_reason() {
    let Some(home) = Home::new("unfit_photographs_are_refused_with_the_reason") else { return };
    let (one, two) =
        (home.picture("P001", "studio_portrait.jpg"), home.picture("P002", "studio_portrait.jpg"));
    let (both, empty) = (home.path("both.png"), home.path("empty.png"));
    beside(&one, &two).save(&both).unwrap();
    RgbImage::from_fn(640, 480, |x, y| Rgb([(x / 3) as u8, (y / 2) as u8, 90]))
        .save(&empty)
        .unwrap();
    let selfie = home.picture("P001", "amateur_selfie.jpg");
    let pictures = [&both, &empty, &one, &one, &two, &selfie].map(|path| text(path));
    let (code, report) = json(&home, &[&["enroll", "One"], &pictures[..]].concat());
    let reasons: Vec<&str> = report["pictures"]
        .as_array()
        .unwrap()
        .iter()
        .map(|picture| picture["reason"].as_str().unwrap_or("-"))
        .collect();
    assert_eq!(code, Some(0), "{report}");
    assert_eq!(reasons, ["several-faces", "no-face", "-", "repeated", "does-not-fit", "-"]);
}

/// From recording to broker: recognised, published, and a model that was tampered with stops it.
#[test]
fn generated_person_before_the_daemon_is_named() {
    let test = "generated_person_before_the_daemon_is_named";
    let Some(home) = Home::new(test) else { return };
    let Some(broker) = Mosquitto::start(test, "") else { return };
    home.record("P001", 12);
    home.enroll("Ada", "P001");
    home.configure(&format!("[mqtt]\nurl = \"mqtt://127.0.0.1:{}\"\n", broker.port));
    let subscriber = Subscriber::start(broker.port, "#", &[]);
    let run = home.familiar(&["run", "--stdout"]);
    let told = events(&run);
    assert_eq!(kinds(&told), ["recognized"]);
    assert_eq!(told[0]["person"]["id"], "ada");
    wait("the event", || subscriber.on("/event").len() == 1);

    let copied = home.path("bundle");
    crate::support::home::copy(&home.bundle, &copied);
    let network = copied.join("embedder.onnx");
    let mut bytes = std::fs::read(&network).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    std::fs::write(&network, bytes).unwrap();
    home.configure_with(&copied, &format!("replay:{}", text(&home.path("frames"))), "");
    let refused = home.familiar(&["run", "--stdout"]);
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("embedder.onnx"), "{refused:?}");
}

#[test]
fn generated_strangers_are_nobody_in_an_open_set() {
    let Some(home) = Home::new("generated_strangers_are_nobody_in_an_open_set") else { return };
    let folder = |name: &str| -> PathBuf { home.path(name) };
    for person in ["P001", "P002"] {
        home.looks(person, &folder("enrolled").join(person), 4);
    }
    for person in ["P003", "P005"] {
        home.looks(person, &folder("strangers").join(person), 2);
    }
    let (people, strangers) = (folder("enrolled"), folder("strangers"));
    let asked = ["evaluate", "--people", text(&people), "--strangers", text(&strangers)];
    let (code, report) = json(&home, &[&asked[..], &["--enroll", "2"]].concat());
    assert_eq!(code, Some(0));
    let single = &report["points"][0];
    assert_eq!(
        (single["fnir"].as_f64(), single["false_positives"]["count"].as_u64()),
        (Some(0.0), Some(0))
    );
}
