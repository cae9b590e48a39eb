//! Cutting a face from a frame for a network, in one of the ways a manifest may ask for.

use image::{Rgb, RgbImage};

use super::resize::{Region, resize, whole};
use super::{BoundingBox, DetectedFace, Point};
use crate::model::manifest::Crop;

/// The face as a picture of `width` x `height`.
pub fn crop(
    frame: &RgbImage,
    face: &DetectedFace,
    kind: &Crop,
    width: u32,
    height: u32,
) -> RgbImage {
    match kind {
        Crop::Box { margin } => {
            let BoundingBox { x, y, width: w, height: h } = face.bounds;
            let (beside, above) = (w * margin / 2.0, h * margin / 2.0);
            let wanted = BoundingBox {
                x: x - beside,
                y: y - above,
                width: w + 2.0 * beside,
                height: h + 2.0 * above,
            };
            clamped(frame, wanted, width, height)
        }
        Crop::Square { scale } => {
            let side = face.bounds.width.max(face.bounds.height) * scale;
            square(frame, face.bounds.center(), side, width, height)
        }
        Crop::FivePoint { template } => {
            let targets =
                template.map(|[x, y]| Point { x: x * width as f32, y: y * height as f32 });
            match Similarity::fit(&targets, &face.landmarks) {
                Some(to_frame) => warp(frame, &to_frame, width, height),
                // Landmarks that all lie on one spot tell no size; the box does.
                None => clamped(frame, face.bounds, width, height),
            }
        }
    }
}

/// The part of `wanted` that lies in the frame, stretched. At least one pixel, wherever `wanted` lies.
pub(super) fn clamped(frame: &RgbImage, wanted: BoundingBox, width: u32, height: u32) -> RgbImage {
    let span = |from: f32, length: f32, limit: u32| {
        let limit = f64::from(limit);
        let last = (limit - 1.0).max(0.0);
        let start = f64::from(from).clamp(0.0, last);
        let end = (f64::from(from) + f64::from(length)).clamp(start + limit.min(1.0), limit);
        (start, end - start)
    };
    let (x, w) = span(wanted.x, wanted.width, frame.width());
    let (y, h) = span(wanted.y, wanted.height, frame.height());
    resize(frame, Region { x, y, width: w, height: h }, width, height)
}

/// The square of that centre and side; beyond the frame its edge is repeated.
fn square(frame: &RgbImage, center: Point, side: f32, width: u32, height: u32) -> RgbImage {
    let (full_width, full_height) = (frame.width() as f32, frame.height() as f32);
    if full_width < 1.0 || full_height < 1.0 {
        return RgbImage::new(width, height);
    }
    // A box may come out far too large; more than twice the frame about a point in it tells nothing more.
    let side = side.clamp(1.0, 2.0 * full_width.max(full_height));
    let left = center.x.clamp(0.0, full_width) - side / 2.0;
    let top = center.y.clamp(0.0, full_height) - side / 2.0;
    let (from_x, from_y) = (left.floor() as i64, top.floor() as i64);
    let covered = (side.ceil() as u32).saturating_add(1);
    let last = (i64::from(frame.width()) - 1, i64::from(frame.height()) - 1);
    let part = RgbImage::from_fn(covered, covered, |x, y| {
        let x = (from_x + i64::from(x)).clamp(0, last.0);
        let y = (from_y + i64::from(y)).clamp(0, last.1);
        *frame.get_pixel(x as u32, y as u32)
    });
    let region = Region {
        x: f64::from(left) - from_x as f64,
        y: f64::from(top) - from_y as f64,
        width: f64::from(side),
        height: f64::from(side),
    };
    resize(&part, region, width, height)
}

/// x' = a x - b y + tx, y' = b x + a y + ty: rotation, scale and shift.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Similarity {
    a: f32,
    b: f32,
    tx: f32,
    ty: f32,
}

impl Similarity {
    /// Least squares from `from` to `to` (Umeyama 1991; in the plane its solution without reflection is that of
    /// this linear problem). `None` if `from` or `to` are all one point, or not finite.
    fn fit(from: &[Point; 5], to: &[Point; 5]) -> Option<Self> {
        let mean = |points: &[Point; 5]| {
            let sum = points.iter().fold((0.0, 0.0), |sum, p| (sum.0 + p.x, sum.1 + p.y));
            (sum.0 / 5.0, sum.1 / 5.0)
        };
        let (source, target) = (mean(from), mean(to));
        let (mut along, mut across, mut spread) = (0.0, 0.0, 0.0);
        for (p, q) in from.iter().zip(to) {
            let (px, py) = (p.x - source.0, p.y - source.1);
            let (qx, qy) = (q.x - target.0, q.y - target.1);
            along += px * qx + py * qy;
            across += px * qy - py * qx;
            spread += px * px + py * py;
        }
        let (a, b) = (along / spread, across / spread);
        let scale = a.hypot(b);
        if !(scale.is_finite() && scale > 1e-6) {
            return None;
        }
        let tx = target.0 - (a * source.0 - b * source.1);
        let ty = target.1 - (b * source.0 + a * source.1);
        (tx.is_finite() && ty.is_finite()).then_some(Self { a, b, tx, ty })
    }

    fn apply(&self, x: f32, y: f32) -> (f32, f32) {
        (self.a * x - self.b * y + self.tx, self.b * x + self.a * y + self.ty)
    }

    fn scale(&self) -> f32 {
        self.a.hypot(self.b)
    }
}

/// Each target pixel from where `to_frame` says; the frame is shrunk first where many of its pixels fall on one.
fn warp(frame: &RgbImage, to_frame: &Similarity, width: u32, height: u32) -> RgbImage {
    if frame.width() == 0 || frame.height() == 0 {
        return RgbImage::new(width, height);
    }
    let shrink = to_frame.scale().max(1.0);
    let reduced;
    let (source, factor_x, factor_y) = if shrink > 1.0 {
        let w = ((frame.width() as f32 / shrink).round() as u32).max(1);
        let h = ((frame.height() as f32 / shrink).round() as u32).max(1);
        reduced = resize(frame, whole(frame), w, h);
        (&reduced, w as f32 / frame.width() as f32, h as f32 / frame.height() as f32)
    } else {
        (frame, 1.0, 1.0)
    };
    RgbImage::from_fn(width, height, |x, y| {
        // Pixel centres lie at half coordinates.
        let (u, v) = to_frame.apply(x as f32 + 0.5, y as f32 + 0.5);
        bilinear(source, u * factor_x - 0.5, v * factor_y - 0.5)
    })
}

/// The picture at a point between pixel centres; beyond the edge it is repeated.
fn bilinear(picture: &RgbImage, x: f32, y: f32) -> Rgb<u8> {
    let (last_x, last_y) = (picture.width() - 1, picture.height() - 1);
    let (x, y) = (x.clamp(0.0, last_x as f32), y.clamp(0.0, last_y as f32));
    let (left, top) = (x as u32, y as u32);
    let (right, bottom) = ((left + 1).min(last_x), (top + 1).min(last_y));
    let (fx, fy) = (x - left as f32, y - top as f32);
    let corner = |x, y| picture.get_pixel(x, y).0;
    let corners =
        [corner(left, top), corner(right, top), corner(left, bottom), corner(right, bottom)];
    Rgb(std::array::from_fn(|channel| {
        let [a, b, c, d] = corners.map(|pixel| f32::from(pixel[channel]));
        let upper = a + (b - a) * fx;
        let lower = c + (d - c) * fx;
        (upper + (lower - upper) * fy).round() as u8
    }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::float_cmp)]
mod tests {
    use super::*;

    /// Red tells x, green tells y.
    fn ramp(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| Rgb([x as u8, y as u8, 0]))
    }

    fn face(x: f32, y: f32, width: f32, height: f32) -> DetectedFace {
        let landmarks = [(0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8)]
            .map(|(u, v)| Point { x: x + u * width, y: y + v * height });
        DetectedFace { bounds: BoundingBox { x, y, width, height }, score: 1.0, landmarks }
    }

    #[test]
    fn margin_is_halved_on_each_side() {
        let cut = crop(
            &ramp(200, 200),
            &face(50.0, 60.0, 40.0, 20.0),
            &Crop::Box { margin: 0.5 },
            60,
            30,
        );
        // 40 + 20 wide from 40, 20 + 10 high from 55: no scaling, so pixels are copied.
        assert_eq!(cut.get_pixel(0, 0).0, [40, 55, 0]);
        assert_eq!(cut.get_pixel(59, 29).0, [99, 84, 0]);
    }

    #[test]
    fn box_is_clamped_to_the_frame() {
        let cut = crop(
            &ramp(100, 100),
            &face(-20.0, 90.0, 40.0, 40.0),
            &Crop::Box { margin: 0.0 },
            20,
            10,
        );
        assert_eq!(cut.get_pixel(0, 0).0, [0, 90, 0]);
        assert_eq!(cut.get_pixel(19, 9).0, [19, 99, 0]);
    }

    #[test]
    fn box_outside_the_frame_or_absurd_gives_a_picture_all_the_same() {
        for bounds in [
            face(-500.0, -500.0, 10.0, 10.0),
            face(1e9, 1e9, 1e9, 1e9),
            face(50.0, 50.0, 0.0, 0.0),
            face(50.0, 50.0, -30.0, 10.0),
        ] {
            for kind in [
                Crop::Box { margin: 0.3 },
                Crop::Square { scale: 1.2 },
                Crop::FivePoint {
                    template: [[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]],
                },
            ] {
                assert_eq!(crop(&ramp(100, 100), &bounds, &kind, 16, 16).dimensions(), (16, 16));
            }
        }
    }

    #[test]
    fn square_repeats_the_edge() {
        let cut = crop(
            &ramp(100, 100),
            &face(0.0, 40.0, 10.0, 20.0),
            &Crop::Square { scale: 1.0 },
            20,
            20,
        );
        // Centre (5, 50), side 20: from (-5, 40).
        assert_eq!(cut.get_pixel(0, 0).0, [0, 40, 0]);
        assert_eq!(cut.get_pixel(5, 0).0, [0, 40, 0]);
        assert_eq!(cut.get_pixel(19, 19).0, [14, 59, 0]);
    }

    #[test]
    fn similarity_is_recovered_from_points() {
        let from = face(0.0, 0.0, 100.0, 100.0).landmarks;
        let known = Similarity { a: 0.8, b: 0.3, tx: 12.0, ty: -7.0 };
        let to = from.map(|p| {
            let (x, y) = known.apply(p.x, p.y);
            Point { x, y }
        });
        let found = Similarity::fit(&from, &to).unwrap();
        for (a, b) in [(found.a, 0.8), (found.b, 0.3), (found.tx, 12.0), (found.ty, -7.0)] {
            assert!((a - b).abs() < 1e-4, "{found:?}");
        }
    }

    #[test]
    fn landmarks_on_one_spot_are_no_similarity() {
        let from = face(0.0, 0.0, 100.0, 100.0).landmarks;
        assert!(Similarity::fit(&from, &[Point { x: 5.0, y: 5.0 }; 5]).is_none());
        assert!(Similarity::fit(&[Point { x: 5.0, y: 5.0 }; 5], &from).is_none());
    }

    #[test]
    fn five_points_undo_a_quarter_turn() {
        // A picture whose face lies on its side: turning it upright must bring the top of the head up.
        let turned = Similarity { a: 0.0, b: 1.0, tx: 99.0, ty: 0.0 };
        let upright = face(0.0, 0.0, 99.0, 99.0);
        let template = upright.landmarks.map(|p| [p.x / 99.0, p.y / 99.0]);
        let landmarks = upright.landmarks.map(|p| {
            let (x, y) = turned.apply(p.x, p.y);
            Point { x, y }
        });
        let lying = DetectedFace { landmarks, ..upright };
        let cut = crop(&ramp(99, 99), &lying, &Crop::FivePoint { template }, 99, 99);
        // Upright (x, y) was at (99 - y, x).
        let pixel = cut.get_pixel(20, 70).0;
        assert!(pixel[0].abs_diff(28) <= 1 && pixel[1].abs_diff(20) <= 1, "{pixel:?}");
    }

    #[test]
    fn shrinking_averages() {
        let checker =
            RgbImage::from_fn(640, 640, |x, y| Rgb([if (x + y) % 2 == 0 { 255 } else { 0 }; 3]));
        for kind in [
            Crop::Box { margin: 0.0 },
            Crop::Square { scale: 1.0 },
            Crop::FivePoint {
                template: [[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]],
            },
        ] {
            let cut = crop(&checker, &face(0.0, 0.0, 640.0, 640.0), &kind, 80, 80);
            let value = cut.get_pixel(40, 40).0[0];
            assert!(value.abs_diff(127) < 12, "{kind:?}: {value}");
        }
    }
}
