//! Files that people or other programs wrote.

use familiar::event::{KeyRing, PublicKey};
use familiar::model::manifest::Manifest;
use familiar::untrusted;

use crate::fuzzed::keys::SIGNER;

/// `familiar.toml`.
pub fn configuration(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    match untrusted::configuration(text) {
        Ok(config) => {
            assert!(config.camera.fps > 0.0 && config.recognition.frames > 0);
            assert!((1..=64).contains(&config.device.as_str().len()));
        }
        Err(error) => assert!(error.to_string().contains("familiar.toml")),
    }
}

/// `bundle.toml`.
pub fn manifest(bytes: &[u8]) {
    if let Ok(manifest) = Manifest::parse(bytes) {
        assert!(!manifest.calibration.is_empty());
        assert!(manifest.models().all(|file| !file.contains('/')));
    }
}

/// `model.sig`, by whomever: nobody here has the key, so none holds.
pub fn model_signature(bytes: &[u8]) {
    assert!(untrusted::model_signature(bytes, &SIGNER.anchors).is_err(), "a forgery was believed");
}

/// What lies under the seal of a backup of people.
pub fn backup(bytes: &[u8]) {
    if let Ok(people) = untrusted::backup_content(bytes) {
        assert!(people * 4 <= bytes.len());
    }
}

/// Pairs as Labeled Faces in the Wild has them.
pub fn pairs(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Ok(list) = untrusted::pairs(text) {
        assert_eq!(list.pairs.len() % (2 * list.folds), 0);
        let names = list.pairs.iter().flat_map(|pair| [&pair.left.person, &pair.right.person]);
        for name in names {
            assert!(!name.contains('/') && !name.starts_with('.'), "{name:?} leaves its folder");
        }
    }
}

/// Marked faces, as WIDER FACE has them.
pub fn boxes(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Ok(pictures) = untrusted::boxes(text) {
        assert!(pictures <= text.lines().count());
    }
}

/// A JWK or a set of them: `--jwks`, `operators.jwks`.
pub fn key_set(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Ok(ring) = KeyRing::from_json(text) {
        for key in ring.iter() {
            assert_eq!(PublicKey::from_jwk(&key.to_jwk()).as_ref(), Ok(key));
        }
    }
}

/// `pins.json`: what is written is what was read.
pub fn pins(bytes: &[u8]) {
    if let Ok(text) = untrusted::pins(bytes) {
        assert_eq!(untrusted::pins(text.as_bytes()), Ok(text));
    }
}
