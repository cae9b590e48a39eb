//! The message contract in the eyes of others: JSON Schema, jwcrypto, PyJWT, jose, and the snippets of
//! `docs/messages.md`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use familiar::event::{DeviceKey, Fact, Ledger, Limits, Typ};
use familiar::recognition::{LivenessScore, LivenessVerdict, Verdict};

use super::support::device::{Device, bounded, decision, evidence, person, recognized};
use super::support::judge;
use super::support::program;

/// One event of every type, also with and without what is optional.
fn every_event(device: &Device, ledger: &Ledger) -> Vec<String> {
    let live = |score, verdict| {
        let liveness = Some(LivenessScore { score, verdict });
        familiar::recognition::Evidence { liveness, ..evidence() }
    };
    let now = jiff::Timestamp::now();
    let facts = [
        recognized(1),
        decision(
            2,
            Verdict::Recognized { person: person(), evidence: live(0.98, LivenessVerdict::Live) },
        ),
        decision(2, Verdict::Departed { person: person() }),
        decision(3, Verdict::Unknown { evidence: evidence() }),
        decision(4, Verdict::Spoof { evidence: live(0.02, LivenessVerdict::Attack) }),
        Fact::Erased { person: person().id, time: now },
        // The outbox is full now: an overflow comes before it.
        recognized(5),
    ];
    let messages = facts.map(|fact| ledger.record(&fact).unwrap().as_str().to_owned());
    let outbox = familiar::event::Outbox::open(&device.state).unwrap();
    let mut all = messages[..6].to_vec();
    let mut at = familiar::event::outbox::Position::default();
    while let Some(entry) = outbox.after(at).unwrap() {
        at = entry.position;
        if entry.seq >= 7 {
            all.push(entry.message.as_str().to_owned());
        }
    }
    assert_eq!(all.len(), 8);
    all
}

pub(super) fn messages() -> (Device, Vec<String>) {
    let device = Device::new();
    let ledger = bounded(&device.state, &device.key, Limits { events: 6, ..Limits::default() });
    let all = every_event(&device, &ledger);
    (device, all)
}

/// Holds EVT-20.
#[test]
fn events_hold_the_schema() {
    let Some(mut python) = judge::python("events_hold_the_schema") else { return };
    let (device, all) = messages();
    let mut lines = String::new();
    for text in &all {
        lines += &device.verify(text).unwrap().payload;
        lines.push('\n');
    }
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/event.schema.json");
    let program = r#"
import json, sys, jsonschema
schema = json.load(open(sys.argv[1]))
jsonschema.Draft202012Validator.check_schema(schema)
judge = jsonschema.Draft202012Validator(schema)
types = []
for line in sys.stdin:
    event = json.loads(line)
    judge.validate(event)
    types.append(event["event_type"])
    # The schema knows what belongs into an event: any field more or less is noticed.
    assert not judge.is_valid(event | {"embedding": [0.1]})
    for field in event:
        less = {k: v for k, v in event.items() if k != field}
        assert field == "liveness" or not judge.is_valid(less), (event["event_type"], field)
    for other in ("recognized", "departed", "unknown", "spoof", "erased", "overflow"):
        if other != event["event_type"] and {other, event["event_type"]} != {"unknown", "spoof"}:
            assert not judge.is_valid(event | {"event_type": other}), (event["event_type"], other)
print(*types)
"#;
    let out = feed(python.args(["-c", program]).arg(schema), &lines);
    assert_eq!(
        out.trim(),
        "recognized recognized departed unknown spoof erased overflow recognized"
    );
}

/// Holds EVT-17.
#[test]
fn python_snippet_of_the_documentation() {
    let Some(mut python) = judge::python("python_snippet_of_the_documentation") else { return };
    let folder = tempfile::tempdir().unwrap();
    let program = snippet(folder.path(), "verify.py");
    judged_alike(folder.path(), python.arg(program));
}

/// Holds EVT-17.
#[test]
fn javascript_snippet_of_the_documentation() {
    let folder = tempfile::tempdir().unwrap();
    let program = snippet(folder.path(), "verify.mjs");
    let Some(mut node) =
        judge::node("javascript_snippet_of_the_documentation", folder.path(), &program)
    else {
        return;
    };
    judged_alike(folder.path(), &mut node);
}

/// The judge believes every genuine message, and none of the forged ones.
pub(super) fn judged_alike(folder: &Path, judge: &mut Command) {
    let (device, all) = messages();
    let jwk = folder.join("device.jwk");
    std::fs::write(&jwk, device.key.public().to_jwk()).unwrap();
    let mut lines: Vec<String> = all.clone();
    let genuine = lines.len();
    lines.extend(altered(&all[1]));
    lines.extend(forged(&device, &all[0]));
    let out = feed(judge.arg(jwk), &(lines.join("\n") + "\n"));
    let verdicts: Vec<&str> = out.lines().collect();
    assert_eq!(verdicts.len(), lines.len(), "{out}");
    for (n, (line, verdict)) in lines.iter().zip(&verdicts).enumerate() {
        let ours = if device.verify(line).is_ok_and(|v| v.typ == Typ::Event) {
            "verified"
        } else {
            "REFUSED"
        };
        assert_eq!(ours == "verified", n < genuine, "{line}");
        assert!(verdict.starts_with(ours), "{verdict}: {line}");
    }
}

/// The message with one byte changed, at every third place (a change within the line only).
fn altered(message: &str) -> Vec<String> {
    (0..message.len())
        .step_by(3)
        .filter_map(|at| {
            let mut bytes = message.as_bytes().to_vec();
            bytes[at] ^= 0x01;
            String::from_utf8(bytes).ok().filter(|text| !text.contains(['\n', '\r']))
        })
        .collect()
}

fn forged(device: &Device, message: &str) -> Vec<String> {
    let stranger = Device::new();
    let other = device.key.sign(Typ::Health, "{\"seq\":1,\"event_type\":\"recognized\"}").unwrap();
    let body = message.strip_suffix('}').unwrap();
    vec![
        stranger.tell(1).remove(0).as_str().to_owned(),
        other.as_str().to_owned(),
        body.to_owned(),
        "{}".to_owned(),
        format!("{message}x"),
    ]
}

/// Holds EVT-17.
#[test]
fn pyjwt_believes_the_detached_form() {
    let Some(mut python) = judge::python("pyjwt_believes_the_detached_form") else { return };
    let (device, all) = messages();
    let folder = tempfile::tempdir().unwrap();
    let jwk = folder.path().join("device.jwk");
    std::fs::write(&jwk, device.key.public().to_jwk()).unwrap();
    let program = r#"
import json, sys, jwt
key = jwt.PyJWK.from_json(open(sys.argv[1]).read()).key
for line in sys.stdin:
    m = json.loads(line)
    token = f"{m['protected']}..{m['signature']}"
    check = lambda payload: jwt.api_jws.decode_complete(
        token, key, algorithms=["EdDSA"], detached_payload=payload.encode())
    check(m["payload"])
    try:
        check(m["payload"].replace("porch", "pouch"))
        sys.exit("believed an altered payload")
    except jwt.InvalidSignatureError:
        print("ok")
"#;
    let out = feed(python.args(["-c", program]).arg(jwk), &(all.join("\n") + "\n"));
    assert_eq!(out.lines().count(), all.len());
}

/// A key that OpenSSL made is as good as ours, and ours is readable by it.
#[test]
fn device_key_of_openssl() {
    let device = Device::new();
    let path = device.state.file("device-key");
    let public = Command::new("openssl")
        .args(["pkey", "-pubout", "-outform", "DER", "-in"])
        .arg(&path)
        .output()
        .unwrap();
    assert!(public.status.success());
    assert!(public.stdout.ends_with(device.key.public().as_bytes()));
    let made = Command::new("openssl").args(["genpkey", "-algorithm", "ed25519"]).output().unwrap();
    std::fs::write(&path, made.stdout).unwrap();
    assert_ne!(DeviceKey::open(&device.state).unwrap().kid(), device.key.kid());
}

/// The reference consumer: `familiar verify`.
mod verify {
    use super::*;

    fn familiar(state: &Path, args: &[&str], input: &str) -> (i32, String, String) {
        let mut child = Command::new(program::familiar())
            .arg("verify")
            .args(args)
            .env("STATE_DIRECTORY", state)
            .env_remove("CREDENTIALS_DIRECTORY")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_owned();
        let writer = std::thread::spawn(move || {
            let _ = stdin.write_all(input.as_bytes());
        });
        let out = child.wait_with_output().unwrap();
        writer.join().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (out.status.code().unwrap(), text(out.stdout), text(out.stderr))
    }

    #[test]
    fn whole_chain() {
        let (device, all) = messages();
        let lines = all.join("\n");
        let (code, out, _) = familiar(device.state.path(), &["--json", "--chain"], &lines);
        assert_eq!(code, 0, "{out}");
        let lines: Vec<serde_json::Value> =
            out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), all.len() + 1);
        for (line, text) in lines.iter().zip(&all) {
            let sent: serde_json::Value = serde_json::from_str(text).unwrap();
            assert_eq!(
                *line,
                serde_json::json!({
                    "verified": true, "reason": null, "kid": device.key.kid(),
                    "typ": "familiar-event+json", "payload": sent["payload"],
                })
            );
        }
        let whole = serde_json::json!({"events": 8, "duplicates": 0, "gaps": [], "ok": true});
        assert_eq!(lines[8], whole);
    }

    #[test]
    fn missing_altered_and_repeated() {
        let (device, all) = messages();
        let run = |lines: &[&String]| {
            let text = lines.iter().fold(String::new(), |text, line| text + line + "\n");
            let (code, out, _) = familiar(device.state.path(), &["--json", "--chain"], &text);
            let last = out.lines().last().unwrap();
            (code, serde_json::from_str::<serde_json::Value>(last).unwrap())
        };
        let (code, chain) = run(&[&all[0], &all[1], &all[1], &all[5]]);
        assert_eq!((code, &chain["gaps"]), (3, &serde_json::json!([[3, 5]])));
        assert_eq!(chain["duplicates"], 1);
        let (code, chain) = run(&[&all[0], &all[0].replace("porch", "pouch")]);
        assert_eq!((code, &chain["ok"]), (3, &serde_json::json!(false)));
        assert_eq!(run(&[&all[1], &all[0]]).0, 3, "out of order");
        assert_eq!(run(&[&all[0], &all[0]]).0, 0, "a duplicate is none the worse");
    }

    #[test]
    fn keys_and_usage() {
        let (device, all) = messages();
        let (folder, nowhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let jwk = device.key.public().to_jwk();
        let identity = device.key.identity(&super::super::support::device::name()).unwrap();
        for trusted in [
            file("jwk", &jwk),
            file("jwks", &format!("{{\"keys\":[{jwk}]}}")),
            file("identity", &format!("{}\n", identity.as_str())),
        ] {
            let (code, out, err) = familiar(nowhere.path(), &["--jwks", &trusted], &all[0]);
            assert_eq!(code, 0, "{out}{err}");
            assert!(out.contains("recognized Zoë"), "{out}");
        }
        let (code, _, err) = familiar(nowhere.path(), &[], &all[0]);
        assert_eq!(code, 2, "{err}");
        assert!(err.contains("--jwks"), "{err}");
        let stranger = file("stranger", &Device::new().key.public().to_jwk());
        assert_eq!(familiar(nowhere.path(), &["--jwks", &stranger], &all[0]).0, 3);
        let garbage = file("garbage", "{}");
        assert_eq!(familiar(nowhere.path(), &["--jwks", &garbage], &all[0]).0, 2);
        assert_eq!(familiar(nowhere.path(), &["/nowhere"], "").0, 2);
    }

    #[test]
    fn terminal_is_not_steered() {
        let device = Device::new();
        let name = "\u{1b}[2J\u{9b}31mred\u{7}".to_owned();
        let person = familiar::recognition::PersonRef { name, ..person() };
        let event = device.ledger.record(&decision(1, Verdict::Departed { person })).unwrap();
        let (code, out, _) = familiar(device.state.path(), &[], event.as_str());
        assert_eq!(code, 0);
        assert!(!out.trim_end().contains(char::is_control), "{out:?}");
    }
}

/// The program between the fences behind `<!-- test: NAME -->`.
pub fn snippet(folder: &Path, name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/messages.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, behind) = text.split_once(&format!("<!-- test: {name} -->\n```")).unwrap();
    let (_, program) = behind.split_once('\n').unwrap();
    let (program, _) = program.split_once("\n```").unwrap();
    let path = folder.join(name);
    std::fs::write(&path, program).unwrap();
    path
}

pub fn feed(command: &mut Command, input: &str) -> String {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writer = std::thread::spawn(move || {
        let _ = stdin.write_all(input.as_bytes());
    });
    let out = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let err = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{err}\n{}", String::from_utf8_lossy(&out.stdout));
    String::from_utf8(out.stdout).unwrap()
}
