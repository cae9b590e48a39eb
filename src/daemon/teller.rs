//! Decisions become durable events: outbox, and stdout where asked for.

use std::collections::VecDeque;
use std::io::Write;
use std::time::{Duration, Instant};

use super::DaemonError;
use crate::event::{Fact, Ledger, LedgerError, SignedMessage};
use crate::recognition::{Decision, Verdict};
use crate::system::clock::{self, ClockState};

/// Decisions kept in memory while the disk takes none; beyond that the newest are lost, with a word
/// in the log.
const WAITING: usize = 1024;
/// How often a disk that takes nothing is tried again.
const AGAIN: Duration = Duration::from_secs(1);

pub struct Teller {
    ledger: Ledger,
    stdout: bool,
    /// Each with what was known of the clock when it was decided.
    waiting: VecDeque<(Fact, ClockState)>,
    /// When the disk last took nothing, and what it said.
    failed: Option<(Instant, String)>,
    lost: u64,
    /// The key that the ledger signs by was replaced.
    rotated: bool,
    /// When the disk was last asked whether it was.
    asked: Instant,
}

impl Teller {
    pub fn new(ledger: Ledger, stdout: bool) -> Self {
        Self {
            ledger,
            stdout,
            waiting: VecDeque::new(),
            failed: None,
            lost: 0,
            rotated: false,
            asked: Instant::now(),
        }
    }

    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Records by another ledger from now on: with a new key, or another camera's name.
    pub fn replace_ledger(&mut self, ledger: Ledger) {
        self.ledger = ledger;
        self.rotated = false;
        self.failed = None;
    }

    /// Whether the device's key was replaced, so that another ledger is due. Asks the disk once a
    /// second, for times in which nothing is recorded.
    pub fn is_rotated(&mut self) -> bool {
        if !self.rotated && self.asked.elapsed() >= AGAIN {
            self.asked = Instant::now();
            self.rotated = matches!(self.ledger.check_key(), Err(LedgerError::Rotated { .. }));
        }
        // An attempt to open the new key that failed is not repeated with every frame.
        self.rotated && self.failed.as_ref().is_none_or(|(time, _)| time.elapsed() >= AGAIN)
    }

    /// Nothing can be recorded for now, for a reason that lies elsewhere.
    pub fn fail(&mut self, error: &DaemonError) {
        if self.failed.replace((Instant::now(), error.to_string())).is_none() {
            log::error!("events cannot be recorded, trying again: {error}");
        }
    }

    /// Why the disk takes nothing, if so.
    pub fn trouble(&self) -> Option<&str> {
        self.failed.as_ref().map(|(_, error)| error.as_str())
    }

    /// Facts that wait for the disk.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Facts that found no room to wait, since the start.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Records decisions in their order; `true` if something was recorded. A disk that takes nothing is
    /// logged and tried again; recognition goes on.
    pub fn tell(&mut self, decisions: Vec<Decision>) -> Result<bool, DaemonError> {
        for decision in decisions {
            log_decision(&decision);
            if self.waiting.len() < WAITING {
                self.waiting.push_back((Fact::Decision(decision), clock::state()));
            } else {
                self.lost += 1;
                log::error!("a decision is lost: {WAITING} wait for the disk already");
            }
        }
        if self.failed.as_ref().is_some_and(|(time, _)| time.elapsed() < AGAIN) {
            return Ok(false);
        }
        let mut recorded = false;
        while let Some((fact, clock)) = self.waiting.front() {
            match self.ledger.record_of(fact, *clock) {
                Ok(message) => {
                    recorded = true;
                    self.waiting.pop_front();
                    if self.failed.take().is_some() {
                        log::info!("events can be recorded again");
                    }
                    self.print(&message)?;
                }
                // The daemon opens the new key, and this is tried again.
                Err(LedgerError::Rotated { .. }) => {
                    self.rotated = true;
                    break;
                }
                Err(error) => {
                    let text = error.to_string();
                    if self.failed.replace((Instant::now(), text)).is_none() {
                        log::error!("an event cannot be recorded, trying again: {error}");
                    }
                    break;
                }
            }
        }
        if self.failed.is_none()
            && let Err(error) = self.ledger.expire()
        {
            log::error!("events too old for the outbox cannot be dropped: {error}");
        }
        Ok(recorded)
    }

    /// The last attempt to record what waits; an error that says how many decisions never became events, and why.
    pub fn finish(&mut self) -> Result<(), DaemonError> {
        let before = self.failed.take();
        let told = self.tell(Vec::new()).map(drop);
        let count = self.lost + self.waiting.len() as u64;
        if count == 0 {
            return told;
        }
        let why = self.failed.take().or(before).map(|(_, why)| why);
        let why = why.unwrap_or_else(|| format!("{WAITING} waited for the disk already"));
        Err(DaemonError::NotKept { count, why })
    }

    fn print(&self, message: &SignedMessage) -> Result<(), DaemonError> {
        if self.stdout {
            let mut out = std::io::stdout().lock();
            writeln!(out, "{}", message.as_str())
                .and_then(|()| out.flush())
                .map_err(DaemonError::Stdout)?;
        }
        Ok(())
    }
}

/// For the journal: ids and figures, never a name or an embedding.
fn log_decision(decision: &Decision) {
    let track = decision.track;
    match &decision.verdict {
        Verdict::Recognized { person, evidence } => log::info!(
            event = "recognized", person = person.id.as_str(), track = track, similarity = f64::from(evidence.similarity);
            "recognized {} (similarity {:.3}, threshold {:.3}, {} looks)",
            person.id, evidence.similarity, evidence.threshold, evidence.frames
        ),
        Verdict::Departed { person } => log::info!(
            event = "departed", person = person.id.as_str(), track = track;
            "departed {}", person.id
        ),
        Verdict::Unknown { .. } => {
            log::info!(event = "unknown", track = track; "somebody unknown");
        }
        Verdict::Spoof { .. } => {
            log::warn!(event = "spoof", track = track; "an attack on the camera");
        }
    }
}
