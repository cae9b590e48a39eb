//! Verified bundles. Whoever holds a [`VerifiedBundle`] holds bytes that a trust anchor has signed:
//! there is no other way to make one, and the bytes are those that were hashed, never read again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::ModelIdentity;
use super::anchors::{Anchor, TrustAnchors};
use super::digest::Sha256;
use super::directory::{Directory, DirectoryError};
use super::manifest::{Manifest, ManifestError};
use super::signature::{self, SIGNATURE_FILE, SignatureError};
use super::statement::{SignedFiles, StatementError};

/// Name of the manifest in a bundle.
pub const MANIFEST_FILE: &str = "bundle.toml";

/// Largest `model.sig` and `bundle.toml`, in bytes.
const SMALL_LIMIT: u64 = 1 << 20;
/// Largest other file, in bytes.
const FILE_LIMIT: u64 = 512 << 20;
/// Largest sum of all files, in bytes.
const TOTAL_LIMIT: u64 = 1 << 30;

/// Why a directory is not a bundle to be run. One line: which bundle, which file, why.
#[derive(Debug, thiserror::Error)]
#[error("model bundle {}: {fault}", .directory.display())]
pub struct BundleError {
    pub directory: PathBuf,
    pub fault: BundleFault,
}

#[derive(Debug, thiserror::Error)]
pub enum BundleFault {
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error("{SIGNATURE_FILE}: {0}")]
    Signature(#[from] SignatureError),
    #[error("{SIGNATURE_FILE}: {0}")]
    Statement(#[from] StatementError),
    #[error("{}: is not among the signed files", .file.escape_debug())]
    Unlisted { file: String },
    #[error("{}: is signed but missing", .file.escape_debug())]
    Missing { file: String },
    #[error("{}: was changed after signing (SHA-256 {found}, signed was {signed})", .file.escape_debug())]
    Altered { file: String, signed: Sha256, found: Sha256 },
    #[error("{}: with it the files are larger than {TOTAL_LIMIT} bytes in sum", .file.escape_debug())]
    TotalTooLarge { file: String },
    #[error("{MANIFEST_FILE}: there is none, so this is not a familiar bundle")]
    NoManifest,
    #[error("{MANIFEST_FILE}: {0}")]
    Manifest(#[from] ManifestError),
    #[error("{}: {MANIFEST_FILE} needs it, but it is not in the bundle", .file.escape_debug())]
    Unprovided { file: String },
}

/// The files of a signed directory, read once and found to be the signed ones.
#[derive(Debug)]
pub struct VerifiedFiles {
    contents: BTreeMap<String, Vec<u8>>,
    signed: SignedFiles,
    signer: Anchor,
    /// The `model.sig` that held.
    signature: Vec<u8>,
}

/// A bundle whose files are signed and whose manifest makes sense.
#[derive(Debug)]
pub struct VerifiedBundle {
    manifest: Manifest,
    files: VerifiedFiles,
}

/// The bytes of a network out of a verified bundle: the only thing that may be parsed as one.
#[derive(Debug)]
pub struct VerifiedModel {
    name: String,
    digest: Sha256,
    bytes: Vec<u8>,
}

impl VerifiedFiles {
    /// Verifies a directory of files and its `model.sig`; it need not be a familiar bundle.
    pub fn open(directory: &Path, anchors: &TrustAnchors) -> Result<Self, BundleError> {
        verify_files(directory, anchors).map_err(|fault| fault.of(directory))
    }

    /// Name to content, `model.sig` left out.
    pub fn contents(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.contents
    }

    pub fn signed(&self) -> &SignedFiles {
        &self.signed
    }

    /// The trust anchor whose signature holds.
    pub fn signer(&self) -> &Anchor {
        &self.signer
    }
}

impl VerifiedBundle {
    /// Opens and verifies a bundle: signature, then every file, then the manifest.
    pub fn open(directory: &Path, anchors: &TrustAnchors) -> Result<Self, BundleError> {
        Self::from_files(directory, VerifiedFiles::open(directory, anchors)?)
    }

    /// The same for files that were unpacked into memory, `model.sig` among them; `name` is named in errors.
    pub fn from_memory(
        name: &Path,
        mut files: BTreeMap<String, Vec<u8>>,
        anchors: &TrustAnchors,
    ) -> Result<Self, BundleError> {
        let names = files.keys().cloned().collect();
        let read = |file: &str, limit: u64| match files.remove(file) {
            Some(bytes) if bytes.len() as u64 > limit => {
                Err(DirectoryError::TooLarge { file: file.to_owned(), limit })
            }
            Some(bytes) => Ok(bytes),
            None => Err(DirectoryError::Missing { file: file.to_owned() }),
        };
        let verified = verify(&names, read, anchors).map_err(|fault| fault.of(name))?;
        Self::from_files(name, verified)
    }

    /// Takes verified files for a bundle; `directory` is named in errors.
    pub fn from_files(directory: &Path, files: VerifiedFiles) -> Result<Self, BundleError> {
        match parse_manifest(&files.contents) {
            Ok(manifest) => Ok(Self { manifest, files }),
            Err(fault) => Err(fault.of(directory)),
        }
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Name and version of the manifest, and the digest over all files.
    pub fn identity(&self) -> ModelIdentity {
        ModelIdentity {
            name: self.manifest.name.clone(),
            version: self.manifest.version.clone(),
            digest: format!("sha256:{}", self.files.signed.root()),
        }
    }

    pub fn signer(&self) -> &Anchor {
        self.files.signer()
    }

    /// A file's verified bytes; `None` if there is none of that name or it was taken.
    pub fn file(&self, name: &str) -> Option<&[u8]> {
        self.files.contents.get(name).map(Vec::as_slice)
    }

    /// All files to make the same bundle elsewhere, `model.sig` among them, if no network was taken out.
    pub(super) fn all_files(&self) -> Option<impl Iterator<Item = (&str, &[u8])>> {
        let VerifiedFiles { contents, signed, signature, .. } = &self.files;
        let signature = (SIGNATURE_FILE, signature.as_slice());
        (contents.len() == signed.files().len()).then(|| {
            let files = contents.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
            files.chain([signature])
        })
    }

    /// A file's digest, even if it was taken.
    pub fn digest(&self, name: &str) -> Option<Sha256> {
        self.files.signed.files().get(name).copied()
    }

    /// Hands a network's verified bytes over; a second time gives `None`.
    pub fn take_model(&mut self, name: &str) -> Option<VerifiedModel> {
        let digest = self.digest(name)?;
        let (name, bytes) = self.files.contents.remove_entry(name)?;
        Some(VerifiedModel { name, digest, bytes })
    }
}

impl VerifiedModel {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn digest(&self) -> Sha256 {
        self.digest
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Tests of the inference engine make their own models.
    #[cfg(test)]
    pub(crate) fn for_test(bytes: Vec<u8>) -> Self {
        Self { name: "test.onnx".to_owned(), digest: Sha256::of(&bytes), bytes }
    }
}

impl BundleFault {
    pub(super) fn of(self, directory: &Path) -> BundleError {
        BundleError { directory: directory.to_owned(), fault: self }
    }
}

fn verify_files(path: &Path, anchors: &TrustAnchors) -> Result<VerifiedFiles, BundleFault> {
    let directory = Directory::open(path)?;
    let names = directory.list()?;
    verify(&names, |file, limit| directory.read(file, limit), anchors)
}

/// `read` is asked for each file once.
fn verify(
    names: &BTreeSet<String>,
    mut read: impl FnMut(&str, u64) -> Result<Vec<u8>, DirectoryError>,
    anchors: &TrustAnchors,
) -> Result<VerifiedFiles, BundleFault> {
    let text = read(SIGNATURE_FILE, SMALL_LIMIT)?;
    let payload = signature::verify(&text, anchors)?;
    let signed = SignedFiles::parse(&payload, Timestamp::now())?;

    let present = |name: &&String| names.contains(name.as_str());
    if let Some(file) = signed.files().keys().find(|name| !present(name)) {
        return Err(BundleFault::Missing { file: file.clone() });
    }
    let listed = |name: &str| name == SIGNATURE_FILE || signed.files().contains_key(name);
    if let Some(file) = names.iter().find(|name| !listed(name)) {
        return Err(BundleFault::Unlisted { file: file.clone() });
    }

    let contents = read_all(read, signed.files().keys())?;
    for (file, digest) in signed.files() {
        let found = contents.get(file).map_or_else(|| Sha256::of(&[]), |bytes| Sha256::of(bytes));
        if found != *digest {
            return Err(BundleFault::Altered { file: file.clone(), signed: *digest, found });
        }
    }
    let signer = payload.signer().clone();
    Ok(VerifiedFiles { contents, signed, signer, signature: text })
}

/// Reads files within the limits of a bundle.
pub(super) fn read_files<'a>(
    directory: &Directory,
    names: impl Iterator<Item = &'a String>,
) -> Result<BTreeMap<String, Vec<u8>>, BundleFault> {
    read_all(|file, limit| directory.read(file, limit), names)
}

fn read_all<'a>(
    mut read: impl FnMut(&str, u64) -> Result<Vec<u8>, DirectoryError>,
    names: impl Iterator<Item = &'a String>,
) -> Result<BTreeMap<String, Vec<u8>>, BundleFault> {
    let mut contents = BTreeMap::new();
    let mut total = 0;
    for file in names {
        let limit = if file == MANIFEST_FILE { SMALL_LIMIT } else { FILE_LIMIT };
        let bytes = read(file, limit)?;
        total += bytes.len() as u64;
        if total > TOTAL_LIMIT {
            return Err(BundleFault::TotalTooLarge { file: file.clone() });
        }
        contents.insert(file.clone(), bytes);
    }
    Ok(contents)
}

pub(super) fn parse_manifest(
    contents: &BTreeMap<String, Vec<u8>>,
) -> Result<Manifest, BundleFault> {
    let text = contents.get(MANIFEST_FILE).ok_or(BundleFault::NoManifest)?;
    let manifest = Manifest::parse(text)?;
    if let Some(file) = manifest.files().find(|file| !contents.contains_key(*file)) {
        return Err(BundleFault::Unprovided { file: file.to_owned() });
    }
    Ok(manifest)
}
