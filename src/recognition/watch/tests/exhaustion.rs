//! What a scene costs, and scenes made to use the processor up or to keep somebody from being served.

use super::*;
use crate::face::track::CAPACITY;

/// Faces side by side in rows, each with a look of its own.
fn rows(count: u16, columns: u16, step: f32, side: f32) -> Vec<Actor> {
    let at = |n: u16, columns: u16| (f32::from(n % columns) * step, f32::from(n / columns) * step);
    (0..count)
        .map(|n| {
            let (x, y) = at(n, columns);
            Actor { y, side, ..actor(x, &look(1000 + u64::from(n))) }
        })
        .collect()
}

/// Two hundred faces, one of them near and enrolled: each frame is one detection, one embedding and one liveness
/// score, and the nearest are served first.
/// Holds ROB-08, ROB-10.
#[test]
fn crowd_of_two_hundred() {
    let (mut scene, mut watch) = (Scene::new(), watch());
    scene.size = (1600, 960);
    scene.actors = rows(199, 20, 78.0, 60.0);
    scene.actors.push(Actor { y: 790.0, side: 140.0, live: Some(0.9), ..actor(1300.0, &look(1)) });
    let people = [person("a", &look(1))];
    let mut named = None;
    for frame in 0..100 {
        let before = (scene.counts(), scene.livenesses.get());
        let decisions = scene.step(&mut watch, &people);
        let ((detections, embeddings), livenesses) = (scene.counts(), scene.livenesses.get());
        assert!(detections - before.0.0 <= 1 && embeddings - before.0.1 <= 1, "frame {frame}");
        assert!(livenesses - before.1 <= 1, "frame {frame}");
        assert!(watch.subjects.len() <= CAPACITY);
        if told(&decisions).contains(&"+a".to_owned()) {
            named.get_or_insert(frame);
        }
    }
    assert!(named.is_some_and(|frame| frame < 40), "the nearest face was named at {named:?}");
    let counters = watch.counters();
    assert!(counters.crowded_out >= 100 * (200 - CAPACITY as u64) / 2, "{counters:?}");
    assert!(counters.put_off > 0, "{counters:?}");
}

/// New large faces all the time: who stands behind them is named all the same.
/// Holds ROB-10.
#[test]
fn procession_keeps_nobody_waiting_for_ever() {
    let (mut scene, mut watch) = (Scene::new(), watch());
    let people = [person("a", &look(1))];
    scene.size = (1600, 480);
    let small = Actor { y: 400.0, side: 60.0, ..actor(10.0, &look(1)) };
    let mut named = None;
    for frame in 0..600_u64 {
        // Eight strangers, replaced by others each half second: never looked at, and so most in need.
        scene.actors = (0..8)
            .map(|n| {
                let (turn, place) = (frame / 5, n as f32);
                let x = 150.0 + 180.0 * place;
                Actor {
                    y: 20.0 + 200.0 * (turn % 2) as f32,
                    ..actor(x, &look(5000 + 8 * turn + n))
                }
            })
            .collect();
        scene.actors.push(small.clone());
        let decisions = scene.step(&mut watch, &people);
        if told(&decisions).contains(&"+a".to_owned()) {
            named.get_or_insert(frame);
        }
    }
    assert!(named.is_some_and(|frame| frame < 300), "named at {named:?}");
}

/// Movement without a face, with pauses made to win the detector's patience back.
/// Holds ROB-11.
#[test]
fn flickering_wall() {
    for pause in [1, 30, 60] {
        let (mut scene, mut watch) = (Scene::new(), watch());
        let frames = 1800;
        for frame in 0..frames {
            if frame % (29 + pause) < 29 {
                scene.wall = if frame % 2 == 0 { 30 } else { 220 };
            }
            scene.step(&mut watch, &[]);
        }
        let moving = watch.counters().moving;
        assert!(moving > frames / 3, "{moving} of {frames} frames moved: nothing was tried");
        let (detections, _) = scene.counts();
        eprintln!("pause {pause}: {detections} of {frames}, moving {moving}");
        // One each 300 ms in three minutes, and three seconds' patience in the beginning.
        assert!(detections <= 640, "pause {pause}: {detections} detections in {frames} frames");
        assert_eq!(moving < frames - 100, pause >= 30, "{moving} of {frames}: no pause in it");
    }
    // And a person who then comes is found.
    let (mut scene, mut watch) = (Scene::new(), watch());
    for frame in 0..600 {
        scene.wall = if frame % 2 == 0 { 30 } else { 220 };
        scene.step(&mut watch, &[]);
    }
    scene.actors = vec![actor(50.0, &look(1))];
    assert_eq!(told(&scene.play(&mut watch, &[person("a", &look(1))], 20)), ["+a"]);
}

#[test]
fn still_scene_costs_no_detection() {
    let (mut scene, mut watch) = (Scene::new(), watch());
    scene.play(&mut watch, &[], 600);
    let (detections, embeddings) = scene.counts();
    assert!((2..=7).contains(&detections), "{detections} detections in a minute of nothing");
    assert_eq!(embeddings, 0);
    assert_eq!(watch.counters().moving, 1);
}

/// Holds SPD-06, ROB-08.
#[test]
fn named_person_costs_almost_nothing() {
    let (mut scene, mut watch) = (Scene::new(), watch());
    let people = [person("a", &look(1))];
    scene.actors = vec![actor(100.0, &look(1))];
    scene.play(&mut watch, &people, 30);
    let before = scene.counts();
    assert_eq!(before.1, 3, "as many embeddings as looks needed");
    scene.play(&mut watch, &people, 600);
    let (detections, embeddings) = scene.counts();
    assert!(detections - before.0 <= 31, "{} detections in a still minute", detections - before.0);
    assert!((10..=12).contains(&(embeddings - before.1)), "{} embeddings", embeddings - before.1);
    // Moving about: more detections, no more embeddings.
    let before = scene.counts();
    for step in 0..600 {
        scene.actors[0].x = 100.0 + 2.0 * (step % 200 - 100_i32).abs() as f32;
        scene.step(&mut watch, &people);
    }
    let (detections, embeddings) = scene.counts();
    assert!(detections - before.0 <= 205, "{} detections in a minute", detections - before.0);
    assert!(embeddings - before.1 <= 15, "{} embeddings in a minute", embeddings - before.1);
}

#[test]
fn a_stranger_who_stays_costs_less_and_less() {
    let (mut scene, mut watch) = (Scene::new(), watch());
    scene.actors = vec![actor(100.0, &look(100))];
    let people = [person("a", &look(1))];
    scene.play(&mut watch, &people, 600);
    let before = scene.counts();
    scene.play(&mut watch, &people, 1200);
    let (detections, embeddings) = scene.counts();
    assert!(detections - before.0 <= 62, "{}", detections - before.0);
    assert!(embeddings - before.1 <= 9, "{}", embeddings - before.1);
}

/// Holds ROB-08, ROB-09.
#[test]
fn crowd_is_bounded() {
    let (mut scene, mut watch) = (Scene::new(), watch());
    let people: Vec<_> = (0..60).map(|n| person(&format!("p{n}"), &look(n))).collect();
    for n in 0..60_u16 {
        let (x, y) = (f32::from(n % 10) * 63.0, f32::from(n / 10) * 78.0);
        scene.actors.push(Actor { y, side: 60.0, ..actor(x, &look(u64::from(n))) });
    }
    let mut decisions = Vec::new();
    for frame in 0..200 {
        let before = scene.counts();
        decisions.extend(scene.step(&mut watch, &people));
        let after = scene.counts();
        assert!(after.0 - before.0 <= 1 && after.1 - before.1 <= 1, "frame {frame}");
    }
    assert!(watch.subjects.len() <= CAPACITY);
    assert_eq!(decisions.len(), CAPACITY, "{:?}", told(&decisions));
    assert!(watch.counters().crowded_out > 0);
}
