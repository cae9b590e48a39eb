//! Still pictures that people give: for enrolment, identification, evaluation.

use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use image::{DynamicImage, ImageDecoder, ImageReader, RgbImage};

/// Largest photo file that is read, in bytes.
pub const PHOTO_BYTES: u64 = 32 * 1024 * 1024;
/// Most pixels a photo may have; 50 megapixels are what large cameras and telephones give.
pub const PHOTO_PIXELS: u64 = 50_000_000;
/// What the decoder may allocate, in bytes: 16-bit RGBA pixels, and as much again for its own work.
const ALLOCATION: u64 = PHOTO_PIXELS * 16;

/// Why a picture could not be used. Every message names the file.
#[derive(Debug, thiserror::Error)]
pub enum PhotoError {
    #[error("{}: {source}", .path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{}: not a regular file", .path.display())]
    NotAFile { path: PathBuf },
    #[error("{}: {width}x{height} pixels or more than {} MiB; the limit is {} megapixels", .path.display(), PHOTO_BYTES >> 20, PHOTO_PIXELS / 1_000_000)]
    TooLarge { path: PathBuf, width: u32, height: u32 },
    #[error("{}: not a JPEG, PNG or WebP picture", .path.display())]
    UnknownFormat { path: PathBuf },
    #[error("{}: broken picture: {reason}", .path.display())]
    Broken { path: PathBuf, reason: String },
}

/// Reads and decodes one JPEG, PNG or WebP picture, turned upright as its EXIF orientation says.
///
/// The format is told by the content, not by the name. A truncated picture is refused, never half
/// decoded. Limits: [`PHOTO_BYTES`], [`PHOTO_PIXELS`].
pub fn decode_photo(path: &Path) -> Result<RgbImage, PhotoError> {
    let bytes = read(path)?;
    // A decoder's panic on a malformed picture is one bad picture, not the end of the program.
    std::panic::catch_unwind(|| decode(path, &bytes)).unwrap_or_else(|_| {
        Err(PhotoError::Broken { path: path.to_owned(), reason: "the decoder gave up".to_owned() })
    })
}

fn read(path: &Path) -> Result<Vec<u8>, PhotoError> {
    let io = |source| PhotoError::Io { path: path.to_owned(), source };
    // The type is asked for before opening, because opening a FIFO would wait for ever.
    if !std::fs::metadata(path).map_err(io)?.is_file() {
        return Err(PhotoError::NotAFile { path: path.to_owned() });
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(io)?;
    file.take(PHOTO_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > PHOTO_BYTES {
        return Err(PhotoError::TooLarge { path: path.to_owned(), width: 0, height: 0 });
    }
    Ok(bytes)
}

fn decode(path: &Path, bytes: &[u8]) -> Result<RgbImage, PhotoError> {
    let broken = |error: image::ImageError| PhotoError::Broken {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    let reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|source| PhotoError::Io { path: path.to_owned(), source })?;
    if reader.format().is_none_or(|format| !format.reading_enabled()) {
        return Err(PhotoError::UnknownFormat { path: path.to_owned() });
    }
    let mut decoder = reader.into_decoder().map_err(broken)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > PHOTO_PIXELS {
        return Err(PhotoError::TooLarge { path: path.to_owned(), width, height });
    }
    let mut limits = image::Limits::default();
    limits.max_alloc = Some(ALLOCATION);
    decoder.set_limits(limits).map_err(broken)?;
    // A picture whose EXIF cannot be read is still a picture.
    let orientation = decoder.orientation().unwrap_or(image::metadata::Orientation::NoTransforms);
    let mut picture = DynamicImage::from_decoder(decoder).map_err(broken)?;
    picture.apply_orientation(orientation);
    Ok(picture.into_rgb8())
}
