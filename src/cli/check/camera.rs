//! Whether the camera gives frames, how many, and how many of them are pictures.

use std::path::Path;
use std::time::{Duration, Instant};

use super::Report;
use crate::camera::{self, Feed, Next};
use crate::cli::Failure;
use crate::config::{CameraSource, Config, Speed};

/// How long frames are read.
const LOOK: Duration = Duration::from_secs(2);
/// How long the first one may take.
const FIRST: Duration = Duration::from_secs(5);

pub fn check(config: &Config, report: &mut Report) {
    let opened = camera::open(&config.camera).map_err(|error| {
        Failure::Camera(match &config.camera.source {
            CameraSource::Device(path) => format!("{error}{}", access(path)),
            CameraSource::Replay(_) => error.to_string(),
        })
    });
    let Some(feed) = report.take("camera", opened) else { return };
    report.ok("camera", feed.format());
    rate(config, &feed, report);
}

/// Why a device that is there may not be opened.
fn access(path: &Path) -> &'static str {
    use rustix::fs::{Access, access};
    if path.exists() && access(path, Access::READ_OK | Access::WRITE_OK).is_err() {
        "; this user may not use it: add it to the group `video`"
    } else {
        ""
    }
}

fn rate(config: &Config, feed: &Feed, report: &mut Report) {
    let mut frames = 0u32;
    let mut began: Option<Instant> = None;
    let mut ended = false;
    let start = Instant::now();
    loop {
        let deadline = began.map_or(start + FIRST, |began| began + LOOK);
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        match feed.next(left) {
            Next::Frame(_) if began.is_none() => began = Some(Instant::now()),
            Next::Frame(_) => frames += 1,
            Next::Nothing => {}
            Next::Lost(why) => {
                let why = format!("gone while it was looked at: {why}");
                return report.fail("frame rate", Failure::Camera(why));
            }
            Next::End => {
                ended = true;
                break;
            }
            Next::Failed(error) => {
                return report.fail("frame rate", Failure::Camera(error.to_string()));
            }
        }
    }
    let counters = feed.counters();
    let broken = counters.skipped();
    let Some(began) = began else {
        let why = if broken > 0 {
            format!(
                "none of {broken} frames could be decoded ({}); try another size or another camera",
                feed.first_skipped().unwrap_or_default()
            )
        } else {
            "gives no frame; is something else using it, or its cable loose?".to_owned()
        };
        return report.fail("frame rate", Failure::Camera(why));
    };
    let seconds = began.elapsed().as_secs_f64();
    let all = f64::from(frames) + broken as f64 + 1.0;
    let said = format!("{} frames decoded, {broken} not", frames + 1);
    // The end of a recording that is read at full speed has no rate.
    if ended && (seconds < 0.2 || frames == 0) {
        return report.ok("frame rate", format!("{said}, then the recording ends"));
    }
    let rate = f64::from(frames) / seconds;
    let said = format!("{rate:.1} a second, {said}");
    let wished = config.camera.fps;
    let free = matches!(config.camera.source, CameraSource::Replay(_))
        && config.camera.speed == Speed::Max;
    if broken as f64 > all / 20.0 {
        report.warn("frame rate", format!("{said}; try another cable, port or size"));
    } else if !free && rate < wished / 2.0 {
        report.warn(
            "frame rate",
            format!(
                "{said}; {wished} were wished for: more light, a smaller picture or a faster port"
            ),
        );
    } else {
        report.ok("frame rate", said);
    }
}
