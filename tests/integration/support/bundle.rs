//! Small signed bundles with arbitrary bytes for networks. The signatures are made here from the
//! specification, not with the code under test, so that they can also be made wrongly.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use familiar::model::TrustAnchors;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, KeyPair,
};
use serde_json::{Value, json};

/// A `bundle.toml` of format 1 for the files of [`TestBundle`].
pub const MANIFEST: &str = r#"format = 1
name = "tiny"
version = "1.2.3"
licence = "MIT"
minimum_daemon = "0.1.0"

[embedder]
file = "embedder.onnx"
input = { width = 8, height = 8, layout = "nhwc", channels = "rgb", mean = [127.5, 127.5, 127.5], scale = [0.0078125, 0.0078125, 0.0078125] }
crop = { kind = "box", margin = 0.2 }
dimensions = 4
distance = "cosine"

[detector]
file = "detector.onnx"
decoder = "yunet"
input = { width = 32, height = 32, layout = "nchw", channels = "bgr", mean = [0.0, 0.0, 0.0], scale = [1.0, 1.0, 1.0] }
score_threshold = 0.7
overlap_threshold = 0.3

[[calibration]]
looks = 1
pairs = 1000
points = [ { false_match_rate = 0.1, similarity = 0.2 }, { false_match_rate = 0.01, similarity = 0.4 } ]
"#;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Curve {
    P256,
    P384,
}

/// A key pair that signs bundles.
pub struct TestKey {
    curve: Curve,
    pkcs8: Vec<u8>,
    pair: EcdsaKeyPair,
}

impl TestKey {
    pub fn new(curve: Curve) -> Self {
        let random = SystemRandom::new();
        let algorithm = match curve {
            Curve::P256 => &ECDSA_P256_SHA256_ASN1_SIGNING,
            Curve::P384 => &ECDSA_P384_SHA384_ASN1_SIGNING,
        };
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap().as_ref().to_vec();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, &pkcs8, &random).unwrap();
        Self { curve, pkcs8, pair }
    }

    pub fn public_pem(&self) -> String {
        // SEQUENCE { SEQUENCE { id-ecPublicKey, curve }, BIT STRING }, RFC 5480.
        let head: &[u8] = match self.curve {
            Curve::P256 => b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00",
            Curve::P384 => b"\x30\x76\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22\x03\x62\x00",
        };
        pem("PUBLIC KEY", &[head, self.pair.public_key().as_ref()].concat())
    }

    pub fn private_pem(&self) -> String {
        pem("PRIVATE KEY", &self.pkcs8)
    }

    /// What `model.sig` calls the key.
    pub fn hint(&self) -> String {
        hex(digest(&SHA256, self.public_pem().as_bytes()).as_ref())
    }

    /// An ASN.1 signature over the PAE of a payload of this type.
    pub fn sign(&self, payload_type: &str, payload: &[u8]) -> Vec<u8> {
        let length = payload_type.len();
        let mut message = format!("DSSEv1 {length} {payload_type} {} ", payload.len()).into_bytes();
        message.extend_from_slice(payload);
        self.pair.sign(&SystemRandom::new(), &message).unwrap().as_ref().to_vec()
    }

    /// Writes the private key as a PEM file of mode 0600.
    pub fn write(&self, path: &Path) {
        use std::os::unix::fs::PermissionsExt;
        std::fs::write(path, self.private_pem()).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
}

/// A bundle, and beside it a `trust.d` with its signer's key.
pub struct TestBundle {
    root: tempfile::TempDir,
    pub key: TestKey,
}

pub const IN_TOTO: &str = "application/vnd.in-toto+json";

impl TestBundle {
    /// A valid bundle: `bundle.toml`, `embedder.onnx`, `detector.onnx`, `CARD.md`, `model.sig`.
    pub fn new() -> Self {
        Self::with_key(TestKey::new(Curve::P256))
    }

    pub fn with_key(key: TestKey) -> Self {
        let bundle = Self { root: tempfile::tempdir().unwrap(), key };
        std::fs::create_dir(bundle.path()).unwrap();
        std::fs::create_dir(bundle.trust()).unwrap();
        std::fs::write(bundle.trust().join("signer.pub"), bundle.key.public_pem()).unwrap();
        bundle.write("bundle.toml", MANIFEST.as_bytes());
        let mut random = fastrand::Rng::with_seed(7);
        for name in ["embedder.onnx", "detector.onnx"] {
            let bytes: Vec<u8> = (0..300).map(|_| random.u8(..)).collect();
            bundle.write(name, &bytes);
        }
        bundle.write("CARD.md", b"# tiny\n");
        bundle.sign();
        bundle
    }

    /// The folder that holds the bundle and `trust.d`: a place for a configuration, too.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    pub fn path(&self) -> PathBuf {
        self.root().join("tiny")
    }

    pub fn trust(&self) -> PathBuf {
        self.root().join("trust.d")
    }

    pub fn anchors(&self) -> TrustAnchors {
        TrustAnchors::load(&self.trust()).unwrap()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.file(name)).unwrap()
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.file(name), bytes).unwrap();
    }

    /// The statement over the files that lie there.
    pub fn statement(&self) -> Value {
        let mut names: Vec<String> = std::fs::read_dir(self.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "model.sig")
            .collect();
        names.sort();
        let resources: Vec<Value> = names
            .iter()
            .map(|name| {
                let digest = hex(digest(&SHA256, &self.read(name)).as_ref());
                json!({ "name": name, "algorithm": "sha256", "digest": digest })
            })
            .collect();
        statement(&resources)
    }

    /// Signs the files that lie there.
    pub fn sign(&self) {
        self.sign_statement(&self.statement());
    }

    /// Signs a statement of the test's own making, properly.
    pub fn sign_statement(&self, statement: &Value) {
        self.sign_payload(statement.to_string().as_bytes());
    }

    pub fn sign_payload(&self, payload: &[u8]) {
        self.write_signature(&self.envelope(payload));
    }

    /// The content of a valid `model.sig` for a payload.
    pub fn envelope(&self, payload: &[u8]) -> Value {
        envelope(&self.key, payload)
    }

    pub fn write_signature(&self, signature: &Value) {
        self.write("model.sig", signature.to_string().as_bytes());
    }

    /// The content of `model.sig` as it lies there.
    pub fn signature(&self) -> Value {
        serde_json::from_slice(&self.read("model.sig")).unwrap()
    }
}

pub fn envelope(key: &TestKey, payload: &[u8]) -> Value {
    json!({
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": { "publicKey": { "hint": key.hint() }, "tlogEntries": [] },
        "dsseEnvelope": {
            "payload": STANDARD.encode(payload),
            "payloadType": IN_TOTO,
            "signatures": [ { "sig": STANDARD.encode(key.sign(IN_TOTO, payload)), "keyid": "" } ],
        },
    })
}

/// A statement over resources in the given order, with the root digest that belongs to them.
pub fn statement(resources: &[Value]) -> Value {
    let raw: Vec<u8> =
        resources.iter().flat_map(|entry| unhex(entry["digest"].as_str().unwrap())).collect();
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [ { "name": "tiny", "digest": { "sha256": hex(digest(&SHA256, &raw).as_ref()) } } ],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": false,
                "ignore_paths": [".git", ".gitattributes", ".github", ".gitignore", "model.sig"],
            },
            "resources": resources,
        },
    })
}

pub fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|c| char::from(b"0123456789abcdef"[usize::from(c)]))
        .collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2)
        .map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap_or_default())
        .collect()
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
