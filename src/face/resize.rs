//! Resampling parts of pictures.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::RgbImage;

/// A part of a picture, in pixels; within the picture and not empty.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Region {
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
}

/// How pixels are made of pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filter {
    /// A triangle that widens when it shrinks, so that nothing aliases (as Pillow's `BILINEAR`).
    Average,
    /// Between the four nearest, whatever the scale (as OpenCV's `INTER_LINEAR`).
    Nearby,
}

/// `region` of `picture`, stretched to `width` x `height`. Black if picture or region are empty.
pub(super) fn resize(picture: &RgbImage, region: Region, width: u32, height: u32) -> RgbImage {
    resize_by(Filter::Average, picture, region, width, height)
}

pub(super) fn resize_by(
    filter: Filter,
    picture: &RgbImage,
    region: Region,
    width: u32,
    height: u32,
) -> RgbImage {
    let mut resized = RgbImage::new(width, height);
    let (full_width, full_height) = (f64::from(picture.width()), f64::from(picture.height()));
    let x = region.x.clamp(0.0, full_width);
    let y = region.y.clamp(0.0, full_height);
    let options = ResizeOptions::new()
        .resize_alg(match filter {
            Filter::Average => ResizeAlg::Convolution(FilterType::Bilinear),
            Filter::Nearby => ResizeAlg::Interpolation(FilterType::Bilinear),
        })
        .use_alpha(false)
        .crop(x, y, region.width.min(full_width - x), region.height.min(full_height - y));
    let source =
        ImageRef::new(picture.width(), picture.height(), picture.as_raw(), PixelType::U8x3);
    let target = Image::from_slice_u8(width, height, &mut resized, PixelType::U8x3);
    let (Ok(source), Ok(mut target)) = (source, target) else {
        return resized; // only where a side is 0: nothing to draw
    };
    if let Err(error) = Resizer::new().resize(&source, &mut target, &options) {
        log::debug!("nothing to resample: {error}");
    }
    resized
}

/// The whole of a picture.
pub(super) fn whole(picture: &RgbImage) -> Region {
    Region {
        x: 0.0,
        y: 0.0,
        width: f64::from(picture.width()),
        height: f64::from(picture.height()),
    }
}
