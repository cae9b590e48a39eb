//! The pipeline's end of a camera.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use image::RgbImage;

use super::jpeg::Skipped;
use super::slot::{Captured, Counters, Slot, Taken};
use super::view::View;
use super::{CameraError, Frame};
use crate::system::contain::contained;

/// Pixels decoded a second of the frames' own time. A 4K frame each 90 ms: as often as faces are looked for at all.
/// Of larger frames, or the same at a higher rate, the newest is taken when the time has come.
const PIXELS_PER_SECOND: f64 = 96e6;

/// What [`Feed::next`] came back with.
#[derive(Debug)]
pub enum Next {
    Frame(Frame),
    /// No frame within the timeout.
    Nothing,
    /// The camera is away, for this reason. Told once for each outage; the feed goes on trying, and
    /// frames follow when it is back.
    Lost(String),
    /// The recording is over; a device never ends.
    End,
    /// The recording is over, and not one picture in it could be shown.
    Failed(CameraError),
}

/// A running camera or recording. A thread of its own reads it; the newest frame waits in one place and
/// is decoded only when it is asked for. Dropping the feed stops the thread and closes the device.
pub struct Feed {
    slot: Arc<Slot>,
    thread: Option<JoinHandle<()>>,
    /// When there is time again for a frame, on the frames' time line.
    due: Cell<Duration>,
    view: View,
    /// Where a recording lies.
    recording: Option<PathBuf>,
}

impl Feed {
    /// Starts the capture thread with `run`, which ends when the slot says that the pipeline is gone.
    pub(super) fn start(
        run: impl FnOnce(&Slot) + Send + 'static,
        slot: Arc<Slot>,
    ) -> Result<Self, CameraError> {
        let thread = std::thread::Builder::new()
            .name("camera".to_owned())
            .spawn({
                let slot = slot.clone();
                move || {
                    // However it ends, even by a panic, the pipeline hears of it.
                    let _end = End(&slot);
                    run(&slot);
                }
            })
            .map_err(CameraError::Thread)?;
        let due = Cell::new(Duration::ZERO);
        Ok(Self { slot, thread: Some(thread), due, view: View::default(), recording: None })
    }

    /// Shows every picture as it is to be seen.
    #[must_use]
    pub(super) fn seen_through(mut self, view: View) -> Self {
        self.view = view;
        self
    }

    /// Whether it goes on for ever, may be away and come back: a device or a named pipe, not a recording.
    pub fn is_live(&self) -> bool {
        self.recording.is_none()
    }

    /// It has an end, which may come before a picture could be shown.
    #[must_use]
    pub(super) fn of_recording(mut self, path: &Path) -> Self {
        self.recording = Some(path.to_owned());
        self
    }

    /// Waits at most `timeout` for the next frame. Frames that cannot be decoded are counted and passed
    /// over. May outlast `timeout` by the decoding of one frame (docs/camera.md, "Limits").
    pub fn next(&self, timeout: Duration) -> Next {
        let deadline = Instant::now() + timeout;
        loop {
            let captured = match self.slot.take(deadline) {
                Taken::Captured(captured) => captured,
                Taken::Nothing => return Next::Nothing,
                Taken::Lost(reason) => return Next::Lost(reason),
                Taken::End => return self.end(),
            };
            if captured.media < self.due.get() {
                self.slot.count(|counters| counters.dropped_heavy += 1);
                self.slot.give_back(captured.bytes);
                continue;
            }
            let decoded = contained(|| self.decode(&captured)).unwrap_or_else(|panic| {
                Err(Skipped::Broken(format!("the decoder panicked: {panic}")))
            });
            let shown = match decoded.map(|image| self.view.of(image)) {
                Ok(image) => {
                    self.slot.count(|counters| counters.frames += 1);
                    let Captured { number, time, media, .. } = captured;
                    Some(Frame { number, image, time, media, mask: self.view.mask() })
                }
                Err(skipped) => {
                    skip(&self.slot, captured.number, &skipped);
                    None
                }
            };
            self.slot.give_back(captured.bytes);
            if let Some(frame) = shown {
                return Next::Frame(frame);
            }
            // A source of nothing but broken frames must not hold the pipeline up.
            if Instant::now() >= deadline {
                return Next::Nothing;
            }
        }
    }

    /// Takes the time for it from what follows.
    fn decode(&self, captured: &Captured) -> Result<RgbImage, Skipped> {
        let picture = captured.encoding.read(&captured.bytes)?;
        let seconds = picture.pixels() as f64 / PIXELS_PER_SECOND;
        self.due.set(captured.media + Duration::from_secs_f64(seconds));
        picture.decode()
    }

    fn end(&self) -> Next {
        match &self.recording {
            Some(path) if self.slot.showed_nothing() => Next::Failed(CameraError::Unreadable {
                path: path.clone(),
                skipped: self.counters().skipped(),
                first: self.slot.first_skipped().unwrap_or_default(),
            }),
            _ => Next::End,
        }
    }

    /// Why the first of the frames was skipped that were.
    pub fn first_skipped(&self) -> Option<String> {
        self.slot.first_skipped()
    }

    /// What became of the frames so far.
    pub fn counters(&self) -> Counters {
        self.slot.counters()
    }

    /// What the source gives, in words: what was wished for and what the device offers.
    pub fn format(&self) -> String {
        self.slot.format()
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.slot.close();
        if let Some(thread) = self.thread.take() {
            // A panic of that thread has already been printed, and ended the feed.
            let _ = thread.join();
        }
    }
}

struct End<'a>(&'a Slot);

impl Drop for End<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.lose("its thread panicked".to_owned());
        }
        self.0.end();
    }
}

/// Counts a skipped frame, and says so the first, second, fourth, … time.
pub fn skip(slot: &Slot, number: u64, skipped: &Skipped) {
    let mut times = 0;
    slot.count(|counters| {
        let counter = match skipped {
            Skipped::Broken(_) => &mut counters.skipped_broken,
            Skipped::TooLarge(_) => &mut counters.skipped_too_large,
        };
        *counter += 1;
        times = *counter;
    });
    slot.note_skipped(|| format!("frame {number}: {skipped}"));
    if times.is_power_of_two() {
        log::warn!("frame {number} skipped, {times} of this kind so far: {skipped}");
    } else {
        log::debug!("frame {number} skipped: {skipped}");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::pixels::Encoding;
    use super::*;

    #[test]
    fn endless_broken_frames_do_not_hold_the_pipeline_up() {
        let broken = |slot: &Slot| {
            let frame = || Captured {
                bytes: b"no picture".to_vec(),
                encoding: Encoding::Jpeg,
                number: 0,
                time: jiff::Timestamp::UNIX_EPOCH,
                media: Duration::ZERO,
            };
            while slot.hand_over(frame()) {}
        };
        let feed = Feed::start(broken, Arc::default()).unwrap();
        assert!(matches!(feed.next(Duration::from_millis(50)), Next::Nothing));
        assert!(feed.counters().skipped_broken > 0);
    }

    #[test]
    fn thread_that_panics_is_told_of_and_ends() {
        let feed = Feed::start(|_| panic!("a hole in our own code"), Arc::default()).unwrap();
        let next = || feed.next(Duration::from_mins(1));
        assert!(matches!(next(), Next::Lost(reason) if reason.contains("panicked")));
        assert!(matches!(next(), Next::End));
    }
}
