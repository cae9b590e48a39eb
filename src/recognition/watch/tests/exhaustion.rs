//! Scenes made to use the processor up, or to keep somebody from being served.

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
#[test]
fn flickering_wall() {
    for pause in [1, 5, 30] {
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
        // One each 300 ms, and what the pauses earn.
        assert!(detections <= 900, "pause {pause}: {detections} detections in {frames} frames");
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
