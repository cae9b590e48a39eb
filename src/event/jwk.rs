//! Public Ed25519 keys as JWK (RFC 7517, RFC 8037) and their thumbprints (RFC 7638).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

/// Largest text that is read as a key or a set of keys, in bytes.
pub const LIMIT: usize = 64 * 1024;

/// A public Ed25519 key; its `kid` is always its RFC 7638 SHA-256 thumbprint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    bytes: [u8; 32],
    kid: String,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum JwkError {
    #[error("not a JSON Web Key or key set: {0}")]
    Json(String),
    #[error("more than {LIMIT} bytes of keys")]
    TooLong,
    #[error("key type {kty:?} {crv:?} is not OKP Ed25519")]
    NotEd25519 { kty: String, crv: String },
    #[error("`x` is not base64url of 32 bytes")]
    X,
    #[error("`kid` {kid:?} is not the key's thumbprint {thumbprint}")]
    Kid { kid: String, thumbprint: String },
    #[error("holds a private key (`d`): keep that away from here and give only its public half")]
    Private,
    #[error("the key set is empty")]
    Empty,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(default)]
    crv: String,
    #[serde(default)]
    x: String,
    kid: Option<String>,
    d: Option<serde::de::IgnoredAny>,
}

#[derive(Serialize)]
struct JwkOut<'a> {
    kty: &'static str,
    crv: &'static str,
    x: String,
    alg: &'static str,
    r#use: &'static str,
    kid: &'a str,
}

impl PublicKey {
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self { kid: thumbprint(&bytes), bytes }
    }

    pub fn kid(&self) -> &str {
        &self.kid
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// The key as a JWK with `alg`, `use` and its thumbprint as `kid`, one line of JSON.
    pub fn to_jwk(&self) -> String {
        let jwk = JwkOut {
            kty: "OKP",
            crv: "Ed25519",
            x: BASE64URL.encode(self.bytes),
            alg: "EdDSA",
            r#use: "sig",
            kid: &self.kid,
        };
        serde_json::to_string(&jwk).unwrap_or_default()
    }

    /// The same with nothing but what it needs: for a set that must stay small.
    pub(super) fn to_short_jwk(&self) -> String {
        let x = BASE64URL.encode(self.bytes);
        format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}","kid":"{}"}}"#, self.kid)
    }

    /// Reads one JWK.
    pub fn from_jwk(text: &str) -> Result<Self, JwkError> {
        if text.len() > LIMIT {
            return Err(JwkError::TooLong);
        }
        serde_json::from_str::<Jwk>(text).map_err(|e| JwkError::Json(e.to_string()))?.try_into()
    }
}

impl TryFrom<Jwk> for PublicKey {
    type Error = JwkError;

    fn try_from(jwk: Jwk) -> Result<Self, JwkError> {
        if jwk.kty != "OKP" || jwk.crv != "Ed25519" {
            return Err(JwkError::NotEd25519 { kty: jwk.kty, crv: jwk.crv });
        }
        if jwk.d.is_some() {
            return Err(JwkError::Private);
        }
        let bytes = BASE64URL.decode(&jwk.x).map_err(|_| JwkError::X)?;
        let key = Self::from_bytes(bytes.try_into().map_err(|_| JwkError::X)?);
        match jwk.kid {
            Some(kid) if kid != key.kid => Err(JwkError::Kid { kid, thumbprint: key.kid }),
            _ => Ok(key),
        }
    }
}

/// RFC 7638 over the required members of an OKP key in lexicographic order (RFC 8037 §2).
fn thumbprint(bytes: &[u8; 32]) -> String {
    let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, BASE64URL.encode(bytes));
    BASE64URL.encode(digest(&SHA256, canonical.as_bytes()))
}

/// The keys of a JWK set in their order; none of them twice.
pub(super) fn set_from_json(text: &str) -> Result<Vec<PublicKey>, JwkError> {
    if text.len() > LIMIT {
        return Err(JwkError::TooLong);
    }
    let json = |e: serde_json::Error| JwkError::Json(e.to_string());
    let mut keys: Vec<PublicKey> = Vec::new();
    for jwk in serde_json::from_str::<Set>(text).map_err(json)?.keys {
        let key: PublicKey = jwk.try_into()?;
        if keys.contains(&key) {
            return Err(JwkError::Json(format!("key {} is in it twice", key.kid)));
        }
        keys.push(key);
    }
    if keys.is_empty() { Err(JwkError::Empty) } else { Ok(keys) }
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Jwk>,
}

/// Keys that a verifier trusts, by `kid`.
#[derive(Debug, Clone, Default)]
pub struct KeyRing(BTreeMap<String, PublicKey>);

impl KeyRing {
    /// Reads a JWK, or a JWK set (`{"keys":[…]}`, other members ignored, every key of it Ed25519).
    pub fn from_json(text: &str) -> Result<Self, JwkError> {
        #[derive(Deserialize)]
        struct Probe {
            keys: Option<serde::de::IgnoredAny>,
        }
        if text.len() > LIMIT {
            return Err(JwkError::TooLong);
        }
        let json = |e: serde_json::Error| JwkError::Json(e.to_string());
        // Which of the two it is, before either is believed.
        let probe: Probe = serde_json::from_str(text).map_err(json)?;
        let mut ring = Self::default();
        if probe.keys.is_some() {
            for jwk in serde_json::from_str::<Set>(text).map_err(json)?.keys {
                ring.insert(jwk.try_into()?);
            }
        } else {
            ring.insert(PublicKey::from_jwk(text)?);
        }
        if ring.is_empty() { Err(JwkError::Empty) } else { Ok(ring) }
    }

    pub fn insert(&mut self, key: PublicKey) {
        self.0.insert(key.kid.clone(), key);
    }

    pub fn get(&self, kid: &str) -> Option<&PublicKey> {
        self.0.get(kid)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &PublicKey> {
        self.0.values()
    }
}

impl From<PublicKey> for KeyRing {
    fn from(key: PublicKey) -> Self {
        let mut ring = Self::default();
        ring.insert(key);
        ring
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    /// RFC 8037 appendix A.2 and A.3.
    const RFC_JWK: &str =
        r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

    #[test]
    fn thumbprint_of_rfc_8037() {
        let key = PublicKey::from_jwk(RFC_JWK).unwrap();
        assert_eq!(key.kid(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        assert_eq!(PublicKey::from_jwk(&key.to_jwk()).unwrap(), key);
    }

    #[test]
    fn keys_that_are_not_what_they_say() {
        let with = |from: &str, to: &str| PublicKey::from_jwk(&RFC_JWK.replace(from, to));
        assert!(matches!(with("OKP", "EC"), Err(JwkError::NotEd25519 { .. })));
        assert!(matches!(with("Ed25519", "X25519"), Err(JwkError::NotEd25519 { .. })));
        assert_eq!(with("URo\"", "UR\""), Err(JwkError::X));
        assert_eq!(with("URo\"", "URp\""), Err(JwkError::X)); // bits beyond the last byte
        assert!(matches!(with("}", r#","kid":"a"}"#), Err(JwkError::Kid { .. })));
        assert_eq!(with("}", r#","d":"AA"}"#), Err(JwkError::Private));
    }

    #[test]
    fn key_sets() {
        let ring = KeyRing::from_json(&format!(r#"{{"keys":[{RFC_JWK}],"more":1}}"#)).unwrap();
        assert_eq!(ring.iter().count(), 1);
        assert_eq!(KeyRing::from_json(r#"{"keys":[]}"#).unwrap_err(), JwkError::Empty);
        assert!(KeyRing::from_json("[]").is_err());
        assert_eq!(KeyRing::from_json(&" ".repeat(LIMIT + 1)).unwrap_err(), JwkError::TooLong);
    }
}
