//! Keys of this run alone, so that what only a signature lets in can be fuzzed as well. None is kept or trusted elsewhere.

use std::cell::RefCell;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use familiar::command::{Gate, Moment};
use familiar::config;
use familiar::event::{DeviceKey, Typ};
use familiar::model::{Anchor, TrustAnchors};
use familiar::system::state::StateDirectory;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};

/// Signs models, and is trusted here.
pub struct Signer {
    pair: EcdsaKeyPair,
    pub anchors: TrustAnchors,
}

pub static SIGNER: LazyLock<Signer> = LazyLock::new(Signer::new);

impl Signer {
    fn new() -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("random numbers");
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).expect("own key");
        // SubjectPublicKeyInfo of a point on P-256 (RFC 5480 §2).
        let mut spki = vec![
            0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06,
            0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
        ];
        spki.extend_from_slice(pair.public_key().as_ref());
        let text = STANDARD.encode(spki);
        let lines: Vec<&str> =
            text.as_bytes().chunks(64).filter_map(|line| str::from_utf8(line).ok()).collect();
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("fuzz.pub");
        let label = "PUBLIC KEY";
        let pem = format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"));
        std::fs::write(&path, pem).expect("a file");
        let anchor = Anchor::read(&path).expect("own key");
        Self { pair, anchors: TrustAnchors::new(vec![anchor]).expect("one anchor") }
    }

    /// A `model.sig` that says what it is told to.
    pub fn sign(&self, payload: &[u8]) -> String {
        let kind = "application/vnd.in-toto+json";
        let head = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len());
        let signed = [head.as_bytes(), payload].concat();
        let raw = self.pair.sign(&SystemRandom::new(), &signed).expect("random numbers");
        let hint = self.anchors.iter().next().expect("one anchor").key.hint().to_string();
        serde_json::json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": { "publicKey": { "hint": hint }, "tlogEntries": [] },
            "dsseEnvelope": {
                "payload": STANDARD.encode(payload),
                "payloadType": kind,
                "signatures": [{ "sig": STANDARD.encode(raw.as_ref()), "keyid": "" }],
            },
        })
        .to_string()
    }
}

/// A device whose only operator is itself, so that it can sign commands as freely as anything else.
pub struct Site {
    pub device: DeviceKey,
    pub gate: Gate,
    pub at: Moment,
    _folder: tempfile::TempDir,
}

thread_local! {
    static SITE: RefCell<Site> = RefCell::new(Site::new());
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let configuration = folder.path().join("familiar.toml");
        std::fs::write(&configuration, "device = \"porch\"\n").expect("a file");
        let state = StateDirectory::at(folder.path().join("state")).expect("a folder");
        let device = DeviceKey::open_or_create(&state).expect("a key");
        let operators = format!("{{\"keys\":[{}]}}", device.public().to_jwk());
        std::fs::write(folder.path().join("operators.jwks"), operators).expect("a file");
        let located = config::find(Some(&configuration)).expect("a configuration");
        let gate = Gate::open(&located, &state).expect("a gate");
        Self { device, gate, at: Moment::now(), _folder: folder }
    }

    pub fn with<T>(work: impl FnOnce(&mut Self) -> T) -> T {
        SITE.with_borrow_mut(work)
    }

    /// `None` if it is longer than a message may be.
    pub fn sign(&self, typ: Typ, payload: &str) -> Option<String> {
        Some(self.device.sign(typ, payload).ok()?.as_str().to_owned())
    }
}
