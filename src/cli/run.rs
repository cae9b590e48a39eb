//! `familiar run`: the daemon.

use super::{Failure, Global};
use crate::command::CommandError;
use crate::daemon::{self, DaemonError};

/// Run the daemon
///
/// Watches the camera until it is told to stop. A recording (`replay:`) without `loop` ends by itself.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  familiar run\n  familiar run --config porch.toml --stdout")]
pub struct Args {
    /// Print every signed event on stdout too, one JSON per line
    #[arg(long)]
    stdout: bool,
}

pub fn run(global: &Global, args: Args) -> Result<(), Failure> {
    Ok(daemon::run(global.located()?, args.stdout)?)
}

impl From<DaemonError> for Failure {
    fn from(error: DaemonError) -> Self {
        match error {
            DaemonError::Anchors(_)
            | DaemonError::Bundle(_)
            | DaemonError::Swapped(_)
            | DaemonError::Engine { .. }
            | DaemonError::Liveness(_)
            | DaemonError::Command(CommandError::Operators(_))
            | DaemonError::NoThreshold => Self::refused(error),
            DaemonError::Configuration(error) => error.into(),
            DaemonError::Renamed { .. } | DaemonError::Confined(_) | DaemonError::Threshold(_) => {
                Self::usage(error)
            }
            DaemonError::Gallery(error) => error.into(),
            DaemonError::Key(error) => super::key::rotation_failure(error),
            DaemonError::Broker(error) => error.into(),
            DaemonError::Camera(error) => Self::Camera(error.to_string()),
            DaemonError::State(_)
            | DaemonError::Command(_)
            | DaemonError::Ledger(_)
            | DaemonError::Slots(_)
            | DaemonError::Publisher(_)
            | DaemonError::Panics(_)
            | DaemonError::Signals(_)
            | DaemonError::Lock(_)
            | DaemonError::NotKept { .. }
            | DaemonError::Stdout(_) => Self::failed(error),
        }
    }
}
