//! Sealing: each record under AES-256-GCM with a fresh random 96-bit nonce, bound to its place.
//!
//! A sealed record is nonce (12 bytes), ciphertext, tag (16 bytes). The associated data name the format
//! of the store, the table, the row and the person's row, so a record moved to another place does not open.
//!
//! Random nonces collide with a probability of under 2^-32 as long as one key seals at most 2^32 records
//! (NIST SP 800-38D, 8.3). A gallery holds about 2^20 records at most, each written once but for renaming
//! and the census (one with each change); each change waits for the disk, so 2^32 are out of reach.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::GalleryError;
use super::transform::Transform;
use crate::system::confine::Locked;

/// Format of the store; part of what every record is bound to, so that records of two formats never mix.
/// 1: looks are embeddings; 2: they are turned by the gallery's [`Transform`]; 3: there may be negative anchors
/// ([`super::anchor`]), which a version that does not know them must not pass over; 4: nor over lookalikes
/// ([`super::lookalike`]).
pub(super) const FORMAT: i64 = 4;

/// Where a record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Census,
    Person { row: i64 },
    Look { row: i64, person: i64 },
}

impl Place {
    fn associated_data(self, format: i64) -> Vec<u8> {
        let (table, row, person) = match self {
            Self::Census => (0_u8, 0, 0),
            Self::Person { row } => (1, row, row),
            Self::Look { row, person } => (2, row, person),
        };
        let mut data = b"familiar gallery\0".to_vec();
        data.extend(format.to_le_bytes());
        data.push(table);
        data.extend(row.to_le_bytes());
        data.extend(person.to_le_bytes());
        data
    }
}

/// The key of a gallery: 32 bytes, as base64 text where it is kept.
pub(super) struct SealingKey {
    key: Locked<LessSafeKey>,
    random: SystemRandom,
    transform: Arc<Transform>,
}

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealingKey")
    }
}

impl SealingKey {
    /// Parses the secret's text.
    pub(super) fn parse(secret: &[u8]) -> Result<Self, GalleryError> {
        let bytes = Zeroizing::new(
            STANDARD.decode(secret.trim_ascii()).map_err(|_| GalleryError::KeyMalformed)?,
        );
        let key = UnboundKey::new(&AES_256_GCM, &bytes).map_err(|_| GalleryError::KeyMalformed)?;
        Ok(Self {
            key: Locked::new(LessSafeKey::new(key)),
            random: SystemRandom::new(),
            transform: Arc::new(Transform::of(&bytes)),
        })
    }

    /// The text of a new random key.
    pub(super) fn generate() -> Result<Zeroizing<String>, GalleryError> {
        let mut bytes = Zeroizing::new([0_u8; 32]);
        SystemRandom::new().fill(bytes.as_mut()).map_err(|_| GalleryError::Random)?;
        Ok(Zeroizing::new(STANDARD.encode(bytes.as_ref())))
    }

    /// A random row id, so that ids tell neither order nor how many there were.
    pub(super) fn random_row(&self) -> Result<i64, GalleryError> {
        let mut bytes = [0; 8];
        self.random.fill(&mut bytes).map_err(|_| GalleryError::Random)?;
        Ok(i64::from_le_bytes(bytes) & i64::MAX)
    }

    pub(super) fn transform(&self) -> &Arc<Transform> {
        &self.transform
    }

    pub(super) fn seal(&self, place: Place, plain: &[u8]) -> Result<Vec<u8>, GalleryError> {
        self.seal_as(FORMAT, place, plain)
    }

    pub(super) fn seal_as(
        &self,
        format: i64,
        place: Place,
        plain: &[u8],
    ) -> Result<Vec<u8>, GalleryError> {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(|_| GalleryError::Random)?;
        // Room for the tag from the start: growing would leave plain bytes behind that nothing wipes.
        let mut sealed = Vec::with_capacity(NONCE_LEN + plain.len() + AES_256_GCM.tag_len());
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plain);
        let tag = self
            .key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(place.associated_data(format)),
                &mut sealed[NONCE_LEN..],
            )
            .map_err(|_| GalleryError::Random)?; // only for records of 64 GiB
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    /// The plain record; `None` if it was not sealed by this key for this place.
    pub(super) fn open(&self, place: Place, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        self.open_as(FORMAT, place, sealed)
    }

    /// The same of a store of another format.
    pub(super) fn open_as(
        &self,
        format: i64,
        place: Place,
        sealed: &[u8],
    ) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, ciphertext) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut plain = Zeroizing::new(ciphertext.to_vec());
        let length = self
            .key
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(place.associated_data(format)),
                &mut plain,
            )
            .ok()?
            .len();
        plain.truncate(length);
        Some(plain)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn key() -> SealingKey {
        SealingKey::parse(SealingKey::generate().unwrap().as_bytes()).unwrap()
    }

    #[test]
    fn opens_only_in_its_place() {
        let key = key();
        let place = Place::Look { row: 5, person: 7 };
        let sealed = key.seal(place, b"look").unwrap();
        assert_eq!(key.open(place, &sealed).unwrap().as_slice(), b"look");
        for other in [
            Place::Look { row: 6, person: 7 },
            Place::Look { row: 5, person: 8 },
            Place::Look { row: 7, person: 5 },
            Place::Person { row: 5 },
            Place::Census,
        ] {
            assert_eq!(key.open(other, &sealed), None, "{other:?}");
        }
    }

    #[test]
    fn flipped_bit_refused() {
        let key = key();
        let sealed = key.seal(Place::Census, b"some record").unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut altered = sealed.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key.open(Place::Census, &altered), None, "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert_eq!(key.open(Place::Census, &sealed[..length]), None, "{length} bytes");
        }
    }

    #[test]
    fn fresh_nonce_each_time() {
        let key = key();
        let place = Place::Person { row: 1 };
        assert_ne!(key.seal(place, b"same").unwrap(), key.seal(place, b"same").unwrap());
    }

    #[test]
    fn malformed_key_refused() {
        for text in ["", "c2hvcnQ=", "not base64!", &STANDARD.encode([0; 33])] {
            assert!(matches!(SealingKey::parse(text.as_bytes()), Err(GalleryError::KeyMalformed)));
        }
        let mut with_newline = SealingKey::generate().unwrap().to_string();
        with_newline.push('\n');
        assert!(SealingKey::parse(with_newline.as_bytes()).is_ok());
    }
}
