//! Files of events as people's tools write them: what is put around a message is a format and no forgery, and what is
//! signed is judged as strictly as ever.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::support::device::Device;
use crate::support::mosquitto::Mosquitto;
use crate::support::program;

struct Scene {
    folder: tempfile::TempDir,
    device: Device,
    events: Vec<String>,
}

impl Scene {
    fn new() -> Self {
        let (folder, device) = (tempfile::tempdir().unwrap(), Device::new());
        let events = device.tell(3).iter().map(|event| event.as_str().to_owned()).collect();
        let scene = Self { folder, device, events };
        std::fs::write(scene.path("keys"), scene.device.key.public().to_jwk()).unwrap();
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn verify(&self, bytes: &[u8]) -> Output {
        let file = self.path("events");
        std::fs::write(&file, bytes).unwrap();
        verify(&self.path("keys"), &file).output().unwrap()
    }
}

fn verify(keys: &Path, file: &Path) -> Command {
    let mut command = Command::new(program::familiar());
    command
        .args(["verify", "--chain", "--json", "--jwks"])
        .args([keys, file])
        .env("STATE_DIRECTORY", "/nonexistent/state")
        .env_remove("CREDENTIALS_DIRECTORY");
    command
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(output.stdout.trim_ascii().rsplit(|b| *b == b'\n').next().unwrap())
        .unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn utf16(text: &str, mark: bool, unit: fn(u16) -> [u8; 2]) -> Vec<u8> {
    let mark = mark.then_some('\u{feff}').into_iter();
    mark.chain(text.chars()).collect::<String>().encode_utf16().flat_map(unit).collect()
}

/// The same messages, as each of these tools would leave them.
fn written(messages: &[String]) -> Vec<(&'static str, Vec<u8>)> {
    let lines = |line: &dyn Fn(&String) -> String, end: &str| {
        messages.iter().map(|message| line(message) + end).collect::<String>()
    };
    let plain = lines(&String::clone, "\n");
    let topic = "familiar/porch/event";
    let wrapped = |payload: Value| {
        let mut object = json!({ "tst": "2026-11-28T12:00:00.000000Z+0000", "topic": topic, "qos": 1,
                                 "retain": 0, "payloadlen": 1, "mid": 3 });
        object["payload"] = payload;
        object.to_string()
    };
    vec![
        ("plain", plain.clone().into_bytes()),
        ("byte order mark", format!("\u{feff}{plain}").into_bytes()),
        ("marks where files were joined", lines(&|m| format!("\u{feff}{m}"), "\n").into_bytes()),
        ("CRLF", lines(&String::clone, "\r\n").into_bytes()),
        ("blank lines", lines(&|m| format!("\n  \n\t{m}  "), "\n\n").into_bytes()),
        ("no end of the last line", plain.trim_end().as_bytes().to_owned()),
        ("UTF-16", utf16(&plain, true, u16::to_le_bytes)),
        ("UTF-16, CRLF", utf16(&lines(&String::clone, "\r\n"), true, u16::to_le_bytes)),
        ("UTF-16, big end first", utf16(&plain, true, u16::to_be_bytes)),
        ("UTF-16 without a mark", utf16(&plain, false, u16::to_le_bytes)),
        ("UTF-16, big end first, without a mark", utf16(&plain, false, u16::to_be_bytes)),
        ("topic", lines(&|m| format!("{topic} {m}"), "\n").into_bytes()),
        ("a topic with spaces", lines(&|m| format!("my house/porch/event {m}"), "\n").into_bytes()),
        (
            "time and topic",
            lines(&|m| format!("2026-11-28T12:00:00 {topic}\t{m}"), "\n").into_bytes(),
        ),
        ("JSON with the text", lines(&|m| wrapped(m.as_str().into()), "\n").into_bytes()),
        (
            "JSON with the message",
            lines(&|m| wrapped(serde_json::from_str(m).unwrap()), "\n").into_bytes(),
        ),
        (
            "with the device's availability",
            format!(
                "familiar/porch/availability online\n{plain}familiar/porch/availability offline\n"
            )
            .into_bytes(),
        ),
    ]
}

/// Holds EVT-01.
#[test]
fn byte_order_mark_utf16_and_topics_are_no_forgeries() {
    let scene = Scene::new();
    for (format, bytes) in written(&scene.events) {
        let output = scene.verify(&bytes);
        assert!(output.status.success(), "{format}: {output:?}");
        let report = report(&output);
        assert_eq!((&report["events"], &report["ok"]), (&json!(3), &json!(true)), "{format}");
    }
}

/// Holds EVT-02.
#[test]
fn altered_event_is_refused_in_every_format() {
    let mut scene = Scene::new();
    scene.events[1] = scene.events[1].replacen("Zo", "Za", 1);
    for (format, bytes) in written(&scene.events) {
        let output = scene.verify(&bytes);
        assert_eq!(output.status.code(), Some(3), "{format}: {output:?}");
        assert_eq!(report(&output)["gaps"], json!([[2, 2]]), "{format}");
    }
}

/// Holds EVT-02.
#[test]
fn what_lies_around_a_message_does_not_loosen_it() {
    let scene = Scene::new();
    let message = &scene.events[0];
    let body = message.strip_suffix('}').unwrap();
    let inner = |message: &str| format!(r#"{{"topic":"t","payload":{message}}}"#);
    for line in [
        // A member twice or too many, within and without the recorder's JSON.
        inner(&format!(r#"{body},"payload":"{{}}"}}"#)),
        inner(&format!(r#"{body},"header":{{}}}}"#)),
        format!(r#"{{"topic":"t","payload":{message},"payload":{message}}}"#),
        format!(r#"{{"payload":{message}}}"#),
        // Nested deeper than a recorder nests.
        inner(&inner(message)),
        // Something after the message, or nothing of it.
        format!("familiar/porch/event {message} {{}}"),
        format!("familiar/porch/event {message}{message}"),
        "familiar/porch/event".to_owned(),
        "familiar/porch/event online".to_owned(),
    ] {
        let output = scene.verify(line.as_bytes());
        assert_eq!(output.status.code(), Some(3), "{line}: {output:?}");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("line 1: "), "{said}");
    }
}

#[test]
fn file_of_another_shape_is_named_with_the_way_out() {
    let scene = Scene::new();
    let pretty: Value = serde_json::from_str(&scene.events[0]).unwrap();
    let pretty = serde_json::to_string_pretty(&pretty).unwrap();
    for (bytes, words) in [
        (format!("[{}]", scene.events.join(",\n")).into_bytes(), "a JSON array"),
        (format!("\u{feff}[\n{}]", scene.events.join(",\n")).into_bytes(), "jq -c '.[]'"),
        (
            format!("{}\n{pretty}\n", scene.events[0]).into_bytes(),
            "line 2: JSON over several lines",
        ),
        (b"\x1f\x8b\x08\x00\x00\x00\x00\x00".to_vec(), "gunzip"),
    ] {
        let output = scene.verify(&bytes);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(words) && said.contains("events: line "), "{said}");
        assert!(!String::from_utf8_lossy(&output.stdout).contains("gaps"), "no verdict on a chain");
    }
}

#[test]
fn keys_may_be_written_by_the_same_tools() {
    let scene = Scene::new();
    let identity = scene.device.key.identity(&crate::support::device::name()).unwrap();
    let mut keys = written(&[identity.as_str().to_owned()]);
    let jwk = scene.device.key.public().to_jwk();
    keys.push(("a JWK with a mark", format!("\u{feff}{jwk}\r\n").into_bytes()));
    keys.push(("a JWK in UTF-16", utf16(&jwk, true, u16::to_le_bytes)));
    for (format, bytes) in keys {
        std::fs::write(scene.path("keys"), bytes).unwrap();
        let output = scene.verify(scene.events.join("\n").as_bytes());
        assert!(output.status.success(), "{format}: {output:?}");
    }
}

/// Holds EVT-01.
#[test]
fn what_mosquitto_sub_prints_verifies() {
    let Some(broker) = Mosquitto::start("what_mosquitto_sub_prints_verifies", "") else { return };
    let scene = Scene::new();
    let port = broker.port.to_string();
    let client = |program: &str, arguments: &[&str]| {
        Command::new(program)
            .args(["-h", "127.0.0.1", "-p", &port])
            .args(arguments)
            .output()
            .unwrap()
    };
    let topic = "familiar/porch/event";
    let sent = client("mosquitto_pub", &["-r", "-t", topic, "-m", &scene.events[0]]);
    assert!(sent.status.success(), "{sent:?}");
    for arguments in [&["-v"][..], &["-F", "%j"], &["-F", "%J"], &["-F", "%I %t %p"], &[]] {
        let common = ["-t", topic, "-C", "1", "-W", "30"];
        let heard = client("mosquitto_sub", &[&common[..], arguments].concat());
        assert!(heard.status.success(), "{heard:?}");
        let output = scene.verify(&heard.stdout);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        assert_eq!(report(&output)["events"], 1, "{arguments:?}");
    }
}

#[test]
fn verdict_on_a_line_does_not_wait_for_the_next() {
    let scene = Scene::new();
    let mut child = verify(&scene.path("keys"), Path::new("-"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for event in &scene.events {
        writeln!(input, "familiar/porch/event {event}").unwrap();
        let verdict: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(verdict["verified"], true);
    }
    drop(input);
    assert!(lines.next().unwrap().unwrap().contains(r#""ok":true"#));
    assert!(child.wait().unwrap().success());
}
