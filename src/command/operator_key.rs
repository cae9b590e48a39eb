//! An operator's private key, at the operator's side.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ring::signature::Ed25519KeyPair;

use super::request::Order;
use crate::event::jws::{self, Typ};
use crate::event::{PublicKey, key_from_pem, new_key_pem};
use crate::system::secret::{self, SecretError};

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

impl From<SecretError> for OperatorKeyError {
    fn from(error: SecretError) -> Self {
        match error {
            SecretError::Io { path, source } => Self::Io { path, source },
            SecretError::TooOpen { path, mode } => Self::TooOpen { path, mode },
            SecretError::NotAFile { path } => Self::Malformed { path },
        }
    }
}

impl OperatorKey {
    /// Reads the key, as `openssl genpkey -algorithm ed25519` or [`OperatorKey::create`] wrote it.
    pub fn open(path: &Path) -> Result<Self, OperatorKeyError> {
        let malformed = || OperatorKeyError::Malformed { path: path.to_owned() };
        let missing = || OperatorKeyError::Io {
            path: path.to_owned(),
            source: std::io::ErrorKind::NotFound.into(),
        };
        let text = secret::read_file(path, 0o077)?.ok_or_else(missing)?;
        let pem = std::str::from_utf8(&text).map_err(|_| malformed())?;
        let (pair, public) = key_from_pem(pem).ok_or_else(malformed)?;
        Ok(Self { pair, public })
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
}

impl std::fmt::Debug for OperatorKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OperatorKey({})", self.public.kid())
    }
}
