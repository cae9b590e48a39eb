//! TUF metadata, parsed (TUF specification 1.0, section 4). Fields that are not known here are part of what
//! is signed, and otherwise ignored.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use ring::digest::{SHA256, SHA512, digest};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::canonical::canonical;
use super::key::{Key, unhex};

/// What is wrong with a metadata file.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    #[error("it is not metadata: {0}")]
    Json(String),
    #[error("it has no canonical form to be signed: a number in it is no integer")]
    Canonical,
    #[error("it is of type {0:?}")]
    Type(String),
    #[error("it is of TUF specification {0}, not 1")]
    Specification(String),
    #[error("a key id appears twice among its signatures")]
    DuplicateSignature,
    #[error("{valid} of the {threshold} signatures that are needed hold")]
    Threshold { valid: usize, threshold: usize },
    #[error("it is version {found}, not {wanted}")]
    Version { found: u64, wanted: u64 },
    #[error("it is version {found}; {trusted} was trusted before")]
    Rollback { found: u64, trusted: u64 },
    #[error("{role}, which was in it before, is gone or older than it was")]
    RoleRollback { role: String },
    #[error("it expired at {at}; it is {now}")]
    Expired { at: Timestamp, now: Timestamp },
    #[error("it is not of the length that was signed for it")]
    Length,
    #[error("it has not the digest that was signed for it")]
    Digest,
    #[error("no digest that was signed for it is of a kind known here")]
    NoDigest,
    #[error("it does not name {0}")]
    Unnamed(String),
}

/// A file of metadata as it came, its signatures, and what they are over.
#[derive(Debug, Clone)]
pub struct Signed<T> {
    pub signed: T,
    /// By key id.
    signatures: BTreeMap<String, String>,
    pub(crate) message: Vec<u8>,
    /// As it came: what is kept, and what digests are over.
    pub bytes: Vec<u8>,
}

/// The kinds of metadata.
pub trait Role: DeserializeOwned {
    const TYPE: &'static str;
    fn header(&self) -> &Header;
}

/// What all kinds have.
#[derive(Debug, Clone, Deserialize)]
pub struct Header {
    #[serde(rename = "_type")]
    kind: String,
    spec_version: String,
    #[serde(deserialize_with = "positive")]
    pub version: u64,
    #[serde(deserialize_with = "expires")]
    pub expires: Timestamp,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Root {
    #[serde(flatten)]
    header: Header,
    #[serde(default)]
    pub consistent_snapshot: bool,
    pub keys: BTreeMap<String, Key>,
    pub roles: Roles,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Roles {
    pub root: RoleKeys,
    pub timestamp: RoleKeys,
    pub snapshot: RoleKeys,
    pub targets: RoleKeys,
}

/// Who may sign for a role, and how many must.
#[derive(Debug, Clone, Deserialize)]
pub struct RoleKeys {
    #[serde(deserialize_with = "distinct")]
    pub keyids: Vec<String>,
    #[serde(deserialize_with = "positive")]
    threshold: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub struct TimestampRole {
    #[serde(flatten)]
    header: Header,
    meta: BTreeMap<String, MetaFile>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Snapshot {
    #[serde(flatten)]
    header: Header,
    pub meta: BTreeMap<String, MetaFile>,
}

/// What one file of metadata says of another.
#[derive(Debug, Clone, Deserialize)]
pub struct MetaFile {
    #[serde(deserialize_with = "positive")]
    pub version: u64,
    pub length: Option<u64>,
    #[serde(default)]
    pub hashes: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Targets {
    #[serde(flatten)]
    header: Header,
    pub targets: BTreeMap<String, TargetFile>,
    pub delegations: Option<Delegations>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct TargetFile {
    /// Bytes.
    pub length: u64,
    /// By algorithm, hexadecimal.
    pub hashes: BTreeMap<String, String>,
    /// What the publisher says of it.
    #[serde(default)]
    pub custom: Value,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Delegations {
    pub keys: BTreeMap<String, Key>,
    pub roles: Vec<Delegation>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Delegation {
    #[serde(deserialize_with = "role_name")]
    pub name: String,
    #[serde(flatten)]
    pub keys: RoleKeys,
    #[serde(default)]
    pub terminating: bool,
    pub paths: Option<Vec<String>>,
    pub path_hash_prefixes: Option<Vec<String>>,
}

macro_rules! role {
    ($type:ty, $name:literal) => {
        impl Role for $type {
            const TYPE: &'static str = $name;
            fn header(&self) -> &Header {
                &self.header
            }
        }
    };
}
role!(Root, "root");
role!(TimestampRole, "timestamp");
role!(Snapshot, "snapshot");
role!(Targets, "targets");

impl<T: Role> Signed<T> {
    /// Parses a file of this kind. Nothing of it is to be believed before [`Signed::check`].
    pub fn parse(bytes: Vec<u8>) -> Result<Self, MetadataError> {
        #[derive(Deserialize)]
        struct Envelope {
            signatures: Vec<Signature>,
            signed: Value,
        }
        #[derive(Deserialize)]
        struct Signature {
            keyid: String,
            sig: String,
        }
        let json = |error: serde_json::Error| MetadataError::Json(error.to_string());
        let envelope: Envelope = serde_json::from_slice(&bytes).map_err(json)?;
        let message = canonical(&envelope.signed).ok_or(MetadataError::Canonical)?;
        let count = envelope.signatures.len();
        let signatures: BTreeMap<String, String> =
            envelope.signatures.into_iter().map(|one| (one.keyid, one.sig)).collect();
        if signatures.len() != count {
            return Err(MetadataError::DuplicateSignature);
        }
        if let Some(kind) = envelope.signed.get("_type").and_then(Value::as_str)
            && kind != T::TYPE
        {
            return Err(MetadataError::Type(kind.to_owned()));
        }
        let signed: T = serde_json::from_value(envelope.signed).map_err(json)?;
        let Header { kind, spec_version, .. } = signed.header();
        if kind != T::TYPE {
            return Err(MetadataError::Type(kind.clone()));
        }
        if spec_version.split('.').next() != Some("1") {
            return Err(MetadataError::Specification(spec_version.clone()));
        }
        Ok(Self { signed, signatures, message, bytes })
    }

    pub fn version(&self) -> u64 {
        self.signed.header().version
    }

    /// Whether enough of the role's keys have signed; the same key under two ids counts once.
    pub fn check(
        &self,
        role: &RoleKeys,
        keys: &BTreeMap<String, Key>,
    ) -> Result<(), MetadataError> {
        let mut seen = HashSet::new();
        for id in &role.keyids {
            if let (Some(key), Some(signature)) = (keys.get(id), self.signatures.get(id))
                && !seen.contains(&key.fingerprint())
                && key.verifies(&self.message, signature)
            {
                seen.insert(key.fingerprint());
            }
        }
        let (valid, threshold) =
            (seen.len(), usize::try_from(role.threshold).unwrap_or(usize::MAX));
        if valid >= threshold { Ok(()) } else { Err(MetadataError::Threshold { valid, threshold }) }
    }

    /// Whether it still holds.
    pub fn check_expiry(&self, now: Timestamp) -> Result<(), MetadataError> {
        let at = self.signed.header().expires;
        if now < at { Ok(()) } else { Err(MetadataError::Expired { at, now }) }
    }

    pub fn check_version(&self, wanted: u64) -> Result<(), MetadataError> {
        let found = self.version();
        if found == wanted { Ok(()) } else { Err(MetadataError::Version { found, wanted }) }
    }
}

impl TimestampRole {
    pub fn snapshot(&self) -> Result<&MetaFile, MetadataError> {
        let name = "snapshot.json";
        self.meta.get(name).ok_or_else(|| MetadataError::Unnamed(name.to_owned()))
    }
}

impl Snapshot {
    /// What it says of a targets role.
    pub fn role(&self, name: &str) -> Result<&MetaFile, MetadataError> {
        let file = format!("{name}.json");
        self.meta.get(&file).ok_or(MetadataError::Unnamed(file))
    }
}

impl MetaFile {
    /// Whether these bytes are meant.
    pub fn check(&self, bytes: &[u8]) -> Result<(), MetadataError> {
        if self.length.is_some_and(|length| length != bytes.len() as u64) {
            return Err(MetadataError::Length);
        }
        match &self.hashes {
            Some(hashes) => check_hashes(hashes, |algorithm| match algorithm {
                "sha256" => Some(digest(&SHA256, bytes).as_ref().to_vec()),
                "sha512" => Some(digest(&SHA512, bytes).as_ref().to_vec()),
                _ => None,
            }),
            None => Ok(()),
        }
    }
}

/// Holds digests against those that were signed: every one of a known kind, and at least one.
pub(super) fn check_hashes(
    hashes: &BTreeMap<String, String>,
    of: impl Fn(&str) -> Option<Vec<u8>>,
) -> Result<(), MetadataError> {
    let mut known = 0;
    for (algorithm, wanted) in hashes {
        let Some(found) = of(algorithm) else { continue };
        if unhex(wanted).as_deref() != Some(found.as_slice()) {
            return Err(MetadataError::Digest);
        }
        known += 1;
    }
    if known == 0 { Err(MetadataError::NoDigest) } else { Ok(()) }
}

impl Delegation {
    /// Whether this role may speak for a target (TUF specification 4.5).
    pub fn covers(&self, target: &str) -> bool {
        if let Some(paths) = &self.paths {
            return paths.iter().any(|pattern| matches_path(pattern, target));
        }
        let Some(prefixes) = &self.path_hash_prefixes else { return false };
        let hash = super::super::digest::Sha256::of(target.as_bytes()).to_string();
        prefixes.iter().any(|prefix| hash.starts_with(prefix))
    }
}

/// `*` and `?` as a shell has them; neither takes in a `/`.
fn matches_path(pattern: &str, path: &str) -> bool {
    let (patterns, parts) = (pattern.split('/'), path.split('/'));
    patterns.clone().count() == parts.clone().count()
        && patterns.zip(parts).all(|(pattern, part)| {
            let (pattern, part): (Vec<char>, Vec<char>) =
                (pattern.chars().collect(), part.chars().collect());
            matches_part(&pattern, &part)
        })
}

/// In time pattern × part, without recursion: the last `*` is tried again one further on.
fn matches_part(pattern: &[char], part: &[char]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < part.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '?' || *c == part[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    t = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

fn positive<'de, D: Deserializer<'de>>(de: D) -> Result<u64, D::Error> {
    match u64::deserialize(de)? {
        0 => Err(D::Error::custom("0 where a number from 1 on belongs")),
        number => Ok(number),
    }
}

/// `YYYY-MM-DDTHH:MM:SSZ`, and nothing else (TUF specification 4.2.1).
fn expires<'de, D: Deserializer<'de>>(de: D) -> Result<Timestamp, D::Error> {
    let text = String::deserialize(de)?;
    let sound = text.len() == 20 && text.ends_with('Z') && text.as_bytes()[10] == b'T';
    let time: Option<Timestamp> = if sound { text.parse().ok() } else { None };
    time.ok_or_else(|| D::Error::custom(format!("{text:?} is not YYYY-MM-DDTHH:MM:SSZ")))
}

fn distinct<'de, D: Deserializer<'de>>(de: D) -> Result<Vec<String>, D::Error> {
    let ids = Vec::<String>::deserialize(de)?;
    let distinct: HashSet<&String> = ids.iter().collect();
    if distinct.len() == ids.len() { Ok(ids) } else { Err(D::Error::custom("a key id twice")) }
}

/// Not one of the roles that root speaks of.
fn role_name<'de, D: Deserializer<'de>>(de: D) -> Result<String, D::Error> {
    let name = String::deserialize(de)?;
    if name.is_empty() || ["root", "timestamp", "snapshot", "targets"].contains(&name.as_str()) {
        return Err(D::Error::custom(format!("{name:?} cannot be delegated to")));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_stop_at_slashes() {
        for (pattern, path, matches) in [
            ("*", "a.tar", true),
            ("*", "a/b.tar", false),
            ("a/*.tar", "a/b.tar", true),
            ("a/*.tar", "a/b.zip", false),
            ("a/?.tar", "a/bb.tar", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b*", "xxbxxaxx", false),
            ("", "", true),
            ("*", "", true),
            ("a", "", false),
        ] {
            assert_eq!(matches_path(pattern, path), matches, "{pattern} {path}");
        }
    }

    #[test]
    fn costly_pattern_ends() {
        let pattern = "*a".repeat(1000);
        assert!(!matches_path(&pattern, &"b".repeat(10_000)));
        assert!(!matches_path(&format!("{pattern}x"), &"a".repeat(3_000)));
    }
}
