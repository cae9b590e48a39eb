//! `familiar people`

use super::{Failure, Global};

#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_global: &Global, _args: Args) -> Result<(), Failure> {
    Err(Failure::failed("unfinished"))
}
