//! Is a face good enough to look at? What an embedder cannot recognise it should not be shown.

use image::RgbImage;

use super::{DetectedFace, Point};

/// Side of the square, in pixels, that a face is brought to for measuring.
const SIDE: usize = 96;
/// A nose tip stands out from the plane of the eyes by about this share of the distance between
/// the eyes, and from the line eyes–mouth by this share of that line (anthropometric means: 30 mm,
/// 63 mm, 70 mm). With this the landmarks give angles good to about ten degrees.
const NOSE_BY_EYES: f32 = 0.48;
const NOSE_BY_HEIGHT: f32 = 0.43;
/// Where a frontal face has its nose tip on the way from the eyes (0) to the mouth (1).
const NOSE_FRONTAL: f32 = 0.56;

/// What was measured of a face that passed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quality {
    /// 0 (just passed) to 1, to choose the better of two looks by.
    pub score: f32,
    /// Pixels between the eyes.
    pub eye_distance: f32,
    /// Variance of the Laplacian over the variance of luma, on the face at a fixed size.
    pub sharpness: f32,
    /// Mean luma of the face, 0 to 255.
    pub brightness: f32,
    pub pose: Pose,
}

/// Where a face looks, in degrees, estimated from five landmarks; 0 is straight into the camera.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pose {
    /// Positive: towards the right of the picture.
    pub yaw: f32,
    /// Positive: upwards.
    pub pitch: f32,
    /// Positive: tilted clockwise in the picture.
    pub roll: f32,
}

/// Why a face is not looked at.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum Refusal {
    #[error("not clearly a face: the detector is {:.0} % sure, {:.0} % are needed", .score * 100.0, .needed * 100.0)]
    Doubtful { score: f32, needed: f32 },
    #[error("too small: {pixels:.0} pixels between the eyes, {needed:.0} needed")]
    Small { pixels: f32, needed: f32 },
    #[error("cut off by the edge of the picture: {:.0} % of it are in view, {:.0} % are needed", .visible * 100.0, .needed * 100.0)]
    Cut { visible: f32, needed: f32 },
    #[error("turned away: about {degrees:.0}° to the side, {most:.0}° at most")]
    Turned { degrees: f32, most: f32 },
    #[error("looking up or down: about {degrees:.0}°, {most:.0}° at most")]
    Nodding { degrees: f32, most: f32 },
    #[error("tilted: about {degrees:.0}°, {most:.0}° at most")]
    Tilted { degrees: f32, most: f32 },
    #[error("too dark: mean brightness {brightness:.0} of 255, {needed:.0} needed")]
    Dark { brightness: f32, needed: f32 },
    #[error("too bright: mean brightness {brightness:.0} of 255, {most:.0} at most")]
    Bright { brightness: f32, most: f32 },
    #[error("badly exposed: {:.0} % of it are black or white, {:.0} % at most", .share * 100.0, .most * 100.0)]
    Clipped { share: f32, most: f32 },
    #[error("without contrast: {contrast:.0} of 255, {needed:.0} needed")]
    Flat { contrast: f32, needed: f32 },
    #[error("blurred: sharpness {sharpness:.3}, {needed:.3} needed")]
    Blurred { sharpness: f32, needed: f32 },
}

/// Limits that a face must keep.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QualityGate {
    /// The detector's confidence, 0 to 1.
    pub score: f32,
    /// Pixels between the eyes.
    pub eye_distance: f32,
    /// Share of the box within the picture, 0 to 1.
    pub visible: f32,
    /// Degrees.
    pub yaw: f32,
    pub pitch: f32,
    pub roll: f32,
    /// Mean luma, least and most, 0 to 255.
    pub brightness: (f32, f32),
    /// Share of pixels below 4 or above 251.
    pub clipped: f32,
    /// Standard deviation of luma.
    pub contrast: f32,
    /// See [`Quality::sharpness`].
    pub sharpness: f32,
}

impl QualityGate {
    /// For looks at a passer-by.
    pub const fn recognition() -> Self {
        Self {
            score: 0.6,
            eye_distance: 24.0,
            visible: 0.9,
            yaw: 35.0,
            pitch: 35.0,
            roll: 35.0,
            brightness: (25.0, 235.0),
            clipped: 0.4,
            contrast: 10.0,
            sharpness: 0.01,
        }
    }

    /// For pictures that a person is enrolled from: an error made here is made every day.
    pub const fn enrolment() -> Self {
        Self {
            score: 0.7,
            eye_distance: 40.0,
            visible: 0.97,
            yaw: 25.0,
            pitch: 25.0,
            roll: 25.0,
            brightness: (40.0, 220.0),
            clipped: 0.25,
            contrast: 14.0,
            sharpness: 0.015,
        }
    }

    /// Measures a face; the first limit that it does not keep is the refusal.
    pub fn assess(&self, image: &RgbImage, face: &DetectedFace) -> Result<Quality, Refusal> {
        let eyes = eye_distance(face);
        let pose = Pose::of(face);
        if below(face.score, self.score) {
            return Err(Refusal::Doubtful { score: face.score, needed: self.score });
        }
        if below(eyes, self.eye_distance) {
            return Err(Refusal::Small { pixels: eyes, needed: self.eye_distance });
        }
        let visible = visible(image, face);
        if below(visible, self.visible) {
            return Err(Refusal::Cut { visible, needed: self.visible });
        }
        self.assess_pose(pose)?;
        let luma = patch(image, face);
        let (brightness, contrast) = mean_and_deviation(&luma);
        self.assess_exposure(&luma, brightness, contrast)?;
        let sharpness = laplacian_variance(&luma) / (contrast * contrast).max(1.0);
        if below(sharpness, self.sharpness) {
            return Err(Refusal::Blurred { sharpness, needed: self.sharpness });
        }
        let score = self.score(face, eyes, pose, sharpness);
        Ok(Quality { score, eye_distance: eyes, sharpness, brightness, pose })
    }

    fn assess_pose(&self, pose: Pose) -> Result<(), Refusal> {
        if above(pose.yaw.abs(), self.yaw) {
            return Err(Refusal::Turned { degrees: pose.yaw.abs(), most: self.yaw });
        }
        if above(pose.pitch.abs(), self.pitch) {
            return Err(Refusal::Nodding { degrees: pose.pitch.abs(), most: self.pitch });
        }
        if above(pose.roll.abs(), self.roll) {
            return Err(Refusal::Tilted { degrees: pose.roll.abs(), most: self.roll });
        }
        Ok(())
    }

    fn assess_exposure(&self, luma: &[f32], brightness: f32, contrast: f32) -> Result<(), Refusal> {
        let (least, most) = self.brightness;
        if brightness < least {
            return Err(Refusal::Dark { brightness, needed: least });
        }
        if brightness > most {
            return Err(Refusal::Bright { brightness, most });
        }
        let clipped = luma.iter().filter(|luma| !(4.0..=251.0).contains(*luma)).count();
        let share = clipped as f32 / luma.len() as f32;
        if share > self.clipped {
            return Err(Refusal::Clipped { share, most: self.clipped });
        }
        if contrast < self.contrast {
            return Err(Refusal::Flat { contrast, needed: self.contrast });
        }
        Ok(())
    }

    /// How far beyond the limits, each part 0 to 1, multiplied: one poor part spoils a look.
    fn score(&self, face: &DetectedFace, eyes: f32, pose: Pose, sharpness: f32) -> f32 {
        let beyond = |value: f32, limit: f32| (0.5 + 0.5 * (value / limit - 1.0)).clamp(0.0, 1.0);
        let turn = (pose.yaw / self.yaw).hypot(pose.pitch / self.pitch);
        let frontal = 1.0 - 0.5 * turn.min(1.4) / 1.4;
        face.score.clamp(0.0, 1.0)
            * beyond(eyes, self.eye_distance)
            * frontal
            * beyond(sharpness, self.sharpness)
    }
}

impl Pose {
    /// Estimated from the landmarks alone.
    pub fn of(face: &DetectedFace) -> Self {
        let [left_eye, right_eye, nose, left_mouth, right_mouth] = face.landmarks;
        let (eyes, mouth) = (middle(left_eye, right_eye), middle(left_mouth, right_mouth));
        let roll = (right_eye.y - left_eye.y).atan2(right_eye.x - left_eye.x);
        // In the head's own axes: `across` from eye to eye, `down` at a right angle to it.
        let (sin, cos) = roll.sin_cos();
        let across = |p: Point| (p.x - eyes.x) * cos + (p.y - eyes.y) * sin;
        let down = |p: Point| (p.y - eyes.y) * cos - (p.x - eyes.x) * sin;
        let between = eye_distance(face).max(1e-3);
        let height = down(mouth);
        // The nose is compared with the head's middle line, which leans when eyes and mouth do.
        let yaw = ((across(nose) - across(mouth) * NOSE_FRONTAL) / between / NOSE_BY_EYES).atan();
        let pitch = if height > 1e-3 {
            ((NOSE_FRONTAL - down(nose) / height) / NOSE_BY_HEIGHT).atan()
        } else {
            std::f32::consts::FRAC_PI_2
        };
        Self { yaw: yaw.to_degrees(), pitch: pitch.to_degrees(), roll: roll.to_degrees() }
    }
}

/// What is not a number keeps no limit.
fn below(value: f32, limit: f32) -> bool {
    value.is_nan() || value < limit
}

fn above(value: f32, limit: f32) -> bool {
    value.is_nan() || value > limit
}

/// Pixels between the eyes.
pub fn eye_distance(face: &DetectedFace) -> f32 {
    let [left, right, ..] = face.landmarks;
    (right.x - left.x).hypot(right.y - left.y)
}

fn middle(a: Point, b: Point) -> Point {
    Point { x: f32::midpoint(a.x, b.x), y: f32::midpoint(a.y, b.y) }
}

/// Share of the face's box that lies within the picture.
fn visible(image: &RgbImage, face: &DetectedFace) -> f32 {
    let bounds = face.bounds;
    let (width, height) = (image.width() as f32, image.height() as f32);
    let across = (bounds.x + bounds.width).min(width) - bounds.x.max(0.0);
    let down = (bounds.y + bounds.height).min(height) - bounds.y.max(0.0);
    across.max(0.0) * down.max(0.0) / bounds.area().max(1.0)
}

/// The face's box as [`SIDE`] × [`SIDE`] luma values, bilinear; beyond the picture its edge.
fn patch(image: &RgbImage, face: &DetectedFace) -> Vec<f32> {
    let bounds = face.bounds;
    let (right, bottom) = (image.width() as f32 - 1.0, image.height() as f32 - 1.0);
    let mut luma = Vec::with_capacity(SIDE * SIDE);
    for row in 0..SIDE {
        let y = bounds.y + (row as f32 + 0.5) / SIDE as f32 * bounds.height - 0.5;
        for column in 0..SIDE {
            let x = bounds.x + (column as f32 + 0.5) / SIDE as f32 * bounds.width - 0.5;
            luma.push(sample(image, x.clamp(0.0, right), y.clamp(0.0, bottom)));
        }
    }
    luma
}

/// `x`, `y` within the picture.
fn sample(image: &RgbImage, x: f32, y: f32) -> f32 {
    let (left, top) = (x as u32, y as u32);
    let (right, bottom) = ((left + 1).min(image.width() - 1), (top + 1).min(image.height() - 1));
    let (across, down) = (x.fract(), y.fract());
    let luma = |x: u32, y: u32| {
        let [r, g, b] = image.get_pixel(x, y).0.map(f32::from);
        0.299 * r + 0.587 * g + 0.114 * b // ITU-R BT.601
    };
    let above = luma(left, top) * (1.0 - across) + luma(right, top) * across;
    let below = luma(left, bottom) * (1.0 - across) + luma(right, bottom) * across;
    above * (1.0 - down) + below * down
}

fn mean_and_deviation(luma: &[f32]) -> (f32, f32) {
    let count = luma.len() as f32;
    let mean = luma.iter().sum::<f32>() / count;
    let variance = luma.iter().map(|value| (value - mean).powi(2)).sum::<f32>() / count;
    (mean, variance.sqrt())
}

/// Variance of the Laplacian (Pech-Pacheco et al., ICPR 2000), four neighbours.
fn laplacian_variance(luma: &[f32]) -> f32 {
    let mut values = Vec::with_capacity((SIDE - 2) * (SIDE - 2));
    for row in 1..SIDE - 1 {
        for column in 1..SIDE - 1 {
            let at = row * SIDE + column;
            let around = luma[at - 1] + luma[at + 1] + luma[at - SIDE] + luma[at + SIDE];
            values.push(around - 4.0 * luma[at]);
        }
    }
    let (_, deviation) = mean_and_deviation(&values);
    deviation * deviation
}
