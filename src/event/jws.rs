//! Signed messages: JWS in flattened JSON with an unencoded payload (RFC 7515 §7.2.2, RFC 7797,
//! RFC 8037), as contract §3 fixes it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use ring::digest::{SHA256, digest};
use ring::signature::{ED25519, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use super::jwk::{KeyRing, PublicKey};
use super::key::DeviceKey;

/// Largest signed message, in bytes (contract §3).
pub const LIMIT: usize = 4096;

/// Largest command to the device, in bytes (contract §4).
pub const COMMAND_LIMIT: usize = 16 * 1024;

/// What a message is; part of what is signed, so that none can be taken for another kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Typ {
    #[serde(rename = "familiar-event+json")]
    Event,
    #[serde(rename = "familiar-presence+json")]
    Presence,
    #[serde(rename = "familiar-health+json")]
    Health,
    #[serde(rename = "familiar-identity+json")]
    Identity,
    #[serde(rename = "familiar-result+json")]
    Result,
    #[serde(rename = "familiar-command+json")]
    Command,
}

impl Typ {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Event => "familiar-event+json",
            Self::Presence => "familiar-presence+json",
            Self::Health => "familiar-health+json",
            Self::Identity => "familiar-identity+json",
            Self::Result => "familiar-result+json",
            Self::Command => "familiar-command+json",
        }
    }
}

impl std::fmt::Display for Typ {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A message that a key of this device signed: made by [`DeviceKey::sign`], or read back from the
/// outbox after its signature held. Nothing else can be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedMessage {
    text: String,
    kid: String,
    typ: Typ,
    link: String,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a {typ} message would have {bytes} bytes; at most {LIMIT} may be sent")]
pub struct TooLong {
    typ: Typ,
    bytes: usize,
}

impl DeviceKey {
    /// Signs `payload` as a message of kind `typ`; [`TooLong`] beyond [`LIMIT`] bytes in all.
    pub fn sign(&self, typ: Typ, payload: &str) -> Result<SignedMessage, TooLong> {
        let protected = BASE64URL.encode(header(typ, self.kid()));
        let input = signing_input(&protected, payload);
        let text = flatten(payload, &protected, &BASE64URL.encode(self.sign_bytes(&input)));
        if text.len() > LIMIT {
            return Err(TooLong { typ, bytes: text.len() });
        }
        Ok(SignedMessage { text, kid: self.kid().to_owned(), typ, link: link(&input) })
    }
}

impl SignedMessage {
    /// Reads back what a key of this device signed.
    pub(super) fn reload(text: String, key: &PublicKey) -> Result<Self, VerifyError> {
        let verified = Envelope::parse(&text)?.verify(&key.clone().into(), None)?;
        Ok(Self { text, kid: verified.kid, typ: verified.typ, link: verified.link })
    }

    /// The JSON text, one line, at most [`LIMIT`] bytes.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Thumbprint of the key that signed it.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    pub fn typ(&self) -> Typ {
        self.typ
    }

    /// What the next event of this key carries as `prev`: base64url SHA-256 of the signing input.
    pub fn link(&self) -> &str {
        &self.link
    }
}

/// A signed message as it came: well formed, but not yet believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    payload: String,
    protected: String,
    header: Header,
    signature: [u8; 64],
}

/// What a trusted key signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    pub kid: String,
    pub typ: Typ,
    /// Exactly the signed text.
    pub payload: String,
    /// See [`SignedMessage::link`].
    pub link: String,
    /// Only [`Envelope::verify`] makes one.
    _proven: Proven,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Proven;

/// A text that a trusted key signed, without its signature; made from a [`Verified`] alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedPayload(String);

impl Verified {
    pub fn into_payload(self) -> VerifiedPayload {
        VerifiedPayload(self.payload)
    }
}

impl VerifiedPayload {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a message is not believed.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum VerifyError {
    #[error("too long")]
    TooLong,
    #[error("not a signed message: {0}")]
    NotAMessage(String),
    #[error("protected header: {0}")]
    Header(String),
    #[error("signed by a key that is not trusted: {0:?}")]
    UnknownKey(String),
    #[error("a {found} message where {wanted} is due")]
    Typ { found: Typ, wanted: Typ },
    #[error("the signature does not hold")]
    Signature,
    #[error("{0}")]
    Payload(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    b64: bool,
    crit: Vec<String>,
    kid: String,
    typ: Typ,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Flattened {
    payload: String,
    protected: String,
    signature: String,
}

impl Envelope {
    /// Takes a message of at most [`LIMIT`] bytes apart. Whatever contract §3 does not name is
    /// refused: unknown or repeated members, other algorithms, encoded payloads, bytes after the end.
    pub fn parse(text: &str) -> Result<Self, VerifyError> {
        Self::parse_within(text, LIMIT)
    }

    /// The same for a command, which may have [`COMMAND_LIMIT`] bytes.
    pub fn parse_command(text: &str) -> Result<Self, VerifyError> {
        Self::parse_within(text, COMMAND_LIMIT)
    }

    /// A message within the JSON that a recorder wrote around it: an object with `topic` and `payload`, that being the
    /// message or its text (`mosquitto_sub -F`, `%J` and `%j`). `None` if it is no such object.
    pub fn recorded(text: &str) -> Option<Result<Self, VerifyError>> {
        #[derive(Deserialize)]
        struct Recorded {
            #[serde(rename = "topic")]
            _topic: String,
            payload: Payload,
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Payload {
            Text(String),
            Message(Flattened),
        }
        let Recorded { payload, .. } = serde_json::from_str(text).ok()?;
        let message = match payload {
            Payload::Text(text) => text,
            Payload::Message(message) => serde_json::to_string(&message).ok()?,
        };
        // As long as it was on the wire, and parsed as strictly.
        Some(Self::parse(&message))
    }

    fn parse_within(text: &str, limit: usize) -> Result<Self, VerifyError> {
        if text.len() > limit {
            return Err(VerifyError::TooLong);
        }
        let Flattened { payload, protected, signature } =
            serde_json::from_str(text).map_err(|e| VerifyError::NotAMessage(e.to_string()))?;
        let header = Header::parse(&protected)?;
        let signature =
            BASE64URL.decode(&signature).ok().and_then(|bytes| bytes.try_into().ok()).ok_or_else(
                || VerifyError::NotAMessage("`signature` is not base64url of 64 bytes".to_owned()),
            )?;
        Ok(Self { payload, protected, header, signature })
    }

    /// The `kid` it claims; not proven.
    pub fn kid(&self) -> &str {
        &self.header.kid
    }

    /// The kind it claims; not proven.
    pub fn typ(&self) -> Typ {
        self.header.typ
    }

    /// The payload, not proven: only to find the key that a first contact offers
    /// ([`super::identity`]), or the id by which a refused command is answered.
    pub(crate) fn unproven_payload(&self) -> &str {
        &self.payload
    }

    /// Checks it against trusted keys and, if given, the kind that is due.
    pub fn verify(self, keys: &KeyRing, due: Option<Typ>) -> Result<Verified, VerifyError> {
        let Self { payload, protected, header, signature } = self;
        if let Some(wanted) = due
            && wanted != header.typ
        {
            return Err(VerifyError::Typ { found: header.typ, wanted });
        }
        let Some(key) = keys.get(&header.kid) else {
            return Err(VerifyError::UnknownKey(header.kid));
        };
        let input = signing_input(&protected, &payload);
        UnparsedPublicKey::new(&ED25519, key.as_bytes())
            .verify(&input, &signature)
            .map_err(|_| VerifyError::Signature)?;
        let link = link(&input);
        Ok(Verified { kid: header.kid, typ: header.typ, payload, link, _proven: Proven })
    }
}

impl Header {
    fn parse(protected: &str) -> Result<Self, VerifyError> {
        let wrong = |what: &str| VerifyError::Header(what.to_owned());
        let bytes = BASE64URL.decode(protected).map_err(|_| wrong("not base64url"))?;
        let header: Self =
            serde_json::from_slice(&bytes).map_err(|e| VerifyError::Header(e.to_string()))?;
        if header.alg != "EdDSA" {
            return Err(wrong("`alg` is not EdDSA"));
        }
        if header.b64 {
            return Err(wrong("`b64` is not false"));
        }
        if header.crit != ["b64"] {
            return Err(wrong("`crit` is not exactly [\"b64\"]"));
        }
        Ok(header)
    }
}

/// The protected header with its members in the contract's order.
fn header(typ: Typ, kid: &str) -> String {
    // A thumbprint is base64url: nothing in it needs escaping.
    format!(r#"{{"alg":"EdDSA","b64":false,"crit":["b64"],"kid":"{kid}","typ":"{typ}"}}"#)
}

/// A message of kind `typ` whose signature `sign` makes over the signing input; of any length.
pub(crate) fn flattened(
    typ: Typ,
    kid: &str,
    payload: &str,
    sign: impl FnOnce(&[u8]) -> [u8; 64],
) -> String {
    let protected = BASE64URL.encode(header(typ, kid));
    let signature = sign(&signing_input(&protected, payload));
    flatten(payload, &protected, &BASE64URL.encode(signature))
}

fn flatten(payload: &str, protected: &str, signature: &str) -> String {
    // Only the payload needs escaping; a string always serializes.
    let payload = serde_json::Value::from(payload);
    format!(r#"{{"payload":{payload},"protected":"{protected}","signature":"{signature}"}}"#)
}

/// RFC 7797 §3: the payload goes in as it is.
fn signing_input(protected: &str, payload: &str) -> Vec<u8> {
    [protected.as_bytes(), b".", payload.as_bytes()].concat()
}

fn link(signing_input: &[u8]) -> String {
    BASE64URL.encode(digest(&SHA256, signing_input))
}
