//! Is it a face or a picture of one: scores of the MiniFASNet kind (Silent-Face-Anti-Spoofing).

use image::RgbImage;

use super::resize::{Filter, Region, resize_by};
use super::{BoundingBox, DetectedFace};
use crate::model::bundle::VerifiedModel;
use crate::model::manifest;
use crate::model::network::{Network, NetworkError};

/// One network of an ensemble.
pub struct LivenessNetwork {
    network: Network,
    crop_scale: f32,
    live_class: usize,
}

impl LivenessNetwork {
    pub fn load(model: VerifiedModel, manifest: &manifest::Liveness) -> Result<Self, NetworkError> {
        Ok(Self {
            network: Network::load(model, &manifest.input)?,
            crop_scale: manifest.crop_scale,
            live_class: manifest.live_class,
        })
    }

    /// Probability that the face is live, 0 to 1, as this network alone sees it.
    pub fn score(&self, frame: &RgbImage, face: &DetectedFace) -> Result<f32, NetworkError> {
        let input = self.network.input();
        let picture = cut(frame, &face.bounds, self.crop_scale, input.width, input.height);
        let classes = self.classes(&picture)?;
        classes.get(self.live_class).copied().ok_or_else(|| NetworkError::Output {
            wanted: format!("a class {}", self.live_class),
            found: format!("{} classes", classes.len()),
        })
    }

    /// Softmax over the classes for a picture of exactly the network's input size.
    pub fn classes(&self, picture: &RgbImage) -> Result<Vec<f32>, NetworkError> {
        let outputs = self.network.run(picture)?;
        let logits = outputs.first().map_or(&[][..], |output| &output.values);
        softmax(logits).ok_or_else(|| NetworkError::Output {
            wanted: "finite class scores".to_owned(),
            found: format!("{logits:?}"),
        })
    }
}

fn softmax(logits: &[f32]) -> Option<Vec<f32>> {
    let top = logits.iter().copied().reduce(f32::max)?;
    let powers: Vec<f32> = logits.iter().map(|logit| (logit - top).exp()).collect();
    let sum: f32 = powers.iter().sum();
    (sum.is_finite() && logits.iter().all(|logit| logit.is_finite()))
        .then(|| powers.iter().map(|power| power / sum).collect())
}

/// The detector's box brought to the shape the networks were trained on, enlarged by `scale` and pushed into the
/// frame (Silent-Face-Anti-Spoofing, src/generate_patches.py, `_get_new_box`, resampled as its `cv2.resize` does).
fn cut(frame: &RgbImage, bounds: &BoundingBox, scale: f32, width: u32, height: u32) -> RgbImage {
    let (last_x, last_y) = (frame.width() as f32 - 1.0, frame.height() as f32 - 1.0);
    let shape = trained_shape(bounds);
    // Lengths that are not positive would turn the clamps below inside out.
    let (w, h) = (shape.width.max(1.0), shape.height.max(1.0));
    let scale = scale.min(last_x / w).min(last_y / h);
    let center = shape.center();
    let (left, right) = pushed(center.x, w * scale, last_x);
    let (top, bottom) = pushed(center.y, h * scale, last_y);
    let region = Region {
        x: f64::from(left),
        y: f64::from(top),
        width: f64::from(right - left + 1.0),
        height: f64::from(bottom - top + 1.0),
    };
    resize_by(Filter::Nearby, frame, region, width, height)
}

/// The authors cut by the boxes of their own RetinaFace. From YuNet's box, a square of 1.17 times its width whose
/// lower edge lies at 1.015 times its height parts live faces from photographs best (measured on NUAA).
fn trained_shape(bounds: &BoundingBox) -> BoundingBox {
    let side = bounds.width * 1.17;
    BoundingBox {
        x: bounds.center().x - side / 2.0,
        y: bounds.y + bounds.height * 1.015 - side,
        width: side,
        height: side,
    }
}

/// First and last pixel of a span about `center`, moved (not cut) into 0 to `last`.
fn pushed(center: f32, length: f32, last: f32) -> (f32, f32) {
    let (mut from, mut to) = (center - length / 2.0, center + length / 2.0);
    if from < 0.0 {
        to -= from;
        from = 0.0;
    }
    if to > last {
        from -= to - last;
        to = last;
    }
    (from.trunc().clamp(0.0, last.max(0.0)), to.trunc().clamp(0.0, last.max(0.0)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::float_cmp)]
mod tests {
    use super::*;

    #[test]
    fn crop_is_moved_into_the_frame_not_cut() {
        assert_eq!(pushed(10.0, 40.0, 99.0), (0.0, 40.0));
        assert_eq!(pushed(95.0, 40.0, 99.0), (59.0, 99.0));
        assert_eq!(pushed(50.0, 40.0, 99.0), (30.0, 70.0));
    }

    #[test]
    fn enlarging_ends_at_the_frame() {
        let frame = RgbImage::from_fn(100, 60, |x, y| image::Rgb([x as u8, y as u8, 0]));
        let bounds = BoundingBox { x: 40.0, y: 20.0, width: 20.0, height: 24.0 };
        // The square cannot be larger than the frame is high: 59 + 1 pixels, about x = 50.
        let cut = cut(&frame, &bounds, 4.0, 60, 60);
        assert_eq!(cut.get_pixel(0, 0).0, [20, 0, 0]);
        assert_eq!(cut.get_pixel(59, 59).0, [79, 59, 0]);
    }

    #[test]
    fn softmax_sums_to_one_and_refuses_what_is_no_number() {
        let classes = softmax(&[1.0, 3.0, 1000.0]).unwrap();
        assert!((classes.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        assert_eq!(classes[2], 1.0);
        assert!(softmax(&[]).is_none());
        assert!(softmax(&[f32::NAN, 1.0]).is_none());
    }
}
