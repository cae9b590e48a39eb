//! What the running daemon says of its state, and how it is operated: presence, health, discovery, pause,
//! reload, stop. With small networks (`support/small.rs`) and a real Mosquitto.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use familiar::event::jws::{Envelope, LIMIT};
use familiar::event::{Typ, identity};
use serde_json::Value;

use crate::support::home::Home;
use crate::support::judge;
use crate::support::mosquitto::{Mosquitto, Subscriber, wait};
use crate::support::small;

/// A device that sees Ada all the time, its broker, and somebody who listens to everything.
pub struct Scene {
    pub home: Home,
    pub broker: Mosquitto,
    pub subscriber: Subscriber,
}

impl Scene {
    pub fn new(test: &str, more: &str) -> Option<Self> {
        Self::of(test, Home::small(), more)
    }

    fn of(test: &str, home: Home, more: &str) -> Option<Self> {
        let broker = Mosquitto::start(test, "")?;
        home.record("P001", 20);
        let scene = Self { subscriber: Subscriber::start(broker.port, "#", &[]), home, broker };
        scene.configure(more);
        scene.home.enroll("Ada", "P001");
        Some(scene)
    }

    pub fn configure(&self, more: &str) {
        self.home
            .configure(&format!("[mqtt]\nurl = \"mqtt://127.0.0.1:{}\"\n{more}", self.broker.port));
        self.home.loop_frames();
    }

    /// Payloads on a topic, each signed by the key that the identity introduces, as that kind.
    fn signed(&self, end: &str, typ: Typ) -> Vec<Value> {
        let identity = self.subscriber.on("/identity");
        let Some(identity) = identity.first() else { return Vec::new() };
        let met = identity::introduction(Envelope::parse(identity).unwrap()).unwrap();
        let verified = |text: &String| {
            assert!(text.len() <= LIMIT);
            let envelope = Envelope::parse(text).unwrap();
            let verified = envelope.verify(&met.key.clone().into(), Some(typ)).unwrap();
            serde_json::from_str(&verified.payload).unwrap()
        };
        self.subscriber.on(end).iter().filter(|text| !text.is_empty()).map(verified).collect()
    }

    pub fn health(&self) -> Vec<Value> {
        self.signed("/health", Typ::Health)
    }

    pub fn presence(&self) -> Vec<Value> {
        self.signed("/person/ada", Typ::Presence)
    }

    pub fn events(&self) -> Vec<Value> {
        self.signed("/event", Typ::Event)
    }

    fn discovery(&self) -> Vec<Value> {
        let all = self.subscriber.all();
        let of = |(topic, _): &&(String, String)| topic == "homeassistant/device/porch/config";
        all.iter().filter(of).map(|(_, text)| serde_json::from_str(text).unwrap()).collect()
    }

    fn set(&self, name: &str, payload: &str) {
        self.publish(&format!("familiar/porch/set/{name}"), payload);
    }

    fn publish(&self, topic: &str, payload: &str) {
        let port = self.broker.port.to_string();
        let sent = std::process::Command::new("mosquitto_pub")
            .args(["-h", "127.0.0.1", "-p", &port, "-q", "1", "-t", topic, "-m", payload])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    /// What the broker keeps on a topic for whoever comes now.
    fn kept(&self, end: &str) -> Vec<String> {
        let late = Subscriber::start(self.broker.port, "#", &[]);
        // Retained messages come in one go; the identity is always among them.
        wait("what is retained", || !late.on("/identity").is_empty());
        std::thread::sleep(Duration::from_millis(300));
        late.on(end)
    }
}

fn last(payloads: &[Value]) -> &Value {
    payloads.last().unwrap_or(&Value::Null)
}

/// Holds STA-01.
#[test]
fn presence_and_health_signed_retained_in_schema() {
    let test = "presence_and_health_signed_retained_in_schema";
    let home = Home::with_small(small::heavy());
    let Some(scene) = Scene::of(test, home, "") else { return };
    let running = scene.home.start(&[]);
    wait("Ada is here", || last(&scene.presence())["present"] == true);
    // A report is due once a minute, and after a reload.
    running.signal("HUP");
    wait("health says so", || last(&scene.health())["present"] == 1);
    let presence = last(&scene.presence()).clone();
    assert_eq!(presence["person"], serde_json::json!({"id": "ada", "name": "Ada"}));
    assert!(presence["last_seen"].is_string());
    let health = last(&scene.health()).clone();
    assert_eq!(health["state"], "watching");
    assert_eq!(health["people"], 1);
    assert_eq!(health["outbox"]["storing"], true);
    assert!(health["latency_ms"]["embed"]["p50"].as_f64() > Some(1.0));
    assert!(health["memory_mib"]["now"].as_u64() > Some(50));
    assert!(scene.discovery()[0]["cmps"].to_string().contains("person/ada"));
    assert_eq!(scene.kept("/person/ada").len(), 1);
    assert_eq!(scene.kept("/health").len(), 1);
    running.stop();

    let Some(mut python) = judge::python(test) else { return };
    for (kind, payload) in [("presence", &presence), ("health", &health)] {
        let schema = format!("{}/schemas/{kind}.schema.json", env!("CARGO_MANIFEST_DIR"));
        let check = "import json, sys, jsonschema\n\
                     schema = json.load(open(sys.argv[1]))\n\
                     jsonschema.Draft202012Validator(schema).validate(json.loads(sys.argv[2]))";
        let judged = python.args(["-c", check, &schema, &payload.to_string()]).output().unwrap();
        assert!(judged.status.success(), "{kind}: {judged:?}");
        python = judge::python(test).unwrap();
    }
}

/// Holds STA-09.
#[test]
fn stopped_while_somebody_is_here_invents_no_departure() {
    let test = "stopped_while_somebody_is_here_invents_no_departure";
    let Some(scene) = Scene::new(test, "") else { return };
    let running = scene.home.start(&[]);
    wait("Ada is here", || last(&scene.presence())["present"] == true);
    let since = last(&scene.presence())["since"].clone();
    running.stop();
    wait("offline", || scene.subscriber.on("/availability").last().unwrap() == "offline");
    assert!(scene.events().iter().all(|event| event["event_type"] == "recognized"));
    // Here across a restart is here all along.
    let running = scene.home.start(&[]);
    wait("recognised again", || scene.events().len() == 2);
    wait("online", || scene.subscriber.on("/availability").last().unwrap() == "online");
    running.stop();
    assert!(
        scene.presence().iter().all(|told| told["present"] == true || told["last_seen"].is_null())
    );
    assert_eq!(last(&scene.presence())["since"], since);
}

/// Holds STA-11, GAL-09.
#[test]
fn forgotten_person_leaves_no_retained_topic() {
    let test = "forgotten_person_leaves_no_retained_topic";
    let Some(mut scene) = Scene::new(test, "") else { return };
    let running = scene.home.start(&[]);
    wait("the presence of Ada is published", || {
        scene.discovery().len() == 1 && !scene.presence().is_empty()
    });
    // While the daemon runs.
    assert!(scene.home.familiar(&["forget", "ada"]).status.success());
    wait("her topic is cleared", || scene.subscriber.on("/person/ada").last().unwrap().is_empty());
    wait("the erasure is told", || {
        scene.events().iter().any(|event| event["event_type"] == "erased")
    });
    wait("Home Assistant is told", || {
        scene.discovery().last().is_some_and(|message| !message.to_string().contains("ada"))
    });
    running.stop();
    assert!(scene.kept("/person/ada").is_empty());
    let events = scene.events();
    let erased = events.iter().position(|event| event["event_type"] == "erased").unwrap();
    assert_eq!(events.len(), erased + 1, "nothing is published about her afterwards: {events:?}");

    // While it does not, and the broker is there.
    scene.home.enroll("Ada", "P001");
    let running = scene.home.start(&[]);
    wait("the presence of Ada is published again", || {
        !scene.subscriber.on("/person/ada").last().unwrap().is_empty()
    });
    running.stop();
    assert_eq!(scene.kept("/person/ada").len(), 1);
    assert!(scene.home.familiar(&["forget", "ada"]).status.success());
    assert!(scene.kept("/person/ada").is_empty());

    // While neither is: the next start makes good for it.
    scene.home.enroll("Ada", "P001");
    let running = scene.home.start(&[]);
    wait("the presence of Ada is published again", || {
        !scene.subscriber.on("/person/ada").last().unwrap().is_empty()
    });
    running.stop();
    let kept = scene.kept("/person/ada");
    scene.broker.kill();
    let forgotten = scene.home.familiar(&["forget", "ada"]);
    assert!(forgotten.status.success(), "{forgotten:?}");
    assert!(String::from_utf8_lossy(&forgotten.stderr).contains("the broker still keeps"));
    scene.broker.start_again();
    // This broker forgets what it kept when it ends; another would not.
    let port = scene.broker.port.to_string();
    let sent = std::process::Command::new("mosquitto_pub")
        .args(["-h", "127.0.0.1", "-p", &port, "-q", "1", "-r"])
        .args(["-t", "familiar/porch/person/ada", "-m", &kept[0]])
        .status()
        .unwrap();
    assert!(sent.success());
    let running = scene.home.start(&[]);
    wait("her topic is cleared", || scene.kept("/person/ada").is_empty());
    running.stop();
}

/// Holds STA-09.
#[test]
fn paused_device_sees_nothing_and_nobody_departs() {
    let test = "paused_device_sees_nothing_and_nobody_departs";
    let more =
        "[events]\ndeparted_after = \"1s\"\n[commands]\nunsigned = [\"pause\", \"resume\"]\n";
    let Some(scene) = Scene::new(test, more) else { return };
    let running = scene.home.start(&[]);
    wait("Ada is here", || last(&scene.presence())["present"] == true);
    scene.set("pause", "ON");
    wait("paused", || last(&scene.health())["state"] == "paused");
    let frames = |scene: &Scene| last(&scene.health())["camera"]["frames_per_second"].clone();
    // Longer than it takes to depart.
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(last(&scene.presence())["present"], true);
    // A pause outlasts a restart.
    running.stop();
    let events = scene.events().len();
    let running = scene.home.start(&[]);
    wait("online", || scene.subscriber.on("/availability").last().unwrap() == "online");
    let reports = scene.health().len();
    wait("health", || scene.health().len() > reports);
    assert_eq!(last(&scene.health())["state"], "paused");
    assert!(frames(&scene).is_null(), "nobody watches, so there is no rate");
    assert_eq!(scene.events().len(), events);
    scene.set("pause", "OFF");
    wait("watching", || last(&scene.health())["state"] == "watching");
    wait("recognised again", || scene.events().len() > events);
    running.stop();
    assert!(scene.events().iter().all(|event| event["event_type"] == "recognized"));
}

/// Holds STA-17.
#[test]
fn reload_takes_effect_whole_or_not_at_all() {
    let test = "reload_takes_effect_whole_or_not_at_all";
    let Some(scene) = Scene::new(test, "") else { return };
    let running = scene.home.start(&[]);
    wait("Ada is here", || last(&scene.presence())["present"] == true);
    let first = scene.events().len();
    // A mistake changes nothing, and is told.
    scene.configure("[events]\nunknwon = true\n");
    running.signal("HUP");
    wait("told", || last(&scene.health())["configuration"].is_string());
    assert!(last(&scene.health())["configuration"].as_str().unwrap().contains("unknwon"));
    // So is a right one: here, nobody may be told of any more but once a minute.
    scene.configure("[events]\ndeparted_after = \"2s\"\n[outbox]\nevents = 500\n");
    running.signal("HUP");
    wait("reloaded", || last(&scene.health())["outbox"]["capacity"] == 500);
    assert!(last(&scene.health())["configuration"].is_null());
    wait("online again", || {
        scene.subscriber.on("/availability").ends_with(&["offline".to_owned(), "online".to_owned()])
    });
    // Another name is another device.
    let path = scene.home.path("familiar.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("porch", "garden")).unwrap();
    running.signal("HUP");
    wait("refused", || {
        last(&scene.health())["configuration"].as_str().is_some_and(|why| why.contains("restart"))
    });
    // Who was here stayed so all the time.
    assert!(scene.events().iter().all(|event| event["event_type"] == "recognized"));
    assert_eq!(scene.events().len(), first);
    running.stop();
}

/// Holds STA-21.
#[test]
fn service_manager_is_told() {
    let test = "service_manager_is_told";
    let Some(scene) = Scene::new(test, "") else { return };
    let path = scene.home.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    let environment = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "3000000")];
    let running = scene.home.start(&environment);
    let mut told = String::new();
    let mut until = |what: &str| {
        let mut buffer = [0; 4096];
        while !told.contains(what) {
            let length = socket.recv(&mut buffer).unwrap();
            told.push_str(&String::from_utf8_lossy(&buffer[..length]));
            told.push('\n');
        }
        told.clear();
    };
    until("READY=1");
    until("WATCHDOG=1");
    until("WATCHDOG=1");
    running.signal("HUP");
    until("RELOADING=1");
    until("READY=1");
    running.stop();
    until("STOPPING=1");
}

/// Holds STA-30.
#[test]
fn birth_of_home_assistant_has_everything_said_again() {
    let test = "birth_of_home_assistant_has_everything_said_again";
    let Some(scene) = Scene::new(test, "") else { return };
    let running = scene.home.start(&[]);
    wait("introduced", || scene.discovery().len() == 1 && !scene.health().is_empty());
    let (reports, states) = (scene.health().len(), scene.presence().len());
    scene.publish("homeassistant/status", "offline");
    scene.publish("homeassistant/status", "online");
    wait("introduced again", || scene.discovery().len() == 2);
    wait("all again", || scene.health().len() > reports && scene.presence().len() > states);
    assert_eq!(scene.discovery()[0], scene.discovery()[1]);
    running.stop();
}

/// Holds STA-19.
#[test]
fn flickering_arrivals_are_limited() {
    let test = "flickering_arrivals_are_limited";
    let more = "[events]\ndeparted_after = \"0s\"\nlimit = 3\n";
    let Some(scene) = Scene::new(test, more) else { return };
    // Ada is there for a second and away for one, again and again; the wall lets nobody be seen.
    for number in 20..40 {
        let wall = image::RgbImage::from_pixel(640, 480, image::Rgb([128, 128, 128]));
        wall.save(scene.home.path("frames").join(format!("{number:04}.jpg"))).unwrap();
    }
    let running = scene.home.start(&[]);
    wait("limited", || last(&scene.health())["limited"].as_u64() > Some(0));
    running.stop();
    let events = scene.events();
    let count = |kind: &str| events.iter().filter(|event| event["event_type"] == kind).count();
    assert_eq!(count("recognized"), 3, "{events:?}");
    assert_eq!(count("departed"), 3, "a departure is told if its arrival was");
}

/// Holds CAM-16, CAM-17.
#[test]
fn heavy_and_oversized_frames_cost_little_and_are_counted() {
    let test = "heavy_and_oversized_frames_cost_little_and_are_counted";
    let Some(scene) = Scene::new(test, "") else { return };
    // At full speed no frame is left out for another reason, however busy the machine is.
    let path = scene.home.path("familiar.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, text.replace("speed = \"pace\"", "speed = \"max\"")).unwrap();
    // A third of the recording is 16 megapixels large, another third 8K, which is more than is decoded.
    let frames = scene.home.path("frames");
    for (first, width, height) in [(20, 4000, 4000), (30, 7680, 4320)] {
        let wall = frames.join(format!("{first:04}.jpg"));
        image::GrayImage::from_pixel(width, height, image::Luma([128])).save(&wall).unwrap();
        for number in first + 1..first + 10 {
            std::fs::copy(&wall, frames.join(format!("{number:04}.jpg"))).unwrap();
        }
    }
    let running = scene.home.start(&[]);
    wait("Ada is here all the same", || last(&scene.presence())["present"] == true);
    let counted = |health: &[Value]| {
        let camera = &last(health)["camera"];
        camera["heavy"].as_u64() > Some(2) && camera["broken"].as_u64() > Some(9)
    };
    for _ in 0..20 {
        let reports = scene.health().len();
        running.signal("HUP"); // a report is due after a reload
        wait("a report", || scene.health().len() > reports);
        if counted(&scene.health()) {
            break;
        }
    }
    assert!(counted(&scene.health()), "{}", last(&scene.health())["camera"]);
    running.stop();
}

/// Holds STA-18.
#[test]
fn rotated_key_is_taken_without_a_restart() {
    let test = "rotated_key_is_taken_without_a_restart";
    let Some(scene) = Scene::new(test, "") else { return };
    let running = scene.home.start(&[]);
    wait("the presence of Ada is published", || {
        scene.events().len() == 1 && !scene.presence().is_empty()
    });
    assert!(scene.home.familiar(&["key", "rotate"]).status.success());
    wait("the new identity", || scene.subscriber.on("/identity").len() == 2);
    assert!(scene.home.familiar(&["forget", "ada"]).status.success());
    wait("the erasure", || scene.subscriber.on("/event").len() == 2);
    wait("health by the new key", || {
        let kid = |text: &String| Envelope::parse(text).unwrap().kid().to_owned();
        let identity = scene.subscriber.on("/identity").last().map(kid);
        scene.subscriber.on("/health").last().map(kid) == identity
    });
    running.stop();
    // Whoever has only ever seen the identities follows from the first key to the second.
    let mut lines = scene.subscriber.on("/identity");
    lines.extend(scene.subscriber.on("/event"));
    let path = scene.home.path("heard");
    std::fs::write(&path, lines.join("\n")).unwrap();
    let path = path.to_str().unwrap();
    let verified = scene.home.familiar(&["verify", "--chain", "--json", path]);
    assert!(verified.status.success(), "{verified:?}");
    let said = String::from_utf8(verified.stdout).unwrap();
    let report: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!((&report["events"], &report["ok"]), (&2.into(), &true.into()), "{said}");
}

/// Holds STA-07.
#[test]
fn frame_rate_in_health_is_the_cameras_or_absent() {
    let test = "frame_rate_in_health_is_the_cameras_or_absent";
    let Some(scene) = Scene::new(test, "") else { return };
    let running = scene.home.start(&[]);
    let rates = || -> Vec<f64> {
        let reports = scene.health();
        reports.iter().filter_map(|health| health["camera"]["frames_per_second"].as_f64()).collect()
    };
    wait("a frame rate", || !rates().is_empty());
    running.stop();
    // The recording's pace is ten; a machine that is busy may miss some, and never sees more.
    assert!(rates().iter().all(|rate| *rate > 0.0 && *rate < 11.0), "{:?}", rates());
    let first = scene.health()[0].clone();
    assert!(first["camera"]["frames_per_second"].is_null(), "{first}");
}
