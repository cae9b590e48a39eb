//! What brokers keep of this device's former names, prefixes and discovery topics: cleared once the broker is there
//! under the new ones, and tried again until it is.

use std::collections::{BTreeMap, BTreeSet};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::mqtt::discovery::Discovery;
use crate::mqtt::retained::clear::{Clearing, Fate};
use crate::mqtt::retained::{Kept, Record, RecordError};
use crate::mqtt::topics::Topics;
use crate::mqtt::{Broker, ClientError};
use crate::recognition::PersonId;
use crate::system::state::StateDirectory;

/// Between two attempts: doubled each time.
const FIRST_WAIT: Duration = Duration::from_mins(1);
const LONGEST_WAIT: Duration = Duration::from_hours(1);

/// What of the record is not this device's as it is now configured.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Former {
    /// To be cleared at the broker that is configured.
    pub here: Vec<Kept>,
    /// Published to brokers that are not configured any more.
    pub elsewhere: Vec<Kept>,
}

impl Former {
    /// `discovery`: the topic of discovery; `None` if it is off.
    pub fn of(all: Vec<Kept>, broker: &str, topics: &Topics, discovery: Option<&str>) -> Self {
        let is_former = |kept: &Kept| {
            kept.place != topics.place()
                || (kept.below().is_none() && Some(kept.topic.as_str()) != discovery)
        };
        let (here, elsewhere): (Vec<Kept>, Vec<Kept>) =
            all.into_iter().partition(|kept| kept.broker == broker);
        Self { here: here.into_iter().filter(is_former).collect(), elsewhere }
    }

    /// The topics to clear at the broker that is configured: also those of another address, for it may be the same
    /// broker's.
    pub fn due(&self, topics: &Topics) -> Vec<Kept> {
        let met: BTreeSet<&str> = self.here.iter().map(|kept| kept.topic.as_str()).collect();
        let other = self.elsewhere.iter();
        let other =
            other.filter(|kept| kept.place != topics.place() && !met.contains(kept.topic.as_str()));
        self.here.iter().chain(other).cloned().collect()
    }
}

/// Notes, when the record is begun, what a version that kept none may have published elsewhere than this one does.
pub fn begin_record(
    state: &StateDirectory,
    broker: &Broker,
    topics: &Topics,
    discovery_prefix: Option<&str>,
) -> Result<(), RecordError> {
    let record = Record::open_or_renew(state)?;
    let before = discovery_prefix
        .filter(|_| record.is_new() && super::presence::was_told(state))
        .and_then(|prefix| Discovery::topic_without_prefix(prefix, topics));
    if let Some(topic) = before {
        let (broker, place) = (broker.name(), topics.place().to_owned());
        record.note(&[Kept { broker, topic, place, certain: false }])?;
    }
    Ok(())
}

/// People on record at this place.
fn owed(
    state: &StateDirectory,
    broker: &Broker,
    topics: &Topics,
) -> Result<Vec<PersonId>, RecordError> {
    let Some(record) = Record::find(state)? else { return Ok(Vec::new()) };
    let (broker, place) = (broker.name(), topics.place());
    let all = record.all()?;
    let here = all.iter().filter(|kept| kept.broker == broker && kept.place == place);
    let people = here.filter_map(|kept| kept.below()?.strip_prefix("person/")?.parse().ok());
    Ok(people.collect())
}

/// Clears former topics beside the daemon's work.
pub struct Cleaner {
    state: StateDirectory,
    broker: Broker,
    topics: Topics,
    discovery: Option<String>,
    running: Option<JoinHandle<bool>>,
    next: Instant,
    wait: Duration,
    done: bool,
}

impl Cleaner {
    pub fn new(
        state: &StateDirectory,
        broker: &Broker,
        topics: &Topics,
        discovery: Option<String>,
    ) -> Self {
        Self {
            state: state.clone(),
            broker: broker.clone(),
            topics: topics.clone(),
            discovery,
            running: None,
            next: Instant::now(),
            wait: FIRST_WAIT,
            done: false,
        }
    }

    /// People whose topics the broker may keep at this place.
    pub fn owed(&self) -> Vec<PersonId> {
        owed(&self.state, &self.broker, &self.topics).unwrap_or_else(|error| {
            log::warn!("whose topics are to be cleared is not known: {error}");
            Vec::new()
        })
    }

    /// Begins an attempt if one is due, and takes over what came of the last. Call it often.
    pub fn tend(&mut self, connected: impl FnOnce() -> bool) {
        if self.done {
            return;
        }
        if self.running.as_ref().is_some_and(JoinHandle::is_finished) {
            self.done = self.running.take().is_some_and(|attempt| attempt.join().unwrap_or(false));
            self.next = Instant::now() + self.wait;
            self.wait = (self.wait * 2).min(LONGEST_WAIT);
        }
        let due = !self.done && self.running.is_none() && Instant::now() >= self.next;
        if !due || !connected() {
            return;
        }
        let (state, broker) = (self.state.clone(), self.broker.clone());
        let (topics, discovery) = (self.topics.clone(), self.discovery.clone());
        let attempt = move || {
            attempt(&state, &broker, &topics, discovery.as_deref()).unwrap_or_else(|error| {
                log::warn!("what was published under former names is not cleared yet: {error}");
                false
            })
        };
        match std::thread::Builder::new().name("former".to_owned()).spawn(attempt) {
            Ok(running) => self.running = Some(running),
            Err(error) => {
                log::warn!("what was published under former names is not cleared: {error}");
                self.next = Instant::now() + self.wait;
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum CleanError {
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("{0}")]
    Client(#[from] ClientError),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error(
        "the broker refuses to clear {count} topics, such as {topic}: {reason}; let this device write there, or clear them by hand"
    )]
    Refused { count: usize, topic: String, reason: String },
}

/// `true` if nothing is left that this broker could clear.
fn attempt(
    state: &StateDirectory,
    broker: &Broker,
    topics: &Topics,
    discovery: Option<&str>,
) -> Result<bool, CleanError> {
    let record = Record::open(state)?;
    let former = Former::of(record.all()?, &broker.name(), topics, discovery);
    let due = former.due(topics);
    if due.is_empty() {
        return Ok(true);
    }
    let keys = record.keys()?;
    let clearing = Clearing { broker, device: topics.device().as_str(), keys: &keys };
    let mut fates = BTreeMap::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(clearing.run(&[], &due, &mut fates));
    runtime.shutdown_background();

    let settled = |kept: &&Kept| match fates.get(&kept.topic) {
        Some(Fate::Cleared | Fate::Anothers) => true,
        // Another broker may keep it.
        Some(Fate::NotFound) => kept.broker == broker.name(),
        Some(Fate::Refused(_)) | None => false,
    };
    let mut by_broker: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for kept in due.iter().filter(settled) {
        by_broker.entry(&kept.broker).or_default().push(&kept.topic);
    }
    for (name, topics) in by_broker {
        record.remove(name, topics)?;
    }
    let count = |fate: &Fate| fates.values().filter(|found| *found == fate).count();
    let (cleared, anothers) = (count(&Fate::Cleared), count(&Fate::Anothers));
    if cleared + anothers > 0 {
        log::info!(
            "{cleared} topics of this device's former names are cleared; {anothers} are another device's by now"
        );
    }
    outcome?;
    let mut refused = fates.iter().filter_map(|(topic, fate)| match fate {
        Fate::Refused(reason) => Some((topic.clone(), reason.to_string())),
        _ => None,
    });
    let Some((topic, reason)) = refused.next() else { return Ok(true) };
    Err(CleanError::Refused { count: 1 + refused.count(), topic, reason })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::mqtt::topics::Prefix;

    #[test]
    fn topics_of_another_name_prefix_discovery_or_broker_are_former() {
        let kept = |broker: &str, place: &str, topic: &str| Kept {
            broker: broker.to_owned(),
            topic: topic.to_owned(),
            place: place.to_owned(),
            certain: true,
        };
        let all = vec![
            kept("here", "familiar/porch", "familiar/porch/person/ada"),
            kept("here", "familiar/porch", "homeassistant/device/porch/config"),
            kept("here", "familiar/porch", "ha/device/porch/config"),
            kept("here", "familiar/old", "familiar/old/person/ada"),
            kept("here", "familiar/old", "homeassistant/device/old/config"),
            kept("there", "familiar/porch", "familiar/porch/person/ada"),
            kept("there", "familiar/old", "familiar/old/person/ada"),
            kept("there", "familiar/older", "familiar/older/person/ada"),
        ];
        let prefix = Prefix::try_from("familiar".to_owned()).unwrap();
        let topics = Topics::new(&prefix, &"porch".to_owned().try_into().unwrap());
        let of = |discovery| Former::of(all.clone(), "here", &topics, discovery);
        let former = of(Some("homeassistant/device/porch/config"));
        assert_eq!(former.here, all[2..5]);
        assert_eq!(former.elsewhere, all[5..]);
        // At this broker, too: it may be the other one by another address.
        assert_eq!(former.due(&topics), [&all[2..5], &all[7..]].concat());
        // Discovery turned off.
        assert_eq!(of(None).here, all[1..5]);
    }
}
