//! `familiar people check`: looks that hurt, and people who are nearly one.

use std::io::{IsTerminal, Write};

use jiff::Timestamp;
use serde::Serialize;

use super::lookalikes::{Pair as Lookalike, describe as describe_pair};
use super::{look, print_json, rounded};
use crate::cli::{Failure, Global, engine};
use crate::recognition::LookThresholds;
use crate::recognition::PersonRef;
use crate::recognition::gallery::{
    Alike, Gallery, GalleryError, Harm, Hurtful, MAXIMUM_LOOKS, hurtful, lookalikes,
};

/// Find looks that hurt, and people who are nearly one
///
/// A look hurts that is nearer to another person than the decision threshold, or than to its own person's other
/// looks; that is as near to a negative anchor as to its own; or that would not be taken for its own person. The
/// worst is put aside and the others are judged anew without it, so that one wrong look does not make right ones
/// seem wrong. On a terminal it is asked of each whether to drop it. A person's last look is never dropped, nor is
/// anything of people who are nearly one: forget one, enrol better pictures, or enrol them as lookalikes
/// (`familiar enroll --similar-to`), whose cost is then shown here. A dropped look leaves no bytes, and a running
/// daemon takes notice by itself.
///
/// Ends with 0 when nothing hurts, or all that hurt was dropped; with 1 otherwise. JSON: docs/people.md.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  familiar people check\n  familiar people check --drop")]
pub struct CheckArgs {
    /// Drop the looks that hurt without asking
    #[arg(long)]
    drop: bool,
}

#[derive(Serialize)]
struct Line {
    person: PersonRef,
    look: usize,
    added: Timestamp,
    reason: &'static str,
    similarity: Option<f64>,
    threshold: Option<f64>,
    own: Option<f64>,
    other: Option<String>,
    last: bool,
    dropped: bool,
}

#[derive(Serialize)]
struct Pair {
    people: [PersonRef; 2],
    similarity: f64,
    threshold: f64,
}

pub fn run(global: &Global, args: &CheckArgs) -> Result<(), Failure> {
    let config = global.located()?.config;
    let rate = config.recognition.false_match_rate;
    let engine = engine::open(global)?;
    let mut gallery = look()?;
    let thresholds = LookThresholds::ask(MAXIMUM_LOOKS, |looks| engine.threshold(rate, looks))
        .map_err(Failure::usage)?
        .ok_or_else(|| Failure::refused("the bundle's calibration gives no threshold"))?;
    let embedder = engine.embedder_digest();
    let people = gallery.enrolments(embedder)?;
    let checked = people.len();
    let known = lookalikes(&people);
    let space = engine.space().mapped_if(config.models.mapping);
    let (found, alike) = hurtful(people, &gallery.anchor_templates(&space)?, &thresholds);

    let ask = !args.drop
        && !global.json
        && std::io::stdin().is_terminal()
        && std::io::stderr().is_terminal();
    let mut lines = Vec::new();
    for hurtful in found {
        if !global.json {
            println!("{}", describe(&hurtful));
        }
        let wanted = !hurtful.last && (args.drop || (ask && confirmed(&hurtful)?));
        let dropped = wanted && drop_look(&mut gallery, &hurtful)?;
        if dropped && !global.json {
            println!("  dropped");
        }
        lines.push(line(hurtful, dropped));
    }
    let left = lines.iter().filter(|line| !line.dropped).count();
    let pairs = alike.len();
    if global.json {
        let alike: Vec<Pair> = alike.into_iter().map(pair).collect();
        let known: Vec<Lookalike<'_>> = known.iter().map(Lookalike::from).collect();
        print_json(&serde_json::json!({ "looks": lines, "alike": alike, "lookalikes": known }))?;
    } else {
        for pair in &known {
            println!("warning: {}", describe_pair(pair));
        }
        for Alike { people: [one, other], similarity, threshold } in &alike {
            println!(
                "{} ({}) and {} ({}) are nearly one: similarity {similarity:.3} of their means, threshold \
                 {threshold:.3}; where both are near, neither is named. If both are wanted: `familiar enroll {} \
                 PHOTO… --similar-to {}`",
                one.name, one.id, other.name, other.id, other.id, one.id
            );
        }
        if lines.is_empty() && pairs == 0 {
            println!("{checked} people: nothing hurts");
        }
    }
    if left + pairs == 0 {
        return Ok(());
    }
    Err(Failure::failed(format!(
        "{left} looks hurt and were not dropped (--drop drops all but a person's last), {pairs} pairs of people \
         are nearly one"
    )))
}

fn describe(hurtful: &Hurtful) -> String {
    let Hurtful { person, number, added, harm, last, .. } = hurtful;
    let own = |own: &Option<f32>| {
        own.map_or("it has no other look".to_owned(), |own| format!("{own:.3} to its own others"))
    };
    let why = match harm {
        Harm::NearAnother { other, similarity, threshold, own: to_own } => format!(
            "looks like {} ({}): similarity {similarity:.3}, threshold {threshold:.3}; {}",
            other.name,
            other.id,
            own(to_own)
        ),
        Harm::NearAnchor { anchor, similarity, own: to_own } => format!(
            "is as near to {anchor}, which is not to be named: similarity {similarity:.3}; {}",
            own(to_own)
        ),
        Harm::FarFromOwn { own, threshold } => format!(
            "is far from the person's others: similarity {own:.3}, threshold {threshold:.3}"
        ),
    };
    let last = if *last { " (the last look of this person, which stays)" } else { "" };
    format!("{} ({}): look {number} of {added:.0} {why}{last}", person.name, person.id)
}

fn confirmed(hurtful: &Hurtful) -> Result<bool, Failure> {
    eprint!("drop look {} of {}? [y/N] ", hurtful.number, hurtful.person.id);
    let mut answer = String::new();
    std::io::stderr()
        .flush()
        .and_then(|()| std::io::stdin().read_line(&mut answer))
        .map_err(|error| Failure::failed(format!("the terminal: {error}")))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Whether it is gone; by another process meanwhile is as well.
fn drop_look(gallery: &mut Gallery, hurtful: &Hurtful) -> Result<bool, Failure> {
    match gallery.drop_look(&hurtful.person.id, hurtful.look) {
        // Meanwhile it has become the last.
        Err(GalleryError::NoLooks) => Ok(false),
        Ok(_) | Err(GalleryError::Unknown { .. }) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

fn line(hurtful: Hurtful, dropped: bool) -> Line {
    let Hurtful { person, number, added, harm, last, .. } = hurtful;
    let (reason, similarity, threshold, own, other) = match harm {
        Harm::NearAnother { other, similarity, threshold, own } => {
            ("near-another", Some(similarity), Some(threshold), own, Some(other.id.to_string()))
        }
        Harm::NearAnchor { anchor, similarity, own } => {
            ("near-anchor", Some(similarity), None, own, Some(anchor.to_string()))
        }
        Harm::FarFromOwn { own, threshold } => {
            ("far-from-own", None, Some(threshold), Some(own), None)
        }
    };
    let [similarity, threshold, own] = [similarity, threshold, own].map(|value| value.map(rounded));
    Line { person, look: number, added, reason, similarity, threshold, own, other, last, dropped }
}

fn pair(alike: Alike) -> Pair {
    let Alike { people, similarity, threshold } = alike;
    Pair { people, similarity: rounded(similarity), threshold: rounded(threshold) }
}
