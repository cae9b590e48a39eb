//! Why a verb did not do its work, by exit code (contract §1).

use std::process::ExitCode;

use crate::config::ConfigError;
use crate::system::secret::SecretError;
use crate::system::state::StateError;

#[derive(Debug)]
pub enum Failure {
    /// 1
    Failed(String),
    /// 2: usage or configuration
    Usage(String),
    /// 3: a signature, digest or policy did not hold
    Refused(String),
    /// 4
    Camera(String),
    /// 5: broker or network
    Network(String),
    /// 6
    NoUsableFace(String),
}

impl Failure {
    pub fn failed(error: impl std::fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }

    pub fn usage(error: impl std::fmt::Display) -> Self {
        Self::Usage(error.to_string())
    }

    pub fn refused(error: impl std::fmt::Display) -> Self {
        Self::Refused(error.to_string())
    }

    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::Refused(_) => 3,
            Self::Camera(_) => 4,
            Self::Network(_) => 5,
            Self::NoUsableFace(_) => 6,
        })
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Failed(message)
            | Self::Usage(message)
            | Self::Refused(message)
            | Self::Camera(message)
            | Self::Network(message)
            | Self::NoUsableFace(message) => f.write_str(message),
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage(error)
    }
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        Self::failed(error)
    }
}

impl From<SecretError> for Failure {
    fn from(error: SecretError) -> Self {
        match error {
            SecretError::TooOpen { .. } => Self::refused(error),
            SecretError::Io { .. } | SecretError::NotAFile { .. } => Self::failed(error),
        }
    }
}
