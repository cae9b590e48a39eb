//! Installing bundles and running them: `familiar model install | list | rollback` and the daemon.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use serde_json::Value;

use crate::support::bundle::{Curve, TestBundle, TestKey};
use crate::support::home::{Home, command, copy, familiar};
use crate::support::judge;
use crate::support::mosquitto::{Mosquitto, Subscriber, wait};
use crate::support::small;

/// A device with the tests' small bundle as the factory's, and a publisher that it trusts.
pub struct Site {
    pub home: Home,
    pub key: PathBuf,
}

impl Site {
    pub fn new() -> Self {
        Self::of(Home::small())
    }

    pub fn of(home: Home) -> Self {
        let key = TestKey::new(Curve::P256);
        std::fs::write(home.path("trust.d/publisher.pub"), key.public_pem()).unwrap();
        key.write(&home.path("publisher.pem"));
        home.record("P001", 30);
        let site = Self { key: home.path("publisher.pem"), home };
        site.configure("");
        site
    }

    pub fn configure(&self, more: &str) {
        self.home.configure(more);
        self.edit("[models]\n", "[models]\nshadow = \"0s\"\ntrial = \"20ms\"\n");
    }

    pub fn edit(&self, from: &str, to: &str) {
        let path = self.home.path("familiar.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from));
        std::fs::write(path, text.replace(from, to)).unwrap();
    }

    /// The factory's bundle as another version, with one thing of `bundle.toml` changed.
    pub fn publish(&self, version: &str, from: &str, to: &str) -> PathBuf {
        self.publish_changed(version, from, to, |_| ())
    }

    /// The same, with something done to the other files before they are signed.
    pub fn publish_changed(
        &self,
        version: &str,
        from: &str,
        to: &str,
        change: impl FnOnce(&Path),
    ) -> PathBuf {
        let folder = self.home.path(version);
        copy(&self.home.bundle, &folder);
        let path = folder.join("bundle.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from}");
        let (head, rest) = text.split_once("\nversion = \"").unwrap();
        let rest = rest.split_once('"').unwrap().1;
        let text = format!("{head}\nversion = \"{version}\"{rest}").replace(from, to);
        std::fs::write(&path, text).unwrap();
        change(&folder);
        let output = self.familiar(&[
            "model",
            "sign",
            folder.to_str().unwrap(),
            "--key",
            self.key.to_str().unwrap(),
        ]);
        assert!(output.status.success(), "{output:?}");
        folder
    }

    pub fn familiar(&self, arguments: &[&str]) -> Output {
        self.home.familiar(arguments)
    }

    pub fn install(&self, folder: &Path) -> Output {
        self.familiar(&["model", "install", "--json", folder.to_str().unwrap()])
    }

    pub fn list(&self) -> Vec<Value> {
        let output = self.familiar(&["model", "list", "--json"]);
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice::<Value>(&output.stdout).unwrap().as_array().unwrap().clone()
    }

    /// Version and standing of what boots.
    pub fn boots(&self) -> (String, String) {
        let list = self.list();
        let rows: Vec<&Value> = list.iter().filter(|row| row["boots"] == true).collect();
        assert_eq!(rows.len(), 1, "{list:?}");
        let text = |name: &str| rows[0][name].as_str().unwrap().to_owned();
        (text("version"), text("standing"))
    }

    /// Runs the daemon over the recording; the version that its events name.
    pub fn run(&self) -> (String, String) {
        let output = self.familiar(&["run", "--stdout"]);
        assert!(output.status.success(), "{output:?}");
        let line = String::from_utf8(output.stdout).unwrap();
        let envelope: Value = serde_json::from_str(line.lines().next().unwrap()).unwrap();
        let event: Value = serde_json::from_str(envelope["payload"].as_str().unwrap()).unwrap();
        assert_eq!(event["person"]["id"], "ada", "{event}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (event["model"]["version"].as_str().unwrap().to_owned(), said)
    }
}

pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Holds UPD-01.
#[test]
fn installed_bundle_is_run_confirmed_and_gone_back_from() {
    let site = Site::new();
    site.home.enroll("Ada", "P001");
    let factory = site.boots();
    assert_eq!(factory.1, "factory");
    assert_eq!(site.run().0, factory.0);
    assert_eq!(site.familiar(&["model", "rollback"]).status.code(), Some(1));

    let output = site.install(&site.publish("7.1.0", "format = 1", "format = 1"));
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["enrol_again"], Value::Array(vec![]));
    assert!(said(&output).contains("nobody needs to be enrolled again"));
    assert_eq!(site.boots(), ("7.1.0".to_owned(), "trial".to_owned()));
    // Thirty frames take longer than the trial.
    assert_eq!(site.run().0, "7.1.0");
    assert_eq!(site.boots(), ("7.1.0".to_owned(), "confirmed".to_owned()));

    // Older than what was confirmed: not by hand either.
    let stale = site.install(&site.publish("7.0.9", "format = 1", "format = 1"));
    assert_eq!(stale.status.code(), Some(3));
    assert!(said(&stale).contains("older"), "{}", said(&stale));

    assert!(site.familiar(&["model", "rollback"]).status.success());
    assert_eq!(site.boots(), factory);
    assert_eq!(site.run().0, factory.0);
}

/// Holds UPD-23, UPD-24.
#[test]
fn other_embedding_space_named_never_compared() {
    let site = Site::new();
    site.home.enroll("Ada", "P001");
    let folder =
        site.publish("7.2.0", "distance = \"cosine\"", "distance = \"cosine\"\nspace = \"s2\"");
    let output = site.install(&folder);
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["enrol_again"], serde_json::json!(["ada"]));
    assert!(said(&output).contains("ada  Ada"), "{}", said(&output));

    // The very same network: a comparison would find her.
    let run = site.familiar(&["run", "--stdout"]);
    assert!(run.status.success() && run.stdout.is_empty(), "{run:?}");
    // Enrolled with what runs, she is known; and by the next bundle of the same space, too.
    let picture = site.home.picture("P001", "studio_portrait.jpg");
    let again = site.familiar(&["enroll", "--id", "ada", "Ada", picture.to_str().unwrap()]);
    assert!(again.status.success(), "{again:?}");
    assert_eq!(site.run().0, "7.2.0");
    let next =
        site.publish("7.3.0", "distance = \"cosine\"", "distance = \"cosine\"\nspace = \"s2\"");
    let output = site.install(&next);
    assert!(said(&output).contains("nobody needs to be enrolled again"), "{output:?}");
    assert_eq!(site.run().0, "7.3.0");
}

/// Holds UPD-02.
#[test]
fn what_does_not_hold_is_never_installed() {
    let site = Site::new();
    let before = site.boots();
    let refused = |output: Output, why: &str| {
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        assert!(said(&output).contains(why), "{}", said(&output));
        assert_eq!(site.boots(), before);
    };
    let tampered = site.publish("7.1.0", "format = 1", "format = 1");
    let path = tampered.join("embedder.onnx");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    refused(site.install(&tampered), "embedder.onnx");
    // A stranger's.
    let stranger = TestBundle::new();
    refused(site.install(&stranger.path()), "model.sig");
    // Properly signed, but the networks do not do what they should: found on this device, and not tried
    // a second time.
    let unfit =
        site.publish("7.2.0", "mean = [127.5, 127.5, 127.5]", "mean = [90.0, 127.5, 127.5]");
    refused(site.install(&unfit), "self-test");
    refused(site.install(&unfit), "refused on this device before");
    // It does not do what the configuration demands.
    site.configure("[liveness]\nmode = \"enforce\"\n");
    let start = small::MANIFEST.find("[[liveness]]").unwrap();
    let end = small::MANIFEST.find("[[calibration]]").unwrap();
    let blind = site.publish_changed("7.3.0", &small::MANIFEST[start..end], "", |folder| {
        for name in small::LIVENESS {
            std::fs::remove_file(folder.join(name)).unwrap();
        }
        small::forget_liveness_cases(folder);
    });
    refused(site.install(&blind), "enforce");
}

/// Holds UPD-03.
#[test]
fn killed_while_installing() {
    let site = Site::new();
    site.home.enroll("Ada", "P001");
    let first = site.publish("7.1.0", "format = 1", "format = 1");
    let second = site.publish("7.2.0", "format = 1", "format = 1");
    assert!(site.install(&first).status.success());
    site.run();
    let mut random = fastrand::Rng::with_seed(3);
    let mut last = "7.1.0".to_owned();
    for _ in 0..12 {
        let mut child =
            command(site.home.folder.path(), &["model", "install", second.to_str().unwrap()])
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .spawn()
                .unwrap();
        std::thread::sleep(Duration::from_millis(random.u64(..1200)));
        let _ = child.kill();
        let _ = child.wait();
        last = site.boots().0;
        assert!(["7.1.0", "7.2.0"].contains(&last.as_str()), "{last}");
        if last == "7.2.0" {
            break;
        }
    }
    if last == "7.1.0" {
        assert!(site.install(&second).status.success());
    }
    assert_eq!(site.run().0, "7.2.0");
}

/// Holds UPD-07.
#[test]
fn damaged_slot_is_said_in_signed_health() {
    let test = "damaged_slot_is_said_in_signed_health";
    let site = Site::new();
    let Some(broker) = Mosquitto::start(test, "") else { return };
    let Some(mut python) = judge::python(test) else { return };
    site.home.enroll("Ada", "P001");
    let factory = site.boots().0;
    let mqtt = format!("[mqtt]\nurl = \"mqtt://127.0.0.1:{}\"\n", broker.port);
    site.configure(&mqtt);
    let subscriber = Subscriber::start(broker.port, "#", &[]);
    let health = || -> Vec<Value> {
        let messages = subscriber.on("/health");
        let envelopes = messages.iter().map(|text| serde_json::from_str::<Value>(text).unwrap());
        envelopes.map(|e| serde_json::from_str(e["payload"].as_str().unwrap()).unwrap()).collect()
    };
    assert!(site.install(&site.publish("7.1.0", "format = 1", "format = 1")).status.success());
    site.run();
    wait("its confirmation", || {
        health().last().is_some_and(|health| health["update"]["outcome"] == "confirmed")
    });
    let all = health();
    assert!(all.iter().any(|health| health["model"]["trial"] == true), "{all:?}");
    let last = all.last().unwrap();
    assert_eq!(last["model"]["origin"], "a");
    assert_eq!(last["model"]["version"], "7.1.0");

    let network = site.home.path("state/models/a/embedder.onnx");
    let mut bytes = std::fs::read(&network).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(&network, bytes).unwrap();
    let (version, said) = site.run();
    assert_eq!(version, factory);
    assert!(said.contains("embedder.onnx"), "{said}");
    wait("the trouble", || health().last().is_some_and(|h| h["model"]["origin"] == "factory"));
    let last = health().pop().unwrap();
    assert!(last["model"]["trouble"].as_str().unwrap().contains("embedder.onnx"), "{last}");

    let lines: Vec<String> = all.iter().chain([&last]).map(Value::to_string).collect();
    std::fs::write(site.home.path("reports"), lines.join("\n")).unwrap();
    let program = "import json, sys, jsonschema\n\
        judge = jsonschema.Draft202012Validator(json.load(open(sys.argv[1])))\n\
        for line in open(sys.argv[2]): judge.validate(json.loads(line))\n";
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/health.schema.json");
    let judged =
        python.args(["-c", program]).arg(schema).arg(site.home.path("reports")).output().unwrap();
    assert!(judged.status.success(), "{}", self::said(&judged));
}

/// Holds UPD-06, UPD-07.
#[test]
fn daemon_that_dies_on_trial_falls_back_by_itself() {
    let site = Site::new();
    site.home.enroll("Ada", "P001");
    let factory = site.boots().0;
    assert!(site.install(&site.publish("7.1.0", "format = 1", "format = 1")).status.success());
    site.edit("speed = \"max\"", "speed = \"pace\"\nloop = true");
    site.edit("trial = \"20ms\"", "trial = \"1h\"");
    for _ in 0..3 {
        let running = site.home.start(&[]);
        let log = site.home.path("said");
        wait("the daemon", || std::fs::read_to_string(&log).unwrap().contains("ready after"));
        assert!(std::fs::read_to_string(&log).unwrap().contains("small 7.1.0"));
        drop(running); // killed
    }
    site.edit("speed = \"pace\"\nloop = true", "speed = \"max\"");
    let (version, said) = site.run();
    assert_eq!(version, factory);
    assert!(said.contains("did not stay up"), "{said}");
    let again = familiar(
        site.home.folder.path(),
        &["model", "install", site.home.path("7.1.0").to_str().unwrap()],
    );
    assert_eq!(again.status.code(), Some(3), "{again:?}");
}
