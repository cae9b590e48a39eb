//! Whether verified events are the whole of a device's chain, in order (contract §3, `seq` and `prev`).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde::Serialize;

use super::jws::Verified;
use super::payload::{Link, Lost};

/// Collects verified events, one chain for each key, in the order they came.
#[derive(Debug, Default)]
pub struct Chain {
    keys: BTreeMap<String, BTreeMap<u64, Seen>>,
    highest: BTreeMap<String, u64>,
    told: BTreeMap<String, Vec<Lost>>,
    duplicates: u64,
    faults: Vec<String>,
}

#[derive(Debug)]
struct Seen {
    link: String,
    prev: Option<String>,
}

/// What came of it; `ok` when nothing is missing, out of order or contradicts itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Different events.
    pub events: u64,
    /// Events that came again, exactly as before.
    pub duplicates: u64,
    /// Numbers that are missing between the first and the last that came, and that no overflow event
    /// tells of: first and last of each run.
    pub gaps: Vec<(u64, u64)>,
    pub ok: bool,
    /// What else is wrong, in words.
    #[serde(skip)]
    pub faults: Vec<String>,
}

impl Chain {
    /// Adds one verified event.
    pub fn add(&mut self, event: &Verified, link: &Link) {
        let seen = Seen { link: event.link.clone(), prev: link.prev.clone() };
        let highest = self.highest.entry(event.kid.clone()).or_default();
        match self.keys.entry(event.kid.clone()).or_default().entry(link.seq) {
            Entry::Occupied(first) if first.get().link == seen.link => self.duplicates += 1,
            Entry::Occupied(_) => {
                self.faults.push(format!("two different events have number {}", link.seq));
            }
            Entry::Vacant(place) => {
                place.insert(seen);
                if link.seq < *highest {
                    self.faults.push(format!("event {} came after {highest}", link.seq));
                }
                *highest = link.seq.max(*highest);
                if let Some(lost) = &link.overflow {
                    let whose = lost.kid.as_ref().unwrap_or(&event.kid).clone();
                    self.told.entry(whose).or_default().push(lost.clone());
                }
            }
        }
    }

    /// The outcome. A chain may begin later than number 1 (the consumer came later, or the outbox
    /// overflowed): what lies before the first event is not known and not a gap.
    pub fn report(mut self) -> Report {
        let mut gaps = Vec::new();
        for (kid, events) in &self.keys {
            let told = self.told.get(kid).map(Vec::as_slice).unwrap_or_default();
            let pairs = events.iter().zip(events.iter().skip(1));
            for ((seq, before), (next, after)) in pairs {
                if *next == seq + 1 {
                    if after.prev.as_ref() != Some(&before.link) {
                        self.faults.push(format!("event {next} does not follow from event {seq}"));
                    }
                } else {
                    untold(seq + 1, next - 1, told, &mut gaps);
                }
            }
        }
        Report {
            events: self.keys.values().map(|events| events.len() as u64).sum(),
            duplicates: self.duplicates,
            ok: gaps.is_empty() && self.faults.is_empty(),
            gaps,
            faults: self.faults,
        }
    }
}

/// Adds to `gaps` the runs within `from` to `to` that no overflow event tells of.
fn untold(from: u64, to: u64, told: &[Lost], gaps: &mut Vec<(u64, u64)>) {
    let mut told: Vec<&Lost> = told.iter().filter(|l| l.from <= to && l.to >= from).collect();
    told.sort_by_key(|lost| lost.from);
    let mut at = from;
    for lost in told {
        if lost.from > at {
            gaps.push((at, lost.from - 1));
        }
        at = at.max(lost.to.saturating_add(1));
    }
    if at <= to {
        gaps.push((at, to));
    }
}
