//! `familiar run`: joins the parts along the path of the data.
//!
//! Boot: configuration → trust anchors → bundle → self-test → gallery, keys, outbox → camera →
//! ready. Nothing is asked of the camera before the models are verified and have passed their
//! self-test.

mod attempts;
mod erase;
pub mod former;
mod health;
mod latency;
mod limits;
pub mod models;
mod orders;
mod people;
mod polling;
pub mod presence;
mod rate;
mod reload;
mod report;
mod shadow;
mod sight;
mod switch;
mod teller;
mod timetable;
mod trial;
pub mod updater;
mod voice;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::camera::CameraError;
use crate::command::{CommandError, Gate};
use crate::config::{ConfigError, Located};
use crate::event::{self, Context, DeviceKey, LedgerError, RotateError, store};
use crate::model::slots::{BootError, Outcome, Slots, SlotsError};
use crate::model::{AnchorError, BundleError, Engine, EngineError};
use crate::mqtt::discovery::Discovery;
use crate::mqtt::publisher::{Publisher, StartError};
use crate::mqtt::topics::Topics;
use crate::mqtt::{Broker, BrokerError, Ears};
use crate::recognition::gallery::{Gallery, GalleryError};
use crate::recognition::{Decision, ThresholdError, Watch};
use crate::system::landlock::{self, Enforcement, Layer};
use crate::system::lock::{DaemonLock, LockError};
use crate::system::signals::Signals;
use crate::system::state::{StateDirectory, StateError};
use crate::system::{memory, notify};
use former::Cleaner;
use health::Schedule;
use latency::{Latency, Timed};
use limits::EventLimits;
use models::{ModelState, Running};
use people::People;
use polling::Polling;
use presence::Register;
use rate::Rate;
use sight::{Seen, Sight};
use teller::Teller;
use trial::Trial;
use voice::Voice;

/// Contract §1: a recording that has ended waits so long for the broker.
const FLUSH_AT_END: Duration = Duration::from_secs(10);
/// A daemon that is told to stop waits less; the outbox keeps what is left.
const FLUSH_AT_STOP: Duration = Duration::from_secs(3);
/// File in the state directory whose presence means: paused. A pause outlasts a power cut.
const PAUSED: &str = "paused";

/// Frames in a row that make the program panic, before it ends for the service manager to start it anew.
const PANICS: u32 = 10;

/// Why the daemon did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    #[error(transparent)]
    Configuration(#[from] ConfigError),
    #[error("`device` was {before} and is now {after}: that takes a restart")]
    Renamed { before: String, after: String },
    #[error(
        "the daemon has given up {0}, which the configuration now asks for: that takes a restart"
    )]
    Confined(String),
    #[error(transparent)]
    Anchors(#[from] AnchorError),
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Swapped(BootError),
    #[error(transparent)]
    Slots(#[from] SlotsError),
    #[error("model bundle {}: {source}", .bundle.display())]
    Engine { bundle: PathBuf, source: EngineError },
    #[error("[recognition] {0}; choose a larger false_match_rate")]
    Threshold(#[from] ThresholdError),
    #[error("[recognition] the bundle's calibration gives no threshold within -1 to 1")]
    NoThreshold,
    #[error("[liveness] mode = \"enforce\": {0}")]
    Liveness(&'static str),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Gallery(#[from] GalleryError),
    #[error(transparent)]
    Key(#[from] RotateError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    Publisher(#[from] StartError),
    #[error(transparent)]
    Command(#[from] CommandError),
    #[error(transparent)]
    Camera(#[from] CameraError),
    /// Something is wrong that no further frame mends; a fresh start may.
    #[error("{0} frames in a row made the program panic; see above")]
    Panics(u32),
    #[error("cannot watch for signals: {0}")]
    Signals(std::io::Error),
    #[error("cannot write events to stdout: {0}")]
    Stdout(std::io::Error),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error("{count} events could not be kept and are lost: {why}")]
    NotKept { count: u64, why: String },
}

/// Runs until the recording ends or a signal asks to stop. With `stdout`, every event is printed too.
pub fn run(located: Located, stdout: bool) -> Result<(), DaemonError> {
    let state = StateDirectory::open()?;
    // Held until the last word is said.
    let _lock = DaemonLock::take(&state)?;
    let mut daemon = Daemon::start(located, state, stdout)?;
    let ended = daemon.live();
    if ended.is_ok() {
        daemon.polling.stop(&daemon.state);
        daemon.end_trial();
    }
    let kept = daemon.finish();
    ended.and(kept)
}

struct Daemon {
    located: Located,
    state: StateDirectory,
    signals: Signals,
    watchdog: notify::Watchdog,
    began: Instant,

    engine: Arc<Engine>,
    models: ModelState,
    /// `None`: the bundle that runs need not prove itself.
    trial: Option<Trial>,
    /// The last change of models.
    update: Option<Outcome>,
    polling: Polling,
    latency: Latency,
    sight: Sight,
    watch: Watch,
    people: People,
    limits: EventLimits,

    key: Arc<DeviceKey>,
    teller: Teller,
    /// `None` without `[mqtt]`.
    voice: Option<Voice>,
    /// Who may command; there is one where there is a voice.
    gate: Option<Gate>,
    /// When Home Assistant last said that it has started.
    birth: Option<Instant>,
    register: Register,
    schedule: Schedule,
    /// Of frames decoded.
    frames: Rate,
    /// The publisher's beat when the watchdog was last fed.
    beat: u64,
    /// What this process has given up; a configuration that asks for more takes a restart.
    layer: Layer,
    /// What was wrong with the configuration at the last reload.
    misconfigured: Option<String>,
}

impl Daemon {
    fn start(located: Located, state: StateDirectory, stdout: bool) -> Result<Self, DaemonError> {
        let began = Instant::now();
        let config = &located.config;
        // Before any thread is there, and before a byte of a model, a picture or a message is looked at.
        let layer = landlock::confine(&located, &state);
        let signals = Signals::watch().map_err(DaemonError::Signals)?;
        // What costs nothing to check comes first, what needs no model before the models.
        let broker = config.mqtt.as_ref().map(|mqtt| Broker::new(mqtt, &state)).transpose()?;

        let running = models::start(&located, &state)?;
        // Told only now: who is refused reads one line, the reason.
        match layer.state {
            Enforcement::None => log::warn!("Landlock confines {}", layer.state),
            _ => log::info!("Landlock confines {}", layer.state),
        }
        let on_trial = running.on_trial.then(|| running.engine.identity().digest.clone());
        Self::begin(located, state.clone(), (signals, layer), broker, running, (began, stdout))
            .inspect_err(|_| {
                // It was not the models that failed.
                if let Some(digest) = on_trial
                    && let Err(error) = Slots::open(&state).and_then(|mut s| s.stopped(&digest))
                {
                    log::error!("{error}");
                }
            })
    }

    /// With models that are ready.
    fn begin(
        located: Located,
        state: StateDirectory,
        (signals, layer): (Signals, Layer),
        broker: Option<Broker>,
        running: Running,
        (began, stdout): (Instant, bool),
    ) -> Result<Self, DaemonError> {
        let config = &located.config;
        let Running { engine, settings, state: models, on_trial, last } = running;
        let watch = Watch::new(settings);
        let trial = on_trial.then(|| Trial::new(config.models.trial.get(), watch.counters()));

        let context = Context::new(
            config.device.clone(),
            &config.camera.source,
            Some(engine.identity().clone()),
        );
        if state.file(store::NAME).exists() {
            store::verify(&state).map_err(LedgerError::from)?;
        }
        let (key, ledger) = event::open(&state, context, (&config.outbox).into())?;
        let space = engine.space().mapped_if(config.models.mapping);
        let people = People::open(Gallery::open(&state)?, space, &ledger)?;

        let gate = config.mqtt.as_ref().map(|_| Gate::open(&located, &state)).transpose()?;
        let sight = Sight::open(config.camera.clone(), state.file(PAUSED).exists())?;
        let voice = broker.map(|broker| speak(&located, broker, &key, &state)).transpose()?;
        let mut register = Register::open(&state, config.events.departed_after.get());
        register.owe(voice.iter().flat_map(Voice::owed));
        let interval = config.update.as_ref().map_or(Duration::MAX, |update| update.interval.get());
        let polling = Polling::new(&state, interval);
        let daemon = Self {
            signals,
            watchdog: notify::Watchdog::new(),
            began,
            engine: Arc::new(engine),
            models,
            trial,
            update: last,
            polling,
            latency: Latency::default(),
            watch,
            people,
            limits: EventLimits::new(&config.events),
            teller: Teller::new(ledger, stdout),
            register,
            schedule: Schedule::new(),
            frames: Rate::default(),
            beat: 0,
            layer,
            misconfigured: None,
            birth: None,
            key,
            voice,
            gate,
            sight,
            state,
            located,
        };
        daemon.say_ready();
        Ok(daemon)
    }

    fn say_ready(&self) {
        let model = self.engine.identity();
        let people = self.people.candidates().len();
        log::info!(
            device = self.located.config.device.as_str(),
            model = model.name.as_str(),
            model_version = model.version.as_str(),
            model_digest = model.digest.as_str(),
            people = people;
            "ready after {:.2} s: model {} {} ({}) verified and self-tested, {people} enrolled, {}, peak memory {} MiB",
            self.began.elapsed().as_secs_f64(),
            model.name,
            model.version,
            model.digest,
            self.sight.format().unwrap_or_else(|| "paused".to_owned()),
            memory::peak().map_or_else(|| "?".to_owned(), |bytes| (bytes >> 20).to_string()),
        );
        notify::ready(&self.in_words());
    }

    /// Frames in, decisions out, until the end.
    fn live(&mut self) -> Result<(), DaemonError> {
        while !self.signals.stop_requested() {
            self.feed_watchdog();
            // Before a reload: what came in is in the old publisher's hands.
            self.obey();
            if self.signals.take_reload() {
                self.reload()?;
            }
            self.tend_people();
            self.tend_updates()?;
            if let Some(voice) = &mut self.voice {
                voice.tend_former();
            }
            let seen = self.sight.next();
            let frame_seen = matches!(seen, Seen::Frame(_));
            let (decisions, media) = match seen {
                Seen::Frame(frame) => {
                    let eyes = Timed {
                        engine: &self.engine,
                        latency: &self.latency,
                        transform: self.people.transform(),
                    };
                    let decisions = self.watch.observe(&frame, &eyes, self.people.candidates());
                    let media = frame.media;
                    self.show_to_shadow(frame);
                    (decisions, Some(media))
                }
                // Those who were present may have departed all the same.
                Seen::Nothing(Some(media)) => {
                    let now = jiff::Timestamp::now();
                    (self.watch.quiet(media, now, self.people.candidates()), Some(media))
                }
                Seen::Nothing(None) => (Vec::new(), None),
                Seen::Blind => {
                    self.watch.interrupt();
                    (Vec::new(), None)
                }
                Seen::End => break,
                Seen::Failed(error) => return Err(error.into()),
            };
            let decisions = self.people.without_the_forgotten(decisions);
            self.tell(decisions, media)?;
            self.tend_trial(frame_seen)?;
            self.report(media);
            if self.watch.panics_in_a_row() >= PANICS {
                return Err(DaemonError::Panics(PANICS));
            }
        }
        Ok(())
    }

    fn tell(
        &mut self,
        decisions: Vec<Decision>,
        media: Option<Duration>,
    ) -> Result<(), DaemonError> {
        let admitted = match media {
            Some(media) => self.limits.admit(decisions, media),
            None => decisions,
        };
        let mut recorded = self.teller.tell(admitted)?;
        if self.teller.is_rotated() {
            match self.take_new_key() {
                Ok(()) => recorded |= self.teller.tell(Vec::new())?,
                Err(error) => self.teller.fail(&error),
            }
        }
        if recorded {
            self.wake_publisher();
        }
        Ok(())
    }

    /// Something was recorded.
    fn wake_publisher(&self) {
        if let Some(voice) = &self.voice {
            voice.publisher().notify();
        }
    }

    /// Only while frames come, or are known not to come, and the publisher is neither stuck nor dead.
    fn feed_watchdog(&mut self) {
        let beat = self.voice.as_ref().map(|voice| voice.publisher().beat());
        let alive = !self.sight.is_stuck() && beat.is_none_or(|beat| beat != self.beat);
        let mut fed = false;
        self.watchdog.feed(|| {
            fed = alive;
            alive
        });
        if fed {
            self.beat = beat.unwrap_or_default();
        }
    }

    /// Says the last things: states, then `offline`. An error where a decision did not become a durable event.
    fn finish(mut self) -> Result<(), DaemonError> {
        notify::stopping();
        log::debug!("{:?} {:?}", self.sight.counters(), self.watch.counters());
        let within = if self.signals.stop_requested() { FLUSH_AT_STOP } else { FLUSH_AT_END };
        // Takes a new key first, if there is one.
        if let Err(error) = self.tell(Vec::new(), None) {
            log::error!("{error}");
        }
        let kept = self.teller.finish();
        self.schedule.want();
        self.report(None);
        // The camera's light goes out before the broker is waited for.
        drop(self.sight);
        let Some(voice) = self.voice else { return kept };
        match voice.publisher().flush(within) {
            Ok(true) => {}
            Ok(false) => log::warn!(
                "the broker has not taken all events ({}); the outbox keeps them for the next start",
                voice.publisher().status().trouble.as_deref().unwrap_or("it is slow")
            ),
            Err(error) => log::error!("{error}"),
        }
        voice.stop();
        kept
    }
}

/// Begins the conversation with the broker.
fn speak(
    located: &Located,
    broker: Broker,
    key: &Arc<DeviceKey>,
    state: &StateDirectory,
) -> Result<Voice, DaemonError> {
    let device = located.config.device.clone();
    let topics = Topics::new(broker.prefix(), &device);
    let identity = key.identity(&device).map_err(LedgerError::from)?;
    let prefix = discovery_prefix(located);
    former::begin_record(state, &broker, &topics, prefix).map_err(StartError::from)?;
    let discovery = prefix.map(|prefix| Discovery::topic_of(prefix, &topics));
    let cleaner = Cleaner::new(state, &broker, &topics, discovery);
    let ears = Ears::of(&located.config);
    let publisher = Publisher::start(broker, &device, identity, ears, state)?;
    Ok(Voice::new(publisher, key.clone(), topics, cleaner))
}

/// `None` where discovery is off.
fn discovery_prefix(located: &Located) -> Option<&str> {
    let mqtt = located.config.mqtt.as_ref()?;
    Some(mqtt.discovery_prefix.as_str()).filter(|prefix| !prefix.is_empty())
}
