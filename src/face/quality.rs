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
            sharpness: 0.03,
        }
    }

    /// Measures a face; the first limit that it does not keep is the refusal.
    pub fn assess(&self, image: &RgbImage, face: &DetectedFace) -> Result<Quality, Refusal> {
        let eyes = eye_distance(face);
        let pose = Pose::of(face);
        if below(face.score, self.score) {
            return Err(Refusal::Doubtful { score: face.score, needed: self.score });
        }
        // Before the size: a face in profile has its eyes close together.
        self.assess_pose(pose)?;
        if below(eyes, self.eye_distance) {
            return Err(Refusal::Small { pixels: eyes, needed: self.eye_distance });
        }
        let visible = visible(image, face);
        if below(visible, self.visible) {
            return Err(Refusal::Cut { visible, needed: self.visible });
        }
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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::face::BoundingBox;
    use image::Rgb;

    /// A head of `side` pixels turned by some degrees, its landmarks projected from the
    /// proportions named above.
    fn head(x: f32, y: f32, side: f32, yaw: f32, pitch: f32, roll: f32) -> DetectedFace {
        let (yaw, pitch, roll) = (yaw.to_radians(), pitch.to_radians(), roll.to_radians());
        let eyes = 0.4 * side;
        let height = 0.44 * side;
        // Across, down, towards the camera; from the middle between the eyes.
        let nose_down = NOSE_FRONTAL * height;
        let points = [
            (-eyes / 2.0, 0.0, 0.0),
            (eyes / 2.0, 0.0, 0.0),
            (0.0, nose_down, NOSE_BY_EYES * eyes),
            (-eyes * 0.4, height, 0.0),
            (eyes * 0.4, height, 0.0),
        ];
        let place = |(across, down, out): (f32, f32, f32)| {
            let across = across * yaw.cos() + out * yaw.sin();
            let down = down * pitch.cos() - out * pitch.sin();
            Point {
                x: x + side / 2.0 + across * roll.cos() - down * roll.sin(),
                y: y + 0.35 * side + across * roll.sin() + down * roll.cos(),
            }
        };
        DetectedFace {
            bounds: BoundingBox { x, y, width: side, height: side },
            score: 0.9,
            landmarks: points.map(place),
        }
    }

    fn picture(of: impl Fn(u32, u32) -> u8) -> RgbImage {
        RgbImage::from_fn(320, 240, |x, y| Rgb([of(x, y); 3]))
    }

    fn checked(dark: u8, light: u8) -> RgbImage {
        picture(|x, y| if (x / 8 + y / 8) % 2 == 0 { dark } else { light })
    }

    fn refusal(image: &RgbImage, face: DetectedFace) -> String {
        QualityGate::recognition().assess(image, &face).unwrap_err().to_string()
    }

    const STRAIGHT: (f32, f32, f32) = (0.0, 0.0, 0.0);

    fn straight(x: f32, side: f32) -> DetectedFace {
        let (yaw, pitch, roll) = STRAIGHT;
        head(x, 60.0, side, yaw, pitch, roll)
    }

    #[test]
    fn angles_are_about_right() {
        for degrees in [-45.0_f32, -30.0, -15.0, 0.0, 15.0, 30.0, 45.0] {
            let close = |found: f32, at: &str| {
                assert!((found - degrees).abs() < 10.0, "{at} {degrees}: {found}");
            };
            close(Pose::of(&head(0.0, 0.0, 100.0, degrees, 0.0, 0.0)).yaw, "yaw");
            close(Pose::of(&head(0.0, 0.0, 100.0, 0.0, degrees, 0.0)).pitch, "pitch");
            close(Pose::of(&head(0.0, 0.0, 100.0, 0.0, 0.0, degrees)).roll, "roll");
            // A tilted head is not a turned one.
            let tilted = Pose::of(&head(0.0, 0.0, 100.0, 0.0, 0.0, degrees));
            assert!(tilted.yaw.abs() < 3.0 && tilted.pitch.abs() < 3.0, "{tilted:?}");
        }
    }

    #[test]
    fn each_fault_has_its_reason() {
        let good = checked(100, 180);
        let gate = QualityGate::recognition();
        let passed = gate.assess(&good, &straight(100.0, 100.0)).unwrap();
        assert!((passed.eye_distance - 40.0).abs() < 0.1 && passed.score > 0.2, "{passed:?}");
        assert!((passed.brightness - 140.0).abs() < 5.0);

        let small = refusal(&good, straight(100.0, 50.0));
        assert_eq!(small, "too small: 20 pixels between the eyes, 24 needed");
        assert!(refusal(&good, straight(-40.0, 100.0)).starts_with("cut off"));
        let turned = refusal(&good, head(100.0, 60.0, 100.0, 60.0, 0.0, 0.0));
        assert!(turned.starts_with("turned away"), "{turned}");
        let nodding = refusal(&good, head(100.0, 60.0, 100.0, 0.0, -60.0, 0.0));
        assert!(nodding.starts_with("looking up or down"), "{nodding}");
        let tilted = refusal(&good, head(100.0, 60.0, 100.0, 0.0, 0.0, 50.0));
        assert!(tilted.starts_with("tilted"), "{tilted}");
        assert!(refusal(&checked(5, 15), straight(100.0, 100.0)).starts_with("too dark"));
        assert!(refusal(&checked(240, 250), straight(100.0, 100.0)).starts_with("too bright"));
        assert!(refusal(&checked(0, 255), straight(100.0, 100.0)).starts_with("badly exposed"));
        assert!(
            refusal(&checked(120, 122), straight(100.0, 100.0)).starts_with("without contrast")
        );
        let smooth = picture(|x, _| (x * 255 / 320) as u8);
        assert!(refusal(&smooth, straight(60.0, 160.0)).starts_with("blurred"));
        let doubtful = DetectedFace { score: 0.4, ..straight(100.0, 100.0) };
        assert!(refusal(&good, doubtful).starts_with("not clearly a face"));
    }

    #[test]
    fn what_is_not_a_number_is_refused() {
        let good = checked(100, 180);
        let nan = f32::NAN;
        let score = DetectedFace { score: nan, ..straight(100.0, 100.0) };
        refusal(&good, score);
        let mut landmarks = straight(100.0, 100.0);
        landmarks.landmarks[2] = Point { x: nan, y: nan };
        refusal(&good, landmarks);
        let mut bounds = straight(100.0, 100.0);
        bounds.bounds.x = nan;
        refusal(&good, bounds);
        bounds.bounds = BoundingBox { x: f32::INFINITY, y: -1e30, width: 1e30, height: nan };
        refusal(&good, bounds);
    }

    #[test]
    fn enrolment_is_stricter() {
        let (live, enrolment) = (QualityGate::recognition(), QualityGate::enrolment());
        let good = checked(100, 180);
        for face in [straight(100.0, 70.0), head(100.0, 60.0, 120.0, 30.0, 0.0, 0.0)] {
            assert!(live.assess(&good, &face).is_ok());
            assert!(enrolment.assess(&good, &face).is_err());
        }
    }

    #[test]
    fn a_better_look_scores_higher() {
        let good = checked(100, 180);
        let gate = QualityGate::recognition();
        let score = |face| gate.assess(&good, &face).unwrap().score;
        let best = score(straight(60.0, 160.0));
        assert!(best > score(head(60.0, 60.0, 160.0, 25.0, 0.0, 0.0)));
        assert!(best > score(straight(60.0, 80.0)));
    }
}
