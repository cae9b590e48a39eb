//! Is the face on a track live? Decided over several frames, asked again while the track goes on.
//!
//! One frame says little: of printed photographs some reach 0.49, of live faces some fall to 0.35
//! (docs/evaluation.md). The mean of [`FRAMES`] parts them. It is kept while single scores agree with
//! it; one that does not has the face looked at as closely as at first, so that whoever is swapped for
//! a picture does not stay live. No name rests on a verdict older than [`FRESH`].

use std::time::Duration;

use super::{LivenessScore, LivenessVerdict};

/// Scores that make a verdict.
pub const FRAMES: usize = 5;
/// Between scores of one verdict: frames nearer than that are copies of each other.
const SPACING: Duration = Duration::from_millis(90);
/// Between single scores of a track that was found live and is named.
const RECHECK: Duration = Duration::from_secs(2);
/// A name rests on a verdict no older than this; else on a new one.
pub const FRESH: Duration = Duration::from_secs(3);

/// What is done with verdicts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LivenessPolicy {
    /// A mean score from here on is live, 0 to 1; signed with the model bundle.
    pub threshold: f32,
    /// Nobody is named before the verdict is live, and an attack is told; else it is only reported.
    pub enforce: bool,
}

/// The scores of one track.
#[derive(Debug, Default)]
pub struct TrackLiveness {
    /// Of the verdict that is being made.
    window: Vec<f32>,
    /// When the last score was taken, media time.
    scored: Option<Duration>,
    /// The last verdict, and when it was made.
    decided: Option<(LivenessScore, Duration)>,
    /// A new verdict is asked for.
    reopened: bool,
}

impl TrackLiveness {
    /// Whether a score would help now. A track found to be an attack stays one.
    pub fn wants(&self, named: bool, media: Duration) -> bool {
        let since = self.scored.map(|scored| media.saturating_sub(scored));
        let wait = if self.is_open() {
            SPACING
        } else if named && !self.is_attack() {
            RECHECK
        } else {
            return false;
        };
        since.is_none_or(|since| since >= wait)
    }

    /// A verdict is being made.
    pub fn is_open(&self) -> bool {
        self.decided.is_none() || self.reopened
    }

    pub fn is_attack(&self) -> bool {
        self.decided.is_some_and(|(score, _)| score.verdict == LivenessVerdict::Attack)
    }

    pub fn scored(&self) -> Option<Duration> {
        self.scored
    }

    /// How near a verdict is, in scores.
    pub fn gathered(&self) -> usize {
        self.window.len()
    }

    /// Takes the score of a frame; gives a verdict when one was made.
    pub fn take(&mut self, score: f32, threshold: f32, media: Duration) -> Option<LivenessScore> {
        self.scored = Some(media);
        if !self.is_open() {
            // A single low score is a question, not an answer.
            if score >= threshold {
                return None;
            }
            self.reopened = true;
        }
        self.window.push(score);
        if self.window.len() < FRAMES {
            return None;
        }
        let verdict = judge(&self.window, threshold);
        self.window.clear();
        self.reopened = false;
        self.decided = verdict.map(|verdict| (verdict, media));
        verdict
    }

    /// The verdict, else what the scores so far amount to.
    pub fn so_far(&self, threshold: f32) -> Option<LivenessScore> {
        self.decided.map(|(score, _)| score).or_else(|| judge(&self.window, threshold))
    }

    /// The verdict that a name may rest on: live, undoubted and fresh. One that is not fresh is made anew.
    pub fn supports_a_name(&mut self, media: Duration) -> Option<LivenessScore> {
        let (score, made) = self.decided?;
        if score.verdict == LivenessVerdict::Attack || self.reopened {
            return None;
        }
        if media.saturating_sub(made) > FRESH {
            self.reopened = true;
            return None;
        }
        Some(score)
    }
}

/// By the mean; `None` without scores.
fn judge(scores: &[f32], threshold: f32) -> Option<LivenessScore> {
    if scores.is_empty() {
        return None;
    }
    let score = scores.iter().sum::<f32>() / scores.len() as f32;
    let verdict = if score >= threshold { LivenessVerdict::Live } else { LivenessVerdict::Attack };
    Some(LivenessScore { score, verdict })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const BAR: f32 = 0.4;

    fn at(tenths: u64) -> Duration {
        Duration::from_millis(100 * tenths)
    }

    /// Verdicts of scores a tenth of a second apart, where they are wanted.
    fn feed(track: &mut TrackLiveness, from: u64, scores: &[f32]) -> Vec<LivenessVerdict> {
        let wanted = |track: &TrackLiveness, n| track.wants(true, at(n));
        (from..)
            .zip(scores)
            .filter_map(|(n, score)| wanted(track, n).then(|| track.take(*score, BAR, at(n)))?)
            .map(|verdict| verdict.verdict)
            .collect()
    }

    #[test]
    fn mean_of_several_frames_decides() {
        let mut track = TrackLiveness::default();
        assert_eq!(feed(&mut track, 0, &[0.9, 0.1, 0.9, 0.9]), []);
        assert!(track.supports_a_name(at(4)).is_none(), "four are not five");
        assert_eq!(feed(&mut track, 4, &[0.1]), [LivenessVerdict::Live]);
        let score = track.supports_a_name(at(4)).unwrap().score;
        assert!((score - 0.58).abs() < 1e-6);
        let mut track = TrackLiveness::default();
        assert_eq!(feed(&mut track, 0, &[0.9, 0.1, 0.3, 0.1, 0.3]), [LivenessVerdict::Attack]);
    }

    #[test]
    fn neighbouring_frames_are_not_several() {
        let mut track = TrackLiveness::default();
        track.take(0.9, BAR, Duration::ZERO);
        assert!(!track.wants(false, Duration::from_millis(40)));
        assert!(track.wants(false, Duration::from_millis(90)));
    }

    /// Holds LIV-11.
    #[test]
    fn swapped_for_a_picture_does_not_stay_live() {
        let mut track = TrackLiveness::default();
        feed(&mut track, 0, &[0.9; 5]);
        // Asked again now and then, and closely after the first doubt.
        assert_eq!(feed(&mut track, 5, &[0.0; 30]), [LivenessVerdict::Attack]);
        assert!(track.is_attack());
        assert!(!track.wants(true, at(10_000)), "an attack stays one");
    }

    /// Holds LIV-13.
    #[test]
    fn one_bad_frame_is_not_an_attack() {
        let mut track = TrackLiveness::default();
        feed(&mut track, 0, &[0.9; 5]);
        assert!(track.take(0.0, BAR, at(30)).is_none());
        assert!(track.supports_a_name(at(30)).is_none(), "in doubt nobody is named");
        assert_eq!(feed(&mut track, 31, &[0.9; 4]), [LivenessVerdict::Live]);
        assert!(track.supports_a_name(at(35)).is_some());
    }

    /// Holds LIV-12.
    #[test]
    fn stale_verdict_names_nobody() {
        let mut track = TrackLiveness::default();
        feed(&mut track, 0, &[0.9; 5]);
        assert!(track.supports_a_name(at(34)).is_some());
        assert!(track.supports_a_name(at(35)).is_none());
        assert!(track.is_open());
        assert_eq!(feed(&mut track, 36, &[0.0; 5]), [LivenessVerdict::Attack]);
    }

    /// Holds LIV-14.
    #[test]
    fn decided_track_costs_little() {
        let mut track = TrackLiveness::default();
        let scored = |named, track: &mut TrackLiveness| {
            (0..600)
                .filter(|n| track.wants(named, at(*n)) && track.take(0.9, BAR, at(*n)).is_none())
                .count()
        };
        // A minute at ten frames a second: four for the verdict (the fifth makes it), one every two seconds.
        assert!((30..=35).contains(&scored(true, &mut track)));
        assert_eq!(scored(false, &mut TrackLiveness::default()), 4);
    }
}
