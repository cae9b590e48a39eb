//! What a camera, a recording or a picture file may hold.

use std::io::{Read, Result};

use familiar::camera::{FRAME_PIXELS, JPEG_BYTES, PHOTO_PIXELS, decode_frame};
use familiar::untrusted::{self, Colors, Matrix, Piece, Pixels, Raw};

/// One JPEG of a camera.
pub fn frame(bytes: &[u8]) {
    // A small file that says it is large is a picture like another, but slow under the fuzzer.
    if claims_more_than(bytes, 512 * 512) {
        return;
    }
    if let Ok(image) = decode_frame(bytes) {
        let (width, height) = (image.width() as usize, image.height() as usize);
        assert!(width * height <= FRAME_PIXELS);
        assert_eq!(image.as_raw().len(), width * height * 3);
    }
}

/// Any still picture: JPEG, PNG, WebP.
pub fn photo(bytes: &[u8]) {
    if let Ok(image) = untrusted::photo(bytes) {
        assert!(u64::from(image.width()) * u64::from(image.height()) <= PHOTO_PIXELS);
    }
}

/// A file of concatenated JPEGs, some without their ends: the same pieces however the reads fall, none too large.
pub fn recording(bytes: &[u8]) {
    let Ok(whole) = untrusted::recording(bytes) else { panic!("reading from memory failed") };
    let Ok(dripped) = untrusted::recording(Dripping(bytes, 0)) else { panic!("nor so") };
    assert_eq!(whole, dripped);
    let mut total = 0;
    for piece in &whole {
        if let Piece::Jpeg(jpeg) = piece {
            assert!(jpeg.starts_with(&[0xff, 0xd8, 0xff]));
            assert!(jpeg.len() <= JPEG_BYTES);
            total += jpeg.len();
        }
    }
    assert!(total <= bytes.len(), "more came out than went in");
}

/// Uncompressed pixels: eight bytes of layout, as a driver tells it, then the buffer.
pub fn raw(bytes: &[u8]) {
    let Some((&[format, colors, w0, w1, h0, h1, s0, s1], buffer)) = bytes.split_first_chunk()
    else {
        return;
    };
    let number = |low: u8, high: u8| u32::from(u16::from_le_bytes([low, high]));
    let (pixels, _) = Pixels::ALL[usize::from(format) % Pixels::ALL.len()];
    let matrix = if colors & 1 == 0 { Matrix::Bt601 } else { Matrix::Bt709 };
    // Some drivers give lengths that no memory holds.
    let scale = if format >= 0x80 { 1 << 16 } else { 1 };
    let layout = Raw {
        pixels,
        width: number(w0, w1).saturating_mul(scale),
        height: number(h0, h1).saturating_mul(scale),
        stride: number(s0, s1).saturating_mul(scale),
        colors: Colors { matrix, full_range: colors & 2 != 0 },
    };
    if let Ok(image) = layout.decode(buffer) {
        assert_eq!(image.dimensions(), (layout.width, layout.height));
        let least = layout.width as usize * layout.height as usize;
        assert!(buffer.len() >= least, "{layout:?} out of {} bytes", buffer.len());
    }
}

/// Gives from one to seven bytes at a time.
struct Dripping<'a>(&'a [u8], usize);

impl Read for Dripping<'_> {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        self.1 = self.1 % 7 + 1;
        let length = self.1.min(self.0.len()).min(into.len());
        let (now, later) = self.0.split_at(length);
        into[..length].copy_from_slice(now);
        self.0 = later;
        Ok(length)
    }
}

/// Whether any start of frame in it claims so many pixels.
fn claims_more_than(bytes: &[u8], pixels: usize) -> bool {
    bytes.windows(9).any(|window| {
        let &[0xff, marker, _, _, _, h1, h0, w1, w0] = window else { return false };
        let size = |high, low| usize::from(u16::from_be_bytes([high, low]));
        (0xc0..=0xcf).contains(&marker) && size(h1, h0) * size(w1, w0) > pixels
    })
}
