//! A key's word for the one that takes its place, so that who knows the old key can follow to the new
//! one and to no other.
//!
//! A compact JWS (RFC 7515 §7.1) by the old key. Unlike the messages on topics its payload is encoded, so
//! neither can be taken for the other, and several fit into one identity message.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use jiff::Timestamp;
use ring::signature::{ED25519, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use super::jwk::PublicKey;
use super::jws::{Typ, VerifyError};
use super::key::DeviceKey;
use crate::config::DeviceName;

/// Former keys that an identity message carries, at most: what fits into 4 KiB beside the new one. A
/// consumer who missed more rotations must be told the key anew.
pub const MOST: usize = 5;
/// Longest vouch that is looked at, in bytes.
const LIMIT: usize = 1024;

/// Where a chain ended: its last event's number (0: it had none) and [link](super::SignedMessage::link).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Last {
    pub seq: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

/// A key that was replaced, and where its chain ended; `None` where the device itself had lost that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Former {
    pub key: PublicKey,
    pub last: Option<Last>,
}

/// A vouch as it came: well formed, not yet believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Vouch {
    text: String,
    kid: String,
    statement: Statement,
    signature: [u8; 64],
}

/// What it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Statement {
    v: u64,
    pub device: String,
    /// `kid` of the new key: its thumbprint, which stands for no other key.
    pub successor: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Last>,
    time: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    kid: String,
    typ: Typ,
}

impl Vouch {
    /// `key` vouches for `successor`.
    pub fn new(
        key: &DeviceKey,
        device: &DeviceName,
        successor: &PublicKey,
        last: Option<Last>,
    ) -> Self {
        let header =
            Header { alg: "EdDSA".to_owned(), kid: key.kid().to_owned(), typ: Typ::Identity };
        let statement = Statement {
            v: 1,
            device: device.to_string(),
            successor: successor.kid().to_owned(),
            last,
            time: format!("{:.0}", Timestamp::now()),
        };
        let encode = |json: serde_json::Result<String>| BASE64URL.encode(json.unwrap_or_default());
        let input = format!(
            "{}.{}",
            encode(serde_json::to_string(&header)),
            encode(serde_json::to_string(&statement))
        );
        let signature = key.sign_bytes(input.as_bytes());
        let text = format!("{input}.{}", BASE64URL.encode(signature));
        Self { text, kid: header.kid, statement, signature }
    }

    pub fn parse(text: &str) -> Result<Self, VerifyError> {
        let wrong = |what: String| VerifyError::Payload(format!("vouch: {what}"));
        if text.len() > LIMIT {
            return Err(wrong(format!("more than {LIMIT} bytes")));
        }
        let parts: Vec<&str> = text.split('.').collect();
        let [header, payload, signature] = parts[..] else {
            return Err(wrong("not three parts".to_owned()));
        };
        let decode = |part: &str| {
            BASE64URL.decode(part).map_err(|_| wrong("not canonical base64url".to_owned()))
        };
        let header: Header = serde_json::from_slice(&decode(header)?)
            .map_err(|e| wrong(format!("protected header: {e}")))?;
        if header.alg != "EdDSA" || header.typ != Typ::Identity {
            return Err(wrong(format!("alg {:?}, typ {}", header.alg, header.typ)));
        }
        let statement: Statement =
            serde_json::from_slice(&decode(payload)?).map_err(|e| wrong(e.to_string()))?;
        if statement.v != 1 {
            return Err(wrong(format!("of version {}, not 1", statement.v)));
        }
        let signature = decode(signature)?
            .try_into()
            .map_err(|_| wrong("the signature has not 64 bytes".to_owned()))?;
        Ok(Self { text: text.to_owned(), kid: header.kid, statement, signature })
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What it says; not proven.
    pub fn claim(&self) -> &Statement {
        &self.statement
    }

    /// What `key` said.
    pub fn verify(self, key: &PublicKey) -> Result<Statement, VerifyError> {
        if self.kid != key.kid() {
            return Err(VerifyError::UnknownKey(self.kid));
        }
        let (input, _) = self.text.rsplit_once('.').unwrap_or_default();
        UnparsedPublicKey::new(&ED25519, key.as_bytes())
            .verify(input.as_bytes(), &self.signature)
            .map_err(|_| VerifyError::Payload("vouch: the signature does not hold".to_owned()))?;
        Ok(self.statement)
    }
}

/// The line of keys behind `current`, newest first: `vouches[i]` must be the word of `former[i]` for the
/// key before it in the line.
pub(super) fn prove(
    device: &str,
    current: &PublicKey,
    former: Vec<PublicKey>,
    vouches: Vec<Vouch>,
) -> Result<Vec<Former>, VerifyError> {
    let wrong = |what: String| Err(VerifyError::Payload(what));
    if former.len() != vouches.len() {
        return wrong(format!("{} former keys, but {} vouches", former.len(), vouches.len()));
    }
    let mut successor = current.kid().to_owned();
    let mut line = Vec::new();
    for (key, vouch) in former.into_iter().zip(vouches) {
        let said = vouch.verify(&key)?;
        if said.device != device {
            return wrong(format!("a vouch for the device {:?}, not for {device:?}", said.device));
        }
        if said.successor != successor {
            return wrong(format!(
                "key {} vouches for {}, not for {successor}",
                key.kid(),
                plain(&said.successor)
            ));
        }
        key.kid().clone_into(&mut successor);
        line.push(Former { key, last: said.last });
    }
    Ok(line)
}

/// A claimed thumbprint for a message: short and without control characters.
fn plain(kid: &str) -> String {
    kid.chars().take(64).filter(char::is_ascii_graphic).collect()
}
