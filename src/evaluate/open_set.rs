//! Open-set identification: who of a gallery is it, or nobody? Terms of ISO/IEC 19795-1.
//!
//! A search compares one probe (a look, or the mean of several) with every template and returns the nearest if it
//! reaches the threshold. FNIR: share of searches of enrolled people that do not return that person. FPIR: share of
//! searches of strangers that return anybody.

use serde::Serialize;

use super::EvaluateError;
use super::interval::Share;
use crate::recognition::Embedding;

/// Searches of strangers that must be allowed to return somebody for a rate to be measured.
const ALLOWED: f64 = 1.0;
/// Strictest FPIR asked for, as a power of ten.
const DECADES: i32 = 9;

/// The pictures of one person, in order; `None` where no face was found.
pub type Looks = Vec<Option<Embedding>>;

struct Template {
    person: usize,
    mean: Embedding,
    looks: usize,
}

/// Enrolled people and strangers, ready to be searched.
pub struct OpenSet {
    templates: Vec<Template>,
    /// Of each person, also of those who could not be enrolled.
    probes: Vec<Looks>,
    strangers: Vec<Looks>,
    undetected: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OpenSetReport {
    /// People enrolled.
    pub gallery: usize,
    /// Pictures of enrolled people that were not enrolled from.
    pub probes: usize,
    pub strangers: usize,
    /// Pictures without a face, of anybody.
    pub undetected: usize,
    /// People none of whose pictures to enrol from shows a face; their probes are misses.
    pub not_enrolled: usize,
    pub points: Vec<OpenSetPoint>,
}

/// One threshold, for one number of pooled looks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OpenSetPoint {
    /// Wanted; what was reached is in `false_positives`. Where `configured` is given, what was observed.
    pub fpir: f64,
    pub fnir: f64,
    /// Cosine. With `configured`, for the template of most looks.
    pub threshold: f32,
    /// Pooled in each probe.
    pub looks: usize,
    /// Searches of enrolled people that did not return them, of all such searches.
    pub misses: Share,
    /// Those among them that returned somebody else.
    pub misidentified: usize,
    /// Searches of strangers that returned somebody, of all such searches.
    pub false_positives: Share,
    /// Different strangers behind those searches.
    pub strangers: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub configured: Option<Configured>,
}

/// A threshold that the bundle's calibration gave for a false match rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Configured {
    pub false_match_rate: f64,
    /// Added to the calibrated threshold.
    pub reserve: f32,
    /// Comparisons of a stranger's probe with one template that reached its threshold, of all such comparisons.
    pub false_matches: Share,
}

/// One corner of a detection error trade-off curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DetPoint {
    /// 0 to 1, on the horizontal axis.
    pub false_positive: f64,
    /// 0 to 1, on the vertical axis.
    pub false_negative: f64,
}

/// What searches of one number of looks returned: the nearest, whatever the threshold.
struct Searches {
    /// Whether the nearest is the right person, and its similarity; `None` without a face or a gallery.
    mated: Vec<Option<(bool, f32)>>,
    /// Similarity to the nearest, highest first.
    unmated: Vec<f32>,
    strangers: usize,
}

impl OpenSet {
    /// The first `enroll` pictures of each person make the template, their mean; the others are probes. Fails if
    /// nobody could be enrolled, or there is nothing to search for.
    pub fn new(
        people: Vec<Looks>,
        strangers: Vec<Looks>,
        enroll: usize,
    ) -> Result<Self, EvaluateError> {
        let too_few = |reason: &str| Err(EvaluateError::TooFew(reason.to_owned()));
        let all = people.iter().chain(&strangers).flatten();
        let undetected = all.filter(|look| look.is_none()).count();
        let mut templates = Vec::new();
        let mut probes = Vec::new();
        for (person, mut looks) in people.into_iter().enumerate() {
            let rest = looks.split_off(enroll.min(looks.len()));
            if let Some(mean) = Embedding::pooled(looks.iter().flatten()) {
                let looks = looks.iter().flatten().count();
                templates.push(Template { person, mean, looks });
            }
            probes.push(rest);
        }
        if templates.is_empty() {
            return too_few("nobody could be enrolled: no face on any picture to enrol from");
        }
        if probes.iter().all(Vec::is_empty) {
            return too_few(
                "no probes: nobody has more pictures than are enrolled from (see --enroll)",
            );
        }
        if strangers.iter().flatten().flatten().next().is_none() {
            return too_few("no face on any picture of a stranger");
        }
        Ok(Self { templates, probes, strangers, undetected })
    }

    /// FNIR at an FPIR of 1e-1, 1e-2 and so on, as far as there are strangers, for 1 to `most_looks` pooled looks.
    ///
    /// The threshold of a rate is the lowest that at most this share of the strangers' searches reaches. 1e-1 is
    /// always told; its interval says what it is worth with fewer than ten strangers.
    pub fn report(&self, most_looks: usize) -> OpenSetReport {
        let mut points = Vec::new();
        for looks in 1..=most_looks {
            let searches = self.search(looks);
            if searches.mated.is_empty() || searches.unmated.is_empty() {
                continue;
            }
            for decade in 1..=DECADES {
                let rate = 10_f64.powi(-decade);
                if decade > 1 && searches.strangers as f64 * rate < ALLOWED - 1e-9 {
                    break;
                }
                points.push(searches.at_rate(rate, looks));
            }
        }
        OpenSetReport {
            gallery: self.templates.len(),
            probes: self.probes.iter().map(Vec::len).sum(),
            strangers: self.strangers.len(),
            undetected: self.undetected,
            not_enrolled: self.probes.len() - self.templates.len(),
            points,
        }
    }

    /// What a bundle's thresholds do here: `threshold` gives the one between a probe and a template of so many looks.
    pub fn at_configured(
        &self,
        looks: usize,
        false_match_rate: f64,
        reserve: f32,
        threshold: impl Fn(usize, usize) -> f32,
    ) -> Option<OpenSetPoint> {
        let bar = |template: &Template| threshold(looks, template.looks);
        // Above its own bar; of several the nearest, as the matcher has it.
        let returned = |probe: &Embedding| {
            let (at, similarity) = self.nearest(probe)?;
            (similarity >= bar(&self.templates[at])).then_some(self.templates[at].person)
        };
        let mated = self.mated(looks);
        let unmated = self.unmated(looks);
        if mated.is_empty() || unmated.is_empty() {
            return None;
        }
        let found: Vec<(usize, Option<usize>)> = mated
            .iter()
            .map(|(person, probe)| (*person, probe.as_ref().and_then(returned)))
            .collect();
        let missed = found.iter().filter(|(person, found)| *found != Some(*person)).count();
        let misidentified = found
            .iter()
            .filter(|(person, found)| found.is_some_and(|found| found != *person))
            .count();
        let matches = |probe: &Embedding| {
            let reached = |template: &&Template| probe.similarity(&template.mean) >= bar(template);
            self.templates.iter().filter(reached).count()
        };
        let false_matches = unmated.iter().map(|(_, probe)| matches(probe)).sum();
        let positive = unmated.iter().filter(|(_, probe)| returned(probe).is_some()).count();
        let misses = Share::new(missed, mated.len());
        let false_positives = Share::new(positive, unmated.len());
        let most = self.templates.iter().map(|template| template.looks).max().unwrap_or(1);
        Some(OpenSetPoint {
            fpir: false_positives.rate,
            fnir: misses.rate,
            threshold: threshold(looks, most),
            looks,
            misses,
            misidentified,
            false_positives,
            strangers: different(&unmated),
            configured: Some(Configured {
                false_match_rate,
                reserve,
                false_matches: Share::new(false_matches, unmated.len() * self.templates.len()),
            }),
        })
    }

    /// FNIR over FPIR for so many pooled looks, from strict to lax; empty if nobody has so many.
    pub fn curve(&self, looks: usize) -> Vec<DetPoint> {
        let searches = self.search(looks);
        if searches.mated.is_empty() || searches.unmated.is_empty() {
            return Vec::new();
        }
        (0..=searches.unmated.len())
            .map(|allowed| {
                let point = searches.at(searches.bar(allowed), looks);
                DetPoint { false_positive: point.fpir, false_negative: point.fnir }
            })
            .collect()
    }

    fn search(&self, looks: usize) -> Searches {
        let mated = self
            .mated(looks)
            .iter()
            .map(|(person, probe)| {
                let (at, similarity) = self.nearest(probe.as_ref()?)?;
                Some((self.templates[at].person == *person, similarity))
            })
            .collect();
        let probes = self.unmated(looks);
        let mut unmated: Vec<f32> =
            probes.iter().filter_map(|(_, probe)| Some(self.nearest(probe)?.1)).collect();
        unmated.sort_by(|a, b| b.total_cmp(a));
        Searches { mated, unmated, strangers: different(&probes) }
    }

    /// Probes of people with their number; `None` if no face was found.
    fn mated(&self, looks: usize) -> Vec<(usize, Option<Embedding>)> {
        pooled(&self.probes, looks).collect()
    }

    /// Probes of strangers with their number. One without a face can alarm nobody; it would only flatter.
    fn unmated(&self, looks: usize) -> Vec<(usize, Embedding)> {
        pooled(&self.strangers, looks).filter_map(|(who, probe)| Some((who, probe?))).collect()
    }

    fn nearest(&self, probe: &Embedding) -> Option<(usize, f32)> {
        self.templates
            .iter()
            .enumerate()
            .map(|(at, template)| (at, probe.similarity(&template.mean)))
            .max_by(|a, b| a.1.total_cmp(&b.1))
    }
}

impl Searches {
    fn at_rate(&self, rate: f64, looks: usize) -> OpenSetPoint {
        let allowed = (rate * self.unmated.len() as f64 + 1e-9) as usize;
        OpenSetPoint { fpir: rate, ..self.at(self.bar(allowed), looks) }
    }

    /// The lowest threshold that at most so many searches of strangers reach.
    fn bar(&self, allowed: usize) -> f32 {
        self.unmated.get(allowed).map_or(-1.0, |highest_refused| highest_refused.next_up())
    }

    fn at(&self, threshold: f32, looks: usize) -> OpenSetPoint {
        let returned = |(_, similarity): &&(bool, f32)| *similarity >= threshold;
        let found: Vec<_> = self.mated.iter().flatten().filter(returned).collect();
        let right = found.iter().filter(|(right, _)| *right).count();
        let positive = self.unmated.partition_point(|similarity| *similarity >= threshold);
        let misses = Share::new(self.mated.len() - right, self.mated.len());
        let false_positives = Share::new(positive, self.unmated.len());
        OpenSetPoint {
            fpir: false_positives.rate,
            fnir: misses.rate,
            threshold,
            looks,
            misses,
            misidentified: found.len() - right,
            false_positives,
            strangers: self.strangers,
            configured: None,
        }
    }
}

/// Each person's pictures in disjoint groups of `looks`, in order; what is left over is not used. A group is pooled of
/// the faces found in it.
fn pooled(people: &[Looks], looks: usize) -> impl Iterator<Item = (usize, Option<Embedding>)> {
    people.iter().enumerate().flat_map(move |(person, own)| {
        own.chunks_exact(looks.max(1))
            .map(move |group| (person, Embedding::pooled(group.iter().flatten())))
    })
}

fn different(probes: &[(usize, Embedding)]) -> usize {
    let mut people: Vec<usize> = probes.iter().map(|(person, _)| *person).collect();
    people.dedup(); // in order
    people.len()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::float_cmp)]
mod tests {
    use super::*;

    /// In a plane with the enrolled people on the first two axes and room for strangers on the third.
    fn look(values: [f32; 3]) -> Option<Embedding> {
        Embedding::normalized(values.to_vec())
    }

    /// A look whose similarity to the first person is `similarity`, and to the second 0.
    fn alike(similarity: f32) -> Option<Embedding> {
        look([similarity, 0.0, (1.0 - similarity * similarity).sqrt()])
    }

    /// Two people; the first has probes at 0.9, 0.6, 0.3 and one without a face, the second one at 1.0. Ten strangers
    /// at 0.05, 0.15, …, 0.95 of the first.
    fn set() -> OpenSet {
        let first = vec![look([1.0, 0.0, 0.0]), alike(0.9), alike(0.6), alike(0.3), None];
        let second = vec![look([0.0, 1.0, 0.0]), look([0.0, 1.0, 0.0])];
        let strangers = (0..10).map(|n| vec![alike(0.05 + 0.1 * n as f32)]).collect();
        OpenSet::new(vec![first, second], strangers, 1).unwrap()
    }

    #[test]
    fn known_scores_give_known_rates() {
        let report = set().report(1);
        assert_eq!((report.gallery, report.probes, report.strangers), (2, 5, 10));
        assert_eq!((report.undetected, report.not_enrolled), (1, 0));
        // 1e-1 of ten strangers: one (at 0.95) may pass, so the threshold is just above 0.85. The probes at 0.6 and
        // 0.3 and the one without a face are missed.
        let [point] = &report.points[..] else { panic!("{:?}", report.points) };
        assert!(point.threshold > 0.849 && point.threshold < 0.851);
        assert_eq!((point.fpir, point.fnir, point.looks), (0.1, 0.6, 1));
        assert_eq!((point.misses.count, point.misses.of, point.misidentified), (3, 5, 0));
        assert_eq!((point.false_positives.count, point.false_positives.of), (1, 10));
    }

    #[test]
    fn rates_end_where_strangers_do() {
        let crowd = |count: usize| {
            let people = vec![vec![look([1.0, 0.0, 0.0]), alike(0.99)]];
            let strangers =
                (0..count).map(|n| vec![alike(0.9 * n as f32 / count as f32)]).collect();
            let report = OpenSet::new(people, strangers, 1).unwrap().report(2);
            report.points.iter().map(|point| point.fpir).collect::<Vec<_>>()
        };
        assert_eq!(crowd(5), [0.1]);
        assert_eq!(crowd(99), [0.1]);
        assert_eq!(crowd(100), [0.1, 0.01]);
        assert_eq!(crowd(1000).len(), 3);
    }

    #[test]
    fn few_strangers_are_told_by_the_interval() {
        let people = vec![vec![look([1.0, 0.0, 0.0]), alike(0.5)]];
        let set = OpenSet::new(people, vec![vec![alike(0.4)], vec![alike(0.2)]], 1).unwrap();
        let point = &set.report(1).points[0];
        assert_eq!((point.fnir, point.false_positives.rate), (0.0, 0.0));
        assert_eq!(point.false_positives.interval, [0.0, 1.0]);
    }

    #[test]
    fn somebody_else_is_a_miss_and_counted() {
        // The probe of the first person looks like the second.
        let first = vec![look([1.0, 0.0, 0.0]), look([0.3, 0.9, 0.0])];
        let second = vec![look([0.0, 1.0, 0.0]), look([0.0, 1.0, 0.0])];
        let set = OpenSet::new(vec![first, second], vec![vec![alike(0.1)]], 1).unwrap();
        let point = &set.report(1).points[0];
        assert_eq!((point.misses.count, point.misses.of, point.misidentified), (1, 2, 1));
    }

    #[test]
    fn pooled_looks_are_disjoint_and_in_order() {
        let up = look([1.0, 0.6, 0.0]);
        let down = look([1.0, -0.6, 0.0]);
        let people = vec![vec![look([1.0, 0.0, 0.0]), up.clone(), down.clone(), up]];
        let strangers = vec![vec![alike(0.8), alike(0.7)], vec![alike(0.9)]];
        let set = OpenSet::new(people, strangers, 1).unwrap();
        let report = set.report(3);
        // One group of two looks, whose mean is the template; the third look is left over. Only one stranger has two.
        let two = &report.points[1];
        assert_eq!((two.looks, two.misses.of, two.fnir), (2, 1, 0.0));
        assert_eq!((two.strangers, two.false_positives.of), (1, 1));
        // Three looks: no stranger has so many.
        assert_eq!(report.points.len(), 2);
    }

    #[test]
    fn configured_threshold_is_counted_by_comparison_and_by_search() {
        let strangers = vec![vec![look([0.7, 0.7, 0.1])], vec![alike(0.1)]];
        let people = vec![
            vec![look([1.0, 0.0, 0.0]), alike(0.9)],
            vec![look([0.0, 1.0, 0.0]), look([0.0, 1.0, 0.1])],
        ];
        let set = OpenSet::new(people, strangers, 1).unwrap();
        let point = set.at_configured(1, 1e-2, 0.03, |_, _| 0.6).unwrap();
        // The first stranger matches both people: two false matches of four comparisons, one alarm of two searches.
        let configured = point.configured.unwrap();
        assert_eq!((configured.false_matches.count, configured.false_matches.of), (2, 4));
        assert_eq!((point.false_positives.count, point.false_positives.of), (1, 2));
        assert_eq!(point.fnir, 0.0);
        assert!(set.at_configured(2, 1e-2, 0.03, |_, _| 0.6).is_none());
    }

    #[test]
    fn curve_runs_from_strict_to_lax() {
        let curve = set().curve(1);
        let ends = (curve.first().unwrap(), curve.last().unwrap());
        assert_eq!((ends.0.false_positive, ends.0.false_negative), (0.0, 0.8));
        // All are accepted; the probe without a face stays a miss.
        assert_eq!((ends.1.false_positive, ends.1.false_negative), (1.0, 0.2));
    }

    #[test]
    fn who_cannot_be_enrolled_is_missed() {
        let people = vec![vec![None, alike(1.0)], vec![look([1.0, 0.0, 0.0]), alike(1.0)]];
        let report = OpenSet::new(people, vec![vec![alike(0.1)]], 1).unwrap().report(1);
        assert_eq!((report.gallery, report.not_enrolled), (1, 1));
        assert_eq!((report.points[0].misses.count, report.points[0].misses.of), (1, 2));
        let nobody = |people, strangers| OpenSet::new(people, strangers, 1).is_err();
        assert!(nobody(vec![vec![None, alike(1.0)]], vec![vec![alike(0.1)]]));
        assert!(nobody(vec![vec![alike(1.0)]], vec![vec![alike(0.1)]]));
        assert!(nobody(vec![vec![alike(1.0), alike(1.0)]], vec![vec![None]]));
    }
}
