//! Enrolled people, as the other parts know them.

use serde::{Deserialize, Serialize};

use super::Embedding;

/// A person's id: `[a-z0-9_-]{1,64}`; it is a level of MQTT topics.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PersonId(String);

impl PersonId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for PersonId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for PersonId {
    type Error = String;

    fn try_from(id: String) -> Result<Self, String> {
        let allowed =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
        if (1..=64).contains(&id.len()) && id.chars().all(allowed) {
            Ok(Self(id))
        } else {
            Err(format!("person id {id:?} is not 1 to 64 of a-z, 0-9, _ and -"))
        }
    }
}

impl std::str::FromStr for PersonId {
    type Err = String;

    fn from_str(id: &str) -> Result<Self, String> {
        Self::try_from(id.to_owned())
    }
}

impl From<PersonId> for String {
    fn from(id: PersonId) -> Self {
        id.0
    }
}

/// Who a decision is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersonRef {
    pub id: PersonId,
    pub name: String,
}

/// An enrolled person as the matcher sees one.
#[derive(Debug, Clone)]
pub struct Candidate {
    pub person: PersonRef,
    /// Normalised mean of the enrolled looks.
    pub template: Embedding,
    /// How many looks it pools, at least 1.
    pub looks: usize,
    /// Cosine that the threshold is higher by for it, at least 0; 0 but for looks that were mapped from another
    /// model's space.
    pub reserve: f32,
    /// Enrolled people who look like this one.
    pub lookalikes: Vec<PersonId>,
}
