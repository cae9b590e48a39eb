//! What arrived: `mosquitto_sub` with a session that the broker keeps, and every line of it.

use std::collections::{BTreeSet, HashSet};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// The messages on the event topic, as they came.
#[derive(Default)]
pub struct Heard {
    messages: Mutex<Messages>,
    more: Condvar,
}

#[derive(Default)]
struct Messages {
    all: Vec<String>,
    known: HashSet<String>,
    /// Numbers that came after one that did not yet, and the last before it.
    ahead: BTreeSet<u64>,
    whole: u64,
}

impl Heard {
    /// Waits for a message; false if it does not come.
    pub fn wait_for(&self, text: &str, within: Duration) -> bool {
        self.wait(within, |messages| messages.known.contains(text))
    }

    /// Waits until each number up to this one has come.
    pub fn wait_for_all(&self, last: u64, within: Duration) -> bool {
        self.wait(within, |messages| messages.whole >= last)
    }

    /// The last number up to which each has come.
    pub fn whole(&self) -> u64 {
        self.messages.lock().unwrap().whole
    }

    /// All messages, and how many of them are different.
    pub fn counts(&self) -> (usize, usize) {
        let messages = self.messages.lock().unwrap();
        (messages.all.len(), messages.known.len())
    }

    pub fn all(&self) -> Vec<String> {
        self.messages.lock().unwrap().all.clone()
    }

    fn wait(&self, within: Duration, come: impl Fn(&Messages) -> bool) -> bool {
        let messages = self.messages.lock().unwrap();
        let (_messages, timeout) =
            self.more.wait_timeout_while(messages, within, |messages| !come(messages)).unwrap();
        !timeout.timed_out()
    }

    fn push(&self, line: String) {
        let mut messages = self.messages.lock().unwrap();
        messages.known.insert(line.clone());
        let Messages { ahead, whole, .. } = &mut *messages;
        ahead.extend(seq(&line));
        while ahead.remove(&(*whole + 1)) {
            *whole += 1;
        }
        ahead.retain(|seq| seq > whole);
        messages.all.push(line);
        self.more.notify_all();
    }
}

/// What a message claims; whether it is true, the judge will say.
fn seq(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once(r#"\"seq\":"#)?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Runs until dropped, and is started again should it end.
pub struct Recorder {
    ended: Arc<AtomicBool>,
    child: Arc<Mutex<Child>>,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    pub fn start(port: u16, heard: &Arc<Heard>) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let child = Arc::new(Mutex::new(subscribe(port)));
        let (heard, over, current) = (heard.clone(), ended.clone(), child.clone());
        let thread = std::thread::spawn(move || {
            loop {
                let output = current.lock().unwrap().stdout.take().unwrap();
                // A line that its writer did not end is no message.
                let mut output = BufReader::new(output);
                let mut line = String::new();
                while output.read_line(&mut line).is_ok_and(|n| n > 0) {
                    if let Some(text) = line.strip_suffix('\n') {
                        heard.push(text.to_owned());
                    }
                    line.clear();
                }
                let mut child = current.lock().unwrap();
                let _ = child.wait();
                if over.load(SeqCst) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(200));
                *child = subscribe(port);
            }
        });
        Self { ended, child, thread: Some(thread) }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.ended.store(true, SeqCst);
        let _ = self.child.lock().unwrap().kill();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// `-c` and `-i`: the broker keeps the session, and reconnecting finds it, if the broker still has it.
fn subscribe(port: u16) -> Child {
    Command::new("stdbuf")
        .args(["-oL", "mosquitto_sub", "-V", "5", "-h", "127.0.0.1", "-p", &port.to_string()])
        .args(["-q", "1", "-c", "-i", "recorder", "-t", "familiar/porch/event", "-F", "%p"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}
