//! The shadow run: an update runs beside the running model on live frames before it takes over.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::mapping::{mapped_space, model_before, space_of};
use crate::slots::{Site, said};
use crate::support::home::{Home, Running};
use crate::support::judge;
use crate::support::mosquitto::{Mosquitto, Subscriber, wait};
use crate::support::painted::Face;
use crate::support::small;
use crate::updates::{Fleet, press};

/// A device that watches somebody walk about, and its broker.
struct Watching {
    fleet: Fleet,
    broker: Mosquitto,
    subscriber: Subscriber,
    running: Option<Running>,
}

impl Watching {
    /// With shadow runs of that length.
    fn new(test: &'static str, shadow: &str) -> Option<Self> {
        Self::of(test, Home::small(), shadow)
    }

    fn of(test: &'static str, home: Home, shadow: &str) -> Option<Self> {
        let fleet = Fleet::of(test, Site::of(home))?;
        let broker = Mosquitto::start(test, "")?;
        let subscriber = Subscriber::start(broker.port, "#", &[]);
        let watching = Self { fleet, broker, subscriber, running: None };
        watching.configure(shadow);
        Some(watching)
    }

    fn configure(&self, shadow: &str) {
        let more = format!(
            "[commands]\nunsigned = [\"update\"]\n[mqtt]\nurl = \"mqtt://127.0.0.1:{}\"\n",
            self.broker.port
        );
        let repository = self.fleet.path("");
        self.fleet.take_from(repository.to_str().unwrap(), &more);
        self.fleet.site.edit("speed = \"max\"", "speed = \"pace\"\nloop = true");
        self.fleet.site.edit("shadow = \"0s\"", &format!("shadow = {shadow:?}"));
    }

    fn start(&mut self) {
        drop(self.running.take());
        let before = self.reports().len();
        self.running = Some(self.fleet.site.home.start(&[]));
        wait("health of this start", || self.reports().len() > before);
    }

    fn reports(&self) -> Vec<Value> {
        let parse = |message: &String| -> Value {
            assert!(message.len() <= 4096, "{}", message.len());
            let envelope: Value = serde_json::from_str(message).unwrap();
            serde_json::from_str(envelope["payload"].as_str().unwrap()).unwrap()
        };
        self.subscriber.on("/health").iter().map(parse).collect()
    }

    fn last(&self) -> Value {
        self.reports().pop().unwrap_or_default()
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.fleet.site.home.path("said")).unwrap()
    }

    fn press(&self) {
        press(self.broker.port);
    }

    /// Publishes a bundle in the repository, with one thing of `bundle.toml` changed.
    fn publish(&self, version: &str, from: &str, to: &str) -> PathBuf {
        let folder = self.fleet.site.publish(version, from, to);
        self.fleet.tool(&["add", folder.to_str().unwrap()]);
        folder
    }

    /// The update is refused for that reason, and the running model goes on; gives the figures.
    fn refuses(&self, version: &str, why: &str) -> Value {
        self.press();
        wait("the refusal", || self.last()["update"]["outcome"] == "refused");
        let health = self.last();
        let update = &health["update"];
        assert_eq!(update["model"]["version"], version);
        assert!(update["reason"].as_str().unwrap().contains(why), "{update}");
        assert_ne!(health["model"]["version"], version);
        update["shadow"].clone()
    }

    /// All reports hold the schema.
    fn judge(&self, test: &'static str) {
        let Some(mut python) = judge::python(test) else { return };
        let lines: Vec<String> = self.reports().iter().map(Value::to_string).collect();
        let file = self.fleet.site.home.path("reports");
        std::fs::write(&file, lines.join("\n")).unwrap();
        let program = "import json, sys, jsonschema\n\
            judge = jsonschema.Draft202012Validator(json.load(open(sys.argv[1])))\n\
            for line in open(sys.argv[2]): judge.validate(json.loads(line))\n";
        let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/health.schema.json");
        let judged = python.args(["-c", program]).arg(schema).arg(file).output().unwrap();
        assert!(judged.status.success(), "{}", said(&judged));
    }
}

/// Holds UPD-08.
#[test]
fn model_that_agrees_takes_over_after_its_shadow_run() {
    let test = "model_that_agrees_takes_over_after_its_shadow_run";
    let home = Home::with_small(small::heavy());
    let Some(mut device) = Watching::of(test, home, "4s") else { return };
    device.start();
    device.publish("7.1.0", "format = 1", "format = 1");
    device.press();
    wait("the shadow run", || device.said().contains("begins its shadow run"));
    // Nothing lies in a slot before it is over.
    assert_eq!(device.fleet.site.boots(), (device.fleet.factory.clone(), "factory".to_owned()));
    wait("the update", || device.last()["update"]["outcome"] == "confirmed");
    let health = device.last();
    assert_eq!(health["model"]["version"], "7.1.0");
    let shadow = &health["update"]["shadow"];
    let count = |name: &str| shadow[name].as_u64().unwrap();
    assert!(count("seconds") >= 4 && count("frames") > 0 && count("faces") > 0, "{shadow}");
    // The very same networks.
    assert_eq!([count("found"), count("usable")], [count("faces"); 2]);
    assert_eq!(count("extra"), 0);
    assert_eq!(shadow["names"]["same"], count("looks"), "{shadow}");
    assert!(count("looks") > 0 && shadow["cpu_ms"]["embed"]["new"][0].as_f64().unwrap() > 0.0);
    assert!(count("memory_mib") > 20, "{shadow}");
    device.judge(test);
}

/// Another embedding space, but one that the new bundle maps the templates into: names can be compared, and stay.
/// Holds UPD-26.
#[test]
fn people_carried_over_by_a_mapping_are_named_in_the_shadow_run() {
    let test = "people_carried_over_by_a_mapping_are_named_in_the_shadow_run";
    let Some(mut device) = Watching::new(test, "4s") else { return };
    let site = &device.fleet.site;
    let before = model_before(site);
    assert!(site.install(&before).status.success());
    // Known by a look of the model before alone.
    let forgotten = site.familiar(&["forget", "ada"]);
    assert!(forgotten.status.success(), "{forgotten:?}");
    site.home.enroll("Ada", "P001");
    let (from, to) = (mapped_space(site), space_of(site, &before));
    device.start();
    wait("its confirmation", || device.last()["update"]["outcome"] == "confirmed");
    assert_eq!(device.last()["mapped"], 0);
    let seen = |device: &Watching| {
        let is_her = |event: &String| event.contains("recognized") && event.contains("ada");
        device.subscriber.on("/event").iter().any(is_her)
    };
    wait("Ada", || seen(&device));

    device.publish("7.2.0", &from, &to);
    device.press();
    wait("the update", || {
        let health = device.last();
        health["model"]["version"] == "7.2.0" && health["update"]["outcome"] == "confirmed"
    });
    let health = device.last();
    let names = &health["update"]["shadow"]["names"];
    assert!(names["same"].as_u64().unwrap() > 0, "{health}");
    assert_eq!([&names["lost"], &names["gained"], &names["other"]], [0, 0, 0], "{health}");
    let fit = |health: &Value| [health["mapped"].as_u64(), health["enrol_again"].as_u64()];
    assert_eq!(fit(&health), [Some(1), Some(0)]);

    // The operator declines, while it runs.
    device.fleet.site.edit("[models]\n", "[models]\nmapping = false\n");
    device.running.as_ref().unwrap().signal("HUP");
    wait("the reload", || fit(&device.last()) == [Some(0), Some(1)]);
    device.judge(test);
}

/// Holds UPD-09, UPD-13.
#[test]
fn model_that_finds_no_faces_is_refused_by_its_shadow_run() {
    let test = "model_that_finds_no_faces_is_refused_by_its_shadow_run";
    let Some(mut device) = Watching::new(test, "8s") else { return };
    // Less clearly seen than the face of the self-test (0.95), which this model finds.
    device.fleet.site.home.record_face(&Face::of(1).seen(0.8), 30);
    device.start();
    let folder = device.publish("7.1.0", "score_threshold = 0.6", "score_threshold = 0.92");
    let shadow = device.refuses("7.1.0", "faces that the running model found");
    assert!(shadow["faces"].as_u64().unwrap() >= 10, "{shadow}");
    assert_eq!(shadow["looks"], shadow["usable"], "{shadow}");
    assert_eq!(device.fleet.site.boots(), (device.fleet.factory.clone(), "factory".to_owned()));

    // Not tried again by itself ...
    device.press();
    wait("the second refusal", || device.last()["update"]["outcome"] == "failed");
    let reason = device.last()["update"]["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("refused on this device before"), "{reason}");
    assert_eq!(device.said().matches("begins its shadow run").count(), 1);
    device.judge(test);
    // ... but by an operator, who knows better.
    assert!(device.fleet.site.install(&folder).status.success());
    assert_eq!(device.fleet.site.boots(), ("7.1.0".to_owned(), "trial".to_owned()));
}

/// The signer says that embeddings may be compared; this camera's frames say that they may not.
/// Holds UPD-09, UPD-13.
#[test]
fn shadow_run_refuses_model_that_knows_nobody() {
    let test = "shadow_run_refuses_model_that_knows_nobody";
    let Some(mut device) = Watching::new(test, "8s") else { return };
    let space = "distance = \"cosine\"\nspace = \"s1\"";
    let site = &device.fleet.site;
    let first = site.publish("7.1.0", "distance = \"cosine\"", space);
    assert!(site.install(&first).status.success());
    let picture = site.home.picture("P001", "studio_portrait.jpg");
    let enrolled = site.familiar(&["enroll", "--id", "ada", "Ada", picture.to_str().unwrap()]);
    assert!(enrolled.status.success(), "{enrolled:?}");
    device.start();
    wait("its confirmation", || device.last()["update"]["outcome"] == "confirmed");
    wait("Ada", || !device.subscriber.on("/event").is_empty());

    // A crop that the self-test, of ready crops, knows nothing of: the face is a stamp in the middle.
    let folder = device.fleet.site.publish("7.2.0", "margin = 0.2", "margin = 4.0");
    let path = folder.join("bundle.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen("distance = \"cosine\"", space, 1)).unwrap();
    let key = device.fleet.site.key.to_str().unwrap();
    let sign = ["model", "sign", folder.to_str().unwrap(), "--key", key];
    assert!(device.fleet.site.familiar(&sign).status.success());
    device.fleet.tool(&["add", folder.to_str().unwrap()]);
    let shadow = device.refuses("7.2.0", "looks");
    assert!(shadow["names"]["lost"].as_u64().unwrap() >= 2, "{shadow}");
    assert_eq!(device.last()["model"]["version"], "7.1.0");
}

/// Holds UPD-14.
#[test]
fn boots_what_ran_when_killed_in_shadow_run() {
    let test = "boots_what_ran_when_killed_in_shadow_run";
    let Some(mut device) = Watching::new(test, "1h") else { return };
    device.publish("7.1.0", "format = 1", "format = 1");
    let begun = |device: &Watching| {
        device.press();
        wait("the shadow run", || device.said().contains("begins its shadow run"));
    };
    // Stopped in good order it counts for nothing.
    device.start();
    begun(&device);
    device.running.take().unwrap().stop();
    assert!(!device.fleet.site.home.path("state/update/attempts.json").exists());
    for _ in 0..3 {
        device.start();
        begun(&device);
        assert_eq!(device.last()["model"]["version"], device.fleet.factory.as_str());
        drop(device.running.take()); // killed
        assert_eq!(device.fleet.site.boots(), (device.fleet.factory.clone(), "factory".to_owned()));
    }
    device.start();
    device.refuses("7.1.0", "did not survive it in 3 starts");
}

/// Holds UPD-08.
#[test]
fn reload_begins_the_shadow_run_anew() {
    let test = "reload_begins_the_shadow_run_anew";
    let Some(mut device) = Watching::new(test, "1h") else { return };
    device.publish("7.1.0", "format = 1", "format = 1");
    device.start();
    device.press();
    wait("the shadow run", || device.said().contains("begins its shadow run: 3600 s"));
    device.fleet.site.edit("shadow = \"1h\"", "shadow = \"2s\"");
    device.running.as_ref().unwrap().signal("HUP");
    wait("the next one", || device.said().contains("begins its shadow run: 2 s"));
    wait("the update", || device.last()["model"]["version"] == "7.1.0");
}
