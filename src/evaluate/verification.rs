//! Are two pictures of one person: accuracy over folds, equal error rate, ROC.

use serde::Serialize;

use super::interval::wilson;

/// One pair as it was seen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// Cosine; `None` if a face was not found. Such a pair is never accepted and never counts as right.
    pub similarity: Option<f32>,
    pub same: bool,
    pub fold: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VerificationReport {
    pub pairs: usize,
    /// Pictures without a detected face.
    pub undetected: usize,
    pub accuracy: Accuracy,
    /// Where false accepts and false rejects are equally frequent.
    pub eer: f64,
    /// Corners of the curve, from strict to lax.
    pub roc: Vec<RocPoint>,
}

/// Share of pairs told right, each fold by the threshold that is best on the other folds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Accuracy {
    /// Mean over the folds.
    pub mean: f64,
    /// Standard deviation over the folds (n - 1).
    pub sd: f64,
    /// 95 % Wilson interval over all pairs.
    pub interval: [f64; 2],
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct RocPoint {
    /// Share of pairs of different people at or above the threshold.
    pub far: f64,
    /// Share of pairs of one person at or above it.
    pub tar: f64,
    pub threshold: f32,
}

/// The figures of a list of pairs; `undetected` counts pictures. One fold alone is judged by its own best threshold,
/// which flatters.
pub fn verify(scores: &[Score], folds: usize, undetected: usize) -> VerificationReport {
    let mut shares = Vec::new();
    let (mut right, mut total) = (0, 0);
    for fold in 0..folds {
        let others: Vec<Score> =
            scores.iter().filter(|score| folds == 1 || score.fold != fold).copied().collect();
        let threshold = best_threshold(&others);
        let own = scores.iter().filter(|score| score.fold == fold);
        let (mut fold_right, mut fold_total) = (0_usize, 0_usize);
        for score in own {
            fold_total += 1;
            let told = score.similarity.map(|similarity| similarity >= threshold);
            fold_right += usize::from(told == Some(score.same));
        }
        if fold_total > 0 {
            shares.push(fold_right as f64 / fold_total as f64);
        }
        right += fold_right;
        total += fold_total;
    }
    let roc = roc(scores);
    VerificationReport {
        pairs: scores.len(),
        undetected,
        accuracy: Accuracy {
            mean: mean(&shares),
            sd: deviation(&shares),
            interval: wilson(right, total),
        },
        eer: equal_error_rate(&roc),
        roc,
    }
}

/// The threshold that tells most pairs right; of several the median, between two neighbouring scores.
fn best_threshold(scores: &[Score]) -> f32 {
    let mut seen: Vec<(f32, bool)> =
        scores.iter().filter_map(|score| Some((score.similarity?, score.same))).collect();
    seen.sort_by(|a, b| b.0.total_cmp(&a.0));
    // Going down: at first nothing is accepted, so all different pairs are right.
    let mut right = seen.iter().filter(|(_, same)| !same).count();
    let (mut most, mut best) = (right, vec![f32::INFINITY]);
    let mut at = 0;
    while at < seen.len() {
        let value = seen[at].0;
        while at < seen.len() && seen[at].0.total_cmp(&value).is_eq() {
            if seen[at].1 {
                right += 1;
            } else {
                right -= 1;
            }
            at += 1;
        }
        let threshold = seen.get(at).map_or(value, |next| f32::midpoint(value, next.0));
        if right > most {
            (most, best) = (right, vec![threshold]);
        } else if right == most {
            best.push(threshold);
        }
    }
    best[best.len() / 2]
}

/// Corners of the ROC, from the strictest threshold to one that accepts every detected pair.
fn roc(scores: &[Score]) -> Vec<RocPoint> {
    let same = scores.iter().filter(|score| score.same).count();
    let share = |count: usize, of: usize| if of == 0 { 0.0 } else { count as f64 / of as f64 };
    let mut seen: Vec<(f32, bool)> =
        scores.iter().filter_map(|score| Some((score.similarity?, score.same))).collect();
    seen.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut accepted_same, mut accepted_different) = (0, 0);
    let mut points: Vec<RocPoint> = Vec::new();
    let mut at = 0;
    while at < seen.len() {
        let threshold = seen[at].0;
        while at < seen.len() && seen[at].0.total_cmp(&threshold).is_eq() {
            if seen[at].1 {
                accepted_same += 1;
            } else {
                accepted_different += 1;
            }
            at += 1;
        }
        let point = RocPoint {
            far: share(accepted_different, scores.len() - same),
            tar: share(accepted_same, same),
            threshold,
        };
        // On a straight run only its ends are kept.
        if let [.., before, last] = &points[..]
            && ((before.far.total_cmp(&last.far).is_eq() && last.far.total_cmp(&point.far).is_eq())
                || (before.tar.total_cmp(&last.tar).is_eq()
                    && last.tar.total_cmp(&point.tar).is_eq()))
        {
            points.pop();
        }
        points.push(point);
    }
    points
}

/// Where the curve, taken as straight between its corners, has as many false accepts as false rejects.
fn equal_error_rate(roc: &[RocPoint]) -> f64 {
    let mut before = (0.0, 1.0); // nothing accepted
    for point in roc {
        let (far, frr) = (point.far, 1.0 - point.tar);
        if far >= frr {
            let (gap_before, gap) = (before.1 - before.0, far - frr);
            let part = if gap_before + gap > 0.0 { gap_before / (gap_before + gap) } else { 1.0 };
            return before.0 + (far - before.0) * part;
        }
        before = (far, frr);
    }
    before.1 // faces were not found: rejects stay above accepts at every threshold
}

fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}

fn deviation(values: &[f64]) -> f64 {
    if values.len() < 2 {
        return 0.0;
    }
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / (values.len() - 1) as f64).sqrt()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::float_cmp)]
mod tests {
    use super::*;

    fn score(similarity: f32, same: bool, fold: usize) -> Score {
        Score { similarity: Some(similarity), same, fold }
    }

    /// Two folds that one threshold between 0.4 and 0.6 parts without error.
    fn separable() -> Vec<Score> {
        (0..2)
            .flat_map(|fold| {
                [(0.9, true), (0.6, true), (0.4, false), (0.1, false)]
                    .map(|(similarity, same)| score(similarity, same, fold))
            })
            .collect()
    }

    #[test]
    fn separable_pairs_are_all_told_right() {
        let report = verify(&separable(), 2, 0);
        assert_eq!(report.pairs, 8);
        assert_eq!((report.accuracy.mean, report.accuracy.sd, report.eer), (1.0, 0.0, 0.0));
        // Wilson for 8 of 8: lower end 1 / (1 + z^2 / 8).
        assert!((report.accuracy.interval[0] - 0.675_592).abs() < 1e-5);
        assert_eq!(report.accuracy.interval[1], 1.0);
    }

    #[test]
    fn threshold_of_a_fold_comes_from_the_others() {
        // Fold 1 lies higher throughout; the threshold fitted on fold 0 (0.5) accepts its different pairs.
        let scores =
            [score(0.6, true, 0), score(0.4, false, 0), score(0.9, true, 1), score(0.8, false, 1)];
        let report = verify(&scores, 2, 0);
        // Fold 0 by 0.85: the same pair is refused. Fold 1 by 0.5: the different pair is accepted.
        assert_eq!(report.accuracy.mean, 0.5);
        // With one fold its own threshold is used; 0.85 or 0.5 tells three of four right.
        let alone: Vec<Score> = scores.iter().map(|s| Score { fold: 0, ..*s }).collect();
        assert_eq!(verify(&alone, 1, 0).accuracy.mean, 0.75);
    }

    #[test]
    fn undetected_pair_is_wrong_and_never_accepted() {
        let mut scores = separable();
        scores.push(Score { similarity: None, same: false, fold: 0 });
        scores.push(Score { similarity: None, same: true, fold: 1 });
        let report = verify(&scores, 2, 2);
        assert_eq!(report.undetected, 2);
        assert!((report.accuracy.mean - 0.8).abs() < 1e-12);
        let last = report.roc.last().unwrap();
        assert!((last.tar - 0.8).abs() < 1e-12 && (last.far - 0.8).abs() < 1e-12);
    }

    #[test]
    fn equal_error_rate_of_a_known_case() {
        // Sorted down: same, same, different, same, different, different. At 2/3 accepted same, 1/3 false accepts.
        let scores =
            [(0.9, true), (0.8, true), (0.7, false), (0.6, true), (0.5, false), (0.4, false)]
                .map(|(similarity, same)| score(similarity, same, 0));
        let report = verify(&scores, 1, 0);
        assert!((report.eer - 1.0 / 3.0).abs() < 1e-12, "{}", report.eer);
        let corners: Vec<_> = report.roc.iter().map(|p| (p.far, p.tar)).collect();
        assert_eq!(corners.first(), Some(&(0.0, 1.0 / 3.0)));
        assert_eq!(corners.last(), Some(&(1.0, 1.0)));
    }
}
