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

    /// Pixels that decoding has to make, as far as the bytes tell without decoding.
    pub fn pixels(&self, bytes: &[u8]) -> u64 {
        match self {
            Self::Jpeg => jpeg::claimed_pixels(bytes),
            Self::Raw(raw) => u64::from(raw.width) * u64::from(raw.height),
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
    pub fn decode(&self, bytes: &[u8]) -> Result<RgbImage, Skipped> {
        let (width, height) = (self.width as usize, self.height as usize);
        if width == 0 || height == 0 || width.saturating_mul(height) > jpeg::FRAME_PIXELS {
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
    let (pairs, _) = line.as_chunks::<4>();
    let (twos, odd) = out.as_chunks_mut::<6>();
    for (&[y0, cb, y1, cr], two) in pairs.iter().zip(&mut *twos) {
        *two = converter.pair([y0, y1], converter.chroma(cb, cr));
    }
    if let (Some(&[y, cb, _, cr]), [_, ..]) = (pairs.get(twos.len()), &odd) {
        odd.copy_from_slice(&converter.pixel(y, converter.chroma(cb, cr)));
    }
}

fn nv12_row(converter: &Converter, luma: &[u8], chroma: &[u8], out: &mut [u8]) {
    let (colors, _) = chroma.as_chunks::<2>();
    let (pairs, last) = luma.as_chunks::<2>();
    let (twos, odd) = out.as_chunks_mut::<6>();
    for ((&ys, &[cb, cr]), two) in pairs.iter().zip(colors).zip(twos) {
        *two = converter.pair(ys, converter.chroma(cb, cr));
    }
    if let ([y], Some(&[cb, cr])) = (last, colors.last()) {
        odd.copy_from_slice(&converter.pixel(*y, converter.chroma(cb, cr)));
    }
}

fn grey_row(converter: &Converter, line: &[u8], out: &mut [u8]) {
    for (pixel, &y) in out.as_chunks_mut::<3>().0.iter_mut().zip(line) {
        *pixel = converter.pixel(y, [0; 3]);
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
    #[inline]
    fn chroma(&self, cb: u8, cr: u8) -> [i32; 3] {
        let (cb, cr) = (i32::from(cb) - 128, i32::from(cr) - 128);
        [self.red_cr * cr, self.green_cb * cb + self.green_cr * cr, self.blue_cb * cb]
    }

    #[inline]
    fn pair(&self, ys: [u8; 2], chroma: [i32; 3]) -> [u8; 6] {
        let ([a, b, c], [d, e, f]) = (self.pixel(ys[0], chroma), self.pixel(ys[1], chroma));
        [a, b, c, d, e, f]
    }

    #[inline]
    fn pixel(&self, y: u8, chroma: [i32; 3]) -> [u8; 3] {
        let y = (i32::from(y) - self.offset) * self.scale + (1 << 15); // a half, to round
        chroma.map(|color| ((y + color) >> 16).clamp(0, 255) as u8)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    const LIMITED: Colors = Colors { matrix: Matrix::Bt601, full_range: false };
    const FULL: Colors = Colors { matrix: Matrix::Bt601, full_range: true };

    fn raw(pixels: Pixels, width: u32, height: u32, stride: u32, colors: Colors) -> Raw {
        Raw { pixels, width, height, stride, colors }
    }

    fn pixels(image: &RgbImage) -> Vec<[u8; 3]> {
        image.pixels().map(|pixel| pixel.0).collect()
    }

    /// Y', Cb, Cr of full colours in BT.601, limited range: the 100 % colour bars.
    const BARS: [([u8; 3], [u8; 3]); 8] = [
        ([235, 128, 128], [255, 255, 255]),
        ([210, 16, 146], [255, 255, 0]),
        ([170, 166, 16], [0, 255, 255]),
        ([145, 54, 34], [0, 255, 0]),
        ([106, 202, 222], [255, 0, 255]),
        ([81, 90, 240], [255, 0, 0]),
        ([41, 240, 110], [0, 0, 255]),
        ([16, 128, 128], [0, 0, 0]),
    ];

    fn near(one: [u8; 3], other: [u8; 3]) -> bool {
        // The codes of the bars are rounded themselves, by up to half a step of 255/219.
        one.iter().zip(other).all(|(a, b)| a.abs_diff(b) <= 2)
    }

    #[test]
    fn colour_bars_in_yuyv() {
        for ([y, cb, cr], rgb) in BARS {
            let image = raw(Pixels::Yuyv, 2, 1, 4, LIMITED).decode(&[y, cb, y, cr]).unwrap();
            assert!(pixels(&image).iter().all(|&pixel| near(pixel, rgb)), "{rgb:?}: {image:?}");
        }
    }

    #[test]
    fn exact_values() {
        let one = |colors, y, cb, cr| {
            pixels(&raw(Pixels::Yuyv, 2, 1, 4, colors).decode(&[y, cb, 0, cr]).unwrap())[0]
        };
        // Limited: 255/219 · (126 − 16) = 128.08
        assert_eq!(one(LIMITED, 126, 128, 128), [128, 128, 128]);
        assert_eq!(one(FULL, 126, 128, 128), [126, 126, 126]);
        // Full: R = 100 + 1.402 · 30 = 142.06; G = 100 − 0.344136 · −20 − 0.714136 · 30 = 85.46;
        // B = 100 + 1.772 · −20 = 64.56
        assert_eq!(one(FULL, 100, 108, 158), [142, 85, 65]);
        // Below black and above white are cut off.
        assert_eq!(one(LIMITED, 0, 128, 128), [0, 0, 0]);
        assert_eq!(one(LIMITED, 255, 128, 128), [255, 255, 255]);
        // BT.709, full: R = 100 + 1.5748 · 30 = 147.24; G = 100 + 0.187324 · 20 − 0.468124 · 30 =
        // 89.70; B = 100 − 1.8556 · 20 = 62.89
        let wide = Colors { matrix: Matrix::Bt709, full_range: true };
        assert_eq!(one(wide, 100, 108, 158), [147, 90, 63]);
    }

    #[test]
    fn two_pixels_share_their_colour() {
        let image = raw(Pixels::Yuyv, 2, 1, 4, FULL).decode(&[50, 128, 200, 128]).unwrap();
        assert_eq!(pixels(&image), [[50; 3], [200; 3]]);
    }

    #[test]
    fn yuyv_of_odd_width() {
        let bytes = [50, 128, 200, 128, 70, 128, 9, 128];
        let image = raw(Pixels::Yuyv, 3, 1, 8, FULL).decode(&bytes).unwrap();
        assert_eq!(pixels(&image), [[50; 3], [200; 3], [70; 3]]);
    }

    #[test]
    fn nv12_places_its_colour() {
        // 4 × 2: the left half red, the right half blue (full range).
        let bytes = [76, 76, 29, 29, 76, 76, 29, 29, 85, 255, 255, 107];
        let image = raw(Pixels::Nv12, 4, 2, 4, FULL).decode(&bytes).unwrap();
        for (x, _, pixel) in image.enumerate_pixels() {
            assert!(near(pixel.0, if x < 2 { [254, 0, 0] } else { [0, 0, 254] }), "{pixel:?}");
        }
    }

    #[test]
    fn nv12_of_odd_size_and_wide_stride() {
        let (stride, width, height) = (8, 3, 3);
        let mut bytes = vec![0xee; 8 * 3];
        for y in 0..3 {
            bytes[y * 8..y * 8 + 3].fill(10 * (y as u8 + 1));
        }
        bytes.extend([128; 8]);
        bytes.extend([128; 4]); // the last row need not reach to the end of its stride
        let raw = raw(Pixels::Nv12, width, height, stride, FULL);
        let image = raw.decode(&bytes).unwrap();
        for (_, y, pixel) in image.enumerate_pixels() {
            assert_eq!(pixel.0, [10 * (y as u8 + 1); 3]);
        }
        assert!(raw.decode(&bytes[..bytes.len() - 1]).is_err());
    }

    #[test]
    fn stride_is_stepped_over() {
        let line = |a: u8, b: u8| [a, a, a, b, b, b, 0xee, 0xee];
        let bytes = [line(1, 2), line(3, 4)].concat();
        let image = raw(Pixels::Rgb, 2, 2, 8, FULL).decode(&bytes).unwrap();
        assert_eq!(pixels(&image), [[1; 3], [2; 3], [3; 3], [4; 3]]);
        let grey = raw(Pixels::Grey, 2, 2, 3, FULL).decode(&[5, 6, 0xee, 7, 8]).unwrap();
        assert_eq!(pixels(&grey), [[5; 3], [6; 3], [7; 3], [8; 3]]);
    }

    #[test]
    fn short_buffer_or_impossible_layout_is_refused() {
        for pixels in [Pixels::Yuyv, Pixels::Nv12, Pixels::Rgb, Pixels::Grey] {
            let fits = raw(pixels, 6, 4, 24, LIMITED);
            let whole = vec![100; 24 * 6];
            assert!(fits.decode(&whole).is_ok());
            assert!(fits.decode(&whole[..24 * 3]).is_err());
            assert!(fits.decode(&[]).is_err());
            assert!(raw(pixels, 6, 4, 5, LIMITED).decode(&whole).is_err(), "rows would overlap");
            assert!(raw(pixels, 0, 4, 24, LIMITED).decode(&whole).is_err());
            let huge = raw(pixels, u32::MAX, u32::MAX, u32::MAX, LIMITED);
            assert!(matches!(huge.decode(&whole), Err(Skipped::TooLarge(_))));
        }
    }

    /// `cargo test --release convert_time -- --ignored --nocapture`
    #[test]
    #[ignore = "a measurement"]
    fn convert_time() {
        for pixels in [Pixels::Yuyv, Pixels::Nv12, Pixels::Rgb, Pixels::Grey] {
            let raw = raw(pixels, 640, 480, 640 * 3, LIMITED);
            let bytes = vec![77; 640 * 3 * 720];
            let best = (0..200)
                .map(|_| {
                    let start = std::time::Instant::now();
                    std::hint::black_box(raw.decode(std::hint::black_box(&bytes)).is_ok());
                    start.elapsed()
                })
                .min();
            println!("{pixels:?} 640x480: {best:?} at best");
        }
    }
}
