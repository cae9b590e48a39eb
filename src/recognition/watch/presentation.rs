//! Presentation attacks: at most one face a frame is asked whether it is live, and what follows.

use std::time::Duration;

use super::{Eyes, Wanting, Watch};
use crate::camera::Frame;
use crate::face::DetectedFace;
use crate::face::track::TrackId;
use crate::recognition::matcher::Known;
use crate::recognition::{Decision, Evidence, LivenessScore, LivenessVerdict, Verdict};

/// A face held to be an attack is looked at anew, as a new track, after so long in view. Leaving the view
/// does the same at once, so this gives an attacker no more attempts, and a face that was judged
/// wrongly another one. The attack is not told again.
const ANOTHER_CHANCE: Duration = Duration::from_secs(30);

impl Watch {
    /// Scores one face that was `seen` in this frame: first those that wait for it to be named, then
    /// those nearest a verdict, then the largest; each so many times whoever has waited longest.
    pub(super) fn examine<E: Eyes>(
        &mut self,
        frame: &Frame,
        eyes: &E,
        seen: &[TrackId],
        candidates: Known<'_>,
        decisions: &mut Vec<Decision>,
    ) -> Result<(), E::Error> {
        let Some(policy) = self.settings.liveness else { return Ok(()) };
        self.give_another_chance(seen, frame.media);
        let Some((id, face)) = self.next_to_examine(frame, seen) else { return Ok(()) };
        self.counters.liveness += 1;
        self.turns.1.given();
        let Some(score) = eyes.liveness(&frame.image, &face)? else { return Ok(()) };
        let Some(subject) = self.subjects.get_mut(&id) else { return Ok(()) };
        let Some(decided) = subject.score(score, policy.threshold, frame.media) else {
            return Ok(());
        };
        match decided.verdict {
            _ if !policy.enforce => {}
            LivenessVerdict::Attack => self.bar(id, decided, frame, candidates, decisions),
            LivenessVerdict::Live if subject.is_waiting() => {
                self.conclude(id, frame, candidates, decisions);
            }
            LivenessVerdict::Live => {}
        }
        Ok(())
    }

    fn next_to_examine(&self, frame: &Frame, seen: &[TrackId]) -> Option<(TrackId, DetectedFace)> {
        let mut wanting: Vec<_> = seen
            .iter()
            .filter_map(|id| {
                let (track, subject) = (self.tracker.get(*id)?, self.subjects.get(id)?);
                let need = subject.wants_liveness(track.hits, frame.media)?;
                Some(Wanting { id: *id, need, since: subject.examined() })
            })
            .collect();
        self.turns.1.order(&mut wanting);
        let good = |face: &DetectedFace| self.settings.quality.assess(&frame.image, face).is_ok();
        let face = |id| self.tracker.get(id).map(|track| (id, track.face));
        wanting.iter().filter_map(|wanting| face(wanting.id)).find(|(_, face)| good(face))
    }

    /// The track is an attack: it shows nobody, and never has since that was last made sure.
    fn bar(
        &mut self,
        id: TrackId,
        liveness: LivenessScore,
        frame: &Frame,
        candidates: Known<'_>,
        decisions: &mut Vec<Decision>,
    ) {
        let Some(subject) = self.subjects.get_mut(&id) else { return };
        let (similarity, threshold, frames) =
            subject.nearest(candidates, &self.settings.thresholds);
        self.presences.disprove(id);
        if subject.bar(frame.media) {
            self.counters.spoofs += 1;
            let evidence = Evidence {
                similarity,
                threshold,
                false_match_rate: self.settings.false_match_rate,
                frames,
                liveness: Some(liveness),
            };
            let verdict = Verdict::Spoof { evidence };
            decisions.push(Decision { time: frame.time, track: id.get(), verdict });
        }
    }

    fn give_another_chance(&mut self, seen: &[TrackId], media: Duration) {
        for id in seen {
            let barred = self.subjects.get(id).and_then(super::Subject::barred_since);
            if barred.is_none_or(|since| media.saturating_sub(since) < ANOTHER_CHANCE) {
                continue;
            }
            self.subjects.remove(id);
            if let Some(renewed) = self.tracker.renew(*id) {
                let subject = super::Subject::after_an_attack(self.settings.frames, media);
                self.subjects.insert(renewed, subject);
            }
        }
    }
}
