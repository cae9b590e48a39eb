//! A real Home Assistant beside a real Mosquitto: `tests/judges/home_assistant/house.py`.
//!
//! It takes seconds to start, so a test that is done leaves it to the next one in the same process: it moves to that test's
//! broker and keeps nothing of the one before. So there are never more of them than tests at a time.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

pub struct House {
    /// `None` once it is left to the next test.
    running: Option<Running>,
    shared: bool,
}

/// The process.
struct Running {
    child: Child,
    asks: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    /// Whether it takes entity ids from us; if not, it makes them from names.
    takes_entity_ids: bool,
}

/// Those that no test has. They end with the tests' process, whose end is the end of their input.
static FREE: Mutex<Vec<Running>> = Mutex::new(Vec::new());

impl House {
    /// The Home Assistant that `FAMILIAR_JUDGES_HOME` names, connected to the broker and with nothing else in it; without it
    /// as with [`super::judge::python`].
    pub fn start(test: &str, port: u16) -> Option<Self> {
        super::judge::named(test, "FAMILIAR_JUDGES_HOME")?;
        let running = FREE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Self { running, shared: true }.moved(test, port)
    }

    /// One of the test's own, for what would stay in it: automations.
    pub fn alone(test: &str, port: u16) -> Option<Self> {
        Self { running: None, shared: false }.moved(test, port)
    }

    fn moved(mut self, test: &str, port: u16) -> Option<Self> {
        if self.running.is_none() {
            self.running = Some(Running::start(test)?);
        }
        self.ask(&json!({"do": "move", "port": port}));
        Some(self)
    }

    fn running(&mut self) -> &mut Running {
        self.running.as_mut().unwrap()
    }

    pub fn ask(&mut self, ask: &Value) -> Value {
        self.running().ask(ask)
    }

    /// Whether it takes entity ids from us; if not, it makes them from names.
    pub fn takes_entity_ids(&mut self) -> bool {
        self.running().takes_entity_ids
    }

    /// Everything it knows.
    pub fn all(&mut self) -> Value {
        self.ask(&json!({"do": "states"}))
    }

    /// The state of an entity; empty if there is none.
    pub fn state(&mut self, entity: &str) -> String {
        self.all()["states"][entity]["state"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until an entity has this state; empty: until it is gone.
    pub fn wait(&mut self, entity: &str, state: &str) {
        self.wait_until(&format!("{entity} {state:?}"), |all| {
            all["states"][entity]["state"].as_str().unwrap_or_default() == state
        });
    }

    pub fn wait_until(&mut self, what: &str, mut come: impl FnMut(&Value) -> bool) {
        let deadline = Instant::now() + Duration::from_mins(1);
        loop {
            let all = self.all();
            if come(&all) {
                return;
            }
            assert!(Instant::now() < deadline, "this never came: {what}\n{all:#}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What Home Assistant has warned of since it was last asked.
    pub fn complaints(&mut self) -> Vec<String> {
        let all = self.ask(&json!({"do": "forgive"}));
        serde_json::from_value(all["complaints"].clone()).unwrap()
    }
}

impl Running {
    fn start(test: &str) -> Option<Self> {
        let python = super::judge::named(test, "FAMILIAR_JUDGES_HOME")?;
        let program =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/judges/home_assistant/house.py");
        // RUST_LOG=debug shows what it does.
        let log =
            if std::env::var_os("RUST_LOG").is_some() { Stdio::inherit() } else { Stdio::null() };
        let mut child = Command::new(python)
            .stderr(log)
            .arg("-B")
            .arg(program)
            .env("PYTHONWARNINGS", "ignore")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let asks = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut running = Self { child, asks, answers, takes_entity_ids: false };
        let ready = running.answer();
        running.takes_entity_ids = ready["entity_ids"] == true;
        eprintln!("{test}: judged by Home Assistant {}", ready["version"]);
        Some(running)
    }

    fn ask(&mut self, ask: &Value) -> Value {
        writeln!(self.asks.as_mut().unwrap(), "{ask}").unwrap();
        let answer = self.answer();
        assert!(answer.get("error").is_none(), "{ask}: {answer}");
        answer
    }

    fn answer(&mut self) -> Value {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("Home Assistant said {line:?}: {e}"))
    }
}

impl Drop for House {
    fn drop(&mut self) {
        // After a failed test nobody knows what is left in it.
        if self.shared && !std::thread::panicking() {
            FREE.lock().unwrap_or_else(PoisonError::into_inner).extend(self.running.take());
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.asks = None; // the end of its input is the end of it
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            if let Ok(Some(_)) = self.child.try_wait() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Publishes with QoS 1 by Mosquitto's own client.
pub fn publish(port: u16, topic: &str, text: &str, retain: bool) {
    let mut command = Command::new("mosquitto_pub");
    command.args(["-V", "5", "-h", "127.0.0.1", "-p", &port.to_string(), "-q", "1", "-t", topic]);
    if retain {
        command.arg("-r");
    }
    command.arg(if text.is_empty() { "-n" } else { "-s" }).stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}
