//! The device's public key as it introduces itself: a JWK set, signed by the key it holds
//! (contract §4), so that a consumer can pin it on first use.

use serde::Deserialize;

use super::jwk::{KeyRing, PublicKey};
use super::jws::{Envelope, SignedMessage, TooLong, Typ, Verified, VerifyError};
use super::key::DeviceKey;
use crate::config::DeviceName;

impl DeviceKey {
    /// The retained message on `identity`. Always the same text for the same key and device.
    pub fn identity(&self, device: &DeviceName) -> Result<SignedMessage, TooLong> {
        // A device's name needs no escaping.
        let jwk = self.public().to_jwk();
        self.sign(Typ::Identity, &format!(r#"{{"v":1,"device":"{device}","keys":[{jwk}]}}"#))
    }
}

/// A key that a device offers, proven to be in the sender's hands; whether it is the right sender is
/// for the one who pins it to decide.
#[derive(Debug, Clone)]
pub struct Introduction {
    pub device: String,
    pub key: PublicKey,
    pub verified: Verified,
}

/// Checks an identity message against the very key that it carries.
pub fn introduction(envelope: Envelope) -> Result<Introduction, VerifyError> {
    #[derive(Deserialize)]
    struct Named {
        v: u64,
        device: String,
    }
    let offered = KeyRing::from_json(envelope.unproven_payload())
        .map_err(|e| VerifyError::Payload(e.to_string()))?;
    let key = offered
        .get(envelope.kid())
        .cloned()
        .ok_or_else(|| VerifyError::Payload("does not carry the key it is signed by".to_owned()))?;
    let verified = envelope.verify(&key.clone().into(), Some(Typ::Identity))?;
    let Named { v, device } = serde_json::from_str(&verified.payload)
        .map_err(|e| VerifyError::Payload(format!("payload: {e}")))?;
    if v != 1 {
        return Err(VerifyError::Payload(format!("identity of version {v}, not 1")));
    }
    Ok(Introduction { device, key, verified })
}
