//! JPEGs as sloppy as cameras make them. Each kind is made from a generated picture; what libjpeg(-turbo) makes of it was
//! looked at with `djpeg` 2.1.5: it takes all of these but two starts of image and a cut picture before a whole one, and
//! shows half of one whose restart markers do not count.

use super::super::testing::{encode, is_near, jpeg, noise, picture, shade, without_huffman_tables};
use super::{Skipped, decode};

const WIDTH: u32 = 80;
const HEIGHT: u32 = 72;

/// A picture whose every row of blocks is a restart interval, put together from pictures of one row each.
fn with_restarts(mark: impl Fn(usize, Vec<u8>) -> Vec<u8>) -> Vec<u8> {
    let whole = picture(WIDTH, HEIGHT, 40);
    let rows: Vec<Vec<u8>> = (0..HEIGHT / 8)
        .map(|row| encode(&image::imageops::crop_imm(&whole, 0, row * 8, WIDTH, 8).to_image(), 85))
        .collect();
    let first = &rows[0];
    let data = coded_data(first);
    let mut header = first[..data].to_vec();
    let frame = at(&header, 0xc0);
    assert_eq!(header[frame + 11], 0x11, "a unit is one block high");
    header[frame + 5..frame + 7].copy_from_slice(&(HEIGHT as u16).to_be_bytes());
    let interval = (WIDTH as u16 / 8).to_be_bytes();
    header.splice(2..2, [0xff, 0xdd, 0, 4, interval[0], interval[1]]);
    for (number, row) in rows.iter().enumerate() {
        header.extend(mark(number, row[coded_data(row)..row.len() - 2].to_vec()));
    }
    header.extend([0xff, 0xd9]);
    header
}

/// The usual marker before each row but the first.
fn marked(number: usize, row: Vec<u8>) -> Vec<u8> {
    match number {
        0 => row,
        _ => [&[0xff, 0xd0 + (number as u8 - 1) % 8], &row[..]].concat(),
    }
}

/// Where a marker is.
fn at(jpeg: &[u8], marker: u8) -> usize {
    jpeg.windows(2).position(|pair| pair == [0xff, marker]).unwrap()
}

fn coded_data(jpeg: &[u8]) -> usize {
    let scan = at(jpeg, 0xda);
    scan + 2 + usize::from(u16::from_be_bytes([jpeg[scan + 2], jpeg[scan + 3]]))
}

/// With these bytes before each segment after the first.
fn between_segments(jpeg: &[u8], bytes: &[u8]) -> Vec<u8> {
    let (mut out, mut at) = (jpeg[..2].to_vec(), 2);
    let data = coded_data(jpeg);
    while at < data {
        let length = usize::from(u16::from_be_bytes([jpeg[at + 2], jpeg[at + 3]])) + 2;
        if at > 2 {
            out.extend_from_slice(bytes);
        }
        out.extend_from_slice(&jpeg[at..at + length]);
        at += length;
    }
    out.extend_from_slice(&jpeg[data..]);
    out
}

fn after_the_start(jpeg: &[u8], bytes: &[u8]) -> Vec<u8> {
    [&jpeg[..2], bytes, &jpeg[2..]].concat()
}

/// The same with its application segment replaced.
fn with_application(jpeg: &[u8], segment: &[u8]) -> Vec<u8> {
    let length = usize::from(u16::from_be_bytes([jpeg[4], jpeg[5]])) + 2;
    assert_eq!(jpeg[2..4], [0xff, 0xe0]);
    [&jpeg[..2], segment, &jpeg[2 + length..]].concat()
}

/// Holds CAM-02.
#[test]
fn same_picture_when_camera_bends_the_standard() {
    let clean = encode(&picture(WIDTH, HEIGHT, 40), 85);
    let wanted = decode(&clean).unwrap();
    let unended = &clean[..clean.len() - 2];
    let bare = without_huffman_tables(&clean);
    let strays = |length| vec![0; length];
    let avi1 = b"\xff\xe0\x00\x10AVI1\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00".to_vec();
    let kinds: Vec<(&str, Vec<u8>)> = vec![
        ("two starts of image", after_the_start(&clean, &[0xff, 0xd8])),
        (
            "three starts and fill bytes",
            after_the_start(&clean, &[0xff, 0xff, 0xd8, 0xff, 0xd8, 0xff]),
        ),
        ("three zeros between segments", between_segments(&clean, &strays(3))),
        ("608 zeros after the start", after_the_start(&clean, &strays(608))),
        ("text between segments", between_segments(&clean, b"\r\nboundary\r\n")),
        ("fill bytes before each marker", between_segments(&clean, &[0xff; 5])),
        ("stuffed bytes between segments", between_segments(&clean, &[0xff, 0, 0xff, 0])),
        ("restart markers between segments", between_segments(&clean, &[0xff, 0xd0])),
        ("no end of image", unended.to_vec()),
        ("no end, and zeros to a fixed length", [unended, &strays(2048)].concat()),
        ("no end, half a marker", [unended, &[0xff]].concat()),
        ("fill bytes before the end", [unended, &[0xff, 0xff, 0xff, 0xd9]].concat()),
        ("bytes too many before the end", [unended, &[0x12, 0x34, 0xff, 0xd9]].concat()),
        ("garbage after the end", [&clean[..], &noise(9, 3000)].concat()),
        ("another picture after it", [&clean[..], &jpeg(200)].concat()),
        ("another picture after one without end", [unended, &jpeg(200)[..40]].concat()),
        ("a cut picture before it", [&jpeg(200)[..700], &clean].concat()),
        ("an application segment of odd length", with_application(&clean, b"\xff\xe5\x00\x05odd")),
        ("an application segment of no length", with_application(&clean, &[0xff, 0xe3, 0, 0])),
        ("a comment of length one", after_the_start(&clean, &[0xff, 0xfe, 0, 1])),
        ("Adobe's segment cut short", with_application(&clean, b"\xff\xee\x00\x07Adobe")),
        ("AVI1", with_application(&clean, &avi1)),
        ("AVI1 without Huffman tables", with_application(&bare, &avi1)),
        ("no Huffman tables, no end", bare[..bare.len() - 2].to_vec()),
        ("half of its Huffman tables", {
            let (from, to) = (at(&bare, 0xda), at(&clean, 0xc4));
            let length = usize::from(clean[to + 2]) * 256 + usize::from(clean[to + 3]) + 2;
            [&bare[..from], &clean[to..to + length], &bare[from..]].concat()
        }),
    ];
    for (kind, bytes) in kinds {
        match decode(&bytes) {
            Ok(image) => assert_eq!(image, wanted, "{kind}"),
            Err(error) => panic!("{kind}: {error}"),
        }
    }
}

/// Holds CAM-02.
#[test]
fn sloppy_restart_intervals_give_the_same_picture() {
    let clean = with_restarts(marked);
    let wanted = decode(&clean).unwrap();
    let other = decode(&encode(&picture(WIDTH, HEIGHT, 40), 85)).unwrap();
    let apart = wanted.as_raw().iter().zip(other.as_raw()).map(|(a, b)| a.abs_diff(*b)).max();
    assert!(apart <= Some(1), "put together wrongly: {apart:?}");
    let end = clean.len() - 2;
    let kinds: Vec<(&str, Vec<u8>)> = vec![
        // Logitech's: "Corrupt JPEG data: 4 extraneous bytes before marker 0xd4".
        (
            "bytes too many before each marker",
            with_restarts(|number, row| {
                let row = [&row[..], &[0x55, 0, 0x77, 0x01]].concat();
                marked(number, row)
            }),
        ),
        (
            "fill bytes before each marker",
            with_restarts(|number, row| match number {
                0 => row,
                _ => [&[0xff, 0xff], &marked(number, row)[..]].concat(),
            }),
        ),
        (
            "markers that do not count",
            with_restarts(|number, row| match number {
                0 => row,
                _ => [&[0xff, 0xd0], &row[..]].concat(),
            }),
        ),
        ("a marker before the end", [&clean[..end], &[0xff, 0xd0, 0xff, 0xd9]].concat()),
        ("no end of image", clean[..end].to_vec()),
        ("a marker and no end of image", [&clean[..end], &[0xff, 0xd0]].concat()),
    ];
    for (kind, bytes) in kinds {
        match decode(&bytes) {
            Ok(image) => assert_eq!(image, wanted, "{kind}"),
            Err(error) => panic!("{kind}: {error}"),
        }
    }
}

/// Holds CAM-02.
#[test]
fn lost_restart_interval_leaves_the_others_where_they_were() {
    let wanted = decode(&with_restarts(marked)).unwrap();
    let lossy =
        with_restarts(|number, row| if number == 4 { Vec::new() } else { marked(number, row) });
    let image = decode(&lossy).unwrap();
    for y in (0..HEIGHT).filter(|y| y / 8 != 4) {
        for x in 0..WIDTH {
            assert_eq!(image.get_pixel(x, y), wanted.get_pixel(x, y), "{x} {y}");
        }
    }
    assert_eq!(image.get_pixel(5, 33), wanted.get_pixel(5, 25), "the one before it again");
}

/// Holds CAM-03.
#[test]
fn picture_taken_when_only_last_row_is_short() {
    let clean = encode(&picture(WIDTH, HEIGHT, 40), 85);
    let wanted = decode(&clean).unwrap();
    let whole = clean.len() - 2;
    let (mut taken, mut refused) = (0, 0);
    for length in coded_data(&clean)..whole {
        for end in [&[][..], &[0xff, 0xd9]] {
            match decode(&[&clean[..length], end].concat()) {
                Ok(image) => {
                    taken += 1;
                    assert_eq!(image.dimensions(), (WIDTH, HEIGHT));
                    // A cut in the last bits of a row may cost its last block.
                    let kept = (WIDTH * (HEIGHT - 16) * 3) as usize;
                    let same = image.as_raw()[..kept] == wanted.as_raw()[..kept];
                    assert!(same, "cut at {length} of {whole}");
                }
                Err(Skipped::Broken(_)) => refused += 1,
                Err(other) => panic!("{other}"),
            }
        }
    }
    // Nine rows, and all are about as long.
    let share = f64::from(taken) / f64::from(taken + refused);
    assert!((0.05..0.2).contains(&share), "{taken} taken, {refused} refused");
}

/// Holds CAM-03.
#[test]
fn what_no_decoder_can_know_is_refused() {
    let clean = encode(&picture(WIDTH, HEIGHT, 40), 85);
    let far = after_the_start(&clean, &[0; 5000]);
    assert!(decode(&far).is_err(), "more strays than any camera sends");
    assert!(decode(&after_the_start(&clean, &[0xff, 0xd8].repeat(20))).is_ok(), "the last counts");
    let tables = at(&clean, 0xdb);
    assert!(decode(&[&clean[..tables + 2], &[0, 1], &clean[tables + 4..]].concat()).is_err());
}

/// Starts of image within each other, each with a long way to go: see `SEGMENTS`.
/// Holds CAM-04.
#[test]
fn nested_starts_of_image_are_refused_one_by_one() {
    let comment = [0xff, 0xfe, 0, 5, 0xff, 0xd8, 0xff];
    let nested = [&[0xff, 0xd8], &comment.repeat(2000)[..]].concat();
    let mut splitter = super::super::mjpeg::Splitter::new(&nested[..]);
    let mut pieces = 0;
    while splitter.next_piece().unwrap().is_some() {
        pieces += 1;
    }
    assert!(pieces <= 2 * 2000, "{pieces}");
    assert!(decode(&nested).is_err());
}

/// Holds CAM-02.
#[test]
fn shade_survives_a_camera_that_does_all_of_it_at_once() {
    let bare = without_huffman_tables(&jpeg(120));
    let strayed = between_segments(&bare, &[0xff, 0xff, 0, 0]);
    let twice = after_the_start(&strayed, &[0xff, 0xd8]);
    let cut = &jpeg(10)[..400];
    let stream = [cut, &twice[..twice.len() - 2], &[0; 100]].concat();
    assert!(is_near(shade(&decode(&stream).unwrap()), 120));
}

/// Writes two for another decoder: `FAMILIAR_SLOPPY=FOLDER cargo test restart_pictures_are_written -- --ignored`
#[test]
#[ignore = "writes files for djpeg"]
fn restart_pictures_are_written() {
    let folder = std::path::PathBuf::from(std::env::var_os("FAMILIAR_SLOPPY").unwrap());
    let clean = with_restarts(marked);
    let wrong =
        with_restarts(|number, row| marked(number, [&row[..], &[0x55, 0, 0x77, 1]].concat()));
    for (name, bytes) in [("restarts", clean), ("extraneous", wrong)] {
        std::fs::write(folder.join(format!("{name}.jpg")), &bytes).unwrap();
        decode(&bytes).unwrap().save(folder.join(format!("{name}.png"))).unwrap();
    }
}
