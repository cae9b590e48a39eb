use std::time::Instant;

use super::super::testing::{
    claiming, encode, is_near, jpeg, noise, picture, shade, without_huffman_tables,
};
use super::{FRAME_PIXELS, JPEG_BYTES, SCANS, Skipped, Step, Walker, Whole, decode};

fn is_broken(bytes: &[u8]) -> bool {
    matches!(decode(bytes), Err(Skipped::Broken(_)))
}

#[test]
fn whole_jpeg_is_decoded() {
    let image = decode(&jpeg(120)).unwrap();
    assert_eq!(image.dimensions(), (64, 48));
    assert!(is_near(shade(&image), 120), "{}", shade(&image));
    // A judge of its own: the same pixels through the `image` crate.
    let other = image::load_from_memory(&jpeg(120)).unwrap().to_rgb8();
    let apart = image.as_raw().iter().zip(other.as_raw()).map(|(a, b)| a.abs_diff(*b)).max();
    assert!(apart <= Some(1), "{apart:?}");
}

#[test]
fn grey_jpeg_becomes_rgb() {
    let grey = image::GrayImage::from_pixel(32, 32, image::Luma([77]));
    let mut bytes = Vec::new();
    image::codecs::jpeg::JpegEncoder::new(&mut bytes).encode_image(&grey).unwrap();
    let image = decode(&bytes).unwrap();
    assert!(image.pixels().all(|p| p.0.iter().all(|&value| value.abs_diff(77) <= 1)));
}

/// But in its last row of blocks: `sloppy::picture_without_all_of_its_last_row…`.
/// Holds CAM-01.
#[test]
fn truncated_jpeg_is_refused_wherever_it_is_cut() {
    let whole = encode(&picture(80, 72, 40), 85);
    for length in 0..whole.len() * 4 / 5 {
        assert!(is_broken(&whole[..length]), "cut at {length} of {}", whole.len());
        let ended = [&whole[..length], &[0xff, 0xd9]].concat();
        assert!(is_broken(&ended), "cut at {length} of {}, and ended", whole.len());
    }
    let waves = progressive(64, 48, 3);
    for length in 0..waves.len() - 1 {
        assert!(is_broken(&waves[..length]), "progressive, cut at {length}");
    }
    assert!(decode(&whole).is_ok());
}

#[test]
fn bytes_after_the_end_of_image_do_not_matter() {
    let mut padded = jpeg(90);
    padded.extend_from_slice(&[0; 4096]); // as cameras with a fixed transfer size send
    assert!(is_near(shade(&decode(&padded).unwrap()), 90));
    padded.extend_from_slice(&noise(5, 4096));
    assert!(is_near(shade(&decode(&padded).unwrap()), 90));
}

/// Holds CAM-01.
#[test]
fn huffman_less_mjpeg() {
    let whole = jpeg(60);
    let bare = without_huffman_tables(&whole);
    assert!(bare.len() + 400 < whole.len(), "the tables were there before");
    assert_eq!(decode(&bare).unwrap(), decode(&whole).unwrap());
}

/// Holds CAM-01.
#[test]
fn enormous_jpeg_is_refused_before_it_takes_memory() {
    let bomb = claiming(&jpeg(1), 65535, 65535);
    assert!(matches!(decode(&bomb), Err(Skipped::TooLarge(_))));
    let side = 4000;
    assert_eq!(usize::from(side) * usize::from(side), FRAME_PIXELS);
    assert!(matches!(decode(&claiming(&jpeg(1), side, side + 1)), Err(Skipped::TooLarge(_))));
    // Within the limit, but the data are of a smaller picture.
    assert!(decode(&claiming(&jpeg(1), 0, 48)).is_err());
    let mut long = jpeg(1);
    long.resize(JPEG_BYTES + 1, 0);
    assert!(matches!(decode(&long), Err(Skipped::TooLarge(_))));
}

#[test]
fn second_frame_header_cannot_smuggle_in_another_size() {
    let small = jpeg(1);
    let large = claiming(&small, 65535, 65535);
    let scan = small.windows(2).position(|w| w == [0xff, 0xda]).unwrap();
    let both = [&large[..scan], &small[2..]].concat();
    assert!(decode(&both).is_err());
    let both = [&small[..scan], &large[2..]].concat();
    assert!(decode(&both).is_err());
}

#[test]
fn not_a_jpeg_is_broken() {
    assert!(is_broken(b""));
    assert!(is_broken(b"\xff"));
    assert!(is_broken(b"\xff\xd8"));
    assert!(is_broken(b"\xff\xd8\xff\xd9"));
    assert!(is_broken(b"\x89PNG\r\n\x1a\n"));
    for seed in 0..200 {
        let mut bytes = noise(seed, 500);
        assert!(decode(&bytes).is_err());
        bytes.splice(0..3, [0xff, 0xd8, 0xff]);
        assert!(decode(&bytes).is_err());
    }
}

/// Thousands of damaged JPEGs: each decodes or is refused; no panic escapes, nothing aborts, and what
/// decodes has the size of its own header.
/// Holds CAM-01.
#[test]
fn mutated_jpegs_never_panic() {
    let seeds = [
        encode(&picture(48, 40, 200), 80),
        without_huffman_tables(&encode(&picture(48, 40, 200), 80)),
        progressive(48, 40, 3),
    ];
    let mut random = fastrand::Rng::with_seed(2);
    let (mut decoded, mut refused) = (0, 0);
    for round in 0..6000 {
        let mut bytes = seeds[round % seeds.len()].clone();
        for _ in 0..random.usize(1..6) {
            let at = random.usize(..bytes.len());
            match random.u8(..4) {
                0 => bytes[at] ^= 1 << random.u8(..8),
                1 => bytes[at] = random.u8(..),
                2 => bytes[at] = 0xff,
                _ => {
                    bytes.remove(at);
                }
            }
        }
        match decode(&bytes) {
            Ok(image) => {
                let whole = Whole::find(&bytes).unwrap();
                assert_eq!(image.dimensions(), (whole.width as u32, whole.height as u32));
                decoded += 1;
            }
            Err(_) => refused += 1,
        }
    }
    assert!(decoded > 100 && refused > 100, "{decoded} decoded, {refused} refused");
}

#[test]
fn progressive_jpeg_with_too_many_scans_is_refused() {
    assert!(decode(&progressive(64, 48, 3)).is_ok());
    assert!(decode(&progressive(64, 48, SCANS)).is_ok());
    assert!(is_broken(&progressive(64, 48, SCANS + 1)));
}

#[test]
fn walker_says_the_same_however_the_bytes_come() {
    let whole = jpeg(33);
    let mut walker = Walker::default();
    for length in 0..whole.len() {
        assert_eq!(walker.advance(&whole[..length]), Step::More, "at {length}");
    }
    assert_eq!(walker.advance(&whole), Step::Whole(whole.len()));
    assert_eq!(walker.layout().size, Some((64, 48)));
    assert!(walker.layout().huffman);
}

/// A grey progressive JPEG: one scan of DC, then scans of AC coefficients that all say "nothing more" in
/// runs of 32767 blocks, the cheapest bytes for the dearest work.
fn progressive(width: u16, height: u16, scans: usize) -> Vec<u8> {
    let segment = |marker: u8, body: &[u8]| {
        let length = (body.len() as u16 + 2).to_be_bytes();
        [&[0xff, marker], &length[..], body].concat()
    };
    let [h1, h0] = height.to_be_bytes();
    let [w1, w0] = width.to_be_bytes();
    let mut bytes = vec![0xff, 0xd8];
    bytes.extend(segment(0xdb, &[&[0][..], &[1; 64]].concat()));
    bytes.extend(segment(0xc2, &[8, h1, h0, w1, w0, 1, 1, 0x11, 0]));
    // DC: one code of one bit, for "no difference". AC: one of one bit, for a run of 2^14 blocks and
    // 14 bits more.
    let one_code = |place: u8, value: u8| [&[place, 1][..], &[0; 15], &[value]].concat();
    bytes.extend(segment(0xc4, &one_code(0x00, 0)));
    bytes.extend(segment(0xc4, &one_code(0x10, 0xe0)));
    let blocks = usize::from(width).div_ceil(8) * usize::from(height).div_ceil(8);
    bytes.extend(segment(0xda, &[1, 1, 0x00, 0, 0, 0x00]));
    bytes.extend(std::iter::repeat_n(0x00, blocks.div_ceil(8)));
    for _ in 1..scans {
        bytes.extend(segment(0xda, &[1, 1, 0x00, 1, 63, 0x00]));
        let runs = blocks.div_ceil(32767);
        // Code 0, then 14 ones, stuffed where a byte becomes 0xff.
        let bits: Vec<bool> =
            (0..runs).flat_map(|_| std::iter::once(false).chain([true; 14])).collect();
        for byte in bits.chunks(8) {
            let mut value = 0xff_u8;
            for (place, bit) in byte.iter().enumerate() {
                if !bit {
                    value &= !(0x80 >> place);
                }
            }
            bytes.push(value);
            if value == 0xff {
                bytes.push(0);
            }
        }
    }
    bytes.extend([0xff, 0xd9]);
    bytes
}

/// Prints what docs/camera.md states: `cargo test --release decode_time -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn decode_time() {
    let time = |name: &str, bytes: &[u8], rounds: u32| {
        let run = |_| {
            let start = Instant::now();
            let ok = std::hint::black_box(decode(std::hint::black_box(bytes)).is_ok());
            (start.elapsed(), ok)
        };
        let mut runs: Vec<_> = (0..rounds).map(run).collect();
        runs.sort_unstable();
        let (best, ok) = runs[0];
        let (median, _) = runs[runs.len() / 2];
        println!(
            "{name}, {} bytes: {best:?} at best, median {median:?}, decoded: {ok}",
            bytes.len()
        );
    };
    for (width, height) in [(640, 480), (1280, 720), (1920, 1080), (4000, 4000)] {
        let rounds = if width < 2000 { 100 } else { 3 };
        for quality in [75, 95] {
            let bytes = encode(&picture(width, height, 9), quality);
            time(&format!("baseline {width}x{height} quality {quality}"), &bytes, rounds);
        }
    }
    let noisy = image::RgbImage::from_raw(1600, 1600, noise(1, 1600 * 1600 * 3)).unwrap();
    time("baseline noise 1600x1600", &encode(&noisy, 95), 3);
    time("progressive 4000x4000, most scans", &progressive(4000, 4000, SCANS), 3);
    time("too many scans", &progressive(4000, 4000, 100), 3);
}
