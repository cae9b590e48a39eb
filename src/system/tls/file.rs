//! Certificates and keys in files as people make them: PEM with the line ends and byte order marks of any
//! editor, or DER; and what a file is that is neither.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::TlsError;
use super::certificate::Known;
use crate::system::bounded;
use crate::system::dial;
use crate::system::secret;

/// Largest file with certificates, in bytes: a system's whole store has a quarter of it.
const LIMIT: u64 = 1 << 20;

/// What is wrong with a file that the configuration names.
#[derive(Debug, thiserror::Error)]
#[error("`{key}` {}: {what}", .path.display())]
pub struct FileError {
    pub key: &'static str,
    pub path: PathBuf,
    pub what: String,
}

impl FileError {
    pub fn new(key: &'static str, path: &Path, what: impl Into<String>) -> Self {
        Self { key, path: path.to_owned(), what: what.into() }
    }
}

/// All certificates of a file; at least one.
pub fn certificates(
    key: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let wrong = |what: String| FileError::new(key, path, what);
    let bytes = read(path).map_err(&wrong)?;
    parse_certificates(&bytes).map_err(wrong)
}

/// A private key that nobody but its owner and its owner's group may read.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let wrong = |what: String| FileError::new("key", path, what);
    // A service's group may read it; nobody else.
    let bytes = secret::read_file(path, 0o007)?.ok_or_else(|| wrong("is not there".to_owned()))?;
    Ok(parse_key(&bytes).map_err(wrong)?)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    bounded::read(path, LIMIT).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "is not there".to_owned(),
        std::io::ErrorKind::PermissionDenied => {
            "may not be read by this user: let its group or all read it (chmod g+r, chmod o+r), \
             and its folders be entered"
                .to_owned()
        }
        // In words of our own.
        std::io::ErrorKind::InvalidData => format!("is {error}"),
        _ => dial::words(&error),
    })
}

fn parse_certificates(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let Some(text) = text(bytes)? else {
        let der = CertificateDer::from(bytes.to_vec());
        if Known::parse(&der).is_some() {
            return Ok(vec![der]);
        }
        return Err(binary(bytes, "a certificate"));
    };
    let found: Vec<_> =
        CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<_, _>>().map_err(torn)?;
    if !found.is_empty() {
        return Ok(found);
    }
    Err(match labels(&text).first() {
        None => format!("{}, and holds no certificate", not_pem(&text)),
        Some(label) if label.ends_with("PRIVATE KEY") => {
            "holds a private key where a certificate belongs: are `cert` and `key` swapped?"
                .to_owned()
        }
        Some(label) => other(label, "a certificate"),
    })
}

fn parse_key(bytes: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    let Some(text) = text(bytes)?.map(|text| Zeroizing::new(text.into_owned())) else {
        return PrivateKeyDer::try_from(bytes)
            .map(|key| key.clone_key())
            .map_err(|_| binary(bytes, "a private key"));
    };
    let labels = labels(&text);
    let sealed = text.contains("Proc-Type: 4,ENCRYPTED");
    if sealed || labels.contains(&"ENCRYPTED PRIVATE KEY") {
        return Err(
            "is locked by a passphrase, which a daemon cannot type: openssl pkey -in FILE -out \
                    unlocked.key, then chmod 0600"
                .to_owned(),
        );
    }
    match PrivateKeyDer::from_pem_slice(text.as_bytes()) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) => Err(match labels.first() {
            None => format!("{}, and holds no private key", not_pem(&text)),
            Some(&"CERTIFICATE") => {
                "holds a certificate where a private key belongs: are `cert` and `key` swapped?"
                    .to_owned()
            }
            Some(&"EC PARAMETERS") => {
                "holds the name of a curve and no key: openssl ecparam -name prime256v1 -genkey"
                    .to_owned()
            }
            Some(label) => other(label, "a private key"),
        }),
        Err(error) => Err(torn(error)),
    }
}

/// The file as text with line ends that everything reads; `None` if it is binary.
fn text(bytes: &[u8]) -> Result<Option<Cow<'_, str>>, String> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err("is empty".to_owned());
    }
    let utf16 = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let units: Vec<_> = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]])).collect();
        String::from_utf16(&units).ok()
    };
    let text = match bytes {
        [0xef, 0xbb, 0xbf, rest @ ..] => std::str::from_utf8(rest).ok().map(str::to_owned),
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        // Comments before PEM may be of any encoding.
        _ if find(bytes, b"-----BEGIN ") => Some(String::from_utf8_lossy(bytes).into_owned()),
        [0x30, ..] => None,
        _ => {
            let text = std::str::from_utf8(bytes).ok();
            let strange = |c: char| c.is_control() && !c.is_whitespace();
            text.filter(|text| !text.contains(strange)).map(str::to_owned)
        }
    };
    // Lines that were indented by whatever they were copied from.
    let trimmed = |text: String| {
        let lines: Vec<_> = text.split(['\r', '\n']).map(str::trim).collect();
        Cow::Owned(lines.join("\n"))
    };
    Ok(text.map(trimmed))
}

fn find(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|part| part == wanted)
}

/// The kinds of what a PEM file holds.
fn labels(text: &str) -> Vec<&str> {
    text.lines()
        .filter_map(|line| line.strip_prefix("-----BEGIN ")?.strip_suffix("-----"))
        .collect()
}

/// A PEM file with something else.
fn other(label: &str, wanted: &str) -> String {
    let what = match label {
        "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => {
            "a request for a certificate, which has yet to be signed by a CA (openssl x509 -req …)"
        }
        "PUBLIC KEY" | "RSA PUBLIC KEY" => "a public key alone",
        "OPENSSH PRIVATE KEY" => "a key of ssh's",
        "TRUSTED CERTIFICATE" => {
            return "holds a certificate in OpenSSL's own format: openssl x509 -in FILE -out plain.pem"
                .to_owned();
        }
        "PKCS7" => {
            return "holds a PKCS#7 bundle: openssl pkcs7 -in FILE -print_certs -out ca.pem"
                .to_owned();
        }
        "X509 CRL" => "a list of revoked certificates",
        "DH PARAMETERS" | "EC PARAMETERS" => "parameters",
        _ => return format!("holds \"{}\" and not {wanted}", short(label)),
    };
    format!("holds {what}, not {wanted}")
}

/// A binary file with something else.
fn binary(bytes: &[u8], wanted: &str) -> String {
    // The object identifiers of PKCS#7 data, and the version that a PKCS#12 file begins with.
    const PKCS7: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07];
    let head = &bytes[..bytes.len().min(64)];
    let pkcs12 = find(&head[..head.len().min(8)], &[0x02, 0x01, 0x03]);
    if head.first() == Some(&0x30) && pkcs12 && find(head, PKCS7) {
        return "is a PKCS#12 file (.p12, .pfx): openssl pkcs12 -in FILE -nokeys -out cert.pem, and -nocerts \
                -noenc -out key.pem"
            .to_owned();
    }
    if head.first() == Some(&0x30) && find(head, PKCS7) {
        return "is a PKCS#7 bundle (.p7b): openssl pkcs7 -inform der -in FILE -print_certs -out ca.pem"
            .to_owned();
    }
    if wanted == "a certificate" && PrivateKeyDer::try_from(bytes).is_ok() {
        return "holds a private key where a certificate belongs: are `cert` and `key` swapped?"
            .to_owned();
    }
    if wanted != "a certificate" && Known::parse(&CertificateDer::from(bytes.to_vec())).is_some() {
        return "holds a certificate where a private key belongs: are `cert` and `key` swapped?"
            .to_owned();
    }
    format!("is neither PEM nor DER of {wanted}, or is damaged")
}

fn not_pem(text: &str) -> &'static str {
    if text.trim_start().starts_with('<') {
        "is a web page: what was saved is not the certificate itself"
    } else {
        "is no PEM file (no line -----BEGIN CERTIFICATE-----)"
    }
}

fn torn(error: pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => {
            "is cut off: a line -----END …----- is missing".to_owned()
        }
        _ => "is damaged: what lies between its BEGIN and END lines is not base64".to_owned(),
    }
}

fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(40).collect()
}
