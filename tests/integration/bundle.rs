//! A bundle that was tampered with does not open, and the message names the file: each attack
//! through `familiar model verify`.

use std::os::unix::fs::symlink;
use std::process::{Command, Output};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use familiar::model::VerifiedBundle;
use serde_json::{Value, json};

use crate::support::bundle::{Curve, IN_TOTO, MANIFEST, TestBundle, TestKey, envelope, statement};

fn verify(bundle: &TestBundle) -> Output {
    Command::new(env!("CARGO_BIN_EXE_familiar"))
        .args(["model", "verify"])
        .arg(bundle.path())
        .arg("--trust")
        .arg(bundle.trust())
        .output()
        .unwrap()
}

/// Exit code 3, nothing on stdout, and one line on stderr that names the file and says why. The
/// library refuses it, too.
#[track_caller]
fn refused(bundle: &TestBundle, file: &str, why: &str) {
    let output = verify(bundle);
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{message}");
    assert!(output.stdout.is_empty());
    assert_eq!(message.matches('\n').count(), 1, "{message}");
    assert!(message.contains(&format!(" {file}: ")), "{message}");
    assert!(message.contains(why), "{message}");
    VerifiedBundle::open(&bundle.path(), &bundle.anchors()).expect_err("opened");
}

#[track_caller]
fn accepted(bundle: &TestBundle) {
    let output = verify(bundle);
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{message}");
    VerifiedBundle::open(&bundle.path(), &bundle.anchors()).unwrap();
}

#[test]
fn verified_bytes_are_the_loaded_bytes() {
    let bundle = TestBundle::new();
    accepted(&bundle);
    let mut opened = VerifiedBundle::open(&bundle.path(), &bundle.anchors()).unwrap();
    // What happens on the disk from here on concerns nobody.
    let (embedder, card) = (bundle.read("embedder.onnx"), bundle.read("CARD.md"));
    bundle.write("embedder.onnx", b"something else");
    bundle.write("CARD.md", b"something else");

    let root = &bundle.statement()["subject"][0]["digest"]["sha256"];
    assert_ne!(opened.identity().digest, format!("sha256:{}", root.as_str().unwrap()));
    assert_eq!(opened.identity().name, "tiny");
    assert_eq!(opened.identity().version, "1.2.3");
    assert_eq!(opened.manifest().embedder.dimensions, 4);
    assert_eq!(opened.file("CARD.md"), Some(card.as_slice()));
    assert_eq!(opened.take_model("embedder.onnx").unwrap().as_bytes(), embedder);
    assert!(opened.take_model("embedder.onnx").is_none());
    assert!(opened.take_model("nothing.onnx").is_none());
}

#[test]
fn identity_is_the_root_digest() {
    let bundle = TestBundle::new();
    let opened = VerifiedBundle::open(&bundle.path(), &bundle.anchors()).unwrap();
    let root = bundle.statement()["subject"][0]["digest"]["sha256"].clone();
    assert_eq!(opened.identity().digest, format!("sha256:{}", root.as_str().unwrap()));
}

#[test]
fn changed_byte_in_a_model() {
    let bundle = TestBundle::new();
    let mut bytes = bundle.read("embedder.onnx");
    bytes[17] ^= 1;
    bundle.write("embedder.onnx", &bytes);
    refused(&bundle, "embedder.onnx", "changed after signing");
}

#[test]
fn changed_byte_in_the_manifest() {
    let bundle = TestBundle::new();
    bundle.write("bundle.toml", MANIFEST.replace("0.01,", "0.02,").as_bytes());
    refused(&bundle, "bundle.toml", "changed after signing");
}

#[test]
fn swapped_models() {
    let bundle = TestBundle::new();
    let (embedder, detector) = (bundle.read("embedder.onnx"), bundle.read("detector.onnx"));
    bundle.write("embedder.onnx", &detector);
    bundle.write("detector.onnx", &embedder);
    refused(&bundle, "detector.onnx", "changed after signing");
}

#[test]
fn truncated_model() {
    let bundle = TestBundle::new();
    for length in [299, 1, 0] {
        let bytes = bundle.read("detector.onnx");
        bundle.write("detector.onnx", &bytes[..length]);
        refused(&bundle, "detector.onnx", "changed after signing");
    }
}

#[test]
fn truncated_signature() {
    let bundle = TestBundle::new();
    let whole = bundle.read("model.sig");
    for length in (0..whole.len()).step_by(191).chain([whole.len() - 1]) {
        bundle.write("model.sig", &whole[..length]);
        refused(&bundle, "model.sig", "not a Sigstore bundle");
    }
}

#[test]
fn missing_file() {
    for file in ["embedder.onnx", "bundle.toml", "CARD.md"] {
        let bundle = TestBundle::new();
        std::fs::remove_file(bundle.file(file)).unwrap();
        refused(&bundle, file, "missing");
    }
}

#[test]
fn missing_signature() {
    let bundle = TestBundle::new();
    std::fs::remove_file(bundle.file("model.sig")).unwrap();
    refused(&bundle, "model.sig", "missing");
}

#[test]
fn extra_file() {
    // The last of these the reference tool passes over.
    for file in ["extra.onnx", ".hidden", "model.sig.bak", ".gitignore"] {
        let bundle = TestBundle::new();
        bundle.write(file, b"");
        refused(&bundle, file, "not among the signed files");
    }
}

#[test]
fn extra_directory() {
    for directory in ["extra", ".git"] {
        let bundle = TestBundle::new();
        std::fs::create_dir(bundle.file(directory)).unwrap();
        refused(&bundle, directory, "not among the signed files");
    }
}

#[test]
fn renamed_file() {
    let bundle = TestBundle::new();
    std::fs::rename(bundle.file("CARD.md"), bundle.file("card.md")).unwrap();
    refused(&bundle, "CARD.md", "missing");
}

#[test]
fn file_name_with_a_newline() {
    let bundle = TestBundle::new();
    bundle.write("a\nfamiliar: all is well", b"");
    refused(&bundle, "a\\nfamiliar: all is well", "not among the signed files");
}

#[test]
fn symbolic_link() {
    // To the very content that was signed: still not a file of the bundle.
    for file in ["embedder.onnx", "bundle.toml", "model.sig"] {
        let bundle = TestBundle::new();
        let elsewhere = bundle.root().join("elsewhere");
        std::fs::rename(bundle.file(file), &elsewhere).unwrap();
        symlink(&elsewhere, bundle.file(file)).unwrap();
        refused(&bundle, file, "symbolic link");
    }
}

#[test]
fn dangling_symbolic_link() {
    let bundle = TestBundle::new();
    symlink("nowhere", bundle.file("link")).unwrap();
    refused(&bundle, "link", "not among the signed files");
}

#[test]
fn directory_in_place_of_a_file() {
    for file in ["embedder.onnx", "model.sig"] {
        let bundle = TestBundle::new();
        std::fs::remove_file(bundle.file(file)).unwrap();
        std::fs::create_dir(bundle.file(file)).unwrap();
        refused(&bundle, file, "not a regular file");
    }
}

#[test]
fn fifo_in_place_of_a_file() {
    for file in ["embedder.onnx", "model.sig"] {
        let bundle = TestBundle::new();
        std::fs::remove_file(bundle.file(file)).unwrap();
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, bundle.file(file), mode).unwrap();
        refused(&bundle, file, "not a regular file");
    }
}

#[test]
fn hard_link_to_another_model() {
    let bundle = TestBundle::new();
    std::fs::remove_file(bundle.file("embedder.onnx")).unwrap();
    std::fs::hard_link(bundle.file("detector.onnx"), bundle.file("embedder.onnx")).unwrap();
    refused(&bundle, "embedder.onnx", "changed after signing");
}

#[test]
fn enormous_file() {
    let bundle = TestBundle::new();
    for (file, size) in [("embedder.onnx", (512 << 20) + 1), ("model.sig", (1 << 20) + 1)] {
        let sparse = std::fs::File::create(bundle.file(file)).unwrap();
        sparse.set_len(size).unwrap();
        refused(&bundle, file, "is larger than");
    }
}

#[test]
fn unknown_key_in_the_manifest() {
    let bundle = TestBundle::new();
    bundle.write("bundle.toml", format!("surprise = 1\n{MANIFEST}").as_bytes());
    bundle.sign();
    refused(&bundle, "bundle.toml", "line 1: unknown field `surprise`");
}

#[test]
fn manifest_that_makes_no_sense() {
    for (from, to, why) in [
        ("format = 1", "format = 2", "format is 2"),
        ("\"tiny\"", "\"../tiny\"", "`name`"),
        ("\"1.2.3\"", "\"1.2\"", "`version`"),
        ("\"0.1.0\"", "\"99.0.0\"", "needs familiar 99.0.0"),
        ("\"embedder.onnx\"", "\"../embedder.onnx\"", "`file`"),
        ("\"detector.onnx\"", "\"embedder.onnx\"", "two networks"),
        ("width = 8,", "width = 0,", "`embedder.input`"),
        ("height = 32", "height = 5000", "`detector.input`"),
        ("mean = [127.5", "mean = [nan", "`embedder.input`"),
        ("margin = 0.2", "margin = -0.2", "`embedder.crop.margin`"),
        ("dimensions = 4", "dimensions = 0", "`embedder.dimensions`"),
        ("score_threshold = 0.7", "score_threshold = 1.7", "`detector.score_threshold`"),
        ("_rate = 0.01", "_rate = 0.0", "`calibration.points.false_match_rate`"),
        ("_rate = 0.1,", "_rate = 1.0,", "`calibration.points.false_match_rate`"),
        ("similarity = 0.4", "similarity = 0.1", "`calibration.points`"),
        ("similarity = 0.4", "similarity = nan", "`calibration.points.similarity`"),
        ("looks = 1", "looks = 0", "`calibration.looks`"),
    ] {
        let bundle = TestBundle::new();
        assert!(MANIFEST.contains(from), "{from}");
        bundle.write("bundle.toml", MANIFEST.replacen(from, to, 1).as_bytes());
        bundle.sign();
        refused(&bundle, "bundle.toml", why);
    }
}

#[test]
fn network_that_the_manifest_needs_is_not_there() {
    let bundle = TestBundle::new();
    std::fs::remove_file(bundle.file("detector.onnx")).unwrap();
    bundle.sign();
    refused(&bundle, "detector.onnx", "needs it");
}

#[test]
fn signed_by_a_stranger() {
    for curve in [Curve::P256, Curve::P384] {
        let bundle = TestBundle::new();
        let payload = bundle.statement().to_string();
        let mut signature = envelope(&TestKey::new(curve), payload.as_bytes());
        bundle.write_signature(&signature);
        refused(&bundle, "model.sig", "not signed by a trusted key (signer.pub)");
        // A hint is only advice: it makes no stranger a friend.
        signature["verificationMaterial"]["publicKey"]["hint"] = json!(bundle.key.hint());
        bundle.write_signature(&signature);
        refused(&bundle, "model.sig", "not signed by a trusted key (signer.pub)");
    }
}

#[test]
fn hint_is_advice_and_has_to_be_true() {
    let bundle = TestBundle::new();
    let stranger = TestKey::new(Curve::P256);
    let mut signature = bundle.signature();
    signature["verificationMaterial"]["publicKey"]["hint"] = json!(stranger.hint());
    bundle.write_signature(&signature);
    refused(&bundle, "model.sig", "but it is by signer.pub");
}

#[test]
fn any_anchor_may_have_signed() {
    let bundle = TestBundle::with_key(TestKey::new(Curve::P384));
    let others = [("a.pub", Curve::P256), ("z.pub", Curve::P384)];
    for (name, curve) in others {
        std::fs::write(bundle.trust().join(name), TestKey::new(curve).public_pem()).unwrap();
    }
    accepted(&bundle);
    let opened = VerifiedBundle::open(&bundle.path(), &bundle.anchors()).unwrap();
    assert_eq!(opened.signer().name(), "signer.pub");
}

#[test]
fn expired_statement() {
    let bundle = TestBundle::new();
    let mut statement = bundle.statement();
    for (expires, why) in [
        ("2020-01-01T00:00:00Z", "it expired at 2020-01-01T00:00:00Z"),
        ("1999-12-31T23:59:59.5+01:00", "it expired at 1999-12-31T22:59:59.5Z"),
        ("soon", "not an RFC 3339 time"),
        ("2099-01-01", "not an RFC 3339 time"),
        ("2099-01-01T00:00:00", "not an RFC 3339 time"),
        ("2099-01-01T00:00:00Z[Europe/Vienna]", "not an RFC 3339 time"),
        ("", "not an RFC 3339 time"),
    ] {
        statement["predicate"]["expires"] = json!(expires);
        bundle.sign_statement(&statement);
        refused(&bundle, "model.sig", why);
    }
    statement["predicate"]["expires"] = json!(4_000_000_000_u64);
    bundle.sign_statement(&statement);
    refused(&bundle, "model.sig", "malformed");
    statement["predicate"]["expires"] = json!("2999-01-01T00:00:00Z");
    bundle.sign_statement(&statement);
    accepted(&bundle);
}

#[test]
fn malformed_statement() {
    let bundle = TestBundle::new();
    let good = bundle.statement().to_string();
    let duplicate = good.replacen('{', "{\"predicateType\":\"x\",", 1);
    let trailing = format!("{good}{{}}");
    for payload in ["", "{}", "[]", "null", "\u{feff}{}", &good[1..], &duplicate, &trailing] {
        bundle.sign_payload(payload.as_bytes());
        refused(&bundle, "model.sig", "malformed");
    }
    bundle.sign_payload(b"\xff\xfe");
    refused(&bundle, "model.sig", "malformed");
    let deep = "[".repeat(100_000);
    bundle.sign_payload(deep.as_bytes());
    refused(&bundle, "model.sig", "malformed");
}

/// A properly signed statement with one value replaced.
#[track_caller]
fn statement_with(pointer: &str, value: Value, why: &str) {
    let bundle = TestBundle::new();
    let mut statement = bundle.statement();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match statement.pointer_mut(pointer) {
        Some(place) => *place = value,
        None => statement.pointer_mut(parent).unwrap()[key] = value,
    }
    bundle.sign_statement(&statement);
    refused(&bundle, "model.sig", why);
}

#[test]
fn foreign_statement() {
    let serialization = "/predicate/serialization";
    statement_with("/_type", json!("https://in-toto.io/Statement/v0.1"), "type");
    statement_with("/predicateType", json!("https://model_signing/Digests/v0.1"), "predicate type");
    statement_with("/predicateType", json!("https://slsa.dev/provenance/v1"), "predicate type");
    statement_with("/subject", json!([]), "0 subjects");
    statement_with(&format!("{serialization}/method"), json!("shards"), "serialization method");
    statement_with(&format!("{serialization}/hash_type"), json!("blake2"), "hash type");
    statement_with(&format!("{serialization}/allow_symlinks"), json!(true), "symbolic links");
    statement_with(&format!("{serialization}/allow_symlinks"), json!("false"), "malformed");
    statement_with(&format!("{serialization}/shard_size"), json!(1), "unknown field `shard_size`");
    statement_with("/predicate/resources", json!([]), "names no file");
    statement_with("/predicate/resources/0/algorithm", json!("sha512"), "digest algorithm");
    statement_with("/predicate/resources/0/digest", json!("00"), "digest");
    statement_with("/surprise", json!(1), "unknown field `surprise`");
    statement_with("/predicate/surprise", json!(1), "unknown field `surprise`");
}

#[test]
fn two_subjects() {
    let bundle = TestBundle::new();
    let mut statement = bundle.statement();
    let subject = statement["subject"][0].clone();
    statement["subject"] = json!([subject, subject]);
    bundle.sign_statement(&statement);
    refused(&bundle, "model.sig", "2 subjects");
}

#[test]
fn root_digest_of_other_files() {
    statement_with("/subject/0/digest/sha256", json!("0".repeat(64)), "do not add up");
    let upper = TestBundle::new().statement()["subject"][0]["digest"]["sha256"].clone();
    let upper = upper.as_str().unwrap().to_uppercase();
    statement_with("/subject/0/digest/sha256", json!(upper), "lower-case hexadecimal");
}

#[test]
fn ignored_path() {
    for path in ["embedder.onnx", "*", ".", "extra", "model.sig/", "../model.sig"] {
        let bundle = TestBundle::new();
        let mut statement = bundle.statement();
        statement["predicate"]["serialization"]["ignore_paths"] = json!(["model.sig", path]);
        bundle.sign_statement(&statement);
        refused(&bundle, "model.sig", "leaves out");
    }
}

/// A properly signed statement whose files are these, with the root digest that belongs to them.
#[track_caller]
fn resources(change: impl Fn(&mut Vec<Value>), why: &str) {
    let bundle = TestBundle::new();
    let mut resources = bundle.statement()["predicate"]["resources"].as_array().unwrap().clone();
    change(&mut resources);
    bundle.sign_statement(&statement(&resources));
    refused(&bundle, "model.sig", why);
}

#[test]
fn path_with_dot_dot() {
    for path in [
        "../CARD.md",
        "..",
        ".",
        "",
        "/etc/passwd",
        "a/../CARD.md",
        "./CARD.md",
        "sub/CARD.md",
        "..\\CARD.md",
        "CARD.md\0",
        "model.sig",
        ".git",
    ] {
        resources(|files| files[0]["name"] = json!(path), "not a plain file name");
    }
}

#[test]
fn unsorted_names() {
    resources(|files| files.swap(0, 1), "out of order");
    resources(|files| files.reverse(), "out of order");
}

#[test]
fn duplicate_names() {
    resources(|files| files.insert(1, files[0].clone()), "twice");
    resources(|files| files.push(files[0].clone()), "out of order");
}

/// `model.sig` with one value of its outer JSON replaced.
#[track_caller]
fn signature_with(pointer: &str, value: Value, why: &str) {
    let bundle = TestBundle::new();
    let mut signature = bundle.signature();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match signature.pointer_mut(pointer) {
        Some(place) => *place = value,
        None => signature.pointer_mut(parent).unwrap()[key] = value,
    }
    bundle.write_signature(&signature);
    refused(&bundle, "model.sig", why);
}

#[test]
fn wrong_payload_type() {
    signature_with("/dsseEnvelope/payloadType", json!("application/json"), "payload type");
    // Signed as such: not only is the label wrong.
    let bundle = TestBundle::new();
    let payload = bundle.statement().to_string();
    let other = "application/vnd.in-toto+jsom";
    let mut signature = bundle.envelope(payload.as_bytes());
    signature["dsseEnvelope"]["payloadType"] = json!(other);
    signature["dsseEnvelope"]["signatures"][0]["sig"] =
        json!(STANDARD.encode(bundle.key.sign(other, payload.as_bytes())));
    bundle.write_signature(&signature);
    refused(&bundle, "model.sig", "payload type");
    signature["dsseEnvelope"]["payloadType"] = json!(IN_TOTO);
    bundle.write_signature(&signature);
    refused(&bundle, "model.sig", "not signed by a trusted key");
}

#[test]
fn two_signatures() {
    let bundle = TestBundle::new();
    let mut signature = bundle.signature();
    let signatures = &mut signature["dsseEnvelope"]["signatures"];
    let one = signatures[0].clone();
    signatures.as_array_mut().unwrap().push(one);
    bundle.write_signature(&signature);
    refused(&bundle, "model.sig", "2 signatures");
    signature_with("/dsseEnvelope/signatures", json!([]), "0 signatures");
}

#[test]
fn foreign_signature_file() {
    signature_with(
        "/mediaType",
        json!("application/vnd.dev.sigstore.bundle+json;version=0.2"),
        "media type",
    );
    signature_with("/surprise", json!(1), "unknown field `surprise`");
    let public_key = "/verificationMaterial/publicKey";
    // The form before 1.0.
    signature_with(&format!("{public_key}/rawBytes"), json!("YQ=="), "unknown field `rawBytes`");
    signature_with("/verificationMaterial/certificate", json!({}), "unknown field `certificate`");
    signature_with("/verificationMaterial/tlogEntries", json!([{}]), "not a Sigstore bundle");
    signature_with("/dsseEnvelope/signatures/0/keyid", json!("a"), "key id");
    signature_with("/dsseEnvelope/signatures/0/sig", json!(""), "not signed by a trusted key");
    signature_with("/dsseEnvelope/signatures/0/sig", json!("YQ"), "not base64");
    signature_with("/dsseEnvelope/payload", json!(""), "not signed by a trusted key");
}

#[test]
fn statement_of_another_bundle() {
    let (bundle, other) = (TestBundle::new(), TestBundle::new());
    bundle.write("model.sig", &other.read("model.sig"));
    refused(&bundle, "model.sig", "not signed by a trusted key");
    // The same signer, older content: a signature fits one set of files.
    let old = bundle.envelope(bundle.statement().to_string().as_bytes());
    bundle.write("CARD.md", b"# newer\n");
    bundle.write_signature(&old);
    refused(&bundle, "CARD.md", "changed after signing");
}

/// Thousands of single flipped bits across all files; not one may open.
#[test]
fn random_bit_flips() {
    let bundle = TestBundle::new();
    let anchors = bundle.anchors();
    let files: Vec<(&str, Vec<u8>)> =
        ["bundle.toml", "embedder.onnx", "detector.onnx", "CARD.md", "model.sig"]
            .map(|name| (name, bundle.read(name)))
            .into();
    let total: usize = files.iter().map(|(_, bytes)| bytes.len() * 8).sum();
    let mut random = fastrand::Rng::with_seed(0x5eed);
    for round in 0..6000 {
        let mut bit = random.usize(..total);
        let (name, bytes) = files
            .iter()
            .find(|(_, bytes)| {
                let here = bit < bytes.len() * 8;
                bit -= if here { 0 } else { bytes.len() * 8 };
                here
            })
            .unwrap();
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        bundle.write(name, &flipped);
        assert!(
            VerifiedBundle::open(&bundle.path(), &anchors).is_err(),
            "round {round}: opened with bit {bit} of {name} flipped"
        );
        bundle.write(name, bytes);
    }
    VerifiedBundle::open(&bundle.path(), &anchors).unwrap();
}
