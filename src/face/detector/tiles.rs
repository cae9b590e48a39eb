//! Small faces in large stills. A network sees a picture at the size of its input, in which a face of 80 pixels in 12
//! megapixels has six. Where that finds nothing, the picture is looked at again in overlapping tiles, coarse ones
//! first, and each face that is found is looked at once more, alone and in its middle: among so many looks some
//! mistake a pattern for a face, and a face at the edge of a tile is cut.

use image::RgbImage;

use super::suppress;
use crate::face::{BoundingBox, DetectedFace, Point};

/// Scale of the finest tiles: a face of 60 pixels, the smallest that recognition looks at, has 24 in the network.
const FINEST: f64 = 0.4;
/// Tiles are no gain that show a face less than so much larger than the whole picture did.
const GAIN: f64 = 1.3;
/// Share of a tile's side that its neighbour shows as well. A face larger than that is whole in a coarser tile.
const OVERLAP: f64 = 0.25;
/// Tiles of all scales of one picture: what 50 megapixels take with an input of 192x160.
const MAXIMUM_TILES: usize = 640;
/// Faces that are looked at once more, the most confident.
const MAXIMUM_CANDIDATES: usize = 64;
/// Side of what is shown around a face the second time, in sides of its box.
const AROUND: f32 = 3.0;
/// The second look must find a face that overlaps the first by this much (intersection over union).
const SAME: f32 = 0.3;

/// A part of a picture, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tile {
    x: u32,
    y: u32,
    width: u32,
    height: u32,
}

/// The faces of the coarsest tiles that show any. `input`: the network's width and height; `detect` finds faces in a
/// picture of any size; `overlap` is the detector's own limit for boxes of one face.
pub(super) fn search<E>(
    still: &RgbImage,
    input: (u32, u32),
    overlap: f32,
    detect: impl Fn(&RgbImage) -> Result<Vec<DetectedFace>, E>,
) -> Result<Vec<DetectedFace>, E> {
    let size = still.dimensions();
    let mut looked_at = 0;
    for scale in scales(size, input) {
        let tiles = tiles(size, input, scale);
        looked_at += tiles.len();
        if looked_at > MAXIMUM_TILES {
            break;
        }
        let mut candidates = Vec::new();
        for tile in tiles {
            candidates.extend(look(still, tile, &detect)?);
        }
        let mut candidates = suppress(candidates, overlap);
        candidates.truncate(MAXIMUM_CANDIDATES);
        let mut faces = Vec::new();
        for candidate in candidates {
            let again = look(still, around(size, &candidate.bounds), &detect)?;
            let same = again.into_iter().filter(|f| f.bounds.overlap(&candidate.bounds) >= SAME);
            faces.extend(same.max_by(|a, b| a.score.total_cmp(&b.score)));
        }
        let faces = suppress(faces, overlap);
        if !faces.is_empty() {
            return Ok(faces);
        }
    }
    Ok(Vec::new())
}

/// From coarse to fine, each twice as fine as the one before.
fn scales((width, height): (u32, u32), input: (u32, u32)) -> Vec<f64> {
    let whole = (f64::from(input.0) / f64::from(width)).min(f64::from(input.1) / f64::from(height));
    let halved = std::iter::successors(Some(FINEST), |scale| Some(scale / 2.0));
    let mut scales: Vec<f64> = halved.take_while(|scale| *scale >= whole * GAIN).collect();
    scales.reverse();
    scales
}

/// Tiles that cover the picture, evenly spread, each the network's input at this scale (or the whole side, where that
/// is shorter).
fn tiles((width, height): (u32, u32), input: (u32, u32), scale: f64) -> Vec<Tile> {
    let side = |input: u32, of: u32| ((f64::from(input) / scale).round() as u32).clamp(1, of);
    let (w, h) = (side(input.0, width), side(input.1, height));
    let starts = |tile: u32, of: u32| -> Vec<u32> {
        let step = f64::from(tile) * (1.0 - OVERLAP);
        let count = (f64::from(of - tile) / step).ceil() as u32;
        // One tile where there is nothing beside it.
        let at = |number: u32| f64::from(of - tile) * f64::from(number) / f64::from(count.max(1));
        (0..=count).map(|number| at(number).round() as u32).collect()
    };
    let columns = starts(w, width);
    let rows = starts(h, height);
    rows.iter()
        .flat_map(|&y| columns.iter().map(move |&x| Tile { x, y, width: w, height: h }))
        .collect()
}

/// A square around a face, as far as the picture reaches.
fn around((width, height): (u32, u32), bounds: &BoundingBox) -> Tile {
    let half = bounds.width.max(bounds.height) * AROUND / 2.0;
    let center = bounds.center();
    let span = |middle: f32, of: u32| {
        let from = (middle - half).floor().clamp(0.0, of as f32 - 1.0);
        let to = (middle + half).ceil().clamp(from + 1.0, of as f32);
        (from as u32, (to - from) as u32)
    };
    let (x, across) = span(center.x, width);
    let (y, down) = span(center.y, height);
    Tile { x, y, width: across, height: down }
}

/// The faces of one tile, in pixels of the whole picture.
fn look<E>(
    still: &RgbImage,
    tile: Tile,
    detect: &impl Fn(&RgbImage) -> Result<Vec<DetectedFace>, E>,
) -> Result<Vec<DetectedFace>, E> {
    let Tile { x, y, width, height } = tile;
    let part = image::imageops::crop_imm(still, x, y, width, height).to_image();
    let (x, y) = (x as f32, y as f32);
    let moved = |mut face: DetectedFace| {
        face.bounds.x += x;
        face.bounds.y += y;
        face.landmarks = face.landmarks.map(|point| Point { x: point.x + x, y: point.y + y });
        face
    };
    Ok(detect(&part)?.into_iter().map(moved).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const INPUT: (u32, u32) = (320, 256);

    /// Finds white squares that have at least 20 pixels in the network's input, whole or cut.
    fn squares(picture: &RgbImage) -> Vec<DetectedFace> {
        let (width, height) = picture.dimensions();
        let scale = (320.0 / width as f32).min(256.0 / height as f32);
        let white = |x: u32, y: u32| picture.get_pixel(x, y).0 == [255; 3];
        let mut faces = Vec::new();
        for (x, y, _) in picture.enumerate_pixels().filter(|(x, y, p)| {
            p.0 == [255; 3] && (*x == 0 || !white(x - 1, *y)) && (*y == 0 || !white(*x, y - 1))
        }) {
            let across = (x..width).take_while(|&x| white(x, y)).count() as f32;
            let down = (y..height).take_while(|&y| white(x, y)).count() as f32;
            if across.min(down) * scale >= 20.0 {
                let bounds = BoundingBox { x: x as f32, y: y as f32, width: across, height: down };
                faces.push(DetectedFace { bounds, score: 0.9, landmarks: [bounds.center(); 5] });
            }
        }
        faces
    }

    fn still(width: u32, height: u32, faces: &[(u32, u32, u32)]) -> RgbImage {
        let mut still = RgbImage::new(width, height);
        for &(x, y, side) in faces {
            let face = RgbImage::from_pixel(side, side, image::Rgb([255; 3]));
            image::imageops::replace(&mut still, &face, x.into(), y.into());
        }
        still
    }

    fn found(still: &RgbImage) -> Vec<(f32, f32, f32)> {
        let faces = search(still, INPUT, 0.3, |part| Ok::<_, ()>(squares(part))).unwrap();
        let mut boxes: Vec<_> =
            faces.iter().map(|f| (f.bounds.x, f.bounds.y, f.bounds.width)).collect();
        boxes.sort_by(|a, b| a.0.total_cmp(&b.0));
        boxes
    }

    #[test]
    fn small_face_in_a_large_still_is_found_once_and_whole() {
        // Anywhere, at the edges of tiles and of the picture as well.
        for (x, y) in [(0, 0), (780, 600), (595, 475), (1910, 1430), (3920, 2920)] {
            let still = still(4000, 3000, &[(x, y, 80)]);
            assert!(squares(&still).is_empty(), "seen at first sight");
            assert_eq!(found(&still), [(x as f32, y as f32, 80.0)]);
        }
    }

    #[test]
    fn faces_side_by_side_stay_two() {
        let still = still(4000, 3000, &[(1000, 900, 80), (1100, 900, 80)]);
        assert_eq!(found(&still), [(1000.0, 900.0, 80.0), (1100.0, 900.0, 80.0)]);
    }

    #[test]
    fn face_that_a_second_look_does_not_find_is_none() {
        let looks = Cell::new(0);
        let once = |_: &RgbImage| {
            looks.set(looks.get() + 1);
            let bounds = BoundingBox { x: 10.0, y: 10.0, width: 60.0, height: 60.0 };
            let face = DetectedFace { bounds, score: 0.9, landmarks: [Point::default(); 5] };
            Ok::<_, ()>(if looks.get() == 1 { vec![face] } else { Vec::new() })
        };
        assert_eq!(search(&still(1600, 1280, &[]), INPUT, 0.3, once), Ok(Vec::new()));
        assert!(looks.get() > 2);
    }

    /// Holds CAM-21.
    #[test]
    fn tiles_cover_the_picture_and_are_bounded_in_number() {
        for (size, input) in [
            ((4000, 3000), (320, 256)),
            ((8660, 5773), (192, 160)),
            ((50_000, 1000), (192, 160)),
            ((900, 7000), (224, 192)),
        ] {
            let mut all = 0;
            for scale in scales(size, input) {
                let tiles = tiles(size, input, scale);
                all += tiles.len();
                for (x, y) in
                    [(0, 0), (size.0 - 1, 0), (size.0 / 2, size.1 / 2), (size.0 - 1, size.1 - 1)]
                {
                    let holds = |t: &Tile| {
                        (t.x..t.x + t.width).contains(&x) && (t.y..t.y + t.height).contains(&y)
                    };
                    assert!(tiles.iter().any(holds), "{x},{y} of {size:?} at {scale}");
                }
                assert!(tiles.iter().all(|t| t.x + t.width <= size.0 && t.y + t.height <= size.1));
            }
            assert!((1..=MAXIMUM_TILES).contains(&all), "{all} tiles of {size:?}");
        }
        let looks = Cell::new(0);
        let nothing = |_: &RgbImage| {
            looks.set(looks.get() + 1);
            Ok::<_, ()>(Vec::new())
        };
        assert_eq!(search(&RgbImage::new(40_000, 1000), (64, 64), 0.3, nothing), Ok(Vec::new()));
        assert!(looks.get() <= MAXIMUM_TILES, "{}", looks.get());
    }

    #[test]
    fn picture_that_the_network_saw_well_is_not_cut_up() {
        assert_eq!(scales((640, 480), INPUT), Vec::<f64>::new());
        assert_eq!(scales((800, 600), INPUT).len(), 0);
        assert_eq!(scales((4000, 3000), INPUT).len(), 2);
    }
}
