//! The program for 64-bit ARM, run here by an emulator (`make test-arm`): that it computes what the one for this
//! machine does, on each processor and with each set of kernels that tract may choose there.
//!
//! `FAMILIAR_BINARY` starts it (`tools/arm.sh` makes such a wrapper). A suite of its own, because most machines do not
//! have it: `make test` lists it as not run.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::home::Home;
use crate::support::mosquitto::{Mosquitto, Subscriber, wait};
use crate::support::program;

/// What qemu imitates, and the kernels that tract is to choose: it would ask /proc/cpuinfo, which is this
/// machine's. A72: Raspberry Pi 4. A76: Raspberry Pi 5, which tract does not know by name; A78AE, of the Jetson Orin,
/// is not either. A53: Raspberry Pi 3 and Zero 2 W.
const PI_3: [(&str, &str); 2] = [("QEMU_CPU", "cortex-a53"), ("TRACT_CPU_AARCH64_KIND", "a53")];
const PI_4: [(&str, &str); 2] = [("QEMU_CPU", "cortex-a72"), ("TRACT_CPU_AARCH64_KIND", "a72")];
const PI_5: [(&str, &str); 2] = [("QEMU_CPU", "cortex-a76"), ("TRACT_CPU_AARCH64_KIND", "generic")];

/// A device with models, for the program for ARM.
fn home(test: &str) -> Option<Home> {
    assert!(program::foreign().is_some(), "FAMILIAR_BINARY does not name a program for ARM");
    Home::new(test)
}

/// The program for this machine, in the same home.
fn native(home: &Home, arguments: &[&str]) -> Output {
    let mut command = Command::new(program::NATIVE);
    command.arg("--config").arg(home.path("familiar.toml")).args(arguments);
    command.env("STATE_DIRECTORY", home.path("state")).env_remove("CREDENTIALS_DIRECTORY");
    command.output().unwrap()
}

fn on(processor: [(&str, &str); 2], home: &Home, arguments: &[&str]) -> Output {
    home.command(arguments).envs(processor).output().unwrap()
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// That it is one for ARM, and not the one that was built with these tests.
#[test]
#[ignore = "the program for 64-bit ARM, emulated: make test-arm"]
fn it_is_a_program_for_arm() {
    let program = std::env::var_os("FAMILIAR_ELF").expect("FAMILIAR_ELF names the program itself");
    let bytes = std::fs::read(program).unwrap();
    assert_eq!(&bytes[..5], b"\x7fELF\x02", "no 64-bit ELF file");
    assert_eq!(bytes[18..20], [0xb7, 0x00], "its machine is not AArch64");
}

/// Both read the same gallery, which the native one filled. The self-test of the bundle (embedding, detection and
/// liveness against what the float networks give in onnxruntime) passes first, or nothing would be identified.
fn identifies_as_native(test: &str, processor: [(&str, &str); 2]) {
    let Some(home) = home(test) else { return };
    for (name, person) in [("Ada", "P001"), ("Emil", "P002")] {
        let picture = home.picture(person, "studio_portrait.jpg");
        let enrolled = native(&home, &["enroll", name, picture.to_str().unwrap()]);
        assert!(enrolled.status.success(), "{enrolled:?}");
    }
    let pictures =
        ["P001", "P002", "P003"].map(|person| home.picture(person, "amateur_selfie.jpg"));
    let mut arguments = vec!["identify", "--json"];
    arguments.extend(pictures.iter().map(|picture| picture.to_str().unwrap()));
    let expected = json(&native(&home, &arguments));
    let names = expected.as_array().unwrap().iter().map(|photo| &photo["faces"][0]["person"]["id"]);
    assert_eq!(
        names.collect::<Vec<_>>(),
        ["ada", "emil"].map(Value::from).iter().chain([&Value::Null]).collect::<Vec<_>>()
    );

    let found = json(&on(processor, &home, &arguments));
    assert_same(&expected, &found);
}

/// The same people, in the same places, as near to their templates; `similarity` has four digits.
fn assert_same(expected: &Value, found: &Value) {
    let (expected, found) = (expected.as_array().unwrap(), found.as_array().unwrap());
    assert_eq!(expected.len(), found.len());
    for (expected, found) in expected.iter().zip(found) {
        let faces = |photo: &Value| photo["faces"].as_array().unwrap().clone();
        assert_eq!(faces(expected).len(), faces(found).len(), "{expected} {found}");
        for (one, other) in faces(expected).iter().zip(faces(found)) {
            assert_eq!(one["person"], other["person"]);
            assert_eq!(one["threshold"], other["threshold"]);
            near(&one["similarity"], &other["similarity"], 0.0005);
            for side in 0..4 {
                near(&one["box"][side], &other["box"][side], 0.25);
            }
        }
        eprintln!("native {} ARM {}", expected["faces"], found["faces"]);
    }
}

fn near(one: &Value, other: &Value, most: f64) {
    let (one, other) = (one.as_f64().unwrap(), other.as_f64().unwrap());
    assert!((one - other).abs() <= most, "{one} here, {other} on ARM");
}

/// Holds DEV-04, DEV-05.
#[test]
#[ignore = "the program for 64-bit ARM, emulated: make test-arm"]
fn raspberry_pi_3_identifies_as_x86_does() {
    identifies_as_native("raspberry_pi_3_identifies_as_x86_does", PI_3);
}

/// Holds DEV-04, DEV-05.
#[test]
#[ignore = "the program for 64-bit ARM, emulated: make test-arm"]
fn raspberry_pi_4_identifies_as_x86_does() {
    identifies_as_native("raspberry_pi_4_identifies_as_x86_does", PI_4);
}

/// Holds DEV-04, DEV-05.
#[test]
#[ignore = "the program for 64-bit ARM, emulated: make test-arm"]
fn raspberry_pi_5_identifies_as_x86_does() {
    identifies_as_native("raspberry_pi_5_identifies_as_x86_does", PI_5);
}

/// Enrolled there, known here: a gallery and its keys, backed up and restored, go from one machine to the other.
/// Holds DEV-06.
#[test]
#[ignore = "the program for 64-bit ARM, emulated: make test-arm"]
fn enrolled_on_arm_is_known_on_x86() {
    let Some(home) = home("enrolled_on_arm_is_known_on_x86") else { return };
    let picture = home.picture("P001", "studio_portrait.jpg");
    let enrolled = on(PI_4, &home, &["enroll", "Ada", picture.to_str().unwrap()]);
    assert!(enrolled.status.success(), "{enrolled:?}");
    let same = json(&native(&home, &["identify", "--json", picture.to_str().unwrap()]));
    assert_eq!(same[0]["faces"][0]["person"]["id"], "ada");
    // The very picture that was enrolled: what differs from 1 is what the machines compute differently.
    let similarity = same[0]["faces"][0]["similarity"].as_f64().unwrap();
    assert!(similarity > 0.9995, "{similarity}");
}

/// From camera to consumer: recognised on ARM, published to a real broker, verified here; a tampered model stops it.
fn watches_and_publishes(test: &str, processor: [(&str, &str); 2]) {
    let Some(home) = home(test) else { return };
    let Some(broker) = Mosquitto::start(test, "") else { return };
    home.record("P001", 8);
    let mqtt =
        format!("[recognition]\nframes = 2\n[mqtt]\nurl = \"mqtt://127.0.0.1:{}\"\n", broker.port);
    home.configure(&mqtt);
    let picture = home.picture("P001", "studio_portrait.jpg");
    let enrolled = native(&home, &["enroll", "Ada", picture.to_str().unwrap()]);
    assert!(enrolled.status.success(), "{enrolled:?}");

    let subscriber = Subscriber::start(broker.port, "#", &[]);
    let run = on(processor, &home, &["run"]);
    assert!(run.status.success(), "{run:?}");
    wait("the event", || subscriber.on("/event").len() == 1);
    wait("the goodbye", || {
        subscriber.on("/availability").last().is_some_and(|word| word == "offline")
    });

    // Signed on ARM, believed here by the key that it published.
    let received: Vec<String> = subscriber.on("/event");
    std::fs::write(home.path("events"), received.join("\n") + "\n").unwrap();
    let verified =
        native(&home, &["verify", "--chain", "--json", home.path("events").to_str().unwrap()]);
    assert!(verified.status.success(), "{verified:?}");
    let lines = String::from_utf8(verified.stdout).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let payload = &lines[0]["payload"];
    let payload = payload
        .as_str()
        .map_or_else(|| payload.clone(), |text| serde_json::from_str(text).unwrap());
    assert_eq!(payload["event_type"], "recognized", "{lines:?}");
    assert_eq!(payload["person"]["id"], "ada");
    assert_eq!(lines.last().unwrap()["events"], 1);
    assert_eq!(lines.last().unwrap()["ok"], true);
    refuses_a_tampered_model(&home, processor);
}

fn refuses_a_tampered_model(home: &Home, processor: [(&str, &str); 2]) {
    let copied = home.path("bundle");
    crate::support::home::copy(&home.bundle, &copied);
    let mut altered = std::fs::read(copied.join("embedder.onnx")).unwrap();
    let middle = altered.len() / 2;
    altered[middle] ^= 0x40;
    std::fs::write(copied.join("embedder.onnx"), &altered).unwrap();
    home.configure_with(&copied, &format!("replay:{}", home.path("frames").display()), "");
    let refused = on(processor, home, &["run", "--stdout"]);
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("embedder.onnx"), "{refused:?}");
    assert!(refused.stdout.is_empty());
}

/// Holds DEV-07.
#[test]
#[ignore = "the program for 64-bit ARM, emulated: make test-arm"]
fn raspberry_pi_4_watches_and_publishes() {
    watches_and_publishes("raspberry_pi_4_watches_and_publishes", PI_4);
}

/// Holds DEV-07.
#[test]
#[ignore = "the program for 64-bit ARM, emulated: make test-arm"]
fn raspberry_pi_5_watches_and_publishes() {
    watches_and_publishes("raspberry_pi_5_watches_and_publishes", PI_5);
}

/// The list of packages that it was built from lies in it (`cargo auditable`), and is that of Cargo.lock.
/// Holds DEV-08.
#[test]
#[ignore = "the program for 64-bit ARM, emulated: make test-arm"]
fn it_lists_what_it_was_built_from() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new("python3")
        .arg("-B")
        .arg(top.join("tools/embedded_packages.py"))
        .arg(std::env::var_os("FAMILIAR_ELF").unwrap())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let lock = std::fs::read_to_string(top.join("Cargo.lock")).unwrap();
    let listed = String::from_utf8(output.stdout).unwrap();
    for line in listed.lines() {
        let (name, version) = line.split_once(' ').unwrap();
        let entry = format!("name = \"{name}\"\nversion = \"{version}\"\n");
        assert!(lock.contains(&entry), "{line} is not of this Cargo.lock");
    }
    for name in ["familiar", "tract-onnx", "ring", "rustls", "rustls-webpki", "libsqlite3-sys"] {
        assert!(
            listed.lines().any(|line| line.starts_with(&format!("{name} "))),
            "{name}: {listed}"
        );
    }
}
