//! The verifying bridge: what was verified is published again as plain JSON, for consumers that cannot
//! check signatures. Nothing else is.
//!
//! A message is acknowledged only when the broker has taken what became of it. So a bridge that dies
//! loses nothing (its session waits for it at the broker) and may repeat the last few; while it runs,
//! events are passed on once.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use serde::Deserialize;

use super::Ended;
use crate::cli::Failure;
use crate::event::Typ;
use crate::event::jws::{Verified, VerifiedPayload};
use crate::event::payload::Link;
use crate::mqtt::client::Receipt;
use crate::mqtt::topics::Prefix;
use crate::mqtt::{ClientError, Connection};

/// The broker keeps session and messages so long while the bridge is away, in seconds.
pub const SESSION: u32 = 7 * 24 * 3600;
/// States and devices that are remembered, at most. More than any house has.
const REMEMBERED: usize = 65_536;
/// Events of one device that are told apart, at most; what is older than all of them was passed on.
const WINDOW: usize = 1024;
/// Messages that wait until the broker takes more, at most. It may not send so many before it has our
/// acknowledgements; one that does all the same is given up.
const QUEUE: usize = 1024;

/// Passes on what was proven.
pub struct Bridge {
    source: Prefix,
    target: Prefix,
    /// Of each device and key, the events that were passed on.
    events: HashMap<Who, Passed>,
    /// Of each topic, the time of the state that was passed on last.
    states: HashMap<String, jiff::Timestamp>,
    /// What is to be sent.
    queue: VecDeque<(Receipt, Passing)>,
    /// What the broker has yet to take, by packet id.
    waiting: HashMap<u16, (Receipt, Passing)>,
}

/// What a message came to.
pub enum Word {
    /// A trusted key's own word.
    Proven(Box<Proven>),
    /// A retained state was taken away. Nobody signs that.
    Cleared,
    /// Nothing to pass on.
    Nothing,
}

/// Whose word it is; of an event also its place in the chain.
pub struct Proven {
    pub device: String,
    pub message: Verified,
    pub link: Option<Link>,
}

/// Events of one key, by number.
#[derive(Debug)]
struct Passed {
    /// All up to here were passed on, or came before the bridge.
    floor: u64,
    /// Taken by the broker.
    taken: BTreeSet<u64>,
    /// Queued or sent over this connection.
    sent: HashSet<u64>,
}

impl Passed {
    /// What comes first is the oldest that waited.
    fn from(first: u64) -> Self {
        Self { floor: first.saturating_sub(1), taken: BTreeSet::new(), sent: HashSet::new() }
    }

    fn is_new(&self, seq: u64) -> bool {
        seq > self.floor && !self.taken.contains(&seq) && !self.sent.contains(&seq)
    }

    fn take(&mut self, seq: u64) {
        self.sent.remove(&seq);
        self.taken.insert(seq);
        while self.taken.len() > WINDOW {
            self.floor = self.taken.pop_first().unwrap_or(self.floor);
        }
    }
}

/// Device and key.
type Who = (String, String);

/// What is to be published.
struct Passing {
    topic: String,
    /// `None` takes away what was retained.
    text: Option<VerifiedPayload>,
    retain: bool,
    event: Option<(Who, u64)>,
}

/// What a verified state says of itself.
#[derive(Deserialize)]
struct State {
    device: String,
    time: jiff::Timestamp,
    clock: String,
    person: Option<Person>,
}

#[derive(Deserialize)]
struct Person {
    id: String,
}

impl Bridge {
    /// Refuses a target within the source, or around it: what is published would come back.
    pub fn new(source: &Prefix, target: &str) -> Result<Self, Failure> {
        let wrong = |what: String| Failure::usage(format!("--republish {target}: {what}"));
        let prefix = Prefix::try_from(target.to_owned()).map_err(wrong)?;
        if prefix.overlaps(source) {
            return Err(wrong(format!("overlaps {source}, where the devices publish")));
        }
        Ok(Self {
            source: source.clone(),
            target: prefix,
            events: HashMap::new(),
            states: HashMap::new(),
            queue: VecDeque::new(),
            waiting: HashMap::new(),
        })
    }

    /// The same for the same source and target, so that the broker knows its session again.
    pub fn client_id(&self, device: &str) -> String {
        let source = &self.source;
        let from = if source.is_default() { String::new() } else { format!("-from-{source}") };
        format!("familiar-republish-{device}-{}{from}", self.target)
    }

    /// On a new connection, what was not taken comes again.
    pub fn connected(&mut self) {
        self.queue.clear();
        self.waiting.clear();
        for passed in self.events.values_mut() {
            passed.sent.clear();
        }
    }

    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.waiting.is_empty()
    }

    /// Publishes a word, or acknowledges at once what is not to be passed on.
    pub fn pass_on(
        &mut self,
        connection: &mut Connection,
        topic: &str,
        word: Word,
        retained: bool,
    ) -> Result<(), Ended> {
        // A device speaks with QoS 1; without a receipt, nothing would bound what is in flight.
        let Some(receipt) = connection.take_receipt() else { return Ok(()) };
        match self.weigh(topic, word, retained) {
            Ok(Some(passing)) if self.queue.len() < QUEUE => {
                self.queue.push_back((receipt, passing));
                self.send(connection)
            }
            Ok(Some(_)) => Err(Ended::Broken(ClientError::Protocol(format!(
                "it sent {QUEUE} messages without waiting for their acknowledgement"
            )))),
            Ok(None) => Ok(connection.acknowledge(receipt)?),
            Err(reason) => {
                log::warn!("{topic} is not passed on: {reason}");
                Ok(connection.acknowledge(receipt)?)
            }
        }
    }

    /// Sends as much as the broker takes at once.
    fn send(&mut self, connection: &mut Connection) -> Result<(), Ended> {
        while self.waiting.len() < connection.receive_maximum().into()
            && let Some((receipt, passing)) = self.queue.pop_front()
        {
            let text = passing.text.as_ref().map_or("", VerifiedPayload::as_str);
            let id = connection.publish(&passing.topic, text, passing.retain)?;
            self.waiting.insert(id, (receipt, passing));
        }
        Ok(())
    }

    /// The broker has taken what was published, or will not.
    pub fn taken(
        &mut self,
        connection: &mut Connection,
        id: u16,
        refusal: Option<String>,
    ) -> Result<(), Ended> {
        let Some((receipt, Passing { topic, event, .. })) = self.waiting.remove(&id) else {
            return Ok(());
        };
        if let Some(reason) = refusal {
            // Not acknowledged: it waits at the broker until its access rules are mended.
            return Err(Ended::Failed(Failure::Network(format!(
                "the broker refused {topic}: {reason}; the bridge must be allowed to publish there"
            ))));
        }
        if let Some((who, seq)) = event
            && let Some(passed) = self.events.get_mut(&who)
        {
            passed.take(seq);
        }
        connection.acknowledge(receipt)?;
        self.send(connection)
    }

    /// What to publish; `None` for a duplicate and for what is not passed on at all.
    fn weigh(
        &mut self,
        topic: &str,
        word: Word,
        retained: bool,
    ) -> Result<Option<Passing>, String> {
        let Some(rest) = self.source.strip(topic) else { return Ok(None) };
        let target = format!("{}/{rest}", self.target);
        match word {
            Word::Nothing => Ok(None),
            Word::Cleared => {
                self.states.remove(topic);
                Ok(Some(Passing { topic: target, text: None, retain: true, event: None }))
            }
            Word::Proven(proven) => {
                let Proven { device, message, link } = *proven;
                match link {
                    Some(link) => self.weigh_event(target, (device, message), &link, retained),
                    None => self.weigh_state(target, topic, &device, message),
                }
            }
        }
    }

    fn weigh_event(
        &mut self,
        topic: String,
        (device, message): (String, Verified),
        link: &Link,
        retained: bool,
    ) -> Result<Option<Passing>, String> {
        if retained {
            return Err("an event that was kept is no event of now".to_owned());
        }
        let who = (device, message.kid.clone());
        if self.events.len() >= REMEMBERED && !self.events.contains_key(&who) {
            return Err(format!("more than {REMEMBERED} devices"));
        }
        let passed = self.events.entry(who.clone()).or_insert_with(|| Passed::from(link.seq));
        if !passed.is_new(link.seq) {
            return Ok(None);
        }
        passed.sent.insert(link.seq);
        let text = Some(message.into_payload());
        Ok(Some(Passing { topic, text, retain: false, event: Some((who, link.seq)) }))
    }

    /// Presence and health; other kinds are not passed on.
    fn weigh_state(
        &mut self,
        target: String,
        topic: &str,
        device: &str,
        message: Verified,
    ) -> Result<Option<Passing>, String> {
        if !matches!(message.typ, Typ::Presence | Typ::Health) {
            return Ok(None);
        }
        self.check_state(device, topic, &message)?;
        let text = Some(message.into_payload());
        Ok(Some(Passing { topic: target, text, retain: true, event: None }))
    }

    /// A state must be that of the topic's device and person, and none that was overtaken.
    fn check_state(&mut self, device: &str, topic: &str, message: &Verified) -> Result<(), String> {
        let state: State = serde_json::from_str(&message.payload).map_err(|e| e.to_string())?;
        if state.device != device {
            return Err(format!("it is the word of {:?}", state.device));
        }
        if message.typ == Typ::Presence {
            let whose = topic.rsplit('/').next().unwrap_or_default();
            if state.person.as_ref().is_none_or(|person| person.id != whose) {
                return Err("it is of another person".to_owned());
            }
        }
        if state.clock != "synchronized" {
            return Ok(());
        }
        match self.states.get(topic) {
            Some(last) if state.time < *last => {
                return Err(format!("it is of {}, and one of {last} came before", state.time));
            }
            None if self.states.len() >= REMEMBERED => {}
            _ => {
                self.states.insert(topic.to_owned(), state.time);
            }
        }
        Ok(())
    }
}
