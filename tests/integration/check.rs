//! `familiar check`: each thing that would keep the daemon from its work is named, with its mend.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use familiar::system::state::StateDirectory;
use serde_json::Value;

use super::support::bundle::TestBundle;
use super::support::device::Device;
use super::support::fake_broker::{FakeBroker, answer, packet};
use super::support::mosquitto::{Mosquitto, Subscriber, free_port, password, wait};
use super::support::program;

/// A device whose models are signed bytes; `check` does not load them.
struct Home {
    bundle: TestBundle,
}

impl Home {
    fn new() -> Self {
        let home = Self { bundle: TestBundle::new() };
        std::fs::create_dir(home.path("frames")).unwrap();
        for number in 0..60 {
            home.frame(number);
        }
        home.configure("");
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.bundle.root().join(name)
    }

    fn frame(&self, number: usize) {
        let picture = image::RgbImage::from_pixel(64, 48, image::Rgb([number as u8, 90, 90]));
        picture.save(self.path("frames").join(format!("{number:04}.jpg"))).unwrap();
    }

    fn configure(&self, more: &str) {
        let text = format!(
            "device = \"porch\"\n[camera]\nsource = \"replay:{}\"\nfps = 20\nloop = true\n\
             [models]\nbundle = \"{}\"\n[recognition]\nfalse_match_rate = 0.01\n{more}",
            self.path("frames").display(),
            self.bundle.path().display()
        );
        std::fs::write(self.path("familiar.toml"), text).unwrap();
    }

    fn run(&self, environment: &[(&str, &Path)]) -> Output {
        Command::new(program::familiar())
            .args(["check", "--json", "--config"])
            .arg(self.path("familiar.toml"))
            .env("STATE_DIRECTORY", self.path("state"))
            .env_remove("CREDENTIALS_DIRECTORY")
            .envs(environment.iter().copied())
            .output()
            .unwrap()
    }

    /// The exit code, and what it says of one thing.
    fn says(&self, check: &str) -> (i32, String) {
        said(&self.run(&[]), check)
    }

    fn state(&self) -> StateDirectory {
        StateDirectory::at(self.path("state")).unwrap()
    }
}

fn lines(out: &Output) -> Vec<Value> {
    serde_json::from_slice(&out.stdout).unwrap_or_else(|_| panic!("{out:?}"))
}

fn said(out: &Output, check: &str) -> (i32, String) {
    let all = lines(out);
    let mut found = all.iter().filter(|line| line["check"] == check).map(|line| {
        format!("{} {}", line["state"].as_str().unwrap(), line["message"].as_str().unwrap())
    });
    (out.status.code().unwrap(), found.next().unwrap_or_else(|| panic!("{check}: {all:?}")))
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Holds CHK-01, CHK-02.
#[test]
fn says_how_everything_is() {
    let home = Home::new();
    let out = home.run(&[]);
    assert_eq!(out.status.code(), Some(0), "{out:?}");
    let names: Vec<String> =
        lines(&out).iter().map(|line| line["check"].as_str().unwrap().to_owned()).collect();
    assert_eq!(
        names,
        [
            "configuration",
            "permissions",
            "anchors",
            "models",
            "threshold",
            "liveness",
            "camera",
            "frame rate",
            "landlock",
            "state",
            "device key",
            "people",
            "outbox",
            "broker",
            "operators",
            "clock",
            "sandbox"
        ]
    );
    assert!(said(&out, "anchors").1.contains("1 may sign models: signer.pub"));
    assert!(said(&out, "models").1.contains("signed by signer.pub"));
    // Twenty a second were wished for; a busy machine gives fewer, never more.
    let (_, rate) = said(&out, "frame rate");
    let figure: f64 = rate.split(' ').nth(1).unwrap().parse().unwrap();
    assert!(figure > 0.0 && figure < 25.0, "{rate}");
    // Nothing was begun.
    assert!(!home.path("state/device-key").exists() && !home.path("state/outbox.db").exists());
    // For people: one line each.
    let plain = Command::new(program::familiar())
        .args(["check", "--config"])
        .arg(home.path("familiar.toml"))
        .env("STATE_DIRECTORY", home.path("state"))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(plain.stdout).unwrap().lines().count(), names.len());
}

#[test]
fn anybody_may_change_what_is_trusted() {
    let home = Home::new();
    mode(&home.bundle.trust(), 0o777);
    let (code, said) = home.says("permissions");
    assert!(code == 3 && said.starts_with("fail") && said.contains("chmod o-w"), "{code} {said}");
    mode(&home.bundle.trust(), 0o775);
    let (code, said) = home.says("permissions");
    assert!(code == 0 && said.starts_with("warn") && said.contains("group"), "{code} {said}");
    mode(&home.bundle.trust(), 0o755);
    mode(&home.bundle.trust().join("signer.pub"), 0o666);
    assert_eq!(home.says("permissions").0, 3);
}

#[test]
fn state_that_others_may_write() {
    let home = Home::new();
    Device::new();
    mode(home.state().path(), 0o770);
    let (code, said) = home.says("state");
    assert!(code == 3 && said.contains("chmod 0700"), "{code} {said}");
}

#[test]
fn key_that_others_may_read() {
    let home = Home::new();
    familiar::event::DeviceKey::open_or_create(&home.state()).unwrap();
    assert!(home.says("device key").1.starts_with("ok"));
    mode(&home.path("state/device-key"), 0o644);
    let (code, said) = home.says("device key");
    assert!(code == 3 && said.contains("chmod 0600"), "{code} {said}");
}

#[test]
fn operators_that_others_may_write() {
    let home = Home::new();
    let key = Device::new().key.public().to_jwk();
    std::fs::write(home.path("operators.jwks"), format!("{{\"keys\":[{key}]}}")).unwrap();
    mode(&home.path("operators.jwks"), 0o644);
    assert!(home.says("operators").1.contains("ok one key"));
    mode(&home.path("operators.jwks"), 0o666);
    let (code, said) = home.says("operators");
    assert!(code == 3 && said.contains("0644"), "{code} {said}");
}

/// Holds CHK-01.
#[test]
fn frames_that_are_no_pictures() {
    let home = Home::new();
    for number in (0..60).step_by(2) {
        std::fs::write(home.path("frames").join(format!("{number:04}.jpg")), b"torn").unwrap();
    }
    let (code, said) = home.says("frame rate");
    assert!(code == 0 && said.starts_with("warn"), "{code} {said}");
    for number in 0..60 {
        std::fs::write(home.path("frames").join(format!("{number:04}.jpg")), b"torn").unwrap();
    }
    let (code, said) = home.says("frame rate");
    assert!(code == 4 && said.contains("broken: not a JPEG"), "{code} {said}");
}

/// Holds CHK-01.
#[test]
fn configuration_that_does_not_hold() {
    let home = Home::new();
    home.configure("[event]\nunknown = true\n");
    let (code, said) = home.says("configuration");
    assert!(code == 2 && said.starts_with("fail") && said.contains("event"), "{code} {said}");
}

/// Holds CHK-01.
#[test]
fn first_failure_gives_the_exit_code() {
    let home = Home::new();
    home.configure(&format!("[mqtt]\nurl = \"mqtt://127.0.0.1:{}\"\n", free_port()));
    let (code, said) = home.says("broker");
    assert!(code == 5 && said.starts_with("fail"), "{code} {said}");
    std::fs::write(home.bundle.file("embedder.onnx"), b"swapped").unwrap();
    let (code, said) = home.says("models");
    assert!(code == 3 && said.contains("embedder.onnx"), "{code} {said}");
}

#[test]
fn rate_stricter_than_measured() {
    let home = Home::new();
    let path = home.path("familiar.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("false_match_rate = 0.01", "false_match_rate = 1e-9"))
        .unwrap();
    let (code, said) = home.says("threshold");
    assert!(code == 2 && said.contains("stricter"), "{code} {said}");
}

#[test]
fn lost_or_damaged_outbox() {
    let home = Home::new();
    let state = home.state();
    super::support::device::open(&state).1.record(&super::support::device::recognized(1)).unwrap();
    assert!(home.says("outbox").1.contains("1 of 100000"));
    for name in ["outbox.db-wal", "outbox.db-shm"] {
        let _ = std::fs::remove_file(state.file(name));
    }
    std::fs::write(state.file("outbox.db"), b"no database".repeat(1000)).unwrap();
    let (code, said) = home.says("outbox");
    assert!(code == 1 && said.starts_with("fail"), "{code} {said}");
    std::fs::remove_file(state.file("outbox.db")).unwrap();
    let (code, said) = home.says("outbox");
    assert!(code == 0 && said.starts_with("warn") && said.contains("new"), "{code} {said}");
}

/// Every verb turns core dumps and the reach of other processes off before it reads a key.
/// Holds GAL-26.
#[test]
fn process_leaves_no_core_dump() {
    let home = Home::new();
    home.configure("");
    let (_, said) = home.says("sandbox");
    assert!(said.contains("core limit 0") && said.contains("dumpable: no"), "{said}");
}

#[test]
fn password_from_a_credential() {
    let test = "password_from_a_credential";
    let home = Home::new();
    let Some(options) = password(home.bundle.root(), "porch", "secret 1") else { return };
    let Some(broker) = Mosquitto::start(test, &options) else { return };
    home.configure(&format!(
        "[mqtt]\nurl = \"mqtt://127.0.0.1:{}\"\nusername = \"porch\"\n",
        broker.port
    ));
    assert_eq!(home.says("broker").0, 5);
    let credentials = home.path("credentials");
    std::fs::create_dir(&credentials).unwrap();
    std::fs::write(credentials.join("mqtt-password"), "secret 1\n").unwrap();
    mode(&credentials.join("mqtt-password"), 0o400);
    let out = home.run(&[("CREDENTIALS_DIRECTORY", &credentials)]);
    let (code, said) = said(&out, "broker");
    assert!(code == 0 && said.starts_with("ok"), "{code} {said}");
}

/// Holds MQT-25.
#[test]
fn another_device_of_the_same_name() {
    let Some(broker) = Mosquitto::start("another_device_of_the_same_name", "") else { return };
    let home = Home::new();
    let url = format!("mqtt://127.0.0.1:{}", broker.port);
    home.configure(&format!("[mqtt]\nurl = {url:?}\n"));
    let other = Device::new();
    let publisher = other.publisher(&url, "");
    let listener = Subscriber::start(broker.port, "familiar/#", &[]);
    wait("its identity", || listener.on("/identity").len() == 1);
    publisher.stop();
    // Its last word: from here on only `check` could say something.
    wait("offline", || listener.on("/availability").last().is_some_and(|word| word == "offline"));
    let seen = listener.messages().len();
    let (code, said) = home.says("identity");
    assert!(code == 0 && said.starts_with("warn") && said.contains(other.key.kid()), "{said}");
    // Looking changed nothing at the broker.
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(listener.messages().len(), seen);
    // The same key here: it is this device.
    std::fs::create_dir_all(home.path("state")).unwrap();
    mode(&home.path("state"), 0o700);
    std::fs::copy(other.state.file("device-key"), home.path("state/device-key")).unwrap();
    assert!(home.says("identity").1.starts_with("ok"));
}

/// What connects and what it asks for: client id, whether with a last will; filters.
#[derive(Default)]
struct Asked {
    logins: Vec<(String, bool)>,
    filters: Vec<String>,
    published: usize,
}

/// A broker that notes what is asked, and answers each as `judge` alters it.
fn noting(
    judge: impl Fn(u8, &[u8], &mut Vec<u8>) + Send + Sync + 'static,
) -> (FakeBroker, std::sync::Arc<std::sync::Mutex<Asked>>) {
    let notes = std::sync::Arc::<std::sync::Mutex<Asked>>::default();
    let into = notes.clone();
    let broker = FakeBroker::start(move |_, mut stream| {
        use std::io::Write;
        let text = |body: &[u8], from: usize| {
            let length = usize::from(u16::from_be_bytes([body[from], body[from + 1]]));
            String::from_utf8(body[from + 2..from + 2 + length].to_vec()).unwrap()
        };
        while let Some((first, body)) = packet(&mut stream) {
            match first >> 4 {
                // Behind name, version, flags, keep alive and properties.
                1 => {
                    let id = text(&body, 11 + usize::from(body[10]));
                    into.lock().unwrap().logins.push((id, body[7] & 4 != 0));
                }
                8 => into.lock().unwrap().filters.push(text(&body, 3)),
                3 => into.lock().unwrap().published += 1,
                _ => {}
            }
            let Some(mut answer) = answer(first, &body) else { return };
            judge(first, &body, &mut answer);
            // No answer at all: it hangs up.
            if answer.is_empty() {
                return;
            }
            let _ = stream.write_all(&answer);
        }
    });
    (broker, notes)
}

const UNSIGNED: &str = "[commands]\nunsigned = [\"pause\"]\n";

/// Holds CHK-03.
#[test]
fn broker_that_grants_no_commands() {
    let (broker, _) = noting(|first, _, answer| {
        if first >> 4 == 8 {
            // Not authorized.
            *answer.last_mut().unwrap() = 0x87;
        }
    });
    let home = Home::new();
    home.configure(&format!("[mqtt]\nurl = {:?}\n{UNSIGNED}", broker.url()));
    let (code, said) = home.says("rights");
    assert!(code == 0 && said.starts_with("warn"), "{code} {said}");
    for filter in ["familiar/porch/command", "familiar/porch/set/+", "homeassistant/status"] {
        assert!(said.contains(&format!("{filter} (not authorized (0x87))")), "{said}");
    }
}

/// AWS IoT answers so.
#[test]
fn broker_that_hangs_up_on_a_subscription() {
    let (broker, _) = noting(|first, body, answer| {
        let denied = |filter: &[u8]| body.windows(filter.len()).any(|part| part == filter);
        if first >> 4 == 8 && (denied(b"porch/set/+") || denied(b"porch/identity")) {
            answer.clear();
        }
    });
    let home = Home::new();
    home.configure(&format!("[mqtt]\nurl = {:?}\n{UNSIGNED}", broker.url()));
    let (code, said) = home.says("rights");
    assert!(code == 0 && said.starts_with("warn"), "{code} {said}");
    assert!(said.contains("familiar/porch/set/+ ("), "{said}");
    for filter in ["porch/command", "homeassistant/status", "porch/identity"] {
        assert!(!said.contains(filter), "{said}");
    }
}

/// By the same code as `run`: the same filters, the same client id with the same last will.
/// Holds CHK-03.
#[test]
fn broker_is_asked_for_what_the_daemon_asks() {
    let (broker, notes) = noting(|_, _, _| {});
    let home = Home::new();
    for (more, wanted) in [
        ("", vec!["familiar/porch/command", "homeassistant/status"]),
        (UNSIGNED, vec!["familiar/porch/command", "familiar/porch/set/+", "homeassistant/status"]),
    ] {
        *notes.lock().unwrap() = Asked::default();
        // The client id is made of the device's key, among others: one device, here and there.
        let device = Device::within(home.bundle.root());
        home.configure(&format!("[mqtt]\nurl = {:?}\n{more}", broker.url()));
        assert!(home.says("broker").1.starts_with("ok"));
        let asked = notes.lock().unwrap();
        assert_eq!(asked.published, 0);
        // What it only looks at comes after that.
        assert_eq!(asked.filters[..wanted.len()], wanted);
        assert_eq!(
            asked.filters[wanted.len()..],
            ["familiar/porch/identity", "familiar/porch/availability"]
        );
        let publisher = device.publisher(&broker.url(), "");
        drop(asked);
        wait("the daemon's own login", || notes.lock().unwrap().logins.len() == 3);
        publisher.stop();
        let logins = notes.lock().unwrap().logins.clone();
        assert_eq!(logins[1], logins[2], "as the daemon logs in");
        assert!(logins[0].0.contains("check") && !logins[0].1, "{logins:?}");
    }
}

/// Holds CHK-03.
#[test]
fn login_that_only_the_last_will_spoils_is_told_apart() {
    let (broker, _) = noting(|first, body, answer| {
        if first >> 4 == 1 && body[7] & 4 != 0 {
            answer[3] = 0x87;
        }
    });
    let home = Home::new();
    home.configure(&format!("[mqtt]\nurl = {:?}\n", broker.url()));
    let (code, said) = home.says("rights");
    assert!(code == 0 && said.starts_with("warn") && said.contains("last will"), "{code} {said}");
    assert!(said.contains("familiar/porch/availability"), "{said}");
}

/// Holds CHK-03.
#[test]
fn client_id_that_the_broker_refuses_fails_the_check() {
    let (broker, _) = noting(|first, body, answer| {
        if first >> 4 == 1 && !body.windows(5).any(|part| part == b"check") {
            answer[3] = 0x85;
        }
    });
    let home = Home::new();
    home.configure(&format!("[mqtt]\nurl = {:?}\n", broker.url()));
    let (code, said) = home.says("broker");
    assert!(code == 5 && said.contains("client id") && said.contains("(0x85)"), "{code} {said}");
}

/// A second client by the same id would end the first one's connection.
/// Holds CHK-02.
#[test]
fn daemon_that_runs_is_not_thrown_off() {
    let Some(broker) = Mosquitto::start("daemon_that_runs_is_not_thrown_off", "") else { return };
    let home = Home::new();
    let url = format!("mqtt://127.0.0.1:{}", broker.port);
    home.configure(&format!("[mqtt]\nurl = {url:?}\n"));
    let device = Device::new();
    let publisher = device.publisher(&url, "");
    let listener = Subscriber::start(broker.port, "familiar/#", &[]);
    wait("online", || listener.on("/availability") == ["online"]);
    let (code, said) = home.says("broker");
    assert!(code == 0 && said.contains("beside the daemon"), "{code} {said}");
    device.tell(1);
    assert!(publisher.flush(Duration::from_mins(1)).unwrap());
    assert_eq!(publisher.status().connections, 1);
    assert_eq!(listener.on("/availability"), ["online"]);
}

/// Holds CHK-03.
#[test]
fn packets_too_small_for_events_fail_the_check() {
    let test = "packets_too_small_for_events_fail_the_check";
    for (limit, code, state) in [(1024, 5, "fail"), (8192, 0, "warn"), (100_000, 0, "ok")] {
        let options = format!("max_packet_size {limit}");
        let Some(broker) = Mosquitto::start(test, &options) else { return };
        let home = Home::new();
        home.configure(&format!("[mqtt]\nurl = \"mqtt://127.0.0.1:{}\"\n", broker.port));
        let (exit, said) = home.says("packets");
        assert!(exit == code && said.starts_with(state), "{limit}: {exit} {said}");
        assert!(said.contains(&limit.to_string()), "{said}");
    }
}

/// Only publishing shows what may be published; the daemon notes what it is refused, and `check` reads that.
/// Holds CHK-04.
#[test]
fn what_the_daemon_left_out_is_said_by_check() {
    let test = "what_the_daemon_left_out_is_said_by_check";
    let home = Home::new();
    let rules = home.path("acl");
    std::fs::write(&rules, "topic read #\ntopic write familiar/porch/event\n").unwrap();
    let Some(broker) = Mosquitto::start(test, &format!("acl_file {}", rules.display())) else {
        return;
    };
    let url = format!("mqtt://127.0.0.1:{}", broker.port);
    home.configure(&format!("[mqtt]\nurl = {url:?}\n"));
    let (code, said) = home.says("rights");
    assert!(code == 0 && said.starts_with("ok") && said.contains("only by publishing"), "{said}");
    // A daemon on the same state: availability and identity are refused.
    let device = Device::within(home.bundle.root());
    device.tell(1);
    let publisher = device.publisher(&url, "");
    wait("the note", || familiar::mqtt::publisher::Remembered::read(&home.state()).is_some());
    publisher.stop();
    let (code, said) = home.says("rights");
    assert!(code == 0 && said.starts_with("warn"), "{code} {said}");
    for topic in
        ["publishing on familiar/porch/identity", "publishing on familiar/porch/availability"]
    {
        assert!(said.contains(topic), "{said}");
    }
    assert!(said.contains("not authorized (0x87)"), "{said}");
}
