//! `familiar check`: what would keep the daemon from its work, one line each.

use serde::Serialize;

use super::{Failure, Global, engine};
use crate::camera;
use crate::config::{Config, LivenessMode, Located};
use crate::model::VerifiedBundle;
use crate::mqtt::{Broker, Connection, Session};
use crate::system::clock::{self, ClockState};
use crate::system::state::StateDirectory;

/// Reads the configuration, verifies the models, opens the camera, logs in at the broker and looks at the clock.
/// Ends with the exit code of the first thing that fails. With --json: [{"check","state","message"}], state being
/// "ok", "warn" or "fail".
#[derive(Debug, clap::Args)]
pub struct Args {}

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
        self.lines.push(Line { check, state, message: message.into() });
    }

    /// `ok` with what was found, or `fail`.
    fn take<T>(
        &mut self,
        check: &'static str,
        found: Result<T, Failure>,
        describe: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        match found {
            Ok(found) => {
                self.say(check, State::Ok, describe(&found));
                Some(found)
            }
            Err(failure) => {
                self.say(check, State::Fail, failure.to_string());
                self.failure.get_or_insert(failure);
                None
            }
        }
    }
}

pub fn run(global: &Global, _args: Args) -> Result<(), Failure> {
    let located = global.located()?;
    let mut report = Report::default();
    report.say("configuration", State::Ok, located.path.display().to_string());
    let state = report.take("state", StateDirectory::open().map_err(Failure::from), |state| {
        state.path().display().to_string()
    });
    check_models(global, &located, &mut report);
    let camera =
        camera::open(&located.config.camera).map_err(|error| Failure::Camera(error.to_string()));
    report.take("camera", camera, camera::Feed::format);
    if let Some(state) = &state {
        check_broker(&located.config, state, &mut report);
    }
    match clock::state() {
        ClockState::Synchronized => report.say("clock", State::Ok, "synchronized"),
        ClockState::Unsynchronized => report.say(
            "clock",
            State::Warn,
            "not synchronized; events say so (install chrony or systemd-timesyncd)",
        ),
    }
    print(global, report)
}

fn check_models(global: &Global, located: &Located, report: &mut Report) {
    let verified =
        engine::configured(global).and_then(|(bundle, trust)| engine::verify(&bundle, &trust));
    let bundle = report.take("models", verified, |bundle: &VerifiedBundle| {
        let model = bundle.identity();
        format!("{} {} ({}) verified", model.name, model.version, model.digest)
    });
    if bundle.is_some() && located.config.liveness.mode != LivenessMode::Off {
        report.say("liveness", State::Warn, "this version does not decide liveness");
    }
}

fn check_broker(config: &Config, state: &StateDirectory, report: &mut Report) {
    let Some(mqtt) = &config.mqtt else {
        report.say("broker", State::Warn, "no [mqtt]: events stay in the local outbox");
        return;
    };
    let login = Broker::new(mqtt, state).map_err(Failure::from).and_then(|broker| {
        let session = Session {
            client_id: format!("familiar-{}-check", config.device),
            will: None,
            expiry: 0,
            clean: true,
        };
        let network =
            |error: &dyn std::fmt::Display| Failure::Network(format!("{broker}: {error}"));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| network(&error))?;
        runtime
            .block_on(async { Connection::open(&broker, &session).await?.close().await })
            .map_err(|error| network(&error))?;
        Ok(broker)
    });
    report.take("broker", login, |broker| format!("logged in at {broker}"));
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
