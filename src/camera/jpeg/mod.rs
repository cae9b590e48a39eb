//! Decoding one JPEG of a stream: whole or not at all, within limits.

mod huffman;
mod markers;
mod restarts;

use std::borrow::Cow;

use image::RgbImage;
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;

pub use markers::{Layout, START_OF_IMAGE, Step, Walker};

/// Largest JPEG of a stream, in bytes.
pub const JPEG_BYTES: usize = 8 * 1024 * 1024;
/// Most pixels of a frame, compressed or not.
pub const FRAME_PIXELS: usize = 16_000_000;
/// Most scans of a progressive JPEG; encoders make about ten. Each scan walks over all blocks however
/// few bytes it has, so this is what bounds the time.
pub const SCANS: usize = 16;

/// Why a frame was skipped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Skipped {
    #[error("broken: {0}")]
    Broken(String),
    #[error("{0} is over the limit")]
    TooLarge(String),
}

/// Decodes one JPEG to RGB.
///
/// It must be whole: of a sequential picture all coded rows must be there, or all but the last, whether it has an end
/// of image or not; of a progressive one the end of image. What is truncated is refused rather than shown half grey.
/// What cameras do beyond the standard and libjpeg passes over is passed over: starts of image sent twice, fill bytes
/// and strays between segments, missing Huffman tables (the standard ones of ITU-T T.81 Annex K.3 are put in), what
/// follows the picture. Grey and CMYK pictures become RGB. Limits: [`JPEG_BYTES`], [`FRAME_PIXELS`], 16 scans.
pub fn decode(bytes: &[u8]) -> Result<RgbImage, Skipped> {
    // zune-jpeg has no `unsafe` outside its SIMD kernels; a panic of it is contained as one more
    // broken frame. Nothing of the decoder outlives the call, so nothing half-changed can be seen.
    std::panic::catch_unwind(|| Whole::read(bytes)?.decode())
        .unwrap_or_else(|_| Err(Skipped::Broken("the decoder gave up".to_owned())))
}

/// Starts of image in one buffer that are tried, until one is that of a whole picture.
const STARTS: usize = 4;
/// Zeros after coded data: the decoder reads ahead by less.
const AHEAD: [u8; 8] = [0; 8];

/// A JPEG walked to its end and not yet decoded.
#[derive(Clone)]
pub struct Whole<'a> {
    bytes: Cow<'a, [u8]>,
    layout: Layout,
    /// Whether there is an end of image.
    ended: bool,
    width: usize,
    height: usize,
}

impl<'a> Whole<'a> {
    pub fn read(bytes: &'a [u8]) -> Result<Self, Skipped> {
        if bytes.len() > JPEG_BYTES {
            return Err(Skipped::TooLarge(format!("{} bytes", bytes.len())));
        }
        let whole = Self::find(bytes)?;
        if whole.pixels() > FRAME_PIXELS {
            return Err(Skipped::TooLarge(format!("{}x{}", whole.width, whole.height)));
        }
        Ok(whole)
    }

    /// The picture in a buffer, of any size: the first with an end of image, else the first. One that was cut short may
    /// lie before it.
    pub fn find(bytes: &'a [u8]) -> Result<Self, Skipped> {
        let mut rest = bytes;
        let mut found = Err(broken("not a JPEG"));
        for _ in 0..STARTS {
            let mut walker = Walker::default();
            let (length, ended) = match walker.advance(rest) {
                Step::Whole(length) => (length, true),
                Step::Unended(length) => (length, false),
                Step::More if walker.is_in_picture() => (rest.len(), false),
                Step::More => return found.map_err(|_| broken("truncated")),
                Step::Broken { resume } => (resume, false),
            };
            if ended || walker.layout().scans > 0 {
                let picture = Self::new(&walker, rest, length, ended);
                if ended || found.is_err() {
                    found = picture;
                }
            }
            rest = &rest[length.min(rest.len())..];
            let start = rest.windows(3).position(|window| window == START_OF_IMAGE);
            let Some(start) = start.filter(|_| !ended) else { break };
            rest = &rest[start..];
        }
        found
    }

    fn new(walker: &Walker, bytes: &'a [u8], length: usize, ended: bool) -> Result<Self, Skipped> {
        let layout = walker.layout();
        let (Some((width, height)), true) = (layout.size, layout.scans > 0) else {
            return Err(broken("no picture in it"));
        };
        let bytes = walker.tidy(bytes, length);
        Ok(Self { bytes, layout, ended, width: width.into(), height: height.into() })
    }

    /// How many pixels decoding makes.
    pub fn pixels(&self) -> usize {
        self.width * self.height
    }

    /// Whether there is an end of image.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// As a decoder wants it that knows nothing of sloppy cameras.
    pub fn tidy(&self) -> &[u8] {
        &self.bytes
    }

    /// See [`decode`], which contains a panic as well.
    pub fn decode(self) -> Result<RgbImage, Skipped> {
        let Self { bytes, layout, ended, width, height } = self;
        let mut bytes = bytes.into_owned();
        // The end of image is no proof that all rows came, and the decoder fills up what lies before one. Where all
        // is coded in one go, it is the rows that count; else the end alone can tell.
        let by_rows = layout.sequential && layout.scans == 1;
        if by_rows {
            bytes.truncate(bytes.len() - if ended { 2 } else { 0 });
            while bytes.last() == Some(&0xff) {
                bytes.pop();
            }
            restarts::fill_gaps(&mut bytes, layout.data_at, layout.intervals());
            bytes.extend(AHEAD);
        } else if !ended {
            return Err(broken("truncated"));
        }
        let mut height_at = layout.height_at;
        if !layout.huffman {
            let tables = huffman::standard_segment();
            height_at += tables.len();
            bytes.splice(2..2, tables);
        }
        let decoded = pixels(&bytes, width, height);
        if decoded.is_ok() || !by_rows {
            return decoded;
        }
        // All rows but the last are a picture as well.
        let rows = height.saturating_sub(1) / usize::from(layout.unit_rows)
            * usize::from(layout.unit_rows);
        let Some(place) = bytes.get_mut(height_at..height_at + 2).filter(|_| rows > 0) else {
            return decoded;
        };
        place.copy_from_slice(&(rows as u16).to_be_bytes());
        let Ok(image) = pixels(&bytes, width, rows) else { return decoded };
        let mut pixels = image.into_raw();
        let line = pixels[pixels.len() - width * 3..].to_vec();
        pixels.extend(line.repeat(height - rows));
        RgbImage::from_raw(width as u32, height as u32, pixels).ok_or_else(|| broken("no pixels"))
    }
}

fn pixels(bytes: &[u8], width: usize, height: usize) -> Result<RgbImage, Skipped> {
    let options = DecoderOptions::new_fast()
        .set_strict_mode(true)
        .set_max_width(width)
        .set_max_height(height)
        .jpeg_set_max_scans(SCANS)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    let reason = |error: zune_jpeg::errors::DecodeErrors| Skipped::Broken(error.to_string());
    decoder.decode_headers().map_err(reason)?;
    if decoder.dimensions() != Some((width, height)) {
        return Err(broken("two sizes in one picture"));
    }
    let mut pixels = vec![0; width * height * 3];
    decoder.decode_into(&mut pixels).map_err(reason)?;
    RgbImage::from_raw(width as u32, height as u32, pixels).ok_or_else(|| broken("no pixels"))
}

fn broken(reason: &str) -> Skipped {
    Skipped::Broken(reason.to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod sloppy;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests;
