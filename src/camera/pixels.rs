//! From the bytes of a frame to RGB.

use image::RgbImage;

use super::jpeg::{self, Skipped};

/// How the bytes of a frame hold its picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Encoding {
    Jpeg,
    Raw(Raw),
}

impl Encoding {
    pub fn decode(&self, bytes: &[u8]) -> Result<RgbImage, Skipped> {
        match self {
            Self::Jpeg => jpeg::decode(bytes),
            Self::Raw(raw) => raw.decode(bytes),
        }
    }
}

/// Layout of uncompressed pixels, all in one plane of memory (V4L2's single-planar formats).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raw {
    pub pixels: Pixels,
    pub width: u32,
    pub height: u32,
    /// Bytes from one row to the next; of NV12 in both of its parts.
    pub stride: u32,
    pub colors: Colors,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pixels {
    /// Y₀ Cb Y₁ Cr: two pixels in four bytes.
    Yuyv,
    /// All Y, then rows of Cb Cr, each for two by two pixels.
    Nv12,
    /// R G B.
    Rgb,
    /// Y alone.
    Grey,
}

/// What the numbers of a pixel mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Colors {
    pub matrix: Matrix,
    /// 0…255 instead of 16…235 (16…240 of Cb and Cr).
    pub full_range: bool,
}

/// How Y′CbCr comes from R′G′B′.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Matrix {
    /// ITU-R BT.601, K_R = 0.299, K_B = 0.114: what cameras use unless they say otherwise.
    Bt601,
    /// ITU-R BT.709, K_R = 0.2126, K_B = 0.0722.
    Bt709,
}

impl Raw {
    fn decode(&self, bytes: &[u8]) -> Result<RgbImage, Skipped> {
        let (width, height) = (self.width as usize, self.height as usize);
        if width == 0 || height == 0 || width * height > jpeg::FRAME_PIXELS {
            return Err(Skipped::TooLarge(format!("{width}x{height}")));
        }
        let stride = self.stride as usize;
        let row = match self.pixels {
            Pixels::Yuyv => width.div_ceil(2) * 4,
            Pixels::Rgb => width * 3,
            Pixels::Grey | Pixels::Nv12 => width,
        };
        let chroma = if self.pixels == Pixels::Nv12 { height.div_ceil(2) } else { 0 };
        let chroma_row = width.div_ceil(2) * 2;
        // The last row need not reach to the end of its stride.
        let needed = match chroma {
            0 => stride * (height - 1) + row,
            rows => stride * (height + rows - 1) + chroma_row,
        };
        if stride < row.max(if chroma > 0 { chroma_row } else { 0 }) || bytes.len() < needed {
            let length = bytes.len();
            return Err(Skipped::Broken(format!("{length} bytes where {needed} should be")));
        }
        let mut image = RgbImage::new(self.width, self.height);
        let converter = Converter::new(self.colors);
        for (y, out) in image.chunks_exact_mut(width * 3).enumerate() {
            let line = &bytes[stride * y..stride * y + row];
            match self.pixels {
                Pixels::Yuyv => yuyv_row(&converter, line, out),
                Pixels::Nv12 => {
                    let start = stride * (height + y / 2);
                    nv12_row(&converter, line, &bytes[start..start + chroma_row], out);
                }
                Pixels::Rgb => out.copy_from_slice(line),
                Pixels::Grey => grey_row(&converter, line, out),
            }
        }
        Ok(image)
    }
}

fn yuyv_row(converter: &Converter, line: &[u8], out: &mut [u8]) {
    for (pair, two) in line.chunks_exact(4).zip(out.chunks_mut(6)) {
        let chroma = converter.chroma(pair[1], pair[3]);
        for (pixel, y) in two.chunks_exact_mut(3).zip([pair[0], pair[2]]) {
            pixel.copy_from_slice(&converter.pixel(y, chroma));
        }
    }
}

fn nv12_row(converter: &Converter, luma: &[u8], chroma: &[u8], out: &mut [u8]) {
    for ((ys, color), two) in luma.chunks(2).zip(chroma.chunks_exact(2)).zip(out.chunks_mut(6)) {
        let color = converter.chroma(color[0], color[1]);
        for (pixel, &y) in two.chunks_exact_mut(3).zip(ys) {
            pixel.copy_from_slice(&converter.pixel(y, color));
        }
    }
}

fn grey_row(converter: &Converter, line: &[u8], out: &mut [u8]) {
    for (pixel, &y) in out.chunks_exact_mut(3).zip(line) {
        pixel.copy_from_slice(&converter.pixel(y, [0; 3]));
    }
}

/// Fixed-point arithmetic of 16 fractional bits.
struct Converter {
    offset: i32,
    scale: i32,
    red_cr: i32,
    green_cb: i32,
    green_cr: i32,
    blue_cb: i32,
}

impl Converter {
    /// R = Y + 2(1 − K_R)·Cr, B = Y + 2(1 − K_B)·Cb, and G from Y = K_R·R + K_G·G + K_B·B.
    fn new(colors: Colors) -> Self {
        let (red, blue) = match colors.matrix {
            Matrix::Bt601 => (0.299, 0.114),
            Matrix::Bt709 => (0.2126, 0.0722),
        };
        let green = 1.0 - red - blue;
        let (luma, chroma, offset) =
            if colors.full_range { (1.0, 1.0, 0) } else { (255.0 / 219.0, 255.0 / 224.0, 16) };
        let fixed = |value: f64| (value * 65536.0).round() as i32;
        Self {
            offset,
            scale: fixed(luma),
            red_cr: fixed(chroma * 2.0 * (1.0 - red)),
            green_cb: fixed(-chroma * 2.0 * (1.0 - blue) * blue / green),
            green_cr: fixed(-chroma * 2.0 * (1.0 - red) * red / green),
            blue_cb: fixed(chroma * 2.0 * (1.0 - blue)),
        }
    }

    /// What Cb and Cr add to red, green and blue.
    fn chroma(&self, cb: u8, cr: u8) -> [i32; 3] {
        let (cb, cr) = (i32::from(cb) - 128, i32::from(cr) - 128);
        [self.red_cr * cr, self.green_cb * cb + self.green_cr * cr, self.blue_cb * cb]
    }

    fn pixel(&self, y: u8, chroma: [i32; 3]) -> [u8; 3] {
        let y = (i32::from(y) - self.offset) * self.scale + (1 << 15); // a half, to round
        chroma.map(|color| ((y + color) >> 16).clamp(0, 255) as u8)
    }
}
