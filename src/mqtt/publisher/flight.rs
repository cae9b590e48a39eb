//! What was sent over one connection and not yet acknowledged.

use std::collections::BTreeMap;
use std::time::Instant;

use rumqttc::v5::mqttbytes::v5::PubAckReason;

use super::{PATIENCE, PublishError};
use crate::event::outbox::Position;

/// Messages in flight, at most; fewer if the broker says so.
const WINDOW: usize = 16;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    Availability,
    /// A statement of the board, by topic and version.
    Statement(String, u64),
    /// The outcome of a command.
    Outcome,
    Event(Position, u64),
}

/// What was sent over one connection and not yet acknowledged, by packet id.
///
/// Of events only one at a time: a broker that refused it and took the next would have them out of order,
/// whatever we did afterwards.
pub(super) struct Flight {
    messages: BTreeMap<u16, (Instant, What)>,
    window: usize,
}

impl Flight {
    pub fn new(receive_maximum: u16) -> Self {
        Self { messages: BTreeMap::new(), window: WINDOW.min(receive_maximum.into()) }
    }

    pub fn has_room(&self) -> bool {
        self.messages.len() < self.window
    }

    pub fn has_room_for_an_event(&self) -> bool {
        let event = |(_, what): &(Instant, What)| matches!(what, What::Event(..));
        self.has_room() && !self.messages.values().any(event)
    }

    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub fn push(&mut self, id: u16, what: What) {
        self.messages.insert(id, (Instant::now(), what));
    }

    /// Notes an acknowledgement and gives what the broker has taken; `None` for a state that it refused,
    /// which the next connection says again.
    pub fn acknowledged(
        &mut self,
        id: u16,
        refusal: Option<PubAckReason>,
    ) -> Result<Option<What>, PublishError> {
        let (_, what) = self.messages.remove(&id).ok_or(PublishError::Unsolicited(id))?;
        match (what, refusal) {
            (what, None) => Ok(Some(what)),
            (What::Event(_, seq), Some(reason)) => Err(PublishError::Refused { seq, reason }),
            (what, Some(reason)) => {
                log::warn!("the broker refused {what:?}: {reason:?}");
                Ok(None)
            }
        }
    }

    pub fn check_patience(&self) -> Result<(), PublishError> {
        if self.messages.values().any(|(sent, _)| sent.elapsed() > PATIENCE) {
            return Err(PublishError::NoAcknowledgement);
        }
        Ok(())
    }
}
