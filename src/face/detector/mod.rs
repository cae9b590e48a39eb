//! Where faces are: a frame, scaled to a network's input, and the network's answers back in frame pixels.

mod centerface;
mod tiles;
mod yunet;

use image::RgbImage;

use super::resize::{resize, whole};
use super::{BoundingBox, DetectedFace, Point};
use crate::model::bundle::VerifiedModel;
use crate::model::manifest::{self, Decoder};
use crate::model::network::{Network, NetworkError, Output};

/// No frame gives more faces than this (the most confident), so that a crowd is bounded work. More than there are
/// tracks: it is for the tracker to say who is left out, and to count them.
pub const MAXIMUM_FACES: usize = 256;
/// Suppression of overlapping boxes compares at most this many (the most confident).
const MAXIMUM_CANDIDATES: usize = 1024;
/// A candidate that overlaps a more confident one by this much (IoU) is a second proposal for the same face. With less
/// it may be that of a neighbour.
const SAME_FACE: f32 = 0.5;

/// A face detector with its decoder.
pub struct Detector {
    network: Network,
    manifest: manifest::Detector,
}

impl Detector {
    pub fn load(model: VerifiedModel, manifest: &manifest::Detector) -> Result<Self, NetworkError> {
        Ok(Self { network: Network::load(model, &manifest.input)?, manifest: manifest.clone() })
    }

    /// The faces of a frame of any size, most confident first, at most [`MAXIMUM_FACES`], in frame pixels.
    pub fn detect(&self, frame: &RgbImage) -> Result<Vec<DetectedFace>, NetworkError> {
        if frame.width() == 0 || frame.height() == 0 {
            return Ok(Vec::new());
        }
        let input = self.network.input();
        let (scaled, scale) = letterbox(frame, input.width, input.height);
        let mut faces = self.detect_scaled(&scaled)?;
        for face in &mut faces {
            *face = face.scaled(1.0 / scale.0, 1.0 / scale.1);
        }
        Ok(faces)
    }

    /// The same for a still, whose faces may be small: where it is large and shows none at first, it is looked at in
    /// tiles as well. Takes seconds at most.
    pub fn detect_still(&self, still: &RgbImage) -> Result<Vec<DetectedFace>, NetworkError> {
        let faces = self.detect(still)?;
        if !faces.is_empty() {
            return Ok(faces);
        }
        let input = self.network.input();
        let overlap = self.manifest.overlap_threshold;
        tiles::search(still, (input.width, input.height), overlap, |part| self.detect(part))
    }

    /// The faces of a picture of exactly the network's input size, in its pixels.
    pub fn detect_scaled(&self, picture: &RgbImage) -> Result<Vec<DetectedFace>, NetworkError> {
        let outputs = self.network.run(picture)?;
        let decode = match self.manifest.decoder {
            Decoder::Yunet => yunet::decode,
            Decoder::Centerface => centerface::decode,
        };
        let size = (self.manifest.input.width as usize, self.manifest.input.height as usize);
        let faces = decode(&outputs, size, self.manifest.score_threshold)?;
        Ok(suppress(faces, self.manifest.overlap_threshold))
    }
}

/// The frame at the top left of a black picture of the given size, its aspect kept, and the factors used.
fn letterbox(frame: &RgbImage, width: u32, height: u32) -> (RgbImage, (f32, f32)) {
    let (w, h) = (f64::from(frame.width()), f64::from(frame.height()));
    let scale = (f64::from(width) / w).min(f64::from(height) / h);
    let scaled_width = ((w * scale).round() as u32).clamp(1, width);
    let scaled_height = ((h * scale).round() as u32).clamp(1, height);
    let scaled = resize(frame, whole(frame), scaled_width, scaled_height);
    let factors = ((f64::from(scaled_width) / w) as f32, (f64::from(scaled_height) / h) as f32);
    if (scaled_width, scaled_height) == (width, height) {
        return (scaled, factors);
    }
    let mut padded = RgbImage::new(width, height);
    image::imageops::replace(&mut padded, &scaled, 0, 0);
    (padded, factors)
}

/// Greedy non-maximum suppression: the most confident face stays, those that overlap it by more than
/// `overlap` (IoU) go, and so on. What stays is the mean of all candidates for that face: the box of a single one
/// varies almost twice as much (docs/evaluation.md, "Two detectors' boxes").
fn suppress(mut faces: Vec<DetectedFace>, overlap: f32) -> Vec<DetectedFace> {
    faces.retain(DetectedFace::is_finite);
    faces.sort_by(|a, b| b.score.total_cmp(&a.score));
    faces.truncate(MAXIMUM_CANDIDATES);
    let mut kept: Vec<Candidates> = Vec::new();
    for face in faces {
        let full = kept.len() == MAXIMUM_FACES;
        match kept.iter_mut().find(|other| other.best.bounds.overlap(&face.bounds) > overlap) {
            Some(candidates) => candidates.add_same(&face),
            None if full => {}
            None => kept.push(Candidates::of(face)),
        }
    }
    kept.iter().map(Candidates::mean).collect()
}

/// The candidates for one face, weighted by their scores.
struct Candidates {
    best: DetectedFace,
    weight: f64,
    /// Sums of left, top, right, bottom, and of the landmarks. In `f64` no sum of finite `f32` overflows.
    edges: [f64; 4],
    landmarks: [[f64; 2]; 5],
}

impl Candidates {
    fn of(best: DetectedFace) -> Self {
        let mut candidates = Self { best, weight: 0.0, edges: [0.0; 4], landmarks: [[0.0; 2]; 5] };
        candidates.add(&best);
        candidates
    }

    fn add_same(&mut self, face: &DetectedFace) {
        if face.bounds.overlap(&self.best.bounds) >= SAME_FACE {
            self.add(face);
        }
    }

    fn add(&mut self, face: &DetectedFace) {
        let weight = f64::from(face.score.max(0.0));
        let BoundingBox { x, y, width, height } = face.bounds;
        let [x, y, width, height] = [x, y, width, height].map(f64::from);
        self.weight += weight;
        for (sum, edge) in self.edges.iter_mut().zip([x, y, x + width, y + height]) {
            *sum += weight * edge;
        }
        for (sum, point) in self.landmarks.iter_mut().zip(face.landmarks) {
            sum[0] += weight * f64::from(point.x);
            sum[1] += weight * f64::from(point.y);
        }
    }

    /// The mean, with the best candidate's score.
    fn mean(&self) -> DetectedFace {
        if self.weight <= 0.0 {
            return self.best;
        }
        let [left, top, right, bottom] = self.edges.map(|sum| sum / self.weight);
        let point =
            |[x, y]: [f64; 2]| Point { x: (x / self.weight) as f32, y: (y / self.weight) as f32 };
        DetectedFace {
            bounds: BoundingBox {
                x: left as f32,
                y: top as f32,
                width: (right - left) as f32,
                height: (bottom - top) as f32,
            },
            score: self.best.score,
            landmarks: self.landmarks.map(point),
        }
    }
}

impl DetectedFace {
    /// The same face in a picture stretched by these factors.
    fn scaled(&self, x: f32, y: f32) -> Self {
        let BoundingBox { x: left, y: top, width, height } = self.bounds;
        Self {
            bounds: BoundingBox { x: left * x, y: top * y, width: width * x, height: height * y },
            score: self.score,
            landmarks: self.landmarks.map(|point| Point { x: point.x * x, y: point.y * y }),
        }
    }

    fn is_finite(&self) -> bool {
        let BoundingBox { x, y, width, height } = self.bounds;
        [x, y, width, height, self.score].iter().all(|value| value.is_finite())
            && self.landmarks.iter().all(|point| point.x.is_finite() && point.y.is_finite())
    }
}

/// The output of that name and number of values, or an error that says what there is instead.
fn output<'a>(outputs: &'a [Output], name: &str, length: usize) -> Result<&'a [f32], NetworkError> {
    match outputs.iter().find(|output| output.name == name) {
        Some(output) if output.values.len() == length => Ok(&output.values),
        Some(output) => Err(NetworkError::Output {
            wanted: format!("{length} values in {name}"),
            found: format!("shape {:?}", output.shape),
        }),
        None => Err(NetworkError::Output {
            wanted: format!("an output {name}"),
            found: outputs.iter().map(|output| output.name.as_str()).collect::<Vec<_>>().join(", "),
        }),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::float_cmp)]
mod tests {
    use super::*;

    fn face(x: f32, score: f32) -> DetectedFace {
        DetectedFace {
            bounds: BoundingBox { x, y: 0.0, width: 10.0, height: 10.0 },
            score,
            landmarks: [Point::default(); 5],
        }
    }

    #[test]
    fn overlapping_weaker_face_goes() {
        let kept = suppress(vec![face(1.0, 0.8), face(0.0, 0.9), face(20.0, 0.7)], 0.3);
        assert_eq!(kept.iter().map(|face| face.score).collect::<Vec<_>>(), [0.9, 0.7]);
    }

    #[test]
    fn candidates_for_one_face_are_averaged() {
        let moved = |x: f32, score: f32| DetectedFace {
            landmarks: [Point { x: x + 5.0, y: 4.0 }; 5],
            ..face(x, score)
        };
        let kept = suppress(vec![moved(0.0, 0.9), moved(3.0, 0.6), moved(2.0, 0.5)], 0.3);
        assert_eq!(kept.len(), 1);
        let x = (3.0 * 0.6 + 2.0 * 0.5) / (0.9 + 0.6 + 0.5);
        assert!((kept[0].bounds.x - x).abs() < 1e-5, "{:?}", kept[0]);
        assert!((kept[0].bounds.width - 10.0).abs() < 1e-5, "{:?}", kept[0]);
        assert!((kept[0].landmarks[2].x - x - 5.0).abs() < 1e-5, "{:?}", kept[0]);
        assert_eq!(kept[0].score, 0.9);
    }

    #[test]
    fn neighbour_that_overlaps_less_does_not_move_the_box() {
        // IoU of 0.43: suppressed, but perhaps somebody else.
        let kept = suppress(vec![face(0.0, 0.9), face(4.0, 0.8)], 0.3);
        assert_eq!(kept, [face(0.0, 0.9)]);
    }

    #[test]
    fn mean_of_faces_without_confidence_or_size_is_a_number() {
        let empty = |score: f32| DetectedFace {
            bounds: BoundingBox { x: f32::MAX, y: 1.0, width: 0.0, height: 0.0 },
            ..face(0.0, score)
        };
        for kept in [suppress(vec![face(0.0, 0.0); 3], 0.3), suppress(vec![empty(0.9); 3], 0.3)] {
            assert!(!kept.is_empty());
            assert!(kept.iter().all(DetectedFace::is_finite), "{kept:?}");
        }
    }

    #[test]
    fn crowd_is_bounded_and_keeps_the_most_confident() {
        let crowd = (0..5000).map(|at| face(at as f32 * 20.0, at as f32 / 5000.0)).collect();
        let kept = suppress(crowd, 0.3);
        assert_eq!(kept.len(), MAXIMUM_FACES);
        assert_eq!(kept[0].score, 4999.0 / 5000.0);
    }

    #[test]
    fn face_that_is_not_a_number_goes() {
        let kept = suppress(vec![face(f32::NAN, 0.9), face(0.0, f32::INFINITY)], 0.3);
        assert!(kept.is_empty());
    }

    #[test]
    fn frame_is_fitted_and_padded_at_right_and_bottom() {
        let frame = RgbImage::from_pixel(640, 480, image::Rgb([200, 100, 50]));
        let (scaled, (x, y)) = letterbox(&frame, 320, 256);
        assert_eq!((x, y), (0.5, 0.5));
        assert_eq!(scaled.get_pixel(319, 239).0, [200, 100, 50]);
        assert_eq!(scaled.get_pixel(0, 240).0, [0, 0, 0]);
        let (tall, (x, y)) = letterbox(&RgbImage::new(100, 512), 320, 256);
        assert_eq!((tall.dimensions(), x, y), ((320, 256), 0.5, 0.5));
    }
}
