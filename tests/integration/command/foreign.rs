//! Commands in the eyes of others: OpenSSL's keys, jwcrypto's signatures, JSON Schema.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Output, Stdio};

use familiar::command::{Command, OperatorKey, Refusal, Trouble};
use familiar::event::jws::LIMIT;
use serde_json::{Value, json};

use super::site::{Site, allow};
use crate::support::judge;
use crate::support::program;

/// OpenSSL makes the key, jwcrypto signs by the snippet of `docs/commands.md`.
/// Holds CMD-15.
#[test]
fn command_of_a_foreign_implementation() {
    let test = "command_of_a_foreign_implementation";
    let Some(mut python) = judge::python(test) else { return };
    let mut site = Site::new();
    let pem = site.folder.path().join("openssl.pem");
    openssl_key(&pem);
    let key = OperatorKey::open(&pem).unwrap();
    allow(site.folder.path(), &[&key]);
    site.gate.reload(&site.located()).unwrap();
    let program = snippet(site.folder.path());
    let output = python.arg(&program).arg(&pem).args(["porch", "pause"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(*site.accepted(text.trim_end()).command(), Command::Pause);
    assert_eq!(site.refused(text.trim_end()), Refusal::Replayed);
    let mut python = judge::python(test).unwrap();
    let output = python.arg(&program).arg(&pem).args(["garden", "pause"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(site.refused(text.trim_end()), Refusal::OtherDevice);
}

#[test]
fn commands_hold_the_schema() {
    let site = Site::new();
    let order = |name: &str, args: Value| {
        let mut order = site.order("0190-a.b:c_D", name);
        order.args = args.as_object().unwrap().clone();
        let text = site.operator.sign(&order);
        payload(&text)
    };
    let sound: Vec<Value> = ["pause", "resume", "update", "rollback", "identify-device", "health"]
        .iter()
        .map(|name| order(name, json!({})))
        .chain([order("forget", json!({"person": "zoe"}))])
        .collect();
    let mut unsound = vec![
        order("forget", json!({})),
        order("pause", json!({"x": 1})),
        order("reboot", json!({})),
    ];
    for (field, value) in [
        ("id", json!("a b")),
        ("device", json!("Porch")),
        ("issued", json!("yesterday")),
        ("expires", json!(1)),
        ("extra", json!(1)),
    ] {
        let mut other = sound[0].clone();
        other[field] = value;
        unsound.push(other);
    }
    judged("commands_hold_the_schema", "command", &sound, &unsound);
}

/// Holds CMD-16.
#[test]
fn results_hold_the_schema() {
    let mut site = Site::new();
    let at = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let mut sound = Vec::new();
    let accepted = site.accepted(&site.sign("a", "health"));
    sound.push(at(&site.signed(&accepted.done("sent"))));
    sound.push(at(&site.signed(&accepted.done("sent").with_data(json!({"a": [1, "b"]})))));
    for trouble in [Trouble::NoSuchPerson, Trouble::NotAvailable, Trouble::Internal] {
        sound.push(at(&site.signed(&accepted.failed(trouble, &"why ".repeat(500)))));
    }
    for text in [
        site.sign("a", "health"),
        site.sign("b", "reboot"),
        site.sign("c", "pause").replace("pause", "resum"),
        "x".to_owned(),
        "x".repeat(20_000),
    ] {
        let refused = site.refusal(text.as_bytes());
        sound.push(at(&site.signed(&refused.answer().unwrap())));
    }
    site.set_clock(jiff::Timestamp::UNIX_EPOCH);
    let refused = site.refusal(site.sign("old", "pause").as_bytes());
    sound.push(at(&site.signed(&refused.answer().unwrap())));
    let mut unsound = Vec::new();
    for field in ["v", "device", "outcome", "message", "time", "clock"] {
        let mut other = sound[0].clone();
        other.as_object_mut().unwrap().remove(field);
        unsound.push(other);
    }
    for (number, reason) in [(0, "rate"), (2, "rate"), (5, "internal")] {
        let mut other = sound[number].clone();
        other["reason"] = reason.into();
        unsound.push(other);
    }
    judged("results_hold_the_schema", "result", &sound, &unsound);
}

/// Every code is told, explained to people and documented, and no result outgrows a message.
/// Holds CMD-16.
#[test]
fn every_reason_is_documented() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = std::fs::read_to_string(top.join("docs/commands.md")).unwrap();
    let schema = std::fs::read_to_string(top.join("schemas/result.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let rules = schema["allOf"].as_array().unwrap();
    let codes = |rule: &Value| {
        let codes = rule["then"]["properties"]["reason"]["enum"].as_array().unwrap().clone();
        codes.into_iter().map(|code| code.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for code in codes(&rules[1]) {
        let refusal: Refusal = serde_json::from_value(json!(code)).unwrap();
        assert_eq!(refusal.code(), code);
        assert!(!refusal.message().is_empty());
        assert!(document.contains(&format!("| `{code}` |")), "{code} is not in docs/commands.md");
    }
    for code in codes(&rules[2]) {
        serde_json::from_value::<Trouble>(json!(code)).unwrap();
        assert!(document.contains(&format!("| `{code}` |")), "{code} is not in docs/commands.md");
    }
    let mut site = Site::new();
    let accepted = site.accepted(&site.sign(&"x".repeat(64), "identify-device"));
    // Data that just fits, and data that just does not, escaped as badly as can be.
    let mut kept = 0;
    for length in (0..2000).step_by(7) {
        let data = json!({"x": "\"\\".repeat(length)});
        let answer = accepted.done(&"\"".repeat(300)).with_data(data);
        let payload = site.signed(&answer); // fails if it does not fit
        assert!(payload.len() <= LIMIT);
        kept += usize::from(payload.contains("data"));
    }
    assert!((10..280).contains(&kept), "{kept}");
}

/// The verb that makes keys: for nobody else's eyes, never over another, and as good as OpenSSL's.
#[test]
fn operators_keys_are_made_and_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("me.pem");
    let operator = |action: &str| -> Output {
        Process::new(program::familiar()).args(["operator", action]).arg(&file).output().unwrap()
    };
    let made = operator("new");
    assert!(made.status.success(), "{made:?}");
    assert_eq!(operator("show").stdout, made.stdout);
    assert_eq!(operator("new").status.code(), Some(1));
    assert_eq!(operator("show").stdout, made.stdout);
    let jwk: Value = serde_json::from_slice(&made.stdout).unwrap();
    assert_eq!(jwk["crv"], "Ed25519");
    assert!(jwk.get("d").is_none());
    let public =
        Process::new("openssl").args(["pkey", "-pubout", "-in"]).arg(&file).output().unwrap();
    assert!(public.status.success(), "OpenSSL reads it: {public:?}");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    assert_eq!(operator("show").status.code(), Some(3));
}

fn openssl_key(path: &Path) {
    let made = Process::new("openssl")
        .args(["genpkey", "-algorithm", "ed25519", "-out"])
        .arg(path)
        .status()
        .unwrap();
    assert!(made.success());
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

fn payload(message: &str) -> Value {
    let message: Value = serde_json::from_str(message).unwrap();
    serde_json::from_str(message["payload"].as_str().unwrap()).unwrap()
}

fn judged(test: &str, kind: &str, sound: &[Value], unsound: &[Value]) {
    let Some(mut python) = judge::python(test) else { return };
    let schema = format!("{}/schemas/{kind}.schema.json", env!("CARGO_MANIFEST_DIR"));
    let program = "import json, sys, jsonschema\n\
                   schema = json.load(open(sys.argv[1]))\n\
                   jsonschema.Draft202012Validator.check_schema(schema)\n\
                   judge = jsonschema.Draft202012Validator(schema)\n\
                   sound, unsound = json.load(sys.stdin)\n\
                   for message in sound: judge.validate(message)\n\
                   for message in unsound: assert not judge.is_valid(message), message\n";
    let mut child = python
        .args(["-c", program, &schema])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let input = json!([sound, unsound]).to_string();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The program of `docs/commands.md`.
fn snippet(folder: &Path) -> PathBuf {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/commands.md");
    let text = std::fs::read_to_string(document).unwrap();
    let (_, behind) = text.split_once("<!-- test: command.py -->\n```python\n").unwrap();
    let (program, _) = behind.split_once("\n```").unwrap();
    let path = folder.join("command.py");
    std::fs::write(&path, program).unwrap();
    path
}
