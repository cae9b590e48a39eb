//! Pictures for the tests of this folder.

use image::codecs::jpeg::JpegEncoder;
use image::{Rgb, RgbImage};

/// A picture with enough detail that its coded data matter; `shade` tells pictures apart.
pub fn picture(width: u32, height: u32, shade: u8) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let wave = ((x * 7 + y * 5) % 32) as u8;
        Rgb([shade, (x * 255 / width) as u8 / 2 + wave, (y * 255 / height) as u8 / 2 + wave])
    })
}

pub fn encode(image: &RgbImage, quality: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, quality).encode_image(image).unwrap();
    bytes
}

pub fn jpeg(shade: u8) -> Vec<u8> {
    encode(&picture(64, 48, shade), 90)
}

/// Tells pictures of [`picture`] apart after coding.
pub fn shade(image: &RgbImage) -> u8 {
    let sum: u64 = image.pixels().map(|pixel| u64::from(pixel.0[0])).sum();
    (sum / u64::from(image.width() * image.height())) as u8
}

pub fn is_near(shade: u8, wanted: u8) -> bool {
    shade.abs_diff(wanted) <= 3
}

/// The same JPEG without its Huffman tables, as motion-JPEG cameras send it.
pub fn without_huffman_tables(jpeg: &[u8]) -> Vec<u8> {
    let mut out = jpeg[..2].to_vec();
    let mut at = 2;
    loop {
        let length = usize::from(u16::from_be_bytes([jpeg[at + 2], jpeg[at + 3]])) + 2;
        match jpeg[at + 1] {
            0xc4 => {}
            0xda => break,
            _ => out.extend_from_slice(&jpeg[at..at + length]),
        }
        at += length;
    }
    out.extend_from_slice(&jpeg[at..]);
    out
}

/// The same JPEG whose frame header claims another size.
pub fn claiming(jpeg: &[u8], width: u16, height: u16) -> Vec<u8> {
    let mut out = jpeg.to_vec();
    let header = out.windows(4).position(|w| w[0] == 0xff && w[1] == 0xc0 && w[2] == 0).unwrap();
    out[header + 5..header + 7].copy_from_slice(&height.to_be_bytes());
    out[header + 7..header + 9].copy_from_slice(&width.to_be_bytes());
    out
}

/// Deterministic random bytes.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..length).map(|_| random.u8(..)).collect()
}
