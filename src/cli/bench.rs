//! `familiar bench`: what each step costs on this device, on one thread.
//!
//! Stages are those of the daemon's path from a camera's JPEG to a match. Motion and tracking, which cost next to
//! nothing, are left out. `make bench` runs the same ONNX files in onnxruntime on one thread right after.

use std::hint::black_box;
use std::io::Cursor;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use image::codecs::jpeg::JpegEncoder;
use image::{Rgb, RgbImage};
use serde::Serialize;

use super::{Failure, Global, engine};
use crate::camera::{decode_frame, decode_photo};
use crate::evaluate::most_central;
use crate::face::{BoundingBox, DetectedFace, Point};
use crate::model::{Engine, ModelIdentity};
use crate::recognition::Embedding;
use crate::system::memory;

/// Measure speed and memory on this device
///
/// Measures speed and memory with the configured models, or those given.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  familiar bench\n  familiar bench --photo face.jpg --people 100"
)]
pub struct Args {
    /// Picture to work on; it should show a face [default: a drawn 640x480 picture without one]
    #[arg(long, value_name = "FILE")]
    photo: Option<PathBuf>,
    /// Runs of each stage
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rounds: u32,
    /// Enrolled people to match against (drawn at random)
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    people: u32,
    #[command(flatten)]
    models: engine::Choice,
}

#[derive(Serialize)]
struct Report {
    model: ModelIdentity,
    /// Width and height of the frame.
    frame: [u32; 2],
    rounds: u32,
    people: u32,
    startup_ms: Startup,
    stages: Vec<Stage>,
    /// One face looked at in every frame, decoded, detected and embedded; and frames without a face.
    frames_per_second: Rates,
    /// Largest resident set so far, in MiB.
    peak_memory_mib: Option<f64>,
    /// Resident set after loading, in MiB.
    resident_mib: Option<f64>,
}

#[derive(Serialize)]
struct Startup {
    /// Reading every file and checking signature and digests.
    verify: f64,
    load_embedder: f64,
    test_embedder: f64,
    /// On a second thread, beside the embedder's.
    load_detector: f64,
    test_detector: f64,
    load_liveness: Option<f64>,
    /// From the first byte read to ready; without the liveness networks, which are loaded when needed.
    total: f64,
}

#[derive(Serialize)]
struct Stage {
    name: &'static str,
    median_ms: f64,
    p95_ms: f64,
}

#[derive(Serialize)]
struct Rates {
    one_face: f64,
    no_face: f64,
}

pub fn run(global: &Global, args: Args) -> Result<(), Failure> {
    let frame = match &args.photo {
        Some(path) => decode_photo(path).map_err(Failure::failed)?,
        None => drawn(640, 480),
    };
    let began = Instant::now();
    let (verified, bundle) = args.models.open(global)?;
    let verify = began.elapsed();
    let engine = engine::start(verified, &bundle)?;
    let total = began.elapsed();
    let resident_mib = memory::resident().map(mebibytes);

    let (stages, load_liveness) = stages(&engine, &frame, &args, &bundle)?;
    let median = |name: &str| {
        stages.iter().find(|stage| stage.name == name).map_or(0.0, |stage| stage.median_ms)
    };
    let no_face = median("decode") + median("detect");
    let one_face = no_face + median("crop") + median("embed") + median("match");
    let startup = engine.startup();
    let report = Report {
        model: engine.identity().clone(),
        frame: [frame.width(), frame.height()],
        rounds: args.rounds,
        people: args.people,
        startup_ms: Startup {
            verify: milliseconds(verify),
            load_embedder: milliseconds(startup.embedder),
            test_embedder: milliseconds(startup.embedder_test),
            load_detector: milliseconds(startup.detector),
            test_detector: milliseconds(startup.detector_test),
            load_liveness: load_liveness.map(milliseconds),
            total: milliseconds(total),
        },
        stages,
        frames_per_second: Rates { one_face: 1000.0 / one_face, no_face: 1000.0 / no_face },
        peak_memory_mib: memory::peak().map(mebibytes),
        resident_mib,
    };
    if global.json {
        println!("{}", serde_json::to_string(&report).map_err(Failure::failed)?);
    } else {
        print(&report);
    }
    Ok(())
}

fn stages(
    engine: &Engine,
    frame: &RgbImage,
    args: &Args,
    bundle: &std::path::Path,
) -> Result<(Vec<Stage>, Option<Duration>), Failure> {
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(Cursor::new(&mut jpeg), 90)
        .encode_image(frame)
        .map_err(Failure::failed)?;
    let faces = engine.detect(frame).map_err(Failure::failed)?;
    let face = most_central(frame, &faces).copied().unwrap_or_else(|| middle(frame));
    let crop = engine.embedder().cut(frame, &face);
    let probe = engine.embedder().embed_crop(&crop).map_err(Failure::failed)?;
    let gallery = strangers(args.people, probe.values().len());

    let measure = |name, work: &mut dyn FnMut() -> Result<(), Failure>| {
        Stage::measure(name, args.rounds, work)
    };
    let mut stages = vec![
        measure("decode", &mut || decode_frame(&jpeg).map(drop).map_err(Failure::failed))?,
        measure("detect", &mut || engine.detect(frame).map(drop).map_err(Failure::failed))?,
        measure("crop", &mut || {
            black_box(engine.embedder().cut(frame, &face));
            Ok(())
        })?,
        measure("embed", &mut || {
            engine.embedder().embed_crop(&crop).map(drop).map_err(Failure::failed)
        })?,
        measure("match", &mut || {
            let best = gallery.iter().map(|other| other.similarity(&probe)).reduce(f32::max);
            black_box(best);
            Ok(())
        })?,
    ];
    let mut loading = None;
    if engine.has_liveness() {
        let began = Instant::now();
        engine.load_liveness().map_err(|error| engine::refused(bundle, &error))?;
        loading = Some(began.elapsed());
        stages.push(measure("liveness", &mut || {
            engine.liveness(frame, &face).map(drop).map_err(Failure::failed)
        })?);
    }
    Ok((stages, loading))
}

impl Stage {
    fn measure(
        name: &'static str,
        rounds: u32,
        work: &mut dyn FnMut() -> Result<(), Failure>,
    ) -> Result<Self, Failure> {
        work()?; // fills caches, as the daemon's would be
        let mut times = Vec::with_capacity(rounds as usize);
        for _ in 0..rounds {
            let began = Instant::now();
            work()?;
            times.push(began.elapsed());
        }
        times.sort();
        let at = |share: f64| {
            let place = (share * (times.len() - 1) as f64).round() as usize;
            times.get(place).map_or(0.0, |time| milliseconds(*time))
        };
        Ok(Self { name, median_ms: at(0.5), p95_ms: at(0.95) })
    }
}

/// A picture with edges and texture, the same at every run.
fn drawn(width: u32, height: u32) -> RgbImage {
    let mut random = fastrand::Rng::with_seed(7);
    RgbImage::from_fn(width, height, |x, y| {
        let noise = random.u8(0..12);
        let tile = if (x / 40 + y / 40) % 2 == 0 { 90 } else { 150 };
        Rgb([tile + noise, (x * 200 / width) as u8 + noise, (y * 200 / height) as u8 + noise])
    })
}

/// Stands for a face where none was found: embedding costs the same.
fn middle(frame: &RgbImage) -> DetectedFace {
    let (width, height) = (frame.width() as f32 / 4.0, frame.height() as f32 / 3.0);
    let (x, y) = (width * 1.5, height);
    let landmarks = [(0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8)]
        .map(|(u, v)| Point { x: x + u * width, y: y + v * height });
    DetectedFace { bounds: BoundingBox { x, y, width, height }, score: 1.0, landmarks }
}

fn strangers(count: u32, dimensions: usize) -> Vec<Embedding> {
    let mut random = fastrand::Rng::with_seed(11);
    (0..count)
        .filter_map(|_| {
            Embedding::normalized((0..dimensions).map(|_| random.f32() - 0.5).collect())
        })
        .collect()
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn print(report: &Report) {
    let Report { model, frame: [width, height], startup_ms: startup, .. } = report;
    println!("model {} {}, frame {width}x{height}, one thread", model.name, model.version);
    println!("\nstart-up           ms");
    println!("verify       {:8.1}", startup.verify);
    println!("embedder     {:8.1}  self-test {:.1}", startup.load_embedder, startup.test_embedder);
    println!("detector     {:8.1}  self-test {:.1}", startup.load_detector, startup.test_detector);
    if let Some(liveness) = startup.load_liveness {
        println!("liveness     {liveness:8.1}  (when first needed)");
    }
    println!("ready        {:8.1}", startup.total);
    println!("\nstage          median ms   p95 ms");
    for stage in &report.stages {
        println!("{:<12} {:11.2} {:8.2}", stage.name, stage.median_ms, stage.p95_ms);
    }
    let rates = &report.frames_per_second;
    println!(
        "\nframes a second: {:.1} with one face embedded in each, {:.1} without a face",
        rates.one_face, rates.no_face
    );
    if let (Some(peak), Some(resident)) = (report.peak_memory_mib, report.resident_mib) {
        println!("memory: {resident:.0} MiB after start, at most {peak:.0} MiB");
    }
}
