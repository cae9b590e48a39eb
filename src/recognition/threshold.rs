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
    /// loosest gets the loosest point's similarity, one stricter than its strictest is an error. Pooling raises
    /// the similarity of strangers too (it averages away what tells looks apart), so a number of looks that has
    /// no table takes the next larger one. Beyond the largest, similarity is continued linearly in 1 / looks
    /// from the two largest: the squared length of a mean of n unit vectors with common cosine r is
    /// r + (1 - r) / n, so similarities of means move with 1 / n and level off.
    pub fn at(&self, rate: f64, looks: usize) -> Result<f32, ThresholdError> {
        if !(rate > 0.0 && rate < 1.0) {
            return Err(ThresholdError::Rate { rate });
        }
        if let Some(table) = self.tables.iter().find(|table| table.looks >= looks) {
            return within(table, rate);
        }
        let [.., smaller, larger] = &self.tables[..] else {
            return Err(ThresholdError::Looks { looks });
        };
        let (low, high) = (within(smaller, rate)?, within(larger, rate)?);
        let inverse = |looks: usize| 1.0 / looks as f32;
        let slope = (high - low).max(0.0) / (inverse(smaller.looks) - inverse(larger.looks));
        Ok((high + slope * (inverse(larger.looks) - inverse(looks))).min(1.0))
    }

    /// The strictest false match rate that [`Self::at`] gives for this number of looks.
    pub fn strictest(&self, looks: usize) -> f64 {
        let last = |table: &Calibration| table.points.last().map_or(1.0, |p| p.false_match_rate);
        match self.tables.iter().find(|table| table.looks >= looks) {
            Some(table) => last(table),
            None => self.tables.iter().rev().take(2).map(last).fold(0.0, f64::max),
        }
    }
}

fn within(table: &Calibration, rate: f64) -> Result<f32, ThresholdError> {
    let points = &table.points;
    let Some(after) = points.iter().position(|point| point.false_match_rate <= rate) else {
        let strictest = points.last().map_or(1.0, |point| point.false_match_rate);
        return Err(ThresholdError::TooStrict { wanted: rate, looks: table.looks, strictest });
    };
    let right = points[after];
    let Some(left) = after.checked_sub(1).map(|before| points[before]) else {
        return Ok(right.similarity);
    };
    let (from, to) = (left.false_match_rate.log10(), right.false_match_rate.log10());
    let part = (rate.log10() - from) / (to - from);
    Ok(left.similarity + (right.similarity - left.similarity) * part as f32)
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
        let refused = thresholds().at(1e-4, 2).unwrap_err();
        assert!(refused.to_string().contains("strictest that holds is 1e-3"), "{refused}");
        assert_eq!(thresholds().strictest(2), 1e-3);
    }

    #[test]
    fn looks_without_a_table_never_get_a_laxer_threshold() {
        let gap = Thresholds::new(&[table(1, &[(1e-1, 0.2)]), table(5, &[(1e-1, 0.6)])]).unwrap();
        assert_eq!(gap.at(1e-1, 3).unwrap(), 0.6);
        let thresholds = thresholds();
        let mut last = thresholds.at(1e-2, 3).unwrap();
        for looks in 4..=16 {
            let next = thresholds.at(1e-2, looks).unwrap();
            assert!(next > last && next < 0.8, "{looks}: {next}");
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
