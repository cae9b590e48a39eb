//! What this device publishes where it is now, on record before it is published.

use std::collections::BTreeSet;

use crate::event::jws::Envelope;
use crate::event::{SignedMessage, identity};
use crate::mqtt::retained::{Kept, Record, RecordError};
use crate::mqtt::topics::Topics;
use crate::mqtt::{Broker, Statement};
use crate::system::state::StateDirectory;

pub(super) struct Noted {
    record: Record,
    broker: String,
    place: String,
    /// On record already: a report a minute costs the disk nothing.
    topics: BTreeSet<String>,
    keys: BTreeSet<String>,
    /// Statements whose topics could not be noted: they are not published yet.
    held: Vec<Statement>,
}

impl Noted {
    pub fn open(
        state: &StateDirectory,
        broker: &Broker,
        topics: &Topics,
    ) -> Result<Self, RecordError> {
        let record = Record::open_or_renew(state)?;
        let (broker, place) = (broker.name(), topics.place().to_owned());
        let here = |kept: &Kept| kept.broker == broker && kept.place == place && kept.certain;
        let topics = record.all()?.into_iter().filter(here).map(|kept| kept.topic).collect();
        let keys = record.keys()?;
        Ok(Self { record, broker, place, topics, keys, held: Vec::new() })
    }

    /// Notes topics before anything is published on them.
    pub fn note<'a>(
        &mut self,
        topics: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), RecordError> {
        let kept = |topic: &str| Kept {
            broker: self.broker.clone(),
            topic: topic.to_owned(),
            place: self.place.clone(),
            certain: true,
        };
        let new: Vec<Kept> =
            topics.into_iter().filter(|topic| !self.topics.contains(*topic)).map(kept).collect();
        if !new.is_empty() {
            self.record.note(&new)?;
            self.topics.extend(new.into_iter().map(|kept| kept.topic));
        }
        Ok(())
    }

    /// Notes the key that is about to publish.
    pub fn note_key(&mut self, message: &SignedMessage) -> Result<(), RecordError> {
        self.note_kid(message.kid())
    }

    /// Notes the keys before it, which an identity names: the broker may keep a message signed by one of them.
    pub fn note_former_keys(&mut self, identity: &SignedMessage) -> Result<(), RecordError> {
        let told = Envelope::parse(identity.as_str()).and_then(identity::introduction);
        for former in told.map(|told| told.former).unwrap_or_default() {
            self.note_kid(former.key.kid())?;
        }
        Ok(())
    }

    fn note_kid(&mut self, kid: &str) -> Result<(), RecordError> {
        if !self.keys.contains(kid) {
            self.record.note_key(kid)?;
            self.keys.insert(kid.to_owned());
        }
        Ok(())
    }

    /// Whether this device published by the key with that thumbprint.
    pub fn is_own(&self, kid: &str) -> bool {
        self.keys.contains(kid)
    }

    /// The broker has forgotten a topic. If the disk takes no note of it, a later start clears it again.
    pub fn cleared(&mut self, topic: &str) {
        if self.topics.remove(topic)
            && let Err(error) = self.record.remove(&self.broker, [topic])
        {
            log::debug!("{error}");
        }
    }

    /// Gives back what of this statement and of those held back is on record, and may be published.
    pub fn admit(&mut self, statement: Statement) -> Vec<Statement> {
        self.held.retain(|held| held.topic() != statement.topic());
        let mut asking = std::mem::take(&mut self.held);
        let held_before = !asking.is_empty();
        asking.push(statement);
        let mut admitted = Vec::new();
        for statement in asking {
            let noted = match &statement {
                // Noted when it was published.
                Statement::Cleared { .. } => Ok(()),
                Statement::Discovery(discovery) => self.note([discovery.topic()]),
                Statement::Signed { topic, message } => {
                    self.note_key(message).and_then(|()| self.note([topic.as_str()]))
                }
            };
            match noted {
                Ok(()) => admitted.push(statement),
                Err(error) => {
                    if self.held.is_empty() && !held_before {
                        log::error!(
                            "{} is not published before it is on record, trying again: {error}",
                            statement.topic()
                        );
                    }
                    self.held.push(statement);
                }
            }
        }
        admitted
    }
}
