//! Is a false match rate honoured? Thresholds calibrated on half of the people, judged on the other half.
//!
//! Comparisons of the same people are alike, so an interval that takes each for a draw of its own would be far too
//! narrow. People are drawn instead, with replacement, and with each all comparisons with the others: the subsets
//! bootstrap of Bolle, Ratha and Pankanti 2004, "Error analysis of pattern recognition systems".

use std::collections::BTreeMap;

use serde::Serialize;

use super::EvaluateError;
use super::calibrate::{calibrate, groups, rounds};
use crate::recognition::Embedding;

/// Draws of as many people as there are.
const DRAWS: usize = 1000;
/// 95 %, two-sided.
const OUTSIDE: f64 = 0.025;
/// Laxer rates say little of how seldom a stranger passes.
const LAXEST: f64 = 1e-2;

/// What a threshold of one half of the people did to the other half.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Honoured {
    /// 0 or 1: the half it was observed on.
    pub half: usize,
    pub people: usize,
    /// Pooled on each side.
    pub looks: usize,
    /// What the threshold was calibrated for.
    pub false_match_rate: f64,
    pub threshold: f32,
    /// Share of comparisons of different people that reached the threshold.
    pub observed: f64,
    /// 95 %, from drawing people.
    pub interval: [f64; 2],
    /// Whether the interval holds the rate.
    pub honoured: bool,
    /// Pairs of different people with such a comparison.
    pub pairs_of_people: usize,
}

/// Both halves, each judged by the other's thresholds; people are dealt out in a fixed random order.
pub fn held_out(
    people: &[Vec<Embedding>],
    looks: &[usize],
) -> Result<Vec<Honoured>, EvaluateError> {
    let mut random = fastrand::Rng::with_seed(2_004);
    let mut order: Vec<usize> = (0..people.len()).filter(|&at| !people[at].is_empty()).collect();
    random.shuffle(&mut order);
    let (first, second) = order.split_at(order.len() / 2);
    let half = |part: &[usize]| -> Vec<Vec<Embedding>> {
        part.iter().map(|&at| people[at].clone()).collect()
    };
    let halves = [half(first), half(second)];
    let mut outcomes = Vec::new();
    for (at, judged) in halves.iter().enumerate() {
        for table in calibrate(&halves[1 - at], looks, || ())? {
            let points =
                table.points.iter().filter(|point| point.false_match_rate <= LAXEST * 1.001);
            let thresholds: Vec<(f64, f32)> =
                points.map(|point| (point.false_match_rate, point.similarity)).collect();
            let seen = Observation::of(judged, table.looks, &thresholds, &mut random);
            let intervals = seen.intervals(&mut random);
            for (number, &(false_match_rate, threshold)) in thresholds.iter().enumerate() {
                let interval = intervals[number];
                outcomes.push(Honoured {
                    half: at,
                    people: seen.groups.len(),
                    looks: table.looks,
                    false_match_rate,
                    threshold,
                    observed: seen.rate(number, &vec![1; seen.groups.len()]),
                    interval,
                    honoured: interval[0] <= false_match_rate && false_match_rate <= interval[1],
                    pairs_of_people: seen.matches.values().filter(|row| row[number] > 0).count(),
                });
            }
        }
    }
    Ok(outcomes)
}

/// Comparisons that reached thresholds, by the two people compared.
struct Observation {
    /// Pooled looks of each person.
    groups: Vec<u64>,
    /// For each threshold, of two people, over all shuffles.
    matches: BTreeMap<(usize, usize), Vec<u64>>,
    shuffles: u64,
    thresholds: usize,
}

impl Observation {
    fn of(
        people: &[Vec<Embedding>],
        looks: usize,
        thresholds: &[(f64, f32)],
        random: &mut fastrand::Rng,
    ) -> Self {
        let people: Vec<&Vec<Embedding>> = people.iter().filter(|own| own.len() >= looks).collect();
        let mut matches: BTreeMap<(usize, usize), Vec<u64>> = BTreeMap::new();
        let laxest = thresholds.iter().map(|(_, bar)| *bar).fold(f32::INFINITY, f32::min);
        let shuffles = rounds(looks);
        for _ in 0..shuffles {
            let pooled = groups(&people, looks, random);
            for (at, (person, one)) in pooled.iter().enumerate() {
                for (other, another) in &pooled[at + 1..] {
                    if person == other {
                        continue;
                    }
                    let similarity = one.similarity(another);
                    if similarity < laxest {
                        continue;
                    }
                    let pair = (*person.min(other), *person.max(other));
                    let row = matches.entry(pair).or_insert_with(|| vec![0; thresholds.len()]);
                    for (count, (_, bar)) in row.iter_mut().zip(thresholds) {
                        *count += u64::from(similarity >= *bar);
                    }
                }
            }
        }
        let groups = people.iter().map(|own| (own.len() / looks) as u64).collect();
        Self { groups, matches, shuffles: shuffles as u64, thresholds: thresholds.len() }
    }

    /// The false match rate of threshold `number` when each person is there so many times. A person drawn twice is not
    /// compared with himself.
    fn rate(&self, number: usize, times: &[u64]) -> f64 {
        let weighted = self.groups.iter().zip(times).map(|(groups, times)| groups * times);
        let (sum, squares) = weighted.fold((0, 0), |(sum, squares), w| (sum + w, squares + w * w));
        let reached: u64 =
            self.matches.iter().map(|((a, b), row)| row[number] * times[*a] * times[*b]).sum();
        let all = (sum * sum - squares) / 2 * self.shuffles;
        reached as f64 / all.max(1) as f64
    }

    /// Of each threshold's rate.
    fn intervals(&self, random: &mut fastrand::Rng) -> Vec<[f64; 2]> {
        let mut rates = vec![Vec::with_capacity(DRAWS); self.thresholds];
        for _ in 0..DRAWS {
            let mut times = vec![0; self.groups.len()];
            for _ in 0..times.len() {
                times[random.usize(..self.groups.len())] += 1;
            }
            for (number, drawn) in rates.iter_mut().enumerate() {
                drawn.push(self.rate(number, &times));
            }
        }
        let ends = |mut drawn: Vec<f64>| {
            drawn.sort_by(f64::total_cmp);
            let outside = (OUTSIDE * DRAWS as f64) as usize;
            [drawn[outside], drawn[DRAWS - 1 - outside]]
        };
        rates.into_iter().map(ends).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Each person one look about a direction of their own; `shared` is what all have in common.
    fn crowd(count: usize, shared: f32, seed: u64) -> Vec<Vec<Embedding>> {
        let mut random = fastrand::Rng::with_seed(seed);
        (0..count)
            .map(|_| {
                let mut values: Vec<f32> =
                    (0..64).map(|_| (0..6).map(|_| random.f32()).sum::<f32>() - 3.0).collect();
                values[0] += shared;
                vec![Embedding::normalized(values).unwrap()]
            })
            .collect()
    }

    /// Holds REC-08.
    #[test]
    fn halves_of_one_crowd_honour_each_other() {
        let outcomes = held_out(&crowd(600, 1.0, 1), &[1]).unwrap();
        assert_eq!(outcomes.iter().filter(|o| (o.false_match_rate - 1e-2).abs() < 1e-9).count(), 2);
        for outcome in outcomes {
            assert!(outcome.honoured, "{outcome:?}");
            assert!(
                outcome.interval[0] <= outcome.observed && outcome.observed <= outcome.interval[1]
            );
        }
    }

    /// Holds REC-08.
    #[test]
    fn people_more_alike_than_the_calibrated_ones_are_noticed() {
        // Judged are people who share more than those calibrated on did.
        let bar = calibrate(&crowd(300, 0.0, 1), &[1], || ()).unwrap()[0].points.clone();
        let thresholds: Vec<_> = bar.iter().map(|p| (p.false_match_rate, p.similarity)).collect();
        let mut random = fastrand::Rng::with_seed(3);
        let seen = Observation::of(&crowd(300, 4.0, 2), 1, &thresholds, &mut random);
        for (number, interval) in seen.intervals(&mut random).into_iter().enumerate() {
            assert!(interval[0] > thresholds[number].0, "{interval:?} {:?}", thresholds[number]);
        }
    }

    #[test]
    fn person_drawn_twice_is_not_compared_with_himself() {
        let people = crowd(3, 0.0, 1);
        let mut random = fastrand::Rng::with_seed(1);
        let seen = Observation::of(&people, 1, &[(0.1, -1.0)], &mut random);
        for times in [[1, 1, 1], [2, 1, 0], [0, 2, 1]] {
            assert!((seen.rate(0, &times) - 1.0).abs() < 1e-12, "every comparison counts once");
        }
    }
}
