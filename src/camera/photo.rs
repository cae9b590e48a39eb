//! Still pictures that people give: for enrolment, identification, evaluation.

use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, RgbImage};

use super::foreign::{Foreign, foreign};
use super::jpeg::{Skipped, Whole};
use crate::system::owner;

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
    #[error("{}: larger than {} MiB; give a smaller copy", .path.display(), PHOTO_BYTES >> 20)]
    TooManyBytes { path: PathBuf },
    #[error("{}: {width}x{height} is more than {} megapixels; give a smaller copy", .path.display(), PHOTO_PIXELS / 1_000_000)]
    TooManyPixels { path: PathBuf, width: u32, height: u32 },
    #[error("{}: {}, and familiar reads JPEG, PNG and WebP; {}", .path.display(), .foreign.what, .foreign.advice)]
    ForeignFormat { path: PathBuf, foreign: Foreign },
    #[error("{}: the file is empty", .path.display())]
    Empty { path: PathBuf },
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

/// With the rights of whoever named it: `sudo familiar enroll` finds pictures where root does.
fn read(path: &Path) -> Result<Vec<u8>, PhotoError> {
    owner::as_invoker(|| read_file(path))
}

fn read_file(path: &Path) -> Result<Vec<u8>, PhotoError> {
    let io = |source| PhotoError::Io { path: path.to_owned(), source };
    // The type is asked for before opening, because opening a FIFO would wait for ever.
    if !std::fs::metadata(path).map_err(io)?.is_file() {
        return Err(PhotoError::NotAFile { path: path.to_owned() });
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(io)?;
    file.take(PHOTO_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > PHOTO_BYTES {
        return Err(PhotoError::TooManyBytes { path: path.to_owned() });
    }
    Ok(bytes)
}

pub(crate) fn decode(path: &Path, bytes: &[u8]) -> Result<RgbImage, PhotoError> {
    let broken = |error: image::ImageError| PhotoError::Broken {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    let io = |source| PhotoError::Io { path: path.to_owned(), source };
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(io)?;
    // It wants the first segment at once; cameras may send strays before it.
    if reader.format().is_none() && bytes.starts_with(&[0xff, 0xd8]) {
        reader.set_format(ImageFormat::Jpeg);
    }
    if reader.format().is_none_or(|format| !format.reading_enabled()) {
        let path = path.to_owned();
        return Err(match foreign(bytes) {
            Some(foreign) => PhotoError::ForeignFormat { path, foreign },
            None if bytes.is_empty() => PhotoError::Empty { path },
            None => PhotoError::UnknownFormat { path },
        });
    }
    let skipped = |error: Skipped| PhotoError::Broken {
        path: path.to_owned(),
        reason: match error {
            Skipped::Broken(reason) => reason,
            other @ Skipped::TooLarge(_) => other.to_string(),
        },
    };
    // JPEGs are taken as sloppy as from cameras.
    let jpeg = match reader.format() {
        Some(ImageFormat::Jpeg) => Some(Whole::find(bytes).map_err(skipped)?),
        _ => None,
    };
    if let Some(jpeg) = &jpeg {
        reader = ImageReader::with_format(Cursor::new(jpeg.tidy()), ImageFormat::Jpeg);
    }
    let mut decoder = reader.into_decoder().map_err(broken)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > PHOTO_PIXELS {
        return Err(PhotoError::TooManyPixels { path: path.to_owned(), width, height });
    }
    let mut limits = image::Limits::default();
    limits.max_alloc = Some(ALLOCATION);
    decoder.set_limits(limits).map_err(broken)?;
    // A picture whose EXIF cannot be read is still a picture.
    let orientation = decoder.orientation().unwrap_or(image::metadata::Orientation::NoTransforms);
    // The decoder of JPEG fills up what is missing with grey; the other two refuse.
    let unended = jpeg.as_ref().is_some_and(|jpeg| !jpeg.is_ended());
    let mut picture = if unended && let Some(jpeg) = jpeg.clone() {
        drop(decoder);
        DynamicImage::from(jpeg.decode().map_err(skipped)?)
    } else {
        DynamicImage::from_decoder(decoder).map_err(broken)?
    };
    picture.apply_orientation(orientation);
    Ok(picture.into_rgb8())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::super::testing::{claiming, encode, picture};
    use super::*;

    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        file
    }

    fn coded(format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        picture(40, 30, 90).write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn decoded(bytes: &[u8]) -> Result<RgbImage, PhotoError> {
        decode_photo(file(bytes).path())
    }

    /// A JPEG with an EXIF segment of one entry: the orientation.
    fn oriented(orientation: u8) -> Vec<u8> {
        let mut exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
        exif.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
        let jpeg = encode(&picture(40, 30, 90), 95);
        let length = (exif.len() as u16 + 2).to_be_bytes();
        [&jpeg[..2], &[0xff, 0xe1], &length, &exif, &jpeg[2..]].concat()
    }

    #[test]
    fn jpeg_png_and_webp_are_told_by_their_content() {
        for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP] {
            let image = decoded(&coded(format)).unwrap();
            assert_eq!(image.dimensions(), (40, 30), "{format:?}");
        }
        assert_eq!(decoded(&coded(ImageFormat::Png)).unwrap(), picture(40, 30, 90));
    }

    #[test]
    fn exif_orientation_turns_the_picture_upright() {
        let plain = decoded(&oriented(1)).unwrap();
        assert_eq!(plain.dimensions(), (40, 30));
        // 6: the camera was held so that the picture needs a quarter turn clockwise.
        assert_eq!(decoded(&oriented(6)).unwrap(), image::imageops::rotate90(&plain));
        assert_eq!(decoded(&oriented(3)).unwrap(), image::imageops::rotate180(&plain));
        assert_eq!(decoded(&oriented(2)).unwrap(), image::imageops::flip_horizontal(&plain));
        assert_eq!(decoded(&oriented(77)).unwrap(), plain);
    }

    #[test]
    fn truncated_photo_is_refused_never_half_decoded() {
        for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP] {
            let whole = coded(format);
            for length in [1, 12, whole.len() / 2, whole.len() * 7 / 10] {
                assert!(decoded(&whole[..length]).is_err(), "{format:?} cut at {length}");
            }
            if format != ImageFormat::Jpeg {
                assert!(decoded(&whole[..whole.len() - 13]).is_err(), "{format:?}");
            }
        }
    }

    /// Holds CAM-02.
    #[test]
    fn jpeg_as_sloppy_as_from_a_camera_is_the_same_photo() {
        let clean = oriented(6);
        let wanted = decoded(&clean).unwrap();
        let (start, rest) = clean.split_at(2);
        for (kind, bytes) in [
            ("two starts", [start, start, rest].concat()),
            ("strays", [start, &[0, 0, 0, 0, 0], rest].concat()),
            ("no end", clean[..clean.len() - 2].to_vec()),
            ("garbage after the end", [&clean[..], b"garbage"].concat()),
        ] {
            let photo = decoded(&bytes).unwrap();
            assert_eq!(photo.dimensions(), wanted.dimensions(), "{kind}: turned as EXIF says");
            // Two settings of one decoder.
            let apart =
                photo.as_raw().iter().zip(wanted.as_raw()).map(|(a, b)| a.abs_diff(*b)).max();
            assert!(apart <= Some(2), "{kind}: {apart:?}");
        }
        let bomb = claiming(&clean[..clean.len() - 2], 65535, 65535);
        assert!(matches!(decoded(&bomb), Err(PhotoError::TooManyPixels { .. })));
    }

    /// Holds CAM-19.
    #[test]
    fn enormous_photo_is_refused_before_it_takes_memory() {
        let bomb = claiming(&encode(&picture(40, 30, 90), 90), 65535, 65535);
        assert!(matches!(decoded(&bomb), Err(PhotoError::TooManyPixels { .. })));
        let mut long = coded(ImageFormat::Png);
        long.resize(PHOTO_BYTES as usize + 1, 0);
        assert!(matches!(decoded(&long), Err(PhotoError::TooManyBytes { .. })));
    }

    #[test]
    fn what_is_no_picture_is_said_so() {
        assert!(matches!(decoded(b"hello"), Err(PhotoError::UnknownFormat { .. })));
        assert!(matches!(decoded(b"GIF89a......"), Err(PhotoError::ForeignFormat { .. })));
        assert!(matches!(decoded(b""), Err(PhotoError::Empty { .. })));
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(decode_photo(folder.path()), Err(PhotoError::NotAFile { .. })));
        let missing = folder.path().join("missing.jpg");
        let error = decode_photo(&missing).unwrap_err();
        assert!(error.to_string().contains("missing.jpg"), "{error}");
    }

    #[test]
    fn heic_is_named_with_the_way_out() {
        let error = decoded(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic").unwrap_err().to_string();
        for words in ["a HEIC picture", "Most Compatible", "heif-convert"] {
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn mutated_photos_never_panic() {
        let mut random = fastrand::Rng::with_seed(4);
        let path = file(b"");
        for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP] {
            let whole = coded(format);
            for _ in 0..500 {
                let mut bytes = whole.clone();
                for _ in 0..random.usize(1..6) {
                    let at = random.usize(..bytes.len());
                    bytes[at] ^= 1 << random.u8(..8);
                }
                let _ = decode(path.path(), &bytes);
            }
        }
    }
}
