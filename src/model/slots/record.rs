//! What is known of the slots: one small file, replaced whole, which is the pointer to the slot that boots.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::figures::Figures;
use crate::model::ModelIdentity;
use crate::model::manifest::Version;

/// Most refused bundles that are remembered; the oldest go.
const REFUSED_LIMIT: usize = 64;
/// Longest reason that is kept, in characters.
const REASON_LIMIT: usize = 200;

/// The state of the slots. Whatever it points to was complete on the disk, and verified, before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    pub v: u8,
    /// Grows with every change.
    pub serial: u64,
    /// What boots; `None` is the factory's bundle.
    pub current: Option<Slot>,
    /// What is gone back to; `None` is the factory's bundle.
    pub previous: Option<Slot>,
    pub refused: Vec<Refused>,
    /// By model name, the newest version that was ever confirmed. Never lowered.
    pub floors: BTreeMap<String, Version>,
    /// What came of the last change.
    pub last: Option<Outcome>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    A,
    B,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slot {
    pub place: Place,
    pub model: Identity,
    /// Starts that were not yet followed by a confirmation or an orderly stop; `None`: confirmed.
    pub trial: Option<u32>,
    pub installed: Timestamp,
}

/// [`ModelIdentity`], as it is written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    pub name: String,
    pub version: String,
    pub digest: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    pub model: Identity,
    pub why: Why,
    pub reason: String,
    pub time: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// It does not work on this device.
    Unfit,
    /// It did not do in its shadow run; an operator may install it.
    Shadow,
    /// An operator went back from it; an operator may install it again.
    RolledBack,
}

/// The last change, as `health` tells it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    pub time: Timestamp,
    pub outcome: Kind,
    /// Absent where it failed before it was known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<Identity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Of the model's shadow run, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Figures>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Installed, and not yet confirmed.
    Trial,
    Confirmed,
    /// Refused on trial; the one before runs.
    FellBack,
    /// Refused before it was ever booted.
    Refused,
    RolledBack,
    /// There was no bundle to be had: network, metadata, archive.
    Failed,
}

impl Default for Record {
    fn default() -> Self {
        Self {
            v: 1,
            serial: 0,
            current: None,
            previous: None,
            refused: Vec::new(),
            floors: BTreeMap::new(),
            last: None,
        }
    }
}

impl Place {
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// Name of the folder.
    pub fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }
}

impl From<&ModelIdentity> for Identity {
    fn from(model: &ModelIdentity) -> Self {
        let ModelIdentity { name, version, digest } = model.clone();
        Self { name, version, digest }
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.name, self.version)
    }
}

impl Record {
    pub fn refusal(&self, digest: &str) -> Option<&Refused> {
        self.refused.iter().find(|refused| refused.model.digest == digest)
    }

    /// Never to be tried again, or not without an operator.
    pub fn refuse(&mut self, model: Identity, why: Why, reason: &str, time: Timestamp) {
        self.refused.retain(|refused| refused.model.digest != model.digest);
        if self.refused.len() == REFUSED_LIMIT {
            self.refused.remove(0);
        }
        self.refused.push(Refused { model, why, reason: short(reason), time });
    }

    /// The trial is over, and lost.
    pub fn fall_back(&mut self, reason: &str, time: Timestamp) {
        let Some(slot) = self.current.take() else { return };
        self.current = self.previous.take();
        self.refuse(slot.model.clone(), Why::Unfit, reason, time);
        self.tell(Kind::FellBack, slot.model, Some(reason), time);
    }

    /// The trial is over, and won.
    pub fn confirm(&mut self, time: Timestamp) {
        let Some(slot) = &mut self.current else { return };
        slot.trial = None;
        let model = slot.model.clone();
        if let Ok(version) = model.version.parse::<Version>() {
            let floor = self.floors.entry(model.name.clone()).or_insert(version);
            *floor = (*floor).max(version);
        }
        self.tell(Kind::Confirmed, model, None, time);
    }

    pub fn tell(&mut self, outcome: Kind, model: Identity, reason: Option<&str>, time: Timestamp) {
        // What the shadow run found stays told while it is of this model.
        let before = self.last.take().filter(|last| last.model.as_ref() == Some(&model));
        let shadow = before.and_then(|last| last.shadow);
        let (model, reason) = (Some(model), reason.map(short));
        self.last = Some(Outcome { time, outcome, model, reason, shadow });
    }
}

fn short(reason: &str) -> String {
    reason.chars().filter(|c| !c.is_control()).take(REASON_LIMIT).collect()
}
