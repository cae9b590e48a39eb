//! `familiar run`: joins the parts along the path of the data.
//!
//! Boot: configuration → trust anchors → bundle → self-test → gallery, keys, outbox → camera →
//! ready. Nothing is asked of the camera before the models are verified and have passed their
//! self-test.

mod people;
mod teller;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::camera::{self, CameraError, Feed, Next};
use crate::config::{LivenessMode, Located};
use crate::event::{Context, DeviceKey, KeyError, Ledger, LedgerError};
use crate::model::{AnchorError, BundleError, Engine, EngineError, TrustAnchors, VerifiedBundle};
use crate::mqtt::publisher::{Publisher, StartError};
use crate::mqtt::{Broker, BrokerError, Ears};
use crate::recognition::gallery::{Gallery, GalleryError};
use crate::recognition::{Decision, LookThresholds, Settings, ThresholdError, Watch};
use crate::system::state::{StateDirectory, StateError};
use crate::system::{memory, notify, stop::Stop};
use people::People;
use teller::Teller;

/// Longest wait for a frame before the time is looked at again.
const TICK: Duration = Duration::from_millis(500);
/// Contract §1: a recording that has ended waits so long for the broker.
const FLUSH_AT_END: Duration = Duration::from_secs(10);
/// A daemon that is told to stop waits less; the outbox keeps what is left.
const FLUSH_AT_STOP: Duration = Duration::from_secs(3);
/// Looks for which thresholds are asked; more than the configuration allows to demand.
const MOST_LOOKS: usize = 16;

/// Why the daemon did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    #[error(transparent)]
    Anchors(#[from] AnchorError),
    #[error(transparent)]
    Bundle(#[from] BundleError),
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
    Key(#[from] KeyError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    Publisher(#[from] StartError),
    #[error(transparent)]
    Camera(#[from] CameraError),
    #[error("cannot watch for signals: {0}")]
    Signals(std::io::Error),
    #[error("cannot write events to stdout: {0}")]
    Stdout(std::io::Error),
}

/// Runs until the recording ends or a signal asks to stop. With `stdout`, every event is printed too.
pub fn run(located: &Located, stdout: bool) -> Result<(), DaemonError> {
    let began = Instant::now();
    let config = &located.config;
    let stop = Stop::on_signals().map_err(DaemonError::Signals)?;
    // What costs nothing to check comes first, what needs no model before the models.
    let state = StateDirectory::open()?;
    let broker = config.mqtt.as_ref().map(|mqtt| Broker::new(mqtt, &state)).transpose()?;

    let engine = start_engine(&config.models.bundle, &located.directory().join("trust.d"))?;
    decide_liveness(config.liveness.mode, engine.has_liveness())?;
    let mut watch = Watch::new(settings(located, &engine)?);

    let key = Arc::new(DeviceKey::open_or_create(&state)?);
    let context =
        Context::new(config.device.clone(), &config.camera.source, Some(engine.identity().clone()));
    let ledger = Ledger::open(&state, key.clone(), context, (&config.outbox).into())?;
    let mut people = People::open(Gallery::open(&state)?, &engine, &ledger)?;

    let feed = camera::open(&config.camera)?;
    let identity = key.identity(&config.device).map_err(LedgerError::from)?;
    let publisher = broker
        .map(|broker| Publisher::start(broker, &config.device, identity, Ears::default(), &state))
        .transpose()?;
    let mut teller = Teller::new(ledger, publisher, stdout);

    say_ready(located, &engine, &people, &feed, began);
    let ended = observe(&feed, &mut watch, &engine, &mut people, &mut teller, &stop);

    notify::stopping();
    log::debug!("{:?} {:?}", feed.counters(), watch.counters());
    drop(feed);
    teller.finish(if stop.requested() { FLUSH_AT_STOP } else { FLUSH_AT_END });
    ended
}

/// The verified, loaded and self-tested models.
fn start_engine(bundle: &Path, trust: &Path) -> Result<Engine, DaemonError> {
    let anchors = TrustAnchors::load(trust)?;
    let verified = VerifiedBundle::open(bundle, &anchors)?;
    Engine::start(verified)
        .map_err(|source| DaemonError::Engine { bundle: bundle.to_owned(), source })
}

/// This version carries the liveness networks and does not decide by them; whoever demands that it
/// does must not be left to believe it.
fn decide_liveness(mode: LivenessMode, carried: bool) -> Result<(), DaemonError> {
    match (mode, carried) {
        (LivenessMode::Off, _) => {}
        (LivenessMode::Enforce, false) => {
            return Err(DaemonError::Liveness("the model bundle has no liveness model"));
        }
        (LivenessMode::Enforce, true) => {
            return Err(DaemonError::Liveness(
                "this version cannot decide liveness yet; a photograph would be taken for its person",
            ));
        }
        (LivenessMode::Auto | LivenessMode::Report, _) => log::warn!(
            "liveness is off: {}; a photograph held before the camera is taken for its person",
            if carried {
                "this version does not decide by the bundle's liveness models yet"
            } else {
                "the model bundle has no liveness model"
            }
        ),
    }
    Ok(())
}

fn settings(located: &Located, engine: &Engine) -> Result<Settings, DaemonError> {
    let config = &located.config;
    let rate = config.recognition.false_match_rate;
    let thresholds = LookThresholds::ask(MOST_LOOKS, |looks| engine.threshold(rate, looks))?
        .ok_or(DaemonError::NoThreshold)?;
    Ok(Settings::new(&config.recognition, &config.events, thresholds))
}

fn say_ready(located: &Located, engine: &Engine, people: &People, feed: &Feed, began: Instant) {
    let model = engine.identity();
    log::info!(
        device = located.config.device.as_str(),
        model = model.name.as_str(),
        model_version = model.version.as_str(),
        model_digest = model.digest.as_str(),
        people = people.candidates().len();
        "ready after {:.2} s: model {} {} ({}) verified and self-tested, {} enrolled, {}, peak memory {} MiB",
        began.elapsed().as_secs_f64(),
        model.name,
        model.version,
        model.digest,
        people.candidates().len(),
        feed.format(),
        memory::peak().map_or_else(|| "?".to_owned(), |bytes| (bytes >> 20).to_string()),
    );
    notify::ready(&format!("Watching; {} enrolled", people.candidates().len()));
}

/// Frames in, decisions out, until the end.
fn observe(
    feed: &Feed,
    watch: &mut Watch,
    engine: &Engine,
    people: &mut People,
    teller: &mut Teller,
    stop: &Stop,
) -> Result<(), DaemonError> {
    // The last frame's place on the source's time line, and when it was there by our own clock.
    let mut last: Option<(Duration, Instant)> = None;
    let mut away = false;
    while !stop.requested() {
        people.refresh();
        let decisions = match feed.next(TICK) {
            Next::Frame(frame) => {
                if std::mem::take(&mut away) {
                    log::info!("the camera is back: {}", feed.format());
                }
                last = Some((frame.media, Instant::now()));
                watch.observe(&frame, engine, people.candidates())
            }
            Next::Lost(reason) => {
                away = true;
                log::warn!("the camera is away: {reason}");
                quiet(watch, last, people)
            }
            Next::Nothing => quiet(watch, last, people),
            Next::End => {
                log::info!("the recording is over");
                break;
            }
        };
        teller.tell(decisions)?;
    }
    Ok(())
}

/// No frame came; those who were present may have departed all the same.
fn quiet(watch: &mut Watch, last: Option<(Duration, Instant)>, people: &People) -> Vec<Decision> {
    match last {
        Some((media, seen)) => {
            watch.quiet(media + seen.elapsed(), jiff::Timestamp::now(), people.candidates())
        }
        None => Vec::new(),
    }
}
