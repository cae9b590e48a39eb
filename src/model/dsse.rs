//! Dead Simple Signing Envelope v1.0: <https://github.com/secure-systems-lab/dsse>.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::excerpt::excerpt;

/// The payload type of in-toto statements, the only one taken.
pub const IN_TOTO: &str = "application/vnd.in-toto+json";

/// An envelope as it stands in the file; nothing of it is believed.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Envelope {
    pub payload: String,
    pub payload_type: String,
    pub signatures: Vec<EnvelopeSignature>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvelopeSignature {
    pub sig: String,
    /// Empty in model signatures; the key is told by the Sigstore bundle's hint.
    #[serde(default)]
    pub keyid: String,
}

/// What is wrong with an envelope before any signature is looked at.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    #[error("its payload type is {0:?}, not {IN_TOTO:?}")]
    PayloadType(String),
    #[error("it has {0} signatures, not one")]
    Signatures(usize),
    #[error("its signature names a key id, which model signatures leave empty")]
    KeyId,
    #[error("its {0} is not base64")]
    Base64(&'static str),
}

impl Envelope {
    pub fn new(payload: &[u8], signature: &[u8]) -> Self {
        Self {
            payload: STANDARD.encode(payload),
            payload_type: IN_TOTO.to_owned(),
            signatures: vec![EnvelopeSignature {
                sig: STANDARD.encode(signature),
                keyid: String::new(),
            }],
        }
    }

    /// The payload and its one signature, both still to be verified. The base64 engine is strict
    /// (padding, no stray bits), so that each has one spelling.
    pub fn open(&self) -> Result<(Vec<u8>, Vec<u8>), EnvelopeError> {
        if self.payload_type != IN_TOTO {
            return Err(EnvelopeError::PayloadType(excerpt(&self.payload_type)));
        }
        let [signature] = self.signatures.as_slice() else {
            return Err(EnvelopeError::Signatures(self.signatures.len()));
        };
        if !signature.keyid.is_empty() {
            return Err(EnvelopeError::KeyId);
        }
        let payload =
            STANDARD.decode(&self.payload).map_err(|_| EnvelopeError::Base64("payload"))?;
        let signature =
            STANDARD.decode(&signature.sig).map_err(|_| EnvelopeError::Base64("signature"))?;
        Ok((payload, signature))
    }
}

/// PAE, the bytes that are signed: `DSSEv1 LEN(type) type LEN(payload) payload`.
pub fn pre_authentication_encoding(payload: &[u8]) -> Vec<u8> {
    let mut encoded = format!("DSSEv1 {} {IN_TOTO} {} ", IN_TOTO.len(), payload.len()).into_bytes();
    encoded.extend_from_slice(payload);
    encoded
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn signed_bytes_are_those_of_the_specification() {
        assert_eq!(
            pre_authentication_encoding(b"{}"),
            b"DSSEv1 28 application/vnd.in-toto+json 2 {}"
        );
    }

    #[test]
    fn base64_has_one_spelling() {
        let mut envelope = Envelope::new(b"a", b"b");
        assert_eq!(envelope.payload, "YQ==");
        for other in ["YR==", "YQ=", "YQ", "YQ==\n", "YQ== "] {
            envelope.payload = other.to_owned();
            assert_eq!(envelope.open(), Err(EnvelopeError::Base64("payload")), "{other:?}");
        }
    }
}
