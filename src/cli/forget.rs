//! `familiar forget`: erase a person.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::timeout;

use super::people::{open, print_json};
use super::{Failure, Global, block_on};
use crate::config::{self, DeviceName};
use crate::daemon::former::Former;
use crate::daemon::presence;
use crate::event::{self, Context, Fact};
use crate::mqtt::retained::clear::{Clearing, Fate};
use crate::mqtt::retained::{Kept, Record, RecordError};
use crate::mqtt::topics::Topics;
use crate::mqtt::{Broker, ClientError};
use crate::recognition::PersonId;
use crate::system::state::StateDirectory;

/// For the broker to clear who was present; without an answer the daemon does it later.
const PATIENCE: Duration = Duration::from_secs(10);

/// Erase a person
///
/// Templates and name are wiped from the store first; then the signed `erased` event is put into the outbox,
/// for the daemon to publish, and the broker is asked to forget whether the person was here, under this name of the
/// device and every former one. What a crash cuts short is finished by the daemon's next start, or by calling this
/// again, which then erases those as well. What --json prints: docs/people.md.
///
/// A negative anchor (`familiar enroll --negative`) is erased as well; no event is sent.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  familiar forget ada")]
pub struct Args {
    /// Of a person, or of a face that is not to be named
    id: PersonId,
}

pub fn run(global: &Global, Args { id }: Args) -> Result<(), Failure> {
    let config = global.located()?.config;
    let device = config.device.clone();
    let state = StateDirectory::open()?;
    let mut gallery = open()?;
    if gallery.erase_anchor(&id)? {
        return told(global, &[id]);
    }
    // The key and the ledger first: what cannot be told must not be begun.
    let context = Context::new(config.device.clone(), &config.camera.source, None);
    let (_, ledger) = event::open(&state, context, (&config.outbox).into())
        .map_err(super::key::rotation_failure)?;

    let known = gallery.begin_erasure(&id).map(drop);
    // Pays older debts too, even if this id is unknown.
    let erased = gallery.settle_erasures(|person| {
        let fact = Fact::Erased { person: person.clone(), time: Timestamp::now() };
        ledger.record(&fact).map(drop).map_err(Failure::failed)
    })?;
    known?;
    for person in &erased {
        presence::forget(&state, person).map_err(|error| {
            Failure::failed(format!("{person} is erased, but not from presence.json: {error}"))
        })?;
    }
    let kept = Record::find(&state)
        .and_then(|record| record.map_or(Ok(Known::default()), Known::of))
        .unwrap_or_else(|error| {
            log::warn!("where else these people were published is not known: {error}");
            Known::default()
        });
    let mut known = Known { topics: of(&erased, kept.topics), ..kept };
    if let Some(mqtt) = &config.mqtt {
        if let Err(error) = clear(&erased, &known, mqtt, &device, &state) {
            log::warn!(
                "the broker still keeps who was present; the daemon clears it when it runs: {error}"
            );
        }
        let here = Broker::name_of(&mqtt.url).unwrap_or_default();
        known.topics.retain(|kept| kept.broker != here);
    }
    for Kept { broker, topic, .. } in &known.topics {
        log::warn!(
            "{broker}, which is not configured any more, may still keep {topic}; clear it there: \
             mosquitto_pub -h {broker} -r -n -t {topic}"
        );
    }
    told(global, &erased)
}

/// What the record tells.
#[derive(Default)]
struct Known {
    topics: Vec<Kept>,
    keys: BTreeSet<String>,
}

impl Known {
    fn of(record: Record) -> Result<Self, RecordError> {
        Ok(Self { topics: record.all()?, keys: record.keys()? })
    }
}

fn of(people: &[PersonId], all: Vec<Kept>) -> Vec<Kept> {
    all.into_iter().filter(|kept| people.iter().any(|person| kept.is_of(person))).collect()
}

fn told(global: &Global, erased: &[PersonId]) -> Result<(), Failure> {
    if global.json {
        return print_json(&serde_json::json!({ "erased": erased }));
    }
    for id in erased {
        println!("{id}: erased");
    }
    Ok(())
}

/// Has the broker forget the retained presence of these people, under this name of the device and every former one. A
/// running daemon does so too; this is for when none runs. The record stays as it is: the daemon, which may be about to
/// publish once more, clears again.
fn clear(
    people: &[PersonId],
    known: &Known,
    mqtt: &config::Mqtt,
    device: &DeviceName,
    state: &StateDirectory,
) -> Result<(), Failure> {
    let broker = Broker::new(mqtt, state)?;
    let topics = Topics::new(broker.prefix(), device);
    let own: Vec<String> = people.iter().map(|person| topics.person(person)).collect();
    let former = Former::of(known.topics.clone(), &broker.name(), &topics, None);
    let due = former.due(&topics);
    let clearing = Clearing { broker: &broker, device: device.as_str(), keys: &known.keys };
    let mut fates = BTreeMap::new();
    let outcome =
        block_on(async { timeout(PATIENCE, clearing.run(&own, &due, &mut fates)).await })?;
    outcome
        .map_err(|_| ClientError::Timeout)
        .flatten()
        .map_err(|error| Failure::Network(format!("{broker}: {error}")))?;
    for (topic, fate) in &fates {
        match fate {
            Fate::Refused(reason) => log::warn!(
                "the broker still keeps {topic}, and refuses to clear it: {reason}; the daemon tries again when it runs"
            ),
            Fate::Anothers => log::info!("{topic} is another device's by now, and stays"),
            Fate::Cleared | Fate::NotFound => {}
        }
    }
    Ok(())
}
