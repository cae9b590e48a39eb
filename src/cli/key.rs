//! `familiar key`

use super::{Failure, Global};
use crate::event::{DeviceKey, KeyError};
use crate::system::state::StateDirectory;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Print the device's public key as a JWK with its thumbprint
    Show,
    /// Replace the device's key by a new one that the old one vouches for
    Rotate,
}

pub fn run(_global: &Global, args: Args) -> Result<(), Failure> {
    let Args { action } = args;
    match action {
        Action::Show => {
            let key = DeviceKey::open(&StateDirectory::open()?).map_err(failure)?;
            println!("{}", key.public().to_jwk());
            Ok(())
        }
        Action::Rotate => Err(Failure::failed("`key rotate` is not in this version")),
    }
}

pub(super) fn failure(error: KeyError) -> Failure {
    match error {
        KeyError::Secret(error) => error.into(),
        other => Failure::failed(other),
    }
}
