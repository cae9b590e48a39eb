//! `familiar run` from boot to the last event, as the outside sees it.
//!
//! The networks are the small ones of `support/small.rs`; the default bundle's are tried in `default_bundle.rs`.

use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::support::bundle::TestBundle;
use crate::support::home::{Home, copy, familiar};
use crate::support::mosquitto::{Mosquitto, Subscriber};

fn lines(output: &Output) -> Vec<String> {
    String::from_utf8(output.stdout.clone()).unwrap().lines().map(str::to_owned).collect()
}

fn payload(message: &str) -> Value {
    let envelope: Value = serde_json::from_str(message).unwrap();
    serde_json::from_str(envelope["payload"].as_str().unwrap()).unwrap()
}

/// Exit code 3, one line that names the culprit, not a byte of an event; and the state directory holds
/// neither key nor events, so nothing was begun.
fn assert_refused(home: &Path, output: &Output, culprit: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains(culprit), "{said}");
    assert!(output.stdout.is_empty());
    assert!(!home.join("state/outbox.db").exists() && !home.join("state/device-key").exists());
}

/// Holds TRU-06.
#[test]
fn tampered_bundle_processes_no_frame() {
    let bundle = TestBundle::new();
    let mut model = bundle.read("embedder.onnx");
    model[17] ^= 1;
    bundle.write("embedder.onnx", &model);
    // There is no such camera: a daemon that looked for frames first would end with 4.
    let text = format!(
        "device = \"porch\"\n[camera]\nsource = \"/dev/nonexistent-camera\"\n[models]\nbundle = {:?}\n",
        bundle.path().to_str().unwrap()
    );
    std::fs::write(bundle.root().join("familiar.toml"), text).unwrap();
    let output = familiar(bundle.root(), &["run", "--stdout"]);
    assert_refused(bundle.root(), &output, "embedder.onnx");
}

/// Holds TRU-01, TRU-06.
#[test]
fn tampered_networks_process_no_frame() {
    let home = Home::small();
    home.record("P001", 3);
    let copied = home.path("bundle");
    copy(&home.bundle, &copied);
    for file in ["embedder.onnx", "detector.onnx", "bundle.toml", "selftest.bin"] {
        let sound = std::fs::read(copied.join(file)).unwrap();
        let mut altered = sound.clone();
        let middle = altered.len() / 2;
        altered[middle] ^= 0x40;
        std::fs::write(copied.join(file), &altered).unwrap();
        home.configure_with(&copied, &format!("replay:{}", home.path("frames").display()), "");
        assert_refused(home.folder.path(), &home.familiar(&["run", "--stdout"]), file);
        std::fs::write(copied.join(file), &sound).unwrap();
    }
}

#[test]
fn what_is_demanded_and_cannot_be_done_is_refused() {
    let home = Home::small();
    home.record("P001", 1);
    for (more, code) in [
        ("[recognition]\nfalse_match_rate = 1e-12\n", 2),
        ("[mqtt]\nurl = \"mqtt://broker.example:1883\"\n", 2),
        ("[recognition]\nframe = 3\n", 2),
    ] {
        home.configure(more);
        assert_eq!(home.familiar(&["run"]).status.code(), Some(code), "{more}");
    }
    home.configure_with(&home.bundle, "/dev/nonexistent-camera", "");
    assert_eq!(home.familiar(&["run"]).status.code(), Some(4));
}

#[test]
fn the_enrolled_are_named_and_strangers_are_not() {
    let home = Home::small();
    home.record("P001", 30);
    home.configure("[events]\nunknown = true\n");
    home.enroll("Ada", "P001");
    let run = home.familiar(&["run", "--stdout"]);
    assert!(run.status.success(), "{run:?}");
    let first = lines(&run);
    assert_eq!(first.len(), 1, "{first:?}");
    let event = payload(&first[0]);
    assert_eq!(event["event_type"], "recognized");
    assert_eq!(event["person"]["id"], "ada");
    assert!(event["similarity"].as_f64() >= event["threshold"].as_f64());

    // The chain goes on over a restart.
    let second = lines(&home.familiar(&["run", "--stdout"]));
    assert_eq!(payload(&second[0])["seq"], 2);
    assert_ne!(payload(&second[0])["boot"], event["boot"]);
    std::fs::write(home.path("events"), [&first[0], "\n", &second[0], "\n"].concat()).unwrap();
    let events = home.path("events");
    let verify = home.familiar(&["verify", "--chain", "--json", events.to_str().unwrap()]);
    assert!(verify.status.success(), "{verify:?}");
    let report: Value = serde_json::from_str(lines(&verify).last().unwrap()).unwrap();
    assert_eq!(report["events"], 2);
    assert_eq!(report["ok"], true);

    // Erased: the same face is nobody now, and the erasure is an event, too.
    assert!(home.familiar(&["forget", "ada"]).status.success());
    let third = lines(&home.familiar(&["run", "--stdout"]));
    let kinds: Vec<_> = third.iter().map(|event| payload(event)["event_type"].clone()).collect();
    assert_eq!(kinds, ["unknown"]);
    assert_eq!(payload(&third[0])["seq"], 4);
    assert!(payload(&third[0]).get("person").is_none());
}

/// Holds EVT-21.
#[test]
fn events_arrive_at_the_broker_before_the_end() {
    let test = "events_arrive_at_the_broker_before_the_end";
    let home = Home::small();
    let Some(broker) = Mosquitto::start(test, "") else { return };
    home.record("P001", 30);
    home.configure(&format!("[mqtt]\nurl = \"mqtt://127.0.0.1:{}\"\n", broker.port));
    home.enroll("Ada", "P001");
    let subscriber = Subscriber::start(broker.port, "#", &[]);
    let run = home.familiar(&["run"]);
    assert!(run.status.success(), "{run:?}");
    crate::support::mosquitto::wait("the event", || subscriber.on("/event").len() == 1);
    assert_eq!(payload(&subscriber.on("/event")[0])["event_type"], "recognized");
    crate::support::mosquitto::wait("the goodbye", || {
        subscriber.on("/availability").last().is_some_and(|word| word == "offline")
    });
    assert!(subscriber.messages().iter().all(|(_, message)| message.len() <= 4096));
}

#[test]
fn check_names_what_would_fail() {
    let test = "check_names_what_would_fail";
    let home = Home::small();
    let Some(broker) = Mosquitto::start(test, "") else { return };
    home.record("P001", 1);
    home.configure(&format!("[mqtt]\nurl = \"mqtt://127.0.0.1:{}\"\n", broker.port));
    let sound = home.familiar(&["check", "--json"]);
    assert!(sound.status.success(), "{sound:?}");
    let report: Value = serde_json::from_slice(&sound.stdout).unwrap();
    let states = report.as_array().unwrap().iter();
    assert!(states.clone().all(|line| line["state"] != "fail"), "{report}");
    assert!(states.clone().any(|line| line["check"] == "broker" && line["state"] == "ok"));

    drop(broker);
    assert_eq!(home.familiar(&["check"]).status.code(), Some(5));
    home.configure_with(&home.bundle, "/dev/nonexistent-camera", "");
    assert_eq!(home.familiar(&["check"]).status.code(), Some(4));
    std::fs::remove_dir_all(home.path("trust.d")).unwrap();
    assert_eq!(home.familiar(&["check"]).status.code(), Some(3));
}
