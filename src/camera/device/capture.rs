//! The capture thread of a device: reads buffers, and opens the device again when it stalls or goes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::feed::skip;
use super::super::jpeg::{FRAME_PIXELS, JPEG_BYTES, Skipped};
use super::super::pixels::Encoding;
use super::super::slot::{Captured, Slot};
use super::super::{CameraError, Feed};
use super::negotiate::{Negotiated, negotiate};
use super::retry::{Backoff, Pacer};
use super::{Buffer, Device, Wish};

/// Opens the device anew.
pub type Opener = Box<dyn FnMut() -> Result<Box<dyn Device>, CameraError> + Send>;

/// How long to wait for what.
#[derive(Debug, Clone)]
pub struct Settings {
    pub wish: Wish,
    /// For the first frame after a start; cameras set their exposure before.
    pub first_frame: Duration,
    /// For a frame after that, before the device counts as stalled.
    pub stalled: Duration,
    /// For a frame before looking whether the pipeline is still there.
    pub slice: Duration,
    pub backoff: Backoff,
}

impl Settings {
    pub fn for_rate(wish: Wish) -> Self {
        let frames = |count: f64| Duration::from_secs_f64(count / wish.fps);
        Self {
            wish,
            first_frame: Duration::from_secs(5).max(frames(10.0)),
            stalled: Duration::from_secs(3).max(frames(5.0)),
            slice: Duration::from_millis(200),
            backoff: Backoff::new(Duration::from_millis(500), Duration::from_secs(30)),
        }
    }
}

/// Opens a device now, or says why not; afterwards it is opened again whenever it goes.
pub fn open(path: &Path, opener: Opener, settings: Settings) -> Result<Feed, CameraError> {
    let pacer = Pacer::new(settings.wish.fps);
    let slot = Arc::new(Slot::default());
    let mut capture = Capture {
        path: path.to_owned(),
        opener,
        settings,
        pacer,
        began: Instant::now(),
        number: 0,
        away: false,
    };
    let session = capture.begin()?;
    session.announce(&slot);
    Feed::start(move |slot| capture.run(session, slot), slot)
}

/// A device that streams.
struct Session {
    device: Box<dyn Device>,
    negotiated: Negotiated,
}

impl Session {
    fn announce(&self, slot: &Slot) {
        log::info!("camera {}", self.negotiated.format);
        slot.set_format(self.negotiated.format.clone());
    }
}

/// Why a session is over.
enum Over {
    /// The pipeline is gone.
    Closed,
    Stalled,
    Failed(String),
}

struct Capture {
    path: PathBuf,
    opener: Opener,
    settings: Settings,
    pacer: Pacer,
    /// Zero of the frames' monotonic clock.
    began: Instant,
    number: u64,
    /// The pipeline was told of an outage and has had no frame since.
    away: bool,
}

impl Capture {
    fn begin(&mut self) -> Result<Session, CameraError> {
        contain(|| {
            let mut device = (self.opener)()?;
            let negotiated = negotiate(&self.path, device.as_mut(), self.settings.wish)?;
            device.start(self.settings.first_frame).map_err(|source| CameraError::Device {
                path: self.path.clone(),
                doing: "gives no frames",
                source,
            })?;
            Ok(Session { device, negotiated })
        })
        .unwrap_or_else(|reason| Err(CameraError::NotACamera { path: self.path.clone(), reason }))
    }

    fn run(&mut self, mut session: Session, slot: &Slot) {
        loop {
            let over = contain(|| self.stream(&mut session, slot)).unwrap_or_else(Over::Failed);
            drop(session); // a device can be opened again only after it was closed
            let reason = match over {
                Over::Closed => return,
                Over::Stalled => {
                    slot.count(|counters| counters.timeouts += 1);
                    let path = self.path.display();
                    format!("camera {path}: no frame for {:?}", self.settings.stalled)
                }
                Over::Failed(reason) => reason,
            };
            log::warn!("{reason}; opening it again");
            let Some(again) = self.recover(reason, slot) else { return };
            slot.count(|counters| counters.reopened += 1);
            again.announce(slot);
            session = again;
        }
    }

    /// Tries until the device streams again: at once, then with growing waits; `None` when the pipeline
    /// is gone. It hears of the outage only if the first attempt fails.
    fn recover(&mut self, reason: String, slot: &Slot) -> Option<Session> {
        let mut reason = Some(reason);
        // A device that always dies before its first frame must not be opened in a tight loop.
        if self.away && !slot.sleep_until(Instant::now() + self.settings.backoff.next()) {
            return None;
        }
        loop {
            if !slot.is_open() {
                return None;
            }
            match self.begin() {
                Ok(session) => return Some(session),
                Err(error) => log::debug!("{error}"),
            }
            if let Some(reason) = reason.take().filter(|_| !self.away) {
                slot.lose(reason);
                self.away = true;
            }
            if !slot.sleep_until(Instant::now() + self.settings.backoff.next()) {
                return None;
            }
        }
    }

    /// Reads frames until something ends it.
    fn stream(&mut self, session: &mut Session, slot: &Slot) -> Over {
        let mut last = Instant::now();
        loop {
            if !slot.is_open() {
                return Over::Closed;
            }
            let buffer = match session.device.dequeue(self.settings.slice) {
                Ok(Some(buffer)) => buffer,
                Ok(None) if last.elapsed() < self.settings.stalled => continue,
                Ok(None) => return Over::Stalled,
                Err(error) => {
                    return Over::Failed(format!("camera {}: {error}", self.path.display()));
                }
            };
            last = Instant::now();
            let number = self.number;
            self.number += 1;
            let media = last.duration_since(self.began);
            let encoding = session.negotiated.encoding;
            match contents(&buffer, &encoding) {
                Err(skipped) => skip(slot, number, &skipped),
                Ok(_) if !self.pacer.admit(media) => {
                    slot.count(|counters| counters.dropped_surplus += 1);
                }
                Ok(contents) => {
                    self.away = false;
                    self.settings.backoff.reset();
                    // Copied at once, so that the driver has its buffer back for the next frame.
                    let mut bytes = slot.spare();
                    bytes.clear();
                    bytes.extend_from_slice(contents);
                    let time = jiff::Timestamp::now();
                    slot.offer(Captured { bytes, encoding, number, time, media });
                }
            }
        }
    }
}

/// The bytes of this frame, and none that an older one left behind.
fn contents<'a>(buffer: &Buffer<'a>, encoding: &Encoding) -> Result<&'a [u8], Skipped> {
    if buffer.damaged {
        return Err(Skipped::Broken("the driver says that data were lost".to_owned()));
    }
    let most = match encoding {
        Encoding::Jpeg => JPEG_BYTES,
        Encoding::Raw(_) => FRAME_PIXELS * 4,
    };
    match buffer.bytes.get(..buffer.used) {
        None => Err(Skipped::Broken("more bytes than its buffer has".to_owned())),
        Some([]) => Err(Skipped::Broken("empty".to_owned())),
        Some(bytes) if bytes.len() > most => {
            Err(Skipped::TooLarge(format!("{} bytes", bytes.len())))
        }
        Some(bytes) => Ok(bytes),
    }
}

/// Runs `f` and makes a panic of it a reason: the v4l crate panics on answers it does not know. What `f`
/// changed is used on only where it is valid after any step: counters, and devices that are closed next.
fn contain<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panic");
        format!("the driver gave an answer that cannot be read: {text}")
    })
}
