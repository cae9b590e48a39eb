//! The parsers that meet what others made, as `fuzz/` drives them. For tests alone, and no part of the API.
//!
//! What carries trust does not come out here: signatures and seals are made by nobody but those who verify them,
//! and of what they protect only whether it made sense is told.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;

use image::RgbImage;
use jiff::Timestamp;

pub use crate::camera::jpeg::SCANS;
pub use crate::camera::mjpeg::{Piece, Splitter};
pub use crate::camera::pixels::{Colors, Matrix, Pixels, Raw};
use crate::camera::{PhotoError, photo};
use crate::config::{self, Config, ConfigError};
use crate::evaluate::{PairList, boxes};
use crate::event::pins;
use crate::model::statement::SignedFiles;
use crate::model::update::archive::{self, ArchiveError};
use crate::model::update::metadata::{
    Delegation, Role, Root, Signed, Snapshot, Targets, TimestampRole,
};
use crate::model::{TrustAnchors, signature};
use crate::mqtt::packets;
use crate::recognition::gallery::backup::{Backup, BackupError};

/// A still picture's bytes.
pub fn photo(bytes: &[u8]) -> Result<RgbImage, PhotoError> {
    photo::decode(Path::new("photo"), bytes)
}

/// All pieces of a recording.
pub fn recording(reader: impl Read) -> io::Result<Vec<Piece>> {
    let mut splitter = Splitter::new(reader);
    let mut pieces = Vec::new();
    while let Some(piece) = splitter.next_piece()? {
        pieces.push(piece);
    }
    Ok(pieces)
}

pub fn configuration(text: &str) -> Result<Config, ConfigError> {
    config::load::parse(Path::new("familiar.toml"), text)
}

/// A `model.sig` and the statement in it; how many files it speaks for.
pub fn model_signature(text: &[u8], anchors: &TrustAnchors) -> Result<usize, String> {
    let payload = signature::verify(text, anchors).map_err(|error| error.to_string())?;
    let signed =
        SignedFiles::parse(&payload, Timestamp::UNIX_EPOCH).map_err(|error| error.to_string())?;
    Ok(signed.files().len())
}

/// What the seal of a backup holds; how many people.
pub fn backup_content(plain: &[u8]) -> Result<usize, BackupError> {
    Backup::parse(plain)?.check().map(|backup| backup.len())
}

pub fn pairs(text: &str) -> Result<PairList, (usize, String)> {
    PairList::parse(text)
}

/// How many pictures have marked faces; an error is a line's number.
pub fn boxes(text: &str) -> Result<usize, usize> {
    boxes::parse_all(text).map(|marked| marked.len())
}

/// `pins.json`, read and written again.
pub fn pins(bytes: &[u8]) -> Result<String, String> {
    pins::parse(bytes).map(|pins| pins::compose(&pins))
}

/// What a broker sends, packet by packet; how many there were, and the bytes left over.
pub fn packets(bytes: &[u8]) -> Result<(usize, usize), String> {
    let mut incoming = bytes::BytesMut::from(bytes);
    let mut count = 0;
    while packets::next(&mut incoming).map_err(|error| error.to_string())?.is_some() {
        count += 1;
    }
    Ok((count, incoming.len()))
}

/// The files in an archive of a bundle, by their names.
pub fn archive(bytes: &[u8]) -> Result<BTreeMap<String, Vec<u8>>, ArchiveError> {
    archive::unpack(bytes)
}

/// A file of an update repository's metadata, of whichever kind, held against its own keys if it has any; the bytes
/// that its signatures are to sign.
pub fn metadata(bytes: &[u8]) -> Result<Vec<u8>, String> {
    fn parse<T: Role>(bytes: &[u8]) -> Result<Signed<T>, String> {
        Signed::parse(bytes.to_vec()).map_err(|error| error.to_string())
    }
    let covers = |delegation: &Delegation, path: &String| delegation.covers(path);
    if let Ok(root) = parse::<Root>(bytes) {
        let _ = root.check(&root.signed.roles.root, &root.signed.keys);
        return Ok(root.message);
    }
    if let Ok(targets) = parse::<Targets>(bytes) {
        for delegation in targets.signed.delegations.iter().flat_map(|all| &all.roles) {
            let _ = targets.signed.targets.keys().filter(|path| covers(delegation, path)).count();
        }
        return Ok(targets.message);
    }
    if let Ok(snapshot) = parse::<Snapshot>(bytes) {
        return Ok(snapshot.message);
    }
    parse::<TimestampRole>(bytes).map(|timestamp| timestamp.message)
}
