//! The verifying bridge, `familiar listen --republish`, between a device and a real Mosquitto.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use familiar::event::Typ;
use serde_json::{Value, json};

use super::support::device::Device;
use super::support::home::command;
use super::support::house::publish;
use super::support::judge;
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
        let mut command = command(self.folder.path(), &[&["listen"], args].concat());
        command.stdout(Stdio::null());
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
    // Somebody has the broker keep an event, genuine as it is.
    let kept = device.tell(1).remove(0);
    publish(broker.port, "familiar/porch/event", kept.as_str(), true);
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

/// Holds BRI-01.
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

    // What is genuine still comes, and came next; once, in whatever order.
    tell("event", &events[2], false);
    expect("event", &events[2]);
    tell("event", &events[1], false);
    expect("event", &events[1]);
    tell("event", &events[2], false);
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

/// Holds BRI-02.
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
    // Number 1 was kept before there was a bridge: that copy is not passed on, but the device's own is.
    let numbers = || -> Vec<u64> {
        let events = heard.below("plain/porch/event").into_iter();
        events
            .map(|(_, text)| serde_json::from_str::<Value>(&text).unwrap()["seq"].as_u64().unwrap())
            .collect()
    };
    wait("the last event", || numbers().last() == Some(&(EVENTS + 1)));
    let mut first_times = numbers();
    let mut seen = std::collections::HashSet::new();
    first_times.retain(|seq| seen.insert(*seq));
    assert_eq!(first_times, (1..=EVENTS + 1).collect::<Vec<_>>());
}

/// Holds BRI-03.
#[test]
fn target_within_the_source_is_refused() {
    let bridge = Bridge::new(1);
    for target in ["familiar", "familiar/plain", "familiar/porch/event", "a/+", "#", ""] {
        let out = bridge.command(&["--republish", target]).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(out.status.code(), Some(2), "{target}");
        assert!(String::from_utf8_lossy(&out.stderr).contains("--republish"), "{target}");
    }
}

/// Holds BRI-04.
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

/// What stands between the fences behind `<!-- test: NAME -->` in `docs/integrations.md`.
fn documented(name: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/integrations.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, behind) = text.split_once(&format!("<!-- test: {name} -->\n```")).unwrap();
    let (_, snippet) = behind.split_once('\n').unwrap();
    format!("{}\n", snippet.split_once("\n```").unwrap().0)
}

/// Holds BRI-05.
#[test]
fn access_rules_of_the_documentation() {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("acl");
    std::fs::write(&rules, documented("acl")).unwrap();
    let options = format!("acl_file {}", rules.display());
    let Some(broker) = Mosquitto::start("access_rules_of_the_documentation", &options) else {
        return;
    };
    let port = broker.port.to_string();
    for (topic, writers) in [
        ("familiar/porch/event", "porch"),
        ("familiar/porch/health", "porch"),
        ("familiar/porch/set/pause", "porch homeassistant"),
        ("familiar/attic/event", ""),
        ("verified/porch/event", "bridge"),
        ("homeassistant/device/porch/config", "porch"),
        ("homeassistant/device/attic/config", ""),
        ("homeassistant/status", "homeassistant"),
        ("elsewhere", ""),
    ] {
        for user in ["porch", "bridge", "panel", "homeassistant"] {
            let out = Command::new("mosquitto_pub")
                .args(["-V", "5", "-h", "127.0.0.1", "-p", &port, "-q", "1", "-d"])
                .args(["-u", user, "-t", topic, "-m", "x"])
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&out.stdout).into_owned();
            assert!(said.contains("PUBACK"), "{said}");
            let refused = said.contains("RC:135");
            assert_eq!(!refused, writers.split(' ').any(|name| name == user), "{user} {topic}");
        }
    }
    // The bridge of the documentation works by them.
    let device = Device::new();
    let identity = device.key.identity(&super::support::device::name()).unwrap();
    let health = state(&device, Typ::Health, &json!({}), 0);
    for (topic, text) in [("identity", identity.as_str()), ("health", health.as_str())] {
        let done = Command::new("mosquitto_pub")
            .args(["-V", "5", "-h", "127.0.0.1", "-p", &port, "-q", "1", "-r", "-u", "porch"])
            .args(["-t", &format!("familiar/porch/{topic}"), "-m", text])
            .status();
        assert!(done.unwrap().success());
    }
    let heard = Subscriber::start(broker.port, "verified/#", &["-u", "panel"]);
    let mut bridge = Bridge::new(broker.port);
    let configuration = bridge.folder.path().join("familiar.toml");
    let mut text = std::fs::read_to_string(&configuration).unwrap();
    text.push_str("username = \"bridge\"\n");
    std::fs::write(&configuration, text).unwrap();
    let store = familiar::system::state::StateDirectory::at(bridge.folder.path().join("state"));
    familiar::system::secret::create(&store.unwrap(), "mqtt-password", b"none").unwrap();
    bridge.child = Some(bridge.command(&["--republish", "verified"]).spawn().unwrap());
    wait("the copy", || {
        heard.below("verified/") == [("verified/porch/health".to_owned(), payload(&health))]
    });
}

/// Holds BRI-06.
#[test]
fn flow_of_the_documentation() {
    let flow = documented("flow.json");
    let nodes: Vec<Value> = serde_json::from_str(&flow).unwrap();
    let ids: Vec<&str> = nodes.iter().map(|node| node["id"].as_str().unwrap()).collect();
    for node in &nodes {
        for to in node["wires"].as_array().into_iter().flatten().flat_map(|w| w.as_array().unwrap())
        {
            assert!(ids.contains(&to.as_str().unwrap()), "{node}");
        }
        for field in ["z", "broker"] {
            let named = node["type"] == "mqtt-broker" || node[field].is_null();
            assert!(named || ids.contains(&node[field].as_str().unwrap()), "{node}");
        }
    }
    let program = r#"
const flow = JSON.parse(process.argv[2]);
const kept = {};
const context = { get: (k) => kept[k], set: (k, v) => { kept[k] = v; } };
const run = new Function("msg", "context", flow.find((n) => n.type === "function").func);
const event = (id, ago) => ({ payload: { device: "porch", id, time: new Date(Date.now() - ago).toISOString() } });
console.log([event("a", 0), event("a", 0), event("b", 3600000), event("c", 1000)].map((m) => run(m, context) !== null).join());
"#;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("flow.cjs");
    std::fs::write(&file, program).unwrap();
    let Some(mut node) = judge::node("flow_of_the_documentation", folder.path(), &file) else {
        return;
    };
    let out = node.arg(&flow).output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert_eq!(said.trim(), "true,false,false,true", "{}", String::from_utf8_lossy(&out.stderr));
}
