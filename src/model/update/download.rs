//! A target to a file: bounded, resumed, and there under its name only when it is whole and what was signed.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ring::digest::{Context, SHA256, SHA512};

use super::fetch::{FetchError, Source};
use super::metadata::{MetadataError, TargetFile, check_hashes};

/// Why a target is not there.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("{name}: {source}")]
    Target { name: String, source: MetadataError },
    #[error("{name}: {length} bytes, more than the {limit} that are taken")]
    TooLarge { name: String, length: u64, limit: u64 },
    #[error("{}: {source}", .path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// Whether a file is a target, by length and digests.
pub fn is_target(path: &Path, target: &TargetFile) -> bool {
    let length = std::fs::metadata(path).map(|metadata| metadata.len());
    length.is_ok_and(|length| length == target.length)
        && File::open(path).is_ok_and(|mut file| matches!(hold(&mut file, target), Ok(Ok(()))))
}

/// Fetches a target of at most `limit` bytes to `path`. What came of it before an interruption is kept beside it
/// as `.part`, and is gone on from. `progress` is told how many bytes there are.
pub fn download(
    source: &Source,
    location: &str,
    target: &TargetFile,
    limit: u64,
    path: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<(), DownloadError> {
    if is_target(path, target) {
        return Ok(());
    }
    let name = || location.to_owned();
    if !["sha256", "sha512"].into_iter().any(|known| target.hashes.contains_key(known)) {
        return Err(DownloadError::Target { name: name(), source: MetadataError::NoDigest });
    }
    if target.length > limit {
        return Err(DownloadError::TooLarge { name: name(), length: target.length, limit });
    }
    let part = part_of(path);
    let io = |source| DownloadError::Io { path: part.clone(), source };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut file = options.open(&part).map_err(io)?;
    let mut have = file.metadata().map_err(io)?.len();
    if have >= target.length {
        // Whole already, or of another target.
        let whole = have == target.length && matches!(hold(&mut file, target), Ok(Ok(())));
        have = if whole { have } else { 0 };
    }
    if have == 0 {
        file.set_len(0).map_err(io)?;
    }
    if have < target.length {
        file.seek(SeekFrom::Start(have)).map_err(io)?;
        let mut there = have;
        let fetched = source.stream(location, have, target.length, &mut |bytes| {
            // Nothing: it comes from the beginning after all.
            if bytes.is_empty() {
                there = 0;
                file.set_len(0)?;
                return file.seek(SeekFrom::Start(0)).map(drop);
            }
            there += bytes.len() as u64;
            progress(there);
            file.write_all(bytes)
        });
        match fetched {
            Ok(_) => {}
            // A part that ends beyond it, or a file larger than was signed: not to be gone on from.
            Err(error @ FetchError::TooLarge { .. }) => {
                drop(std::fs::remove_file(&part));
                return Err(error.into());
            }
            Err(error) => {
                if file.metadata().map_err(io)?.len() == 0 {
                    drop(std::fs::remove_file(&part));
                }
                file.sync_all().map_err(io)?;
                return Err(error.into());
            }
        }
    }
    let length = file.metadata().map_err(io)?.len();
    let sound = if length == target.length {
        hold(&mut file, target).map_err(io)?
    } else {
        Err(MetadataError::Length)
    };
    if let Err(source) = sound {
        drop(std::fs::remove_file(&part));
        return Err(DownloadError::Target { name: name(), source });
    }
    file.sync_all().map_err(io)?;
    std::fs::rename(&part, path).map_err(io)
}

/// Where an unfinished download lies.
pub fn part_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".part");
    path.with_file_name(name)
}

/// Digests a file from its beginning and holds that against what was signed.
fn hold(file: &mut File, target: &TargetFile) -> io::Result<Result<(), MetadataError>> {
    let (mut sha256, mut sha512) = (Context::new(&SHA256), Context::new(&SHA512));
    let wide = target.hashes.contains_key("sha512");
    file.seek(SeekFrom::Start(0))?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => {
                sha256.update(&buffer[..length]);
                if wide {
                    sha512.update(&buffer[..length]);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let (sha256, sha512) = (sha256.finish(), sha512.finish());
    Ok(check_hashes(&target.hashes, |algorithm| match algorithm {
        "sha256" => Some(sha256.as_ref().to_vec()),
        "sha512" => Some(sha512.as_ref().to_vec()),
        _ => None,
    }))
}
