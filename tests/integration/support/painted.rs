//! Painted people: squares that the networks of [`super::small`] take for faces.
//!
//! A face is a yellowish square on a grey wall (blue below the mean of red and green), four by four
//! tiles of light and dark. The tiles are the person, the balance of red and green says live or
//! spoof, and how yellow it is gives the detector's score.

use std::path::Path;

use image::{Rgb, RgbImage};

/// Luma of the wall.
const WALL: u8 = 128;
/// Luma of a face: its mean, how far tiles are from it, and a fine texture (which no tile's mean
/// has) that keeps every face sharp enough for the quality gate.
pub(super) const MEAN: f32 = 130.0;
const CONTRAST: f32 = 35.0;
const TEXTURE: f32 = 15.0;
/// Tiles of a face in each direction.
pub(super) const TILES: usize = 4;
/// The detector's score of a face that is painted in full strength.
pub(super) const CLEAR: f32 = 0.95;
/// Yellowness (mean of red and green, less blue) at which a face's score is 0, and what is added for
/// [`CLEAR`].
pub(super) const YELLOW: (f32, f32) = (25.0, 45.0);
/// Red less green for a live score of sigmoid(1).
pub(super) const RED: f32 = 40.0 / 3.0;

/// One painted face. `Face::of(1)` to `Face::of(15)` are people whose embeddings are at right
/// angles: cosine 0 between any two, 0.9 between a portrait and a selfie of one.
#[derive(Debug, Clone, Copy)]
pub struct Face {
    /// -1 to 1 for each tile, row by row; the embedding points in this direction.
    pub(super) tiles: [f32; TILES * TILES],
    live: f32,
    score: f32,
}

impl Face {
    /// A person, 1 to 15, live (0.95) and clearly seen (0.95).
    pub fn of(person: u8) -> Self {
        assert!((1..=15).contains(&person), "there are 15 painted people");
        // A row of the Hadamard matrix of order 16.
        let sign = |tile: usize| {
            if (usize::from(person) & tile).count_ones().is_multiple_of(2) { 1.0 } else { -1.0 }
        };
        Self { tiles: std::array::from_fn(sign), live: 0.95, score: CLEAR }
    }

    /// Whom the picture folders call `P001` to `P015`.
    pub fn named(person: &str) -> Self {
        Self::of(person.strip_prefix('P').and_then(|number| number.parse().ok()).unwrap())
    }

    /// Looks like `other` by this cosine: for relatives, twins and strangers who come near.
    #[must_use]
    pub fn resembling(self, other: &Self, cosine: f32) -> Self {
        let rest = (1.0 - cosine * cosine).sqrt();
        let tile = |at: usize| cosine * other.tiles[at] + rest * self.tiles[at];
        Self { tiles: std::array::from_fn(tile), ..self }
    }

    /// In another light: 0.9 to the face as it was, whoever it is, and 0.19 between two people in that light.
    #[must_use]
    pub fn in_another_light(self) -> Self {
        // At right angles to every person.
        let light = Self { tiles: [1.0; TILES * TILES], ..self };
        self.resembling(&light, (1.0_f32 - 0.9 * 0.9).sqrt())
    }

    /// A picture of the person: the liveness networks give 0.05.
    #[must_use]
    pub fn spoof(self) -> Self {
        self.live(0.05)
    }

    /// With that score of the liveness networks, 0.02 to 0.98.
    #[must_use]
    pub fn live(self, score: f32) -> Self {
        assert!((0.02..=0.98).contains(&score));
        Self { live: score, ..self }
    }

    /// With that score of the detector, 0.45 to 0.95; JPEG moves it by some hundredths.
    #[must_use]
    pub fn seen(self, score: f32) -> Self {
        assert!((0.45..=CLEAR).contains(&score));
        Self { score, ..self }
    }

    /// Paints it, `side` pixels square. Within a frame of 640×480 a face is found from 60 to 380
    /// pixels, and two faces are told apart when their centres are 200 pixels and half a face apart;
    /// in frames of other sizes in proportion. Leave a tenth of a face between it and the frame's edge.
    pub fn paint(&self, frame: &mut RgbImage, left: u32, top: u32, side: u32) {
        let cell = |at: u32, cells: u32| (at * cells / side) as usize;
        for y in 0..side {
            for x in 0..side {
                let tile = cell(y, TILES as u32) * TILES + cell(x, TILES as u32);
                let light = (cell(x, 8) + cell(y, 8)) % 2 == 0;
                let texture = if light { TEXTURE } else { -TEXTURE };
                let luma = MEAN + CONTRAST * self.tiles[tile] + texture;
                if left + x < frame.width() && top + y < frame.height() {
                    frame.put_pixel(left + x, top + y, self.colour(luma));
                }
            }
        }
    }

    fn colour(&self, luma: f32) -> Rgb<u8> {
        let yellow = YELLOW.0 + YELLOW.1 * self.score / CLEAR;
        let red = RED * (self.live / (1.0 - self.live)).ln();
        // Mean of red and green, for this luma (ITU-R BT.601).
        let middle = luma + (0.587 - 0.299) / 2.0 * red + 0.114 * yellow;
        let parts = [middle + red / 2.0, middle - red / 2.0, middle - yellow];
        Rgb(parts.map(|part| part.round().clamp(0.0, 255.0) as u8))
    }
}

/// A frame with nobody in it.
pub fn wall(width: u32, height: u32) -> RgbImage {
    RgbImage::from_pixel(width, height, Rgb([WALL; 3]))
}

/// A photograph for enrolment: the face takes half of it.
pub fn portrait(face: &Face) -> RgbImage {
    let mut picture = wall(480, 480);
    face.paint(&mut picture, 120, 110, 240);
    picture
}

/// Another photograph: nearer, not in the middle, and in another light.
pub fn selfie(face: &Face) -> RgbImage {
    let mut picture = wall(400, 480);
    face.in_another_light().paint(&mut picture, 70, 130, 220);
    picture
}

/// Saves so many frames of 640×480, `0000.jpg` and on, in which the face moves a little.
pub fn record(face: &Face, folder: &Path, frames: u32) {
    std::fs::create_dir_all(folder).unwrap();
    for number in 0..frames {
        let mut frame = wall(640, 480);
        face.paint(&mut frame, 120 + 4 * (number % 60), 120, 200);
        frame.save(folder.join(format!("{number:04}.jpg"))).unwrap();
    }
}
