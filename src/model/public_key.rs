//! ECDSA public keys: PEM `SubjectPublicKeyInfo` (RFC 5480) on P-256 or P-384.

use ring::agreement;
use ring::signature::{self, UnparsedPublicKey};
use spki::der::asn1::{BitStringRef, ObjectIdentifier};
use spki::der::pem::LineEnding;
use spki::der::{AnyRef, Document, EncodePem};
use spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};

use super::digest::Sha256;

/// id-ecPublicKey, RFC 5480 §2.1.1.
pub(super) const EC_PUBLIC_KEY: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const SECP256R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const SECP384R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");

/// The curves that are taken; each goes with its hash (SHA-256, SHA-384), as model signing has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Curve {
    P256,
    P384,
}

impl Curve {
    pub(super) fn of(oid: ObjectIdentifier) -> Option<Self> {
        match oid {
            SECP256R1 => Some(Self::P256),
            SECP384R1 => Some(Self::P384),
            _ => None,
        }
    }

    fn oid(self) -> &'static ObjectIdentifier {
        match self {
            Self::P256 => &SECP256R1,
            Self::P384 => &SECP384R1,
        }
    }
}

impl std::fmt::Display for Curve {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
        })
    }
}

/// A public key whose point lies on its curve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    curve: Curve,
    /// Uncompressed: 4, x, y.
    point: Vec<u8>,
    hint: Sha256,
}

/// Why a text is not a key that can be used.
#[derive(Debug, thiserror::Error)]
pub enum PublicKeyError {
    #[error("it is not one PEM block: {0}")]
    Pem(spki::der::Error),
    #[error("it holds a {0:?}, not a \"PUBLIC KEY\"")]
    Label(String),
    #[error("its PUBLIC KEY is not a SubjectPublicKeyInfo: {0}")]
    Der(spki::der::Error),
    #[error("it is not an ECDSA key on P-256 or P-384")]
    Algorithm,
    #[error("its point is not an uncompressed point on {0}")]
    Point(Curve),
}

impl PublicKey {
    /// Reads a PEM text with exactly one key.
    pub fn from_pem(pem: &str) -> Result<Self, PublicKeyError> {
        let (label, document) = Document::from_pem(pem).map_err(PublicKeyError::Pem)?;
        if label != "PUBLIC KEY" {
            return Err(PublicKeyError::Label(label.to_owned()));
        }
        let spki: SubjectPublicKeyInfoRef<'_> =
            document.decode_msg().map_err(PublicKeyError::Der)?;
        let curve = match spki.algorithm.oids() {
            Ok((EC_PUBLIC_KEY, Some(oid))) => Curve::of(oid).ok_or(PublicKeyError::Algorithm)?,
            _ => return Err(PublicKeyError::Algorithm),
        };
        let point = spki.subject_public_key.as_bytes().ok_or(PublicKeyError::Point(curve))?;
        Self::from_point(curve, point)
    }

    pub(super) fn from_point(curve: Curve, point: &[u8]) -> Result<Self, PublicKeyError> {
        if !on_curve(curve, point) {
            return Err(PublicKeyError::Point(curve));
        }
        let hint = Sha256::of(encode(curve, point).map_err(PublicKeyError::Der)?.as_bytes());
        Ok(Self { curve, point: point.to_owned(), hint })
    }

    pub fn curve(&self) -> Curve {
        self.curve
    }

    /// What Sigstore bundles call the key: SHA-256 of its PEM text (64 columns, LF).
    pub fn hint(&self) -> Sha256 {
        self.hint
    }

    /// Whether `signature` (ASN.1 DER) over `message` was made with this key's private half.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let algorithm = match self.curve {
            Curve::P256 => &signature::ECDSA_P256_SHA256_ASN1,
            Curve::P384 => &signature::ECDSA_P384_SHA384_ASN1,
        };
        UnparsedPublicKey::new(algorithm, &self.point).verify(message, signature).is_ok()
    }
}

fn encode(curve: Curve, point: &[u8]) -> Result<String, spki::der::Error> {
    SubjectPublicKeyInfoRef {
        algorithm: AlgorithmIdentifierRef {
            oid: EC_PUBLIC_KEY,
            parameters: Some(AnyRef::from(curve.oid())),
        },
        subject_public_key: BitStringRef::from_bytes(point)?,
    }
    .to_pem(LineEnding::LF)
}

/// A key agreement with a throw-away key fails for anything but an uncompressed point on the curve:
/// ring's only door to that check that needs no signature.
fn on_curve(curve: Curve, point: &[u8]) -> bool {
    let algorithm = match curve {
        Curve::P256 => &agreement::ECDH_P256,
        Curve::P384 => &agreement::ECDH_P384,
    };
    let random = ring::rand::SystemRandom::new();
    agreement::EphemeralPrivateKey::generate(algorithm, &random).is_ok_and(|private| {
        let peer = agreement::UnparsedPublicKey::new(algorithm, point);
        agreement::agree_ephemeral(private, &peer, |_| ()).is_ok()
    })
}
