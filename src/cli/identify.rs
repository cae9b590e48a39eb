//! `familiar identify`: who is on these stills.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::people::{look, print_json};
use super::{Failure, Global, engine};
use crate::camera::decode_photo;
use crate::face::DetectedFace;
use crate::model::Engine;
use crate::recognition::PersonRef;
use crate::recognition::gallery::{Fit, Gallery};
use crate::recognition::matcher::{Known, nearest};
use crate::system::plain;

/// Say who is on these pictures
///
/// A face is named when its similarity (cosine) to a person's template reaches the threshold of the configured
/// false match rate for one look, and nobody else is about as near: not by 0.05, and a lookalike
/// (`familiar enroll --similar-to`) not by 0.1. The similarity that is printed is that to the nearest person, whether
/// named or not. Nobody is named who is as near to a face that is not to be named (`familiar enroll --negative`).
///
/// Ends with 1 when a picture could not be read (the others are told all the same), and with 6 when none had a face.
/// What --json prints: docs/people.md.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  familiar identify group.jpg\n  familiar identify --json a.jpg b.png"
)]
pub struct Args {
    /// JPEG, PNG or WebP pictures
    #[arg(required = true, value_name = "PHOTO")]
    photos: Vec<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Photo<'a> {
    photo: std::borrow::Cow<'a, str>,
    faces: Vec<Face>,
}

#[derive(Debug, Serialize)]
struct Face {
    /// x, y, width, height in pixels of the upright picture.
    #[serde(rename = "box")]
    bounds: [f64; 4],
    person: Option<PersonRef>,
    similarity: Option<f64>,
    threshold: f64,
    /// A negative anchor is at least as near as the nearest person.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    anchored: bool,
    /// Near enough to be named, but somebody else is about as near; by the figures, a consumer sees it too.
    #[serde(skip)]
    between: bool,
}

pub fn run(global: &Global, Args { photos: paths }: Args) -> Result<(), Failure> {
    let config = global.located()?.config;
    let rate = config.recognition.false_match_rate;
    let engine = engine::open(global)?;
    let space = engine.space().mapped_if(config.models.mapping);
    let gallery = look()?;
    let threshold = engine.threshold(rate, 1).map_err(Failure::usage)?;
    let candidates = gallery.candidates(&space)?;
    let anchors = gallery.anchor_templates(&space)?;
    let known = Known::new(&candidates, &anchors);
    let Fit { mapped, foreign } = Fit::of(&gallery.people()?, &space);
    for person in mapped {
        eprintln!("familiar: {} is compared by templates mapped from another model", person.id);
    }
    for person in foreign {
        eprintln!("familiar: {} has templates of another model only; enrol anew", person.id);
    }

    let mut photos = Vec::new();
    let mut failed = 0;
    for path in &paths {
        match identify(&engine, &gallery, known, threshold, path) {
            Ok(faces) => photos.push(Photo { photo: path.to_string_lossy(), faces }),
            Err(reason) => {
                failed += 1;
                eprintln!("familiar: {}", plain::message(&reason));
            }
        }
    }
    if global.json {
        print_json(&photos)?;
    } else {
        photos.iter().for_each(print);
    }
    if failed > 0 {
        let all = paths.len();
        return Err(Failure::failed(format!("{failed} of {all} pictures could not be read")));
    }
    if photos.iter().all(|photo| photo.faces.is_empty()) {
        return Err(Failure::NoUsableFace("no face on any picture".to_owned()));
    }
    Ok(())
}

/// The faces of a picture, from left to right.
fn identify(
    engine: &Engine,
    gallery: &Gallery,
    known: Known<'_>,
    threshold: f32,
    path: &Path,
) -> Result<Vec<Face>, String> {
    let image = decode_photo(path).map_err(|error| error.to_string())?;
    let failed = |error| format!("{}: {error}", path.display());
    let mut detected = engine.detect_still(&image).map_err(failed)?;
    detected.sort_by(|a, b| a.bounds.x.total_cmp(&b.bounds.x));
    let mut faces = Vec::new();
    for face in detected {
        let look = engine.embed(&image, &face).map_err(failed)?;
        let look = gallery.probe(&look).map_err(|error| error.to_string())?;
        let best = nearest(&look, known);
        let named = best.filter(|best| best.passes(threshold) && best.is_clear());
        faces.push(Face {
            bounds: bounds(&face),
            person: named.map(|best| known[best.index].person.clone()),
            similarity: best.map(|best| rounded(best.similarity, 1e4)),
            threshold: rounded(threshold + best.map_or(0.0, |best| best.reserve), 1e4),
            anchored: best.is_some_and(|best| best.is_barred()),
            between: best.is_some_and(|best| best.passes(threshold) && !best.is_clear()),
        });
    }
    Ok(faces)
}

fn bounds(face: &DetectedFace) -> [f64; 4] {
    let bounds = face.bounds;
    [bounds.x, bounds.y, bounds.width, bounds.height].map(|value| rounded(value, 10.0))
}

fn rounded(value: f32, parts: f64) -> f64 {
    (f64::from(value) * parts).round() / parts + 0.0 // no -0
}

fn print(photo: &Photo<'_>) {
    let name = plain::line(&photo.photo);
    if photo.faces.is_empty() {
        println!("{name}: no face");
    }
    for face in &photo.faces {
        let [x, y, width, height] = face.bounds;
        let who = match &face.person {
            Some(person) => format!("{} ({})", person.name, person.id),
            None if face.anchored => "nobody: as near to a face that is not to be named".to_owned(),
            None if face.between => "nobody: may be either of two who are enrolled".to_owned(),
            None => "nobody enrolled".to_owned(),
        };
        let similarity = face.similarity.map_or("-".to_owned(), |value| format!("{value:.3}"));
        println!(
            "{name}: {who}, similarity {similarity}, threshold {:.3}, face {width:.0}x{height:.0} at {x:.0},{y:.0}",
            face.threshold,
        );
    }
}
