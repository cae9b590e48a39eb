//! Whether verified events are the whole of a device's chain, in order (contract §3, `seq` and `prev`).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde::Serialize;

use super::jws::Verified;
use super::line::Line;
use super::payload::{Link, Lost};
use super::vouch::Last;

/// Collects verified events, one chain for each key, in the order they came.
#[derive(Debug, Default)]
pub struct Chain {
    keys: BTreeMap<String, BTreeMap<u64, Seen>>,
    highest: BTreeMap<String, u64>,
    /// Who told of losses in the key's chain, and of which.
    told: BTreeMap<String, Vec<(String, Lost)>>,
    /// Keys that took another's place, with where that one's chain ended.
    ends: BTreeMap<String, End>,
    duplicates: u64,
    /// Different events so far, of every key.
    arrived: u64,
    faults: Vec<String>,
}

#[derive(Debug)]
struct End {
    last: Option<Last>,
    successor: String,
}

#[derive(Debug)]
struct Seen {
    link: String,
    prev: Option<String>,
    /// How many different events had come before.
    arrival: u64,
}

/// What came of it; `ok` when nothing is missing, out of order or contradicts itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Different events.
    pub events: u64,
    /// Events that came again, exactly as before.
    pub duplicates: u64,
    /// Numbers that are missing between the first and the last that came, or up to where a replaced key
    /// ended, and that no overflow event tells of: first and last of each run.
    pub gaps: Vec<(u64, u64)>,
    pub ok: bool,
    /// What else is wrong, in words.
    #[serde(skip)]
    pub faults: Vec<String>,
    /// What could not be proven, without being wrong.
    #[serde(skip)]
    pub doubts: Vec<String>,
}

impl Chain {
    /// Tells it of a device's keys: where each former one's chain ended and which key goes on.
    pub fn follow(&mut self, line: &Line) {
        for (key, last, successor) in line.ends() {
            let end = End { last: last.cloned(), successor: successor.kid().to_owned() };
            self.ends.insert(key.kid().to_owned(), end);
        }
    }

    /// Adds one verified event.
    pub fn add(&mut self, event: &Verified, link: &Link) {
        let seen =
            Seen { link: event.link.clone(), prev: link.prev.clone(), arrival: self.arrived };
        let highest = self.highest.entry(event.kid.clone()).or_default();
        match self.keys.entry(event.kid.clone()).or_default().entry(link.seq) {
            Entry::Occupied(first) if first.get().link == seen.link => self.duplicates += 1,
            Entry::Occupied(_) => {
                self.faults.push(format!("two different events have number {}", link.seq));
            }
            Entry::Vacant(place) => {
                place.insert(seen);
                self.arrived += 1;
                if link.seq < *highest {
                    self.faults.push(format!("event {} came after {highest}", link.seq));
                }
                *highest = link.seq.max(*highest);
                if let Some(lost) = &link.overflow {
                    let whose = lost.kid.as_ref().unwrap_or(&event.kid).clone();
                    let told = self.told.entry(whose).or_default();
                    told.push((event.kid.clone(), lost.clone()));
                }
            }
        }
    }

    /// The outcome. A chain may begin later than number 1 (the consumer came later, or the outbox
    /// overflowed): what lies before the first event is not known and not a gap.
    pub fn report(mut self) -> Report {
        let (mut gaps, mut faults) = (Vec::new(), Vec::new());
        for (kid, events) in &self.keys {
            let told = self.told_of(kid);
            let pairs = events.iter().zip(events.iter().skip(1));
            for ((seq, before), (next, after)) in pairs {
                if *next == seq + 1 {
                    if after.prev.as_ref() != Some(&before.link) {
                        faults.push(format!("event {next} does not follow from event {seq}"));
                    }
                } else {
                    untold(seq + 1, next - 1, &told, &mut gaps);
                }
            }
        }
        let doubts = self.prove_ends(&mut gaps, &mut faults);
        self.faults.append(&mut faults);
        Report {
            events: self.arrived,
            duplicates: self.duplicates,
            ok: gaps.is_empty() && self.faults.is_empty(),
            gaps,
            faults: self.faults,
            doubts,
        }
    }

    /// Holds the chain of each replaced key against its vouch: it ended exactly there, and its successor
    /// begins at 1 after it. Says what cannot be proven.
    fn prove_ends(&self, gaps: &mut Vec<(u64, u64)>, faults: &mut Vec<String>) -> Vec<String> {
        let mut doubts = Vec::new();
        for (kid, End { last, successor }) in &self.ends {
            let Some((highest, end)) = self.keys.get(kid).and_then(|e| e.last_key_value()) else {
                continue;
            };
            match last {
                None => doubts.push(format!(
                    "the device had lost where the chain of {kid} ended: what followed event {highest} \
                     cannot be known"
                )),
                Some(last) if *highest > last.seq => faults.push(format!(
                    "event {highest} by {kid}, which was replaced after event {}",
                    last.seq
                )),
                Some(last) if *highest < last.seq => {
                    untold(highest + 1, last.seq, &self.told_of(kid), gaps);
                }
                Some(last) if last.link.as_ref() != Some(&end.link) => {
                    faults.push(format!("event {highest} is not the last that {kid} signed"));
                }
                Some(_) => {}
            }
            let Some(next) = self.keys.get(successor) else { continue };
            if let Some((&first @ 2.., _)) = next.first_key_value() {
                untold(1, first - 1, &self.told_of(successor), gaps);
            }
            let began = next.values().map(|seen| seen.arrival).min();
            let ended = self.keys[kid].values().map(|seen| seen.arrival).max();
            if began < ended {
                faults.push(format!("events by {kid} came after those of its successor"));
            }
        }
        doubts
    }

    /// Losses in a key's chain, told by itself or by a key that took its place.
    fn told_of(&self, kid: &str) -> Vec<&Lost> {
        let told = self.told.get(kid).map(Vec::as_slice).unwrap_or_default();
        told.iter().filter(|(by, _)| self.leads(kid, by)).map(|(_, lost)| lost).collect()
    }

    fn leads(&self, from: &str, to: &str) -> bool {
        let mut at = from;
        // A line has no circles, but several of them together might.
        for _ in 0..=self.ends.len() {
            if at == to {
                return true;
            }
            let Some(end) = self.ends.get(at) else { return false };
            at = &end.successor;
        }
        false
    }
}

/// Adds to `gaps` the runs within `from` to `to` that no overflow event tells of.
fn untold(from: u64, to: u64, told: &[&Lost], gaps: &mut Vec<(u64, u64)>) {
    let mut told: Vec<&&Lost> = told.iter().filter(|l| l.from <= to && l.to >= from).collect();
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
