//! Pictures as people give them: large ones with a small face, and files of other kinds, by any name.

use std::path::Path;

use image::imageops::{FilterType, replace, resize};
use image::{Rgb, RgbImage};
use serde_json::Value;

use super::verbs::{Home, text};

/// 12 megapixels with a face of about 70 pixels in a place that is no middle of anything.
fn far_away(portrait: &Path) -> RgbImage {
    let portrait = image::open(portrait).unwrap().into_rgb8();
    // The face takes about 0.4 of a portrait's width.
    let width = 160;
    let height = portrait.height() * width / portrait.width();
    let person = resize(&portrait, width, height, FilterType::Triangle);
    let mut still = RgbImage::from_fn(4000, 3000, |x, y| {
        Rgb([(90 + x / 100) as u8, (110 + y / 100) as u8, (100 + (x + y) / 200) as u8])
    });
    replace(&mut still, &person, 2710, 840);
    still
}

/// Holds CAM-21.
#[test]
fn small_face_in_a_large_still_is_identified() {
    let Some((home, people)) = Home::with_default_models() else { return };
    let asset = |name: &str| people.join("P001").join("assets").join(name);
    let portrait = asset("studio_portrait.jpg");
    assert_eq!(home.run(&["enroll", "Ada", text(&portrait)]).0, 0);
    let far = home.path("far.jpg");
    far_away(&portrait).save(&far).unwrap();
    let (code, photos) = home.json(&["identify", text(&far)]);
    let faces = photos[0]["faces"].as_array().unwrap();
    assert_eq!((code, faces.len()), (0, 1), "{photos}");
    assert_eq!(faces[0]["person"]["id"], "ada", "{photos}");
    let at = |part: usize| faces[0]["box"][part].as_f64().unwrap();
    assert!((2710.0..2870.0).contains(&at(0)) && (40.0..100.0).contains(&at(2)), "{photos}");
    // To enrol from, it is too small: that is said, not that there is none.
    let (code, report) = home.json(&["enroll", "Bea", text(&far)]);
    assert_eq!(
        (code, report["pictures"][0]["reason"].as_str()),
        (6, Some("poor-face")),
        "{report}"
    );
    assert!(report["pictures"][0]["detail"].as_str().unwrap().contains("too small"), "{report}");
}

/// Holds CAM-20.
#[test]
fn heic_is_named_with_the_way_to_a_jpeg() {
    let Some((home, _)) = Home::with_default_models() else { return };
    let heic = home.path("IMG_0001.HEIC");
    std::fs::write(&heic, b"\0\0\0\x18ftypheic\0\0\0\0mif1heic\0\0\0\x08mdat").unwrap();
    let (code, report) = home.json(&["enroll", "Ada", text(&heic)]);
    let picture = &report["pictures"][0];
    assert_eq!((code, picture["reason"].as_str()), (6, Some("unreadable")), "{report}");
    let detail = picture["detail"].as_str().unwrap();
    assert!(detail.contains("a HEIC picture") && detail.contains("Most Compatible"), "{detail}");
    let (code, _, stderr) = home.run(&["identify", text(&heic)]);
    assert!(code == 1 && stderr.contains("heif-convert"), "{stderr}");
}

/// A name may hold what steers a terminal, and a line break that would forge a line of the output.
/// Holds CLI-04.
#[test]
fn names_with_control_characters_are_printed_escaped() {
    let Some((home, people)) = Home::with_default_models() else { return };
    let name = "a\u{1b}[31m\u{9b}2J\nfamiliar: all is well.jpg";
    let (broken, whole) = (home.path(name), home.path(&format!("{name}.jpg")));
    std::fs::write(&broken, b"no picture").unwrap();
    std::fs::copy(people.join("P001/assets/studio_portrait.jpg"), &whole).unwrap();
    let (broken, whole) = (text(&broken), text(&whole));
    for arguments in [
        &["enroll", "Ada", broken, whole][..],
        &["enroll", name, broken],
        &["enroll", "Ada", broken, "--id", name],
        &["enroll", "Ada", broken, "--similar-to", name],
        &["enroll", "--negative", broken, whole],
        &["identify", broken, whole],
        &["bench", "--rounds", "1", "--photo", broken],
        &["evaluate", "--images", broken, "--pairs", broken],
        &["evaluate", "--people", broken, "--strangers", whole],
        &["people", "restore", broken, "--passphrase-file", broken],
        &["people", "backup", broken, "--passphrase-file", broken],
        &["people", "show", name],
        &["forget", name],
        &["verify", broken],
        &["verify", "--jwks", broken, whole],
        &["model", "verify", broken],
        &["model", "verify", broken, "--anchor", broken],
        &["model", "install", broken],
        &["operator", "show", broken],
        &["command", "pause", "--key", broken],
        &["command", name, "--key", broken],
        &["check", "--config", broken],
        &["run", "--config", broken],
        &["listen", "--for", name],
        &["completions", name],
        &["man", "--directory", broken],
        &[name],
        &["enroll", name],
        &["--json", "-v", &format!("--{name}")],
        &["enroll", "Ada", whole, &format!("--{name}")],
    ] {
        let (code, stdout, stderr) = home.run(arguments);
        for said in [&stdout, &stderr] {
            let steering = |c: char| c.is_control() && c != '\n' && c != '\t';
            assert!(!said.contains(steering), "{arguments:?} ({code}): {said:?}");
            let forged = said.lines().any(|line| line.starts_with("familiar: all is well"));
            assert!(!forged, "{arguments:?} ({code}): {said:?}");
        }
    }
    // In JSON the name is what it was.
    let (_, photos) = home.json(&["identify", whole]);
    assert_eq!(photos[0]["photo"], Value::from(whole));
}
