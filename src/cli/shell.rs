//! `familiar completions SHELL` and `familiar man`.

use std::io::Write;

use clap::CommandFactory;

use super::{Cli, Failure};

#[derive(Debug, clap::Args)]
pub struct CompletionsArgs {
    shell: clap_complete::Shell,
}

#[derive(Debug, clap::Args)]
pub struct ManArgs {}

pub fn completions(args: CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "familiar", &mut script);
    std::io::stdout().write_all(&script).map_err(Failure::failed)
}

pub fn man(_args: ManArgs) -> Result<(), Failure> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut page).map_err(Failure::failed)?;
    std::io::stdout().write_all(&page).map_err(Failure::failed)
}
