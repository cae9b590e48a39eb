//! Faces with a chosen liveness score before a watch that decides by it.

use super::*;
use crate::recognition::{LivenessPolicy, LivenessVerdict};

const BAR: f32 = 0.4;

fn enforcing() -> Watch {
    with(LivenessPolicy { threshold: BAR, enforce: true })
}

fn with(policy: LivenessPolicy) -> Watch {
    Watch::new(Settings { liveness: Some(policy), ..watch().settings })
}

fn scored(x: f32, look: &[f32], live: f32) -> Actor {
    Actor { live: Some(live), ..actor(x, look) }
}

/// Holds LIV-07, LIV-08.
#[test]
fn photograph_of_the_enrolled_is_an_attack_and_nobody() {
    let (mut scene, mut watch) = (Scene::new(), enforcing());
    let people = [person("a", &look(1))];
    scene.actors = vec![scored(100.0, &look(1), 0.1)];
    let decisions = scene.play(&mut watch, &people, 200);
    assert_eq!(told(&decisions), ["!"], "told once, named never");
    let Verdict::Spoof { evidence } = &decisions[0].verdict else { panic!() };
    let liveness = evidence.liveness.unwrap();
    assert_eq!(liveness.verdict, LivenessVerdict::Attack);
    assert!((liveness.score - 0.1).abs() < 1e-6);
    assert!(
        evidence.similarity >= evidence.threshold,
        "whose photograph it is can be told by none"
    );
    assert_eq!((watch.present().count(), watch.counters().spoofs), (0, 1));
}

/// Holds LIV-07.
#[test]
fn live_person_is_named_with_the_verdict() {
    let (mut scene, mut watch) = (Scene::new(), enforcing());
    scene.actors = vec![scored(100.0, &look(1), 0.9)];
    let decisions = scene.play(&mut watch, &[person("a", &look(1))], 10);
    assert_eq!(told(&decisions), ["+a"], "within a second");
    let Verdict::Recognized { evidence, .. } = &decisions[0].verdict else { panic!() };
    assert_eq!(evidence.liveness.unwrap().verdict, LivenessVerdict::Live);
    assert_eq!(watch.present().count(), 1);
}

/// Holds LIV-16.
#[test]
fn report_names_whatever_the_verdict() {
    let (mut scene, mut watch) =
        (Scene::new(), with(LivenessPolicy { threshold: BAR, enforce: false }));
    scene.actors = vec![scored(100.0, &look(1), 0.1)];
    let decisions = scene.play(&mut watch, &[person("a", &look(1))], 100);
    assert_eq!(told(&decisions), ["+a"]);
    let Verdict::Recognized { evidence, .. } = &decisions[0].verdict else { panic!() };
    assert_eq!(evidence.liveness.unwrap().verdict, LivenessVerdict::Attack);
}

/// Holds LIV-17.
#[test]
fn off_asks_no_network() {
    let (mut scene, mut watch) = (Scene::new(), watch());
    scene.actors = vec![scored(100.0, &look(1), 0.1)];
    let decisions = scene.play(&mut watch, &[person("a", &look(1))], 100);
    assert_eq!(told(&decisions), ["+a"]);
    let Verdict::Recognized { evidence, .. } = &decisions[0].verdict else { panic!() };
    assert!(evidence.liveness.is_none());
    assert_eq!((scene.livenesses.get(), watch.counters().liveness), (0, 0));
}

/// Holds LIV-07.
#[test]
fn network_that_cannot_tell_names_nobody() {
    let (mut scene, mut watch) = (Scene::new(), enforcing());
    scene.actors = vec![actor(100.0, &look(1))];
    assert!(scene.play(&mut watch, &[person("a", &look(1))], 100).is_empty());
}

/// Holds LIV-11.
#[test]
fn photograph_swapped_in_for_a_live_person() {
    let (mut scene, mut watch) = (Scene::new(), enforcing());
    let people = [person("a", &look(1)), person("b", &look(2))];
    // The same face: the scores collapse, the name goes, and the person departs in time.
    scene.actors = vec![scored(100.0, &look(1), 0.9)];
    assert_eq!(told(&scene.play(&mut watch, &people, 30)), ["+a"]);
    scene.actors = vec![scored(100.0, &look(1), 0.1)];
    assert_eq!(told(&scene.play(&mut watch, &people, 40)), ["!"]);
    assert_eq!(told(&scene.play(&mut watch, &people, 260)), ["-a"]);
}

/// Holds LIV-11.
#[test]
fn live_stranger_lends_no_liveness_to_a_photograph() {
    let people = [person("a", &look(1)), person("b", &look(2))];
    for before in [look(1), look(100)] {
        for seconds in [1, 2, 4, 8] {
            let (mut scene, mut watch) = (Scene::new(), enforcing());
            scene.actors = vec![scored(100.0, &before, 0.9)];
            let first = told(&scene.play(&mut watch, &people, 10 * seconds));
            // From one frame to the next a photograph of `b` is in the very same place.
            scene.actors = vec![scored(100.0, &look(2), 0.1)];
            let then = told(&scene.play(&mut watch, &people, 200));
            let all = [first, then].concat();
            assert!(!all.contains(&"+b".to_owned()), "after {seconds} s: {all:?}");
            assert!(all.contains(&"!".to_owned()), "after {seconds} s: {all:?}");
        }
    }
}

/// Holds LIV-08.
#[test]
fn photograph_keeps_nobody_present() {
    let (mut scene, mut watch) = (Scene::new(), enforcing());
    let people = [person("a", &look(1))];
    scene.actors = vec![scored(100.0, &look(1), 0.9)];
    assert_eq!(told(&scene.play(&mut watch, &people, 20)), ["+a"]);
    // `a` leaves; the photograph comes elsewhere, and stays.
    scene.actors = vec![scored(450.0, &look(1), 0.1)];
    let decisions = scene.play(&mut watch, &people, 340);
    assert_eq!(told(&decisions), ["!", "-a"]);
}

/// Holds LIV-09.
#[test]
fn photograph_beside_the_live_person_takes_nothing_away() {
    let (mut scene, mut watch) = (Scene::new(), enforcing());
    scene.actors = vec![scored(50.0, &look(1), 0.1), scored(400.0, &look(1), 0.9)];
    let mut decisions = told(&scene.play(&mut watch, &[person("a", &look(1))], 300));
    decisions.sort();
    assert_eq!(decisions, ["!", "+a"]);
    assert_eq!(watch.present().count(), 1);
}

/// Holds LIV-08, LIV-10.
#[test]
fn misjudged_face_looked_at_again_attack_one_event() {
    let (mut scene, mut watch) = (Scene::new(), enforcing());
    let people = [person("a", &look(1))];
    scene.actors = vec![scored(100.0, &look(1), 0.1)];
    let first = scene.play(&mut watch, &people, 10);
    assert_eq!(told(&first), ["!"]);
    assert!(scene.play(&mut watch, &people, 650).is_empty(), "in view for a minute, told once");
    scene.actors = vec![scored(100.0, &look(1), 0.9)];
    let later = scene.play(&mut watch, &people, 350);
    assert_eq!(told(&later), ["+a"]);
    assert_ne!(later[0].track, first[0].track, "the attack's track is never a person's");
}

/// Holds LIV-14.
#[test]
fn liveness_of_a_crowd_and_of_a_stay_is_bounded() {
    let (mut scene, mut watch) = (Scene::new(), enforcing());
    let people = [person("a", &look(1))];
    scene.actors = vec![scored(100.0, &look(1), 0.9)];
    scene.play(&mut watch, &people, 600);
    assert!(scene.livenesses.get() <= 40, "{} in a minute", scene.livenesses.get());
    // Attacks are not asked for ever either: five scores each half minute.
    let (mut scene, mut watch) = (Scene::new(), enforcing());
    scene.actors = vec![scored(100.0, &look(1), 0.1)];
    scene.play(&mut watch, &people, 600);
    assert!(scene.livenesses.get() <= 11, "{} in a minute", scene.livenesses.get());
    // One a frame, however many faces.
    let (mut scene, mut watch) = (Scene::new(), enforcing());
    scene.actors = (0..6).map(|n| scored(100.0 * n as f32, &look(n), 0.1)).collect();
    for actor in &mut scene.actors {
        actor.side = 70.0;
    }
    for _ in 0..50 {
        let before = scene.livenesses.get();
        scene.step(&mut watch, &people);
        assert!(scene.livenesses.get() <= before + 1);
    }
}
