//! What was sent over one connection and not yet acknowledged.

use std::collections::VecDeque;
use std::time::Instant;

use rumqttc::v5::mqttbytes::v5::PubAckReason;

use super::{PATIENCE, PublishError};
use crate::event::outbox::Position;

/// Messages in flight, at most; fewer if the broker says so.
const WINDOW: usize = 16;

/// A message that waits for its acknowledgement.
struct InFlight {
    id: u16,
    sent: Instant,
    acknowledged: bool,
    what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    Availability,
    /// A statement of the board, by topic and version.
    Statement(String, u64),
    /// The outcome of a command.
    Outcome,
    Event(Position, u64),
}

/// What an acknowledgement means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Acknowledged {
    /// The events up to here are done, without a hole before them, and how many.
    Events(Position, u64),
    /// Nothing that is counted yet.
    Nothing,
}

/// What was sent over one connection and not yet acknowledged, oldest first.
pub(super) struct Flight {
    messages: VecDeque<InFlight>,
    /// Events in flight, at most: one until the broker has taken one, so that a broker that refuses
    /// all of them does not take a later one before an earlier one.
    window: usize,
    widest: usize,
    events: usize,
    last_sent: Position,
}

impl Flight {
    pub fn new(receive_maximum: u16) -> Self {
        let widest = WINDOW.min(receive_maximum.into());
        Self {
            messages: VecDeque::new(),
            window: 1,
            widest,
            events: 0,
            last_sent: Position::default(),
        }
    }

    pub fn has_room(&self) -> bool {
        self.messages.len() < self.widest
    }

    pub fn has_room_for_an_event(&self) -> bool {
        self.has_room() && self.events < self.window
    }

    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The place of the event that was sent last.
    pub fn last_sent(&self) -> Position {
        self.last_sent
    }

    pub fn push(&mut self, id: u16, what: What) {
        if let What::Event(position, _) = what {
            self.last_sent = position;
            self.events += 1;
        }
        self.messages.push_back(InFlight { id, sent: Instant::now(), acknowledged: false, what });
    }

    /// Notes an acknowledgement and hands statements that the broker took to `taken`.
    ///
    /// Only a run of events without a hole from the oldest on is done: after a refusal, all that
    /// follows is sent again behind the refused one.
    pub fn acknowledged(
        &mut self,
        id: u16,
        refusal: Option<PubAckReason>,
        taken: impl FnOnce(&str, u64),
    ) -> Result<Acknowledged, PublishError> {
        let message = self
            .messages
            .iter_mut()
            .find(|m| m.id == id && !m.acknowledged)
            .ok_or(PublishError::Unsolicited(id))?;
        message.acknowledged = true;
        match (&message.what, refusal) {
            (What::Statement(topic, version), None) => taken(topic, *version),
            (What::Statement(topic, _), Some(reason)) => {
                log::warn!("the broker refused {topic}: {reason:?}");
            }
            (What::Event(_, seq), Some(reason)) => {
                return Err(PublishError::Refused { seq: *seq, reason });
            }
            (What::Event(..), None) => self.window = self.widest,
            (What::Availability | What::Outcome, None) => {}
            (what @ (What::Availability | What::Outcome), Some(reason)) => {
                log::warn!("the broker refused {what:?}: {reason:?}");
            }
        }
        let mut done = Acknowledged::Nothing;
        while self.messages.front().is_some_and(|m| m.acknowledged) {
            if let Some(InFlight { what: What::Event(position, _), .. }) = self.messages.pop_front()
            {
                self.events -= 1;
                let before = if let Acknowledged::Events(_, n) = done { n } else { 0 };
                done = Acknowledged::Events(position, before + 1);
            }
        }
        Ok(done)
    }

    pub fn check_patience(&self) -> Result<(), PublishError> {
        match self.messages.front() {
            Some(oldest) if oldest.sent.elapsed() > PATIENCE => {
                Err(PublishError::NoAcknowledgement)
            }
            _ => Ok(()),
        }
    }
}
