//! Signing a bundle's directory, so that [`super::bundle`] and PyPI's `model-signing` verify it.

use std::io::Write;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use pkcs8::PrivateKeyInfoRef;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair,
};
use rustix::fs::{AtFlags, Mode, OFlags, fsync, openat, renameat, unlinkat};
use sec1::EcPrivateKey;
use spki::der::SecretDocument;

use super::anchors::{Anchor, TrustAnchors};
use super::bundle::{BundleError, BundleFault, MANIFEST_FILE, parse_manifest, read_files};
use super::digest::Sha256;
use super::directory::Directory;
use super::dsse::pre_authentication_encoding;
use super::public_key::{Curve, EC_PUBLIC_KEY, PublicKey};
use super::signature::{self, SIGNATURE_FILE};
use super::statement::{IGNORED, SignedFiles};
use crate::system::secret::{self, SecretError};

/// Under this name the new signature is written before it takes the old one's place.
const UNFINISHED: &str = ".model.sig.new";

/// A private ECDSA key on P-256 or P-384.
#[derive(Debug)]
pub struct SigningKey {
    pair: EcdsaKeyPair,
    file: PathBuf,
    public: PublicKey,
}

/// Why a directory was not signed; what was there is as it was.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("signing key {}: there is no such file", .0.display())]
    NoKey(PathBuf),
    #[error("signing key {}: {why}", .path.display())]
    Key { path: PathBuf, why: String },
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error("model bundle {}: {file}: the reference tool leaves it out of signatures; take it away", .directory.display())]
    LeftOut { directory: PathBuf, file: String },
    #[error("model bundle {}: {SIGNATURE_FILE}: {source}", .directory.display())]
    Write { directory: PathBuf, source: std::io::Error },
    #[error("the signature could not be made: {0}")]
    Crypto(String),
}

impl SigningKey {
    /// Reads a PEM file, PKCS#8 or SEC1, that only its owner may read.
    pub fn read(path: &Path) -> Result<Self, SignError> {
        let bytes = secret::read_file(path, 0o077)?;
        let bytes = bytes.ok_or_else(|| SignError::NoKey(path.to_owned()))?;
        let (pair, public) = parse_key(&bytes)
            .map_err(|why| SignError::Key { path: path.to_owned(), why: why.to_owned() })?;
        Ok(Self { pair, file: path.to_owned(), public })
    }

    pub fn public(&self) -> &PublicKey {
        &self.public
    }
}

/// Signs all files of a directory, which must be fit to be verified, and replaces its `model.sig`.
/// If there is a `bundle.toml`, it has to make sense.
pub fn sign(
    path: &Path,
    key: &SigningKey,
    expires: Option<Timestamp>,
) -> Result<SignedFiles, SignError> {
    let fault = |fault: BundleFault| SignError::Bundle(fault.of(path));
    let directory = Directory::open(path).map_err(|error| fault(error.into()))?;
    let write_error = |source| SignError::Write { directory: path.to_owned(), source };
    discard(&directory).map_err(write_error)?;

    let mut names = directory.list().map_err(|error| fault(error.into()))?;
    names.remove(SIGNATURE_FILE);
    if let Some(file) = IGNORED.into_iter().find(|file| names.contains(*file)) {
        return Err(SignError::LeftOut { directory: path.to_owned(), file: file.to_owned() });
    }
    let contents = read_files(&directory, names.iter()).map_err(fault)?;
    if contents.contains_key(MANIFEST_FILE) {
        parse_manifest(&contents).map_err(fault)?;
    }
    let files = contents.iter().map(|(name, bytes)| (name.clone(), Sha256::of(bytes))).collect();
    let signed = SignedFiles::new(files, expires).map_err(|error| fault(error.into()))?;

    let text = compose(path, &signed, key)?;
    // What we are about to write has to pass our own verification.
    let anchor = Anchor { file: key.file.clone(), key: key.public.clone() };
    let anchors = TrustAnchors::new(vec![anchor])
        .ok_or_else(|| SignError::Crypto("there is no key to verify it with".to_owned()))?;
    let payload = signature::verify(&text, &anchors).map_err(|error| fault(error.into()))?;
    SignedFiles::parse(&payload, Timestamp::now()).map_err(|error| fault(error.into()))?;

    replace(&directory, &text).map_err(write_error)?;
    Ok(signed)
}

fn compose(path: &Path, signed: &SignedFiles, key: &SigningKey) -> Result<Vec<u8>, SignError> {
    let crypto = |error: &dyn std::fmt::Display| SignError::Crypto(error.to_string());
    let name = path.canonicalize().ok();
    let name = name.as_deref().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    let payload = signed.compose(&name).map_err(|error| crypto(&error))?;
    let raw = key
        .pair
        .sign(&SystemRandom::new(), &pre_authentication_encoding(&payload))
        .map_err(|error| crypto(&error))?;
    signature::compose(&payload, raw.as_ref(), key.public.hint()).map_err(|error| crypto(&error))
}

/// Takes away what an interrupted run may have left.
fn discard(directory: &Directory) -> std::io::Result<()> {
    match unlinkat(directory, UNFINISHED, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Whole or not at all: written beside, made durable, then renamed.
fn replace(directory: &Directory, text: &[u8]) -> std::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
    let mut file = std::fs::File::from(openat(directory, UNFINISHED, flags, mode)?);
    let written = file
        .write_all(text)
        .and_then(|()| file.sync_all())
        .and_then(|()| Ok(renameat(directory, UNFINISHED, directory, SIGNATURE_FILE)?));
    if written.is_err() {
        discard(directory)?;
    }
    written?;
    Ok(fsync(directory)?)
}

/// Both forms hold an `ECPrivateKey` (RFC 5915); PKCS#8 tells the curve outside of it.
fn parse_key(pem: &[u8]) -> Result<(EcdsaKeyPair, PublicKey), &'static str> {
    let text = std::str::from_utf8(pem).map_err(|_| "it is not a PEM text")?;
    // `openssl ecparam -genkey` puts a block with the curve before the key.
    let start = text.find("-----BEGIN EC PRIVATE KEY-----").unwrap_or_default();
    let (label, document) = SecretDocument::from_pem(text.get(start..).unwrap_or_default())
        .map_err(|_| "it is not a PEM text")?;
    let not_ecdsa = "it is not an ECDSA key on P-256 or P-384";
    match label {
        "PRIVATE KEY" => {
            let info: PrivateKeyInfoRef<'_> =
                document.decode_msg().map_err(|_| "its PRIVATE KEY is not PKCS#8")?;
            let Ok((EC_PUBLIC_KEY, Some(oid))) = info.algorithm.oids() else {
                return Err(not_ecdsa);
            };
            let key = EcPrivateKey::try_from(info.private_key.as_bytes()).map_err(|_| not_ecdsa)?;
            key_pair(Curve::of(oid).ok_or(not_ecdsa)?, &key)
        }
        "EC PRIVATE KEY" => {
            let key: EcPrivateKey<'_> =
                document.decode_msg().map_err(|_| "its EC PRIVATE KEY is not SEC1")?;
            let oid = key.parameters.and_then(sec1::EcParameters::named_curve);
            key_pair(oid.and_then(Curve::of).ok_or(not_ecdsa)?, &key)
        }
        "ENCRYPTED PRIVATE KEY" => Err("it is encrypted; decrypt it first (openssl pkey)"),
        _ => Err("it is neither a PRIVATE KEY (PKCS#8) nor an EC PRIVATE KEY (SEC1)"),
    }
}

fn key_pair(
    curve: Curve,
    key: &EcPrivateKey<'_>,
) -> Result<(EcdsaKeyPair, PublicKey), &'static str> {
    let algorithm = match curve {
        Curve::P256 => &ECDSA_P256_SHA256_ASN1_SIGNING,
        Curve::P384 => &ECDSA_P384_SHA384_ASN1_SIGNING,
    };
    let point = key.public_key.ok_or("its public half is missing; openssl pkey writes it")?;
    let pair = EcdsaKeyPair::from_private_key_and_public_key(
        algorithm,
        key.private_key,
        point,
        &SystemRandom::new(),
    )
    .map_err(|_| "its public half does not belong to its private half")?;
    let public =
        PublicKey::from_point(curve, point).map_err(|_| "its point is not on its curve")?;
    Ok((pair, public))
}
