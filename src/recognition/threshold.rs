//! From a wanted false match rate to a similarity threshold, by a bundle's signed calibration.

use crate::model::manifest::{Calibration, CalibrationPoint};

#[derive(Debug, PartialEq, thiserror::Error)]
pub enum ThresholdError {
    #[error("calibration table for {looks} looks: {reason}")]
    Malformed { looks: usize, reason: &'static str },
    #[error("no calibration table for one look")]
    NoSingleLook,
    #[error("this bundle was not calibrated for {looks} pooled looks, only for single ones")]
    Looks { looks: usize },
    #[error("a false match rate of {rate} is not between 0 and 1")]
    Rate { rate: f64 },
    #[error(
        "a false match rate of {wanted:e} for {looks} looks is stricter than this bundle was measured for; \
         the strictest that holds is {strictest:e}"
    )]
    TooStrict { wanted: f64, looks: usize, strictest: f64 },
}

/// A bundle's calibration tables, checked.
#[derive(Debug, Clone)]
pub struct Thresholds {
    /// By ascending number of looks, the first for one.
    tables: Vec<Calibration>,
}

impl Thresholds {
    /// Takes tables whose rates fall while their similarities rise, one for each number of looks, one for 1.
    pub fn new(tables: &[Calibration]) -> Result<Self, ThresholdError> {
        let mut tables = tables.to_vec();
        tables.sort_by_key(|table| table.looks);
        for table in &tables {
            let malformed = |reason| ThresholdError::Malformed { looks: table.looks, reason };
            if table.points.is_empty() {
                return Err(malformed("no points"));
            }
            let sensible = |point: &CalibrationPoint| {
                point.false_match_rate > 0.0
                    && point.false_match_rate < 1.0
                    && (-1.0..=1.0).contains(&point.similarity)
            };
            if !table.points.iter().all(sensible) {
                return Err(malformed("a rate outside 0 to 1 or a similarity outside -1 to 1"));
            }
            let ordered = |pair: &[CalibrationPoint]| {
                pair[0].false_match_rate > pair[1].false_match_rate
                    && pair[0].similarity <= pair[1].similarity
            };
            if !table.points.windows(2).all(ordered) {
                return Err(malformed("rates must fall and similarities rise"));
            }
        }
        if let Some(pair) = tables.windows(2).find(|pair| pair[0].looks == pair[1].looks) {
            let looks = pair[0].looks;
            return Err(ThresholdError::Malformed { looks, reason: "given twice" });
        }
        match tables.first() {
            Some(first) if first.looks == 1 => Ok(Self { tables }),
            _ => Err(ThresholdError::NoSingleLook),
        }
    }

    /// The similarity (cosine) that different people reach at most so often, when `looks` embeddings are pooled
    /// on each side.
    ///
    /// Within a table, similarity is interpolated over the logarithm of the rate; a rate looser than a table's
    /// loosest gets the loosest point's similarity.
    ///
    /// Pooling raises the similarity of strangers too (it averages away what tells looks apart), so every number of
    /// looks has its table. There are fewer groups of pictures than pictures, so tables for more looks end at laxer
    /// rates. Beyond, the table for one look is followed, times the larger of the ratios that the pooled table has to
    /// it at its two last points (measured on LFW these ratios fall slowly as rates become stricter, so that errs
    /// towards strictness). A rate stricter than the table for one look is an error.
    ///
    /// A number of looks that has no table takes the next larger one. Beyond the largest, similarity is continued
    /// linearly in 1 / looks from the table for one look through the largest: the squared length of a mean of n unit
    /// vectors with common cosine r is r + (1 - r) / n, so similarities of means move with 1 / n and level off.
    pub fn at(&self, rate: f64, looks: usize) -> Result<f32, ThresholdError> {
        if !(rate > 0.0 && rate < 1.0) {
            return Err(ThresholdError::Rate { rate });
        }
        let (single, largest) = self.ends();
        let strictest = self.strictest();
        if rate < strictest {
            return Err(ThresholdError::TooStrict { wanted: rate, looks, strictest });
        }
        if let Some(table) = self.tables.iter().find(|table| table.looks >= looks) {
            return Ok(along(table, single, rate));
        }
        if largest.looks == 1 {
            return Err(ThresholdError::Looks { looks });
        }
        let (low, high) = (along(single, single, rate), along(largest, single, rate));
        let inverse = |looks: usize| 1.0 / looks as f32;
        let slope = (high - low).max(0.0) / (1.0 - inverse(largest.looks));
        Ok((high + slope * (inverse(largest.looks) - inverse(looks))).min(1.0))
    }

    /// The strictest false match rate that [`Self::at`] gives a threshold for.
    pub fn strictest(&self) -> f64 {
        self.ends().0.points.last().map_or(1.0, |point| point.false_match_rate)
    }

    /// The tables for one look and for most.
    fn ends(&self) -> (&Calibration, &Calibration) {
        (&self.tables[0], &self.tables[self.tables.len() - 1]) // never empty: see `new`
    }
}

/// The table's similarity at a rate, continued beyond its end along the table for one look.
fn along(table: &Calibration, single: &Calibration, rate: f64) -> f32 {
    let last = table.points.last().map_or(1.0, |point| point.similarity);
    if table.points.last().is_none_or(|point| point.false_match_rate <= rate) {
        return within(table, rate);
    }
    let ratio = table
        .points
        .iter()
        .rev()
        .take(2)
        .map(|point| point.similarity / within(single, point.false_match_rate))
        .filter(|ratio| ratio.is_finite() && *ratio > 0.0)
        .fold(1.0, f32::max);
    (within(single, rate) * ratio).clamp(last, 1.0)
}

/// Interpolated; at a table's ends the last point on that side.
fn within(table: &Calibration, rate: f64) -> f32 {
    let points = &table.points;
    let Some(after) = points.iter().position(|point| point.false_match_rate <= rate) else {
        return points.last().map_or(1.0, |point| point.similarity);
    };
    let right = points[after];
    let Some(left) = after.checked_sub(1).map(|before| points[before]) else {
        return right.similarity;
    };
    let (from, to) = (left.false_match_rate.log10(), right.false_match_rate.log10());
    let part = (rate.log10() - from) / (to - from);
    left.similarity + (right.similarity - left.similarity) * part as f32
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::float_cmp)]
mod tests {
    use super::*;

    fn table(looks: usize, points: &[(f64, f32)]) -> Calibration {
        let points = points
            .iter()
            .map(|&(false_match_rate, similarity)| CalibrationPoint {
                false_match_rate,
                similarity,
            })
            .collect();
        Calibration { looks, pairs: 1000, points }
    }

    fn thresholds() -> Thresholds {
        Thresholds::new(&[
            table(3, &[(1e-1, 0.4), (1e-3, 0.6)]),
            table(1, &[(1e-1, 0.2), (1e-3, 0.4), (1e-4, 0.5)]),
            table(2, &[(1e-1, 0.3), (1e-3, 0.5)]),
        ])
        .unwrap()
    }

    #[test]
    fn between_points_the_logarithm_of_the_rate_counts() {
        let thresholds = thresholds();
        assert!((thresholds.at(1e-2, 1).unwrap() - 0.3).abs() < 1e-6);
        assert!((thresholds.at(1e-3, 1).unwrap() - 0.4).abs() < 1e-6);
        assert!((thresholds.at(10_f64.powf(-3.5), 1).unwrap() - 0.45).abs() < 1e-6);
        assert_eq!(thresholds.at(1e-4, 1).unwrap(), 0.5);
    }

    #[test]
    fn looser_than_measured_takes_the_loosest_point() {
        assert_eq!(thresholds().at(0.5, 1).unwrap(), 0.2);
    }

    #[test]
    fn stricter_than_measured_is_refused_and_says_what_holds() {
        let refused = thresholds().at(1e-5, 1);
        assert_eq!(
            refused,
            Err(ThresholdError::TooStrict { wanted: 1e-5, looks: 1, strictest: 1e-4 })
        );
        let refused = thresholds().at(1e-5, 2).unwrap_err();
        assert!(refused.to_string().contains("strictest that holds is 1e-4"), "{refused}");
        assert!((thresholds().strictest() - 1e-4).abs() < 1e-12);
    }

    #[test]
    fn pooled_table_is_continued_along_the_single_one() {
        // Two looks against one: 0.3 / 0.2 and 0.5 / 0.4; the larger ratio times 0.5.
        assert!((thresholds().at(1e-4, 2).unwrap() - 0.75).abs() < 1e-6);
        let low =
            Thresholds::new(&[table(1, &[(1e-1, -0.2), (1e-3, 0.1)]), table(2, &[(1e-1, 0.6)])])
                .unwrap();
        // Ratios mean nothing about 0: then at least the last measured similarity.
        assert_eq!(low.at(1e-3, 2).unwrap(), 0.6);
    }

    #[test]
    fn looks_without_a_table_never_get_a_laxer_threshold() {
        let gap = Thresholds::new(&[table(1, &[(1e-1, 0.2)]), table(5, &[(1e-1, 0.6)])]).unwrap();
        assert_eq!(gap.at(1e-1, 3).unwrap(), 0.6);
        let thresholds = thresholds();
        let mut last = thresholds.at(1e-2, 3).unwrap();
        for looks in 4..=16 {
            let next = thresholds.at(1e-2, looks).unwrap();
            assert!(next > last && next < 0.65, "{looks}: {next}");
            last = next;
        }
    }

    #[test]
    fn pooled_looks_without_any_pooled_table_are_refused() {
        let single = Thresholds::new(&[table(1, &[(1e-1, 0.2)])]).unwrap();
        assert_eq!(single.at(1e-1, 2), Err(ThresholdError::Looks { looks: 2 }));
    }

    #[test]
    fn malformed_tables_are_refused() {
        for tables in [
            vec![table(1, &[])],
            vec![table(1, &[(1e-3, 0.4), (1e-1, 0.5)])],
            vec![table(1, &[(1e-1, 0.5), (1e-3, 0.4)])],
            vec![table(1, &[(0.0, 0.5)])],
            vec![table(1, &[(1e-1, f32::NAN)])],
            vec![table(1, &[(1e-1, 0.2)]), table(1, &[(1e-1, 0.2)])],
            vec![table(2, &[(1e-1, 0.2)])],
            vec![],
        ] {
            assert!(Thresholds::new(&tables).is_err(), "{tables:?}");
        }
    }

    #[test]
    fn rates_that_are_none_are_refused() {
        for rate in [0.0, 1.0, -1.0, f64::NAN] {
            assert!(matches!(thresholds().at(rate, 1), Err(ThresholdError::Rate { .. })));
        }
    }
}
