//! What recognition decides; [`crate::event`] makes signed events of it.

use serde::Serialize;

use super::PersonRef;

/// A decision, and when the frame that decided it was taken.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    pub time: jiff::Timestamp,
    /// Number of the appearance within this start of the daemon.
    pub track: u64,
    pub verdict: Verdict,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Once per appearance.
    Recognized { person: PersonRef, evidence: Evidence },
    /// The person has not been seen for the configured time.
    Departed { person: PersonRef },
    /// A face that stayed, was looked at well and is nobody enrolled; `similarity` to the nearest.
    Unknown { evidence: Evidence },
    /// Held to be an attack on the camera, not a live face.
    Spoof { evidence: Evidence },
}

/// What a decision rests on.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    /// Cosine similarity of unit embeddings (pooled look against template).
    pub similarity: f32,
    pub threshold: f32,
    /// The configured rate that the threshold was picked for.
    pub false_match_rate: f64,
    /// Looks that agreed.
    pub frames: usize,
    pub liveness: Option<LivenessScore>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LivenessScore {
    /// 0 (attack) to 1 (live).
    pub score: f32,
    pub verdict: LivenessVerdict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LivenessVerdict {
    Live,
    Attack,
}
