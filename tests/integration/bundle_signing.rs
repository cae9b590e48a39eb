//! `familiar model sign` and `model verify`, among themselves and against PyPI's `model-signing`.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::bundle::{Curve, MANIFEST, TestBundle, TestKey};
use crate::support::judge;
use crate::support::not_run;
use crate::support::program;

fn familiar() -> Command {
    let mut command = Command::new(program::familiar());
    command.arg("model");
    command
}

fn sign(bundle: &TestBundle, more: &[&str]) -> Output {
    let key = bundle.root().join("key.pem");
    bundle.key.write(&key);
    familiar().arg("sign").arg(bundle.path()).arg("--key").arg(key).args(more).output().unwrap()
}

fn verify(bundle: &TestBundle, more: &[&str]) -> Output {
    let anchor = bundle.trust().join("signer.pub");
    let mut command = familiar();
    command.arg("verify").arg(bundle.path()).arg("--anchor").arg(anchor);
    command.args(more).output().unwrap()
}

#[track_caller]
fn ends_with(output: &Output, code: i32) -> String {
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{message}");
    message
}

#[test]
fn signs_what_it_verifies() {
    for curve in [Curve::P256, Curve::P384] {
        let bundle = TestBundle::with_key(TestKey::new(curve));
        bundle.write("CARD.md", b"# changed, and signed anew\n");
        ends_with(&verify(&bundle, &[]), 3);
        ends_with(&sign(&bundle, &[]), 0);
        let output = verify(&bundle, &["--json"]);
        ends_with(&output, 0);
        let line: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(line["verified"], true);
        assert_eq!(line["name"], "tiny");
        assert_eq!(line["version"], "1.2.3");
        assert_eq!(line["files"], 4);
        assert_eq!(line["signer"]["key"], bundle.key.hint());
        let root = bundle.statement()["subject"][0]["digest"]["sha256"].clone();
        assert_eq!(line["digest"], format!("sha256:{}", root.as_str().unwrap()));
    }
}

#[test]
fn signs_until_a_day() {
    let bundle = TestBundle::new();
    ends_with(&sign(&bundle, &["--expires", "2999-12-31"]), 0);
    let output = verify(&bundle, &["--json"]);
    ends_with(&output, 0);
    let line: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(line["expires"], "2999-12-31T00:00:00Z");

    let before = bundle.read("model.sig");
    let message = ends_with(&sign(&bundle, &["--expires", "2001-01-01T00:00:00Z"]), 3);
    assert!(message.contains("expired"), "{message}");
    assert_eq!(bundle.read("model.sig"), before);
    ends_with(&sign(&bundle, &["--expires", "soon"]), 2);
}

#[test]
fn key_that_others_can_read() {
    let bundle = TestBundle::new();
    let key = bundle.root().join("key.pem");
    bundle.key.write(&key);
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    let output = familiar().arg("sign").arg(bundle.path()).arg("--key").arg(&key).output().unwrap();
    let message = ends_with(&output, 3);
    assert!(message.contains("key.pem") && message.contains("chmod 0600"), "{message}");
}

#[test]
fn refuses_to_sign_what_would_not_verify() {
    type Spoil = fn(&TestBundle);
    let attempts: [(&str, Spoil); 5] = [
        ("bundle.toml", |b| b.write("bundle.toml", MANIFEST.replace("= 1\n", "= 9\n").as_bytes())),
        ("detector.onnx", |b| std::fs::remove_file(b.file("detector.onnx")).unwrap()),
        ("link", |b| std::os::unix::fs::symlink("CARD.md", b.file("link")).unwrap()),
        ("folder", |b| std::fs::create_dir(b.file("folder")).unwrap()),
        (".gitignore", |b| b.write(".gitignore", b"*\n")),
    ];
    for (file, spoil) in attempts {
        let bundle = TestBundle::new();
        let before = bundle.read("model.sig");
        spoil(&bundle);
        let message = ends_with(&sign(&bundle, &[]), 3);
        assert!(message.contains(&format!(" {file}: ")), "{message}");
        assert_eq!(message.matches('\n').count(), 1, "{message}");
        assert_eq!(bundle.read("model.sig"), before, "the old signature was lost");
    }
}

#[test]
fn interrupted_signing_leaves_nothing_behind() {
    let bundle = TestBundle::new();
    bundle.write(".model.sig.new", b"half a signa");
    ends_with(&verify(&bundle, &[]), 3);
    ends_with(&sign(&bundle, &[]), 0);
    ends_with(&verify(&bundle, &[]), 0);
    assert!(!bundle.file(".model.sig.new").exists());
}

#[test]
fn any_directory_can_be_signed_but_is_no_bundle() {
    let bundle = TestBundle::new();
    std::fs::remove_file(bundle.file("bundle.toml")).unwrap();
    ends_with(&sign(&bundle, &[]), 0);
    let output = verify(&bundle, &[]);
    let message = ends_with(&output, 0);
    assert!(message.contains("warning") && message.contains("would refuse it"), "{message}");
    assert!(familiar::model::VerifiedBundle::open(&bundle.path(), &bundle.anchors()).is_err());
}

#[test]
fn anchors_come_from_beside_the_configuration() {
    let bundle = TestBundle::new();
    let config = bundle.root().join("familiar.toml");
    let text = format!("device = \"porch\"\n[models]\nbundle = {:?}\n", bundle.path());
    std::fs::write(&config, text).unwrap();
    let run = |verb: &[&str]| familiar().args(verb).arg("--config").arg(&config).output().unwrap();
    let path = bundle.path();
    ends_with(&run(&["verify", path.to_str().unwrap()]), 0);

    let output = run(&["list"]);
    ends_with(&output, 0);
    let line = String::from_utf8(output.stdout).unwrap();
    assert!(line.contains("tiny 1.2.3") && line.contains("verified"), "{line}");
    bundle.write("CARD.md", b"changed");
    let output = run(&["list"]);
    assert!(ends_with(&output, 3).contains("CARD.md"));
    assert!(String::from_utf8(output.stdout).unwrap().contains("refused"));

    std::fs::remove_file(bundle.trust().join("signer.pub")).unwrap();
    let message = ends_with(&run(&["list"]), 3);
    assert!(message.contains("trust.d") && message.contains("NAME.pub"), "{message}");
    std::fs::remove_dir(bundle.trust()).unwrap();
    let message = ends_with(&run(&["list"]), 3);
    assert!(message.contains("no such folder"), "{message}");
}

#[test]
fn broken_anchor() {
    let bundle = TestBundle::new();
    let good = bundle.key.public_pem();
    let ed25519 = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
    // The last byte of y: a point beside the curve.
    let beside = {
        let other = TestKey::new(Curve::P256).public_pem();
        let lines: Vec<&str> = good.lines().collect();
        let theirs: Vec<&str> = other.lines().collect();
        format!("{}\n{}\n{}\n{}\n", lines[0], lines[1], theirs[2], lines[3])
    };
    let private = bundle.key.private_pem();
    let two = good.repeat(2);
    for text in ["", "hello", &good[..80], &two, ed25519, &beside, &private] {
        // Beside a good one: what was put there is relied on.
        std::fs::write(bundle.trust().join("other.pub"), text).unwrap();
        let output = familiar()
            .arg("verify")
            .arg(bundle.path())
            .arg("--trust")
            .arg(bundle.trust())
            .output()
            .unwrap();
        let message = ends_with(&output, 3);
        assert!(message.contains("other.pub"), "{message}");
        assert_eq!(message.matches('\n').count(), 1, "{message}");
    }
}

#[test]
fn update_without_a_repository_is_a_usage_error() {
    let bundle = TestBundle::new();
    let config = bundle.root().join("familiar.toml");
    std::fs::write(&config, "device = \"porch\"\n").unwrap();
    let state = bundle.root().join("state");
    let output = familiar()
        .arg("update")
        .arg("--config")
        .arg(&config)
        .env("STATE_DIRECTORY", state)
        .output();
    assert!(ends_with(&output.unwrap(), 2).contains("[update]"));
}

/// PyPI's `model-signing` as a command.
fn tool(test: &str, verb: &str, bundle: &TestBundle) -> Option<Command> {
    let mut command = judge::python(test)?;
    command.args(["-m", "model_signing", verb, "key"]);
    command.arg(bundle.path()).arg("--signature").arg(bundle.file("model.sig"));
    Some(command)
}

fn their_verdict(test: &str, bundle: &TestBundle) -> Option<bool> {
    let public = bundle.trust().join("signer.pub");
    let mut command = tool(test, "verify", bundle)?;
    let output = command.arg("--public_key").arg(public).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    // So that a tool that did not start is not taken for one that refused.
    assert!(
        said.contains("Verification succeeded") || said.contains("Verification failed"),
        "{said}"
    );
    Some(output.status.success())
}

/// Holds TRU-10.
#[test]
fn reference_tool_verifies_ours() {
    let name = "reference_tool_verifies_ours";
    for curve in [Curve::P256, Curve::P384] {
        for more in [&[] as &[&str], &["--expires", "2999-12-31T00:00:00Z"]] {
            let bundle = TestBundle::with_key(TestKey::new(curve));
            ends_with(&sign(&bundle, more), 0);
            let Some(verdict) = their_verdict(name, &bundle) else { return };
            assert!(verdict, "refused a {curve:?} signature");
            bundle.write("CARD.md", b"# tinz\n");
            assert_eq!(their_verdict(name, &bundle), Some(false));
            ends_with(&verify(&bundle, &[]), 3);
        }
    }
}

/// Holds TRU-10.
#[test]
fn ours_verifies_the_reference_tool() {
    let name = "ours_verifies_the_reference_tool";
    for curve in [Curve::P256, Curve::P384] {
        let bundle = TestBundle::with_key(TestKey::new(curve));
        std::fs::remove_file(bundle.file("model.sig")).unwrap();
        let key = bundle.root().join("key.pem");
        bundle.key.write(&key);
        let Some(mut command) = tool(name, "sign", &bundle) else { return };
        let output = command.arg("--private_key").arg(key).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        ends_with(&verify(&bundle, &[]), 0);
        every_bit_of_the_signature_counts(&bundle);
        bundle.write("CARD.md", b"# tinz\n");
        ends_with(&verify(&bundle, &[]), 3);
        assert_eq!(their_verdict(name, &bundle), Some(false));
    }
}

/// What the tool writes leaves no bit free either: each bit around the payload, and a thousand of
/// the payload, which the signature covers.
fn every_bit_of_the_signature_counts(bundle: &TestBundle) {
    let anchors = bundle.anchors();
    let bytes = bundle.read("model.sig");
    let path = bundle.path();
    let opens = |path: &Path| familiar::model::VerifiedBundle::open(path, &anchors).is_ok();
    assert!(opens(&path));

    let text = std::str::from_utf8(&bytes).unwrap();
    let signature: Value = serde_json::from_str(text).unwrap();
    let payload = signature["dsseEnvelope"]["payload"].as_str().unwrap();
    let start = text.find(payload).unwrap();
    let inside = start * 8..(start + payload.len()) * 8;
    let mut random = fastrand::Rng::with_seed(0x5eed);
    let sample: Vec<usize> = (0..1000).map(|_| random.usize(inside.clone())).collect();
    let around = (0..bytes.len() * 8).filter(|bit| !inside.contains(bit));
    for bit in around.chain(sample) {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        bundle.write("model.sig", &flipped);
        assert!(!opens(&path), "opened with bit {bit} of model.sig flipped");
    }
    bundle.write("model.sig", &bytes);
}

/// Keys as OpenSSL users have them: SEC1 with its curve in a block of its own.
#[test]
fn sec1_key() {
    let bundle = TestBundle::new();
    let key = bundle.root().join("sec1.pem");
    let openssl = |arguments: &[&str]| {
        Command::new("openssl").args(arguments).current_dir(bundle.root()).output()
    };
    let Ok(made) = openssl(&["ecparam", "-name", "secp384r1", "-genkey", "-out", "sec1.pem"])
    else {
        not_run("sec1_key", "openssl is not installed");
        return;
    };
    assert!(made.status.success());
    assert!(std::fs::read_to_string(&key).unwrap().contains("BEGIN EC PARAMETERS"));
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let public = openssl(&["ec", "-in", "sec1.pem", "-pubout", "-out", "trust.d/signer.pub"]);
    assert!(public.unwrap().status.success());
    let output = familiar().arg("sign").arg(bundle.path()).arg("--key").arg(&key).output().unwrap();
    ends_with(&output, 0);
    ends_with(&verify(&bundle, &[]), 0);
}
