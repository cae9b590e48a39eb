//! Keys of devices, kept from the first contact on (`pins.json` in the state directory).

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use super::identity::Introduction;
use super::jwk::{KeyRing, LIMIT, PublicKey};
use super::jws::VerifyError;
use crate::system::secret::{self, SecretError};
use crate::system::state::StateDirectory;

const NAME: &str = "pins.json";

/// Which key each device has.
#[derive(Debug, Default)]
pub struct Pins {
    /// Where pins are kept; in memory only where there is none.
    path: Option<PathBuf>,
    keys: BTreeMap<String, PublicKey>,
    /// This device's own key needs no first contact.
    own: BTreeMap<String, PublicKey>,
}

#[derive(Debug, thiserror::Error)]
pub enum PinError {
    #[error(transparent)]
    File(#[from] SecretError),
    #[error("{}: {what}; remove it to pin every device again at its next contact", .path.display())]
    Malformed { path: PathBuf, what: String },
    #[error("{}: {source}", .path.display())]
    Io { path: PathBuf, source: std::io::Error },
}

impl Pins {
    pub fn open(state: &StateDirectory) -> Result<Self, PinError> {
        let path = state.file(NAME);
        let wrong = |what: String| PinError::Malformed { path: path.clone(), what };
        let mut keys = BTreeMap::new();
        if let Some(bytes) = secret::read_file(&path, 0o022)? {
            let jwks: BTreeMap<String, serde_json::Value> =
                serde_json::from_slice(&bytes).map_err(|e| wrong(e.to_string()))?;
            for (device, jwk) in jwks {
                let key =
                    PublicKey::from_jwk(&jwk.to_string()).map_err(|e| wrong(e.to_string()))?;
                keys.insert(device, key);
            }
        }
        Ok(Self { path: Some(path), keys, own: BTreeMap::new() })
    }

    /// Trusts a device's key outright: it lies in this machine's own state directory.
    pub fn trust(&mut self, device: &str, key: PublicKey) {
        self.own.insert(device.to_owned(), key);
    }

    pub fn key(&self, device: &str) -> Option<&PublicKey> {
        self.own.get(device).or_else(|| self.keys.get(device))
    }

    /// The keys that messages of `device` may be signed by.
    pub fn ring(&self, device: &str) -> KeyRing {
        self.key(device).cloned().map(KeyRing::from).unwrap_or_default()
    }

    /// Takes the key of a device that introduces itself: the first one is kept (`true`), the same one
    /// is welcome, another one is refused.
    pub fn meet(&mut self, device: &str, met: &Introduction) -> Result<bool, VerifyError> {
        let refused = |what: String| Err(VerifyError::Payload(what));
        if met.device != device {
            return refused(format!("is the identity of {:?}, not of {device:?}", met.device));
        }
        match self.key(device) {
            None => {
                self.keys.insert(device.to_owned(), met.key.clone());
                Ok(true)
            }
            Some(key) if *key == met.key => Ok(false),
            Some(key) => refused(format!(
                "{device} shows key {}, but was known by {}",
                met.key.kid(),
                key.kid()
            )),
        }
    }

    /// Writes the pins, whole or not at all.
    pub fn save(&self) -> Result<(), PinError> {
        let Some(path) = &self.path else { return Ok(()) };
        let entries: Vec<String> = self
            .keys
            .iter()
            .map(|(device, key)| {
                format!("{}:{}", serde_json::Value::from(device.as_str()), key.to_jwk())
            })
            .collect();
        let text = format!("{{{}}}\n", entries.join(",\n"));
        let write = || -> std::io::Result<()> {
            if text.len() > LIMIT {
                return Err(std::io::Error::other("too many devices"));
            }
            let temporary = path.with_extension(format!("json.{}", std::process::id()));
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&temporary)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&temporary, path)
        };
        write().map_err(|source| PinError::Io { path: path.clone(), source })
    }
}
