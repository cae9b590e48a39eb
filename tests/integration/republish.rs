//! The verifying bridge, `familiar listen --republish`, between a device and a real Mosquitto.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use familiar::event::Typ;
use serde_json::{Value, json};

use super::support::device::Device;
use super::support::house::publish;
use super::support::mosquitto::{Mosquitto, Subscriber, wait};

struct Bridge {
    folder: tempfile::TempDir,
    child: Option<Child>,
}

impl Bridge {
    fn new(port: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = format!("device = \"porch\"\n[mqtt]\nurl = \"mqtt://127.0.0.1:{port}\"\n");
        std::fs::write(folder.path().join("familiar.toml"), config).unwrap();
        Self { folder, child: None }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_familiar"));
        command
            .arg("listen")
            .arg("--config")
            .arg(self.folder.path().join("familiar.toml"))
            .args(args)
            .env("STATE_DIRECTORY", self.folder.path().join("state"))
            .env_remove("CREDENTIALS_DIRECTORY")
            .stdout(Stdio::null());
        command
    }

    fn start(&mut self) {
        self.child = Some(self.command(&["--republish", "plain"]).spawn().unwrap());
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A device whose identity the broker keeps, a bridge, and who listens to it.
fn scene(test: &str) -> Option<(Mosquitto, Device, Bridge, Subscriber)> {
    let broker = Mosquitto::start(test, "")?;
    let device = Device::new();
    let identity = device.key.identity(&super::support::device::name()).unwrap();
    publish(broker.port, "familiar/porch/identity", identity.as_str(), true);
    let heard = Subscriber::start(broker.port, "plain/#", &[]);
    let mut bridge = Bridge::new(broker.port);
    bridge.start();
    // It passes something on: it is there.
    let health = state(&device, Typ::Health, &json!({"state": "watching"}), 0);
    publish(broker.port, "familiar/porch/health", &health, true);
    wait("the bridge", || !heard.below("plain/").is_empty());
    Some((broker, device, bridge, heard))
}

/// A signed state of the device, so many seconds after noon.
fn state(device: &Device, typ: Typ, more: &Value, second: u32) -> String {
    let mut payload = json!({
        "v": 1, "device": "porch", "clock": "synchronized",
        "time": format!("2026-11-22T12:00:{second:02}.000Z"),
    });
    payload.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    device.key.sign(typ, &payload.to_string()).unwrap().as_str().to_owned()
}

fn presence(device: &Device, id: &str, present: bool, second: u32) -> String {
    let more = json!({"person": {"id": id, "name": id}, "present": present});
    state(device, Typ::Presence, &more, second)
}

fn payload(message: &str) -> String {
    let message: Value = serde_json::from_str(message).unwrap();
    message["payload"].as_str().unwrap().to_owned()
}

#[test]
fn unverified_is_never_republished() {
    let Some((broker, device, _bridge, heard)) = scene("unverified_is_never_republished") else {
        return;
    };
    let tell = |topic: &str, text: &str, retain| {
        publish(broker.port, &format!("familiar/porch/{topic}"), text, retain);
    };
    let events: Vec<String> =
        device.tell(3).iter().map(|event| event.as_str().to_owned()).collect();
    let ann = presence(&device, "ann", true, 10);
    let mut due = heard.below("plain/");
    let mut expect = |topic: &str, text: &str| {
        due.push((format!("plain/porch/{topic}"), payload(text)));
        let due = due.clone();
        wait(topic, || heard.below("plain/").len() >= due.len());
        assert_eq!(heard.below("plain/"), due);
    };
    tell("event", &events[0], false);
    expect("event", &events[0]);
    tell("person/ann", &ann, true);
    expect("person/ann", &ann);

    // Altered, by a stranger, of another kind, of another person or device, overtaken, kept, repeated.
    let stranger = Device::new();
    let elsewhere = state(&device, Typ::Health, &json!({"device": "attic"}), 50);
    tell("event", &events[1].replace("recognized", "departed  "), false);
    tell("event", stranger.tell(1)[0].as_str(), false);
    tell("event", &state(&device, Typ::Health, &json!({"event_type": "recognized"}), 50), false);
    tell("event", &events[2], true);
    tell("event", &events[0], false);
    tell("event", "{\"event_type\":\"recognized\"}", false);
    tell("event", &"x".repeat(5000), false);
    tell("person/zoe", &ann, true);
    tell("person/ann", &presence(&device, "ann", false, 5), true);
    tell("person/ann", &presence(&stranger, "ann", false, 50), true);
    tell("health", &elsewhere, true);
    tell("health", "{\"state\":\"watching\"}", true);
    tell("availability", "offline", true);
    tell("result", &state(&device, Typ::Result, &json!({}), 50), false);
    tell("else", &events[1], false);
    publish(broker.port, "familiar/attic/event", &events[1], false);
    let quick = Command::new("mosquitto_pub")
        .args(["-h", "127.0.0.1", "-p", &broker.port.to_string(), "-q", "0"])
        .args(["-t", "familiar/porch/event", "-m", &events[1]])
        .status();
    assert!(quick.unwrap().success());

    // What is genuine still comes, and came next.
    tell("event", &events[1], false);
    expect("event", &events[1]);
    let away = presence(&device, "ann", false, 20);
    tell("person/ann", &away, true);
    expect("person/ann", &away);
    // States are kept, events are not; and what the source forgets, the copy forgets.
    let late = Subscriber::start(broker.port, "plain/#", &[]);
    wait("what is kept", || late.below("plain/").len() == 2);
    tell("person/ann", "", true);
    wait("the end of it", || late.below("plain/").len() == 3);
    assert_eq!(late.below("plain/")[2], ("plain/porch/person/ann".to_owned(), String::new()));
    let later = Subscriber::start(broker.port, "plain/#", &[]);
    wait("what is kept", || !later.below("plain/").is_empty());
    assert_eq!(later.below("plain/")[0].0, "plain/porch/health");
    assert_eq!(later.below("plain/").len(), 1);
}

#[test]
fn bridge_killed_at_any_moment_loses_nothing() {
    const EVENTS: u64 = 300;
    let Some((broker, device, mut bridge, heard)) = scene("bridge_killed_at_any_moment") else {
        return;
    };
    let publisher = device.publisher(&format!("mqtt://127.0.0.1:{}", broker.port), "");
    let mut random = fastrand::Rng::with_seed(11);
    for _ in 0..6 {
        device.tell(EVENTS as usize / 6);
        publisher.notify();
        std::thread::sleep(Duration::from_millis(random.u64(0..120)));
        bridge.kill();
        std::thread::sleep(Duration::from_millis(random.u64(0..120)));
        bridge.start();
    }
    assert!(publisher.flush(Duration::from_mins(1)).unwrap());
    let numbers = || -> Vec<u64> {
        let events = heard.below("plain/porch/event").into_iter();
        events
            .map(|(_, text)| serde_json::from_str::<Value>(&text).unwrap()["seq"].as_u64().unwrap())
            .collect()
    };
    wait("the last event", || numbers().last() == Some(&EVENTS));
    let mut first_times = numbers();
    let mut seen = std::collections::HashSet::new();
    first_times.retain(|seq| seen.insert(*seq));
    assert_eq!(first_times, (1..=EVENTS).collect::<Vec<_>>());
}

#[test]
fn target_within_the_source_is_refused() {
    let bridge = Bridge::new(1);
    for target in ["familiar", "familiar/plain", "familiar/porch/event", "a/+", "#", ""] {
        let out = bridge.command(&["--republish", target]).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(out.status.code(), Some(2), "{target}");
        assert!(String::from_utf8_lossy(&out.stderr).contains("--republish"), "{target}");
    }
}

#[test]
fn broker_that_refuses_the_copy() {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("acl");
    std::fs::write(&rules, "topic readwrite familiar/#\ntopic read plain/#\n").unwrap();
    let options = format!("acl_file {}", rules.display());
    let Some(broker) = Mosquitto::start("broker_that_refuses_the_copy", &options) else { return };
    let device = Device::new();
    let identity = device.key.identity(&super::support::device::name()).unwrap();
    publish(broker.port, "familiar/porch/identity", identity.as_str(), true);
    let health = state(&device, Typ::Health, &json!({}), 0);
    publish(broker.port, "familiar/porch/health", &health, true);
    let bridge = Bridge::new(broker.port);
    let run = bridge.command(&["--republish", "plain"]).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(run.status.code(), Some(5));
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(said.contains("refused plain/porch/health"), "{said}");
}

#[test]
fn reader_who_stops_reading() {
    let Some((broker, device, mut bridge, _heard)) = scene("reader_who_stops_reading") else {
        return;
    };
    bridge.kill();
    let mut child = bridge.command(&["--json"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut code = None;
    wait("its end", || {
        for event in device.tell(1) {
            publish(broker.port, "familiar/porch/event", event.as_str(), false);
        }
        code = child.try_wait().unwrap();
        code.is_some()
    });
    assert_eq!(code.unwrap().code(), Some(0));
}
