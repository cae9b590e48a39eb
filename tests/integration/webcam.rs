//! Recorded webcam frames of real people, who are in no repository: enrol from one sequence, watch
//! another. `FAMILIAR_WEBCAM` (folder of `SUBJECT/SEQUENCE/NNNN.jpg`), `FAMILIAR_TEST_BUNDLE` and
//! `FAMILIAR_TEST_TRUST` name what it needs; `make evaluate` sets them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use familiar::camera::Frame;
use familiar::face::DetectedFace;
use familiar::face::quality::QualityGate;
use familiar::model::{Engine, NetworkError, TrustAnchors, VerifiedBundle};
use familiar::recognition::{
    Candidate, Decision, Embedding, Evidence, Eyes, LookThresholds, PersonRef, Settings, Verdict,
    Watch,
};
use image::RgbImage;

const RATE: f64 = 1e-4;
const LOOKS: usize = 5;
/// Looks that must agree, unless the configuration says otherwise.
const AGREE: usize = 3;

/// Consecutive frames of one subject.
struct Recording {
    subject: String,
    name: String,
    frames: Vec<PathBuf>,
}

/// The networks, which look at each frame once however often it is watched.
struct Remembering<'a> {
    engine: &'a Engine,
    frame: RefCell<String>,
    faces: RefCell<HashMap<String, Vec<DetectedFace>>>,
    embeddings: RefCell<HashMap<String, Embedding>>,
    /// The face embedded in this frame: the one that a decision of this frame is about.
    embedded: Cell<Option<DetectedFace>>,
}

impl<'a> Remembering<'a> {
    fn new(engine: &'a Engine) -> Self {
        Self {
            engine,
            frame: RefCell::default(),
            faces: RefCell::default(),
            embeddings: RefCell::default(),
            embedded: Cell::new(None),
        }
    }
}

impl Eyes for Remembering<'_> {
    type Error = NetworkError;

    fn detect(&self, image: &RgbImage) -> Result<Vec<DetectedFace>, NetworkError> {
        let key = self.frame.borrow().clone();
        if let Some(known) = self.faces.borrow().get(&key) {
            return Ok(known.clone());
        }
        let found = self.engine.detect(image)?;
        self.faces.borrow_mut().insert(key, found.clone());
        Ok(found)
    }

    fn embed(&self, image: &RgbImage, face: &DetectedFace) -> Result<Embedding, NetworkError> {
        self.embedded.set(Some(*face));
        let key = format!("{} {:?}", self.frame.borrow(), face.bounds);
        if let Some(known) = self.embeddings.borrow().get(&key) {
            return Ok(known.clone());
        }
        let embedding = self.engine.embed(image, face)?;
        self.embeddings.borrow_mut().insert(key, embedding.clone());
        Ok(embedding)
    }
}

/// Recordings, bundle and anchors.
fn given() -> (PathBuf, PathBuf, PathBuf) {
    let variable =
        |name| PathBuf::from(std::env::var_os(name).unwrap_or_else(|| panic!("{name} is not set")));
    (variable("FAMILIAR_WEBCAM"), variable("FAMILIAR_TEST_BUNDLE"), variable("FAMILIAR_TEST_TRUST"))
}

fn start(bundle: &Path, trust: &Path) -> Engine {
    let anchors = TrustAnchors::load(trust).unwrap();
    Engine::start(VerifiedBundle::open(bundle, &anchors).unwrap()).unwrap()
}

/// Holds REC-13, REC-14.
#[test]
#[ignore = "recordings of people before a webcam: make evaluate DATA=FOLDER"]
fn webcam_subjects_are_recognized_and_never_confused() {
    let (pictures, bundle, trust) = given();
    let engine = start(&bundle, &trust);
    let eyes = Remembering::new(&engine);
    let recordings = recordings(&pictures);
    assert!(recordings.len() > 1, "no recordings below {}", pictures.display());

    // Each sequence in turn is what its subject is enrolled from; everyone else from their first.
    let first = first_recordings(&recordings);
    let templates: Vec<Candidate> = recordings.iter().map(|r| enrol(&eyes, r)).collect();
    let mut faults = Vec::new();
    println!("enrolled from\twatched\tnamed\tsimilarity\tthreshold\tlooks\tframes until named");
    for (from, template) in templates.iter().enumerate() {
        let everyone: Vec<Candidate> = first
            .values()
            .filter(|index| recordings[**index].subject != recordings[from].subject)
            .map(|index| templates[*index].clone())
            .collect();
        let mut enrolled = everyone.clone();
        enrolled.push(template.clone());
        for (index, watched) in recordings.iter().enumerate() {
            let own = watched.subject == recordings[from].subject;
            if !own || index == from {
                continue;
            }
            let story = watch(&eyes, watched, &enrolled, AGREE, QualityGate::recognition());
            faults.extend(judge(&recordings[from], watched, &story, Some(&watched.subject)));
            // And if the subject were not enrolled at all:
            let story = watch(&eyes, watched, &everyone, AGREE, QualityGate::recognition());
            faults.extend(judge(&recordings[from], watched, &story, None));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// How long it takes from the first frame to the name, how often nobody is named, and how often a stranger is, by the
/// looks that must agree and by the gates: `tools/measure.sh DATA frames`.
#[test]
#[ignore = "a measurement: tools/measure.sh"]
fn time_from_appearing_to_named() {
    let (pictures, bundle, trust) = given();
    let engine = start(&bundle, &trust);
    let eyes = Remembering::new(&engine);
    let recordings = recordings(&pictures);
    let first = first_recordings(&recordings);
    let templates: BTreeMap<&str, Candidate> =
        first.iter().map(|(subject, at)| (*subject, enrol(&eyes, &recordings[*at]))).collect();
    let gate = QualityGate::recognition();
    let open = QualityGate {
        eye_distance: 8.0,
        visible: 0.5,
        yaw: 90.0,
        pitch: 90.0,
        roll: 90.0,
        contrast: 0.0,
        sharpness: 0.0,
        ..gate
    };
    let strict = QualityGate { eye_distance: 32.0, sharpness: 0.02, ..gate };
    let strict = QualityGate { yaw: 20.0, pitch: 20.0, roll: 20.0, ..strict };
    println!("| looks | gates | named | seconds, median | seconds, longest | a stranger named |");
    println!("|---|---|---|---|---|---|");
    let gates = [("as they are", gate), ("open", open), ("strict", strict)];
    let settings = [(1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (8, 0), (3, 1), (3, 2)];
    for (looks, gate) in settings {
        let (name, quality) = gates[gate];
        let (mut seconds, mut tried, mut strangers, mut mistaken) = (Vec::new(), 0, 0, 0);
        for (at, watched) in recordings.iter().enumerate() {
            let subject = watched.subject.as_str();
            let others: Vec<Candidate> = templates
                .iter()
                .filter(|(other, _)| **other != subject)
                .map(|(_, template)| template.clone())
                .collect();
            let named = |people: &[Candidate]| {
                let story = watch(&eyes, watched, people, looks, quality);
                story.into_iter().find(|told| told.in_front && told.who.is_some())
            };
            strangers += 1;
            mistaken += u32::from(named(&others).is_some());
            if first[subject] == at {
                continue;
            }
            tried += 1;
            let mut all = others.clone();
            all.push(templates[subject].clone());
            if let Some(told) = named(&all) {
                assert!(told.who.is_some_and(|who| who.id.as_str() == subject), "{subject}");
                seconds.push(told.frame as f64 / 10.0);
            }
        }
        seconds.sort_by(f64::total_cmp);
        let median = seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN);
        let longest = seconds.last().copied().unwrap_or(f64::NAN);
        println!(
            "| {looks} | {name} | {} of {tried} | {median:.1} | {longest:.1} | {mistaken} of {strangers} |",
            seconds.len()
        );
    }
}

/// `tools/replay.py`: each subject's live recordings, and photographs of the subject, before `familiar run`. They are
/// expected beside `FAMILIAR_WEBCAM`, in `print`.
/// Holds LIV-01, LIV-02.
#[test]
#[ignore = "recordings of people before a webcam: make evaluate DATA=FOLDER"]
fn photographs_name_nobody_and_live_people_are_named() {
    let (pictures, bundle, trust) = given();
    let webcam = pictures.parent().unwrap();
    assert!(webcam.join("print").is_dir(), "there is no {}", webcam.join("print").display());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/replay.py");
    let judged = Command::new("python3")
        .arg("-B")
        .arg(script)
        .arg(crate::support::program::familiar())
        .args([webcam, &bundle, &trust])
        .output()
        .unwrap();
    let table = String::from_utf8_lossy(&judged.stdout);
    println!("{table}");
    assert!(judged.status.success(), "{table}{}", String::from_utf8_lossy(&judged.stderr));
    // The photographs would pass but for liveness, or their refusal would say nothing.
    let cells = |kind: &str| -> Vec<u32> {
        let row =
            table.lines().find(|row| row.starts_with(&format!("| {kind} | **all**"))).unwrap();
        row.split('|').filter_map(|cell| cell.trim().parse().ok()).collect()
    };
    let print = cells("print");
    assert!(print[1] > 0 && print[2] == 0 && print[3] > 0, "{print:?}");
    let live = cells("live");
    assert_eq!(live[2], live[0]);
}

/// What was told of a recording: when, of whom, and whether it is the face in front.
struct Told {
    frame: usize,
    who: Option<PersonRef>,
    evidence: Evidence,
    in_front: bool,
}

/// Prints one line for each thing told and returns what was wrong about them.
fn judge(
    from: &Recording,
    watched: &Recording,
    story: &[Told],
    expected: Option<&String>,
) -> Vec<String> {
    let mut faults = Vec::new();
    let from = if expected.is_some() { from.name.as_str() } else { "(not)" };
    if story.is_empty() {
        println!("{from}\t{}\t-", watched.name);
    }
    for told in story {
        let named = told.who.as_ref().map_or("unknown", |person| person.id.as_str());
        let place = if told.in_front { "" } else { " (behind)" };
        println!(
            "{from}\t{}\t{named}{place}\t{:.3}\t{:.3}\t{}\t{}",
            watched.name,
            told.evidence.similarity,
            told.evidence.threshold,
            told.evidence.frames,
            told.frame,
        );
        let wrong = told
            .who
            .as_ref()
            .is_some_and(|person| Some(person.id.as_str()) != expected.map(String::as_str));
        if wrong && told.in_front {
            faults.push(format!("{} was taken for {named}", watched.name));
        }
    }
    let named = |told: &Told| told.in_front && told.who.is_some();
    if expected.is_some() && !story.iter().any(named) {
        faults.push(format!("{} was not recognised, enrolled from {from}", watched.name));
    }
    faults
}

fn watch(
    eyes: &Remembering,
    recording: &Recording,
    people: &[Candidate],
    frames: usize,
    quality: QualityGate,
) -> Vec<Told> {
    let thresholds = LookThresholds::ask(16, |looks| eyes.engine.threshold(RATE, looks));
    let mut watch = Watch::new(Settings {
        frames,
        false_match_rate: RATE,
        thresholds: thresholds.unwrap().unwrap(),
        unknown: true,
        departed_after: Duration::from_secs(30),
        quality,
        smallest_face: None,
        liveness: None,
    });
    let mut story = Vec::new();
    for (number, file) in recording.frames.iter().enumerate() {
        *eyes.frame.borrow_mut() = format!("{} {number}", recording.name);
        let image = image::open(file).unwrap().into_rgb8();
        let media = Duration::from_millis(100 * number as u64);
        let time = jiff::Timestamp::UNIX_EPOCH + media;
        let frame = Frame { number: number as u64, image, time, media, mask: None };
        for decision in watch.observe(&frame, eyes, people) {
            story.extend(told(eyes, &frame, number, decision));
        }
    }
    let counters = watch.counters();
    eprintln!("{}: {counters:?}", recording.name);
    story
}

fn told(eyes: &Remembering, frame: &Frame, number: usize, decision: Decision) -> Option<Told> {
    let (who, evidence) = match decision.verdict {
        Verdict::Recognized { person, evidence } => (Some(person), evidence),
        Verdict::Unknown { evidence } => (None, evidence),
        Verdict::Departed { .. } | Verdict::Spoof { .. } => return None,
    };
    let about = eyes.embedded.get().map_or(0.0, |face| face.bounds.area());
    let largest = largest(&eyes.detect(&frame.image).unwrap())?.bounds.area();
    Some(Told { frame: number, who, evidence, in_front: about >= 0.9 * largest })
}

/// Some good looks, spread over the recording, as `enroll` takes them.
fn enrol(eyes: &Remembering, recording: &Recording) -> Candidate {
    let gate = QualityGate::enrolment();
    let mut looks = Vec::new();
    let (mut next, mut refused) = (0, 0);
    for (number, file) in recording.frames.iter().enumerate() {
        if number < next || looks.len() == LOOKS {
            continue;
        }
        *eyes.frame.borrow_mut() = format!("{} {number}", recording.name);
        let image = image::open(file).unwrap().into_rgb8();
        let Some(face) = largest(&eyes.detect(&image).unwrap()) else { continue };
        match gate.assess(&image, &face) {
            Ok(_) => {
                looks.push(eyes.embed(&image, &face).unwrap());
                next = number + recording.frames.len() / LOOKS;
            }
            Err(refusal) => {
                refused += 1;
                eprintln!("{} {number}: {refusal}", recording.name);
            }
        }
    }
    eprintln!("{}: {} looks, {refused} frames refused", recording.name, looks.len());
    Candidate {
        person: PersonRef {
            id: recording.subject.parse().unwrap(),
            name: recording.subject.clone(),
        },
        template: Embedding::pooled(&looks).unwrap(),
        looks: looks.len(),
        reserve: 0.0,
        lookalikes: Vec::new(),
    }
}

fn largest(faces: &[DetectedFace]) -> Option<DetectedFace> {
    faces.iter().copied().max_by(|a, b| a.bounds.area().total_cmp(&b.bounds.area()))
}

/// A subject with but one sequence gives its halves.
fn recordings(root: &Path) -> Vec<Recording> {
    let mut recordings = Vec::new();
    for subject in listing(root) {
        let sequences = listing(&subject);
        let halves = sequences.len() == 1;
        let subject = file_name(&subject);
        for sequence in sequences {
            let mut frames = listing(&sequence);
            let name = file_name(&sequence);
            let mut push = |name, frames| {
                recordings.push(Recording { subject: subject.clone(), name, frames });
            };
            if halves {
                let second = frames.split_off(frames.len() / 2);
                push(format!("{name}/1"), frames);
                push(format!("{name}/2"), second);
            } else {
                push(name, frames);
            }
        }
    }
    recordings
}

fn first_recordings(recordings: &[Recording]) -> BTreeMap<&str, usize> {
    let mut first = BTreeMap::new();
    for (index, recording) in recordings.iter().enumerate() {
        first.entry(recording.subject.as_str()).or_insert(index);
    }
    first
}

fn listing(directory: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    entries
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}
