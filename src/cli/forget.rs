//! `familiar forget`: erase a person.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::timeout;

use super::people::{open, print_json};
use super::{Failure, Global, block_on};
use crate::config::{self, DeviceName};
use crate::daemon::presence;
use crate::event::{self, Context, Fact};
use crate::mqtt::topics::Topics;
use crate::mqtt::{Broker, ClientError, Connection, Incoming, Session};
use crate::recognition::PersonId;
use crate::system::state::StateDirectory;

/// For the broker to clear who was present; without an answer the daemon does it later.
const PATIENCE: Duration = Duration::from_secs(5);

/// Erase a person
///
/// Templates and name are wiped from the store first; then the signed `erased` event is put into the outbox,
/// for the daemon to publish, and the broker is asked to forget whether the person was here. What a crash cuts
/// short is finished by the daemon's next start, or by calling this again, which then erases those as well. What
/// --json prints: docs/people.md.
///
/// A negative anchor (`familiar enroll --negative`) is wiped likewise, without an event: none told that it was there.
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
    if let Some(mqtt) = &config.mqtt
        && let Err(error) = clear(&erased, mqtt, &device, &state)
    {
        log::warn!(
            "the broker still keeps who was present; the daemon clears it when it runs: {error}"
        );
    }
    told(global, &erased)
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

/// Has the broker forget the retained presence of these people. A running daemon does so too; this is for
/// when none runs.
fn clear(
    people: &[PersonId],
    mqtt: &config::Mqtt,
    device: &DeviceName,
    state: &StateDirectory,
) -> Result<(), Failure> {
    let broker = Broker::new(mqtt, state)?;
    let topics = Topics::new(broker.prefix(), device);
    let session = Session {
        client_id: format!("familiar-{device}-forget-{:08x}", fastrand::u32(..)),
        will: None,
        expiry: 0,
        clean: true,
    };
    let cleared = async {
        let mut connection = Connection::open(&broker, &session).await?;
        for person in people {
            let id = connection.publish(&topics.person(person), "", true)?;
            loop {
                match connection.next().await? {
                    Incoming::Acknowledged { id: of, refusal: None } if of == id => break,
                    Incoming::Acknowledged { refusal: Some(reason), .. } => {
                        return Err(ClientError::Ended(format!("{reason:?}")));
                    }
                    _ => {}
                }
            }
        }
        connection.close().await
    };
    block_on(async { timeout(PATIENCE, cleared).await })?
        .map_err(|_| ClientError::Timeout)
        .flatten()
        .map_err(|error| Failure::Network(format!("{broker}: {error}")))
}
