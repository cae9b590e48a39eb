//! Calibration: how alike different people look, as a table from false match rate to similarity.
//!
//! For each number of looks k, every person's embeddings are shuffled and parted into disjoint groups of k, each
//! group is pooled, and all pairs of groups of different people are compared. For k > 1 this is repeated with other
//! shuffles, because a group is one of many that the pictures allow. A rate is given a threshold only if enough
//! different pairs of people lie above it; comparisons of the same two people are too much alike to count again.

use super::EvaluateError;
use crate::model::manifest::{Calibration, CalibrationPoint};
use crate::recognition::Embedding;

/// Numbers of pooled looks that get a table, as far as there are pictures. More are told by continuing these: few
/// collections have enough people with five pictures and more.
pub const LOOKS: [usize; 4] = [1, 2, 3, 4];
/// Shuffles for pooled looks.
const ROUNDS: usize = 20;
/// Pairs of different people that must lie above a threshold for its rate to be known.
const MINIMUM_PAIRS: usize = 30;
const RATES: [f64; 11] = [1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6, 1e-6];
/// Thresholds are found to this fraction of 1.
const STEPS: usize = 10_000;

/// One table for each of `looks` that enough people have pictures for. The outer slice is people, the inner their
/// looks. `done` is called after each shuffle.
pub fn calibrate(
    people: &[Vec<Embedding>],
    looks: &[usize],
    done: impl Fn(),
) -> Result<Vec<Calibration>, EvaluateError> {
    let mut random = fastrand::Rng::with_seed(20_180_408);
    let mut tables = Vec::new();
    for &looks in looks {
        let people: Vec<&Vec<Embedding>> =
            people.iter().filter(|person| person.len() >= looks).collect();
        let mut tally = Tally::new(people.len());
        let mut pairs = 0;
        for _ in 0..rounds(looks) {
            let groups = groups(&people, looks, &mut random);
            pairs = tally.add(&groups);
            done();
        }
        let points = tally.points();
        if !points.is_empty() {
            tables.push(Calibration { looks, pairs, points });
        }
    }
    if tables.is_empty() {
        return Err(EvaluateError::TooFew(
            "too few different people with a detected face to calibrate on".to_owned(),
        ));
    }
    Ok(tables)
}

/// Shuffles for so many looks.
pub(super) fn rounds(looks: usize) -> usize {
    if looks == 1 { 1 } else { ROUNDS }
}

/// Pooled looks with the number of the person they show.
pub(super) fn groups(
    people: &[&Vec<Embedding>],
    looks: usize,
    random: &mut fastrand::Rng,
) -> Vec<(usize, Embedding)> {
    let mut groups = Vec::new();
    for (person, own) in people.iter().enumerate() {
        let mut order: Vec<usize> = (0..own.len()).collect();
        random.shuffle(&mut order);
        for group in order.chunks_exact(looks) {
            let pooled = Embedding::pooled(group.iter().map(|&at| &own[at]));
            groups.extend(pooled.map(|pooled| (person, pooled)));
        }
    }
    groups
}

/// Similarities of different people, counted.
struct Tally {
    people: usize,
    /// Comparisons by similarity, in steps from -1 to 1.
    counts: Vec<u64>,
    /// For each pair of people (i < j, at i * people + j) the highest step seen, 0 if none.
    highest: Vec<u16>,
}

impl Tally {
    fn new(people: usize) -> Self {
        Self { people, counts: vec![0; 2 * STEPS + 1], highest: vec![0; people * people] }
    }

    /// Compares all groups of different people; gives how many comparisons that were.
    fn add(&mut self, groups: &[(usize, Embedding)]) -> u64 {
        let mut pairs = 0;
        for (at, (person, pooled)) in groups.iter().enumerate() {
            for (other, other_pooled) in &groups[at + 1..] {
                if person == other {
                    continue;
                }
                // Rounded up to its step, so that no rate comes out too low.
                let similarity = f64::from(pooled.similarity(other_pooled).clamp(-1.0, 1.0));
                let step = ((similarity + 1.0) * STEPS as f64).ceil() as usize;
                self.counts[step] += 1;
                let both = person.min(other) * self.people + person.max(other);
                self.highest[both] = self.highest[both].max(step as u16);
                pairs += 1;
            }
        }
        pairs
    }

    /// For each rate the lowest threshold that at most that share of comparisons reach.
    fn points(&self) -> Vec<CalibrationPoint> {
        let total: u64 = self.counts.iter().sum();
        let mut people_at = vec![0_usize; self.counts.len()];
        for &step in self.highest.iter().filter(|&&step| step > 0) {
            people_at[usize::from(step)] += 1;
        }
        let mut points = Vec::new();
        let (mut above, mut people_above) = (0_u64, 0_usize);
        let mut step = self.counts.len();
        // From the strictest rate down: `step` sinks as long as the rate holds.
        for rate in RATES.into_iter().rev() {
            while step > 0 && above + self.counts[step - 1] <= (rate * total as f64) as u64 {
                step -= 1;
                above += self.counts[step];
                people_above += people_at[step];
            }
            if people_above >= MINIMUM_PAIRS && step > 0 {
                let similarity = (step as f64 / STEPS as f64 - 1.0) as f32;
                points.push(CalibrationPoint { false_match_rate: rate, similarity });
            }
        }
        points.reverse();
        points
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// `count` people with `looks` noisy looks each, about random directions.
    fn crowd(count: usize, looks: usize, noise: f32) -> Vec<Vec<Embedding>> {
        let mut random = fastrand::Rng::with_seed(1);
        let mut direction = |scale: f32| -> Vec<f32> {
            // The sum of uniform numbers is near enough to a normal one.
            (0..64).map(|_| scale * ((0..6).map(|_| random.f32()).sum::<f32>() - 3.0)).collect()
        };
        (0..count)
            .map(|_| {
                let own = direction(1.0);
                (0..looks)
                    .map(|_| {
                        let off = direction(noise);
                        let sum = own.iter().zip(&off).map(|(a, b)| a + b).collect();
                        Embedding::normalized(sum).unwrap()
                    })
                    .collect()
            })
            .collect()
    }

    /// Holds REC-10.
    #[test]
    fn threshold_holds_its_rate_on_the_very_pairs() {
        let people = crowd(300, 1, 0.0);
        let tables = calibrate(&people, &[1], || ()).unwrap();
        let table = &tables[0];
        assert_eq!((table.looks, table.pairs), (1, 300 * 299 / 2));
        for point in &table.points {
            let mut matches = 0;
            for (at, one) in people.iter().enumerate() {
                for other in &people[at + 1..] {
                    matches += u32::from(one[0].similarity(&other[0]) >= point.similarity);
                }
            }
            let rate = f64::from(matches) / table.pairs as f64;
            assert!(rate <= point.false_match_rate * 1.001, "{point:?}: {rate}");
            assert!(rate > point.false_match_rate * 0.8, "{point:?}: {rate}");
        }
    }

    #[test]
    fn rates_without_enough_pairs_of_people_are_left_out() {
        let tables = calibrate(&crowd(300, 1, 0.0), &[1], || ()).unwrap();
        // 44,850 pairs: 1e-3 has 44 above it, 3e-4 only 13.
        let strictest = tables[0].points.last().unwrap().false_match_rate;
        assert!((strictest - 1e-3).abs() < 1e-12, "{strictest}");
        assert!(calibrate(&crowd(5, 1, 0.0), &[1], || ()).is_err());
    }

    #[test]
    fn looks_need_people_with_so_many() {
        let mut people = crowd(100, 2, 0.8);
        people.extend(crowd(50, 4, 0.8));
        let tables = calibrate(&people, &[1, 2, 3, 9], || ()).unwrap();
        let told: Vec<_> = tables.iter().map(|table| (table.looks, table.pairs)).collect();
        let pairs = |groups: &[u64]| {
            let all: u64 = groups.iter().sum();
            (all * all - groups.iter().map(|n| n * n).sum::<u64>()) / 2
        };
        let one: Vec<u64> = [vec![2; 100], vec![4; 50]].concat();
        let two: Vec<u64> = [vec![1; 100], vec![2; 50]].concat();
        assert_eq!(told, [(1, pairs(&one)), (2, pairs(&two)), (3, pairs(&[1; 50]))]);
    }

    #[test]
    fn calibration_is_reproducible() {
        let people = crowd(80, 4, 0.5);
        let points = |tables: Vec<Calibration>| -> Vec<(f64, f32)> {
            let all = tables.into_iter().flat_map(|table| table.points);
            all.map(|point| (point.false_match_rate, point.similarity)).collect()
        };
        let once = points(calibrate(&people, &LOOKS, || ()).unwrap());
        let again = points(calibrate(&people, &LOOKS, || ()).unwrap());
        assert_eq!(once, again);
    }
}
