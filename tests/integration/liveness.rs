//! `[liveness] mode` as the outside sees it: a replayed picture of a generated person before `familiar run`.
//!
//! The pictures are stills of people who do not exist. To the bundle's networks one of the recordings made of them
//! here is an attack (mean score 0.02), another a live face (0.96).

use std::process::Output;

use serde_json::Value;

use crate::support::bundle::{Curve, TestKey};
use crate::support::home::{Home, copy};

const ATTACK: &str = "P005";
const LIVE: &str = "P007";

/// A device that knows this person and sees a recording of a picture of the same person.
fn device(test: &str, person: &str) -> Option<Home> {
    let home = Home::new(test)?;
    home.record(person, 20);
    home.configure("");
    home.enroll("Ada", person);
    Some(home)
}

fn run(home: &Home, more: &str) -> Vec<Value> {
    home.configure(&format!("[events]\nunknown = true\n{more}"));
    events(&home.familiar(&["run", "--stdout"]))
}

fn events(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let payload = |line: &str| {
        let envelope: Value = serde_json::from_str(line).unwrap();
        serde_json::from_str(envelope["payload"].as_str().unwrap()).unwrap()
    };
    text.lines().map(payload).collect()
}

fn mode(mode: &str) -> String {
    format!("[liveness]\nmode = \"{mode}\"\n")
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["event_type"].as_str().unwrap()).collect()
}

#[test]
fn picture_is_a_spoof_where_liveness_is_enforced_and_its_person_where_not() {
    let test = "picture_is_a_spoof_where_liveness_is_enforced_and_its_person_where_not";
    let Some(home) = device(test, ATTACK) else { return };
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

#[test]
fn face_that_passes_is_named_with_its_verdict() {
    let Some(home) = device("face_that_passes_is_named_with_its_verdict", LIVE) else { return };
    for named in ["enforce", "auto", "report"] {
        let events = run(&home, &mode(named));
        assert_eq!(kinds(&events), ["recognized"], "{named}");
        assert_eq!(events[0]["liveness"]["verdict"], "live");
        assert!(events[0]["liveness"]["score"].as_f64().unwrap() > 0.8);
    }
}

#[test]
fn threshold_is_the_bundles() {
    let Some(home) = device("threshold_is_the_bundles", LIVE) else { return };
    let bundle = altered(&home, |manifest| {
        let at = manifest.find("[liveness_decision]").expect("a threshold in the default bundle");
        let value = at + manifest[at..].find("threshold = ").unwrap();
        let end = value + manifest[value..].find('\n').unwrap();
        format!("{}threshold = 0.999{}", &manifest[..value], &manifest[end..])
    });
    let frames = format!("replay:{}", home.path("frames").display());
    home.configure_with(&bundle, &frames, &mode("enforce"));
    assert_eq!(kinds(&events(&home.familiar(&["run", "--stdout"]))), ["spoof"]);
}

#[test]
fn bundle_without_liveness_cannot_enforce_it() {
    let Some(home) = device("bundle_without_liveness_cannot_enforce_it", ATTACK) else { return };
    let bundle = altered(&home, |manifest| {
        let from = manifest.find("[[liveness]]").unwrap();
        let to = manifest.find("[[calibration]]").unwrap();
        format!("{}{}", &manifest[..from], &manifest[to..])
    });
    let frames = format!("replay:{}", home.path("frames").display());
    home.configure_with(&bundle, &frames, &mode("enforce"));
    let refused = home.familiar(&["run", "--stdout"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(3), "{said}");
    assert!(said.contains("enforce") && refused.stdout.is_empty(), "{said}");
    assert_eq!(home.familiar(&["check"]).status.code(), Some(3));

    home.configure_with(&bundle, &frames, &mode("auto"));
    let run = home.familiar(&["run", "--stdout"]);
    assert_eq!(kinds(&events(&run)), ["recognized"]);
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(said.contains("liveness is off"), "{said}");
}

/// The bundle with another manifest, signed by a key that the device trusts as well. Where the manifest has no
/// liveness networks, nor has the bundle.
fn altered(home: &Home, change: impl Fn(&str) -> String) -> std::path::PathBuf {
    let bundle = home.path("altered");
    copy(&home.bundle, &bundle);
    let manifest = bundle.join("bundle.toml");
    let text = change(&std::fs::read_to_string(&manifest).unwrap());
    if !text.contains("[[liveness]]") {
        for file in ["liveness-2.7.onnx", "liveness-4.0.onnx"] {
            std::fs::remove_file(bundle.join(file)).unwrap();
        }
        let cases = bundle.join("selftest.toml");
        let all = std::fs::read_to_string(&cases).unwrap();
        std::fs::write(cases, &all[..all.find("[[liveness]]").unwrap()]).unwrap();
    }
    std::fs::write(manifest, text).unwrap();
    let key = TestKey::new(Curve::P256);
    key.write(&home.path("key.pem"));
    std::fs::write(home.path("trust.d/altered.pub"), key.public_pem()).unwrap();
    let (bundle_name, key_name) = (bundle.to_str().unwrap(), home.path("key.pem"));
    let signed =
        home.familiar(&["model", "sign", bundle_name, "--key", key_name.to_str().unwrap()]);
    assert!(signed.status.success(), "{signed:?}");
    bundle
}
