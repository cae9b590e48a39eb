//! The command line: one file per verb; each gives data on stdout, messages on stderr and an exit code.

mod acquaintance;
mod bench;
mod check;
mod command;
mod engine;
mod enroll;
mod evaluate;
mod failure;
mod forget;
#[cfg(test)]
mod help_tests;
mod identify;
mod key;
mod listen;
mod model;
mod operator;
mod people;
mod run;
mod setup;
mod shell;
mod verdict;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::{Parser, Subcommand};

use crate::config::{self, Located};
use crate::system::state::StateDirectory;
use crate::system::{self, owner, plain};
pub use failure::Failure;

/// Knows the faces of a household or a site and tells of them in signed facts.
#[derive(Debug, Parser)]
#[command(name = "familiar", version, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// Options that every verb takes.
#[derive(Debug, clap::Args)]
pub struct Global {
    /// Configuration file [default: $CONFIGURATION_DIRECTORY/familiar.toml, else /etc/familiar/familiar.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print data as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Say more (twice: much more)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

impl Global {
    /// The configuration; an error if there is none.
    pub fn located(&self) -> Result<Located, Failure> {
        Ok(owner::as_invoker(|| config::find(self.config.as_deref()))?)
    }
}

/// Runs a conversation with a broker to its end, on this thread.
fn block_on<T>(conversation: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::failed)?;
    let outcome = runtime.block_on(conversation);
    // A look-up that hangs is not waited for, as dropping the runtime would.
    runtime.shutdown_background();
    Ok(outcome)
}

#[derive(Debug, Subcommand)]
enum Verb {
    Run(run::Args),
    Setup(setup::Args),
    Check(check::Args),
    Enroll(enroll::Args),
    People(people::Args),
    Forget(forget::Args),
    Identify(identify::Args),
    Listen(listen::Args),
    Verify(verify::Args),
    Evaluate(evaluate::Args),
    Model(model::Args),
    Key(key::Args),
    Command(command::Args),
    Operator(operator::Args),
    Bench(bench::Args),
    Completions(shell::CompletionsArgs),
    Man(shell::ManArgs),
}

impl Verb {
    /// Root becomes the owner of the state directory, before it is touched.
    fn act_as_owner(&self) -> Result<(), Failure> {
        match self {
            // They need nothing of it, or only look at the models that are installed there.
            Self::Evaluate(_)
            | Self::Operator(_)
            | Self::Bench(_)
            | Self::Completions(_)
            | Self::Man(_) => {
                return Ok(());
            }
            // Root's rights are what they are for: one writes the system's configuration, the other reads a unit's credentials
            // and then gives them up by itself.
            Self::Setup(_) | Self::Check(_) => return Ok(()),
            Self::Model(args) if !args.touches_state() => return Ok(()),
            _ => {}
        }
        owner::become_owner(&StateDirectory::locate()).map_err(Failure::failed)?;
        // The others read files that root names, and give root's rights up when they have done so.
        if matches!(self, Self::Run(_) | Self::Forget(_) | Self::Listen(_) | Self::Key(_)) {
            owner::for_good();
        }
        Ok(())
    }
}

/// Parses the arguments, runs the verb and gives its exit code.
pub fn main() -> ExitCode {
    let Cli { global, verb } = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(error),
    };
    system::log::start(global.verbose, !matches!(verb, Verb::Run(_) | Verb::Listen(_)));
    system::confine::process();
    // Not those that speak to a broker, write state, or must tell how it ended.
    if matches!(
        verb,
        Verb::People(_) | Verb::Identify(_) | Verb::Verify(_) | Verb::Completions(_) | Verb::Man(_)
    ) {
        system::pipe::end_quietly();
    }
    let outcome = verb.act_as_owner().and_then(|()| match verb {
        Verb::Run(args) => run::run(&global, args),
        Verb::Setup(args) => setup::run(&global, args),
        Verb::Check(args) => check::run(&global, args),
        Verb::Enroll(args) => enroll::run(&global, args),
        Verb::People(args) => people::run(&global, args),
        Verb::Forget(args) => forget::run(&global, args),
        Verb::Identify(args) => identify::run(&global, args),
        Verb::Listen(args) => listen::run(&global, args),
        Verb::Verify(args) => verify::run(&global, args),
        Verb::Evaluate(args) => evaluate::run(&global, args),
        Verb::Model(args) => model::run(&global, args),
        Verb::Key(args) => key::run(&global, args),
        Verb::Command(args) => command::run(&global, args),
        Verb::Operator(args) => operator::run(&global, args),
        Verb::Bench(args) => bench::run(&global, args),
        Verb::Completions(args) => shell::completions(args),
        Verb::Man(args) => shell::man(args),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // One line, whatever a file name or a library put into it.
            eprintln!("familiar: {}", plain::message(&failure.to_string()));
            failure.exit_code()
        }
    }
}

/// What clap has to say: help, or what is wrong with the arguments (2), which it repeats as they were given.
fn usage(mut error: clap::Error) -> ExitCode {
    if !error.use_stderr() {
        let printed = error.print();
        return if printed.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let mut escaped = false;
    let given: Vec<(ContextKind, String)> = error
        .context()
        .filter_map(|(kind, value)| {
            let ContextValue::String(text) = value else { return None };
            let plain = plain::message(text);
            escaped |= plain != *text;
            Some((kind, plain))
        })
        .collect();
    for (kind, text) in given {
        error.insert(kind, ContextValue::String(text));
    }
    if escaped {
        error.remove(ContextKind::Suggested); // repeats it within lines of its own
    }
    eprint!("{}", error.render());
    ExitCode::from(2)
}
