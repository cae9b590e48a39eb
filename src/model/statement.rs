//! The statement that a model signature signs: in-toto v1 with the model signing predicate v1.0.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::digest::Sha256;
use super::excerpt::excerpt;
use super::signature::{SIGNATURE_FILE, VerifiedPayload};

const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
const PREDICATE_TYPE: &str = "https://model_signing/signature/v1.0";

/// What the reference tool leaves out of its own accord. None of it may lie in a bundle, but for the
/// signature itself; so naming them changes nothing. Any other name would be a hole.
pub(super) const IGNORED: [&str; 5] =
    [SIGNATURE_FILE, ".git", ".gitattributes", ".github", ".gitignore"];

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    predicate: Predicate,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Subject {
    /// The directory's name when it was signed; only a note.
    name: String,
    digest: SubjectDigest,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SubjectDigest {
    sha256: Sha256,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Predicate {
    serialization: Serialization,
    resources: Vec<Resource>,
    /// Ours: the predicate's definition lets verifiers pass over what they do not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Serialization {
    method: String,
    hash_type: String,
    allow_symlinks: bool,
    #[serde(default)]
    ignore_paths: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Resource {
    name: String,
    algorithm: String,
    digest: Sha256,
}

/// The files that a statement speaks for: names and digests, and the digest over all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedFiles {
    files: BTreeMap<String, Sha256>,
    root: Sha256,
    expires: Option<Timestamp>,
}

/// Why a signed statement does not describe a bundle.
#[derive(Debug, thiserror::Error)]
pub enum StatementError {
    #[error("its statement is malformed: {0}")]
    Malformed(String),
    #[error("its statement's {what} is {found:?}, not {wanted:?}")]
    Unsupported { what: &'static str, found: String, wanted: &'static str },
    #[error("its statement has {0} subjects, not one")]
    Subjects(usize),
    #[error("its statement allows symbolic links")]
    SymbolicLinks,
    #[error("its statement leaves out {0:?}, which it may not")]
    IgnoredPath(String),
    #[error("its statement names {0:?}, which is not a plain file name")]
    Name(String),
    #[error("its statement names {0:?} twice")]
    Duplicate(String),
    #[error("its statement names {0:?} out of order")]
    Unsorted(String),
    #[error("its statement names no file")]
    Empty,
    #[error("its statement contradicts itself: the files' digests do not add up to its own")]
    Root,
    #[error("its statement expires {0:?}, which is not an RFC 3339 time")]
    ExpiryFormat(String),
    #[error("it expired at {expires}, and it is now {now}")]
    Expired { expires: Timestamp, now: Timestamp },
}

impl SignedFiles {
    /// Reads a statement whose signature was verified.
    pub fn parse(payload: &VerifiedPayload, now: Timestamp) -> Result<Self, StatementError> {
        let statement: Statement = serde_json::from_slice(payload.as_bytes())
            .map_err(|error| StatementError::Malformed(excerpt(&error.to_string())))?;
        expect("type", &statement.kind, STATEMENT_TYPE)?;
        expect("predicate type", &statement.predicate_type, PREDICATE_TYPE)?;
        let [subject] = statement.subject.as_slice() else {
            return Err(StatementError::Subjects(statement.subject.len()));
        };
        let Predicate { serialization, resources, expires } = statement.predicate;
        serialization.check()?;
        let mut files = Vec::with_capacity(resources.len());
        for Resource { name, algorithm, digest } in resources {
            expect("digest algorithm", &algorithm, "sha256")?;
            files.push((name, digest));
        }
        let expires = expires.map(|text| parse_time(&text)).transpose()?;
        let signed = Self::new(files, expires)?;
        if signed.root != subject.digest.sha256 {
            return Err(StatementError::Root);
        }
        match signed.expires {
            Some(expires) if expires <= now => Err(StatementError::Expired { expires, now }),
            _ => Ok(signed),
        }
    }

    /// Takes files in ascending order of their names.
    pub(super) fn new(
        files: Vec<(String, Sha256)>,
        expires: Option<Timestamp>,
    ) -> Result<Self, StatementError> {
        if files.is_empty() {
            return Err(StatementError::Empty);
        }
        for (name, _) in &files {
            if !is_plain(name) {
                return Err(StatementError::Name(excerpt(name)));
            }
        }
        // The reference tool sorts by code point, which is the order of the UTF-8 bytes.
        for ((earlier, _), (later, _)) in files.iter().zip(files.iter().skip(1)) {
            match earlier.cmp(later) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => {
                    return Err(StatementError::Duplicate(later.clone()));
                }
                std::cmp::Ordering::Greater => return Err(StatementError::Unsorted(later.clone())),
            }
        }
        let root = Sha256::of_parts(files.iter().map(|(_, digest)| digest.as_bytes().as_slice()));
        Ok(Self { files: files.into_iter().collect(), root, expires })
    }

    /// The statement as it is signed; `name` is a note for people.
    pub(super) fn compose(&self, name: &str) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&Statement {
            kind: STATEMENT_TYPE.to_owned(),
            subject: vec![Subject {
                name: name.to_owned(),
                digest: SubjectDigest { sha256: self.root },
            }],
            predicate_type: PREDICATE_TYPE.to_owned(),
            predicate: Predicate {
                serialization: Serialization {
                    method: "files".to_owned(),
                    hash_type: "sha256".to_owned(),
                    allow_symlinks: false,
                    ignore_paths: vec![SIGNATURE_FILE.to_owned()],
                },
                resources: self
                    .files
                    .iter()
                    .map(|(name, digest)| Resource {
                        name: name.clone(),
                        algorithm: "sha256".to_owned(),
                        digest: *digest,
                    })
                    .collect(),
                expires: self.expires.map(|time| time.to_string()),
            },
        })
    }

    /// Names and digests, in the order of the names.
    pub fn files(&self) -> &BTreeMap<String, Sha256> {
        &self.files
    }

    /// SHA-256 over the files' digests in the order of their names.
    pub fn root(&self) -> Sha256 {
        self.root
    }

    pub fn expires(&self) -> Option<Timestamp> {
        self.expires
    }
}

impl Serialization {
    fn check(&self) -> Result<(), StatementError> {
        expect("serialization method", &self.method, "files")?;
        expect("hash type", &self.hash_type, "sha256")?;
        if self.allow_symlinks {
            return Err(StatementError::SymbolicLinks);
        }
        match self.ignore_paths.iter().find(|path| !IGNORED.contains(&path.as_str())) {
            Some(path) => Err(StatementError::IgnoredPath(excerpt(path))),
            None => Ok(()),
        }
    }
}

fn expect(what: &'static str, found: &str, wanted: &'static str) -> Result<(), StatementError> {
    if found == wanted {
        Ok(())
    } else {
        Err(StatementError::Unsupported { what, found: excerpt(found), wanted })
    }
}

/// RFC 3339 is a subset of what jiff takes; a statement has to keep to it.
fn parse_time(text: &str) -> Result<Timestamp, StatementError> {
    let plain = text.bytes().all(|c| c.is_ascii_digit() || b"-:.TZ+".contains(&c));
    match text.parse() {
        Ok(time) if plain => Ok(time),
        _ => Err(StatementError::ExpiryFormat(excerpt(text))),
    }
}

/// A bundle is flat: a name is one level, not a way through the file system, and not the signature.
fn is_plain(name: &str) -> bool {
    (1..=255).contains(&name.len())
        && !IGNORED.contains(&name)
        && name != "."
        && name != ".."
        && !name.contains(|c: char| c == '/' || c == '\\' || c.is_control())
}
