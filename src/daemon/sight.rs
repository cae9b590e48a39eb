//! The camera as the daemon lives with it: paused, away, back, changed.

use std::time::{Duration, Instant};

use crate::camera::{self, CameraError, Counters, Feed, Frame, Next};
use crate::config::Camera;

/// Longest wait for a frame before the time is looked at again.
const TICK: Duration = Duration::from_millis(500);
/// How often a camera that could not be opened again is tried.
const AGAIN: Duration = Duration::from_secs(5);
/// A camera that neither gives frames nor is known to be away for so long is stuck: its own patience
/// is seconds, and the slowest rate that may be configured is a frame in ten.
const STUCK: Duration = Duration::from_mins(1);

/// What there was to see.
pub enum Seen {
    /// `media` of the frames never goes back, whatever becomes of the camera.
    Frame(Frame),
    /// No frame just now; the time line has come to here, if there was a frame at all.
    Nothing(Option<Duration>),
    /// Paused, or the camera is away: nothing can be said of who is here, and time stands still.
    Blind,
    /// The recording is over.
    End,
    /// It is over, and not one picture in it could be shown.
    Failed(CameraError),
}

/// How the camera is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Watching,
    Paused,
    /// Away, or not to be opened.
    Blind,
}

pub struct Sight {
    camera: Camera,
    feed: Option<Feed>,
    paused: bool,
    /// Told to be away.
    away: bool,
    /// When a camera that is closed and should be open was last tried.
    tried: Option<Instant>,
    /// Added to the time line of the feed, which begins anew with each.
    offset: Duration,
    /// Taken from the time line of the feed: while its camera was away.
    missed: Duration,
    /// The last frame's place on the time line, and when it was there by our own clock.
    last: Option<(Duration, Instant)>,
    /// Last sign of life.
    sign: Instant,
    /// Of feeds that are closed.
    before: Counters,
}

impl Sight {
    /// Opens the camera, unless `paused`.
    pub fn open(camera: Camera, paused: bool) -> Result<Self, CameraError> {
        let feed =
            if paused && camera::is_live(&camera) { None } else { Some(camera::open(&camera)?) };
        Ok(Self {
            camera,
            feed,
            paused,
            away: false,
            tried: None,
            offset: Duration::ZERO,
            missed: Duration::ZERO,
            last: None,
            sign: Instant::now(),
            before: Counters::default(),
        })
    }

    /// Waits a moment for the next frame.
    pub fn next(&mut self) -> Seen {
        if self.paused {
            self.sign = Instant::now();
            std::thread::sleep(TICK / 2);
            return Seen::Blind;
        }
        let Some(feed) = &self.feed else {
            std::thread::sleep(TICK / 2);
            self.sign = Instant::now();
            self.open_again();
            return Seen::Blind;
        };
        match feed.next(TICK) {
            Next::Frame(mut frame) => {
                let here = self.last.map_or(Duration::ZERO, |(media, _)| media);
                if std::mem::take(&mut self.away) {
                    log::info!("the camera is back: {}", feed.format());
                    // Nobody was missed while nobody could be seen.
                    self.missed = (frame.media + self.offset).saturating_sub(here);
                }
                frame.media = (frame.media + self.offset).saturating_sub(self.missed).max(here);
                self.sign = Instant::now();
                self.last = Some((frame.media, self.sign));
                Seen::Frame(frame)
            }
            Next::Lost(reason) => {
                self.away = true;
                log::warn!("the camera is away: {reason}");
                Seen::Blind
            }
            Next::Nothing if self.away => Seen::Blind,
            Next::Nothing => Seen::Nothing(self.now()),
            // A camera gives frames for ever; if its thread has ended, another one is started.
            Next::End if feed.is_live() => {
                log::error!("the camera's thread has ended; opening it again");
                self.close();
                self.hold_time();
                self.tried = Some(Instant::now());
                Seen::Blind
            }
            Next::End => {
                say_end(feed);
                Seen::End
            }
            Next::Failed(error) => Seen::Failed(error),
        }
    }

    /// Stops looking; a camera is closed, so that its light goes out.
    pub fn pause(&mut self) {
        if std::mem::replace(&mut self.paused, true) {
            return;
        }
        self.hold_time();
        if self.feed.as_ref().is_some_and(Feed::is_live) {
            self.close();
        }
    }

    pub fn resume(&mut self) {
        if std::mem::take(&mut self.paused) {
            self.hold_time();
            self.tried = None;
            self.open_again();
        }
    }

    /// Takes another camera, or other wishes of the same; it may be away for now.
    pub fn change(&mut self, camera: Camera) {
        if self.camera == camera {
            return;
        }
        self.hold_time();
        self.close();
        self.camera = camera;
        self.tried = None;
        if !self.paused || !camera::is_live(&self.camera) {
            self.open_again();
        }
    }

    pub fn state(&self) -> State {
        match (self.paused, self.away || self.feed.is_none()) {
            (true, _) => State::Paused,
            (false, true) => State::Blind,
            (false, false) => State::Watching,
        }
    }

    /// Neither frames nor a word that the camera is away: its driver hangs.
    pub fn is_stuck(&self) -> bool {
        self.state() == State::Watching && self.sign.elapsed() > STUCK
    }

    pub fn format(&self) -> Option<String> {
        self.feed.as_ref().map(Feed::format)
    }

    /// Of all feeds so far.
    pub fn counters(&self) -> Counters {
        self.feed.as_ref().map_or(self.before, |feed| self.before + feed.counters())
    }

    /// Where the time line has come to.
    fn now(&self) -> Option<Duration> {
        self.last.map(|(media, seen)| media + seen.elapsed())
    }

    /// Time stands still from the last frame on until the next one comes.
    fn hold_time(&mut self) {
        if let Some((_, seen)) = &mut self.last {
            *seen = Instant::now();
        }
    }

    fn close(&mut self) {
        self.before = self.counters();
        self.feed = None;
        self.away = false;
        // The next feed begins at zero.
        self.offset = self.last.map_or(Duration::ZERO, |(media, _)| media);
        self.missed = Duration::ZERO;
    }

    fn open_again(&mut self) {
        if self.feed.is_some() || self.tried.is_some_and(|tried| tried.elapsed() < AGAIN) {
            return;
        }
        match camera::open(&self.camera) {
            Ok(feed) => {
                log::info!("the camera is open: {}", feed.format());
                self.feed = Some(feed);
                self.tried = None;
            }
            Err(error) if self.tried.is_none() => log::warn!("{error}; trying again"),
            Err(error) => log::debug!("{error}"),
        }
        if self.feed.is_none() {
            self.tried = Some(Instant::now());
        }
    }
}

/// How much of a recording could be shown.
fn say_end(feed: &Feed) {
    let counters = feed.counters();
    match counters.skipped() {
        0 => log::info!("the recording is over"),
        skipped => log::warn!(
            "the recording is over: {skipped} pictures in it could not be shown; the first: {}",
            feed.first_skipped().unwrap_or_default()
        ),
    }
}
