//! Commands to a running daemon by way of a real Mosquitto, sent by the verb and by those who should not.

use std::process::{Command as Process, Output};

use familiar::command::{LIMIT, OperatorKey, Order, request_digest};
use familiar::event::jws::Envelope;
use familiar::event::{DeviceKey, Typ};
use familiar::system::state::StateDirectory;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::site::allow;
use crate::support::home::{Home, Running};
use crate::support::mosquitto::{Mosquitto, Subscriber, wait};
use crate::support::program;

/// A running device that sees Ada, its broker, an operator, and somebody who listens to everything.
struct Scene {
    home: Home,
    broker: Mosquitto,
    subscriber: Subscriber,
    operator: OperatorKey,
    running: Option<Running>,
}

impl Scene {
    fn new(test: &str, more: &str) -> Option<Self> {
        let home = Home::small();
        let broker = Mosquitto::start(test, "")?;
        home.record("P001", 4);
        home.configure(&format!("[mqtt]\nurl = \"mqtt://127.0.0.1:{}\"\n{more}", broker.port));
        home.loop_frames();
        let operator = OperatorKey::create(&home.path("operator.pem")).unwrap();
        allow(home.folder.path(), &[&operator]);
        let subscriber = Subscriber::start(broker.port, "familiar/#", &[]);
        let mut scene = Self { home, broker, subscriber, operator, running: None };
        scene.start();
        Some(scene)
    }

    fn start(&mut self) {
        let before = self.health().len();
        self.running = Some(self.home.start(&[]));
        wait("the device reports", || self.health().len() > before);
    }

    fn stop(&mut self) {
        self.running.take().unwrap().stop();
    }

    /// `familiar command …`
    fn command(&self, arguments: &[&str]) -> Output {
        let key = self.home.path("operator.pem");
        let all = [&["command", "--key", key.to_str().unwrap()], arguments].concat();
        self.home.familiar(&all)
    }

    /// Sends any text to the device, as anybody can whom the broker lets.
    fn send(&self, text: &str) {
        self.publish("familiar/porch/command", text, &[]);
    }

    fn publish(&self, topic: &str, text: &str, extra: &[&str]) {
        let file = self.home.path("message");
        std::fs::write(&file, text).unwrap();
        let sent = Process::new("mosquitto_pub")
            .args(["-V", "5", "-h", "127.0.0.1", "-p", &self.broker.port.to_string()])
            .args(["-q", "1", "-t", topic, "-f"])
            .arg(file)
            .args(extra)
            .status()
            .unwrap();
        assert!(sent.success());
    }

    /// Verified payloads on a topic.
    fn signed(&self, end: &str, typ: Typ) -> Vec<Value> {
        let state = StateDirectory::at(self.home.path("state")).unwrap();
        let Ok(key) = DeviceKey::open(&state) else { return Vec::new() };
        let ring = key.public().clone().into();
        let payload = |text: &String| {
            let verified = Envelope::parse(text).unwrap().verify(&ring, Some(typ)).unwrap();
            serde_json::from_str(&verified.payload).unwrap()
        };
        self.subscriber.on(end).iter().filter(|text| !text.is_empty()).map(payload).collect()
    }

    fn health(&self) -> Vec<Value> {
        self.signed("/health", Typ::Health)
    }

    fn state(&self) -> Value {
        self.health().last().unwrap()["state"].clone()
    }

    /// The outcomes of that very message.
    fn results(&self, text: &str) -> Vec<Value> {
        let request = request_digest(text.as_bytes());
        let mut all = self.signed("/result", Typ::Result);
        all.retain(|result| result["request"] == request);
        all
    }

    /// Sends it and gives the reason of the signed refusal.
    fn refused(&self, text: &str) -> String {
        let before = self.results(text).len();
        self.send(text);
        wait("a signed result", || self.results(text).len() > before);
        let result = self.results(text).pop().unwrap();
        assert_eq!(result["outcome"], "refused", "{result}");
        assert!(result.get("data").is_none());
        result["reason"].as_str().unwrap().to_owned()
    }

    /// Sends it and waits until it is done.
    fn done(&self, text: &str) {
        self.send(text);
        wait("a signed result", || !self.results(text).is_empty());
        assert_eq!(self.results(text)[0]["outcome"], "done");
    }
}

/// For the device, valid for a minute.
fn order(id: &str, command: &str) -> Order {
    let now = Timestamp::now();
    Order {
        id: id.to_owned().try_into().unwrap(),
        device: "porch".to_owned(),
        issued: now,
        expires: now + SignedDuration::from_secs(60),
        command: command.to_owned(),
        args: serde_json::Map::new(),
    }
}

#[test]
fn operator_commands_by_the_verb() {
    let Some(mut scene) = Scene::new("operator_commands_by_the_verb", "") else { return };
    let said = |output: &Output| {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), text + &String::from_utf8_lossy(&output.stderr))
    };
    assert_eq!(said(&scene.command(&["pause"])), (Some(0), "porch: pause: paused\n".to_owned()));
    wait("paused", || scene.state() == "paused");
    assert_eq!(scene.command(&["resume"]).status.code(), Some(0));
    wait("watching", || scene.state() == "watching");
    let output = scene.command(&["identify-device", "--json"]);
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&result["v"], &result["outcome"]), (&json!(1), &json!("done")));
    assert_eq!(result["data"]["version"], env!("CARGO_PKG_VERSION"));
    let reports = scene.health().len();
    assert_eq!(scene.command(&["health"]).status.code(), Some(0));
    wait("a report", || scene.health().len() > reports);
    // Tried and failed, and refused, are told apart.
    let (code, text) = said(&scene.command(&["forget", "--person", "nobody"]));
    assert!(code == Some(1) && text.contains("no-such-person"), "{code:?} {text}");
    let (code, text) = said(&scene.command(&["reboot"]));
    assert!(code == Some(3) && text.contains("unknown-command"), "{code:?} {text}");
    assert_eq!(scene.command(&["pause", "--arg", "x=y"]).status.code(), Some(3));
    assert_eq!(scene.command(&["forget"]).status.code(), Some(2));
    assert_eq!(scene.command(&["pause", "--expires", "25h"]).status.code(), Some(2));
    // An operator elsewhere learns the device's key at the first contact.
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = |scene: &Scene, device: &str| {
        let port = scene.broker.port;
        let text = format!("device = \"desk\"\n[mqtt]\nurl = \"mqtt://127.0.0.1:{port}\"\n");
        std::fs::write(folder.path().join("familiar.toml"), text).unwrap();
        Process::new(program::familiar())
            .args(["command", "health", "--device", device, "--wait", "5s", "--key"])
            .arg(scene.home.path("operator.pem"))
            .arg("--config")
            .arg(folder.path().join("familiar.toml"))
            .env("STATE_DIRECTORY", folder.path().join("state"))
            .env_remove("CREDENTIALS_DIRECTORY")
            .output()
            .unwrap()
    };
    let output = elsewhere(&scene, "porch");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    // A device that is not there, and one that has gone.
    assert_eq!(elsewhere(&scene, "garden").status.code(), Some(5));
    scene.stop();
    assert_eq!(elsewhere(&scene, "porch").status.code(), Some(5));
    scene.broker.kill();
    assert_eq!(elsewhere(&scene, "porch").status.code(), Some(5));
}

#[test]
fn forgotten_by_command() {
    let Some(scene) = Scene::new("forgotten_by_command", "") else { return };
    scene.home.enroll("Ada", "P001");
    wait("the presence of Ada is published", || !scene.subscriber.on("/person/ada").is_empty());
    let output = scene.command(&["forget", "--person", "ada"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let events = || scene.signed("/event", Typ::Event);
    wait("the erasure is told", || events().last().is_some_and(|e| e["event_type"] == "erased"));
    wait("her topic is cleared", || scene.subscriber.on("/person/ada").last().unwrap().is_empty());
    let people = scene.home.familiar(&["people", "--json"]);
    assert!(!String::from_utf8_lossy(&people.stdout).contains("ada"), "{people:?}");
}

/// Every refusal that the contract names, each with a signed result and no effect.
/// Holds CMD-01, CMD-02, CMD-03, CMD-04, CMD-05, CMD-06, CMD-07.
#[test]
fn attacks_on_a_running_device() {
    let Some(mut scene) = Scene::new("attacks_on_a_running_device", "") else { return };
    let stranger = OperatorKey::create(&scene.home.path("stranger.pem")).unwrap();
    let sign = |order: &Order| scene.operator.sign(order);

    let forged = sign(&order("forged", "health")).replace("health", "resume");
    assert_eq!(scene.refused(&forged.replace("resume", "pause")), "forged");
    assert_eq!(scene.refused(&stranger.sign(&order("stranger", "pause"))), "unknown-key");
    let mut command = order("stale", "pause");
    command.issued -= SignedDuration::from_secs(3600);
    command.expires -= SignedDuration::from_secs(3600);
    assert_eq!(scene.refused(&sign(&command)), "stale");
    let mut command = order("future", "pause");
    command.issued += SignedDuration::from_secs(3600);
    command.expires += SignedDuration::from_secs(3600);
    assert_eq!(scene.refused(&sign(&command)), "future");
    let mut command = order("other", "pause");
    command.device = "garden".to_owned();
    assert_eq!(scene.refused(&sign(&command)), "other-device");
    assert_eq!(scene.refused("{"), "malformed");
    assert_eq!(scene.refused(&sign(&order("unknown", "reboot"))), "unknown-command");
    // The device's own events come back to it as commands.
    let health = scene.subscriber.on("/health").pop().unwrap();
    assert_eq!(scene.refused(&health), "typ");
    // What is too long is not kept whole, so there is no digest of it.
    let results = |scene: &Scene| scene.signed("/result", Typ::Result);
    let long = |bytes: usize| {
        let text = sign(&order(&format!("long{bytes}"), "pause"));
        let spaces = " ".repeat(bytes - text.len());
        text + &spaces
    };
    let before = results(&scene).len();
    scene.send(&long(LIMIT + 1));
    wait("a signed result", || results(&scene).len() > before);
    assert_eq!(results(&scene).pop().unwrap()["reason"], "oversized");
    // The broker does not even pass on what is longer than the device takes; it stays connected.
    scene.send(&long(100_000));
    scene.send(&long(5_000_000));
    assert_eq!(scene.state(), "watching");

    let good = sign(&order("good", "pause"));
    scene.done(&good);
    wait("paused", || scene.state() == "paused");
    scene.done(&sign(&order("back", "resume")));
    assert_eq!(scene.refused(&good), "replayed");
    // Also after a restart, and kept by the broker for whenever the device comes.
    scene.stop();
    scene.publish("familiar/porch/command", &good, &["-r"]);
    scene.start();
    wait("refused again", || scene.results(&good).len() == 3);
    assert!(scene.results(&good)[1..].iter().all(|result| result["reason"] == "replayed"));
    assert_eq!(scene.state(), "watching");
    scene.stop();
    assert_eq!(scene.subscriber.on("/availability"), ["online", "offline", "online", "offline"]);
    let last = scene.health().pop().unwrap();
    assert_eq!(last["commands"]["refused"], 1);
    assert_eq!(last["commands"]["last_refusal"]["reason"], "replayed");
}

/// Holds CMD-08.
#[test]
fn flood_of_commands_to_a_running_device() {
    let Some(mut scene) = Scene::new("flood_of_commands_to_a_running_device", "") else { return };
    let texts: Vec<String> = (0..30)
        .map(|n| scene.operator.sign(&order(&format!("flood{n}"), "identify-device")))
        .collect();
    let lines = texts.join("\n");
    std::fs::write(scene.home.path("lines"), lines).unwrap();
    let sent = Process::new("mosquitto_pub")
        .args(["-V", "5", "-h", "127.0.0.1", "-p", &scene.broker.port.to_string(), "-q", "1"])
        .args(["-t", "familiar/porch/command", "-l"])
        .stdin(std::fs::File::open(scene.home.path("lines")).unwrap())
        .status()
        .unwrap();
    assert!(sent.success());
    wait("all answered", || texts.iter().all(|text| !scene.results(text).is_empty()));
    let outcomes: Vec<Value> =
        texts.iter().map(|text| scene.results(text)[0]["outcome"].clone()).collect();
    assert!(outcomes[..10].iter().all(|outcome| outcome == "done"), "{outcomes:?}");
    assert!(outcomes[10..].iter().all(|outcome| outcome == "refused"), "{outcomes:?}");
    assert_eq!(scene.results(&texts[29])[0]["reason"], "rate");
    scene.stop();
}

/// Whatever else is wrong with the configuration, whoever was taken out is out.
/// Holds CMD-12.
#[test]
fn operator_removed_beside_a_broken_configuration() {
    let test = "operator_removed_beside_a_broken_configuration";
    let Some(mut scene) = Scene::new(test, "") else { return };
    scene.done(&scene.operator.sign(&order("before", "health")));
    allow(scene.home.folder.path(), &[]);
    let path = scene.home.path("familiar.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text + "\nunknwon = 1\n").unwrap();
    scene.running.as_ref().unwrap().signal("HUP");
    wait("told", || {
        scene.health().last().is_some_and(|health| health["configuration"].is_string())
    });
    let text = scene.operator.sign(&order("after", "pause"));
    assert_eq!(scene.refused(&text), "no-operators");
    scene.stop();
}

/// Holds CMD-12.
#[test]
fn operator_removed_from_a_running_device() {
    let Some(mut scene) = Scene::new("operator_removed_from_a_running_device", "") else { return };
    scene.done(&scene.operator.sign(&order("before", "health")));
    let other = OperatorKey::create(&scene.home.path("other.pem")).unwrap();
    allow(scene.home.folder.path(), &[&other]);
    scene.running.as_ref().unwrap().signal("HUP");
    // What comes while it connects anew is not heard.
    wait("online again", || {
        scene.subscriber.on("/availability").ends_with(&["offline".to_owned(), "online".to_owned()])
    });
    let text = scene.operator.sign(&order("after", "pause"));
    assert_eq!(scene.refused(&text), "unknown-key");
    scene.done(&other.sign(&order("other", "health")));
    scene.stop();
}

/// Two who tell a device from the operator's desk what is not so: a forged result, and one of another command.
/// Holds CMD-14.
#[test]
fn forged_result_is_not_believed() {
    let Some(mut scene) = Scene::new("forged_result_is_not_believed", "") else { return };
    let done = scene.operator.sign(&order("done", "health"));
    scene.done(&done);
    let genuine = scene.subscriber.on("/result").pop().unwrap();
    scene.stop();
    // The device is away; somebody answers in its place, over and over.
    let forged = {
        let state = StateDirectory::at(scene.home.path("forger")).unwrap();
        let key = DeviceKey::open_or_create(&state).unwrap();
        let text = json!({"v": 1, "device": "porch", "outcome": "done", "message": "paused"});
        key.sign(Typ::Result, &text.to_string()).unwrap().as_str().to_owned()
    };
    let wanted = std::sync::atomic::AtomicBool::new(true);
    let output = std::thread::scope(|scope| {
        scope.spawn(|| {
            while wanted.load(std::sync::atomic::Ordering::SeqCst) {
                scene.publish("familiar/porch/result", &forged, &[]);
                scene.publish("familiar/porch/result", &genuine, &[]);
            }
        });
        let output = scene.command(&["pause", "--wait", "3s"]);
        wanted.store(false, std::sync::atomic::Ordering::SeqCst);
        output
    });
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("a result is not believed"), "{said}");
}
