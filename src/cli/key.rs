//! `familiar key`

use super::{Failure, Global};
use crate::event::rotation::{self, RotateError, Rotation};
use crate::event::{DeviceKey, KeyError};
use crate::system::state::StateDirectory;

/// Show or replace the device's key
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Print the device's public key as a JWK with its thumbprint
    #[command(after_help = "Example:\n  familiar key show")]
    Show,
    /// Replace the device's key by a new one that the old one vouches for
    ///
    /// A running daemon goes on with the new key by itself. Consumers that know the old key follow its
    /// word for the new one on the topic `identity`. The old private key is overwritten and removed; a
    /// disk that writes elsewhere than before (flash, btrfs) may keep its bytes for a while. Prints the
    /// new public key.
    #[command(after_help = "Example:\n  familiar key rotate")]
    Rotate,
}

pub fn run(global: &Global, args: Args) -> Result<(), Failure> {
    let Args { action } = args;
    match action {
        Action::Show => {
            let key = DeviceKey::look(&StateDirectory::there()).map_err(failure)?;
            println!("{}", key.public().to_jwk());
            Ok(())
        }
        Action::Rotate => rotate(global),
    }
}

fn rotate(global: &Global) -> Result<(), Failure> {
    let device = global.located()?.config.device;
    let state = StateDirectory::open()?;
    let Rotation { old, new, last } =
        rotation::rotate(&state, &device).map_err(rotation_failure)?;
    match last {
        Some(last) => eprintln!("{} was replaced after event {}", old.kid(), last.seq),
        None => eprintln!(
            "{} was replaced; where its chain ended is not known, for outbox.db was lost",
            old.kid()
        ),
    }
    eprintln!(
        "the old private key was overwritten, as far as this file system overwrites in place"
    );
    println!("{}", new.to_jwk());
    Ok(())
}

pub(super) fn failure(error: KeyError) -> Failure {
    match error {
        KeyError::Secret(error) => error.into(),
        other => Failure::failed(other),
    }
}

pub(super) fn rotation_failure(error: RotateError) -> Failure {
    match error {
        RotateError::Key(error) => failure(error),
        RotateError::Credential | RotateError::Rotated { .. } => Failure::refused(error),
        other => Failure::failed(other),
    }
}
