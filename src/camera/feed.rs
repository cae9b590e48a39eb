//! The pipeline's end of a camera.

use std::cell::Cell;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::jpeg::Skipped;
use super::slot::{Captured, Counters, Slot, Taken};
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
}

/// A running camera or recording. A thread of its own reads it; the newest frame waits in one place and
/// is decoded only when it is asked for. Dropping the feed stops the thread and closes the device.
pub struct Feed {
    slot: Arc<Slot>,
    thread: Option<JoinHandle<()>>,
    /// When there is time again for a frame, on the frames' time line.
    due: Cell<Duration>,
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
        Ok(Self { slot, thread: Some(thread), due: Cell::new(Duration::ZERO) })
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
                Taken::End => return Next::End,
            };
            if !self.has_time_for(&captured) {
                self.slot.count(|counters| counters.dropped_heavy += 1);
                self.slot.give_back(captured.bytes);
                continue;
            }
            let decoded =
                contained(|| captured.encoding.decode(&captured.bytes)).unwrap_or_else(|panic| {
                    Err(Skipped::Broken(format!("the decoder panicked: {panic}")))
                });
            self.slot.give_back(captured.bytes);
            match decoded {
                Ok(image) => {
                    self.slot.count(|counters| counters.frames += 1);
                    return Next::Frame(Frame {
                        number: captured.number,
                        image,
                        time: captured.time,
                        media: captured.media,
                    });
                }
                Err(skipped) => skip(&self.slot, captured.number, &skipped),
            }
            // A source of nothing but broken frames must not hold the pipeline up.
            if Instant::now() >= deadline {
                return Next::Nothing;
            }
        }
    }

    /// Whether what was decoded before leaves time for this frame; if so, its own is taken from what follows.
    fn has_time_for(&self, captured: &Captured) -> bool {
        if captured.media < self.due.get() {
            return false;
        }
        let pixels = contained(|| captured.encoding.pixels(&captured.bytes)).unwrap_or(0) as f64;
        self.due.set(captured.media + Duration::from_secs_f64(pixels / PIXELS_PER_SECOND));
        true
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
    if times.is_power_of_two() {
        log::warn!("frame {number} skipped, {times} of this kind so far: {skipped}");
    } else {
        log::debug!("frame {number} skipped: {skipped}");
    }
}
