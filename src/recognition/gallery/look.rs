//! From a picture to the one look it may be enrolled by.

use image::RgbImage;

use crate::face::DetectedFace;
use crate::face::quality::{self, QualityGate};
use crate::recognition::{Embedding, Eyes};

/// A picture may show others in the background: a second face counts when its box has at least this share
/// of the area of the largest one's (half its width).
pub const SECOND_FACE: f32 = 0.25;

/// Why a picture gives no look.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum LookRefusal {
    #[error("no face found")]
    NoFace,
    #[error("{0} faces; a picture to enrol from shows one, others at most small in the background")]
    SeveralFaces(usize),
    #[error("poor face: {0}")]
    Poor(#[from] quality::Refusal),
    #[error("the models failed on it: {0}")]
    Network(String),
}

/// The look at the only face of a picture, or at the one beside which all others are small.
///
/// An embedding and nothing else leaves here; picture and crop are dropped by the caller.
pub fn sole_look(
    image: &RgbImage,
    eyes: &impl Eyes,
    gate: &QualityGate,
) -> Result<Embedding, LookRefusal> {
    let network = |error: &dyn std::fmt::Display| LookRefusal::Network(error.to_string());
    let faces = eyes.detect(image).map_err(|error| network(&error))?;
    let face = sole_face(&faces)?;
    gate.assess(image, face)?;
    eyes.embed(image, face).map_err(|error| network(&error))
}

fn sole_face(faces: &[DetectedFace]) -> Result<&DetectedFace, LookRefusal> {
    let largest = faces
        .iter()
        .max_by(|a, b| a.bounds.area().total_cmp(&b.bounds.area()))
        .ok_or(LookRefusal::NoFace)?;
    let least = largest.bounds.area() * SECOND_FACE;
    match faces.iter().filter(|face| face.bounds.area() >= least).count() {
        0 | 1 => Ok(largest),
        several => Err(LookRefusal::SeveralFaces(several)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::face::{BoundingBox, Point};

    fn face(x: f32, side: f32) -> DetectedFace {
        let point = |fx: f32, fy: f32| Point { x: x + fx * side, y: 20.0 + fy * side };
        DetectedFace {
            bounds: BoundingBox { x, y: 20.0, width: side, height: side },
            score: 0.95,
            landmarks: [
                point(0.3, 0.4),
                point(0.7, 0.4),
                point(0.5, 0.6),
                point(0.35, 0.78),
                point(0.65, 0.78),
            ],
        }
    }

    /// Eyes that see the faces they were told of.
    struct Scripted(Vec<DetectedFace>);

    impl Eyes for Scripted {
        type Error = String;

        fn detect(&self, _: &RgbImage) -> Result<Vec<DetectedFace>, String> {
            Ok(self.0.clone())
        }

        fn embed(&self, _: &RgbImage, face: &DetectedFace) -> Result<Embedding, String> {
            Embedding::normalized(vec![face.bounds.width, 1.0]).ok_or("zero".to_owned())
        }
    }

    fn noise() -> RgbImage {
        let mut random = fastrand::Rng::with_seed(1);
        RgbImage::from_fn(640, 400, |_, _| image::Rgb([random.u8(40..210); 3]))
    }

    fn look(faces: &[DetectedFace]) -> Result<Embedding, LookRefusal> {
        sole_look(&noise(), &Scripted(faces.to_vec()), &QualityGate::enrolment())
    }

    #[test]
    fn no_face_and_two_faces_refused() {
        assert_eq!(look(&[]), Err(LookRefusal::NoFace));
        let two = [face(20.0, 200.0), face(320.0, 180.0)];
        assert_eq!(look(&two), Err(LookRefusal::SeveralFaces(2)));
        let half_as_wide = [face(20.0, 200.0), face(320.0, 101.0)];
        assert_eq!(look(&half_as_wide), Err(LookRefusal::SeveralFaces(2)));
    }

    #[test]
    fn small_face_in_the_background_is_passed_over() {
        let alone = look(&[face(20.0, 200.0)]).unwrap();
        assert_eq!(look(&[face(500.0, 60.0), face(20.0, 200.0), face(320.0, 90.0)]), Ok(alone));
    }

    #[test]
    fn poor_face_refused() {
        assert!(matches!(look(&[face(20.0, 60.0)]), Err(LookRefusal::Poor(_))));
    }
}
