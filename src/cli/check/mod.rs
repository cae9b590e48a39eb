//! `familiar check`: what would keep the daemon from its work, one line each.

mod address_rules;
mod broker;
mod camera;
mod former;
mod machine;
mod models;
mod preview;
mod state;
mod within;

use serde::Serialize;

use super::{Failure, Global};
use crate::config::{Located, Mqtt};
use crate::mqtt::PASSWORD;
use crate::system::state::StateDirectory;
use crate::system::{owner, plain, secret};

/// Check the configuration, the models, the camera, the broker and the machine
///
/// Reads the configuration, verifies the models, reads frames from the camera for two seconds, logs in at the
/// broker, and looks at keys, people, outbox, clock, permissions and the sandbox. It publishes nothing and changes
/// nothing. Ends with the exit code of the first thing that fails.
///
/// Where the unit that runs the daemon has credentials (the broker's password, keys), root's `check` runs as that unit:
/// `sudo familiar check`. Other users cannot read them; what needs them is then left out, and said so. What --json
/// prints: docs/operations.md.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  familiar check\n  familiar check --self-test --json")]
pub struct Args {
    /// Also load the models and run the bundle's self-test, as every start of the daemon does
    #[arg(long)]
    self_test: bool,
    /// Show what the camera sees as characters on this terminal, and check nothing else: after `rotate` and `flip`,
    /// with `masks`. Nothing is written
    #[arg(long, conflicts_with = "self_test")]
    preview: bool,
    #[command(flatten)]
    within: within::Args,
}

#[derive(Debug, Serialize)]
struct Line {
    check: &'static str,
    state: State,
    message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Warn,
    Fail,
}

/// The lines so far, and the first failure.
#[derive(Default)]
struct Report {
    lines: Vec<Line>,
    failure: Option<Failure>,
}

impl Report {
    fn say(&mut self, check: &'static str, state: State, message: impl Into<String>) {
        // One line, whatever a file name or a broker put into it.
        let message = plain::message(&message.into());
        self.lines.push(Line { check, state, message });
    }

    fn ok(&mut self, check: &'static str, message: impl Into<String>) {
        self.say(check, State::Ok, message);
    }

    fn warn(&mut self, check: &'static str, message: impl Into<String>) {
        self.say(check, State::Warn, message);
    }

    fn fail(&mut self, check: &'static str, failure: Failure) {
        self.say(check, State::Fail, failure.to_string());
        self.failure.get_or_insert(failure);
    }

    /// What was found, or `None` once it is told as a failure.
    fn take<T>(&mut self, check: &'static str, found: Result<T, Failure>) -> Option<T> {
        found.map_err(|failure| self.fail(check, failure)).ok()
    }
}

pub fn run(global: &Global, args: Args) -> Result<(), Failure> {
    let mut report = Report::default();
    let hidden = if args.preview {
        within::Hidden::default()
    } else {
        within::look(global, &args.within, &mut report)?
    };
    // Only root reads the credentials of a unit. From here on it looks as the daemon's user.
    owner::become_owner(&StateDirectory::locate()).map_err(Failure::failed)?;
    owner::for_good();
    if args.preview {
        return preview::run(global);
    }
    let Some(located) = report.take("configuration", global.located()) else {
        return print(global, report);
    };
    report.ok("configuration", located.path.display().to_string());
    machine::permissions(&located, &mut report);
    let space = models::check(global, &located, args.self_test, &mut report);
    camera::check(&located.config, &mut report);
    let state = StateDirectory::there();
    machine::landlock(&located, &state, &mut report);
    state::check(&located, &state, space.as_ref(), &mut report);
    match &located.config.mqtt {
        Some(mqtt) if lacks_password(mqtt, &hidden, &state) => report.warn(
            "broker",
            "not asked: this user cannot read its password, a credential of the unit; `sudo familiar check` asks",
        ),
        _ => broker::check(&located.config, &state, &mut report),
    }
    former::check(&located.config, &state, &mut report);
    operators(&located, &mut report);
    machine::clock(&mut report);
    machine::sandbox(&mut report);
    print(global, report)
}

/// Whether the daemon would log in with a password that this process cannot read.
fn lacks_password(mqtt: &Mqtt, hidden: &within::Hidden, state: &StateDirectory) -> bool {
    mqtt.username.is_some()
        && hidden.misses(PASSWORD)
        && secret::read(state, PASSWORD).is_ok_and(|found| found.is_none())
}

fn operators(located: &Located, report: &mut Report) {
    let unsigned = located.config.commands.unsigned.len();
    match crate::command::load_operators(located.directory()) {
        Err(error) => report.fail("operators", Failure::refused(error)),
        Ok(keys) => {
            let signed = match keys.iter().count() {
                0 => "nobody may command the device by signature (no key in operators.jwks)"
                    .to_owned(),
                1 => "one key may command the device".to_owned(),
                many => format!("{many} keys may command the device"),
            };
            if unsigned == 0 {
                report.ok("operators", signed);
            } else {
                report.warn(
                    "operators",
                    format!(
                        "{signed}; {unsigned} unsigned commands are as safe as the broker's access rules \
                         for `set/#`"
                    ),
                );
            }
        }
    }
}

fn print(global: &Global, report: Report) -> Result<(), Failure> {
    if global.json {
        println!("{}", serde_json::to_string(&report.lines).map_err(Failure::failed)?);
    } else {
        for Line { check, state, message } in &report.lines {
            let state = match state {
                State::Ok => "ok",
                State::Warn => "warn",
                State::Fail => "fail",
            };
            println!("{state:<5} {check:<14} {message}");
        }
    }
    report.failure.map_or(Ok(()), Err)
}
