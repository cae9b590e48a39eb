//! What the broker did not take, kept for `familiar check`: it publishes nothing, and so cannot find out itself.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::system::bounded;
use crate::system::state::StateDirectory;

/// In the state directory.
const FILE: &str = "broker-refusals.json";
const LIMIT: u64 = 64 * 1024;

/// Something that the broker does not take, or does not let us hear.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// "publishing on TOPIC", "subscribing to FILTER"
    pub what: String,
    pub why: String,
}

/// What the daemon last found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// As the broker's address is shown.
    pub broker: String,
    pub time: Timestamp,
    pub left_out: Vec<LeftOut>,
}

impl Remembered {
    /// `None` if nothing was found yet.
    pub fn read(state: &StateDirectory) -> Option<Self> {
        let text = bounded::read_text(&state.file(FILE), LIMIT).ok()?;
        serde_json::from_str(&text).ok()
    }

    pub(super) fn write(&self, state: &StateDirectory) {
        let written = serde_json::to_vec(self)
            .map_err(std::io::Error::from)
            .and_then(|bytes| state.replace(FILE, &bytes));
        if let Err(error) = written {
            log::debug!("{FILE} cannot be written: {error}");
        }
    }
}
