//! The recogniser as a library: the best similarity between a face on one picture and a face on another.
//!
//! ```console
//! $ cargo run --release --example compare_pictures -- BUNDLE TRUST ONE.jpg OTHER.jpg
//! ```
//!
//! BUNDLE: a folder with a signed bundle (`models/facenet` after `make models`). TRUST: the folder of the public keys that
//! may have signed it (`models/.build/trust.d`). Nothing is enrolled and nothing is kept.

use std::error::Error;
use std::path::{Path, PathBuf};

use clap::Parser;
use familiar::camera::decode_photo;
use familiar::model::{Engine, TrustAnchors, VerifiedBundle};
use familiar::recognition::Embedding;

#[derive(Parser)]
struct Arguments {
    bundle: PathBuf,
    trust: PathBuf,
    one: PathBuf,
    other: PathBuf,
    /// How often two different people may be held to be one
    #[arg(long, default_value_t = 1e-4)]
    false_match_rate: f64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    // Only a bundle that a trusted key signed becomes an engine, and only if its self-test passes on this machine.
    let anchors = TrustAnchors::load(&arguments.trust)?;
    let engine = Engine::start(VerifiedBundle::open(&arguments.bundle, &anchors)?)?;

    let one = embeddings(&engine, &arguments.one)?;
    let other = embeddings(&engine, &arguments.other)?;
    let best = one
        .iter()
        .flat_map(|left| other.iter().map(|right| left.similarity(right)))
        .max_by(f32::total_cmp)
        .ok_or("there is no face on one of the pictures")?;

    // The threshold of a decision by a single look.
    let threshold = engine.threshold(arguments.false_match_rate, 1)?;
    let verdict = if best >= threshold { "same" } else { "different" };
    println!("{verdict}: similarity {best:.3}, threshold {threshold:.3}");
    Ok(())
}

/// One embedding for each face on the picture.
fn embeddings(engine: &Engine, picture: &Path) -> Result<Vec<Embedding>, Box<dyn Error>> {
    let pixels = decode_photo(picture)?;
    let faces = engine.detect_still(&pixels)?;
    Ok(faces.iter().map(|face| engine.embed(&pixels, face)).collect::<Result<_, _>>()?)
}
