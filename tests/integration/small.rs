//! The tests' own bundle (`support/small.rs`): that it does what other tests take it to do.

use image::RgbImage;
use serde_json::Value;

use familiar::model::{Engine, VerifiedBundle};

use crate::support::home::Home;
use crate::support::painted::{self, Face, wall};
use crate::support::small;

fn engine() -> Engine {
    let bundle = small::bundle();
    Engine::start_with_liveness(VerifiedBundle::open(&bundle.path(), &bundle.anchors()).unwrap())
        .unwrap()
}

/// As a camera gives it.
fn through_jpeg(picture: &RgbImage) -> RgbImage {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("frame.jpg");
    picture.save(&path).unwrap();
    image::open(path).unwrap().into_rgb8()
}

#[test]
fn painted_face_of_any_size_is_found_where_it_is() {
    let engine = engine();
    assert!(engine.detect(&wall(640, 480)).unwrap().is_empty());
    for side in [64, 100, 161, 200, 320, 370] {
        let mut frame = wall(640, 480);
        Face::of(3).paint(&mut frame, 103, 51, side);
        let faces = engine.detect(&through_jpeg(&frame)).unwrap();
        assert_eq!(faces.len(), 1, "{side}: {faces:?}");
        let off = |found: f32, painted: u32| (found - painted as f32).abs();
        let bounds = faces[0].bounds;
        let worst = off(bounds.x, 103).max(off(bounds.y, 51)).max(off(bounds.width, side));
        assert!(worst < 4.0 && faces[0].score > 0.85, "{side}: {faces:?}");
    }
    // Too far away for this frame, but found in a part of it.
    let mut frame = wall(640, 480);
    Face::of(3).paint(&mut frame, 100, 100, 40);
    assert!(engine.detect(&frame).unwrap().is_empty());
    let part = image::imageops::crop_imm(&frame, 60, 60, 160, 120).to_image();
    assert_eq!(engine.detect(&part).unwrap().len(), 1);
}

#[test]
fn two_painted_faces_are_two() {
    let mut frame = wall(640, 480);
    Face::of(3).paint(&mut frame, 40, 120, 160);
    Face::of(4).paint(&mut frame, 420, 120, 160);
    let engine = engine();
    let frame = through_jpeg(&frame);
    let faces = engine.detect(&frame).unwrap();
    assert_eq!(faces.len(), 2, "{faces:?}");
    let looks = faces.iter().map(|face| engine.embed(&frame, face).unwrap());
    let looks: Vec<_> = looks.collect();
    assert!(looks[0].similarity(&looks[1]).abs() < 0.1);
}

#[test]
fn painted_people_are_far_apart_and_two_pictures_of_one_are_not() {
    let engine = engine();
    let look = |picture: RgbImage| {
        let picture = through_jpeg(&picture);
        let faces = engine.detect(&picture).unwrap();
        assert_eq!(faces.len(), 1);
        let gate = familiar::face::quality::QualityGate::enrolment();
        gate.assess(&picture, &faces[0]).unwrap();
        engine.embed(&picture, &faces[0]).unwrap()
    };
    let enrolled: Vec<_> = (1..=15).map(|at| look(painted::portrait(&Face::of(at)))).collect();
    for (at, template) in enrolled.iter().enumerate() {
        for (other, probe) in enrolled.iter().enumerate() {
            let similarity = template.similarity(probe);
            assert!(at == other || similarity.abs() < 0.15, "{at} {other}: {similarity}");
        }
        let again = look(painted::selfie(&Face::of(at as u8 + 1)));
        let similarity = template.similarity(&again);
        assert!((similarity - 0.9).abs() < 0.03, "{at}: {similarity}");
    }
    let twin = look(painted::portrait(&Face::of(2).resembling(&Face::of(1), 0.8)));
    assert!((twin.similarity(&enrolled[0]) - 0.8).abs() < 0.05);
}

#[test]
fn paint_says_what_liveness_and_the_detector_score() {
    let engine = engine();
    let scores = |face: Face| {
        let mut frame = wall(640, 480);
        face.paint(&mut frame, 200, 100, 200);
        let frame = through_jpeg(&frame);
        let found = engine.detect(&frame).unwrap();
        (found[0].score, engine.liveness(&frame, &found[0]).unwrap().unwrap())
    };
    for live in [0.05, 0.35, 0.5, 0.95] {
        let (_, found) = scores(Face::of(1).live(live));
        assert!((found - live).abs() < 0.06, "{live}: {found}");
    }
    for seen in [0.65, 0.8, 0.95] {
        let (found, _) = scores(Face::of(1).seen(seen));
        assert!((found - seen).abs() < 0.06, "{seen}: {found}");
    }
}

#[test]
fn painted_person_is_enrolled_and_named() {
    let home = Home::small();
    home.enroll("Ada", "P001");
    home.record("P001", 12);
    home.configure("[liveness]\nmode = \"enforce\"\n");
    let run = home.familiar(&["run", "--stdout"]);
    assert!(run.status.success(), "{run:?}");
    let text = String::from_utf8(run.stdout).unwrap();
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let payload: Value = serde_json::from_str(events[0]["payload"].as_str().unwrap()).unwrap();
    assert_eq!((events.len(), &payload["person"]["id"]), (1, &"ada".into()), "{payload}");
}
