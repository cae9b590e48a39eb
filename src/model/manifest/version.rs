//! Versions that can be compared.

use serde::{Deserialize, Serialize};

/// `MAJOR.MINOR.PATCH`, without leading zeros; later fields count less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version([u32; 3]);

impl std::str::FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not MAJOR.MINOR.PATCH");
        let number = |part: &str| match part.parse::<u32>() {
            Ok(number) if number.to_string() == part => Ok(number),
            _ => Err(wrong()),
        };
        match text.split('.').collect::<Vec<_>>().as_slice() {
            [major, minor, patch] => Ok(Self([number(major)?, number(minor)?, number(patch)?])),
            _ => Err(wrong()),
        }
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self([major, minor, patch]) = self;
        write!(f, "{major}.{minor}.{patch}")
    }
}

impl TryFrom<String> for Version {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn tenth_is_after_the_ninth() {
        let version = |text: &str| text.parse::<Version>();
        assert!(version("1.10.0").unwrap() > version("1.9.9").unwrap());
        assert!(version("2.0.0").unwrap() > version("1.99.99").unwrap());
        for text in ["", "1", "1.0", "1.0.0.0", "01.0.0", "1.0.-1", "1.0.0-rc1", "4294967296.0.0"] {
            assert!(version(text).is_err(), "{text}");
        }
    }
}
