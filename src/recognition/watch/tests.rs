//! A scripted world before the camera: faces are blobs at chosen places, their embeddings chosen
//! vectors with seeded noise.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod containment;
mod exhaustion;
mod presentation;

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use image::Rgb;

use super::*;
use crate::camera::Mask;
use crate::face::{BoundingBox, Point};
use crate::recognition::Candidate;
use crate::recognition::PersonRef;

const DIMENSIONS: usize = 64;
const SINGLE: f32 = 0.6;
const POOLED: f32 = 0.7;

/// One face in the scene.
#[derive(Clone)]
struct Actor {
    x: f32,
    y: f32,
    side: f32,
    look: Vec<f32>,
    /// -1 to 1, where the nose goes.
    turn: f32,
    /// What the liveness network makes of it.
    live: Option<f32>,
}

/// Draws a frame, and is the eyes that see what was drawn.
struct Scene {
    number: u64,
    media: Duration,
    time: jiff::Timestamp,
    actors: Vec<Actor>,
    noise: RefCell<fastrand::Rng>,
    blur: f32,
    size: (u32, u32),
    mask: Option<Arc<Mask>>,
    /// How bright it is behind everybody.
    wall: u8,
    detections: Cell<usize>,
    embeddings: Cell<usize>,
    livenesses: Cell<usize>,
    failing: bool,
    panicking: bool,
}

impl Scene {
    fn new() -> Self {
        Self {
            number: 0,
            media: Duration::ZERO,
            time: "2026-11-22T12:00:00Z".parse().unwrap(),
            actors: Vec::new(),
            noise: RefCell::new(fastrand::Rng::with_seed(7)),
            blur: 0.06,
            size: (640, 480),
            mask: None,
            wall: 90,
            detections: Cell::new(0),
            embeddings: Cell::new(0),
            livenesses: Cell::new(0),
            failing: false,
            panicking: false,
        }
    }

    /// Plays for some frames at 10 a second.
    fn play(&mut self, watch: &mut Watch, people: &[Candidate], frames: u64) -> Vec<Decision> {
        (0..frames).flat_map(|_| self.step(watch, people)).collect()
    }

    fn step(&mut self, watch: &mut Watch, people: &[Candidate]) -> Vec<Decision> {
        let &mut Self { number, time, media, ref mask, .. } = self;
        let frame = Frame { number, image: self.draw(), time, media, mask: mask.clone() };
        let decisions = watch.observe(&frame, self, people);
        self.number += 1;
        self.media += Duration::from_millis(100);
        self.time += Duration::from_millis(100);
        decisions
    }

    fn draw(&self) -> RgbImage {
        let (width, height) = self.size;
        // Half of it: a change of everything at once is taken for one of the light.
        let mut image = RgbImage::from_fn(width, height, |x, _| {
            Rgb([if x < width / 2 { 90 } else { self.wall }; 3])
        });
        for actor in &self.actors {
            let (left, top, side) = (actor.x as u32, actor.y as u32, actor.side as u32);
            for y in top..(top + side).min(height) {
                for x in left..(left + side).min(width) {
                    let checked =
                        ((x - left) * 12 / side + (y - top) * 12 / side).is_multiple_of(2);
                    image.put_pixel(x, y, Rgb([if checked { 200 } else { 140 }; 3]));
                }
            }
        }
        image
    }

    fn counts(&self) -> (usize, usize) {
        (self.detections.get(), self.embeddings.get())
    }
}

impl Eyes for Scene {
    type Error = &'static str;

    fn detect(&self, _: &RgbImage) -> Result<Vec<DetectedFace>, Self::Error> {
        self.detections.set(self.detections.get() + 1);
        assert!(!self.panicking, "a hole in our own code");
        if self.failing {
            return Err("the network is out of sorts");
        }
        Ok(self.actors.iter().map(Actor::face).collect())
    }

    fn embed(&self, _: &RgbImage, face: &DetectedFace) -> Result<Embedding, Self::Error> {
        self.embeddings.set(self.embeddings.get() + 1);
        let actor = self.actors.iter().find(|actor| actor.face() == *face).unwrap();
        let mut rng = self.noise.borrow_mut();
        let noisy = actor.look.iter().map(|v| v + self.blur * (rng.f32() * 2.0 - 1.0)).collect();
        Ok(Embedding::normalized(noisy).unwrap())
    }

    fn liveness(&self, _: &RgbImage, face: &DetectedFace) -> Result<Option<f32>, Self::Error> {
        self.livenesses.set(self.livenesses.get() + 1);
        Ok(self.actors.iter().find(|actor| actor.face() == *face).unwrap().live)
    }
}

impl Actor {
    fn face(&self) -> DetectedFace {
        let at = |x: f32, y: f32| Point { x: self.x + x * self.side, y: self.y + y * self.side };
        DetectedFace {
            bounds: BoundingBox { x: self.x, y: self.y, width: self.side, height: self.side },
            score: 0.9,
            landmarks: [
                at(0.3, 0.35),
                at(0.7, 0.35),
                at(0.5 + 0.3 * self.turn, 0.575),
                at(0.35, 0.75),
                at(0.65, 0.75),
            ],
        }
    }
}

fn actor(x: f32, look: &[f32]) -> Actor {
    Actor { x, y: 150.0, side: 120.0, look: look.to_vec(), turn: 0.0, live: None }
}

/// A random unit vector: two of them are about as much alike as two strangers.
fn look(seed: u64) -> Vec<f32> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let normal = |rng: &mut fastrand::Rng| (0..6).map(|_| rng.f32() - 0.5).sum::<f32>();
    let values = (0..DIMENSIONS).map(|_| normal(&mut rng)).collect();
    Embedding::normalized(values).unwrap().values().to_vec()
}

/// Between two looks.
fn between(a: &[f32], b: &[f32]) -> Vec<f32> {
    let mixed = a.iter().zip(b).map(|(a, b)| a + b).collect();
    Embedding::normalized(mixed).unwrap().values().to_vec()
}

fn person(id: &str, look: &[f32]) -> Candidate {
    Candidate {
        person: PersonRef { id: id.parse().unwrap(), name: id.to_uppercase() },
        template: Embedding::normalized(look.to_vec()).unwrap(),
        looks: 3,
        reserve: 0.0,
        lookalikes: Vec::new(),
    }
}

fn watch() -> Watch {
    Watch::new(Settings {
        frames: 3,
        false_match_rate: 1e-4,
        thresholds: LookThresholds::new(vec![SINGLE, 0.66, POOLED]).unwrap(),
        unknown: true,
        departed_after: Duration::from_secs(30),
        quality: QualityGate::recognition(),
        smallest_face: None,
        liveness: None,
    })
}

/// Decisions in short: `+a` recognized, `-a` departed, `?` unknown.
fn told(decisions: &[Decision]) -> Vec<String> {
    let tell = |decision: &Decision| match &decision.verdict {
        Verdict::Recognized { person, .. } => format!("+{}", person.id),
        Verdict::Departed { person } => format!("-{}", person.id),
        Verdict::Unknown { .. } => "?".to_owned(),
        Verdict::Spoof { .. } => "!".to_owned(),
    };
    decisions.iter().map(tell).collect()
}

#[test]
fn a_person_is_named_within_a_second() {
    let (mut scene, mut watch) = (Scene::new(), watch());
    let people = [person("a", &look(1)), person("b", &look(2))];
    scene.play(&mut watch, &people, 20);
    scene.actors = vec![actor(100.0, &look(1))];
    let decisions = scene.play(&mut watch, &people, 10);
    assert_eq!(told(&decisions), ["+a"]);
    let Verdict::Recognized { person, evidence } = &decisions[0].verdict else { panic!() };
    assert_eq!(person.name, "A");
    assert_eq!(evidence.frames, 3);
    assert!(evidence.similarity >= evidence.threshold && evidence.threshold >= POOLED);
    assert_eq!(watch.present().count(), 1);
}

#[test]
fn stranger_is_nobody() {
    let (mut scene, mut watch) = (Scene::new(), watch());
    let people: Vec<_> = (1..20).map(|n| person(&format!("p{n}"), &look(n))).collect();
    scene.actors = vec![actor(100.0, &look(100))];
    let decisions = scene.play(&mut watch, &people, 600);
    assert_eq!(told(&decisions), ["?"], "told of once, named never");
    assert_eq!(watch.present().count(), 0);
}

/// A face so many degrees from `look(1)`, in one plane.
fn turned(degrees: f32) -> Vec<f32> {
    let (a, b) = (look(1), look(2));
    let along: f32 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
    let across = b.iter().zip(&a).map(|(b, a)| b - along * a).collect();
    let across = Embedding::normalized(across).unwrap();
    let (sin, cos) = degrees.to_radians().sin_cos();
    a.iter().zip(across.values()).map(|(a, c)| cos * a + sin * c).collect()
}

#[test]
fn lookalikes_named_when_distinct() {
    let mut people = [person("a", &turned(0.0)), person("b", &turned(45.0))];
    let said = |people: &[Candidate], degrees: f32| {
        let (mut scene, mut watch) = (Scene::new(), watch());
        watch.settings.departed_after = Duration::from_secs(2);
        scene.actors = vec![actor(100.0, &turned(degrees))];
        told(&scene.play(&mut watch, people, 300))
    };
    // Ahead by 0.07: more than a tie.
    assert_eq!(said(&people, 17.5), ["+a"]);
    people[0].lookalikes.push(people[1].person.id.clone());
    people[1].lookalikes.push(people[0].person.id.clone());
    assert_eq!(said(&people, 17.5), [""; 0]);
    for (degrees, named) in [(0.0, "+a"), (8.0, "+a"), (37.0, "+b"), (45.0, "+b")] {
        assert_eq!(said(&people, degrees), [named], "{degrees}");
    }
}

#[test]
fn strangers_are_not_told_of_unless_asked() {
    let (mut scene, mut watch) = (Scene::new(), watch());
    watch.settings.unknown = false;
    scene.actors = vec![actor(100.0, &look(100))];
    assert!(scene.play(&mut watch, &[person("a", &look(1))], 100).is_empty());
}

#[test]
fn an_empty_gallery_knows_nobody() {
    let (mut scene, mut watch) = (Scene::new(), watch());
    scene.actors = vec![actor(100.0, &look(100))];
    assert_eq!(told(&scene.play(&mut watch, &[], 100)), ["?"]);
}

/// Holds GAL-30.
#[test]
fn nothing_of_a_stranger_is_kept() {
    let (mut scene, mut watch) = (Scene::new(), watch());
    scene.actors = vec![actor(100.0, &look(100))];
    scene.play(&mut watch, &[person("a", &look(1))], 50);
    assert!(watch.subjects.values().any(|subject| subject.looks() > 0));
    scene.actors.clear();
    scene.play(&mut watch, &[person("a", &look(1))], 20);
    assert!(watch.subjects.is_empty());
    // The same when the camera is lost instead.
    scene.actors = vec![actor(100.0, &look(100))];
    scene.play(&mut watch, &[], 50);
    let later = scene.media + Duration::from_secs(5);
    watch.quiet(later, scene.time, &[]);
    assert!(watch.subjects.is_empty());
}

/// Holds REC-11.
#[test]
fn two_looks_are_not_three() {
    let (mut scene, mut watch) = (Scene::new(), watch());
    let people = [person("a", &look(1))];
    scene.actors = vec![actor(100.0, &look(1))];
    while scene.embeddings.get() < 2 {
        assert!(scene.step(&mut watch, &people).is_empty());
    }
    scene.actors.clear();
    assert!(scene.play(&mut watch, &people, 50).is_empty());
    // Two more looks in another appearance do not add up with them.
    scene.actors = vec![actor(400.0, &look(1))];
    while scene.embeddings.get() < 4 {
        assert!(scene.step(&mut watch, &people).is_empty());
    }
    while scene.embeddings.get() < 5 {
        let decisions = scene.step(&mut watch, &people);
        assert_eq!(decisions.len(), usize::from(scene.embeddings.get() == 5));
    }
}

/// Holds REC-11.
#[test]
fn a_tie_names_nobody() {
    let (mut scene, mut watch) = (Scene::new(), watch());
    let (one, other) = (look(1), look(2));
    let both = between(&one, &other);
    // Two people who are nearly the same to the network.
    let people = [person("a", &between(&both, &one)), person("b", &between(&both, &other))];
    scene.actors = vec![actor(100.0, &both)];
    scene.blur = 0.01;
    assert!(scene.play(&mut watch, &people, 300).is_empty());
    // With one of them alone there is no tie: the look is good enough.
    let (mut scene, mut watch) = (Scene::new(), self::watch());
    scene.actors = vec![actor(100.0, &both)];
    scene.blur = 0.01;
    assert_eq!(told(&scene.play(&mut watch, &people[..1], 30)), ["+a"]);
}

/// Holds REC-11.
#[test]
fn looks_that_disagree_name_nobody() {
    let (mut scene, mut watch) = (Scene::new(), watch());
    let people = [person("a", &look(1)), person("b", &look(2))];
    for turn in 0..300 {
        let shown = if scene.embeddings.get().is_multiple_of(2) { look(1) } else { look(2) };
        scene.actors = vec![actor(100.0, &shown)];
        assert!(scene.step(&mut watch, &people).is_empty(), "frame {turn}");
    }
    assert!(watch.counters().split_tracks > 10);
}

/// Holds REC-15.
#[test]
fn named_once_per_appearance() {
    let (mut scene, mut watch) = (Scene::new(), watch());
    let people = [person("a", &look(1))];
    scene.actors = vec![actor(100.0, &look(1))];
    let first = scene.play(&mut watch, &people, 50);
    assert_eq!(told(&first), ["+a"]);
    for _ in 0..3 {
        // Out of view for less than `departed_after`, back on another track.
        scene.actors.clear();
        assert!(scene.play(&mut watch, &people, 200).is_empty());
        scene.actors = vec![actor(400.0, &look(1))];
        assert!(scene.play(&mut watch, &people, 50).is_empty());
    }
    assert!(watch.counters().tracks >= 4);
    scene.actors.clear();
    let last = scene.play(&mut watch, &people, 400);
    assert_eq!(told(&last), ["-a"]);
    assert_eq!(last[0].track, first[0].track, "one appearance, one number");
}

/// Holds REC-15.
#[test]
fn departed_after_absence() {
    let (mut scene, mut watch) = (Scene::new(), watch());
    let people = [person("a", &look(1))];
    scene.actors = vec![actor(100.0, &look(1))];
    let came = scene.play(&mut watch, &people, 30);
    scene.actors.clear();
    let left = scene.media;
    assert!(scene.play(&mut watch, &people, 290).is_empty());
    let decisions = scene.play(&mut watch, &people, 30);
    assert_eq!(told(&decisions), ["-a"]);
    assert!(scene.media >= left + Duration::from_secs(30));
    // Coming again is another appearance.
    scene.actors = vec![actor(100.0, &look(1))];
    let again = scene.play(&mut watch, &people, 30);
    assert_eq!(told(&again), ["+a"]);
    assert!(again[0].track > came[0].track);
    // And without any frame they depart all the same.
    let later = scene.media + Duration::from_secs(31);
    assert_eq!(told(&watch.quiet(later, scene.time, &people)), ["-a"]);
}

/// Holds CAM-12.
#[test]
fn who_is_in_a_mask_is_nobody() {
    let (mut scene, mut watch) = (Scene::new(), watch());
    let left = vec![[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]].try_into().unwrap();
    scene.mask = Some(Arc::new(Mask::new(&[left], (640, 480))));
    let people = [person("a", &look(1)), person("b", &look(2))];
    // Somebody enrolled and a stranger, both masked.
    scene.actors = vec![actor(20.0, &look(1)), actor(170.0, &look(3))];
    assert!(scene.play(&mut watch, &people, 30).is_empty());
    assert_eq!(scene.counts().1, 0, "nothing was embedded");
    assert_eq!((watch.counters().faces, watch.counters().tracks), (0, 0));
    assert!(watch.counters().masked > 0);
    // Another one beside the mask is seen, and so is the first who leaves it.
    scene.actors[1] = actor(480.0, &look(2));
    assert_eq!(told(&scene.play(&mut watch, &people, 20)), ["+b"]);
    scene.actors[0].x = 330.0;
    assert_eq!(told(&scene.play(&mut watch, &people, 20)), ["+a"]);
}

/// Holds CAM-12.
#[test]
fn face_below_the_smallest_is_nobodys() {
    let (mut scene, watch) = (Scene::new(), watch());
    let mut watch = Watch::new(watch.settings.with_smallest_face(Some(121)));
    let people = [person("a", &look(1))];
    scene.actors = vec![actor(100.0, &look(1))]; // 120 pixels
    assert!(scene.play(&mut watch, &people, 30).is_empty());
    assert_eq!((watch.counters().tracks, watch.counters().embeddings), (0, 0));
    assert!(watch.counters().refusals.small > 0);
    watch.reconfigure(watch.settings.clone().with_smallest_face(Some(120)));
    assert_eq!(told(&scene.play(&mut watch, &people, 20)), ["+a"]);
}

#[test]
fn a_still_person_stays_present() {
    for departed_after in [1, 5, 30] {
        let (mut scene, mut watch) = (Scene::new(), watch());
        watch = Watch::new(Settings {
            departed_after: Duration::from_secs(departed_after),
            ..watch.settings
        });
        let people = [person("a", &look(1))];
        scene.actors = vec![actor(100.0, &look(1))];
        assert_eq!(told(&scene.play(&mut watch, &people, 1200)), ["+a"]);
    }
}

#[test]
fn crossing_people_do_not_swap() {
    let (mut scene, mut watch) = (Scene::new(), watch());
    let people = [person("a", &look(1)), person("b", &look(2))];
    let mut decisions = Vec::new();
    for turn in 0..4 {
        for step in 0..40 {
            let along = 12.0 * step as f32;
            let x = if turn % 2 == 0 { along } else { 468.0 - along };
            let (a, b) = (actor(x, &look(1)), actor(468.0 - x, &look(2)));
            // `a` walks before `b` and hides them where they overlap by half.
            let hidden = (a.x - b.x).abs() < 60.0;
            scene.actors = if hidden { vec![a] } else { vec![a, b] };
            decisions.extend(scene.step(&mut watch, &people));
            for (id, subject) in &watch.subjects {
                let (Some(named), Some(track)) = (subject.person(), watch.tracker.get(*id)) else {
                    continue;
                };
                let shows = scene.actors.iter().find(|actor| actor.face() == track.face);
                if let Some(shows) = shows.filter(|_| track.missed == 0) {
                    let expected = if shows.look == look(1) { "a" } else { "b" };
                    assert_eq!(named.as_str(), expected, "turn {turn} step {step}");
                }
            }
        }
    }
    let mut told = told(&decisions);
    told.sort();
    assert_eq!(told, ["+a", "+b"]);
    assert!(watch.counters().broken_tracks >= 8);
}

#[test]
fn swapped_person_on_one_track() {
    let (mut scene, mut watch) = (Scene::new(), watch());
    let people = [person("a", &look(1)), person("b", &look(2))];
    scene.actors = vec![actor(100.0, &look(1))];
    let first = scene.play(&mut watch, &people, 30);
    assert_eq!(told(&first), ["+a"]);
    // From one frame to the next another face is in the very same place.
    scene.actors = vec![actor(100.0, &look(2))];
    let second = scene.play(&mut watch, &people, 100);
    assert_eq!(told(&second), ["+b"]);
    assert_ne!(second[0].track, first[0].track);
    // `a` departs although the track has lived on.
    let third = scene.play(&mut watch, &people, 300);
    assert_eq!(told(&third), ["-a"]);
    // A stranger in the same place is not `b`.
    scene.actors = vec![actor(100.0, &look(100))];
    let fourth = scene.play(&mut watch, &people, 450);
    assert_eq!(told(&fourth), ["?", "-b"]);
}

#[test]
fn two_tracks_of_one_person() {
    let (mut scene, mut watch) = (Scene::new(), watch());
    let people = [person("a", &look(1))];
    // A picture of `a`, and `a`.
    let picture = between(&between(&look(1), &look(50)), &look(1));
    scene.actors = vec![actor(50.0, &picture)];
    assert_eq!(told(&scene.play(&mut watch, &people, 20)), ["+a"]);
    scene.actors.push(actor(400.0, &look(1)));
    assert!(scene.play(&mut watch, &people, 30).is_empty());
    let named: Vec<f32> = watch
        .subjects
        .iter()
        .filter(|(_, subject)| subject.person().is_some())
        .map(|(id, _)| watch.tracker.get(*id).unwrap().face.bounds.x)
        .collect();
    assert_eq!(named, [400.0], "the better one keeps the name");
    assert!(scene.play(&mut watch, &people, 300).is_empty());
    assert!(scene.embeddings.get() < 100, "{}", scene.embeddings.get());
}

#[test]
fn a_face_in_a_still_scene_is_found() {
    let (mut scene, mut watch) = (Scene::new(), watch());
    let people = [person("a", &look(1))];
    scene.actors = vec![actor(100.0, &look(1))];
    // The eyes are blind at first, and nothing ever moves.
    scene.failing = true;
    scene.play(&mut watch, &people, 20);
    assert!(watch.counters().failures > 0);
    scene.failing = false;
    assert_eq!(told(&scene.play(&mut watch, &people, 150)), ["+a"]);
}

#[test]
fn profile_is_refused() {
    let (mut scene, mut watch) = (Scene::new(), watch());
    let people = [person("a", &look(1))];
    scene.actors = vec![Actor { turn: 0.9, ..actor(100.0, &look(1)) }];
    assert!(scene.play(&mut watch, &people, 100).is_empty());
    assert_eq!(scene.embeddings.get(), 0);
    assert!(watch.counters().refusals.turned > 10);
    // Turning to the camera mends it.
    scene.actors[0].turn = 0.1;
    assert_eq!(told(&scene.play(&mut watch, &people, 40)), ["+a"]);
}

#[test]
fn forgotten_while_present() {
    let (mut scene, mut watch) = (Scene::new(), watch());
    let people = [person("a", &look(1)), person("b", &look(2))];
    scene.actors = vec![actor(100.0, &look(1))];
    let came = scene.play(&mut watch, &people, 30);
    assert_eq!(told(&came), ["+a"]);
    let rest = &people[1..];
    let after = scene.play(&mut watch, rest, 600);
    assert_eq!(told(&after), ["?"], "no departure; a stranger from now on");
    assert_ne!(after[0].track, came[0].track);
    assert_eq!(watch.present().count(), 0);
    // Forgotten while the camera is away.
    scene.actors = vec![actor(300.0, &look(2))];
    assert_eq!(told(&scene.play(&mut watch, rest, 30)), ["+b"]);
    assert!(watch.quiet(scene.media + Duration::from_mins(1), scene.time, &[]).is_empty());
}

#[test]
fn clock_jump() {
    let (mut scene, mut watch) = (Scene::new(), watch());
    let people = [person("a", &look(1))];
    scene.actors = vec![actor(100.0, &look(1))];
    let mut decisions = scene.play(&mut watch, &people, 30);
    scene.time += Duration::from_hours(365 * 24);
    decisions.extend(scene.play(&mut watch, &people, 100));
    scene.time -= Duration::from_hours(20 * 365 * 24);
    decisions.extend(scene.play(&mut watch, &people, 100));
    assert_eq!(told(&decisions), ["+a"]);
    scene.actors.clear();
    assert_eq!(told(&scene.play(&mut watch, &people, 320)), ["-a"]);
}
