//! A real Mosquitto on a free loopback port, and its own client as an independent subscriber.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

pub struct Mosquitto {
    child: Option<Child>,
    pub port: u16,
    folder: TempDir,
    environment: Vec<(&'static str, std::path::PathBuf)>,
}

/// Where Debian and most others put it.
const PROGRAMS: [&str; 3] =
    ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/opt/homebrew/sbin/mosquitto"];

impl Mosquitto {
    /// A broker whose listener also has these lines of configuration; `None` where Mosquitto is not
    /// installed, and then the test is listed as not run.
    pub fn start(test: &str, options: &str) -> Option<Self> {
        Self::start_with(test, options, Vec::new())
    }

    /// The same with environment variables, which name files.
    pub fn start_with(
        test: &str,
        options: &str,
        environment: Vec<(&'static str, std::path::PathBuf)>,
    ) -> Option<Self> {
        if !PROGRAMS.iter().any(|program| Path::new(program).exists()) {
            super::not_run(test, "Mosquitto is not installed");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let mut broker = Self { child: None, port, folder, environment };
        broker.configure(options);
        broker.start_again();
        Some(broker)
    }

    pub fn configure(&self, options: &str) {
        let anonymous =
            if options.contains("allow_anonymous") { "" } else { "allow_anonymous true" };
        let persistence =
            if options.contains("persistence true") { "" } else { "persistence false" };
        let text = format!(
            "listener {} 127.0.0.1\n{anonymous}\n{options}\n{persistence}\nuser root\n\
             {}\nmax_queued_messages 100000\n",
            self.port,
            if std::env::var_os("RUST_LOG").is_some() { "log_type all" } else { "log_type error" }
        );
        std::fs::write(self.folder.path().join("mosquitto.conf"), text).unwrap();
    }

    pub fn start_again(&mut self) {
        let program = PROGRAMS.iter().find(|program| Path::new(program).exists()).unwrap();
        let child = Command::new(program)
            .arg("-c")
            .arg(self.folder.path().join("mosquitto.conf"))
            .envs(self.environment.iter().map(|(name, path)| (name, path)))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
        wait("Mosquitto listens", || TcpStream::connect(("127.0.0.1", self.port)).is_ok());
    }

    /// As a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// As its service does.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            signal(&child, "TERM");
            child.wait().unwrap();
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// Makes it read its configuration and access rules again.
    pub fn reload(&self) {
        self.signal("HUP");
    }

    pub fn signal(&self, name: &str) {
        signal(self.child.as_ref().unwrap(), name);
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Not by the program `kill`, which a small Debian does not have.
pub fn signal(child: &Child, name: &str) {
    let signal = match name {
        "CONT" => Signal::CONT,
        "HUP" => Signal::HUP,
        "KILL" => Signal::KILL,
        "STOP" => Signal::STOP,
        "TERM" => Signal::TERM,
        "USR1" => Signal::USR1,
        other => panic!("no signal {other}"),
    };
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Options by which only this user gets in; `None` where passwords cannot be made, and then the test is listed as not run.
/// The file lies in the folder.
pub fn password(folder: &Path, user: &str, password: &str) -> Option<String> {
    let file = folder.join("passwords");
    let mut made = Command::new("mosquitto_passwd");
    let made = made.args(["-b", "-c"]).arg(&file).args([user, password]).status();
    if !made.is_ok_and(|status| status.success()) {
        super::not_run("password", "mosquitto_passwd is not installed");
        return None;
    }
    Some(format!("allow_anonymous false\npassword_file {}", file.display()))
}

/// `mosquitto_sub`, every line of it: `TOPIC MESSAGE`.
pub struct Subscriber {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Subscriber {
    /// Subscribes and returns once the broker has granted it.
    pub fn start(port: u16, filter: &str, extra: &[&str]) -> Self {
        // Line by line, or its own lines would wait for a full buffer.
        let mut child = Command::new("stdbuf")
            .args([
                "-oL",
                "mosquitto_sub",
                "-V",
                "5",
                "-h",
                "127.0.0.1",
                "-p",
                &port.to_string(),
                "-q",
                "1",
                "-v",
                "-d",
            ])
            .args(["-t", filter])
            .args(extra)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let into = lines.clone();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                into.lock().unwrap().push(line);
            }
        });
        let subscriber = Self { child, lines };
        wait("the subscription is granted", || {
            subscriber.lines.lock().unwrap().iter().any(|line| line.starts_with("Subscribed"))
        });
        subscriber
    }

    /// Messages so far as topic and text (`-d` mixes its own lines in; none of them begins like a
    /// topic of ours).
    pub fn messages(&self) -> Vec<(String, String)> {
        self.all().into_iter().filter(|(topic, _)| topic.starts_with("familiar/")).collect()
    }

    /// The same, and what is not below `familiar/`.
    pub fn all(&self) -> Vec<(String, String)> {
        self.beginning(&["familiar/", "homeassistant/"])
    }

    /// The same for topics below a prefix.
    pub fn below(&self, prefix: &str) -> Vec<(String, String)> {
        self.beginning(&[prefix])
    }

    fn beginning(&self, prefixes: &[&str]) -> Vec<(String, String)> {
        let lines = self.lines.lock().unwrap();
        lines
            .iter()
            .filter(|line| prefixes.iter().any(|prefix| line.starts_with(prefix)))
            .map(|line| line.split_once(' ').unwrap_or((line, "")))
            // So it prints an empty message.
            .map(|(topic, text)| (topic.to_owned(), text.replace("(null)", "")))
            .collect()
    }

    /// Texts on the topic that ends so.
    pub fn on(&self, end: &str) -> Vec<String> {
        self.messages().into_iter().filter(|(t, _)| t.ends_with(end)).map(|(_, m)| m).collect()
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits for what must come; a minute is no measure of speed but the end of patience.
pub fn wait(what: &str, mut come: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !come() {
        assert!(Instant::now() < deadline, "this never came: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
