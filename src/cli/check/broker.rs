//! Whether the broker lets the device in, and what it lets it hear. Nothing is published.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::Report;
use crate::cli::{Failure, block_on};
use crate::config::Config;
use crate::event::{DeviceKey, Line, identity, jws::Envelope};
use crate::mqtt::topics::Topics;
use crate::mqtt::{Broker, ClientError, Connection, Incoming, Session};
use crate::system::state::StateDirectory;

/// How long to wait for grants and for what the broker keeps.
const PATIENCE: Duration = Duration::from_secs(2);

/// What was learned over one connection.
#[derive(Default)]
struct Learned {
    /// Filters that the broker did not grant.
    refused: Vec<String>,
    /// What is kept on `identity`.
    identity: Option<Vec<u8>>,
}

pub fn check(config: &Config, state: &StateDirectory, report: &mut Report) {
    let Some(mqtt) = &config.mqtt else {
        return report.warn("broker", "no [mqtt]: events stay in the local outbox");
    };
    let Some(broker) = report.take("broker", Broker::new(mqtt, state).map_err(Failure::from))
    else {
        return;
    };
    let topics = Topics::new(broker.prefix(), &config.device);
    let outcome = block_on(ask(&broker, config, &topics))
        .and_then(|asked| asked.map_err(|error| Failure::Network(format!("{broker}: {error}"))));
    let Some(learned) = report.take("broker", outcome) else { return };
    let plain = mqtt.url.starts_with("mqtt://") && mqtt.allow_plaintext;
    let logged_in = format!("logged in at {broker}");
    if plain {
        let why = "the password and who comes and goes can be read on the way: use mqtts://";
        report.warn("broker", format!("{logged_in} in plain text: {why}"));
    } else {
        report.ok("broker", logged_in);
    }
    if learned.refused.is_empty() {
        report.ok(
            "rights",
            "may subscribe to its commands; whether it may publish, `health` will say",
        );
    } else {
        report.warn(
            "rights",
            format!(
                "may not subscribe to {}: grant it there, or commands do not arrive",
                learned.refused.join(", ")
            ),
        );
    }
    if let Some(told) = learned.identity {
        kept(&told, config, state, report);
    }
}

async fn ask(broker: &Broker, config: &Config, topics: &Topics) -> Result<Learned, ClientError> {
    let session = Session {
        client_id: format!("familiar-{}-check-{:08x}", config.device, fastrand::u32(..)),
        will: None,
        expiry: 0,
        clean: true,
    };
    let mut connection = Connection::open(broker, &session).await?;
    let mut learned = Learned::default();
    let deadline = Instant::now() + PATIENCE;
    // One after the other: an answer tells no filter.
    for filter in [topics.command(), topics.set("#"), topics.identity()] {
        connection.subscribe(&filter)?;
        loop {
            match timeout_at(deadline, connection.next()).await {
                Err(_) => break,
                Ok(Err(error)) => return Err(error),
                Ok(Ok(Incoming::Subscribed { refusal, .. })) => {
                    if refusal.is_some() && filter != topics.identity() {
                        learned.refused.push(filter);
                    }
                    break;
                }
                Ok(Ok(_)) => {}
            }
        }
    }
    // What is retained follows the grant at once.
    let short = deadline.min(Instant::now() + PATIENCE / 4);
    while let Ok(incoming) = timeout_at(short, connection.next()).await {
        match incoming? {
            Incoming::Message { topic, payload, .. } if topic == topics.identity() => {
                learned.identity = Some(payload.to_vec());
                break;
            }
            _ => {}
        }
    }
    connection.close().await?;
    Ok(learned)
}

/// Who the broker keeps under this device's name.
fn kept(told: &[u8], config: &Config, state: &StateDirectory, report: &mut Report) {
    let met = std::str::from_utf8(told)
        .ok()
        .and_then(|text| Envelope::parse(text).ok())
        .and_then(|envelope| identity::introduction(envelope).ok());
    let own = DeviceKey::look(state).ok().map(|key| key.line());
    let ours = |line: &Line, kid: &str| line.ring().get(kid).is_some();
    match (met, own) {
        (Some(met), Some(own)) if ours(&own, met.key.kid()) => {
            report.ok("identity", "the broker keeps this device's identity: it has published before");
        }
        (None, _) => report.warn(
            "identity",
            "the broker keeps something on `identity` that no device said: who may publish there?",
        ),
        (Some(met), _) => report.warn(
            "identity",
            format!(
                "the broker keeps another key, {}, for the name {}: another device of that name, or this one \
                 before its state was lost; consumers will refuse one of them",
                met.key.kid(),
                config.device
            ),
        ),
    }
}
