//! The shadow run: a new model looks at what the running one sees, before anything is switched, and is refused where
//! the two disagree beyond bounds. What it finds changes nothing of what the device says.

mod beside;
mod bounds;

pub use beside::{Beside, News, Progress, ShadowError, Step};

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, channel, sync_channel};
use std::time::{Duration, Instant};

use super::Daemon;
use super::people::People;
use super::trial::Watched;
use crate::camera::Frame;
use crate::config::LivenessMode;
use crate::model::slots::{Agreement, Figures, Names};
use crate::recognition::gallery::AnchorTemplate;
use crate::recognition::matcher::{Known, nearest};
use crate::recognition::{Candidate, Embedding, PersonId, Space};
use crate::system::memory;
use beside::{Newcomer, Order};
use bounds::{Tally, memory_limit};

/// A camera that gives too little for so long beyond the configured time ends the run.
const PATIENCE: Duration = Duration::from_mins(10);

/// How a shadow run ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    Passed(Figures),
    Refused(String, Figures),
    /// So many minutes without frames enough.
    Unseen(u64),
}

/// The daemon's side: hands frames over, and judges what comes back.
pub struct Shadow {
    orders: SyncSender<Order>,
    news: Receiver<News>,
    run: Option<Run>,
    progress: Option<Progress>,
}

/// One shadow run under way.
struct Run {
    newcomer: Newcomer,
    needed: Duration,
    began: Instant,
    watched: Watched,
    tally: Tally,
    acquaintances: Acquaintances,
    verdict: Option<Verdict>,
}

/// The enrolled people as the new model knows them: by their own looks, or mapped ones.
struct Acquaintances {
    people: Vec<Candidate>,
    anchors: Vec<AnchorTemplate>,
    /// The gallery's, when it was read: nobody who is forgotten meanwhile stays here.
    reading: u64,
}

impl Acquaintances {
    fn of(people: &People, space: &Space) -> Self {
        let reading = people.reading();
        let (people, anchors) = people.seen_in(space).unwrap_or_else(|error| {
            log::warn!("names are not compared in the shadow run: {error}");
            Default::default()
        });
        Self { people, anchors, reading }
    }
}

impl Shadow {
    /// How far the update is; `None` while there is none to install.
    pub fn progress(&self) -> Option<Progress> {
        let Some(Run { newcomer, watched, needed, verdict: None, .. }) = &self.run else {
            return self.progress.clone();
        };
        let share = watched.time().as_secs_f64() / needed.as_secs_f64().max(1e-3);
        Some(Progress::new(&newcomer.version, Step::Shadow, share))
    }

    /// Offers the verdict until it is taken.
    fn end(&mut self, verdict: Verdict) {
        match self.orders.try_send(Order::End(verdict)) {
            Err(TrySendError::Full(_)) => {}
            Ok(()) | Err(TrySendError::Disconnected(_)) => self.run = None,
        }
    }
}

impl Daemon {
    /// The two ends of a shadow run that may come.
    pub(super) fn prepare_shadow(&self) -> (Shadow, Beside) {
        let ((orders, taken), (told, news)) = (sync_channel(0), channel());
        let config = &self.located.config;
        let beside = Beside {
            orders: taken,
            news: told,
            running: Arc::clone(&self.engine),
            wanted: !config.models.shadow.get().is_zero(),
            false_match_rate: config.recognition.false_match_rate,
            liveness: config.liveness.mode != LivenessMode::Off,
            mapping: config.models.mapping,
            told: RefCell::default(),
        };
        (Shadow { orders, news, run: None, progress: None }, beside)
    }

    /// Takes in what was compared, and ends the run when it is time to.
    pub(super) fn tend_shadow(&mut self) {
        let Some(mut shadow) = self.polling.shadow.take() else { return };
        while let Ok(news) = shadow.news.try_recv() {
            match news {
                News::Progress(progress) => shadow.progress = Some(progress),
                News::Began(newcomer) => shadow.run = Some(self.begin_shadow(*newcomer)),
                News::Compared(mut compared) => {
                    let Some(run) = &mut shadow.run else { continue };
                    if let Some((old, new)) = compared.look.take() {
                        self.compare_names(run, &old, &new);
                    }
                    let thresholds = (
                        self.engine.manifest().liveness_threshold(),
                        run.newcomer.liveness_threshold,
                    );
                    run.tally.add(*compared, thresholds);
                }
            }
        }
        if let Some(verdict) = shadow.run.as_mut().and_then(Run::verdict) {
            shadow.end(verdict);
        }
        self.polling.shadow = Some(shadow);
    }

    /// A frame that was looked at by the running model; the new one takes it if it has nothing else to do.
    pub(super) fn show_to_shadow(&mut self, frame: Frame) {
        let Some(Shadow { orders, run: Some(run), .. }) = &mut self.polling.shadow else { return };
        run.watched.frame(Instant::now());
        // Once there is a verdict it shall not find the other side busy with one more frame.
        if run.verdict.is_some() {
            return;
        }
        // Gone if it is not taken.
        drop(orders.try_send(Order::Look(frame)));
    }

    fn begin_shadow(&self, newcomer: Newcomer) -> Run {
        let needed = self.located.config.models.shadow.get();
        let acquaintances = Acquaintances::of(&self.people, &newcomer.space);
        let same_space = newcomer.space.digest() == self.engine.embedder_digest();
        let names = same_space || !acquaintances.people.is_empty();
        log::info!(
            "model {} {} begins its shadow run: {} s beside {} {}{}",
            newcomer.name,
            newcomer.version,
            needed.as_secs(),
            self.engine.identity().name,
            self.engine.identity().version,
            if names { "" } else { "; of another embedding space: names are not compared" },
        );
        Run {
            newcomer,
            needed,
            began: Instant::now(),
            watched: Watched::default(),
            tally: Tally::new(names),
            acquaintances,
            verdict: None,
        }
    }

    /// Whom the two models take one face for. People whom the new model cannot know are not held against it.
    fn compare_names(&self, run: &mut Run, old: &Embedding, new: &Embedding) {
        if !run.tally.compares_names() {
            return;
        }
        if run.acquaintances.reading != self.people.reading() {
            run.acquaintances = Acquaintances::of(&self.people, &run.newcomer.space);
        }
        let Acquaintances { people, anchors, .. } = &run.acquaintances;
        let rate = self.located.config.recognition.false_match_rate;
        // Asked for at the start of the run, and of this engine before: it is there.
        let threshold = self.engine.threshold(rate, 1).unwrap_or(1.0);
        let old = self.name_of(old, self.people.candidates(), threshold);
        let is_known = |id: &PersonId| people.iter().any(|known| known.person.id == *id);
        if old.as_ref().is_none_or(is_known) {
            let new = self.name_of(new, Known::new(people, anchors), run.newcomer.threshold);
            run.tally.name(old, new);
        }
    }

    /// The person that a single look is taken for.
    fn name_of(&self, look: &Embedding, known: Known<'_>, threshold: f32) -> Option<PersonId> {
        let probe = self.people.transform().probe(look).ok()?;
        let nearest = nearest(&probe, known)?;
        let named = nearest.passes(threshold) && !nearest.is_barred() && nearest.is_no_lookalike();
        named.then(|| known[nearest.index].person.id.clone())
    }
}

impl Run {
    /// `None`: it goes on.
    fn verdict(&mut self) -> Option<Verdict> {
        if self.verdict.is_none() {
            self.verdict = self.judge();
            let Newcomer { name, version, .. } = &self.newcomer;
            match &self.verdict {
                Some(Verdict::Passed(figures)) => {
                    log::info!("model {name} {version} has passed its shadow run: {figures}");
                }
                Some(Verdict::Refused(_, figures)) => {
                    log::warn!("model {name} {version} in its shadow run: {figures}");
                }
                Some(Verdict::Unseen(_)) | None => {}
            }
        }
        self.verdict.clone()
    }

    fn judge(&self) -> Option<Verdict> {
        let memory = || (self.newcomer.before, memory::resident(), memory_limit());
        if let Some(failure) = self.tally.failure() {
            let figures = self.tally.figures(self.watched.time(), memory());
            return Some(Verdict::Refused(failure.to_owned(), figures));
        }
        let (enough, compared) = (self.watched.time() >= self.needed, self.tally.frames() > 0);
        if enough && compared {
            let figures = self.tally.figures(self.watched.time(), memory());
            return Some(match bounds::judge(&figures, memory()) {
                Ok(()) => Verdict::Passed(figures),
                Err(reason) => Verdict::Refused(reason, figures),
            });
        }
        let waited = self.began.elapsed();
        if waited < self.needed.saturating_mul(2) + PATIENCE {
            return None;
        }
        if enough {
            let figures = self.tally.figures(self.watched.time(), memory());
            let reason = format!("it has looked at no frame in {} s", waited.as_secs());
            return Some(Verdict::Refused(reason, figures));
        }
        Some(Verdict::Unseen(waited.as_secs() / 60))
    }
}
