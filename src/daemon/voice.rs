//! The daemon's own signed word to the broker: states and outcomes. Events go through the ledger.

use std::sync::Arc;

use super::former::Cleaner;
use crate::config::DeviceName;
use crate::event::{DeviceKey, SignedMessage, Typ};
use crate::mqtt::publisher::Received;
use crate::mqtt::topics::Topics;
use crate::mqtt::{Publisher, Statement};
use crate::recognition::PersonId;

/// The publisher, with what it takes to sign for it.
pub struct Voice {
    publisher: Publisher,
    key: Arc<DeviceKey>,
    topics: Topics,
    cleaner: Cleaner,
}

impl Voice {
    pub fn new(
        publisher: Publisher,
        key: Arc<DeviceKey>,
        topics: Topics,
        cleaner: Cleaner,
    ) -> Self {
        Self { publisher, key, topics, cleaner }
    }

    /// Has what was published under former names cleared. Call it often.
    pub fn tend_former(&mut self) {
        self.cleaner.tend(|| self.publisher.status().connected);
    }

    /// People whose presence the broker may keep, whether they are enrolled or not.
    pub fn owed(&self) -> Vec<PersonId> {
        self.cleaner.owed()
    }

    pub fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    /// See [`Publisher::stop`].
    pub fn stop(self) -> Vec<SignedMessage> {
        self.publisher.stop()
    }

    pub fn topics(&self) -> &Topics {
        &self.topics
    }

    pub fn device(&self) -> &DeviceName {
        self.topics.device()
    }

    pub fn kid(&self) -> &str {
        self.key.kid()
    }

    /// Signs by another key from now on, and introduces it.
    pub fn renew(&mut self, key: Arc<DeviceKey>, identity: SignedMessage) {
        self.key = key;
        self.publisher.introduce(identity);
    }

    /// Signs a state, for the broker to keep.
    pub fn state(&self, typ: Typ, topic: String, payload: &str) {
        match self.key.sign(typ, payload) {
            Ok(message) => self.publisher.retain(Statement::Signed { topic, message }),
            Err(error) => log::error!("{topic} is not told: {error}"),
        }
    }

    /// Has the broker forget what it keeps on a topic.
    pub fn clear(&self, topic: String) {
        self.publisher.retain(Statement::Cleared { topic });
    }

    /// Signs the outcome of a command.
    pub fn answer(&self, payload: &str) {
        match self.key.sign(Typ::Result, payload) {
            Ok(message) => self.publisher.answer(message),
            Err(error) => log::error!("the outcome of a command is not told: {error}"),
        }
    }

    pub fn received(&self) -> Option<Received> {
        self.publisher.received()
    }
}
