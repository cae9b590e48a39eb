//! A `model.sig` that is not what a trusted key signed, or that says what it may not: refused.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use familiar::model::VerifiedBundle;
use serde_json::{Value, json};

use crate::bundle::{accepted, refused};
use crate::support::bundle::{Curve, IN_TOTO, TestBundle, TestKey, envelope, statement};

/// Holds TRU-03.
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

/// Bytes that nobody trusted has signed do not reach the statement's parser.
/// Holds TRU-03.
#[test]
fn malformed_statement_of_a_stranger_is_not_parsed() {
    let bundle = TestBundle::new();
    bundle.write_signature(&envelope(&TestKey::new(Curve::P256), b"{"));
    refused(&bundle, "model.sig", "not signed by a trusted key (signer.pub)");
}

/// Holds TRU-03.
#[test]
fn hint_is_advice_and_has_to_be_true() {
    let bundle = TestBundle::new();
    let stranger = TestKey::new(Curve::P256);
    let mut signature = bundle.signature();
    signature["verificationMaterial"]["publicKey"]["hint"] = json!(stranger.hint());
    bundle.write_signature(&signature);
    refused(&bundle, "model.sig", "but it is by signer.pub");
}

/// Holds TRU-03.
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

/// Holds TRU-03.
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

/// Holds TRU-03.
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

/// Holds TRU-03.
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

/// Holds TRU-03.
#[test]
fn two_subjects() {
    let bundle = TestBundle::new();
    let mut statement = bundle.statement();
    let subject = statement["subject"][0].clone();
    statement["subject"] = json!([subject, subject]);
    bundle.sign_statement(&statement);
    refused(&bundle, "model.sig", "2 subjects");
}

/// Holds TRU-03.
#[test]
fn root_digest_of_other_files() {
    statement_with("/subject/0/digest/sha256", json!("0".repeat(64)), "do not add up");
    let upper = TestBundle::new().statement()["subject"][0]["digest"]["sha256"].clone();
    let upper = upper.as_str().unwrap().to_uppercase();
    statement_with("/subject/0/digest/sha256", json!(upper), "lower-case hexadecimal");
}

/// Holds TRU-03.
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

/// Holds TRU-03.
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

/// Holds TRU-03.
#[test]
fn unsorted_names() {
    resources(|files| files.swap(0, 1), "out of order");
    resources(|files| files.reverse(), "out of order");
}

/// Holds TRU-03.
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

/// Holds TRU-03.
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

/// Holds TRU-03.
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

/// Holds TRU-03.
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

/// Holds TRU-03.
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
