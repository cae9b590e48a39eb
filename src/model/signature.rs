//! `model.sig`: OpenSSF Model Signing v1.0, a Sigstore bundle v0.3 around a DSSE envelope.
//!
//! What is read before the signature is verified is as little as can be: the outer JSON, into types
//! that take what PyPI's `model-signing` writes and nothing else. Every part of it that the
//! signature does not cover must have the one value it should have, so that no bit is free.

use serde::{Deserialize, Serialize};

use super::anchors::{Anchor, TrustAnchors};
use super::digest::Sha256;
use super::dsse::{Envelope, EnvelopeError, pre_authentication_encoding};
use super::excerpt::excerpt;

/// Name of the signature file in a bundle.
pub const SIGNATURE_FILE: &str = "model.sig";

const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SigstoreBundle {
    media_type: String,
    verification_material: VerificationMaterial,
    dsse_envelope: Envelope,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct VerificationMaterial {
    public_key: PublicKeyIdentifier,
    /// A signature by a key has no transparency log.
    #[serde(default)]
    tlog_entries: [(); 0],
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PublicKeyIdentifier {
    hint: String,
}

/// The bytes of a statement that one of the trust anchors has signed.
#[derive(Debug)]
pub struct VerifiedPayload {
    bytes: Vec<u8>,
    signer: Anchor,
}

/// Why a signature is not one to rely on.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    #[error("it is not a Sigstore bundle with a DSSE envelope signed by a key: {0}")]
    Malformed(String),
    #[error("its media type is {0:?}, not {MEDIA_TYPE:?}")]
    MediaType(String),
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    #[error("not signed by a trusted key ({tried}); it says it is by the key {hint:?}")]
    Stranger { tried: String, hint: String },
    #[error("it says it is by the key {hint:?}, but it is by {signer}")]
    FalseHint { hint: String, signer: String },
}

/// Verifies the text of a `model.sig` against the anchors. The hint never chooses whom to trust:
/// every anchor is tried, and then the hint has to name the one that fits.
pub fn verify(text: &[u8], anchors: &TrustAnchors) -> Result<VerifiedPayload, SignatureError> {
    // A tab and a carriage return are one bit apart and mean the same to JSON.
    if text.contains(&b'\r') {
        return Err(SignatureError::Malformed("it has carriage returns".to_owned()));
    }
    let bundle: SigstoreBundle = serde_json::from_slice(text)
        .map_err(|error| SignatureError::Malformed(excerpt(&error.to_string())))?;
    if bundle.media_type != MEDIA_TYPE {
        return Err(SignatureError::MediaType(excerpt(&bundle.media_type)));
    }
    let hint = bundle.verification_material.public_key.hint;
    let (payload, signature) = bundle.dsse_envelope.open()?;
    let message = pre_authentication_encoding(&payload);
    let signer = anchors.iter().find(|anchor| anchor.key.verifies(&message, &signature));
    match signer {
        None => Err(SignatureError::Stranger {
            tried: anchors.iter().map(Anchor::name).collect::<Vec<_>>().join(", "),
            hint: excerpt(&hint),
        }),
        Some(anchor) if anchor.key.hint().to_string() != hint => {
            Err(SignatureError::FalseHint { hint: excerpt(&hint), signer: anchor.name() })
        }
        Some(anchor) => Ok(VerifiedPayload { bytes: payload, signer: anchor.clone() }),
    }
}

/// The text of a `model.sig`.
pub(super) fn compose(
    payload: &[u8],
    signature: &[u8],
    hint: Sha256,
) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&SigstoreBundle {
        media_type: MEDIA_TYPE.to_owned(),
        verification_material: VerificationMaterial {
            public_key: PublicKeyIdentifier { hint: hint.to_string() },
            tlog_entries: [],
        },
        dsse_envelope: Envelope::new(payload, signature),
    })
}

impl VerifiedPayload {
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn signer(&self) -> &Anchor {
        &self.signer
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
    use serde_json::Value;

    use super::super::public_key::{Curve, PublicKey};
    use super::*;

    /// A signature over "{}", and the anchor it is verified with.
    fn signed() -> (Value, TrustAnchors) {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap();
        let key = PublicKey::from_point(Curve::P256, pair.public_key().as_ref()).unwrap();
        let raw = pair.sign(&random, &pre_authentication_encoding(b"{}")).unwrap();
        let text = compose(b"{}", raw.as_ref(), key.hint()).unwrap();
        let anchors = TrustAnchors::new(vec![Anchor { file: "a.pub".into(), key }]).unwrap();
        (serde_json::from_slice(&text).unwrap(), anchors)
    }

    /// Whatever its layout, every bit of the file counts.
    #[test]
    fn every_flipped_bit_is_noticed() {
        let (signature, anchors) = signed();
        let spread = serde_json::to_string_pretty(&signature).unwrap();
        for text in [signature.to_string(), spread.replace("  ", "\t"), spread + "\n"] {
            verify(text.as_bytes(), &anchors).unwrap();
            for bit in 0..text.len() * 8 {
                let mut flipped = text.clone().into_bytes();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(verify(&flipped, &anchors).is_err(), "bit {bit} of\n{text}");
            }
        }
    }

    #[test]
    fn key_named_twice() {
        let (signature, anchors) = signed();
        let text = signature.to_string();
        let twice = text.replacen("\"hint\":", "\"hint\":\"\",\"hint\":", 1);
        assert!(matches!(verify(twice.as_bytes(), &anchors), Err(SignatureError::Malformed(_))));
    }
}
