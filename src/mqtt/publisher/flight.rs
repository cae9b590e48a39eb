//! What was sent over one connection and not yet acknowledged.

use std::collections::BTreeMap;
use std::time::Instant;

use super::caution::Subject;
use super::{PATIENCE, PublishError};
use crate::event::SignedMessage;
use crate::event::outbox::Position;
use crate::mqtt::reason::Reason;

/// Messages in flight, at most; fewer if the broker says so.
const WINDOW: usize = 16;

#[derive(Debug, Clone)]
pub(super) enum What {
    Event(Position, u64),
    /// Availability or a subscription.
    Aside(Subject),
    /// Of a command.
    Outcome(Subject, SignedMessage),
    /// A statement of the board in this version.
    Statement(Subject, u64),
}

impl What {
    fn subject(&self) -> Option<&Subject> {
        match self {
            Self::Event(..) => None,
            Self::Aside(subject) | Self::Outcome(subject, _) | Self::Statement(subject, _) => {
                Some(subject)
            }
        }
    }
}

/// What the broker says of something that was sent.
pub(super) enum Answer {
    Taken(What),
    /// Said again over the next connection.
    Refused(Subject, Reason),
}

/// What was sent over one connection and not yet acknowledged, by packet id.
///
/// Of events only one at a time: a broker that refused it and took the next would have them out of order,
/// whatever we did afterwards.
pub(super) struct Flight {
    messages: BTreeMap<u16, (Instant, What)>,
    window: usize,
    /// What is in flight goes alone, to see whether the broker hangs up on it.
    alone: bool,
}

impl Flight {
    pub fn new(receive_maximum: u16) -> Self {
        let window = WINDOW.min(receive_maximum.into());
        Self { messages: BTreeMap::new(), window, alone: false }
    }

    pub fn has_room(&self) -> bool {
        let subscription = |what: &What| matches!(what.subject(), Some(Subject::Subscribe(_)));
        let messages = self.messages.values().filter(|(_, what)| !subscription(what)).count();
        !self.alone && messages < self.window
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

    /// Nothing else is sent until this is answered.
    pub fn push_alone(&mut self, id: u16, what: What) {
        self.push(id, what);
        self.alone = true;
    }

    /// Notes an acknowledgement and gives what the broker says of it.
    pub fn acknowledged(
        &mut self,
        id: u16,
        refusal: Option<Reason>,
    ) -> Result<Answer, PublishError> {
        let (_, what) = self.messages.remove(&id).ok_or(PublishError::Unsolicited(id))?;
        self.alone &= !self.messages.is_empty();
        match (what, refusal) {
            (what, None) => Ok(Answer::Taken(what)),
            (What::Event(_, seq), Some(reason)) => Err(PublishError::Refused { seq, reason }),
            (
                What::Aside(subject) | What::Outcome(subject, _) | What::Statement(subject, _),
                Some(reason),
            ) => Ok(Answer::Refused(subject, reason)),
        }
    }

    /// What is on its way beside an event, and whether an event is.
    pub fn on_the_way(&self) -> (Vec<Subject>, bool) {
        let subjects = self.messages.values().filter_map(|(_, what)| what.subject().cloned());
        let mut subjects: Vec<_> = subjects.collect();
        subjects.dedup();
        (subjects, self.messages.values().any(|(_, what)| what.subject().is_none()))
    }

    /// Outcomes that nobody may have got, in the order in which they were sent.
    pub fn outcomes(&self) -> Vec<SignedMessage> {
        let mut outcomes: Vec<_> = self
            .messages
            .values()
            .filter_map(|(sent, what)| match what {
                What::Outcome(_, outcome) => Some((*sent, outcome.clone())),
                _ => None,
            })
            .collect();
        outcomes.sort_by_key(|(sent, _)| *sent);
        outcomes.into_iter().map(|(_, outcome)| outcome).collect()
    }

    pub fn check_patience(&self) -> Result<(), PublishError> {
        if self.messages.values().any(|(sent, _)| sent.elapsed() > PATIENCE) {
            return Err(PublishError::NoAcknowledgement);
        }
        Ok(())
    }
}
