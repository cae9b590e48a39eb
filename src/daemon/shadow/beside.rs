//! The new engine beside the running one, on the same frames, on a thread of its own.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use image::RgbImage;
use serde::Serialize;

use super::Verdict;
use crate::camera::Frame;
use crate::face::DetectedFace;
use crate::face::quality::QualityGate;
use crate::model::Engine;
use crate::model::slots::Figures;
use crate::recognition::watch::Eyes;
use crate::recognition::{Embedding, Space};
use crate::system::clock::thread_time;
use crate::system::contain::contained;

/// Two boxes are of one face from this intersection over union on: detectors cut faces differently.
const SAME_FACE: f32 = 0.3;
/// The comparison works for a while and then rests so many times as long: it takes a quarter of one core at most.
const REST: u32 = 3;
/// No rest is longer, so that the end is noticed.
const LONGEST_REST: Duration = Duration::from_secs(5);

/// From the daemon's loop to the comparison, which takes an order only when it has nothing else to do.
pub enum Order {
    Look(Frame),
    End(Verdict),
}

/// From the update's thread to the daemon's loop.
pub enum News {
    /// The shadow run begins.
    Began(Box<Newcomer>),
    Compared(Box<Compared>),
    Progress(Progress),
}

/// How far an update is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Progress {
    pub version: String,
    pub step: Step,
    /// Of the whole; a download ends at 50, a shadow run at 95.
    pub percent: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    Download,
    SelfTest,
    Shadow,
    Install,
}

impl Progress {
    /// `share` of the step, 0 to 1.
    pub fn new(version: &str, step: Step, share: f64) -> Self {
        let (from, to) = match step {
            Step::Download => (0.0, 50.0),
            Step::SelfTest => (50.0, 55.0),
            Step::Shadow => (55.0, 95.0),
            Step::Install => (95.0, 95.0),
        };
        let percent = (from + (to - from) * share.clamp(0.0, 1.0)) as u8;
        Self { version: version.to_owned(), step, percent }
    }
}

/// What is known of the new model before it has seen a frame.
#[derive(Debug, Clone)]
pub struct Newcomer {
    pub name: String,
    pub version: String,
    pub space: Space,
    /// For a single look, at the configured rate.
    pub threshold: f32,
    /// For one score.
    pub liveness_threshold: f32,
    /// Resident set before it was loaded, in bytes.
    pub before: Option<u64>,
}

/// What came of one frame.
#[derive(Debug, Default)]
pub struct Compared {
    /// Faces good enough for the running model; found by the new one; and good enough for it.
    pub faces: u64,
    pub found: u64,
    pub usable: u64,
    /// Good enough, and found by the new one alone.
    pub extra: u64,
    /// Of the clearest face that both found: by the running model, and by the new one.
    pub look: Option<(Embedding, Embedding)>,
    pub liveness: Option<(f32, f32)>,
    /// Processor time, by the running model and by the new one.
    pub detect: Option<(Duration, Duration)>,
    pub embed: Option<(Duration, Duration)>,
    pub live: Option<(Duration, Duration)>,
    /// What the new model failed at.
    pub failure: Option<String>,
}

/// Why a shadow run did not end well.
#[derive(Debug, Clone, PartialEq)]
pub enum ShadowError {
    /// The new model is not to run here.
    Refused { reason: String, figures: Box<Figures> },
    /// Nothing was proved: there was nothing to see.
    Unseen { minutes: u64 },
    /// The daemon ends, or reads its configuration again.
    Interrupted,
}

/// The update's side of a shadow run.
pub struct Beside {
    pub orders: Receiver<Order>,
    pub news: Sender<News>,
    pub running: Arc<Engine>,
    /// `false`: none is configured.
    pub wanted: bool,
    pub false_match_rate: f64,
    pub liveness: bool,
    /// Whether templates may be mapped into the new model's space.
    pub mapping: bool,
    /// What was last said of the progress.
    pub told: RefCell<Option<Progress>>,
}

impl Beside {
    /// Lets a new engine look at what the running one sees until the daemon's loop has come to a verdict. `before`:
    /// the resident set before it was loaded, in bytes.
    pub fn run(&self, new: &Engine, before: Option<u64>) -> Result<Option<Figures>, ShadowError> {
        if !self.wanted {
            return Ok(None);
        }
        let refused = |reason: String| ShadowError::Refused { reason, figures: Box::default() };
        let threshold =
            new.threshold(self.false_match_rate, 1).map_err(|error| refused(error.to_string()))?;
        let candidate = Newcomer {
            name: new.identity().name.clone(),
            version: new.identity().version.clone(),
            space: new.space().mapped_if(self.mapping),
            threshold,
            liveness_threshold: new.manifest().liveness_threshold(),
            before,
        };
        let liveness = self.liveness && new.has_liveness() && self.running.has_liveness();
        self.tell(News::Began(Box::new(candidate)))?;
        loop {
            match self.orders.recv().map_err(|_| ShadowError::Interrupted)? {
                Order::End(Verdict::Passed(figures)) => return Ok(Some(figures)),
                Order::End(Verdict::Refused(reason, figures)) => {
                    return Err(ShadowError::Refused { reason, figures: Box::new(figures) });
                }
                Order::End(Verdict::Unseen(minutes)) => {
                    return Err(ShadowError::Unseen { minutes });
                }
                Order::Look(frame) => {
                    let began = Instant::now();
                    let compared = compare(self.running.as_ref(), new, &frame.image, liveness);
                    drop(frame);
                    self.tell(News::Compared(Box::new(compared)))?;
                    std::thread::sleep((began.elapsed() * REST).min(LONGEST_REST));
                }
            }
        }
    }

    /// Says how far it is; that nobody listens any more is noticed elsewhere.
    pub fn progress(&self, version: &str, step: Step, share: f64) {
        let progress = Progress::new(version, step, share);
        if self.told.borrow().as_ref() != Some(&progress) {
            drop(self.news.send(News::Progress(progress.clone())));
            self.told.replace(Some(progress));
        }
    }

    fn tell(&self, news: News) -> Result<(), ShadowError> {
        self.news.send(news).map_err(|_| ShadowError::Interrupted)
    }
}

/// Both on one picture. What the running model fails at is not held against the new one.
pub fn compare<Old: Eyes, New: Eyes>(
    running: &Old,
    new: &New,
    image: &RgbImage,
    liveness: bool,
) -> Compared {
    let mut compared = Compared::default();
    let outcome = contained(|| look(running, new, image, liveness, &mut compared));
    compared.failure = match outcome {
        Ok(Ok(())) => None,
        Ok(Err(failure)) => Some(failure),
        Err(panic) => Some(format!("it panicked: {panic}")),
    };
    compared
}

fn look<Old: Eyes, New: Eyes>(
    running: &Old,
    new: &New,
    image: &RgbImage,
    liveness: bool,
    compared: &mut Compared,
) -> Result<(), String> {
    let failed = |error: New::Error| error.to_string();
    let Some((old_faces, old_time)) = spared(|| running.detect(image)) else { return Ok(()) };
    let (new_faces, new_time) = measured(|| new.detect(image));
    let new_faces = new_faces.map_err(failed)?;
    compared.detect = Some((old_time, new_time));

    let gate = QualityGate::recognition();
    let is_good = |face: &&DetectedFace| gate.assess(image, face).is_ok();
    let mut clearest: Option<(&DetectedFace, &DetectedFace)> = None;
    for face in old_faces.iter().filter(is_good) {
        compared.faces += 1;
        let overlap = |other: &DetectedFace| face.bounds.overlap(&other.bounds);
        let nearest = new_faces.iter().max_by(|a, b| overlap(a).total_cmp(&overlap(b)));
        let Some(nearest) = nearest.filter(|nearest| overlap(nearest) >= SAME_FACE) else {
            continue;
        };
        compared.found += 1;
        if is_good(&nearest) {
            compared.usable += 1;
            if clearest.is_none_or(|(best, _)| best.score < face.score) {
                clearest = Some((face, nearest));
            }
        }
    }
    let is_known = |face: &DetectedFace| {
        old_faces.iter().any(|old| old.bounds.overlap(&face.bounds) >= SAME_FACE)
    };
    compared.extra = new_faces.iter().filter(is_good).filter(|face| !is_known(face)).count() as u64;

    let Some((old_face, new_face)) = clearest else { return Ok(()) };
    if let Some((old, old_time)) = spared(|| running.embed(image, old_face)) {
        let (embedded, new_time) = measured(|| new.embed(image, new_face));
        compared.look = Some((old, embedded.map_err(failed)?));
        compared.embed = Some((old_time, new_time));
    }
    if liveness && let Some((Some(old), old_time)) = spared(|| running.liveness(image, old_face)) {
        let (score, new_time) = measured(|| new.liveness(image, new_face));
        if let Some(score) = score.map_err(failed)? {
            compared.liveness = Some((old, score));
            compared.live = Some((old_time, new_time));
        }
    }
    Ok(())
}

/// Processor time: what else the machine does meanwhile is not counted for either model.
fn measured<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let began = thread_time();
    let result = work();
    (result, thread_time().saturating_sub(began))
}

/// The running model's part: `None` where it fails, which is for the watch to tell.
fn spared<T, E>(work: impl FnOnce() -> Result<T, E>) -> Option<(T, Duration)> {
    let (result, time) = measured(|| contained(work));
    result.ok()?.ok().map(|result| (result, time))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::face::{BoundingBox, Point};
    use image::Rgb;

    /// Finds faces at these places.
    struct Fake {
        faces: Vec<f32>,
        embeds: fn() -> Result<Embedding, String>,
    }

    impl Eyes for Fake {
        type Error = String;

        fn detect(&self, _: &RgbImage) -> Result<Vec<DetectedFace>, String> {
            Ok(self.faces.iter().map(|x| face(*x)).collect())
        }

        fn embed(&self, _: &RgbImage, _: &DetectedFace) -> Result<Embedding, String> {
            (self.embeds)()
        }
    }

    fn fake(faces: &[f32]) -> Fake {
        Fake {
            faces: faces.to_vec(),
            embeds: || Ok(Embedding::normalized(vec![1.0, 0.0]).unwrap()),
        }
    }

    /// A frontal face of a hundred pixels.
    fn face(x: f32) -> DetectedFace {
        let point = |dx: f32, dy: f32| Point { x: x + dx, y: 100.0 + dy };
        DetectedFace {
            bounds: BoundingBox { x, y: 60.0, width: 100.0, height: 120.0 },
            score: 0.9,
            landmarks: [
                point(30.0, 0.0),
                point(70.0, 0.0),
                point(50.0, 23.5),
                point(35.0, 42.0),
                point(65.0, 42.0),
            ],
        }
    }

    fn picture() -> RgbImage {
        RgbImage::from_fn(640, 480, |x, y| {
            Rgb([if (x / 8 + y / 8) % 2 == 0 { 100 } else { 180 }; 3])
        })
    }

    fn counts(running: &Fake, new: &Fake) -> [u64; 4] {
        let compared = compare(running, new, &picture(), false);
        assert_eq!(compared.failure, None);
        [compared.faces, compared.found, compared.usable, compared.extra]
    }

    #[test]
    fn faces_are_held_against_each_other() {
        assert_eq!(counts(&fake(&[50.0, 300.0]), &fake(&[60.0, 300.0])), [2, 2, 2, 0]);
        assert_eq!(counts(&fake(&[50.0, 300.0]), &fake(&[50.0])), [2, 1, 1, 0]);
        assert_eq!(counts(&fake(&[50.0]), &fake(&[])), [1, 0, 0, 0]);
        assert_eq!(counts(&fake(&[]), &fake(&[50.0, 300.0])), [0, 0, 0, 2]);
        // Found, but cut off by the edge of the picture as the new one sees it.
        assert_eq!(counts(&fake(&[-5.0]), &fake(&[-30.0])), [1, 1, 0, 0]);
        let both = compare(&fake(&[50.0]), &fake(&[55.0]), &picture(), false);
        assert!(both.look.is_some() && both.detect.is_some() && both.embed.is_some());
    }

    /// Holds UPD-12.
    #[test]
    fn new_model_that_fails_or_panics_and_running_one_that_does() {
        let sound = fake(&[50.0]);
        let broken = Fake { embeds: || Err("not finite".to_owned()), ..fake(&[50.0]) };
        let wild = Fake { embeds: || panic!("index out of bounds"), ..fake(&[50.0]) };
        let failure = |running: &Fake, new: &Fake| compare(running, new, &picture(), false).failure;
        assert_eq!(failure(&sound, &broken).unwrap(), "not finite");
        assert_eq!(failure(&sound, &wild).unwrap(), "it panicked: index out of bounds");
        assert_eq!(failure(&broken, &sound), None);
        assert_eq!(failure(&wild, &sound), None);
    }
}
