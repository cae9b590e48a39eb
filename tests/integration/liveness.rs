//! `[liveness] mode` as the outside sees it: a recording of a live face, and one of a picture, before `familiar run`.
//!
//! The faces are painted and the networks small (`support/small.rs`). The real networks are a suite of their own:
//! `liveness_networks.rs`.

use std::process::Output;

use serde_json::Value;

use crate::support::bundle::TestBundle;
use crate::support::home::Home;
use crate::support::painted::Face;
use crate::support::small;

/// A device that knows Ada and sees a recording of this face.
fn device(bundle: TestBundle, face: Face) -> Home {
    let home = Home::with_small(bundle);
    home.record_face(&face, 20);
    home.enroll("Ada", "P001");
    home
}

fn attacked() -> Home {
    device(small::bundle(), Face::of(1).spoof())
}

fn run(home: &Home, more: &str) -> Vec<Value> {
    home.configure(&format!("[events]\nunknown = true\n{more}"));
    events(&home.familiar(&["run", "--stdout"]))
}

/// The payloads that it printed.
pub fn events(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let payload = |line: &str| {
        let envelope: Value = serde_json::from_str(line).unwrap();
        serde_json::from_str(envelope["payload"].as_str().unwrap()).unwrap()
    };
    text.lines().map(payload).collect()
}

pub fn mode(mode: &str) -> String {
    format!("[liveness]\nmode = \"{mode}\"\n")
}

pub fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["event_type"].as_str().unwrap()).collect()
}

/// Holds LIV-07, LIV-08, LIV-16.
#[test]
fn spoof_when_enforced_named_when_off() {
    let home = attacked();
    // `auto` is what an operator has who says nothing: an empty table.
    for enforced in [mode("enforce"), mode("auto"), "[liveness]\n".to_owned()] {
        let events = run(&home, &enforced);
        assert_eq!(kinds(&events), ["spoof"], "{enforced}");
        assert_eq!(events[0]["liveness"]["verdict"], "attack");
        assert!(events[0]["liveness"]["score"].as_f64().unwrap() < 0.2);
        assert!(events[0].get("person").is_none());
        // It was seen well enough: without liveness this is a name.
        assert!(events[0]["similarity"].as_f64() > events[0]["threshold"].as_f64());
    }
    let reported = run(&home, &mode("report"));
    assert_eq!(kinds(&reported), ["recognized"]);
    assert_eq!(reported[0]["liveness"]["verdict"], "attack");
    let off = run(&home, &mode("off"));
    assert_eq!(kinds(&off), ["recognized"]);
    assert!(off[0].get("liveness").is_none());
}

/// Holds LIV-07.
#[test]
fn face_that_passes_is_named_with_its_verdict() {
    let home = device(small::bundle(), Face::of(1));
    for named in ["enforce", "auto", "report"] {
        let events = run(&home, &mode(named));
        assert_eq!(kinds(&events), ["recognized"], "{named}");
        assert_eq!(events[0]["liveness"]["verdict"], "live");
        assert!(events[0]["liveness"]["score"].as_f64().unwrap() > 0.8);
    }
}

/// Holds LIV-18.
#[test]
fn threshold_is_the_bundles() {
    // Above the bundle's threshold, below another's.
    let face = Face::of(1).live(0.6);
    let home = device(small::bundle(), face);
    assert_eq!(kinds(&run(&home, &mode("enforce"))), ["recognized"]);
    let strict = small::bundle();
    let manifest = small::MANIFEST.replace("threshold = 0.35", "threshold = 0.9");
    assert_ne!(manifest, small::MANIFEST);
    strict.write("bundle.toml", manifest.as_bytes());
    strict.sign();
    let home = device(strict, face);
    assert_eq!(kinds(&run(&home, &mode("enforce"))), ["spoof"]);
}

#[test]
fn score_is_the_mean_of_the_networks() {
    let bundle = small::bundle();
    // One of them takes its classes for the other way round.
    let (head, tail) = small::MANIFEST.split_once("liveness-wide.onnx").unwrap();
    let tail = tail.replacen("live_class = 1", "live_class = 0", 1);
    bundle.write("bundle.toml", format!("{head}liveness-wide.onnx{tail}").as_bytes());
    bundle.sign();
    let home = device(bundle, Face::of(1));
    let events = run(&home, &mode("report"));
    let score = events[0]["liveness"]["score"].as_f64().unwrap();
    assert!((score - 0.5).abs() < 0.02, "{score}");
}

/// Holds LIV-15.
#[test]
fn bundle_without_liveness_cannot_enforce_it() {
    let home = device(small::without_liveness(), Face::of(1).spoof());
    home.configure(&mode("enforce"));
    let refused = home.familiar(&["run", "--stdout"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(3), "{said}");
    assert!(said.contains("enforce") && refused.stdout.is_empty(), "{said}");
    assert_eq!(home.familiar(&["check"]).status.code(), Some(3));

    home.configure(&mode("auto"));
    let run = home.familiar(&["run", "--stdout"]);
    assert_eq!(kinds(&events(&run)), ["recognized"]);
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(said.contains("liveness is off"), "{said}");
}
