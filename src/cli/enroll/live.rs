//! Looks from the camera, with guidance on stderr.

use std::time::{Duration, Instant};

use super::report::{Outcome, Picture};
use crate::camera::{self, Next};
use crate::cli::Failure;
use crate::config;
use crate::face::quality::QualityGate;
use crate::recognition::Eyes;
use crate::recognition::gallery::sole_look;

/// Between two looks, in the time of the camera: enough to turn the head a little.
const SPACING: Duration = Duration::from_millis(800);
/// For all looks together.
const TIME_LIMIT: Duration = Duration::from_mins(1);
/// What is asked for, look by look. Small angles: a look far from the frontal one helps nobody.
const POSES: [&str; 5] = [
    "look straight into the camera",
    "turn the head a little to the left",
    "turn the head a little to the right",
    "raise the chin a little",
    "look straight into the camera again",
];

/// Up to one look for each pose; fewer when the time is over or the recording ends.
pub fn take(config: &config::Camera, eyes: &impl Eyes) -> Result<Vec<Picture>, Failure> {
    let feed = camera::open(config).map_err(|error| Failure::Camera(error.to_string()))?;
    let gate = QualityGate::enrolment();
    let end = Instant::now() + TIME_LIMIT;
    let mut looks = Vec::new();
    let mut after = Duration::ZERO;
    let mut told = String::new();
    eprintln!("familiar: {}", POSES[0]);
    let mut seen = false;
    while looks.len() < POSES.len() {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            eprintln!("familiar: {} s are over", TIME_LIMIT.as_secs());
            break;
        }
        let frame = match feed.next(left.min(Duration::from_secs(1))) {
            Next::Frame(frame) => frame,
            Next::Nothing => continue,
            Next::Lost(reason) => {
                eprintln!("familiar: the camera is away: {reason}");
                continue;
            }
            Next::End => break,
            Next::Failed(error) => return Err(Failure::Camera(error.to_string())),
        };
        seen = true;
        if frame.media < after {
            continue;
        }
        match sole_look(&frame.image, eyes, &gate) {
            Ok(look) => {
                looks.push(Picture { photo: None, outcome: Outcome::Look(look) });
                after = frame.media + SPACING;
                told.clear();
                let next = POSES.get(looks.len()).unwrap_or(&"done");
                eprintln!("familiar: look {} of {} taken; {next}", looks.len(), POSES.len());
            }
            Err(refusal) => {
                // Figures change with every frame; say a thing once until it changes in kind.
                let advice = refusal.to_string();
                let kind = advice.rsplit_once(':').map_or(advice.as_str(), |(kind, _)| kind);
                if kind != told {
                    eprintln!("familiar: {advice}");
                    kind.clone_into(&mut told);
                }
            }
        }
    }
    if !seen {
        return Err(Failure::Camera("the camera gave no picture".to_owned()));
    }
    Ok(looks)
}
