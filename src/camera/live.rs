//! A live camera by way of a named pipe, into which another program (ffmpeg) writes JPEG after JPEG. It differs from a
//! recording as a camera does: the newest frame counts, and whoever writes may go away and come back.

use std::cell::Cell;
use std::fs::{File, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::device::Pacer;
use super::feed::skip;
use super::jpeg::Skipped;
use super::mjpeg::{Piece, Splitter};
use super::pixels::Encoding;
use super::slot::{Captured, Slot};
use super::{CameraError, Feed};

/// For a frame, before the camera counts as away; longer at slow rates.
const STALLED: Duration = Duration::from_secs(3);
/// Between two looks whether bytes have come: less than a frame lasts.
const SLICE: Duration = Duration::from_millis(20);

/// Whether frames come through this path as from a camera.
pub fn is_pipe(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    std::fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo())
}

/// Opens a named pipe and reads it until the feed is dropped.
pub fn open(path: &Path, fps: f64) -> Result<Feed, CameraError> {
    // What cannot be read is reported here, not by the thread.
    let pipe =
        open_pipe(path).map_err(|source| CameraError::Replay { path: path.to_owned(), source })?;
    let slot = Arc::new(Slot::default());
    slot.set_format(format!(
        "live JPEGs from the named pipe {}, at most {fps} a second",
        path.display()
    ));
    let stalled = STALLED.max(Duration::from_secs_f64(5.0 / fps));
    start(pipe, path, fps, stalled, slot)
}

/// Reads an open pipe in a thread; no picture for `stalled` is an outage.
fn start(
    pipe: File,
    path: &Path,
    fps: f64,
    stalled: Duration,
    slot: Arc<Slot>,
) -> Result<Feed, CameraError> {
    let path = path.to_owned();
    Feed::start(move |slot| run(Pipe::new(slot, path, stalled, pipe), fps, slot), slot)
}

fn run(pipe: Pipe<'_>, fps: f64, slot: &Slot) {
    let began = Instant::now();
    let mut pacer = Pacer::new(fps);
    let picture = pipe.picture.clone();
    let mut splitter = Splitter::new(pipe);
    let mut number = 0;
    while let Ok(Some(piece)) = splitter.next_piece() {
        let media = began.elapsed();
        if matches!(piece, Piece::Jpeg(_)) {
            picture.set(Instant::now());
        }
        match piece {
            Piece::Broken => skip(slot, number, &Skipped::Broken("truncated".to_owned())),
            Piece::TooLarge => skip(slot, number, &super::replay::too_large()),
            Piece::Jpeg(_) if !pacer.admit(media) => {
                slot.count(|counters| counters.dropped_surplus += 1);
            }
            Piece::Jpeg(bytes) => {
                let time = jiff::Timestamp::now();
                let encoding = Encoding::Jpeg;
                if !slot.offer(Captured { bytes, encoding, number, time, media }) {
                    return;
                }
            }
        }
        number += 1;
    }
}

/// Opens without waiting for a writer, and alone: of two readers each would have a part of every frame.
fn open_pipe(path: &Path) -> io::Result<File> {
    let pipe = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    match pipe.try_lock() {
        Ok(()) => Ok(pipe),
        Err(TryLockError::WouldBlock) => {
            let reason = "another program reads this pipe; is the daemon running?";
            Err(io::Error::new(io::ErrorKind::ResourceBusy, reason))
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// The pipe's bytes, whoever writes them. Its end comes only when the pipeline is gone.
struct Pipe<'a> {
    slot: &'a Slot,
    path: PathBuf,
    stalled: Duration,
    /// `None`: to be opened again.
    open: Option<File>,
    /// When a picture last came. Bytes alone are none: a program may write something else than JPEGs.
    picture: Rc<Cell<Instant>>,
    /// Since when the pipeline knows that none comes.
    away: Option<Instant>,
}

impl Read for Pipe<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.slot.is_open() {
            let read = self.read_some(into);
            let last = self.picture.get();
            self.away = self.away.filter(|since| last <= *since);
            if self.away.is_none() && last.elapsed() >= self.stalled {
                self.away = Some(Instant::now());
                let path = self.path.display();
                self.slot.lose(format!(
                    "replay {path}: no picture came through this pipe for {} s; is the program that writes JPEGs into it running?",
                    self.stalled.as_secs()
                ));
            }
            if let Some(length) = read {
                return Ok(length);
            }
        }
        Ok(0)
    }
}

impl<'a> Pipe<'a> {
    fn new(slot: &'a Slot, path: PathBuf, stalled: Duration, pipe: File) -> Self {
        let picture = Rc::new(Cell::new(Instant::now()));
        Self { slot, path, stalled, open: Some(pipe), picture, away: None }
    }

    /// Waits a moment for bytes.
    fn read_some(&mut self, into: &mut [u8]) -> Option<usize> {
        let pause = || self.slot.sleep_until(Instant::now() + SLICE);
        let pipe = match &mut self.open {
            Some(pipe) => pipe,
            // It may have been made anew, by its name.
            closed => {
                let Ok(pipe) = open_pipe(&self.path) else {
                    pause();
                    return None;
                };
                closed.insert(pipe)
            }
        };
        match pipe.read(into) {
            Ok(length) if length > 0 => return Some(length),
            // Nobody writes. The pipe that somebody will write may be another by now.
            Ok(_) if self.away.is_some() && !is_at(pipe, &self.path) => self.open = None,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.open = None,
        }
        pause();
        None
    }
}

/// Whether a path still leads to an open file.
fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(open), Ok(named)) = (file.metadata(), std::fs::metadata(path)) else { return false };
    (open.dev(), open.ino()) == (named.dev(), named.ino())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use std::io::Write as _;

    use super::super::Next;
    use super::super::testing::{is_near, jpeg, shade};
    use super::*;

    const LONG: Duration = Duration::from_mins(1);
    /// So many frames a second that none is surplus.
    const RATE: f64 = 1e6;

    fn named_pipe() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("porch.mjpeg");
        make_pipe(&path);
        (folder, path)
    }

    fn make_pipe(path: &Path) {
        let (mode, kind) = (rustix::fs::Mode::from_raw_mode(0o600), rustix::fs::FileType::Fifo);
        rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, 0).unwrap();
    }

    /// As [`open`], but silence is an outage after `stalled`.
    fn impatient(path: &Path, stalled: Duration) -> Feed {
        let pipe = open_pipe(path).unwrap();
        start(pipe, path, RATE, stalled, Arc::default()).unwrap()
    }

    /// The next frame; outages on the way are passed over.
    fn frame_of(feed: &Feed) -> u8 {
        loop {
            match feed.next(LONG) {
                Next::Frame(frame) => return shade(&frame.image),
                Next::Lost(_) | Next::Nothing => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Holds CAM-14.
    #[test]
    fn frame_is_shown_before_the_next_one_comes() {
        let (_folder, path) = named_pipe();
        assert!(is_pipe(&path));
        let feed =
            super::super::replay::open(&path, RATE, false, crate::config::Speed::Pace).unwrap();
        let mut writer = File::options().write(true).open(&path).unwrap();
        for wanted in [10, 90, 170] {
            writer.write_all(&jpeg(wanted)).unwrap();
            assert!(is_near(frame_of(&feed), wanted));
        }
        assert!(feed.format().contains("named pipe"), "{}", feed.format());
    }

    /// Holds CAM-14.
    #[test]
    fn writer_that_goes_and_comes_back_is_followed() {
        let (_folder, path) = named_pipe();
        let feed = open(&path, RATE).unwrap();
        for wanted in [10, 90] {
            // The second begins in the middle of a frame, as one does that was interrupted.
            let mut writer = File::options().write(true).open(&path).unwrap();
            writer.write_all(&jpeg(200)[40..]).unwrap();
            writer.write_all(&jpeg(wanted)).unwrap();
            drop(writer);
            assert!(is_near(frame_of(&feed), wanted));
        }
    }

    /// Holds CAM-14.
    #[test]
    fn pipe_without_a_writer_is_an_outage_reported_once() {
        let (_folder, path) = named_pipe();
        let feed = impatient(&path, Duration::ZERO);
        let Next::Lost(reason) = feed.next(LONG) else { panic!() };
        assert!(reason.contains("porch.mjpeg") && reason.contains("running?"), "{reason}");
        assert!(matches!(feed.next(SLICE * 10), Next::Nothing));
        let mut writer = File::options().write(true).open(&path).unwrap();
        writer.write_all(&jpeg(60)).unwrap();
        assert!(is_near(frame_of(&feed), 60));
    }

    /// Holds CAM-14.
    #[test]
    fn bytes_that_are_no_pictures_are_an_outage() {
        let (_folder, path) = named_pipe();
        let feed = impatient(&path, SLICE * 3);
        // It goes on until nobody reads any more.
        let writer = std::thread::spawn(move || {
            let mut writer = File::options().write(true).open(&path).unwrap();
            while writer.write_all(&[0; 512]).is_ok() {}
        });
        let Next::Lost(reason) = feed.next(LONG) else { panic!() };
        assert!(reason.contains("no picture came"), "{reason}");
        drop(feed);
        writer.join().unwrap();
    }

    /// Holds CAM-14.
    #[test]
    fn pipe_that_is_made_anew_is_followed() {
        let (folder, path) = named_pipe();
        let feed = impatient(&path, Duration::ZERO);
        std::fs::remove_file(&path).unwrap();
        make_pipe(&path);
        let mut writer = File::options().write(true).open(&path).unwrap(); // waits for the reader
        writer.write_all(&jpeg(60)).unwrap();
        assert!(is_near(frame_of(&feed), 60));
        drop(folder);
    }

    /// Holds CAM-14.
    #[test]
    fn second_reader_is_refused() {
        let (_folder, path) = named_pipe();
        let feed = open(&path, 15.0).unwrap();
        let Err(error) = open(&path, 15.0) else { panic!("two read one pipe") };
        assert!(error.to_string().contains("another program reads this pipe"), "{error}");
        drop(feed);
        assert!(open(&path, 15.0).is_ok());
    }

    /// Holds CAM-14.
    #[test]
    fn dropped_feed_lets_go_of_the_pipe() {
        let (_folder, path) = named_pipe();
        drop(open(&path, 15.0).unwrap()); // joins the thread; would hang
        let nobody_reads = File::options().write(true).custom_flags(libc::O_NONBLOCK).open(&path);
        assert_eq!(nobody_reads.unwrap_err().raw_os_error(), Some(libc::ENXIO));
    }
}
