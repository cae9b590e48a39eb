//! `familiar operator`: keys of those who command devices.

use std::path::PathBuf;

use super::{Failure, Global};
use crate::command::{OperatorKey, OperatorKeyError};

/// Make and show keys of operators, who may command devices
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Make an operator's key and print its public half, for `operators.jwks` of the devices
    ///
    /// The file is PEM of PKCS#8, mode 0600, as `openssl genpkey -algorithm ed25519` makes it. One that is
    /// there already is never overwritten.
    #[command(after_help = "Example:\n  familiar operator new operator.pem")]
    New {
        /// Where the private key goes; must not exist
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Print the public half of an operator's key
    #[command(after_help = "Example:\n  familiar operator show operator.pem")]
    Show {
        /// The private key
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

pub fn run(_global: &Global, args: Args) -> Result<(), Failure> {
    let key = match args.action {
        Action::New { file } => OperatorKey::create(&file)?,
        Action::Show { file } => OperatorKey::open(&file)?,
    };
    println!("{}", key.public().to_jwk());
    Ok(())
}

impl From<OperatorKeyError> for Failure {
    fn from(error: OperatorKeyError) -> Self {
        match error {
            OperatorKeyError::TooOpen { .. } => Self::refused(error),
            other => Self::failed(other),
        }
    }
}
