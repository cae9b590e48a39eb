//! How far a measured share can be trusted.

use serde::Serialize;

/// 97.5 % quantile of the normal distribution.
const Z: f64 = 1.959_964;

/// A counted share with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Share {
    pub count: usize,
    pub of: usize,
    /// `count / of`; 0 if there is nothing to count.
    pub rate: f64,
    pub interval: [f64; 2],
}

impl Share {
    pub fn new(count: usize, of: usize) -> Self {
        let rate = if of == 0 { 0.0 } else { count as f64 / of as f64 };
        Self { count, of, rate, interval: interval(count, of) }
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [low, high] = self.interval.map(|end| end * 100.0);
        write!(
            f,
            "{:.2} % ({} of {}; {low:.2} to {high:.2})",
            self.rate * 100.0,
            self.count,
            self.of
        )
    }
}

/// 95 % interval of a share: Wilson's, but where none or all were counted by the rule of three (Hanley and
/// Lippman-Hand 1983: nothing seen in n trials means at most 3 / n).
///
/// Trials are taken as independent. Pictures of one person and frames of one sequence are not: count people and
/// tracks where that can be done, and read the others as too narrow.
pub fn interval(count: usize, of: usize) -> [f64; 2] {
    let three = (3.0 / of.max(1) as f64).min(1.0);
    match count {
        _ if of == 0 => [0.0, 1.0],
        0 => [0.0, three],
        _ if count >= of => [1.0 - three, 1.0],
        _ => wilson(count, of),
    }
}

/// 95 % interval of a share (Wilson 1927).
pub fn wilson(successes: usize, trials: usize) -> [f64; 2] {
    if trials == 0 {
        return [0.0, 1.0];
    }
    let n = trials as f64;
    let share = successes as f64 / n;
    let center = share + Z * Z / (2.0 * n);
    let spread = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    [((center - spread) / scale).max(0.0), ((center + spread) / scale).min(1.0)]
}

#[cfg(test)]
#[allow(clippy::float_cmp)]
mod tests {
    use super::*;

    fn close(found: [f64; 2], wanted: [f64; 2]) {
        let off = |at: usize| (found[at] - wanted[at]).abs();
        assert!(off(0) < 5e-5 && off(1) < 5e-5, "{found:?}, not {wanted:?}");
    }

    /// Holds REC-16.
    #[test]
    fn wilson_interval_matches_the_literature() {
        // Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
        close(wilson(81, 263), [0.2553, 0.3662]);
        close(wilson(15, 148), [0.0624, 0.1605]);
        close(wilson(0, 20), [0.0, 0.1611]);
        close(wilson(1, 29), [0.0061, 0.1718]);
        assert_eq!(wilson(0, 0), [0.0, 1.0]);
    }

    /// Holds REC-16.
    #[test]
    fn nothing_seen_is_told_by_the_rule_of_three() {
        assert_eq!(interval(0, 300), [0.0, 0.01]);
        assert_eq!(interval(300, 300), [0.99, 1.0]);
        assert_eq!(interval(0, 2), [0.0, 1.0]);
        assert_eq!(interval(0, 0), [0.0, 1.0]);
        assert_eq!(interval(81, 263), wilson(81, 263));
    }

    #[test]
    fn share_is_told_with_what_it_was_counted_of() {
        assert_eq!(Share::new(0, 300).to_string(), "0.00 % (0 of 300; 0.00 to 1.00)");
        assert_eq!(Share::new(0, 0).rate, 0.0);
    }
}
