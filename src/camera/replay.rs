//! Recordings in place of a camera: a folder of JPEG files, or a file of concatenated JPEGs.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::feed::skip;
use super::jpeg::{JPEG_BYTES, Skipped};
use super::mjpeg::{Piece, Splitter};
use super::pixels::Encoding;
use super::slot::{Captured, Slot};
use super::{CameraError, Feed};
use crate::config::Speed;

/// Opens a recording. It begins when the pipeline asks for its first frame.
pub fn open(path: &Path, fps: f64, repeat: bool, speed: Speed) -> Result<Feed, CameraError> {
    let recording = Recording::find(path)?;
    let slot = Arc::new(Slot::default());
    slot.set_format(format!(
        "replay of {} at {}{}",
        path.display(),
        match speed {
            Speed::Pace => format!("{fps} frames a second"),
            Speed::Max => "full speed".to_owned(),
        },
        if repeat { ", again and again" } else { "" },
    ));
    Feed::start(
        move |slot| Player { recording, fps, speed, number: 0, shown: 0 }.run(repeat, slot),
        slot,
    )
}

enum Recording {
    /// JPEG files in byte order of their names, and when they were listed.
    Files(Vec<PathBuf>),
    Stream(PathBuf),
}

impl Recording {
    fn find(path: &Path) -> Result<Self, CameraError> {
        let wrong = |source| CameraError::Replay { path: path.to_owned(), source };
        let kind = std::fs::metadata(path).map_err(wrong)?.file_type();
        if kind.is_file() {
            // What cannot be read should be told now, not by the thread.
            File::open(path).map_err(wrong)?;
            return Ok(Self::Stream(path.to_owned()));
        }
        if !kind.is_dir() {
            let reason = "neither a folder of JPEG files nor an .mjpeg file";
            return Err(wrong(io::Error::other(reason)));
        }
        let mut files = Vec::new();
        for entry in std::fs::read_dir(path).map_err(wrong)? {
            let file = entry.map_err(wrong)?.path();
            let is_jpeg = file.extension().is_some_and(|extension| {
                extension.eq_ignore_ascii_case("jpg") || extension.eq_ignore_ascii_case("jpeg")
            });
            if is_jpeg {
                files.push(file);
            }
        }
        if files.is_empty() {
            return Err(CameraError::EmptyReplay { path: path.to_owned() });
        }
        files.sort_unstable(); // of one folder: byte order of the names
        Ok(Self::Files(files))
    }
}

struct Player {
    recording: Recording,
    fps: f64,
    speed: Speed,
    /// Of the next frame; goes on counting when the recording begins again.
    number: u64,
    /// Frames of this pass that could be read.
    shown: u64,
}

impl Player {
    fn run(&mut self, repeat: bool, slot: &Slot) {
        if !slot.wait_until_wanted() {
            return;
        }
        let start = Instant::now();
        loop {
            self.shown = 0;
            // A recording without a single readable frame would spin for ever.
            if !self.play(start, slot) || !repeat || self.shown == 0 {
                return;
            }
        }
    }

    /// Plays the recording once; false when the pipeline is gone.
    fn play(&mut self, start: Instant, slot: &Slot) -> bool {
        match &self.recording {
            Recording::Files(files) => {
                for file in files.clone() {
                    if !self.show(read_bounded(&file), start, slot) {
                        return false;
                    }
                }
            }
            Recording::Stream(path) => {
                let mut splitter = match File::open(path) {
                    Ok(file) => Splitter::new(file),
                    Err(error) => {
                        log::error!("replay {}: {error}", path.display());
                        return true;
                    }
                };
                loop {
                    let piece = match splitter.next() {
                        Ok(Some(Piece::Jpeg(bytes))) => Ok(bytes),
                        Ok(Some(Piece::Broken)) => Err(Skipped::Broken("truncated".to_owned())),
                        Ok(Some(Piece::TooLarge)) => Err(too_large()),
                        Ok(None) => return true,
                        Err(error) => {
                            skip(slot, self.number, &Skipped::Broken(error.to_string()));
                            return true;
                        }
                    };
                    if !self.show(piece, start, slot) {
                        return false;
                    }
                }
            }
        }
        true
    }

    /// Shows one frame when its time has come; a broken one leaves a gap of its length.
    fn show(&mut self, frame: Result<Vec<u8>, Skipped>, start: Instant, slot: &Slot) -> bool {
        let number = self.number;
        self.number += 1;
        let media = Duration::from_secs_f64(number as f64 / self.fps);
        if self.speed == Speed::Pace && !slot.sleep_until(start + media) {
            return false;
        }
        let bytes = match frame {
            Ok(bytes) => bytes,
            Err(skipped) => {
                skip(slot, number, &skipped);
                return slot.is_open();
            }
        };
        self.shown += 1;
        let time = jiff::Timestamp::now();
        let captured = Captured { bytes, encoding: Encoding::Jpeg, number, time, media };
        match self.speed {
            Speed::Pace => slot.offer(captured),
            Speed::Max => slot.hand_over(captured),
        }
    }
}

fn too_large() -> Skipped {
    Skipped::TooLarge(format!("a frame of more than {} MiB", JPEG_BYTES >> 20))
}

/// Reads a file that is small enough. A folder or a FIFO of that name is a broken frame.
fn read_bounded(path: &Path) -> Result<Vec<u8>, Skipped> {
    let broken = |error: io::Error| Skipped::Broken(format!("{}: {error}", path.display()));
    if !std::fs::metadata(path).map_err(broken)?.is_file() {
        return Err(broken(io::Error::other("not a regular file")));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(broken)?;
    file.take(JPEG_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(broken)?;
    if bytes.len() > JPEG_BYTES { Err(too_large()) } else { Ok(bytes) }
}
