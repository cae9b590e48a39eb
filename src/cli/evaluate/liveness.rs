//! `familiar evaluate --genuine --attacks`.

use std::path::Path;

use super::{Args, folders, jobs, open, print_json, progress, write_plot};
use crate::cli::{Failure, Global};
use crate::evaluate::folders::{TrackFolder, attacks as read_attacks, tracks as read_tracks};
use crate::evaluate::{
    AttacksByKind, Choice, DetSeries, LivenessCounts, LivenessReport, ScoredTrack, det_svg,
    judge_liveness, liveness_curves, score_tracks,
};

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Liveness: pass from this mean score on, 0 to 1 [default: where the errors are equal on these very tracks]
    #[arg(long, value_name = "SCORE", requires = "genuine", value_parser = score)]
    liveness_threshold: Option<f32>,
}

fn score(text: &str) -> Result<f32, String> {
    let score = text.parse::<f32>().ok().filter(|score| (0.0..=1.0).contains(score));
    score.ok_or_else(|| "not a number from 0 to 1".to_owned())
}

pub fn run(global: &Global, args: &Args, genuine: &Path, attacks: &Path) -> Result<(), Failure> {
    let live = read_tracks(genuine).map_err(folders)?;
    let kinds = read_attacks(attacks).map_err(folders)?;
    let engine = open(global, args)?;
    if !engine.has_liveness() {
        return Err(Failure::Failed("this bundle has no liveness networks to measure".to_owned()));
    }
    let all: Vec<TrackFolder> = live.iter().chain(kinds.values().flatten()).cloned().collect();
    let bar = progress(all.iter().map(|track| track.frames.len()).sum());
    let scored = score_tracks(&engine, &all, jobs(args), || bar.inc(1)).map_err(Failure::failed)?;
    bar.finish_and_clear();
    let mut scored = scored.into_iter();
    let genuine: Vec<ScoredTrack> = scored.by_ref().take(live.len()).collect();
    let attacks: AttacksByKind = kinds
        .iter()
        .map(|(kind, tracks)| (kind.clone(), scored.by_ref().take(tracks.len()).collect()))
        .collect();
    let report = judge_liveness(
        &genuine,
        &attacks,
        args.liveness.liveness_threshold,
        engine.manifest().liveness_threshold(),
    )
    .map_err(|error| Failure::NoUsableFace(error.to_string()))?;
    if let Some(path) = &args.plot {
        write_plot(path, &draw(&genuine, &attacks))?;
    }
    if global.json {
        return print_json(&report);
    }
    print(&report);
    Ok(())
}

fn draw(genuine: &[ScoredTrack], attacks: &AttacksByKind) -> String {
    let curves: Vec<DetSeries> = liveness_curves(genuine, attacks)
        .into_iter()
        .map(|(label, dashed, points)| DetSeries { label, points, dashed })
        .collect();
    det_svg(
        "Liveness",
        "APCER (attacks that pass as live)",
        "BPCER (live faces taken for attacks)",
        &curves,
    )
}

fn print(report: &LivenessReport) {
    let chosen = match report.choice {
        Choice::Given => "as given",
        Choice::EqualErrorOnTheseTracks => {
            "equal error, chosen on these very tracks, which flatters"
        }
    };
    println!("threshold   {:.3} ({chosen})", report.threshold);
    println!(
        "            wrong per track | per frame | per verdict of five frames (95 % intervals)"
    );
    row("BPCER", &report.genuine);
    for (kind, counts) in &report.attacks {
        row(&format!("APCER {kind}"), counts);
    }
    println!("\nat the bundle's threshold, {:.3}, by which `run` decides", report.bundle.threshold);
    row("BPCER", &report.bundle.genuine);
    for (kind, counts) in &report.bundle.attacks {
        row(&format!("APCER {kind}"), counts);
    }
    let Some(held) = &report.held_out else { return };
    println!("\neach subject by a threshold chosen on the others");
    for subject in &held.subjects {
        println!("{} at {:.3}", subject.name, subject.threshold);
        row("  BPCER", &subject.genuine);
        for (kind, counts) in &subject.attacks {
            row(&format!("  APCER {kind}"), counts);
        }
    }
    println!("all");
    row("  BPCER", &held.bpcer);
    for (kind, counts) in &held.apcer {
        row(&format!("  APCER {kind}"), counts);
    }
}

fn row(name: &str, counts: &LivenessCounts) {
    println!(
        "{name:<14}  {} | {} | {}; without a usable face: {} tracks, {} frames",
        counts.tracks,
        counts.frames,
        counts.verdicts,
        counts.tracks_without_a_face,
        counts.frames_without_a_face
    );
}
