//! Embedding many pictures on all cores.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use image::RgbImage;

use super::EvaluateError;
use crate::camera::decode_photo;
use crate::face::DetectedFace;
use crate::model::Engine;
use crate::recognition::Embedding;

/// Pictures of people: a folder for each person.
#[derive(Debug, Default)]
pub struct People(pub BTreeMap<String, Vec<PathBuf>>);

impl People {
    /// Reads `NAME/*.jpg` (and .jpeg, .png, .webp) below a directory.
    pub fn read(directory: &Path) -> Result<Self, EvaluateError> {
        let mut people = BTreeMap::new();
        for folder in list(directory)? {
            let Some(name) = folder.file_name().and_then(|name| name.to_str()) else { continue };
            if !folder.is_dir() || name.starts_with('.') {
                continue;
            }
            let pictures: Vec<PathBuf> =
                list(&folder)?.into_iter().filter(|path| is_picture(path)).collect();
            if !pictures.is_empty() {
                people.insert(name.to_owned(), pictures);
            }
        }
        Ok(Self(people))
    }
}

pub(super) fn is_picture(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| {
        // The last ones are not read, and that is reported.
        ["jpg", "jpeg", "png", "webp", "heic", "heif", "avif", "gif", "tif", "tiff", "bmp"]
            .contains(&extension.to_ascii_lowercase().as_str())
    })
}

pub(super) fn list(directory: &Path) -> Result<Vec<PathBuf>, EvaluateError> {
    let io = |source| EvaluateError::Io { path: directory.to_owned(), source };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(io)? {
        paths.push(entry.map_err(io)?.path());
    }
    paths.sort();
    Ok(paths)
}

/// The embedding of each picture's most central face; `None` where there is no face, or no readable picture (which
/// is told as a warning). `done` is called after each picture.
pub fn embed_all(
    engine: &Engine,
    pictures: &[PathBuf],
    jobs: usize,
    done: impl Fn() + Sync,
) -> Result<Vec<Option<Embedding>>, EvaluateError> {
    in_parallel(pictures, jobs, |path| {
        let embedding = embed(engine, path);
        done();
        embedding
    })
}

fn embed(engine: &Engine, path: &Path) -> Result<Option<Embedding>, EvaluateError> {
    let network = |source| EvaluateError::Network { path: path.to_owned(), source };
    let picture = match decode_photo(path) {
        Ok(picture) => picture,
        Err(error) => {
            log::warn!("{error}");
            return Ok(None);
        }
    };
    let faces = engine.detect_still(&picture).map_err(network)?;
    most_central(&picture, &faces)
        .map(|face| engine.embed(&picture, face))
        .transpose()
        .map_err(network)
}

/// In pictures of this kind the person meant is the one in the middle.
pub fn most_central<'a>(picture: &RgbImage, faces: &'a [DetectedFace]) -> Option<&'a DetectedFace> {
    let (x, y) = (picture.width() as f32 / 2.0, picture.height() as f32 / 2.0);
    let away = |face: &DetectedFace| {
        let center = face.bounds.center();
        (center.x - x).hypot(center.y - y)
    };
    faces.iter().min_by(|a, b| away(a).total_cmp(&away(b)))
}

/// As many threads as there are cores.
pub fn all_cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// `work` on every item, on `jobs` threads (at least one); results in the items' order, or the first error.
pub(super) fn in_parallel<T: Sync, R: Send>(
    items: &[T],
    jobs: usize,
    work: impl Fn(&T) -> Result<R, EvaluateError> + Sync,
) -> Result<Vec<R>, EvaluateError> {
    let next = AtomicUsize::new(0);
    let threads = jobs.clamp(1, items.len().max(1));
    let one = || {
        let mut results = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else { return Ok(results) };
            match work(item) {
                Ok(result) => results.push((at, result)),
                Err(error) => {
                    next.store(items.len(), Ordering::Relaxed); // the others need not go on
                    return Err(error);
                }
            }
        }
    };
    let parts: Vec<Result<Vec<(usize, R)>, EvaluateError>> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
        handles
            .into_iter()
            .map(|handle| {
                handle
                    .join()
                    .unwrap_or_else(|_| Err(EvaluateError::TooFew("a worker gave up".to_owned())))
            })
            .collect()
    });
    let mut all = Vec::with_capacity(items.len());
    for part in parts {
        all.extend(part?);
    }
    all.sort_by_key(|(at, _)| *at);
    Ok(all.into_iter().map(|(_, result)| result).collect())
}
