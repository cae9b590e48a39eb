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
use super::{CameraError, Feed, live};
use crate::config::Speed;

/// Opens a recording. It begins when the pipeline asks for its first frame. A named pipe is a live camera instead.
pub fn open(path: &Path, fps: f64, repeat: bool, speed: Speed) -> Result<Feed, CameraError> {
    if live::is_pipe(path) {
        return live::open(path, fps);
    }
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
    let feed = Feed::start(
        move |slot| Player { recording, fps, speed, number: 0, shown: 0 }.run(repeat, slot),
        slot,
    )?;
    Ok(feed.of_recording(path))
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
            // What cannot be read is reported here, not by the thread.
            let mut start = Vec::new();
            let file = File::open(path).map_err(|error| wrong(explained(path, error)))?;
            file.take(16).read_to_end(&mut start).map_err(wrong)?;
            if let Some(reason) = no_recording(&start) {
                return Err(CameraError::NotARecording { path: path.to_owned(), reason });
            }
            return Ok(Self::Stream(path.to_owned()));
        }
        if !kind.is_dir() {
            let reason = "neither a folder of JPEG files nor an .mjpeg file nor a named pipe";
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
            if !self.play(start, slot) || !repeat || self.shown == 0 || slot.is_unreadable() {
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
                    let piece = match splitter.next_piece() {
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

pub(super) fn too_large() -> Skipped {
    Skipped::TooLarge(format!("a frame of more than {} MiB", JPEG_BYTES >> 20))
}

/// Reads a file that is small enough. A folder or a FIFO of that name is a broken frame.
fn read_bounded(path: &Path) -> Result<Vec<u8>, Skipped> {
    let broken = |error: io::Error| {
        Skipped::Broken(format!("{}: {}", path.display(), explained(path, error)))
    };
    if !std::fs::metadata(path).map_err(broken)?.is_file() {
        return Err(broken(io::Error::other("not a regular file")));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(broken)?;
    file.take(JPEG_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(broken)?;
    if bytes.len() > JPEG_BYTES { Err(too_large()) } else { Ok(bytes) }
}

/// A link that leads elsewhere may be readable to everybody but a confined daemon; the system's words do not say so.
fn explained(path: &Path, error: io::Error) -> io::Error {
    let hidden = matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied);
    match std::fs::read_link(path) {
        Ok(target) if hidden => io::Error::new(
            error.kind(),
            format!(
                "{error}; it is a link to {}, and the daemon's sandbox shows it only what lies in the recording's own \
                 folder: put the files there, not links to them",
                target.display()
            ),
        ),
        _ => error,
    }
}

/// What a file that begins so is, if it is surely not a recording.
fn no_recording(start: &[u8]) -> Option<String> {
    let video = |kind: &str| {
        format!(
            "it is {kind}, not JPEG pictures one after another; `ffmpeg -i VIDEO -c:v mjpeg -q:v 3 -an RECORDING.mjpeg` \
             makes a recording of it"
        )
    };
    match start {
        [] => Some("it is empty".to_owned()),
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => Some(video("an MP4 or QuickTime video")),
        [0x1a, 0x45, 0xdf, 0xa3, ..] => Some(video("a Matroska or WebM video")),
        [0, 0, 0, 1, ..] | [0, 0, 1, 0x09 | 0x67 | 0xb0..=0xbf, ..] => {
            Some(video("an MPEG or raw H.264 video"))
        }
        [b'G', b'I', b'F', b'8', ..] => Some(video("a GIF picture")),
        [0x89, b'P', b'N', b'G', ..] => Some(video("a PNG picture")),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::super::testing::{claiming, encode, is_near, jpeg, picture, shade};
    use super::super::{Frame, Next};
    use super::*;

    const LONG: Duration = Duration::from_mins(1);

    fn folder(files: &[(&str, Vec<u8>)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        folder
    }

    fn rest(feed: &Feed) -> Vec<Frame> {
        std::iter::from_fn(|| match feed.next(LONG) {
            Next::Frame(frame) => Some(frame),
            Next::End => None,
            other => panic!("{other:?}"),
        })
        .collect()
    }

    fn shades(frames: &[Frame], wanted: &[u8]) -> bool {
        frames.len() == wanted.len()
            && frames
                .iter()
                .zip(wanted)
                .all(|(frame, &wanted)| is_near(shade(&frame.image), wanted))
    }

    #[test]
    fn full_speed_loses_no_frame_and_keeps_byte_order() {
        let folder = folder(&[
            ("a10.jpg", jpeg(40)),
            ("a9.JPG", jpeg(80)),
            ("B.jpeg", jpeg(0)),
            ("notes.txt", b"no picture".to_vec()),
            ("z.jpg", jpeg(160)),
        ]);
        let feed = open(folder.path(), 10.0, false, Speed::Max).unwrap();
        let frames = rest(&feed);
        assert!(shades(&frames, &[0, 40, 80, 160]), "{frames:?}");
        let numbers: Vec<_> = frames.iter().map(|frame| frame.number).collect();
        assert_eq!(numbers, [0, 1, 2, 3]);
        let media: Vec<_> = frames.iter().map(|frame| frame.media.as_millis()).collect();
        assert_eq!(media, [0, 100, 200, 300]);
        let counters = feed.counters();
        assert_eq!((counters.frames, counters.dropped_stale), (4, 0));
        assert!(matches!(feed.next(LONG), Next::End), "the end stays the end");
    }

    #[test]
    fn broken_frame_leaves_a_gap_in_time() {
        let whole = jpeg(40);
        let folder = folder(&[
            ("1.jpg", jpeg(10)),
            ("2.jpg", whole[..whole.len() / 2].to_vec()),
            ("3.jpg", claiming(&whole, 65535, 65535)),
            ("4.jpg", Vec::new()),
            ("5.jpg", jpeg(50)),
        ]);
        std::fs::create_dir(folder.path().join("6.jpg")).unwrap();
        std::os::unix::fs::symlink("nowhere", folder.path().join("7.jpg")).unwrap();
        std::os::unix::fs::symlink("1.jpg", folder.path().join("8.jpg")).unwrap();
        let feed = open(folder.path(), 1.0, false, Speed::Max).unwrap();
        let frames = rest(&feed);
        assert!(shades(&frames, &[10, 50, 10]), "{frames:?}");
        let media: Vec<_> = frames.iter().map(|frame| frame.media.as_secs()).collect();
        assert_eq!(media, [0, 4, 7]);
        let counters = feed.counters();
        assert_eq!((counters.skipped_broken, counters.skipped_too_large), (4, 1));
    }

    /// Holds CAM-15.
    #[test]
    fn heavy_frames_are_bounded_work_a_second() {
        // 16 megapixels take a sixth of a second's share: at ten a second, each other one is passed over.
        let heavy = encode(&picture(4000, 4000, 10), 30);
        let mut files: Vec<_> = (0..8).map(|n| (format!("{n:02}.jpg"), heavy.clone())).collect();
        files.extend((8..11).map(|n| (format!("{n:02}.jpg"), claiming(&jpeg(90), 7680, 4320))));
        files.push(("99.jpg".to_owned(), jpeg(90)));
        let files: Vec<_> =
            files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
        let folder = folder(&files);
        let feed = open(folder.path(), 10.0, false, Speed::Max).unwrap();
        let frames = rest(&feed);
        assert!(shades(&frames, &[10, 10, 10, 10, 90]), "{} frames", frames.len());
        let counters = feed.counters();
        assert_eq!((counters.dropped_heavy, counters.skipped_too_large), (4, 3), "{counters:?}");
    }

    #[test]
    fn time_goes_on_when_a_recording_begins_again() {
        let folder = folder(&[("1.jpg", jpeg(10)), ("2.jpg", jpeg(90)), ("3.jpg", b"x".to_vec())]);
        let feed = open(folder.path(), 2.0, true, Speed::Max).unwrap();
        let mut media = Vec::new();
        for turn in 0..6 {
            let Next::Frame(frame) = feed.next(LONG) else { panic!() };
            assert!(is_near(shade(&frame.image), [10, 90][turn % 2]));
            media.push(frame.media.as_millis());
        }
        assert_eq!(media, [0, 500, 1500, 2000, 3000, 3500]);
    }

    #[test]
    fn unreadable_recording_that_begins_again_does_end() {
        let folder = folder(&[]);
        std::os::unix::fs::symlink("nowhere", folder.path().join("1.jpg")).unwrap();
        let feed = open(folder.path(), 2.0, true, Speed::Max).unwrap();
        let Next::Failed(error) = feed.next(LONG) else { panic!() };
        let error = error.to_string();
        // What the system says of a link that leads out of a sandbox would not help anybody.
        assert!(error.contains("a link to nowhere") && error.contains("sandbox"), "{error}");
    }

    #[test]
    fn recording_of_which_nothing_can_be_shown_says_why() {
        let files: Vec<_> =
            (10..90).map(|n| (format!("{n}.jpg"), b"no picture".to_vec())).collect();
        let files: Vec<_> =
            files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
        let folder = folder(&files);
        for (repeat, speed) in [(false, Speed::Max), (true, Speed::Max), (false, Speed::Pace)] {
            let feed = open(folder.path(), 200.0, repeat, speed).unwrap();
            let failure = loop {
                match feed.next(LONG) {
                    Next::Failed(error) => break error.to_string(),
                    Next::Nothing => {}
                    other => panic!("{other:?}"),
                }
            };
            assert!(failure.contains("not one picture"), "{failure}");
            assert!(failure.contains("not a JPEG"), "{failure}");
            assert!(matches!(feed.next(LONG), Next::Failed(_)), "it stays so");
        }
        let path = folder.path().join("noise.mjpeg");
        std::fs::write(&path, [7; 5000]).unwrap();
        let feed = open(&path, 10.0, false, Speed::Max).unwrap();
        let Next::Failed(error) = feed.next(LONG) else { panic!() };
        assert!(error.to_string().contains("holds no JPEG"), "{error}");
    }

    /// Holds CAM-08.
    #[test]
    fn readable_part_of_a_recording_is_shown_and_the_rest_counted() {
        let folder =
            folder(&[("1.jpg", jpeg(10)), ("2.jpg", b"x".to_vec()), ("3.jpg", Vec::new())]);
        let feed = open(folder.path(), 10.0, false, Speed::Max).unwrap();
        assert!(shades(&rest(&feed), &[10]));
        assert_eq!(feed.counters().skipped(), 2);
        assert!(
            feed.first_skipped().unwrap().starts_with("frame 1: "),
            "{:?}",
            feed.first_skipped()
        );
    }

    #[test]
    fn video_in_place_of_a_recording_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clip.mjpeg");
        for (start, says) in [
            (&b"\0\0\0\x20ftypisom\0\0\x02\0"[..], "MP4"),
            (&b"\x1a\x45\xdf\xa3\x9f\x42"[..], "WebM"),
            (&b"\0\0\0\x01\x67\x64"[..], "H.264"),
            (&b""[..], "is empty"),
        ] {
            std::fs::write(&path, start).unwrap();
            let error = match open(&path, 10.0, false, Speed::Max) {
                Err(error @ CameraError::NotARecording { .. }) => error.to_string(),
                other => panic!("{}", other.is_ok()),
            };
            assert!(error.contains(says) && error.contains("clip.mjpeg"), "{error}");
        }
    }

    #[test]
    fn stream_file_plays_like_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scene.mjpeg");
        let (a, b) = (jpeg(20), jpeg(120));
        std::fs::write(&path, [&a[..], b"--boundary\r\n\r\n", &b[..b.len() / 2], &b].concat())
            .unwrap();
        let feed = open(&path, 1.0, false, Speed::Max).unwrap();
        let frames = rest(&feed);
        assert!(shades(&frames, &[20, 120]), "{frames:?}");
        assert_eq!((frames[1].number, feed.counters().skipped_broken), (2, 1));
    }

    /// Holds SPD-07.
    #[test]
    fn pace_is_kept_by_leaving_out_what_a_slow_pipeline_misses() {
        let files: Vec<_> = (0..40).map(|n| (format!("{n:02}.jpg"), jpeg(n * 6))).collect();
        let files: Vec<_> =
            files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
        let folder = folder(&files);
        let feed = open(folder.path(), 200.0, false, Speed::Pace).unwrap();
        std::thread::sleep(Duration::from_millis(100)); // half of the recording, had it begun
        let start = Instant::now();
        assert!(matches!(feed.next(LONG), Next::Frame(_)));
        // A pipeline that takes no frame until the recording must be over.
        while feed.counters().dropped_stale < 38 {
            assert!(start.elapsed() < LONG, "{:?}", feed.counters());
            std::thread::sleep(Duration::from_millis(5));
        }
        let Next::Frame(last) = feed.next(LONG) else { panic!() };
        assert_eq!(last.number, 39);
        assert!(start.elapsed() >= last.media, "never ahead of its pace, from the first wish on");
        assert!(matches!(feed.next(LONG), Next::End));
    }

    #[test]
    fn wrong_recordings_are_told_at_once() {
        let empty = folder(&[("readme.txt", Vec::new())]);
        let open = |path: &Path| open(path, 10.0, false, Speed::Max);
        assert!(matches!(open(empty.path()), Err(CameraError::EmptyReplay { .. })));
        let missing = empty.path().join("missing");
        assert!(matches!(open(&missing), Err(CameraError::Replay { .. })));
        assert!(matches!(open(Path::new("/dev/null")), Err(CameraError::Replay { .. })));
    }

    #[test]
    fn dropped_feed_stops_its_thread() {
        let folder = folder(&[("1.jpg", jpeg(10))]);
        // One waits for its pace, one for the slot, one for the first wish.
        for (speed, asked) in [(Speed::Pace, true), (Speed::Max, true), (Speed::Pace, false)] {
            let feed = open(folder.path(), 0.1, true, speed).unwrap();
            if asked {
                assert!(matches!(feed.next(LONG), Next::Frame(_)));
            }
            drop(feed); // joins the thread; would hang
        }
    }
}
