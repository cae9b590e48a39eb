//! How many arrivals are told: a flickering lamp or a crowd must not drown a consumer.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::config;
use crate::recognition::{Decision, PersonId, Verdict};
use crate::system::bucket::TokenBucket;

/// Token buckets on the frames' time line, one for everybody and one for each person. A departure is
/// told if the arrival was, and is not counted.
pub struct EventLimits {
    /// Any instant; the time line counts from here.
    epoch: Instant,
    all: TokenBucket,
    per_person: u32,
    people: BTreeMap<PersonId, TokenBucket>,
    /// Present, but the arrival was not told.
    untold: BTreeSet<PersonId>,
    limited: u64,
}

impl EventLimits {
    pub fn new(events: &config::Events) -> Self {
        Self {
            epoch: Instant::now(),
            all: TokenBucket::new(events.limit, events.limit),
            per_person: events.limit_per_person,
            people: BTreeMap::new(),
            untold: BTreeSet::new(),
            limited: 0,
        }
    }

    /// Decisions that were not told since the start.
    pub fn limited(&self) -> u64 {
        self.limited
    }

    pub fn reconfigure(&mut self, events: &config::Events) {
        *self = Self {
            untold: std::mem::take(&mut self.untold),
            limited: self.limited,
            ..Self::new(events)
        };
    }

    /// What may be told of the decisions of one moment, `media` on the frames' time line.
    pub fn admit(&mut self, decisions: Vec<Decision>, media: Duration) -> Vec<Decision> {
        let now = self.epoch + media;
        decisions.into_iter().filter(|decision| self.admits(decision, now)).collect()
    }

    /// Forgets people who are no longer enrolled.
    pub fn keep_only(&mut self, enrolled: impl Fn(&PersonId) -> bool) {
        self.people.retain(|id, _| enrolled(id));
        self.untold.retain(|id| enrolled(id));
    }

    fn admits(&mut self, decision: &Decision, now: Instant) -> bool {
        let admitted = match &decision.verdict {
            Verdict::Departed { person } => return !self.untold.remove(&person.id),
            Verdict::Recognized { person, .. } => {
                let per_person = self.per_person;
                let own = self
                    .people
                    .entry(person.id.clone())
                    .or_insert_with(|| TokenBucket::new(per_person, per_person));
                // The own bucket first: one person must not use up what is for everybody.
                let admitted = own.take(now) && self.all.take(now);
                if admitted {
                    self.untold.remove(&person.id);
                } else {
                    self.untold.insert(person.id.clone());
                }
                admitted
            }
            Verdict::Unknown { .. } | Verdict::Spoof { .. } => self.all.take(now),
        };
        if !admitted {
            self.limited += 1;
            if self.limited.is_power_of_two() {
                log::warn!(
                    "more arrivals than [events] `limit` and `limit_per_person` let be told; {} so far",
                    self.limited
                );
            }
        }
        admitted
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::recognition::{Evidence, PersonRef};

    fn decision(id: &str, arrives: bool) -> Decision {
        let person = PersonRef { id: id.parse().unwrap(), name: id.to_owned() };
        let evidence = Evidence {
            similarity: 0.8,
            threshold: 0.7,
            false_match_rate: 1e-4,
            frames: 3,
            liveness: None,
        };
        let verdict = if arrives {
            Verdict::Recognized { person, evidence }
        } else {
            Verdict::Departed { person }
        };
        Decision { time: jiff::Timestamp::now(), track: 1, verdict }
    }

    fn limits(limit: u32, limit_per_person: u32) -> EventLimits {
        EventLimits::new(&config::Events { limit, limit_per_person, ..config::Events::default() })
    }

    /// Holds STA-20.
    #[test]
    fn a_departure_is_told_if_its_arrival_was() {
        let mut limits = limits(60, 2);
        let mut told = Vec::new();
        for second in 0..8 {
            let media = Duration::from_secs(second);
            told.extend(limits.admit(vec![decision("ada", second % 2 == 0)], media));
        }
        let arrivals = told.iter().filter(|d| matches!(d.verdict, Verdict::Recognized { .. }));
        assert_eq!((arrivals.count(), told.len(), limits.limited()), (2, 4, 2));
    }

    /// Holds STA-19.
    #[test]
    fn one_person_does_not_use_up_what_is_for_everybody() {
        let mut limits = limits(5, 2);
        let at = Duration::ZERO;
        let flood = (0..100).map(|_| decision("ada", true)).collect();
        assert_eq!(limits.admit(flood, at).len(), 2);
        let others = ["bo", "cy", "di", "ed"].map(|id| decision(id, true)).to_vec();
        assert_eq!(limits.admit(others, at).len(), 3);
        // Time brings new ones, a jump of it not more than the bucket holds.
        let later = (0..100).map(|_| decision("ada", true)).collect();
        assert_eq!(limits.admit(later, Duration::from_hours(9)).len(), 2);
    }
}
