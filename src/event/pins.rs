//! Keys of devices, kept from the first contact on (`pins.json` in the state directory).

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::identity::Introduction;
use super::jwk::{KeyRing, PublicKey};
use super::jws::VerifyError;
use super::line::{Line, Met};
use super::vouch::{Former, Last};
use crate::system::disk;
use crate::system::secret::{self, SecretError};
use crate::system::state::StateDirectory;

const NAME: &str = "pins.json";
/// Largest file, in bytes: as much as is read back.
const LIMIT: usize = 64 * 1024;

/// Which key each device has.
#[derive(Debug, Default)]
pub struct Pins {
    /// Where pins are kept; in memory only where there is none.
    state: Option<StateDirectory>,
    keys: BTreeMap<String, Line>,
    /// This device's own key needs no first contact.
    own: BTreeMap<String, Line>,
}

#[derive(Debug, thiserror::Error)]
pub enum PinError {
    #[error(transparent)]
    File(#[from] SecretError),
    #[error("{}: {what}; remove it to pin every device again at its next contact", .path.display())]
    Malformed { path: PathBuf, what: String },
    #[error("{}: {}", .path.display(), disk::told(.path, .source))]
    Io { path: PathBuf, source: std::io::Error },
}

impl Pins {
    pub fn open(state: &StateDirectory) -> Result<Self, PinError> {
        Ok(Self { keys: load(state)?, state: Some(state.clone()), own: BTreeMap::new() })
    }

    /// Trusts a device's keys outright: they lie in this machine's own state directory.
    pub fn trust(&mut self, device: &str, line: impl Into<Line>) {
        self.own.insert(device.to_owned(), line.into());
    }

    pub fn line(&self, device: &str) -> Option<&Line> {
        self.own.get(device).or_else(|| self.keys.get(device))
    }

    pub fn key(&self, device: &str) -> Option<&PublicKey> {
        self.line(device).map(Line::key)
    }

    /// The keys that messages of `device` may be signed by; see also [`Line::admit`].
    pub fn ring(&self, device: &str) -> KeyRing {
        self.line(device).map(Line::ring).unwrap_or_default()
    }

    /// Takes the key of a device that introduces itself: the first one is kept, the same one is welcome,
    /// one that the kept key leads to by its vouches takes its place, and any other is refused. Gives what
    /// is to be told and [saved](Self::save).
    pub fn meet(
        &mut self,
        device: &str,
        met: &Introduction,
    ) -> Result<Option<String>, VerifyError> {
        if met.device != device {
            return Err(VerifyError::Payload(format!(
                "is the identity of {:?}, not of {device:?}",
                met.device
            )));
        }
        let shown = met.key.kid();
        let pins = if self.own.contains_key(device) { &mut self.own } else { &mut self.keys };
        let Some(line) = pins.get_mut(device) else {
            pins.insert(device.to_owned(), Line::from(met));
            return Ok(Some(format!("{device} is known from now on by its key {shown}")));
        };
        let known = line.key().kid().to_owned();
        match line.follow(met) {
            Ok(Met::Known) => Ok(None),
            Ok(Met::Followed) => Ok(Some(format!(
                "{device} has a new key, {shown}: the one known before, {known}, vouched for it"
            ))),
            Err(error) => Err(VerifyError::Payload(format!("{device}: {error}"))),
        }
    }

    /// Writes the pins, with those that another process has made meanwhile.
    pub fn save(&self) -> Result<(), PinError> {
        let Some(state) = &self.state else { return Ok(()) };
        let mut pins = load(state)?;
        for (device, line) in &self.keys {
            // Whoever followed a device further knows better.
            let further = pins.get(device).is_some_and(|other| other.is_after(line));
            if !further {
                pins.insert(device.clone(), line.clone());
            }
        }
        let text = compose(&pins);
        let io = |source| PinError::Io { path: state.file(NAME), source };
        if text.len() > LIMIT {
            return Err(io(std::io::Error::other("too many devices")));
        }
        state.replace(NAME, text.as_bytes()).map_err(io)
    }
}

fn load(state: &StateDirectory) -> Result<BTreeMap<String, Line>, PinError> {
    let path = state.file(NAME);
    match secret::read_file(&path, 0o022)? {
        Some(bytes) => parse(&bytes).map_err(|what| PinError::Malformed { path, what }),
        None => Ok(BTreeMap::new()),
    }
}

pub(crate) fn parse(bytes: &[u8]) -> Result<BTreeMap<String, Line>, String> {
    let jwks: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    jwks.into_iter().map(|(device, pin)| Ok((device, read(&pin)?))).collect()
}

pub(crate) fn compose(pins: &BTreeMap<String, Line>) -> String {
    let entries: Vec<String> = pins
        .iter()
        .map(|(device, line)| {
            format!("{}:{}", serde_json::Value::from(device.as_str()), write(line))
        })
        .collect();
    format!("{{{}}}\n", entries.join(",\n"))
}

/// A pin as JSON: the key as a JWK, and with it the keys before.
fn write(line: &Line) -> String {
    let former: Vec<serde_json::Value> = line
        .former()
        .iter()
        .map(|Former { key, last }| serde_json::json!({ "key": jwk(key), "last": last }))
        .collect();
    let mut pin = jwk(line.key());
    if !former.is_empty() {
        pin["former"] = former.into();
    }
    pin.to_string()
}

fn jwk(key: &PublicKey) -> serde_json::Value {
    serde_json::from_str(&key.to_jwk()).unwrap_or_default()
}

fn read(pin: &serde_json::Value) -> Result<Line, String> {
    #[derive(serde::Deserialize)]
    struct Pin {
        #[serde(default)]
        former: Vec<Entry>,
    }
    #[derive(serde::Deserialize)]
    struct Entry {
        key: serde_json::Value,
        last: Option<Last>,
    }
    let key = |jwk: &serde_json::Value| PublicKey::from_jwk(&jwk.to_string());
    let Pin { former } = serde::Deserialize::deserialize(pin).map_err(|e| format!("{e}"))?;
    let former = former
        .into_iter()
        .map(|entry| Ok(Former { key: key(&entry.key)?, last: entry.last }))
        .collect::<Result<Vec<_>, super::jwk::JwkError>>()
        .map_err(|e| e.to_string())?;
    Ok(Line::new(key(pin).map_err(|e| e.to_string())?, former))
}
