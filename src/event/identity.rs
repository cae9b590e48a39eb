//! The device's public key as it introduces itself: a JWK set, signed by the key it holds, with the vouches
//! of the keys before (contract §4), so that a consumer can pin it on first use and follow it later.

use serde::Deserialize;

use super::jwk::{self, PublicKey};
use super::jws::{Envelope, SignedMessage, TooLong, Typ, Verified, VerifyError};
use super::key::DeviceKey;
use super::vouch::{self, Former, MOST, Vouch};
use crate::config::DeviceName;

impl DeviceKey {
    /// The retained message on `identity`. Always the same text for the same key and device. Former
    /// keys are named as far as they fit.
    pub fn identity(&self, device: &DeviceName) -> Result<SignedMessage, TooLong> {
        let most = self.former(device.as_str()).take(MOST).count();
        for former in (1..=most).rev() {
            if let Ok(message) = self.identity_with(device, former) {
                return Ok(message);
            }
        }
        self.identity_with(device, 0)
    }

    fn identity_with(&self, device: &DeviceName, former: usize) -> Result<SignedMessage, TooLong> {
        let mut keys = self.public().to_jwk();
        let mut vouches = String::new();
        for (key, vouch) in self.former(device.as_str()).take(former) {
            keys.extend([",", &key.to_short_jwk()]);
            let comma = if vouches.is_empty() { "" } else { "," };
            vouches.extend([comma, "\"", vouch.as_str(), "\""]);
        }
        // Neither a device's name nor base64url needs escaping.
        let vouches =
            if former == 0 { String::new() } else { format!(r#","vouches":[{vouches}]"#) };
        let payload = format!(r#"{{"v":1,"device":"{device}","keys":[{keys}]{vouches}}}"#);
        self.sign(Typ::Identity, &payload)
    }
}

/// A key that a device offers, proven to be in the sender's hands; whether it is the right sender is
/// for the one who pins it to decide. Each key of the line behind it vouched for the next.
#[derive(Debug, Clone)]
pub struct Introduction {
    pub device: String,
    pub key: PublicKey,
    /// Newest first.
    pub former: Vec<Former>,
    pub verified: Verified,
}

/// Checks an identity message against the very key that it carries first, and the line of vouches that
/// leads to it.
pub fn introduction(envelope: Envelope) -> Result<Introduction, VerifyError> {
    #[derive(Deserialize)]
    struct Named {
        v: u64,
        device: String,
        #[serde(default)]
        vouches: Vec<String>,
    }
    let wrong = |what: String| VerifyError::Payload(what);
    let mut keys = jwk::set_from_json(envelope.unproven_payload())
        .map_err(|e| wrong(e.to_string()))?
        .into_iter();
    let key = keys
        .next()
        .filter(|key| key.kid() == envelope.kid())
        .ok_or_else(|| wrong("does not carry the key it is signed by first".to_owned()))?;
    let verified = envelope.verify(&key.clone().into(), Some(Typ::Identity))?;
    let Named { v, device, vouches } = serde_json::from_str(&verified.payload)
        .map_err(|e| VerifyError::Payload(format!("payload: {e}")))?;
    if v != 1 {
        return Err(wrong(format!("identity of version {v}, not 1")));
    }
    let vouches =
        vouches.iter().map(|text| Vouch::parse(text)).collect::<Result<Vec<_>, VerifyError>>()?;
    let former = vouch::prove(&device, &key, keys.collect(), vouches)?;
    Ok(Introduction { device, key, former, verified })
}
