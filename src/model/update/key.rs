//! Keys of TUF metadata: Ed25519, ECDSA on P-256 and P-384, RSA-PSS (TUF specification 4.2).

use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ED25519, RSA_PSS_2048_8192_SHA256,
    UnparsedPublicKey, VerificationAlgorithm,
};
use serde::Deserialize;
use spki::SubjectPublicKeyInfoRef;
use spki::der::Document;

/// A public key as metadata names it. What is not understood verifies nothing.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Key {
    keytype: String,
    scheme: String,
    keyval: Public,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Public {
    public: String,
}

/// Names a key by what it is, whatever id it goes by.
pub type Fingerprint<'a> = (&'a str, &'a str);

impl Key {
    /// The same key under two ids counts once.
    pub fn fingerprint(&self) -> Fingerprint<'_> {
        (self.scheme.as_str(), self.keyval.public.trim())
    }

    /// Whether this key made a signature (hexadecimal) over a message.
    pub fn verifies(&self, message: &[u8], signature: &str) -> bool {
        let Some(signature) = unhex(signature) else { return false };
        let Some((algorithm, key)) = self.key() else { return false };
        UnparsedPublicKey::new(algorithm, key).verify(message, &signature).is_ok()
    }

    fn key(&self) -> Option<(&'static dyn VerificationAlgorithm, Vec<u8>)> {
        let public = &self.keyval.public;
        match (self.keytype.as_str(), self.scheme.as_str()) {
            ("ed25519", "ed25519") => Some((&ED25519, unhex(public)?)),
            ("ecdsa" | "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256") => {
                Some((&ECDSA_P256_SHA256_ASN1, subject_key(public)?))
            }
            ("ecdsa" | "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp384") => {
                Some((&ECDSA_P384_SHA384_ASN1, subject_key(public)?))
            }
            ("rsa", "rsassa-pss-sha256") => Some((&RSA_PSS_2048_8192_SHA256, subject_key(public)?)),
            _ => None,
        }
    }
}

/// The key's bits in a PEM `SubjectPublicKeyInfo`.
fn subject_key(pem: &str) -> Option<Vec<u8>> {
    let (label, document) = Document::from_pem(pem.trim()).ok()?;
    let info: SubjectPublicKeyInfoRef<'_> = document.decode_msg().ok()?;
    (label == "PUBLIC KEY").then(|| info.subject_public_key.raw_bytes().to_vec())
}

pub(super) fn unhex(hex: &str) -> Option<Vec<u8>> {
    let nibble = |c: u8| char::from(c).to_digit(16).map(|digit| digit as u8);
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    let byte = |[high, low]: &[u8; 2]| Some(nibble(*high)? << 4 | nibble(*low)?);
    if rest.is_empty() { pairs.iter().map(byte).collect() } else { None }
}
