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
    /// Looks at a frame's bytes, without decoding them.
    pub fn read<'a>(&self, bytes: &'a [u8]) -> Result<Picture<'a>, Skipped> {
        match *self {
            Self::Jpeg => jpeg::Whole::read(bytes).map(Picture::Jpeg),
            Self::Raw(raw) => Ok(Picture::Raw(raw, bytes)),
        }
    }
}

/// A frame that may be decoded.
pub enum Picture<'a> {
    Jpeg(jpeg::Whole<'a>),
    Raw(Raw, &'a [u8]),
}

impl Picture<'_> {
    /// Pixels that decoding has to make, at most [`jpeg::FRAME_PIXELS`].
    pub fn pixels(&self) -> usize {
        let pixels = match self {
            Self::Jpeg(jpeg) => jpeg.pixels(),
            Self::Raw(raw, _) => (raw.width as usize).saturating_mul(raw.height as usize),
        };
        pixels.min(jpeg::FRAME_PIXELS)
    }

    pub fn decode(self) -> Result<RgbImage, Skipped> {
        match self {
            Self::Jpeg(jpeg) => jpeg.decode(),
            Self::Raw(raw, bytes) => raw.decode(bytes),
        }
    }
}

/// Layout of uncompressed pixels, all in one plane of memory (V4L2's single-planar formats).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raw {
    pub pixels: Pixels,
    pub width: u32,
    pub height: u32,
    /// Bytes from one row to the next: of Y where colour lies apart, of all where it does not. Rows of Cb Cr pairs have
    /// the same, rows of Cb or Cr alone half of it.
    pub stride: u32,
    pub colors: Colors,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pixels {
    /// Y₀ Cb Y₁ Cr: two pixels in four bytes.
    Yuyv,
    /// Cb Y₀ Cr Y₁: as capture cards give.
    Uyvy,
    /// All Y, then rows of Cb Cr, each for two by two pixels.
    Nv12,
    /// The same with Cr before Cb.
    Nv21,
    /// All Y, then all Cb, then all Cr (I420): what ffmpeg writes to a loopback device.
    Yu12,
    /// The same with Cr before Cb.
    Yv12,
    /// R G B.
    Rgb,
    /// B G R.
    Bgr,
    /// Y alone.
    Grey,
}

impl Pixels {
    /// All of them, with the four characters that V4L2 names them by.
    pub const ALL: [(Self, [u8; 4]); 9] = [
        (Self::Yuyv, *b"YUYV"),
        (Self::Nv12, *b"NV12"),
        (Self::Rgb, *b"RGB3"),
        (Self::Grey, *b"GREY"),
        (Self::Uyvy, *b"UYVY"),
        (Self::Nv21, *b"NV21"),
        (Self::Yu12, *b"YU12"),
        (Self::Yv12, *b"YV12"),
        (Self::Bgr, *b"BGR3"),
    ];

    /// Bytes of a row that holds nothing else, as [`Raw::stride`] counts them.
    pub fn row(self, width: u32) -> u32 {
        match self {
            Self::Yuyv | Self::Uyvy => width.div_ceil(2).saturating_mul(4),
            Self::Rgb | Self::Bgr => width.saturating_mul(3),
            Self::Grey | Self::Nv12 | Self::Nv21 | Self::Yu12 | Self::Yv12 => width,
        }
    }
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
        let row = self.pixels.row(self.width) as usize;
        let colors = self.colors_of(stride, width, height);
        // The last row of all need not reach to the end of its stride.
        let needed = match colors {
            Some(Planes { end, .. }) => end,
            None => stride * (height - 1) + row,
        };
        let overlap = stride < row || colors.is_some_and(|planes| planes.stride < planes.row);
        if overlap || bytes.len() < needed {
            let length = bytes.len();
            return Err(Skipped::Broken(format!("{length} bytes where {needed} should be")));
        }
        let mut image = RgbImage::new(self.width, self.height);
        let converter = Converter::new(self.colors);
        for (y, out) in image.chunks_exact_mut(width * 3).enumerate() {
            let line = &bytes[stride * y..stride * y + row];
            let colors = colors.map(|planes| planes.at(bytes, y / 2));
            match (self.pixels, colors) {
                (Pixels::Yuyv, _) => {
                    packed_row(&converter, line, out, |[y0, cb, y1, cr]| [y0, y1, cb, cr]);
                }
                (Pixels::Uyvy, _) => {
                    packed_row(&converter, line, out, |[cb, y0, cr, y1]| [y0, y1, cb, cr]);
                }
                (Pixels::Rgb, _) => out.copy_from_slice(line),
                (Pixels::Bgr, _) => bgr_row(line, out),
                (Pixels::Nv12, Some((pairs, _))) => {
                    shared_row(&converter, line, pairs.as_chunks().0.iter().copied(), out);
                }
                (Pixels::Nv21, Some((pairs, _))) => {
                    let colors = pairs.as_chunks().0.iter().map(|&[cr, cb]| [cb, cr]);
                    shared_row(&converter, line, colors, out);
                }
                (Pixels::Yu12, Some((cb, cr))) | (Pixels::Yv12, Some((cr, cb))) => {
                    let colors = cb.iter().zip(cr).map(|(&cb, &cr)| [cb, cr]);
                    shared_row(&converter, line, colors, out);
                }
                (Pixels::Grey, _) | (_, None) => grey_row(&converter, line, out),
            }
        }
        Ok(image)
    }

    /// Where colour lies apart from Y.
    fn colors_of(&self, stride: usize, width: usize, height: usize) -> Option<Planes> {
        let first = stride * height;
        let (columns, rows) = (width.div_ceil(2), height.div_ceil(2));
        match self.pixels {
            Pixels::Nv12 | Pixels::Nv21 => {
                let row = columns * 2;
                // Of an odd width without padding, rows of pairs are a byte longer.
                let stride = if stride == width { stride.max(row) } else { stride };
                let end = first + stride * (rows - 1) + row;
                Some(Planes { first, second: first, stride, row, end })
            }
            Pixels::Yu12 | Pixels::Yv12 => {
                let half = stride.div_ceil(2);
                let second = first + half * rows;
                let end = second + half * (rows - 1) + columns;
                Some(Planes { first, second, stride: half, row: columns, end })
            }
            _ => None,
        }
    }
}

/// Where in a frame its colour lies, for each two by two pixels.
#[derive(Clone, Copy)]
struct Planes {
    first: usize,
    /// The same as the first where Cb and Cr come in pairs.
    second: usize,
    stride: usize,
    row: usize,
    end: usize,
}

impl Planes {
    fn at(self, bytes: &[u8], row: usize) -> (&[u8], &[u8]) {
        let line = |plane: usize| {
            let start = plane + self.stride * row;
            &bytes[start..start + self.row]
        };
        (line(self.first), line(self.second))
    }
}

/// Two pixels in four bytes; `order` brings them into Y₀ Y₁ Cb Cr.
#[inline]
fn packed_row(
    converter: &Converter,
    line: &[u8],
    out: &mut [u8],
    order: impl Fn([u8; 4]) -> [u8; 4],
) {
    let (pairs, _) = line.as_chunks::<4>();
    let (twos, odd) = out.as_chunks_mut::<6>();
    for (&pair, two) in pairs.iter().zip(&mut *twos) {
        let [y0, y1, cb, cr] = order(pair);
        *two = converter.pair([y0, y1], converter.chroma(cb, cr));
    }
    if let (Some(&pair), [_, ..]) = (pairs.get(twos.len()), &odd) {
        let [y, _, cb, cr] = order(pair);
        odd.copy_from_slice(&converter.pixel(y, converter.chroma(cb, cr)));
    }
}

/// Each two pixels of a row share a Cb and a Cr.
#[inline]
fn shared_row(
    converter: &Converter,
    luma: &[u8],
    mut colors: impl Iterator<Item = [u8; 2]>,
    out: &mut [u8],
) {
    let (pairs, last) = luma.as_chunks::<2>();
    let (twos, odd) = out.as_chunks_mut::<6>();
    for ((&ys, two), [cb, cr]) in pairs.iter().zip(twos).zip(&mut colors) {
        *two = converter.pair(ys, converter.chroma(cb, cr));
    }
    if let ([y], Some([cb, cr])) = (last, colors.next()) {
        odd.copy_from_slice(&converter.pixel(*y, converter.chroma(cb, cr)));
    }
}

fn bgr_row(line: &[u8], out: &mut [u8]) {
    for (pixel, &[b, g, r]) in out.as_chunks_mut::<3>().0.iter_mut().zip(line.as_chunks::<3>().0) {
        *pixel = [r, g, b];
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

    /// Holds CAM-05.
    #[test]
    fn colour_bars_in_yuyv() {
        for ([y, cb, cr], rgb) in BARS {
            let image = raw(Pixels::Yuyv, 2, 1, 4, LIMITED).decode(&[y, cb, y, cr]).unwrap();
            assert!(pixels(&image).iter().all(|&pixel| near(pixel, rgb)), "{rgb:?}: {image:?}");
        }
    }

    /// Holds CAM-05.
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

    /// Holds CAM-05.
    #[test]
    fn two_pixels_share_their_colour() {
        let image = raw(Pixels::Yuyv, 2, 1, 4, FULL).decode(&[50, 128, 200, 128]).unwrap();
        assert_eq!(pixels(&image), [[50; 3], [200; 3]]);
    }

    /// Holds CAM-05.
    #[test]
    fn yuyv_of_odd_width() {
        let bytes = [50, 128, 200, 128, 70, 128, 9, 128];
        let image = raw(Pixels::Yuyv, 3, 1, 8, FULL).decode(&bytes).unwrap();
        assert_eq!(pixels(&image), [[50; 3], [200; 3], [70; 3]]);
    }

    /// Holds CAM-05.
    #[test]
    fn nv12_places_its_colour() {
        // 4 × 2: the left half red, the right half blue (full range).
        let bytes = [76, 76, 29, 29, 76, 76, 29, 29, 85, 255, 255, 107];
        let image = raw(Pixels::Nv12, 4, 2, 4, FULL).decode(&bytes).unwrap();
        for (x, _, pixel) in image.enumerate_pixels() {
            assert!(near(pixel.0, if x < 2 { [254, 0, 0] } else { [0, 0, 254] }), "{pixel:?}");
        }
    }

    /// Holds CAM-05.
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

    /// Holds CAM-05.
    #[test]
    fn nv21_has_its_colours_the_other_way_round() {
        let bytes = [76, 76, 29, 29, 76, 76, 29, 29, 255, 85, 107, 255];
        let image = raw(Pixels::Nv21, 4, 2, 4, FULL).decode(&bytes).unwrap();
        let twin = [76, 76, 29, 29, 76, 76, 29, 29, 85, 255, 255, 107];
        assert_eq!(image, raw(Pixels::Nv12, 4, 2, 4, FULL).decode(&twin).unwrap());
        assert!(near(image.get_pixel(0, 0).0, [254, 0, 0]), "{image:?}");
    }

    /// Holds CAM-05.
    #[test]
    fn uyvy_is_yuyv_with_its_bytes_swapped() {
        for ([y, cb, cr], rgb) in BARS {
            let image = raw(Pixels::Uyvy, 2, 1, 4, LIMITED).decode(&[cb, y, cr, y]).unwrap();
            assert!(pixels(&image).iter().all(|&pixel| near(pixel, rgb)), "{rgb:?}: {image:?}");
        }
        // An odd width, and bytes after each row.
        let bytes = [108, 100, 158, 50, 128, 70, 128, 9, 1, 1, 1, 1].repeat(2);
        let image = raw(Pixels::Uyvy, 3, 2, 12, FULL).decode(&bytes).unwrap();
        let row = [[142, 85, 65], [92, 35, 15], [70; 3]];
        assert_eq!(pixels(&image), [row, row].concat());
    }

    /// 4 × 2 pixels in full range, Cb 108 and Cr 158 at the left, 128 both at the right.
    /// Holds CAM-05.
    #[test]
    fn yu12_and_yv12_have_a_plane_for_each_colour() {
        let luma = [100, 50, 70, 9, 100, 50, 70, 9];
        let row = [[142, 85, 65], [92, 35, 15], [70; 3], [9; 3]];
        let wanted = [row, row].concat();
        let yu12 = [&luma[..], &[108, 128], &[158, 128]].concat();
        assert_eq!(pixels(&raw(Pixels::Yu12, 4, 2, 4, FULL).decode(&yu12).unwrap()), wanted);
        let yv12 = [&luma[..], &[158, 128], &[108, 128]].concat();
        assert_eq!(pixels(&raw(Pixels::Yv12, 4, 2, 4, FULL).decode(&yv12).unwrap()), wanted);
        // Limited range, as ffmpeg writes it: 255/219 · (126 − 16) = 128.08
        let grey = [[126; 8].as_slice(), &[128; 4]].concat();
        let image = raw(Pixels::Yu12, 4, 2, 4, LIMITED).decode(&grey).unwrap();
        assert_eq!(pixels(&image), [[128; 3]; 8]);
    }

    /// Holds CAM-05.
    #[test]
    fn yu12_of_odd_size_and_wide_stride() {
        // Y in rows of 8, three used; Cb and Cr in rows of 4, two used; of the very last nothing is padded.
        let mut bytes = Vec::new();
        for y in [100, 50, 70] {
            bytes.extend([y, y, y, 0xee, 0xee, 0xee, 0xee, 0xee]);
        }
        bytes.extend([108, 128, 0xee, 0xee, 128, 128, 0xee, 0xee]);
        bytes.extend([158, 128, 0xee, 0xee, 128, 128]);
        let layout = raw(Pixels::Yu12, 3, 3, 8, FULL);
        let image = layout.decode(&bytes).unwrap();
        let wanted = [
            [[142, 85, 65], [142, 85, 65], [100; 3]],
            [[92, 35, 15], [92, 35, 15], [50; 3]],
            [[70; 3]; 3],
        ];
        assert_eq!(pixels(&image), wanted.concat());
        assert!(layout.decode(&bytes[..bytes.len() - 1]).is_err());
        // Without padding, as ffmpeg writes an odd width.
        let tight = [[100; 3], [50; 3], [70; 3]].concat();
        let tight = [&tight[..], &[108, 128, 128, 128], &[158, 128, 128, 128]].concat();
        assert_eq!(raw(Pixels::Yu12, 3, 3, 3, FULL).decode(&tight).unwrap(), image);
    }

    /// Holds CAM-05.
    #[test]
    fn bgr3_is_turned_round() {
        let bytes = [1, 2, 3, 4, 5, 6, 0xee, 7, 8, 9, 10, 11, 12];
        let image = raw(Pixels::Bgr, 2, 2, 7, FULL).decode(&bytes).unwrap();
        assert_eq!(pixels(&image), [[3, 2, 1], [6, 5, 4], [9, 8, 7], [12, 11, 10]]);
    }

    /// Holds CAM-05.
    #[test]
    fn stride_is_stepped_over() {
        let line = |a: u8, b: u8| [a, a, a, b, b, b, 0xee, 0xee];
        let bytes = [line(1, 2), line(3, 4)].concat();
        let image = raw(Pixels::Rgb, 2, 2, 8, FULL).decode(&bytes).unwrap();
        assert_eq!(pixels(&image), [[1; 3], [2; 3], [3; 3], [4; 3]]);
        let grey = raw(Pixels::Grey, 2, 2, 3, FULL).decode(&[5, 6, 0xee, 7, 8]).unwrap();
        assert_eq!(pixels(&grey), [[5; 3], [6; 3], [7; 3], [8; 3]]);
    }

    /// Holds CAM-05.
    #[test]
    fn short_buffer_or_impossible_layout_is_refused() {
        for (pixels, _) in Pixels::ALL {
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
        for (pixels, _) in Pixels::ALL {
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
