//! `familiar evaluate --people --strangers`.

use std::num::NonZeroUsize;
use std::path::Path;

use super::{Args, embed, folders, open, print_json, write_plot};
use crate::cli::{Failure, Global};
use crate::evaluate::folders::{ByPerson, people as read_people, strangers as read_strangers};
use crate::evaluate::{DetSeries, OpenSet, OpenSetPoint, OpenSetReport, det_svg};
use crate::model::Engine;
use crate::recognition::consensus::ONE_CAMERA;
use crate::recognition::{Embedding, LookThresholds};

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Open set: pictures of each person that make the template, the first ones by name
    #[arg(long, value_name = "N", requires = "people", default_value = "3")]
    enroll: NonZeroUsize,
    /// Open set: pool up to so many pictures of a probe
    #[arg(long, value_name = "N", requires = "people", default_value = "4")]
    looks: NonZeroUsize,
    /// Open set: also judge the thresholds that the bundle's calibration gives for this rate, as calibrated and as
    /// `run` sets them
    #[arg(long, value_name = "RATE", requires = "people")]
    false_match_rate: Vec<f64>,
}

pub fn run(global: &Global, args: &Args, people: &Path, strangers: &Path) -> Result<(), Failure> {
    let people = read_people(people).map_err(folders)?;
    let strangers = read_strangers(strangers).map_err(folders)?;
    let enroll = args.open_set.enroll.get();
    if people.values().all(|pictures| pictures.len() <= enroll) {
        return Err(Failure::usage(format!(
            "nobody has a picture beyond the {enroll} to enrol from; give more pictures, or a smaller --enroll"
        )));
    }
    for both in people.keys().filter(|name| strangers.contains_key(*name)) {
        eprintln!(
            "familiar: {both} is both enrolled and a stranger; if that is one person, the rates are wrong"
        );
    }
    let engine = open(global, args)?;
    let set = load(&engine, args, people, strangers, enroll)?;
    let most = args.open_set.looks.get();
    let mut report = set.report(most);
    for &rate in &args.open_set.false_match_rate {
        report.points.extend(configured(&engine, &set, rate, most, enroll)?);
    }
    if let Some(path) = &args.plot {
        write_plot(path, &draw(&set, &report, most))?;
    }
    if global.json {
        return print_json(&report);
    }
    print(&report);
    Ok(())
}

fn load(
    engine: &Engine,
    args: &Args,
    people: ByPerson,
    strangers: ByPerson,
    enroll: usize,
) -> Result<OpenSet, Failure> {
    let paths: Vec<_> = people.values().chain(strangers.values()).flatten().cloned().collect();
    let mut embeddings = embed(engine, args, &paths)?.into_iter();
    let mut take = |people: &ByPerson| -> Vec<Vec<Option<Embedding>>> {
        people.values().map(|own| embeddings.by_ref().take(own.len()).collect()).collect()
    };
    let (people, strangers) = (take(&people), take(&strangers));
    OpenSet::new(people, strangers, enroll)
        .map_err(|error| Failure::NoUsableFace(error.to_string()))
}

/// The thresholds of a rate, as calibrated and as `run` sets them.
fn configured(
    engine: &Engine,
    set: &OpenSet,
    rate: f64,
    most: usize,
    enroll: usize,
) -> Result<Vec<OpenSetPoint>, Failure> {
    // A probe's looks and a template's are brought to one number between them.
    let asked = LookThresholds::ask(most.max(enroll), |looks| engine.threshold(rate, looks))
        .map_err(Failure::usage)?
        .ok_or_else(|| Failure::failed("the bundle has no thresholds"))?;
    let mut points = Vec::new();
    for reserve in [0.0, ONE_CAMERA] {
        let thresholds = asked.clone().with_reserve(reserve);
        for looks in 1..=most {
            points.extend(set.at_configured(looks, rate, reserve, |probe, template| {
                thresholds.between(probe, template)
            }));
        }
    }
    Ok(points)
}

fn draw(set: &OpenSet, report: &OpenSetReport, most: usize) -> String {
    let curves: Vec<_> = (1..=most)
        .map(|looks| (looks, set.curve(looks)))
        .filter(|(_, curve)| !curve.is_empty())
        .map(|(looks, points)| DetSeries {
            label: if looks == 1 {
                "single look".to_owned()
            } else {
                format!("mean of {looks} looks")
            },
            points,
            dashed: false,
        })
        .collect();
    let title = format!("Open set: {} enrolled, {} strangers", report.gallery, report.strangers);
    det_svg(
        &title,
        "false positive identification rate (strangers named)",
        "false negative identification rate (enrolled people missed)",
        &curves,
    )
}

fn print(report: &OpenSetReport) {
    println!("gallery     {} people", report.gallery);
    if report.not_enrolled > 0 {
        println!("            {} more could not be enrolled: no face", report.not_enrolled);
    }
    println!("probes      {} pictures", report.probes);
    println!("strangers   {}", report.strangers);
    println!("undetected  {} pictures", report.undetected);
    println!("\nlooks  FPIR     threshold  FNIR (95 % interval)");
    for point in report.points.iter().filter(|point| point.configured.is_none()) {
        println!(
            "{:<5}  {:<7e}  {:<9.3}  {}; {} taken for somebody else; {} of {} searches of {} strangers passed",
            point.looks,
            point.fpir,
            point.threshold,
            point.misses,
            point.misidentified,
            point.false_positives.count,
            point.false_positives.of,
            point.strangers
        );
    }
    let judged = report.points.iter().filter_map(|point| Some((point, point.configured?)));
    for (at, (point, configured)) in judged.enumerate() {
        if at == 0 {
            println!(
                "\nlooks  wanted   threshold  false matches observed | FPIR | FNIR (95 % intervals)"
            );
        }
        println!(
            "{:<5}  {:<7e}  {:<9.3}  {} | {} | {}{}",
            point.looks,
            configured.false_match_rate,
            point.threshold,
            configured.false_matches,
            point.false_positives,
            point.misses,
            if configured.reserve > 0.0 { " (as run, with the reserve)" } else { "" }
        );
    }
}
