//! The programs of `examples/` do what they are there to show.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use familiar::recognition::Verdict;

use super::messages::judged_alike;
use super::support::device::{Device, decision, evidence, open, person, recognized};
use super::support::home::Home;
use super::support::mosquitto::{Mosquitto, wait};
use super::support::{not_run, program};

/// That example, built as these tests were: `cargo test` has done so already, `cargo test --test integration` has not.
fn example(name: &str) -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--locked", "--offline", "--example", name]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    assert!(cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap().success(), "{name}");
    Command::new(Path::new(program::NATIVE).with_file_name("examples").join(name))
}

#[test]
fn compare_pictures_knows_a_person_again() {
    let home = Home::small();
    let compare = |one: PathBuf, other: PathBuf| {
        let mut compare = example("compare_pictures");
        compare.arg(&home.bundle).arg(home.path("trust.d")).args([one, other]);
        let output = compare.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let portrait = |person| home.picture(person, "studio_portrait.jpg");
    let same = compare(portrait("P001"), home.picture("P001", "amateur_selfie.jpg"));
    assert!(same.starts_with("same: similarity "), "{same}");
    let different = compare(portrait("P001"), portrait("P002"));
    assert!(different.starts_with("different: similarity "), "{different}");
}

/// The alarm, and what it has said.
struct Alarm(Child, Arc<Mutex<Vec<String>>>);

impl Alarm {
    fn start(port: u16, folder: &Path) -> Self {
        let mut command = example("alarm");
        command.args(["--broker", &format!("127.0.0.1:{port}"), "--device", "porch"]);
        command.arg("--key").arg(folder.join("porch.jwk"));
        command.arg("--state").arg(folder.join("alarm.json"));
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        let into = said.clone();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                into.lock().unwrap().push(line);
            }
        });
        let alarm = Self(child, said);
        alarm.says("listening on familiar/porch/event");
        alarm
    }

    fn says(&self, line: &str) {
        wait(line, || self.1.lock().unwrap().iter().any(|said| said == line));
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn alarm_goes_off_for_strangers_while_nobody_is_in() {
    let Some(broker) = Mosquitto::start("alarm_goes_off_for_strangers_while_nobody_is_in", "")
    else {
        return;
    };
    let device = Device::new();
    let stranger = Device::new();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("porch.jwk"), device.key.public().to_jwk()).unwrap();
    let (_, ledger) = open(&device.state);
    let facts = [
        recognized(1),
        decision(1, Verdict::Departed { person: person() }),
        decision(2, Verdict::Unknown { evidence: evidence() }),
        recognized(3),
        decision(4, Verdict::Unknown { evidence: evidence() }),
        decision(3, Verdict::Departed { person: person() }),
    ];
    let events = facts.map(|fact| ledger.record(&fact).unwrap().as_str().to_owned());
    let publish = |event: &str| {
        let done = Command::new("mosquitto_pub")
            .args(["-h", "127.0.0.1", "-p", &broker.port.to_string(), "-q", "1"])
            .args(["-t", "familiar/porch/event", "-m", event])
            .status();
        assert!(done.unwrap().success());
    };
    let who = person().id.to_string();
    let alarm = Alarm::start(broker.port, folder.path());
    publish(&events[0]);
    alarm.says(&format!("disarmed: {who} came"));
    publish(&events[1]);
    alarm.says(&format!("armed: {who} left"));
    // Neither a stranger's device nor a repeated event disarms it.
    publish(stranger.tell(1)[0].as_str());
    publish(&events[0]);
    alarm.says("ignored: event 1 was seen before");
    publish(&events[2]);
    alarm.says("ALARM: unknown");
    drop(alarm);

    // What came while it was away is not lost; what it knew before it still knows.
    publish(&events[3]);
    let alarm = Alarm::start(broker.port, folder.path());
    alarm.says(&format!("disarmed: {who} came"));
    publish(&events[0]);
    alarm.says("ignored: event 1 was seen before");
    // One is withheld.
    publish(&events[5]);
    alarm.says("MISSING: events 5 to 5");
    alarm.says(&format!("armed: {who} left"));
    let said = alarm.1.lock().unwrap();
    assert!(!said.iter().any(|line| line.starts_with("ALARM")), "{said:?}");
}

/// Another library, which shares no code with familiar, believes and refuses what familiar does.
#[test]
fn verify_event_judges_as_we_do() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/verify-event");
    let cargo = |verb: &str| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args([verb, "--quiet", "--locked"]).current_dir(&package);
        // Flags of these tests' own build are none of its.
        cargo.env_remove("CARGO_BUILD_TARGET").env_remove("RUSTFLAGS");
        cargo
    };
    if !cargo("fetch").output().unwrap().status.success() {
        not_run("verify_event_judges_as_we_do", "crates.io, or a mirror of it, is out of reach");
        return;
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("verify-event");
    assert!(cargo("build").arg("--target-dir").arg(&target).status().unwrap().success());
    let folder = tempfile::tempdir().unwrap();
    judged_alike(folder.path(), &mut Command::new(target.join("debug/verify-event")));
}
