//! An operator's private key, at the operator's side.

use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use pkcs8::SecretDocument;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use zeroize::Zeroizing;

use super::request::Order;
use crate::event::jws::{self, Typ};
use crate::event::{PublicKey, new_key_pem};

/// Largest file that is read as a key, in bytes.
const KEY_LIMIT: u64 = 64 * 1024;

/// Signs commands.
pub struct OperatorKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

#[derive(Debug, thiserror::Error)]
pub enum OperatorKeyError {
    #[error("operator key {}: {source}", .path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("operator key {}: mode {mode:04o} lets others read it; chmod 0600", .path.display())]
    TooOpen { path: PathBuf, mode: u32 },
    #[error("operator key {}: not a PEM file of a PKCS#8 Ed25519 private key", .path.display())]
    Malformed { path: PathBuf },
    #[error("the system gives no random numbers")]
    NoRandomness,
}

impl OperatorKey {
    /// Reads the key, as `openssl genpkey -algorithm ed25519` or [`OperatorKey::create`] wrote it.
    pub fn open(path: &Path) -> Result<Self, OperatorKeyError> {
        let io = |source| OperatorKeyError::Io { path: path.to_owned(), source };
        let malformed = || OperatorKeyError::Malformed { path: path.to_owned() };
        let file = std::fs::File::open(path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        let mode = metadata.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(OperatorKeyError::TooOpen { path: path.to_owned(), mode });
        }
        if !metadata.is_file() || metadata.len() > KEY_LIMIT {
            return Err(malformed());
        }
        // Room for the whole from the start: growing would leave copies behind that nothing wipes.
        let mut bytes = Zeroizing::new(Vec::with_capacity(metadata.len() as usize + 1));
        file.take(KEY_LIMIT).read_to_end(&mut bytes).map_err(io)?;
        Self::from_pem(&bytes).ok_or_else(malformed)
    }

    /// Makes a key and its file, mode 0600. A file that is there already is an error.
    pub fn create(path: &Path) -> Result<Self, OperatorKeyError> {
        let pem = new_key_pem().map_err(|_| OperatorKeyError::NoRandomness)?;
        let write = || -> std::io::Result<()> {
            let mut file =
                std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            file.write_all(pem.as_bytes())?;
            file.sync_all()
        };
        write().map_err(|source| OperatorKeyError::Io { path: path.to_owned(), source })?;
        Self::open(path)
    }

    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The order as a signed command, one line of JSON.
    pub fn sign(&self, order: &Order) -> String {
        let payload = order.to_json();
        jws::flattened(Typ::Command, self.public.kid(), &payload, |input| {
            let mut signature = [0; 64];
            signature.copy_from_slice(self.pair.sign(input).as_ref());
            signature
        })
    }

    fn from_pem(pem: &[u8]) -> Option<Self> {
        let (label, der) = SecretDocument::from_pem(std::str::from_utf8(pem).ok()?).ok()?;
        // Version 1 of PKCS#8 (OpenSSL's and ours) has no public half to check against.
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.as_bytes()).ok()?;
        let bytes = pair.public_key().as_ref().try_into().ok()?;
        (label == "PRIVATE KEY").then(|| Self { pair, public: PublicKey::from_bytes(bytes) })
    }
}

impl std::fmt::Debug for OperatorKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OperatorKey({})", self.public.kid())
    }
}
