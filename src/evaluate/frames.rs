//! Liveness scores of recorded tracks, looked at as the daemon looks at frames.

use std::path::Path;

use super::EvaluateError;
use super::folders::TrackFolder;
use super::liveness::ScoredTrack;
use super::pictures::in_parallel;
use crate::camera::{JPEG_BYTES, decode_frame, decode_photo};
use crate::face::quality::QualityGate;
use crate::model::Engine;

/// Scores every frame of every track, by the bundle's networks as they are. In each frame the largest face that is good
/// enough for `run` to look at counts; a frame without one, or that cannot be decoded, is counted as unusable.
/// `done` is called after each frame.
pub fn score_tracks(
    engine: &Engine,
    tracks: &[TrackFolder],
    jobs: usize,
    done: impl Fn() + Sync,
) -> Result<Vec<ScoredTrack>, EvaluateError> {
    let frames: Vec<&Path> =
        tracks.iter().flat_map(|track| &track.frames).map(AsRef::as_ref).collect();
    let scores = in_parallel(&frames, jobs, |path| {
        let score = score(engine, path);
        done();
        score
    })?;
    let mut scores = scores.into_iter();
    let scored = |track: &TrackFolder| {
        let own: Vec<f32> = scores.by_ref().take(track.frames.len()).flatten().collect();
        let unusable = track.frames.len() - own.len();
        ScoredTrack { subject: track.subject.clone(), scores: own, unusable }
    };
    Ok(tracks.iter().map(scored).collect())
}

fn score(engine: &Engine, path: &Path) -> Result<Option<f32>, EvaluateError> {
    let failed = |source| EvaluateError::Liveness { path: path.to_owned(), source };
    let Some(frame) = decoded(path)? else { return Ok(None) };
    let faces = engine
        .detect(&frame)
        .map_err(|source| EvaluateError::Network { path: path.to_owned(), source })?;
    let gate = QualityGate::recognition();
    let largest = faces
        .iter()
        .filter(|face| gate.assess(&frame, face).is_ok())
        .max_by(|a, b| a.bounds.area().total_cmp(&b.bounds.area()));
    let Some(face) = largest else { return Ok(None) };
    engine.liveness(&frame, face).map_err(failed)
}

/// JPEG as the camera's frames are decoded, other formats as photographs; what is broken is told and passed over.
fn decoded(path: &Path) -> Result<Option<image::RgbImage>, EvaluateError> {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    if !["jpg", "jpeg"].contains(&extension.to_ascii_lowercase().as_str()) {
        return Ok(decode_photo(path).inspect_err(|error| log::warn!("{error}")).ok());
    }
    let io = |source| EvaluateError::Io { path: path.to_owned(), source };
    if std::fs::metadata(path).map_err(io)?.len() > JPEG_BYTES as u64 {
        log::warn!("{}: larger than a camera's frame may be", path.display());
        return Ok(None);
    }
    let bytes = std::fs::read(path).map_err(io)?;
    let frame = decode_frame(&bytes);
    Ok(frame.inspect_err(|error| log::warn!("{}: {error}", path.display())).ok())
}
