//! The device's own key: Ed25519, made on first start, kept as the secret `device-key`.

use pkcs8::{LineEnding, SecretDocument};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use zeroize::Zeroizing;

use super::jwk::PublicKey;
use super::line::Line;
use super::rotation;
use super::store::StoreError;
use super::vouch::{self, Vouch};
use crate::system::confine::Locked;
use crate::system::secret::{self, SecretError, Source};
use crate::system::state::StateDirectory;

/// Name of the secret: a PEM of a PKCS#8 private key.
pub const NAME: &str = "device-key";

/// PKCS#8 version 1 of an Ed25519 key up to its 32-byte seed (RFC 8410 §7). `ring` itself would write
/// version 2, which OpenSSL 3.0 does not read.
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// Signs as this device. The private half never leaves it.
pub struct DeviceKey {
    pair: Locked<Ed25519KeyPair>,
    public: PublicKey,
    /// The keys before it, newest first, with their vouches.
    former: Vec<(PublicKey, Vouch)>,
    source: Source,
}

/// Begins a line before the PEM that tells of a former key: its public half and its vouch. They lie in
/// one file so that no crash parts them, and because RFC 7468 §5.2 lets explanations stand there.
const FORMER: &str = "Former: ";

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("secret `{NAME}` is not a PEM of a PKCS#8 Ed25519 private key")]
    Malformed,
    #[error("this device has no key yet; the first `familiar run` makes it")]
    Missing,
    #[error("the system gives no random numbers")]
    NoRandomness,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl DeviceKey {
    /// Reads the key; [`KeyError::Missing`] if there is none. Finishes a rotation that was cut short.
    pub fn open(state: &StateDirectory) -> Result<Self, KeyError> {
        rotation::settle(state)?;
        Self::read(state)
    }

    /// Reads the key that counts, and changes nothing: for verbs that only look.
    pub fn look(state: &StateDirectory) -> Result<Self, KeyError> {
        rotation::look(state)
    }

    /// Reads the key as it lies there.
    pub(super) fn read(state: &StateDirectory) -> Result<Self, KeyError> {
        match secret::find(state, NAME)? {
            Some((text, source)) => Self::parse(&text, source),
            None => Err(KeyError::Missing),
        }
    }

    /// Reads the key, or makes it on the first start. Several processes may do so at once: all get
    /// the same key.
    pub fn open_or_create(state: &StateDirectory) -> Result<Self, KeyError> {
        match Self::open(state) {
            Err(KeyError::Missing) => {}
            found => return found,
        }
        match secret::create(state, NAME, generate()?.as_bytes()) {
            Ok(()) => log::info!("made the device key {}", state.file(NAME).display()),
            // Another process was faster; its key counts.
            Err(SecretError::Io { source, .. })
                if source.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error.into()),
        }
        Self::open(state)
    }

    /// A new key, not yet kept anywhere, and the text of the file that will keep it.
    pub(super) fn generate() -> Result<(Self, Zeroizing<String>), KeyError> {
        let text = generate()?;
        Ok((Self::parse(text.as_bytes(), Source::State)?, text))
    }

    pub(super) fn parse(bytes: &[u8], source: Source) -> Result<Self, KeyError> {
        let text = std::str::from_utf8(bytes).map_err(|_| KeyError::Malformed)?;
        let begin = text.find("-----BEGIN").ok_or(KeyError::Malformed)?;
        let (explanation, pem) = text.split_at(begin);
        let (pair, public) = from_pem(pem).ok_or(KeyError::Malformed)?;
        let former = explanation
            .lines()
            .filter_map(|line| line.strip_prefix(FORMER))
            .map(|line| {
                let (jwk, vouch) = line.split_once(' ')?;
                Some((PublicKey::from_jwk(jwk).ok()?, Vouch::parse(vouch).ok()?))
            })
            .collect::<Option<Vec<_>>>()
            .ok_or(KeyError::Malformed)?;
        Ok(Self { pair: Locked::new(pair), public, former, source })
    }

    /// The lines before the PEM: this key and those before it, newest first, once `vouch` has named the
    /// successor.
    pub(super) fn explanation(&self, vouch: &Vouch) -> String {
        let newest = std::iter::once((&self.public, vouch));
        let all = newest.chain(self.former.iter().map(|(key, vouch)| (key, vouch)));
        all.take(vouch::MOST).fold(String::new(), |mut text, (key, vouch)| {
            text.extend([FORMER, &key.to_short_jwk(), " ", vouch.as_str(), "\n"]);
            text
        })
    }

    /// Whether systemd gives the key: then it is not ours to change.
    pub fn is_credential(&self) -> bool {
        self.source == Source::Credential
    }

    /// The keys before it, newest first, as far as they vouched for the same device.
    pub(super) fn former(&self, device: &str) -> impl Iterator<Item = &(PublicKey, Vouch)> {
        self.former.iter().take_while(move |(_, vouch)| vouch.claim().device == device)
    }

    /// This key and those before it that vouched for the device of the newest vouch.
    pub fn line(&self) -> Line {
        let device = self.former.first().map_or("", |(_, vouch)| &vouch.claim().device);
        let (keys, vouches) = self.former(device).cloned().unzip();
        // A line that does not hold is no reason to distrust the key itself.
        let former = vouch::prove(device, &self.public, keys, vouches).unwrap_or_default();
        Line::new(self.public.clone(), former)
    }

    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    pub fn kid(&self) -> &str {
        self.public.kid()
    }

    /// Ed25519 over raw bytes; [`super::jws`] and [`super::vouch`] are the only ones who may ask.
    pub(super) fn sign_bytes(&self, bytes: &[u8]) -> [u8; 64] {
        let mut signature = [0; 64];
        signature.copy_from_slice(self.pair.sign(bytes).as_ref());
        signature
    }
}

impl std::fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DeviceKey({})", self.kid())
    }
}

/// An Ed25519 key out of a PEM of PKCS#8.
pub(crate) fn from_pem(pem: &str) -> Option<(Ed25519KeyPair, PublicKey)> {
    let (label, der) = SecretDocument::from_pem(pem).ok()?;
    // Version 1 (OpenSSL's and ours) has no public half to check against.
    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.as_bytes()).ok()?;
    let public = PublicKey::from_bytes(pair.public_key().as_ref().try_into().ok()?);
    (label == "PRIVATE KEY").then_some((pair, public))
}

/// A new Ed25519 key as a PEM of PKCS#8.
pub(crate) fn generate() -> Result<Zeroizing<String>, KeyError> {
    let mut der = Zeroizing::new([0u8; PKCS8_PREFIX.len() + 32]);
    let (prefix, seed) = der.split_at_mut(PKCS8_PREFIX.len());
    prefix.copy_from_slice(&PKCS8_PREFIX);
    SystemRandom::new().fill(seed).map_err(|_| KeyError::NoRandomness)?;
    SecretDocument::try_from(der.as_slice())
        .and_then(|document| document.to_pem("PRIVATE KEY", LineEnding::LF))
        .map_err(|_| KeyError::Malformed)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn made_once_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDirectory::at(folder.path().join("state")).unwrap();
        assert!(matches!(DeviceKey::open(&state), Err(KeyError::Missing)));
        let made = DeviceKey::open_or_create(&state).unwrap();
        assert_eq!(DeviceKey::open_or_create(&state).unwrap().public(), made.public());
        let mode = std::fs::metadata(state.file(NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!format!("{made:?}").contains("PRIVATE"));
    }

    #[test]
    fn readable_by_others() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDirectory::at(folder.path().to_owned()).unwrap();
        DeviceKey::open_or_create(&state).unwrap();
        std::fs::set_permissions(state.file(NAME), std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            DeviceKey::open_or_create(&state),
            Err(KeyError::Secret(SecretError::TooOpen { .. }))
        ));
    }

    #[test]
    fn malformed_key_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDirectory::at(folder.path().to_owned()).unwrap();
        for text in ["", "hello", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
        {
            let path = state.file(NAME);
            let _ = std::fs::remove_file(&path);
            secret::create(&state, NAME, text.as_bytes()).unwrap();
            assert!(matches!(DeviceKey::open_or_create(&state), Err(KeyError::Malformed)));
            assert_eq!(std::fs::read(&path).unwrap(), text.as_bytes());
        }
    }
}
