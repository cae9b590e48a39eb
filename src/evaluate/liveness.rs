//! Presentation attacks: how often is a picture taken for a face, and a face for a picture? Terms of ISO/IEC 30107-3.
//!
//! BPCER: share of live tracks taken for attacks. APCER: share of an attack kind's tracks taken for live. A track is
//! judged by the mean over its frames; a track (or frame) at or above the threshold passes as live.

use std::collections::BTreeMap;

use serde::Serialize;

use super::EvaluateError;
use super::interval::Share;
use super::open_set::DetPoint;
use crate::recognition::liveness::FRAMES;

/// The scores of one track, 0 (attack) to 1 (live).
#[derive(Debug, Clone, PartialEq)]
pub struct ScoredTrack {
    /// Subject, for thresholds from other subjects.
    pub subject: Option<String>,
    /// Of the frames with a usable face.
    pub scores: Vec<f32>,
    /// Frames without one.
    pub unusable: usize,
}

/// Attacks by their kind.
pub type ByKind = BTreeMap<String, Vec<ScoredTrack>>;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LivenessReport {
    /// Per track.
    pub bpcer: f64,
    /// Per track, by kind.
    pub apcer: BTreeMap<String, f64>,
    pub threshold: f32,
    /// Per track, from strict to lax.
    pub curve: Vec<LivenessPoint>,
    pub choice: Choice,
    pub genuine: Counts,
    pub attacks: BTreeMap<String, Counts>,
    /// Each subject judged by a threshold chosen on the others; `None` if a track has no subject, or one is alone.
    pub held_out: Option<HeldOut>,
    /// At the threshold that the bundle carries, by which `run` decides.
    pub bundle: AtThreshold,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AtThreshold {
    pub threshold: f32,
    pub genuine: Counts,
    pub attacks: BTreeMap<String, Counts>,
}

/// Where the threshold came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Choice {
    Given,
    /// The least of the larger of BPCER and the worst kind's APCER, on the very tracks that are judged.
    EqualErrorOnTheseTracks,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LivenessPoint {
    pub threshold: f32,
    pub bpcer: f64,
    pub apcer: BTreeMap<String, f64>,
}

/// What was judged wrongly: live ones that did not pass, or attacks that did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Counts {
    /// A live track without any usable frame does not pass and is an error; an attack without one is none.
    pub tracks: Share,
    pub frames: Share,
    /// Verdicts as `run` makes them: means of so many consecutive usable frames as it takes, from every frame on.
    pub verdicts: Share,
    pub tracks_without_a_face: usize,
    pub frames_without_a_face: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HeldOut {
    pub bpcer: Counts,
    pub apcer: BTreeMap<String, Counts>,
    pub subjects: Vec<Subject>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Subject {
    pub name: String,
    /// Chosen on all other subjects.
    pub threshold: f32,
    pub genuine: Counts,
    pub attacks: BTreeMap<String, Counts>,
}

impl ScoredTrack {
    /// Mean over its usable frames.
    fn score(&self) -> Option<f32> {
        let sum: f32 = self.scores.iter().sum();
        (!self.scores.is_empty()).then(|| sum / self.scores.len() as f32)
    }

    fn passes(&self, threshold: f32) -> bool {
        self.score().is_some_and(|score| score >= threshold)
    }
}

/// The figures at `threshold`, else at the one that is best for these tracks, and at that of the `bundle`. Fails if no live track or no attack has
/// a usable frame.
pub fn judge_liveness(
    genuine: &[ScoredTrack],
    attacks: &ByKind,
    threshold: Option<f32>,
    bundle: f32,
) -> Result<LivenessReport, EvaluateError> {
    let scored = |tracks: &[ScoredTrack]| tracks.iter().any(|track| !track.scores.is_empty());
    if !scored(genuine) || !attacks.values().any(|tracks| scored(tracks)) {
        return Err(EvaluateError::TooFew(
            "no usable face on any live track, or on any attack".to_owned(),
        ));
    }
    let attacks: BTreeMap<&str, Vec<&ScoredTrack>> =
        attacks.iter().map(|(kind, tracks)| (kind.as_str(), tracks.iter().collect())).collect();
    let genuine: Vec<&ScoredTrack> = genuine.iter().collect();
    let choice = threshold.map_or(Choice::EqualErrorOnTheseTracks, |_| Choice::Given);
    let threshold = threshold.unwrap_or_else(|| equal_error_threshold(&genuine, &attacks));
    let at = point(&genuine, &attacks, threshold);
    Ok(LivenessReport {
        bpcer: at.bpcer,
        apcer: at.apcer,
        threshold,
        curve: curve(&genuine, &attacks),
        choice,
        genuine: count(&genuine, threshold, true),
        attacks: count_kinds(&attacks, threshold),
        held_out: held_out(&genuine, &attacks),
        bundle: AtThreshold {
            threshold: bundle,
            genuine: count(&genuine, bundle, true),
            attacks: count_kinds(&attacks, bundle),
        },
    })
}

/// APCER of each kind against BPCER, and the same over single frames, for a plot.
pub fn liveness_curves(
    genuine: &[ScoredTrack],
    attacks: &ByKind,
) -> Vec<(String, bool, Vec<DetPoint>)> {
    let frames = |tracks: &[ScoredTrack]| -> Vec<f32> {
        tracks.iter().flat_map(|track| track.scores.iter().copied()).collect()
    };
    let means = |tracks: &[ScoredTrack]| -> Vec<f32> {
        tracks.iter().filter_map(ScoredTrack::score).collect()
    };
    let mut curves = Vec::new();
    for (kind, tracks) in attacks {
        curves.push((format!("{kind}, tracks"), false, det(means(genuine), means(tracks))));
        curves.push((format!("{kind}, frames"), true, det(frames(genuine), frames(tracks))));
    }
    curves
}

fn det(mut live: Vec<f32>, mut attacks: Vec<f32>) -> Vec<DetPoint> {
    live.sort_by(f32::total_cmp);
    attacks.sort_by(f32::total_cmp);
    let share = |count: usize, of: usize| if of == 0 { 0.0 } else { count as f64 / of as f64 };
    let mut bars: Vec<f32> = live.iter().chain(&attacks).copied().collect();
    bars.push(f32::INFINITY);
    bars.sort_by(|a, b| b.total_cmp(a));
    bars.dedup();
    bars.into_iter()
        .map(|bar| {
            let refused = live.partition_point(|score| *score < bar);
            let passed = attacks.len() - attacks.partition_point(|score| *score < bar);
            DetPoint {
                false_positive: share(passed, attacks.len()),
                false_negative: share(refused, live.len()),
            }
        })
        .collect()
}

type Kinds<'a> = BTreeMap<&'a str, Vec<&'a ScoredTrack>>;

/// The threshold with the least of the larger of BPCER and the worst kind's APCER; of equal ones that with the least
/// sum, then the middle one. Thresholds lie half way between neighbouring scores.
fn equal_error_threshold(genuine: &[&ScoredTrack], attacks: &Kinds) -> f32 {
    let mut best: Vec<f32> = Vec::new();
    let mut least = (f64::INFINITY, f64::INFINITY);
    for bar in bars(genuine, attacks) {
        let LivenessPoint { bpcer, apcer, .. } = point(genuine, attacks, bar);
        let worst = apcer.values().copied().fold(0.0, f64::max);
        let cost = (bpcer.max(worst), bpcer + worst);
        match cost.0.total_cmp(&least.0).then(cost.1.total_cmp(&least.1)) {
            std::cmp::Ordering::Less => (least, best) = (cost, vec![bar]),
            std::cmp::Ordering::Equal => best.push(bar),
            std::cmp::Ordering::Greater => {}
        }
    }
    best.get(best.len() / 2).copied().unwrap_or(0.5)
}

/// Half way between neighbouring scores of tracks, highest first, and one beyond either end.
fn bars(genuine: &[&ScoredTrack], attacks: &Kinds) -> Vec<f32> {
    let mut scores: Vec<f32> = genuine
        .iter()
        .chain(attacks.values().flatten())
        .filter_map(|track| track.score())
        .collect();
    scores.sort_by(|a, b| b.total_cmp(a));
    scores.dedup();
    let mut bars: Vec<f32> = scores.first().map(|top| top.next_up()).into_iter().collect();
    bars.extend(scores.windows(2).map(|pair| f32::midpoint(pair[0], pair[1])));
    bars.extend(scores.last());
    bars
}

fn curve(genuine: &[&ScoredTrack], attacks: &Kinds) -> Vec<LivenessPoint> {
    bars(genuine, attacks).into_iter().map(|bar| point(genuine, attacks, bar)).collect()
}

fn point(genuine: &[&ScoredTrack], attacks: &Kinds, threshold: f32) -> LivenessPoint {
    LivenessPoint {
        threshold,
        bpcer: wrong_tracks(genuine, threshold, true).rate,
        apcer: attacks
            .iter()
            .map(|(kind, tracks)| ((*kind).to_owned(), wrong_tracks(tracks, threshold, false).rate))
            .collect(),
    }
}

fn wrong_tracks(tracks: &[&ScoredTrack], threshold: f32, live: bool) -> Share {
    Share::new(tracks.iter().filter(|track| track.passes(threshold) != live).count(), tracks.len())
}

fn count(tracks: &[&ScoredTrack], threshold: f32, live: bool) -> Counts {
    let frames = || tracks.iter().flat_map(|track| &track.scores);
    let verdicts = || {
        let mean = |scores: &[f32]| scores.iter().sum::<f32>() / scores.len() as f32;
        tracks.iter().flat_map(move |track| track.scores.windows(FRAMES).map(mean))
    };
    Counts {
        tracks: wrong_tracks(tracks, threshold, live),
        frames: Share::new(
            frames().filter(|score| (**score >= threshold) != live).count(),
            frames().count(),
        ),
        verdicts: Share::new(
            verdicts().filter(|score| (*score >= threshold) != live).count(),
            verdicts().count(),
        ),
        tracks_without_a_face: tracks.iter().filter(|track| track.scores.is_empty()).count(),
        frames_without_a_face: tracks.iter().map(|track| track.unusable).sum(),
    }
}

fn count_kinds(attacks: &Kinds, threshold: f32) -> BTreeMap<String, Counts> {
    attacks
        .iter()
        .map(|(kind, tracks)| ((*kind).to_owned(), count(tracks, threshold, false)))
        .collect()
}

fn held_out(genuine: &[&ScoredTrack], attacks: &Kinds) -> Option<HeldOut> {
    let all = || genuine.iter().chain(attacks.values().flatten());
    let mut names: Vec<&str> =
        all().map(|track| track.subject.as_deref()).collect::<Option<_>>()?;
    names.sort_unstable();
    names.dedup();
    if names.len() < 2 {
        return None;
    }
    let mut subjects = Vec::new();
    for name in names {
        let part = |tracks: &[&'_ ScoredTrack], own: bool| -> Vec<ScoredTrack> {
            let mine = |track: &&&ScoredTrack| (track.subject.as_deref() == Some(name)) == own;
            tracks.iter().filter(mine).map(|track| (*track).clone()).collect()
        };
        let (others, own) = (part(genuine, false), part(genuine, true));
        let kinds = |own: bool| -> ByKind {
            attacks.iter().map(|(kind, tracks)| ((*kind).to_owned(), part(tracks, own))).collect()
        };
        let (other_attacks, own_attacks) = (kinds(false), kinds(true));
        if others.is_empty() || other_attacks.values().all(Vec::is_empty) {
            return None;
        }
        let threshold = equal_error_threshold(&refs(&others), &by_ref(&other_attacks));
        subjects.push(Subject {
            name: name.to_owned(),
            threshold,
            genuine: count(&refs(&own), threshold, true),
            attacks: count_kinds(&by_ref(&own_attacks), threshold),
        });
    }
    let kinds = attacks.keys().map(|kind| {
        ((*kind).to_owned(), sum(subjects.iter().filter_map(|subject| subject.attacks.get(*kind))))
    });
    Some(HeldOut {
        bpcer: sum(subjects.iter().map(|subject| &subject.genuine)),
        apcer: kinds.collect(),
        subjects: subjects.clone(),
    })
}

fn refs(tracks: &[ScoredTrack]) -> Vec<&ScoredTrack> {
    tracks.iter().collect()
}

fn by_ref(attacks: &ByKind) -> Kinds<'_> {
    attacks.iter().map(|(kind, tracks)| (kind.as_str(), refs(tracks))).collect()
}

fn sum<'a>(counts: impl Iterator<Item = &'a Counts>) -> Counts {
    let (mut tracks, mut frames, mut verdicts, mut without) = ((0, 0), (0, 0), (0, 0), (0, 0));
    for counts in counts {
        tracks = (tracks.0 + counts.tracks.count, tracks.1 + counts.tracks.of);
        frames = (frames.0 + counts.frames.count, frames.1 + counts.frames.of);
        verdicts = (verdicts.0 + counts.verdicts.count, verdicts.1 + counts.verdicts.of);
        without.0 += counts.tracks_without_a_face;
        without.1 += counts.frames_without_a_face;
    }
    Counts {
        tracks: Share::new(tracks.0, tracks.1),
        frames: Share::new(frames.0, frames.1),
        verdicts: Share::new(verdicts.0, verdicts.1),
        tracks_without_a_face: without.0,
        frames_without_a_face: without.1,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::float_cmp)]
mod tests {
    use super::*;

    fn track(subject: &str, scores: &[f32]) -> ScoredTrack {
        let subject = (!subject.is_empty()).then(|| subject.to_owned());
        ScoredTrack { subject, scores: scores.to_vec(), unusable: 0 }
    }

    fn kinds(of: &[(&str, &[ScoredTrack])]) -> ByKind {
        of.iter().map(|(kind, tracks)| ((*kind).to_owned(), tracks.to_vec())).collect()
    }

    #[test]
    fn a_track_is_judged_by_its_mean_and_frames_one_by_one() {
        let genuine = [track("", &[0.9, 0.3]), track("", &[0.8])];
        let attacks = kinds(&[("print", &[track("", &[0.7, 0.1])])]);
        let report = judge_liveness(&genuine, &attacks, Some(0.5), 0.5).unwrap();
        assert_eq!((report.bpcer, report.apcer["print"], report.choice), (0.0, 0.0, Choice::Given));
        let told = |counts: &Counts| (counts.tracks.of, counts.frames.count, counts.frames.of);
        assert_eq!(told(&report.genuine), (2, 1, 3));
        assert_eq!(told(&report.attacks["print"]), (1, 1, 2));
        // Nothing seen in two tracks: up to 100 %.
        assert_eq!(report.genuine.tracks.interval, [0.0, 1.0]);
    }

    #[test]
    fn kinds_are_counted_apart_and_the_worst_sets_the_threshold() {
        let genuine = [0.9, 0.8, 0.7, 0.6].map(|score| track("", &[score]));
        let prints = [0.1, 0.2].map(|score| track("", &[score]));
        let screens = [0.1, 0.2, 0.3, 0.75].map(|score| track("", &[score]));
        let attacks = kinds(&[("print", &prints), ("screen", &screens)]);
        let report = judge_liveness(&genuine, &attacks, None, 0.5).unwrap();
        // Between 0.3 and 0.6 one of four screens passes and all live ones do.
        assert!((report.threshold - 0.45).abs() < 1e-6);
        assert_eq!((report.bpcer, report.apcer["print"], report.apcer["screen"]), (0.0, 0.0, 0.25));
        assert_eq!(report.choice, Choice::EqualErrorOnTheseTracks);
    }

    #[test]
    fn separable_tracks_are_parted_in_the_middle() {
        let genuine = [track("", &[0.9]), track("", &[0.7])];
        let attacks = kinds(&[("print", &[track("", &[0.1]), track("", &[0.3])])]);
        assert_eq!(judge_liveness(&genuine, &attacks, None, 0.5).unwrap().threshold, 0.5);
    }

    #[test]
    fn tracks_without_a_face_are_counted() {
        let blank = ScoredTrack { subject: None, scores: Vec::new(), unusable: 7 };
        let genuine = [track("", &[0.9]), blank.clone()];
        let attacks = kinds(&[("print", &[track("", &[0.1]), blank.clone()])]);
        let report = judge_liveness(&genuine, &attacks, Some(0.5), 0.5).unwrap();
        // The live one did not get in; the attack did not, either.
        assert_eq!((report.bpcer, report.apcer["print"]), (0.5, 0.0));
        assert_eq!(
            (report.genuine.tracks_without_a_face, report.genuine.frames_without_a_face),
            (1, 7)
        );
        assert!(judge_liveness(std::slice::from_ref(&blank), &attacks, None, 0.5).is_err());
        assert!(judge_liveness(&genuine, &kinds(&[("print", &[blank])]), None, 0.5).is_err());
    }

    #[test]
    fn a_held_out_subject_is_judged_by_the_others() {
        // All together they can be parted nowhere without error; a and b at 0.5, c lies lower throughout.
        let genuine = [track("a", &[0.9]), track("b", &[0.8]), track("c", &[0.4])];
        let prints = [track("a", &[0.2]), track("b", &[0.25]), track("c", &[0.1])];
        let report = judge_liveness(&genuine, &kinds(&[("print", &prints)]), None, 0.5).unwrap();
        assert_eq!(report.bpcer, 0.0); // 0.325, chosen with c at hand
        let held = report.held_out.unwrap();
        let c = &held.subjects[2];
        assert_eq!((c.name.as_str(), c.genuine.tracks.count), ("c", 1));
        assert!((c.threshold - 0.525).abs() < 1e-6);
        assert_eq!((held.bpcer.tracks.count, held.bpcer.tracks.of), (1, 3));
        assert_eq!((held.apcer["print"].tracks.count, held.apcer["print"].tracks.of), (0, 3));
    }

    #[test]
    fn without_subjects_nobody_is_held_out() {
        let attacks = kinds(&[("print", &[track("a", &[0.1])])]);
        let judged = |genuine| judge_liveness(&[genuine], &attacks, None, 0.5).unwrap().held_out;
        assert!(judged(track("", &[0.9])).is_none());
        assert!(judged(track("a", &[0.9])).is_none());
    }

    #[test]
    fn verdicts_are_means_of_neighbours_at_the_bundles_threshold() {
        let low = [0.9, 0.9, 0.9, 0.9, 0.9, 0.0, 0.0, 0.0, 0.0];
        let genuine = [track("", &low), track("", &[0.1; 4])];
        let attacks = kinds(&[("print", &[track("", &[0.7; 6])])]);
        let report = judge_liveness(&genuine, &attacks, Some(0.05), 0.5).unwrap();
        let told = |counts: &Counts| (counts.verdicts.count, counts.verdicts.of);
        // Of 4.5 / 5, 3.6 / 5, 2.7 / 5, 1.8 / 5 and 0.9 / 5 two are below; four frames give no verdict.
        assert_eq!(told(&report.bundle.genuine), (2, 5));
        assert_eq!(told(&report.bundle.attacks["print"]), (2, 2));
        assert_eq!(told(&report.genuine), (0, 5));
    }

    #[test]
    fn curve_runs_from_strict_to_lax() {
        let genuine = [track("", &[0.9]), track("", &[0.4])];
        let attacks = kinds(&[("print", &[track("", &[0.6])])]);
        let report = judge_liveness(&genuine, &attacks, None, 0.5).unwrap();
        let corners: Vec<_> =
            report.curve.iter().map(|point| (point.bpcer, point.apcer["print"])).collect();
        assert_eq!(corners, [(1.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)]);
        let curves = liveness_curves(&genuine, &attacks);
        assert_eq!(curves.len(), 2);
        let first = &curves[0].2;
        assert_eq!((first[0].false_negative, first[0].false_positive), (1.0, 0.0));
        assert_eq!((first[3].false_negative, first[3].false_positive), (0.0, 1.0));
    }
}
