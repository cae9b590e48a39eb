//! Decisions become durable events and go their ways: outbox, publisher, stdout.

use std::collections::VecDeque;
use std::io::Write;
use std::time::{Duration, Instant};

use super::DaemonError;
use crate::event::{Fact, Ledger, SignedMessage};
use crate::mqtt::Publisher;
use crate::recognition::{Decision, Verdict};

/// Decisions kept in memory while the disk takes none; beyond that the newest are lost, with a word
/// in the log.
const WAITING: usize = 1024;
/// How often a disk that takes nothing is tried again.
const AGAIN: Duration = Duration::from_secs(1);

pub struct Teller {
    ledger: Ledger,
    publisher: Option<Publisher>,
    stdout: bool,
    waiting: VecDeque<Fact>,
    /// When the disk last took nothing.
    failed: Option<Instant>,
}

impl Teller {
    pub fn new(ledger: Ledger, publisher: Option<Publisher>, stdout: bool) -> Self {
        Self { ledger, publisher, stdout, waiting: VecDeque::new(), failed: None }
    }

    /// Records decisions in their order. A disk that takes nothing is logged and tried again;
    /// recognition goes on.
    pub fn tell(&mut self, decisions: Vec<Decision>) -> Result<(), DaemonError> {
        for decision in decisions {
            log_decision(&decision);
            if self.waiting.len() < WAITING {
                self.waiting.push_back(Fact::Decision(decision));
            } else {
                log::error!("a decision is lost: {WAITING} wait for the disk already");
            }
        }
        if self.failed.is_some_and(|failed| failed.elapsed() < AGAIN) {
            return Ok(());
        }
        while let Some(fact) = self.waiting.front() {
            match self.ledger.record(fact) {
                Ok(message) => {
                    self.waiting.pop_front();
                    if self.failed.take().is_some() {
                        log::info!("events can be recorded again");
                    }
                    self.pass_on(&message)?;
                }
                Err(error) => {
                    if self.failed.replace(Instant::now()).is_none() {
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
        Ok(())
    }

    /// Waits for the broker to take what is left, at most `within`, says `offline` and closes.
    pub fn finish(mut self, within: Duration) {
        self.failed = None;
        if let Err(error) = self.tell(Vec::new()) {
            log::error!("{error}");
        }
        if !self.waiting.is_empty() {
            log::error!("{} decisions could not be recorded and are lost", self.waiting.len());
        }
        let Some(publisher) = self.publisher else { return };
        match publisher.flush(within) {
            Ok(true) => {}
            Ok(false) => log::warn!(
                "the broker has not taken all events ({}); the outbox keeps them for the next start",
                publisher.status().trouble.as_deref().unwrap_or("it is slow")
            ),
            Err(error) => log::error!("{error}"),
        }
        publisher.stop();
    }

    fn pass_on(&self, message: &SignedMessage) -> Result<(), DaemonError> {
        if let Some(publisher) = &self.publisher {
            publisher.notify();
        }
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
