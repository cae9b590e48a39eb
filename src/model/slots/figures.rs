//! What a shadow run measured: the new model beside the running one, on the same frames.

use serde::{Deserialize, Serialize};

/// Counts of one shadow run, as the slots remember it and `health` tells it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figures {
    /// Watched, in seconds.
    pub seconds: u64,
    /// Looked at by both.
    pub frames: u64,
    /// Faces that the running model found, good enough to be looked at.
    pub faces: u64,
    /// Of these, found by the new model.
    pub found: u64,
    /// Of these, good enough by what the new model says of them.
    pub usable: u64,
    /// Faces, good enough, that the new model alone found.
    pub extra: u64,
    /// Faces that both embedded.
    pub looks: u64,
    /// Absent: the embedding space is another, and nothing can be compared with the people enrolled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub names: Option<Names>,
    /// Absent: not both have liveness networks, or they are not in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub liveness: Option<Agreement>,
    /// Processor time for one face or frame, in milliseconds.
    pub cpu_ms: Costs,
    /// What the second engine added to the resident set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u64>,
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Numbers and structs only: this cannot fail.
        f.write_str(&serde_json::to_string(self).unwrap_or_default())
    }
}

/// Whom single looks were taken for, each by its own model's threshold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Names {
    /// The same person, or nobody, by both.
    pub same: u64,
    /// Somebody by the running model, nobody by the new one.
    pub lost: u64,
    /// Nobody by the running model, somebody by the new one.
    pub gained: u64,
    /// Two different people.
    pub other: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agreement {
    pub scored: u64,
    pub same: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Costs {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detect: Option<Cost>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embed: Option<Cost>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub liveness: Option<Cost>,
}

/// Median and 95th percentile, of the running and of the new model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    pub running: [f64; 2],
    pub new: [f64; 2],
}
