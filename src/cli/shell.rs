//! `familiar completions SHELL` and `familiar man`.

use std::io::Write;
use std::path::PathBuf;

use clap::CommandFactory;

use super::{Cli, Failure};

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  familiar completions bash > /etc/bash_completion.d/familiar")]
pub struct CompletionsArgs {
    /// The shell that shall complete
    shell: clap_complete::Shell,
}

/// Print the manual page
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  familiar man --directory /usr/local/share/man/man1\n  familiar man | man -l -"
)]
pub struct ManArgs {
    /// Write it into this folder, and a page for each verb beside it (familiar-run.1, …)
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

pub fn completions(args: CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "familiar", &mut script);
    std::io::stdout().write_all(&script).map_err(Failure::failed)
}

pub fn man(args: ManArgs) -> Result<(), Failure> {
    if let Some(directory) = args.directory {
        let failed = |error| Failure::failed(format!("{}: {error}", directory.display()));
        return clap_mangen::generate_to(Cli::command(), &directory).map_err(failed);
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut page).map_err(Failure::failed)?;
    std::io::stdout().write_all(&page).map_err(Failure::failed)
}
