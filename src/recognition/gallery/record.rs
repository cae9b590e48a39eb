//! What the records hold before they are sealed.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::expiry::Expiry;
use super::transform::Protected;
use crate::recognition::{Embedding, PersonId};

/// A person's record: JSON, padded with spaces to a multiple of this, so that its length says little.
const PADDING: usize = 256;

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub(super) enum PersonRecord {
    Enrolled(Profile),
    /// A face that must never be taken for a person; its looks lie where those of people do.
    Anchor(AnchorProfile),
    /// Templates and name are gone; the id stays until the `erased` event is durable.
    Erasing {
        id: PersonId,
    },
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Profile {
    pub id: PersonId,
    pub name: String,
    pub consent: Option<String>,
    pub enrolled: Timestamp,
    pub expires: Option<Expiry>,
    /// Lookalikes that this person was enrolled beside, see [`super::lookalike`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub similar: Vec<PersonId>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct AnchorProfile {
    pub id: PersonId,
    pub consent: Option<String>,
    pub enrolled: Timestamp,
    pub expires: Option<Expiry>,
}

impl PersonRecord {
    pub(super) fn id(&self) -> &PersonId {
        match self {
            Self::Enrolled(profile) => &profile.id,
            Self::Anchor(profile) => &profile.id,
            Self::Erasing { id } => id,
        }
    }

    pub(super) fn expires(&self) -> Option<&Expiry> {
        match self {
            Self::Enrolled(profile) => profile.expires.as_ref(),
            Self::Anchor(profile) => profile.expires.as_ref(),
            Self::Erasing { .. } => None,
        }
    }

    /// The same with another end of its time.
    pub(super) fn expiring(mut self, at: impl FnOnce(&Expiry) -> Expiry) -> Self {
        match &mut self {
            Self::Enrolled(Profile { expires, .. })
            | Self::Anchor(AnchorProfile { expires, .. }) => {
                *expires = expires.as_ref().map(at);
            }
            Self::Erasing { .. } => {}
        }
        self
    }

    pub(super) fn consent(&self) -> Option<&str> {
        match self {
            Self::Enrolled(profile) => profile.consent.as_deref(),
            Self::Anchor(profile) => profile.consent.as_deref(),
            Self::Erasing { .. } => None,
        }
    }

    pub(super) fn encode(&self) -> Result<Zeroizing<Vec<u8>>, serde_json::Error> {
        let mut bytes = Zeroizing::new(serde_json::to_vec(self)?);
        let length = bytes.len().next_multiple_of(PADDING);
        bytes.resize(length, b' ');
        Ok(bytes)
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

/// One enrolled look.
///
/// Encoded as: time of enrolment (i64, milliseconds since 1970), length of the digest (u16), the digest,
/// the template (f32 each), all little-endian. In a store of format 1 the values were the embedding itself; which
/// format it is, the seal knows ([`super::seal`]).
#[derive(Debug)]
pub(super) struct LookRecord {
    /// Digest of the embedder that made it.
    pub embedder: String,
    pub added: Timestamp,
    pub template: Protected,
}

impl LookRecord {
    pub(super) fn encode(&self) -> Zeroizing<Vec<u8>> {
        encode_look(&self.embedder, self.added, self.template.values())
    }

    /// Of a record of the present format.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (embedder, added, values) = Self::parse(bytes)?;
        Some(Self { embedder, added, template: Protected::stored(values) })
    }

    /// Embedder, time and values, whatever these mean.
    pub(super) fn parse(bytes: &[u8]) -> Option<(String, Timestamp, Embedding)> {
        let (added, rest) = bytes.split_first_chunk::<8>()?;
        let (length, rest) = rest.split_first_chunk::<2>()?;
        let (embedder, values) = rest.split_at_checked(u16::from_le_bytes(*length).into())?;
        let (values, []) = values.as_chunks::<4>() else { return None };
        Some((
            String::from_utf8(embedder.to_vec()).ok()?,
            Timestamp::from_millisecond(i64::from_le_bytes(*added)).ok()?,
            Embedding::normalized(values.iter().map(|value| f32::from_le_bytes(*value)).collect())?,
        ))
    }
}

/// The bytes of a look with these values, whatever they mean.
pub(super) fn encode_look(embedder: &str, added: Timestamp, values: &[f32]) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(10 + embedder.len() + 4 * values.len()));
    bytes.extend(added.as_millisecond().to_le_bytes());
    bytes.extend((embedder.len() as u16).to_le_bytes());
    bytes.extend(embedder.as_bytes());
    for value in values {
        bytes.extend(value.to_le_bytes());
    }
    bytes
}
