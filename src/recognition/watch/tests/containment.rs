//! Frames that make the program panic, or a network fail.

use super::*;

/// Holds ROB-05, ROB-06.
#[test]
fn panic_in_one_frame_costs_that_frame() {
    let (mut scene, mut watch) = (Scene::new(), watch());
    let people = [person("a", &look(1)), person("b", &look(2))];
    scene.actors = vec![actor(100.0, &look(1))];
    assert_eq!(told(&scene.play(&mut watch, &people, 10)), ["+a"]);
    scene.panicking = true;
    while watch.counters().panics == 0 {
        assert!(scene.step(&mut watch, &people).is_empty());
    }
    assert_eq!(watch.panics_in_a_row(), 1);
    assert!(watch.subjects.is_empty(), "what may be half-changed is not kept");
    scene.panicking = false;
    // Who was here has not left by it, and whoever comes is named as ever.
    assert_eq!(watch.present().count(), 1);
    scene.actors.push(actor(400.0, &look(2)));
    assert_eq!(told(&scene.play(&mut watch, &people, 20)), ["+b"]);
    assert_eq!((watch.counters().panics, watch.panics_in_a_row()), (1, 0));
    assert_eq!(watch.present().count(), 2);
}

/// Holds ROB-07.
#[test]
fn panics_without_end_are_counted_in_a_row() {
    let (mut scene, mut watch) = (Scene::new(), watch());
    scene.actors = vec![actor(100.0, &look(1))];
    scene.panicking = true;
    let mut most = 0;
    for n in 0..200 {
        // Something moves: every frame is looked at.
        scene.actors[0].x = 100.0 + f32::from(n % 2 == 0) * 60.0;
        scene.step(&mut watch, &[]);
        most = most.max(watch.panics_in_a_row());
    }
    assert!(most >= 10, "the daemon ends then: {most}");
}

#[test]
fn failing_eyes_cost_a_frame() {
    let (mut scene, mut watch) = (Scene::new(), watch());
    let people = [person("a", &look(1))];
    scene.actors = vec![actor(100.0, &look(1))];
    let mut decisions = Vec::new();
    for frame in 0..40 {
        scene.failing = frame % 2 == 0;
        decisions.extend(scene.step(&mut watch, &people));
    }
    assert_eq!(told(&decisions), ["+a"]);
    assert!(watch.counters().failures > 0);
}
