//! A detector against pictures whose faces were marked by hand.
//!
//! The boxes are a CSV file with the columns of WIDER FACE's validation set:
//! `image,x,y,w,h,easy,medium,hard,invalid` (pixels, then flags 0 or 1).

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::EvaluateError;
use super::pictures::in_parallel;
use crate::camera::decode_photo;
use crate::face::{BoundingBox, DetectedFace};
use crate::model::Engine;
use crate::system::bounded;

/// Largest file, in bytes; that of WIDER FACE's validation set has 1.5 million.
const LIMIT: u64 = 64 << 20;

/// A detection is a marked face if their boxes overlap at least so much (IoU).
const MINIMUM_OVERLAP: f32 = 0.5;

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MarkedFace {
    pub bounds: BoundingBox,
    pub easy: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BoxReport {
    pub pictures: usize,
    /// Boxes that are marked easy.
    pub faces: usize,
    pub found: usize,
    /// `found / faces`.
    pub recall: f64,
    /// Detections that are no marked face of any kind, per picture.
    pub false_per_picture: f64,
    pub score_threshold: f32,
}

/// The marked faces of each picture, by its file name.
pub fn read_boxes(path: &Path) -> Result<BTreeMap<String, Vec<MarkedFace>>, EvaluateError> {
    let text = bounded::read_text(path, LIMIT)
        .map_err(|source| EvaluateError::Io { path: path.to_owned(), source })?;
    parse_all(&text).map_err(|line| EvaluateError::Line {
        path: path.to_owned(),
        line,
        reason: "not image,x,y,w,h,easy,medium,hard,invalid".to_owned(),
    })
}

/// An error is a line's number, from 1.
pub(crate) fn parse_all(text: &str) -> Result<BTreeMap<String, Vec<MarkedFace>>, usize> {
    let mut marked: BTreeMap<String, Vec<MarkedFace>> = BTreeMap::new();
    for (at, line) in text.lines().enumerate().skip(1) {
        let (name, face) = parse(line).ok_or(at + 1)?;
        marked.entry(name).or_default().push(face);
    }
    Ok(marked)
}

fn parse(line: &str) -> Option<(String, MarkedFace)> {
    let fields: Vec<&str> = line.trim().split(',').collect();
    let [name, x, y, width, height, easy, _, _, _] = fields[..] else { return None };
    let number = |field: &str| field.parse::<f32>().ok().filter(|value| value.is_finite());
    let bounds = BoundingBox {
        x: number(x)?,
        y: number(y)?,
        width: number(width)?,
        height: number(height)?,
    };
    let sound = !name.is_empty() && !name.contains("..") && !name.starts_with('/');
    sound.then(|| (name.to_owned(), MarkedFace { bounds, easy: easy == "1" }))
}

/// Runs the detector on every marked picture below `directory`.
pub fn measure_boxes(
    engine: &Engine,
    directory: &Path,
    marked: &BTreeMap<String, Vec<MarkedFace>>,
    jobs: usize,
    done: impl Fn() + Sync,
) -> Result<BoxReport, EvaluateError> {
    let pictures: Vec<_> = marked.iter().collect();
    let counts = in_parallel(&pictures, jobs, |(name, faces)| {
        let path = directory.join(name);
        let picture = decode_photo(&path).map_err(|error| EvaluateError::NoPicture {
            name: format!("{name} ({error})"),
            directory: directory.to_owned(),
        })?;
        let detected = engine
            .detect(&picture)
            .map_err(|source| EvaluateError::Network { path: path.clone(), source })?;
        done();
        Ok(compare(&detected, faces))
    })?;
    let faces = marked.values().flatten().filter(|face| face.easy).count();
    let found = counts.iter().map(|(found, _)| found).sum();
    let wrong: usize = counts.iter().map(|(_, wrong)| wrong).sum();
    Ok(BoxReport {
        pictures: marked.len(),
        faces,
        found,
        recall: found as f64 / faces.max(1) as f64,
        false_per_picture: wrong as f64 / marked.len().max(1) as f64,
        score_threshold: engine.manifest().detector.score_threshold,
    })
}

/// Easy faces found, and detections that are no marked face. Each marked face is found once, by the most confident
/// detection first (as `detected` is ordered).
fn compare(detected: &[DetectedFace], marked: &[MarkedFace]) -> (usize, usize) {
    let mut free: Vec<&MarkedFace> = marked.iter().collect();
    let (mut found, mut wrong) = (0, 0);
    for face in detected {
        let overlap = |marked: &MarkedFace| marked.bounds.overlap(&face.bounds);
        let best = (0..free.len()).max_by(|&a, &b| overlap(free[a]).total_cmp(&overlap(free[b])));
        match best.filter(|&at| overlap(free[at]) >= MINIMUM_OVERLAP) {
            Some(at) => found += usize::from(free.swap_remove(at).easy),
            None => wrong += 1,
        }
    }
    (found, wrong)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::face::Point;

    fn bounds(x: f32) -> BoundingBox {
        BoundingBox { x, y: 0.0, width: 10.0, height: 10.0 }
    }

    fn detected(x: f32) -> DetectedFace {
        DetectedFace { bounds: bounds(x), score: 0.9, landmarks: [Point::default(); 5] }
    }

    #[test]
    fn each_marked_face_is_found_once() {
        let marked = [
            MarkedFace { bounds: bounds(0.0), easy: true },
            MarkedFace { bounds: bounds(50.0), easy: false },
            MarkedFace { bounds: bounds(100.0), easy: true },
        ];
        // One on the first, one more on it (false), one on the hard face (neither), one on nothing (false).
        let found =
            compare(&[detected(1.0), detected(2.0), detected(50.0), detected(200.0)], &marked);
        assert_eq!(found, (1, 2));
    }

    #[test]
    fn lines_are_parsed_or_refused() {
        let (name, face) = parse("a.jpg,1,2,3,4,1,1,1,0").unwrap();
        assert_eq!((name.as_str(), face.easy, face.bounds.height), ("a.jpg", true, 4.0));
        for line in ["", "a.jpg,1,2,3", "a.jpg,x,2,3,4,1,1,1,0", "../a.jpg,1,2,3,4,1,1,1,0"] {
            assert!(parse(line).is_none(), "{line:?}");
        }
    }
}
