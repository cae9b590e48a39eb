//! Is there anything new in the picture? Decides whether a frame is worth a detector.
//!
//! A frame becomes 80 × 60 cells of mean luma (16 sampled pixels each, so any frame size costs the
//! same: some 77,000 pixel reads). Each cell has a background that follows it slowly and a measure
//! of its own noise; a cell has changed when it is further from its background than noise explains.
//! The median difference over all cells is taken as a change of light or exposure and removed.

use std::time::Duration;

use image::RgbImage;

use crate::camera::Mask;

const COLUMNS: usize = 80;
const ROWS: usize = 60;
/// Sampled pixels along each side of a cell.
const SAMPLES: usize = 4;
/// Cells that must have changed: a face 40 pixels between the eyes covers over a hundred of a
/// 640 × 480 frame, and a step to the side changes its rim.
const CELLS: usize = 8;
/// How fast the background follows, seconds. What stands still is background after some of these;
/// by then it has a track if it has a face.
const BACKGROUND_SECONDS: f32 = 2.0;
const NOISE_SECONDS: f32 = 10.0;
/// A cell changes at this many times its mean absolute deviation (4.8 sigma for Gaussian noise),
/// within bounds in luma steps of 0 to 255.
const NOISE_FACTOR: f32 = 6.0;
const LEAST_CHANGE: f32 = 6.0;
const MOST_CHANGE: f32 = 30.0;

/// Tells frames with motion from frames without. Feed it every frame.
#[derive(Debug, Default)]
pub struct MotionGate {
    size: (u32, u32),
    /// Where in a row of pixels the samples lie, in bytes.
    offsets: Vec<usize>,
    /// Cells that a mask touches not at all.
    watched: Vec<usize>,
    /// Of the watched cells, as the noise is.
    background: Vec<f32>,
    noise: Vec<f32>,
    seen: Duration,
}

impl MotionGate {
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether something in `image` moved; the first frame, and the first of another size, did.
    /// `media` is the frame's place on its source's time line. What happens under the `mask` of the first frame is
    /// nothing, and takes no part in what counts as a change of light.
    pub fn observe(&mut self, image: &RgbImage, mask: Option<&Mask>, media: Duration) -> bool {
        if image.width() == 0 || image.height() == 0 {
            return false;
        }
        if self.size != image.dimensions() {
            self.begin(image, mask, media);
            return !self.watched.is_empty();
        }
        if self.watched.is_empty() {
            return false;
        }
        let cells = self.cells(image);
        let mut differences: Vec<f32> = cells
            .iter()
            .zip(&self.background)
            .map(|(cell, background)| cell - background)
            .collect();
        let light = median(&differences);
        let elapsed = media.saturating_sub(self.seen).as_secs_f32();
        self.seen = media;
        let follow = 1.0 - (-elapsed / BACKGROUND_SECONDS).exp();
        let learn = 1.0 - (-elapsed / NOISE_SECONDS).exp();
        let mut changed = 0;
        for (index, difference) in differences.iter_mut().enumerate() {
            let residual = (*difference - light).abs();
            let limit = (self.noise[index] * NOISE_FACTOR).clamp(LEAST_CHANGE, MOST_CHANGE);
            changed += usize::from(residual > limit);
            // A person passing must not teach a cell to expect persons: clipped.
            self.noise[index] += learn * (residual.min(limit) - self.noise[index]);
            self.background[index] += light + follow * (*difference - light);
        }
        changed >= CELLS
    }

    fn begin(&mut self, image: &RgbImage, mask: Option<&Mask>, media: Duration) {
        self.size = image.dimensions();
        self.seen = media;
        let width = image.width() as usize;
        self.offsets = places(COLUMNS, width).map(|x| 3 * x).collect();
        let mut masked = vec![false; COLUMNS * ROWS];
        if let Some(mask) = mask {
            let lines: Vec<usize> = places(ROWS, image.height() as usize).collect();
            for (line, &y) in lines.iter().enumerate() {
                for (column, x) in places(COLUMNS, width).enumerate() {
                    let cell = line / SAMPLES * COLUMNS + column / SAMPLES;
                    masked[cell] |= mask.contains(x as u32, y as u32);
                }
            }
        }
        self.watched = (0..COLUMNS * ROWS).filter(|&cell| !masked[cell]).collect();
        self.background = self.cells(image);
        // Twice what a poor sensor shows after averaging; it settles within seconds.
        self.noise = vec![2.0; self.watched.len()];
    }

    fn cells(&self, image: &RgbImage) -> Vec<f32> {
        let stride = 3 * image.width() as usize;
        let pixels = image.as_raw();
        let mut sums = vec![0_u32; COLUMNS * ROWS];
        for (line, y) in places(ROWS, image.height() as usize).enumerate() {
            let row = &pixels[y * stride..(y + 1) * stride];
            let sums = &mut sums[(line / SAMPLES) * COLUMNS..][..COLUMNS];
            for (sum, offsets) in sums.iter_mut().zip(self.offsets.chunks_exact(SAMPLES)) {
                for &at in offsets {
                    // Luma as (R + 2 G + B) / 4: near enough to BT.601 and integer.
                    *sum +=
                        u32::from(row[at]) + 2 * u32::from(row[at + 1]) + u32::from(row[at + 2]);
                }
            }
        }
        let mean = |&cell: &usize| sums[cell] as f32 / (4 * SAMPLES * SAMPLES) as f32;
        self.watched.iter().map(mean).collect()
    }
}

/// Evenly spread sample places along a side of `length` pixels, [`SAMPLES`] to a cell.
fn places(cells: usize, length: usize) -> impl Iterator<Item = usize> {
    let samples = cells * SAMPLES;
    (0..samples).map(move |sample| (2 * sample + 1) * length / (2 * samples))
}

fn median(values: &[f32]) -> f32 {
    let mut sorted = values.to_vec();
    let middle = sorted.len() / 2;
    *sorted.select_nth_unstable_by(middle, f32::total_cmp).1
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use image::Rgb;

    fn scene(light: f32, noise: &mut fastrand::Rng, amplitude: f32) -> RgbImage {
        RgbImage::from_fn(640, 480, |x, y| {
            let value = 60.0 + (x / 8 % 10) as f32 * 8.0 + (y / 60) as f32 * 5.0 + light;
            let value = value + amplitude * (noise.f32() + noise.f32() + noise.f32() - 1.5) * 2.0;
            Rgb([value.clamp(0.0, 255.0) as u8; 3])
        })
    }

    fn at(frame: u64) -> Duration {
        Duration::from_millis(100 * frame)
    }

    #[test]
    fn noise_is_no_motion() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut gate = MotionGate::new();
        assert!(gate.observe(&scene(0.0, &mut rng, 8.0), None, at(0)), "the first frame is new");
        for frame in 1..60 {
            assert!(!gate.observe(&scene(0.0, &mut rng, 8.0), None, at(frame)), "frame {frame}");
        }
    }

    #[test]
    fn slow_light_is_no_motion() {
        let mut rng = fastrand::Rng::with_seed(2);
        let mut gate = MotionGate::new();
        gate.observe(&scene(0.0, &mut rng, 3.0), None, at(0));
        for frame in 1..100 {
            let light = frame as f32 * 0.5;
            assert!(!gate.observe(&scene(light, &mut rng, 3.0), None, at(frame)), "frame {frame}");
        }
    }

    /// Holds CAM-11.
    #[test]
    fn nothing_moves_under_a_mask() {
        let mut rng = fastrand::Rng::with_seed(4);
        let left = vec![[0.0, 0.0], [0.6, 0.0], [0.6, 1.0], [0.0, 1.0]];
        let left = Mask::new(&[left.try_into().unwrap()], (640, 480));
        let (mut whole, mut masked) = (MotionGate::new(), MotionGate::new());
        // Something light walks through the left half, then through the right one, while the light changes.
        let mut seen = (0, 0, 0);
        for frame in 0..90_u32 {
            let mut image = scene(frame as f32 * 0.5, &mut rng, 3.0);
            let x = if frame < 60 { 5 * frame } else { 400 + 5 * (frame - 60) };
            for (px, py) in (0..60).flat_map(|dx| (0..60).map(move |dy| (x + dx, 200 + dy))) {
                image.put_pixel(px, py, Rgb([230, 180, 160]));
            }
            let moved = masked.observe(&image, Some(&left), at(u64::from(frame)));
            seen.0 += u32::from(whole.observe(&image, None, at(u64::from(frame))));
            if frame < 60 { seen.1 += u32::from(moved) } else { seen.2 += u32::from(moved) }
        }
        assert!(seen.0 > 80, "{seen:?}");
        assert_eq!(seen.1, 1, "the first frame is new");
        assert!(seen.2 >= 25, "{seen:?}");
    }

    #[test]
    fn picture_masked_as_a_whole_never_moves() {
        let all = vec![[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]];
        let all = Mask::new(&[all.try_into().unwrap()], (64, 48));
        let mut gate = MotionGate::new();
        for shade in [0, 255, 0] {
            let image = RgbImage::from_pixel(64, 48, Rgb([shade; 3]));
            assert!(!gate.observe(&image, Some(&all), at(u64::from(shade))));
        }
    }

    #[test]
    fn a_face_that_enters_is_motion_until_it_stands() {
        let mut rng = fastrand::Rng::with_seed(3);
        let mut gate = MotionGate::new();
        for frame in 0..30 {
            gate.observe(&scene(0.0, &mut rng, 3.0), None, at(frame));
        }
        let mut with_face = |x: u32| {
            let mut image = scene(0.0, &mut rng, 3.0);
            for (px, py) in (0..60).flat_map(|dx| (0..60).map(move |dy| (x + dx, 200 + dy))) {
                image.put_pixel(px, py, Rgb([230, 180, 160]));
            }
            image
        };
        for frame in 30..40 {
            assert!(
                gate.observe(&with_face(100 + 8 * frame as u32), None, at(frame)),
                "frame {frame}"
            );
        }
        let still =
            (40..200).filter(|&frame| gate.observe(&with_face(420), None, at(frame))).count();
        assert!((1..120).contains(&still), "{still} frames of motion in a scene that stands");
    }
}
