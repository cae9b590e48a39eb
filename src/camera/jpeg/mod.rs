//! Decoding one JPEG of a stream: whole or not at all, within limits.

mod huffman;
mod markers;

use std::borrow::Cow;

use image::RgbImage;
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;

pub use markers::{START_OF_IMAGE, Step, Walker};

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
/// It must be whole: end of image present and every coded row too; a truncated one is refused rather
/// than shown half grey. One without Huffman tables gets the standard ones (ITU-T T.81 Annex K.3).
/// Grey and CMYK pictures become RGB. Limits: [`JPEG_BYTES`], [`FRAME_PIXELS`], 16 scans.
pub fn decode(bytes: &[u8]) -> Result<RgbImage, Skipped> {
    // zune-jpeg has no `unsafe` outside its SIMD kernels; a panic of it is contained as one more
    // broken frame. Nothing of the decoder outlives the call, so nothing half-changed can be seen.
    std::panic::catch_unwind(|| decode_whole(bytes))
        .unwrap_or_else(|_| Err(Skipped::Broken("the decoder gave up".to_owned())))
}

/// How many pixels it says it has; of what [`decode`] refuses at a glance, none.
pub fn claimed_pixels(bytes: &[u8]) -> u64 {
    let mut walker = Walker::default();
    if bytes.len() > JPEG_BYTES || !matches!(walker.advance(bytes), Step::Whole(_)) {
        return 0;
    }
    let (width, height) = walker.layout().size.unwrap_or_default();
    let pixels = u64::from(width) * u64::from(height);
    if pixels > FRAME_PIXELS as u64 { 0 } else { pixels }
}

fn decode_whole(bytes: &[u8]) -> Result<RgbImage, Skipped> {
    let broken = |reason: &str| Skipped::Broken(reason.to_owned());
    if bytes.len() > JPEG_BYTES {
        return Err(Skipped::TooLarge(format!("{} bytes", bytes.len())));
    }
    let mut walker = Walker::default();
    let bytes = match walker.advance(bytes) {
        Step::Whole(length) => &bytes[..length],
        Step::More => return Err(broken("truncated")),
        Step::Broken { .. } => return Err(broken("not a JPEG")),
    };
    let layout = walker.layout();
    let (Some((width, height)), Some(scan)) = (layout.size, layout.scan) else {
        return Err(broken("no picture in it"));
    };
    let (width, height) = (usize::from(width), usize::from(height));
    if width * height > FRAME_PIXELS {
        return Err(Skipped::TooLarge(format!("{width}x{height}")));
    }
    let bytes = if layout.huffman {
        Cow::Borrowed(bytes)
    } else {
        Cow::Owned([&bytes[..scan], &huffman::standard_segment(), &bytes[scan..]].concat())
    };
    let options = DecoderOptions::new_fast()
        .set_strict_mode(true)
        .set_max_width(width)
        .set_max_height(height)
        .jpeg_set_max_scans(SCANS)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder =
        zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(bytes.as_ref()), options);
    let reason = |error: zune_jpeg::errors::DecodeErrors| Skipped::Broken(error.to_string());
    decoder.decode_headers().map_err(reason)?;
    if decoder.dimensions() != Some((width, height)) {
        return Err(broken("two sizes in one picture"));
    }
    let mut pixels = vec![0; width * height * 3];
    decoder.decode_into(&mut pixels).map_err(reason)?;
    RgbImage::from_raw(width as u32, height as u32, pixels).ok_or_else(|| broken("no pixels"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests;
