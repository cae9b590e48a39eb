//! Judges what came on `command` and `set/NAME`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::operators::{self, OperatorsError};
use super::rate::{Answers, Window};
use super::request::{Command, CommandId, Request, SKEW};
use super::result::{Answer, Outcome, Reference, Refusal, Trouble, plain};
use super::seen::{Remembered, Seen};
use super::{CommandError, LIMIT, Moment};
use crate::config::{DeviceName, Located, UnsignedCommand};
use crate::event::jws::{Envelope, Verified, VerifyError};
use crate::event::{KeyRing, Typ};
use crate::system::state::StateDirectory;

/// The only way for a command into the device.
pub struct Gate {
    device: DeviceName,
    operators: KeyRing,
    seen: Seen,
    /// One for each operator who commanded.
    windows: BTreeMap<String, Window>,
    unsigned: Window,
    answers: Answers,
    counters: Counters,
}

/// What becomes of a message.
#[derive(Debug)]
pub enum Judgement {
    Accepted(Accepted),
    Refused(Refused),
}

/// A command to be done, once: only [`Gate`] makes it. Its id is on the disk, so that no crash has it
/// done again.
#[derive(Debug)]
pub struct Accepted {
    command: Command,
    origin: Origin,
    to: Reference,
}

/// Who commanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// By the thumbprint of the key.
    Operator(String),
    /// Whoever may publish on `set/NAME`: the broker's own access rules.
    Broker,
}

/// A message without effect.
#[derive(Debug)]
pub struct Refused {
    reason: Refusal,
    to: Reference,
    answered: bool,
}

/// Since the start.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Counters {
    pub accepted: u64,
    pub refused: u64,
    pub by_reason: BTreeMap<Refusal, u64>,
    /// Refusals that were not answered because too many came.
    pub unanswered: u64,
    pub last_refusal: Option<LastRefusal>,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub struct LastRefusal {
    pub time: Timestamp,
    pub reason: Refusal,
}

impl Gate {
    /// Reads who may command, and what was taken before.
    pub fn open(located: &Located, state: &StateDirectory) -> Result<Self, CommandError> {
        let operators = operators::load(located.directory())?;
        Ok(Self {
            device: located.config.device.clone(),
            operators,
            seen: Seen::open(state)?,
            windows: BTreeMap::new(),
            unsigned: Window::default(),
            answers: Answers::new(),
            counters: Counters::default(),
        })
    }

    /// Reads again who may command. If that fails, nobody may until it succeeds: whoever was taken
    /// out of a file that has become unreadable shall not stay.
    pub fn reload(&mut self, located: &Located) -> Result<(), OperatorsError> {
        self.operators = KeyRing::default();
        self.operators = operators::load(located.directory())?;
        self.windows.retain(|kid, _| self.operators.get(kid).is_some());
        Ok(())
    }

    /// How many keys may command.
    pub fn operators(&self) -> usize {
        self.operators.iter().count()
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Judges a message on `command`. One that the broker had retained is judged like any other: its
    /// id makes sure that it is done once.
    pub fn judge(&mut self, bytes: &[u8], retained: bool, at: &Moment) -> Judgement {
        let mut to = Reference::to(bytes);
        match self.admit(bytes, at, &mut to) {
            Ok((command, kid)) => {
                log::info!("operator {kid} commands: {}", command.name());
                self.accept(command, Origin::Operator(kid), to)
            }
            Err(reason) => {
                let kept = if retained { " (the broker keeps it)" } else { "" };
                self.refuse(reason, to, &format!("command{kept}"), at)
            }
        }
    }

    /// Judges a message on `set/NAME`: done only if the configuration allows it and it was not
    /// retained, which would repeat it at every connection. Empty, `PRESS` and `ON` do it; `OFF` takes
    /// a pause back, where `resume` is allowed as well.
    pub fn unsigned(
        &mut self,
        name: &str,
        payload: &[u8],
        retained: bool,
        allowed: &[UnsignedCommand],
        at: &Moment,
    ) -> Judgement {
        let mut to = Reference::to(payload);
        match unsigned(name, payload, retained, allowed, &mut to) {
            Ok(command) if self.unsigned.take(at.monotonic) => {
                log::info!("unsigned command: {}", command.name());
                self.accept(command, Origin::Broker, to)
            }
            Ok(_) => self.refuse(Refusal::Rate, to, "unsigned command", at),
            Err(reason) => self.refuse(reason, to, "unsigned command", at),
        }
    }

    /// The command and the key that signed it. Its id is on the disk then.
    fn admit(
        &mut self,
        bytes: &[u8],
        at: &Moment,
        to: &mut Reference,
    ) -> Result<(Command, String), Refusal> {
        let signed = self.verify(bytes, to)?;
        let mut request = Request::parse(&signed.payload)?;
        to.id = Some(request.id.clone());
        let now = self.now(at.time);
        to.now = (now != at.time).then_some(now);
        if request.device != self.device.as_str() {
            return Err(Refusal::OtherDevice);
        }
        let command = request.command()?;
        to.command = Some(command.name());
        let known = self.seen.look(&request.id, request.expires).map_err(storage)?;
        if known == Remembered::Seen {
            return Err(Refusal::Replayed);
        }
        request.check_window(now)?;
        taken(known)?;
        // Last, and so only of what would be done: repeating what an operator once signed does not use
        // up the operator's commands.
        if !self.windows.entry(signed.kid.clone()).or_default().take(at.monotonic) {
            return Err(Refusal::Rate);
        }
        let Request { id, issued, expires, .. } = &request;
        taken(self.seen.remember(id, &signed.kid, *issued, *expires, now).map_err(storage)?)?;
        Ok((command, signed.kid))
    }

    /// The time to judge by: the clock's, unless it is behind what an operator's command that was taken
    /// has shown the time to be. A clock that was set back, or lost its battery, does not make an old
    /// command young.
    fn now(&self, clock: Timestamp) -> Timestamp {
        match self.seen.latest() {
            Some(latest) if latest.duration_since(clock) > SKEW => latest,
            _ => clock,
        }
    }

    fn verify(&self, bytes: &[u8], to: &mut Reference) -> Result<Verified, Refusal> {
        if bytes.len() > LIMIT {
            return Err(Refusal::Oversized);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| Refusal::Malformed)?;
        let envelope = Envelope::parse_command(text).map_err(|_| Refusal::Malformed)?;
        to.id = CommandId::claimed(envelope.unproven_payload());
        if self.operators.is_empty() {
            return Err(Refusal::NoOperators);
        }
        envelope.verify(&self.operators, Some(Typ::Command)).map_err(|error| match error {
            VerifyError::Typ { .. } => Refusal::Typ,
            VerifyError::UnknownKey(_) => Refusal::UnknownKey,
            VerifyError::Signature => Refusal::Forged,
            _ => Refusal::Malformed,
        })
    }

    fn accept(&mut self, command: Command, origin: Origin, to: Reference) -> Judgement {
        self.counters.accepted += 1;
        Judgement::Accepted(Accepted { command, origin, to })
    }

    fn refuse(&mut self, reason: Refusal, to: Reference, what: &str, at: &Moment) -> Judgement {
        let counters = &mut self.counters;
        counters.refused += 1;
        *counters.by_reason.entry(reason).or_default() += 1;
        counters.last_refusal = Some(LastRefusal { time: at.time, reason });
        // A retained message comes again with every connection; nobody waits for an answer to it.
        let answered = reason != Refusal::Retained
            && self.answers.take(reason.is_of_an_operator(), at.monotonic);
        if answered {
            log::warn!("refused a {what}: {reason}");
        } else {
            counters.unanswered += 1;
            log::debug!("refused a {what}: {reason}");
        }
        Judgement::Refused(Refused { reason, to, answered })
    }
}

impl Accepted {
    pub fn command(&self) -> &Command {
        &self.command
    }

    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Of an unsigned command there is none.
    pub fn id(&self) -> Option<&CommandId> {
        self.to.id.as_ref()
    }

    /// It was done.
    pub fn done(&self, message: &str) -> Answer {
        self.answer(Outcome::Done(plain(message)))
    }

    /// It was tried, and did not work.
    pub fn failed(&self, trouble: Trouble, message: &str) -> Answer {
        self.answer(Outcome::Failed(trouble, plain(message)))
    }

    fn answer(&self, outcome: Outcome) -> Answer {
        Answer { to: self.to.clone(), outcome, data: None }
    }
}

impl Refused {
    pub fn reason(&self) -> Refusal {
        self.reason
    }

    /// The claimed id, if it is a sound one.
    pub fn id(&self) -> Option<&CommandId> {
        self.to.id.as_ref()
    }

    /// What to tell the sender; `None` if that would answer a flood by a flood.
    pub fn answer(&self) -> Option<Answer> {
        self.answered.then(|| Answer {
            to: self.to.clone(),
            outcome: Outcome::Refused(self.reason),
            data: None,
        })
    }
}

fn unsigned(
    name: &str,
    payload: &[u8],
    retained: bool,
    allowed: &[UnsignedCommand],
    to: &mut Reference,
) -> Result<Command, Refusal> {
    let due = match name {
        "pause" => UnsignedCommand::Pause,
        "resume" => UnsignedCommand::Resume,
        "update" => UnsignedCommand::Update,
        _ => return Err(Refusal::UnknownCommand),
    };
    if retained {
        return Err(Refusal::Retained);
    }
    let due = match (due, payload) {
        (due, b"" | b"PRESS" | b"ON") => due,
        (UnsignedCommand::Pause, b"OFF") => UnsignedCommand::Resume,
        _ => return Err(Refusal::Malformed),
    };
    let command = match due {
        UnsignedCommand::Pause => Command::Pause,
        UnsignedCommand::Resume => Command::Resume,
        UnsignedCommand::Update => Command::Update,
    };
    to.command = Some(command.name());
    if allowed.contains(&due) { Ok(command) } else { Err(Refusal::NotAllowed) }
}

fn taken(remembered: Remembered) -> Result<(), Refusal> {
    match remembered {
        Remembered::New => Ok(()),
        Remembered::Seen => Err(Refusal::Replayed),
        Remembered::Forgotten => Err(Refusal::Stale),
        Remembered::Full => Err(Refusal::Full),
    }
}

fn storage(error: super::SeenError) -> Refusal {
    log::error!("{error}");
    Refusal::Storage
}
