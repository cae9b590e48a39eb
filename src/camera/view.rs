//! How a picture is to be seen: turned, mirrored, and with the parts blacked out that are never looked at.

use std::cell::RefCell;
use std::sync::Arc;

use image::{RgbImage, imageops};

use crate::config::{Camera, Flip, Polygon, Rotation};
use crate::face::BoundingBox;
use crate::system::confine;

/// From the camera's picture to the one that is looked at.
#[derive(Debug, Default)]
pub struct View {
    rotate: Rotation,
    flip: Option<Flip>,
    masks: Vec<Polygon>,
    /// For pictures of the last one's size.
    mask: RefCell<Option<Arc<Mask>>>,
}

impl View {
    pub fn new(camera: &Camera) -> Self {
        let &Camera { rotate, flip, ref masks, .. } = camera;
        Self { rotate, flip, masks: masks.clone(), mask: RefCell::default() }
    }

    /// Turned first, then mirrored, then masked.
    pub fn of(&self, mut image: RgbImage) -> RgbImage {
        let turned = match self.rotate {
            Rotation::None => None,
            Rotation::Quarter => Some(imageops::rotate90(&image)),
            Rotation::Half => {
                imageops::rotate180_in_place(&mut image);
                None
            }
            Rotation::ThreeQuarters => Some(imageops::rotate270(&image)),
        };
        if let Some(turned) = turned {
            confine::wipe(&mut image);
            image = turned;
        }
        match self.flip {
            None => {}
            Some(Flip::Horizontal) => imageops::flip_horizontal_in_place(&mut image),
            Some(Flip::Vertical) => imageops::flip_vertical_in_place(&mut image),
        }
        if !self.masks.is_empty() {
            self.mask_for(image.dimensions()).black_out(&mut image);
        }
        image
    }

    /// The mask of the last picture; `None` where nothing is masked.
    pub fn mask(&self) -> Option<Arc<Mask>> {
        self.mask.borrow().clone()
    }

    fn mask_for(&self, size: (u32, u32)) -> Arc<Mask> {
        let mut kept = self.mask.borrow_mut();
        match &*kept {
            Some(mask) if mask.size == size => Arc::clone(mask),
            _ => Arc::clone(kept.insert(Arc::new(Mask::new(&self.masks, size)))),
        }
    }
}

/// Which pixels of a picture are never looked at.
#[derive(Debug)]
pub struct Mask {
    size: (u32, u32),
    /// For each row the masked columns, from and up to, in order and apart.
    rows: Vec<Vec<(u32, u32)>>,
}

impl Mask {
    /// Of polygons in fractions of the picture. A pixel is masked if its middle lies in one.
    pub fn new(polygons: &[Polygon], size: (u32, u32)) -> Self {
        let (width, height) = size;
        let rows = (0..height).map(|row| {
            let y = (f64::from(row) + 0.5) / f64::from(height);
            let mut spans: Vec<(u32, u32)> = Vec::new();
            for polygon in polygons {
                // The first column whose middle does not lie before a place.
                let column = |x: f64| (x * f64::from(width) - 0.5).ceil().max(0.0) as u32;
                let crossings = crossings(polygon.points(), y);
                let pairs = crossings.as_chunks::<2>().0.iter();
                spans.extend(pairs.map(|&[from, to]| (column(from), column(to).min(width))));
            }
            spans.retain(|(from, to)| from < to);
            spans.sort_unstable();
            spans.dedup_by(|next, last| {
                let touches = next.0 <= last.1;
                if touches {
                    last.1 = last.1.max(next.1);
                }
                touches
            });
            spans
        });
        Self { size, rows: rows.collect() }
    }

    /// Whether a pixel is masked.
    pub fn contains(&self, x: u32, y: u32) -> bool {
        self.row(y).iter().any(|&(from, to)| (from..to).contains(&x))
    }

    /// Whether a face is nobody's: its middle lies in the mask, or most of it does.
    pub fn hides(&self, face: &BoundingBox) -> bool {
        let center = face.center();
        if center.x >= 0.0 && center.y >= 0.0 && self.contains(center.x as u32, center.y as u32) {
            return true;
        }
        // What lies beyond the picture counts for neither side.
        let within = |value: f32, most: u32| value.clamp(0.0, most as f32) as u32;
        let (left, right) = (within(face.x, self.size.0), within(face.x + face.width, self.size.0));
        let (top, bottom) =
            (within(face.y, self.size.1), within(face.y + face.height, self.size.1));
        let masked: u64 = (top..bottom)
            .flat_map(|row| self.row(row))
            .map(|&(from, to)| u64::from(to.min(right).saturating_sub(from.max(left))))
            .sum();
        2 * masked > u64::from(right - left) * u64::from(bottom - top)
    }

    fn black_out(&self, image: &mut RgbImage) {
        let line = self.size.0 as usize * 3;
        for (row, pixels) in self.rows.iter().zip(image.chunks_exact_mut(line)) {
            for &(from, to) in row {
                pixels[from as usize * 3..to as usize * 3].fill(0);
            }
        }
    }

    fn row(&self, y: u32) -> &[(u32, u32)] {
        self.rows.get(y as usize).map_or(&[], Vec::as_slice)
    }
}

/// Where a horizontal line crosses the sides of a polygon, from left to right.
fn crossings(points: &[[f64; 2]], y: f64) -> Vec<f64> {
    let next = points.iter().cycle().skip(1);
    let sides = points.iter().zip(next).filter(|(a, b)| (a[1] <= y) != (b[1] <= y));
    let mut found: Vec<f64> =
        sides.map(|(a, b)| a[0] + (y - a[1]) / (b[1] - a[1]) * (b[0] - a[0])).collect();
    found.sort_unstable_by(f64::total_cmp);
    found
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use image::Rgb;

    fn polygon(points: &[[f64; 2]]) -> Polygon {
        Polygon::try_from(points.to_vec()).unwrap()
    }

    fn rectangle(left: f64, top: f64, right: f64, bottom: f64) -> Polygon {
        polygon(&[[left, top], [right, top], [right, bottom], [left, bottom]])
    }

    fn view(rotate: i64, flip: Option<Flip>) -> View {
        let rotate = Rotation::try_from(rotate).unwrap();
        View::new(&Camera { rotate, flip, ..Camera::default() })
    }

    /// 3 × 2 pixels, numbered from the top left.
    fn numbered() -> RgbImage {
        RgbImage::from_fn(3, 2, |x, y| Rgb([(3 * y + x) as u8; 3]))
    }

    fn numbers(image: &RgbImage) -> Vec<Vec<u8>> {
        let line = |row: image::buffer::Pixels<'_, Rgb<u8>>| row.map(|pixel| pixel.0[0]).collect();
        image.rows().map(line).collect()
    }

    /// Holds CAM-11.
    #[test]
    fn picture_is_turned_clockwise() {
        let seen = |degrees| numbers(&view(degrees, None).of(numbered()));
        assert_eq!(seen(0), [[0, 1, 2], [3, 4, 5]]);
        assert_eq!(seen(90), [[3, 0], [4, 1], [5, 2]]);
        assert_eq!(seen(180), [[5, 4, 3], [2, 1, 0]]);
        assert_eq!(seen(270), [[2, 5], [1, 4], [0, 3]]);
    }

    /// Holds CAM-11.
    #[test]
    fn picture_is_mirrored_after_it_is_turned() {
        let seen = |degrees, flip| numbers(&view(degrees, Some(flip)).of(numbered()));
        assert_eq!(seen(0, Flip::Horizontal), [[2, 1, 0], [5, 4, 3]]);
        assert_eq!(seen(0, Flip::Vertical), [[3, 4, 5], [0, 1, 2]]);
        assert_eq!(seen(90, Flip::Horizontal), [[0, 3], [1, 4], [2, 5]]);
    }

    /// Holds CAM-11.
    #[test]
    fn masks_are_placed_in_the_picture_as_it_is_seen() {
        let masks = vec![rectangle(0.0, 0.0, 1.0, 0.5)];
        let rotate = Rotation::Quarter;
        let view = View::new(&Camera { rotate, masks, ..Camera::default() });
        let seen = view.of(RgbImage::from_pixel(4, 2, Rgb([7; 3])));
        assert_eq!(numbers(&seen), [[0, 0], [0, 0], [7, 7], [7, 7]]);
        assert_eq!(view.mask().unwrap().size, (2, 4));
        // Another size is another mask.
        assert_eq!(view.of(RgbImage::from_pixel(2, 2, Rgb([7; 3]))).get_pixel(0, 1).0, [7; 3]);
    }

    /// Holds CAM-11.
    #[test]
    fn polygons_are_filled_by_the_middles_of_pixels() {
        let triangle = polygon(&[[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]);
        let rows = Mask::new(&[triangle], (4, 4)).rows;
        assert_eq!(rows, [vec![(0, 3)], vec![(0, 2)], vec![(0, 1)], vec![]]);
        // Two that overlap are one; one that is hollow leaves its hollow.
        let two = [rectangle(0.0, 0.0, 0.5, 1.0), rectangle(0.25, 0.0, 0.75, 1.0)];
        assert_eq!(Mask::new(&two, (4, 1)).rows, [vec![(0, 3)]]);
        let fork = polygon(&[
            [0.0, 0.0],
            [1.0, 0.0],
            [1.0, 1.0],
            [0.75, 1.0],
            [0.75, 0.5],
            [0.25, 0.5],
            [0.25, 1.0],
            [0.0, 1.0],
        ]);
        assert_eq!(Mask::new(&[fork], (4, 2)).rows, [vec![(0, 4)], vec![(0, 1), (3, 4)]]);
        let whole = Mask::new(&[rectangle(0.0, 0.0, 1.0, 1.0)], (640, 480));
        assert!(whole.rows.iter().all(|row| *row == [(0, 640)]));
    }

    /// Holds CAM-12.
    #[test]
    fn face_in_a_mask_is_ignored() {
        let mask = Mask::new(&[rectangle(0.0, 0.0, 0.5, 1.0)], (640, 480));
        let face = |x, width| BoundingBox { x, y: 100.0, width, height: 100.0 };
        assert!(mask.hides(&face(50.0, 100.0)), "within");
        assert!(mask.hides(&face(260.0, 100.0)), "its middle");
        assert!(!mask.hides(&face(280.0, 100.0)), "its smaller part");
        assert!(!mask.hides(&face(400.0, 100.0)), "outside");
        assert!(mask.hides(&face(-90.0, 100.0)), "what is in the picture of it");
        // Most of it, though its middle is in a gap.
        let bars = [rectangle(0.0, 0.0, 0.45, 1.0), rectangle(0.55, 0.0, 1.0, 1.0)];
        let mask = Mask::new(&bars, (100, 480));
        assert!(mask.hides(&face(0.0, 100.0)));
        let nonsense = BoundingBox { x: f32::NAN, y: f32::INFINITY, width: -1.0, height: 1e30 };
        assert!(!mask.hides(&nonsense));
    }

    /// `cargo test --release view_time -- --ignored --nocapture`
    #[test]
    #[ignore = "a measurement"]
    fn view_time() {
        let masks =
            vec![rectangle(0.0, 0.0, 0.3, 1.0), polygon(&[[0.5, 0.0], [1.0, 0.0], [1.0, 0.6]])];
        let camera = |degrees, masks: &[Polygon]| Camera {
            rotate: Rotation::try_from(degrees).unwrap(),
            masks: masks.to_vec(),
            ..Camera::default()
        };
        for (name, camera) in [
            ("as it is", camera(0, &[])),
            ("90 degrees", camera(90, &[])),
            ("180 degrees", camera(180, &[])),
            ("two masks", camera(0, &masks)),
        ] {
            let view = View::new(&camera);
            let mut best = std::time::Duration::MAX;
            for _ in 0..200 {
                let image = RgbImage::from_pixel(640, 480, Rgb([90; 3]));
                let start = std::time::Instant::now();
                std::hint::black_box(view.of(std::hint::black_box(image)));
                best = best.min(start.elapsed());
            }
            println!("640x480, {name}: {best:?} at best");
        }
    }
}
