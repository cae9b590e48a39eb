//! Verifies events of one device, one on a line of standard input, by the crate jsonwebtoken.
//!
//! ```console
//! $ familiar key show >porch.jwk      # on the device
//! $ mosquitto_sub -h BROKER -q 1 -t familiar/porch/event | cargo run --release -- porch.jwk
//! ```
//!
//! docs/messages.md says what a consumer does besides: the payload's device, its number `seq`, its link `prev`.

use std::error::Error;
use std::io::BufRead;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, crypto, decode_header};
use serde::Deserialize;

/// JWS in flattened JSON. A member more, or one twice, is refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    payload: String,
    protected: String,
    signature: String,
}

struct Device {
    key: DecodingKey,
    kid: String,
}

impl Device {
    fn from_jwk(text: &str) -> Result<Self, Box<dyn Error>> {
        let jwk: Jwk = serde_json::from_str(text)?;
        match &jwk.algorithm {
            AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {}
            _ => return Err("no Ed25519 key".into()),
        }
        Ok(Self { key: DecodingKey::from_jwk(&jwk)?, kid: jwk.thumbprint(ThumbprintHash::SHA256)? })
    }

    /// The payload, if this device signed it as an event.
    fn verify(&self, line: &str) -> Result<String, Box<dyn Error>> {
        let Envelope { payload, protected, signature } = serde_json::from_str(line)?;
        // What the message says of itself is compared with what is expected, and decides nothing.
        let header = decode_header(format!("{protected}..{signature}"))?;
        let expected = header.alg == Algorithm::EdDSA
            && header.typ.as_deref() == Some("familiar-event+json")
            && header.kid.as_deref() == Some(&self.kid)
            && header.crit == Some(vec!["b64".to_owned()])
            && header.extras.get::<bool>("b64")? == Some(false);
        if !expected {
            return Err("another kind of message, or another device's".into());
        }
        // RFC 7797: the payload is signed as it is. `decode` knows encoded payloads alone.
        let signed = format!("{protected}.{payload}");
        if !crypto::verify(&signature, signed.as_bytes(), &self.key, Algorithm::EdDSA)? {
            return Err("the signature does not fit".into());
        }
        Ok(payload)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("verify-event JWK <EVENTS")?;
    let device = Device::from_jwk(&std::fs::read_to_string(path)?)?;
    for line in std::io::stdin().lock().lines() {
        match device.verify(&line?) {
            Ok(payload) => println!("verified {payload}"),
            Err(reason) => println!("REFUSED: {reason}"),
        }
    }
    Ok(())
}
