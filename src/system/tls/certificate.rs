//! What a certificate says of itself: enough to explain why it does not hold. Whether it holds is decided by
//! rustls, but for the very certificate that was given, see [`super::trust`].

use jiff::Timestamp;
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use x509_cert::Certificate;
use x509_cert::certificate::Version;
use x509_cert::der::asn1::{AnyRef, ObjectIdentifier, UintRef};
use x509_cert::der::{Decode, Encode, SliceReader};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, SubjectAltName};
use x509_cert::name::Name;

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// What to do about a key that ring does not know.
const SUPPORTED: &str = "supported are P-256, P-384, Ed25519 and RSA of 2048 bits or more";

/// A certificate that could be read. Nothing of it is believed.
#[derive(Debug, Clone)]
pub struct Known {
    pub der: CertificateDer<'static>,
    parsed: Certificate,
}

impl Known {
    pub fn parse(der: &CertificateDer<'_>) -> Option<Self> {
        let parsed = Certificate::from_der(der).ok()?;
        Some(Self { der: der.clone().into_owned(), parsed })
    }

    pub fn is_version_1(&self) -> bool {
        self.parsed.tbs_certificate().version() == Version::V1
    }

    pub fn is_authority(&self) -> bool {
        let constraints = self.parsed.tbs_certificate().get_extension::<BasicConstraints>();
        matches!(constraints, Ok(Some((_, BasicConstraints { ca: true, .. }))))
    }

    pub fn names_itself_as_issuer(&self) -> bool {
        let body = self.parsed.tbs_certificate();
        body.issuer() == body.subject()
    }

    pub fn was_issued_in_the_name_of(&self, other: &Self) -> bool {
        self.parsed.tbs_certificate().issuer() == other.parsed.tbs_certificate().subject()
    }

    pub fn subject(&self) -> String {
        shown(self.parsed.tbs_certificate().subject())
    }

    pub fn issuer(&self) -> String {
        shown(self.parsed.tbs_certificate().issuer())
    }

    pub fn not_before(&self) -> Timestamp {
        time(self.parsed.tbs_certificate().validity().not_before.to_unix_duration())
    }

    pub fn not_after(&self) -> Timestamp {
        time(self.parsed.tbs_certificate().validity().not_after.to_unix_duration())
    }

    /// The hosts and addresses it is for.
    pub fn names(&self) -> Vec<String> {
        let Ok(Some((_, SubjectAltName(names)))) =
            self.parsed.tbs_certificate().get_extension::<SubjectAltName>()
        else {
            return Vec::new();
        };
        let each = names.iter().filter_map(|name| match name {
            GeneralName::DnsName(name) => Some(clean(name.as_str())),
            GeneralName::IpAddress(bytes) => match bytes.as_bytes() {
                bytes @ [_, _, _, _] => {
                    Some(std::net::Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).to_string())
                }
                bytes => {
                    Some(std::net::Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).to_string())
                }
            },
            _ => None,
        });
        each.take(8).collect()
    }

    pub fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'static>> {
        let der = self.parsed.tbs_certificate().subject_public_key_info().to_der().ok()?;
        Some(SubjectPublicKeyInfoDer::from(der))
    }

    /// The algorithm of its key and the key itself, as signature algorithms of rustls want them.
    pub fn raw_key(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        let info = self.parsed.tbs_certificate().subject_public_key_info();
        let algorithm = AnyRef::from_der(&info.algorithm.to_der().ok()?).ok()?.value().to_vec();
        Some((algorithm, info.subject_public_key.as_bytes()?.to_vec()))
    }

    pub fn has_key(&self, key: &SubjectPublicKeyInfoDer<'_>) -> bool {
        self.public_key().is_some_and(|own| own.as_ref() == key.as_ref())
    }

    /// What is the matter with the kind of its key, if it cannot be used at all.
    pub fn unusable_key(&self) -> Option<String> {
        let info = self.parsed.tbs_certificate().subject_public_key_info();
        let curve = || info.algorithm.parameters.as_ref().and_then(|p| p.decode_as().ok());
        let what = match info.algorithm.oid {
            ED25519 => return None,
            RSA => match rsa_bits(info.subject_public_key.as_bytes()?) {
                Some(bits) if bits < 2048 => format!("an RSA key of {bits} bits only"),
                _ => return None,
            },
            EC => match curve() {
                Some(P256 | P384) => return None,
                Some(curve) => format!("a key on {}", curve_name(curve)),
                None => "a key on a curve without a name".to_owned(),
            },
            other => format!("a key of the kind {}", key_name(other)),
        };
        Some(format!("{what}, which is not supported: make it anew; {SUPPORTED}"))
    }

    /// The algorithm that it was signed by, and whether that is out of date.
    pub fn signed_by(&self) -> String {
        let oid = self.parsed.signature_algorithm().oid.to_string();
        match oid.as_str() {
            "1.2.840.113549.1.1.4" => "MD5, which is broken",
            "1.2.840.113549.1.1.5" | "1.2.840.10045.4.1" => "SHA-1, which is broken",
            "1.2.840.10045.4.3.4" => "ECDSA and SHA-512, as by a CA with a key on P-521",
            "1.3.101.113" => "Ed448",
            other => other,
        }
        .to_owned()
    }
}

/// The common name, or all of a name that has none.
fn shown(name: &Name) -> String {
    let common = name.iter().find(|part| part.oid == COMMON_NAME).map(|part| {
        let text = part.to_string();
        text.split_once('=').map_or(text.clone(), |(_, value)| value.to_owned())
    });
    let text = common.unwrap_or_else(|| name.to_string());
    if text.is_empty() { "(without a name)".to_owned() } else { clean(&text) }
}

/// Somebody else's text, for a message.
fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

fn time(since_epoch: std::time::Duration) -> Timestamp {
    i64::try_from(since_epoch.as_secs())
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .unwrap_or(Timestamp::MAX)
}

/// A date as people write it.
pub fn date(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

fn rsa_bits(key: &[u8]) -> Option<usize> {
    // SEQUENCE { modulus INTEGER, exponent INTEGER }
    let body = AnyRef::from_der(key).ok()?.value();
    let mut reader = SliceReader::new(body).ok()?;
    let modulus = UintRef::decode(&mut reader).ok()?;
    let bytes = modulus.as_bytes();
    Some(bytes.len() * 8 - bytes.first()?.leading_zeros() as usize)
}

fn curve_name(oid: ObjectIdentifier) -> String {
    match oid.to_string().as_str() {
        "1.3.132.0.35" => "the curve P-521".to_owned(),
        "1.3.132.0.10" => "the curve secp256k1".to_owned(),
        "1.3.132.0.33" => "the curve P-224".to_owned(),
        other if other.starts_with("1.3.36.3.3.2.8.1.1") => "a Brainpool curve".to_owned(),
        other => format!("the curve {other}"),
    }
}

fn key_name(oid: ObjectIdentifier) -> String {
    match oid.to_string().as_str() {
        "1.3.101.113" => "Ed448".to_owned(),
        "1.2.840.10040.4.1" => "DSA".to_owned(),
        "1.2.840.113549.1.1.10" => "RSA-PSS".to_owned(),
        other => other.to_owned(),
    }
}
