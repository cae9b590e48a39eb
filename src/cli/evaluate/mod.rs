//! `familiar evaluate`: accuracy on pictures whose truth is known.

mod liveness;
mod open_set;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;

use super::people::print_json;
use super::{Failure, Global, engine};
use crate::evaluate::{
    self, EvaluateError, PairList, People, PictureName, Score, VerificationReport,
};
use crate::model::Engine;
use crate::model::manifest::{Calibration, Crop};
use crate::recognition::Embedding;

/// Measure accuracy on your own pictures
///
/// Faces are taken as the daemon takes them: one look, no mirror images. Of several faces on a picture the one
/// nearest its centre is meant. A pair with a picture on which no face is found counts as told wrong.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  familiar evaluate --images lfw --pairs pairs.txt --plot roc.svg\n  familiar evaluate --people household --strangers others --json\n  familiar evaluate --genuine live --attacks photographs"
)]
pub struct Args {
    /// Folder of pictures: NAME/NAME_0001.jpg as in Labeled Faces in the Wild
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Pairs to tell apart, in the format of Labeled Faces in the Wild
    #[arg(long, value_name = "FILE", requires = "images")]
    pairs: Option<PathBuf>,
    /// Measure how alike different people of --images look; prints `[[calibration]]` tables for bundle.toml
    #[arg(long, requires = "images", conflicts_with = "pairs")]
    calibrate: bool,
    /// Instead: calibrate on half of the people, and tell how often the other half reaches those thresholds
    #[arg(long, requires = "calibrate")]
    held_out: bool,
    /// Measure the detector against marked faces: CSV image,x,y,w,h,easy,medium,hard,invalid
    #[arg(long, value_name = "FILE", requires = "images", conflicts_with_all = ["pairs", "calibrate"])]
    boxes: Option<PathBuf>,
    /// Open set: a sub-folder of pictures for each enrolled person; the first ones are enrolled, the others searched
    #[arg(long, value_name = "DIR", requires = "strangers", conflicts_with = "images")]
    people: Option<PathBuf>,
    /// Open set: a picture or a sub-folder of pictures for each stranger
    #[arg(long, value_name = "DIR", requires = "people")]
    strangers: Option<PathBuf>,
    #[command(flatten)]
    open_set: open_set::Options,
    /// Liveness: sub-folders of consecutive frames of live faces, TRACK/0000.jpg or SUBJECT/TRACK/0000.jpg
    #[arg(long, value_name = "DIR", requires = "attacks", conflicts_with_all = ["images", "people"])]
    genuine: Option<PathBuf>,
    /// Liveness: a sub-folder for each kind of attack, and in it one for each track
    #[arg(long, value_name = "DIR", requires = "genuine")]
    attacks: Option<PathBuf>,
    #[command(flatten)]
    liveness: liveness::Options,
    /// Draw the curve
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Pictures looked at at a time [default: the number of cores]
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    #[command(flatten)]
    models: engine::Choice,
    /// Try another crop than the bundle's, as in bundle.toml: '{ kind = "box", margin = 0.3 }'
    #[arg(long, value_name = "TOML", value_parser = parse_crop)]
    crop: Option<Crop>,
}

pub fn run(global: &Global, args: Args) -> Result<(), Failure> {
    if let (Some(people), Some(strangers)) = (&args.people, &args.strangers) {
        return open_set::run(global, &args, people, strangers);
    }
    if let (Some(genuine), Some(attacks)) = (&args.genuine, &args.attacks) {
        return liveness::run(global, &args, genuine, attacks);
    }
    let Some(images) = &args.images else {
        return Err(Failure::usage(
            "evaluate needs --images DIR and one of --pairs, --calibrate, --boxes; or --people DIR --strangers DIR; \
             or --genuine DIR --attacks DIR",
        ));
    };
    if args.plot.is_some() && args.pairs.is_none() {
        return Err(Failure::usage("--plot: there is no curve to draw without --pairs"));
    }
    // What can fail quickly comes before the models are loaded.
    match (&args.pairs, &args.boxes, args.calibrate) {
        (Some(file), _, _) => {
            let list = PairList::read(file).map_err(Failure::failed)?;
            let pictures = locate(&list, images)?;
            verification(global, &args, &list, &pictures)
        }
        (_, Some(file), _) => {
            let marked = evaluate::read_boxes(file).map_err(Failure::failed)?;
            let engine = open(global, &args)?;
            let bar = progress(marked.len());
            let report =
                evaluate::measure_boxes(&engine, images, &marked, jobs(&args), || bar.inc(1))
                    .map_err(Failure::failed)?;
            bar.finish_and_clear();
            print_boxes(global, &report)
        }
        (_, _, true) => {
            let people = People::read(images).map_err(Failure::failed)?;
            let looks = looks_of(&open(global, &args)?, &args, &people)?;
            if args.held_out {
                let outcomes = evaluate::held_out(&looks, &evaluate::LOOKS);
                return print_held_out(global, &outcomes.map_err(Failure::failed)?);
            }
            let tables = evaluate::calibrate(&looks, &evaluate::LOOKS, || ());
            print_calibration(global, tables.map_err(Failure::failed)?)
        }
        _ => Err(Failure::usage("--images needs one of --pairs, --calibrate, --boxes")),
    }
}

fn parse_crop(text: &str) -> Result<Crop, String> {
    #[derive(serde::Deserialize)]
    struct Line {
        crop: Crop,
    }
    toml::from_str(&format!("crop = {text}"))
        .map(|line: Line| line.crop)
        .map_err(|error| error.message().to_owned())
}

fn open(global: &Global, args: &Args) -> Result<Engine, Failure> {
    let opened = engine::open_chosen(global, &args.models)?;
    Ok(match &args.crop {
        Some(crop) => opened.with_crop(crop.clone()),
        None => opened,
    })
}

/// Drawn on a terminal only.
fn progress(length: usize) -> ProgressBar {
    ProgressBar::new(length as u64)
}

type Pictures = BTreeMap<PictureName, PathBuf>;

fn locate(list: &PairList, images: &Path) -> Result<Pictures, Failure> {
    let mut pictures = Pictures::new();
    for name in list.pairs.iter().flat_map(|pair| [&pair.left, &pair.right]) {
        if !pictures.contains_key(name) {
            pictures.insert(name.clone(), name.find(images).map_err(Failure::failed)?);
        }
    }
    Ok(pictures)
}

fn verification(
    global: &Global,
    args: &Args,
    list: &PairList,
    pictures: &Pictures,
) -> Result<(), Failure> {
    let engine = open(global, args)?;
    let paths: Vec<PathBuf> = pictures.values().cloned().collect();
    let embeddings = embed(&engine, args, &paths)?;
    let by_name: BTreeMap<&PictureName, &Option<Embedding>> =
        pictures.keys().zip(&embeddings).collect();
    let look = |name| by_name.get(name).and_then(|look| look.as_ref());
    let scores: Vec<Score> = list
        .pairs
        .iter()
        .map(|pair| Score {
            similarity: look(&pair.left)
                .zip(look(&pair.right))
                .map(|(left, right)| left.similarity(right)),
            same: pair.same,
            fold: pair.fold,
        })
        .collect();
    let undetected = embeddings.iter().filter(|look| look.is_none()).count();
    let report = evaluate::verify(&scores, list.folds, undetected);
    if let Some(path) = &args.plot {
        let different = scores.iter().filter(|score| !score.same).count();
        write_plot(path, &evaluate::roc_svg(&report.roc, different))?;
    }
    if list.folds == 1 {
        eprintln!("familiar: one fold: the threshold was chosen on the pairs it is judged by");
    }
    if global.json {
        return print_json(&report);
    }
    print_verification(&report, pictures.len());
    Ok(())
}

fn jobs(args: &Args) -> usize {
    args.jobs.map_or_else(evaluate::all_cores, NonZeroUsize::get)
}

/// Folders that are not as they should be are the caller's mistake.
fn folders(error: EvaluateError) -> Failure {
    match error {
        EvaluateError::Layout { .. } | EvaluateError::Io { .. } => Failure::usage(error),
        _ => Failure::failed(error),
    }
}

fn write_plot(path: &Path, svg: &str) -> Result<(), Failure> {
    std::fs::write(path, svg)
        .map_err(|error| Failure::Failed(format!("{}: {error}", path.display())))
}

fn embed(
    engine: &Engine,
    args: &Args,
    paths: &[PathBuf],
) -> Result<Vec<Option<Embedding>>, Failure> {
    let bar = progress(paths.len());
    let embeddings =
        evaluate::embed_all(engine, paths, jobs(args), || bar.inc(1)).map_err(Failure::failed)?;
    bar.finish_and_clear();
    Ok(embeddings)
}

/// Of each person, the embeddings of the pictures with a face.
fn looks_of(engine: &Engine, args: &Args, people: &People) -> Result<Vec<Vec<Embedding>>, Failure> {
    let paths: Vec<PathBuf> = people.0.values().flatten().cloned().collect();
    let mut embeddings = embed(engine, args, &paths)?.into_iter();
    let own =
        |pictures: &Vec<PathBuf>| embeddings.by_ref().take(pictures.len()).flatten().collect();
    Ok(people.0.values().map(own).collect())
}

fn print_verification(report: &VerificationReport, pictures: usize) {
    let accuracy = &report.accuracy;
    println!("pairs       {}", report.pairs);
    println!("undetected  {} of {pictures} pictures", report.undetected);
    println!(
        "accuracy    {:.2} % (standard deviation over folds {:.2}; 95 % interval {:.2} to {:.2})",
        accuracy.mean * 100.0,
        accuracy.sd * 100.0,
        accuracy.interval[0] * 100.0,
        accuracy.interval[1] * 100.0
    );
    println!("equal error {:.2} %", report.eer * 100.0);
    for rate in [1e-1, 1e-2, 1e-3] {
        let strict = report.roc.iter().rfind(|point| point.far <= rate);
        if let Some(point) = strict {
            println!(
                "FAR {rate:<7} TAR {:.2} % at a threshold of {:.3}",
                point.tar * 100.0,
                point.threshold
            );
        }
    }
}

fn print_boxes(global: &Global, report: &evaluate::BoxReport) -> Result<(), Failure> {
    if global.json {
        return print_json(report);
    }
    println!(
        "{} of {} easy faces found (recall {:.3}), {:.3} false detections a picture, {} pictures, \
         score threshold {}",
        report.found,
        report.faces,
        report.recall,
        report.false_per_picture,
        report.pictures,
        report.score_threshold
    );
    Ok(())
}

fn print_held_out(global: &Global, outcomes: &[evaluate::Honoured]) -> Result<(), Failure> {
    if global.json {
        return print_json(&outcomes);
    }
    println!(
        "half  people  looks  wanted  threshold  observed  95 % interval        pairs of people"
    );
    for o in outcomes {
        let [low, high] = o.interval;
        println!(
            "{:<4}  {:<6}  {:<5}  {:<6e}  {:<9.3}  {:<8.1e}  {low:.1e} to {high:.1e}{}  {}",
            o.half + 1,
            o.people,
            o.looks,
            o.false_match_rate,
            o.threshold,
            o.observed,
            if o.honoured { "   " } else { " no" },
            o.pairs_of_people,
        );
    }
    let honoured = outcomes.iter().filter(|outcome| outcome.honoured).count();
    println!("the wanted rate lies within the interval in {honoured} of {}", outcomes.len());
    Ok(())
}

fn print_calibration(global: &Global, tables: Vec<Calibration>) -> Result<(), Failure> {
    if global.json {
        return print_json(&tables);
    }
    for (at, table) in tables.iter().enumerate() {
        let gap = if at == 0 { "" } else { "\n" };
        println!(
            "{gap}[[calibration]]\nlooks = {}\npairs = {}\npoints = [",
            table.looks, table.pairs
        );
        for point in &table.points {
            println!(
                "  {{ false_match_rate = {:e}, similarity = {:.4} }},",
                point.false_match_rate, point.similarity
            );
        }
        println!("]");
    }
    Ok(())
}
