//! Looks from pictures on this device.

use std::path::{Path, PathBuf};

use image::RgbImage;
use indicatif::ProgressBar;

use super::report::{Outcome, Picture};
use crate::camera::decode_photo;
use crate::face::DetectedFace;
use crate::face::quality::QualityGate;
use crate::model::Engine;
use crate::model::network::NetworkError;
use crate::recognition::gallery::sole_look;
use crate::recognition::{Embedding, Eyes};

/// One outcome for each picture, in their order. The bar only shows on a terminal.
pub fn take(photos: &[PathBuf], engine: &Engine) -> Vec<Picture> {
    let bar = ProgressBar::new(photos.len() as u64);
    let mut pictures = Vec::new();
    for path in photos {
        let photo = Some(path.to_string_lossy().into_owned());
        pictures.push(Picture { photo, outcome: look_at(path, engine) });
        bar.inc(1);
    }
    bar.finish_and_clear();
    pictures
}

/// Eyes that find small faces in large pictures, too.
struct Stills<'a>(&'a Engine);

impl Eyes for Stills<'_> {
    type Error = NetworkError;

    fn detect(&self, image: &RgbImage) -> Result<Vec<DetectedFace>, NetworkError> {
        self.0.detect_still(image)
    }

    fn embed(&self, image: &RgbImage, face: &DetectedFace) -> Result<Embedding, NetworkError> {
        self.0.embed(image, face)
    }
}

fn look_at(path: &Path, engine: &Engine) -> Outcome {
    match decode_photo(path) {
        Err(error) => {
            // The report names the picture already.
            let error = error.to_string();
            let name = format!("{}: ", path.display());
            Outcome::refused("unreadable", error.strip_prefix(&name).unwrap_or(&error).to_owned())
        }
        Ok(image) => match sole_look(&image, &Stills(engine), &QualityGate::enrolment()) {
            Ok(look) => Outcome::Look(look),
            Err(refusal) => Outcome::refused_look(&refusal),
        },
    }
}
