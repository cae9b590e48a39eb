//! Whether the broker lets the device in as `run` logs in, and what it lets it hear. Nothing is published.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::{Report, address_rules};
use crate::cli::{Failure, block_on};
use crate::config::Config;
use crate::event::{DeviceKey, Line, identity, jws, jws::Envelope};
use crate::mqtt::discovery;
use crate::mqtt::publisher::{self, Ears, Remembered};
use crate::mqtt::topics::Topics;
use crate::mqtt::{Broker, ClientError, Connection, Incoming, Session};
use crate::system::lock;
use crate::system::state::StateDirectory;

/// How long to wait for grants and for what the broker keeps.
const PATIENCE: Duration = Duration::from_secs(2);
/// What a message has beside topic and text, at most: kind, lengths, packet id, properties.
const ENVELOPE: usize = 10;

/// What was learned over one connection.
#[derive(Default)]
struct Learned {
    /// Filters that the broker did not grant, and why.
    refused: Vec<String>,
    /// What is kept on `identity`.
    identity: Option<Vec<u8>>,
    /// Somebody is logged in as this device.
    online: bool,
    /// Largest packet that the broker takes, in bytes.
    packet_limit: Option<u32>,
}

/// How the login of the daemon itself went.
enum OwnLogin {
    Done,
    /// The daemon runs, and would be thrown off.
    NotTried,
    /// Only without the last will.
    WithoutWill(ClientError),
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
    // A device without a key gets one at its first start; until then any will do.
    let key = DeviceKey::look(state).ok();
    let session = publisher::session(&topics, key.as_ref().map_or("", DeviceKey::kid));
    let alone = !(learned.online || lock::is_held(state));
    let outcome = block_on(log_in(&broker, &session, alone))
        .and_then(|login| login.map_err(|error| own_login_refused(&broker, &session, &error)));
    let Some(login) = report.take("broker", outcome) else { return };
    let plain = mqtt.url.starts_with("mqtt://") && mqtt.allow_plaintext;
    let logged_in = match login {
        OwnLogin::NotTried => {
            format!("logged in at {broker}, beside the daemon, which is there already")
        }
        _ => format!("logged in at {broker}"),
    };
    if plain {
        let why = "the password and who comes and goes can be read on the way: use mqtts://";
        report.warn("broker", format!("{logged_in} in plain text: {why}"));
    } else {
        report.ok("broker", logged_in);
    }
    if let OwnLogin::WithoutWill(error) = login {
        report.warn(
            "rights",
            format!(
                "{error}, but not without the last will: let this user publish on {}, or nobody learns that the \
                 device is off",
                topics.availability()
            ),
        );
    }
    rights(&learned, &broker, state, report);
    packets(&learned, mqtt, &topics, report);
    address_rules::check(&broker, state, report);
    if let Some(told) = learned.identity {
        kept(&told, config, state, report);
    }
}

async fn ask(broker: &Broker, config: &Config, topics: &Topics) -> Result<Learned, ClientError> {
    // By another id than the daemon's: the broker would throw off one that runs.
    let session = Session {
        client_id: format!("familiar-{}-check-{:08x}", config.device, fastrand::u32(..)),
        will: None,
        expiry: 0,
        clean: true,
    };
    let mut connection = Connection::open(broker, &session).await?;
    let mut learned = Learned { packet_limit: connection.packet_limit(), ..Learned::default() };
    let ears = Ears { identity: false, ..Ears::of(config) };
    let wanted = ears.filters(topics);
    // What the daemon asks for, then what is only of use here: it need not be granted.
    let more = [topics.identity(), topics.availability()];
    for filter in wanted.iter().chain(&more) {
        let refusal = match learned.subscribe(&mut connection, filter, topics).await {
            Ok(refusal) => refusal,
            // Some brokers (AWS IoT) hang up on a subscription that they deny.
            Err(error @ (ClientError::Closed | ClientError::Ended(_) | ClientError::Io(_))) => {
                connection = Connection::open(broker, &session).await?;
                Some(error.to_string())
            }
            Err(error) => return Err(error),
        };
        if let Some(why) = refusal
            && wanted.contains(filter)
        {
            learned.refused.push(format!("{filter} ({why})"));
        }
    }
    // What is retained follows the grant at once.
    let short = Instant::now() + PATIENCE / 4;
    while let Ok(incoming) = timeout_at(short, connection.next()).await {
        learned.hear(incoming?, topics);
    }
    connection.close().await?;
    Ok(learned)
}

impl Learned {
    /// Why the broker does not grant a filter; `None` if it does.
    async fn subscribe(
        &mut self,
        connection: &mut Connection,
        filter: &str,
        topics: &Topics,
    ) -> Result<Option<String>, ClientError> {
        let deadline = Instant::now() + PATIENCE;
        let asked = connection.subscribe(filter)?;
        loop {
            match timeout_at(deadline, connection.next()).await {
                Err(_) => return Ok(Some("no answer".to_owned())),
                Ok(Err(error)) => return Err(error),
                Ok(Ok(Incoming::Subscribed { id, refusal })) if id == asked => {
                    return Ok(refusal.map(|reason| reason.to_string()));
                }
                Ok(Ok(incoming)) => self.hear(incoming, topics),
            }
        }
    }

    fn hear(&mut self, incoming: Incoming, topics: &Topics) {
        if let Incoming::Message { topic, payload, .. } = incoming {
            if topic == topics.identity() {
                self.identity = Some(payload.to_vec());
            } else if topic == topics.availability() {
                self.online = payload.as_ref() == b"online";
            }
        }
    }
}

/// Logs in exactly as the daemon does: some brokers tie rights to the client id, or refuse a last will on a topic
/// that the user may not write. It is taken back by the goodbye that follows at once.
async fn log_in(broker: &Broker, session: &Session, alone: bool) -> Result<OwnLogin, ClientError> {
    if !alone {
        return Ok(OwnLogin::NotTried);
    }
    match Connection::open(broker, session).await {
        Ok(connection) => connection.close().await.map(|()| OwnLogin::Done),
        Err(error @ ClientError::Refused(_)) => {
            let without = Session { will: None, ..session.clone() };
            match Connection::open(broker, &without).await {
                Ok(connection) => connection.close().await.map(|()| OwnLogin::WithoutWill(error)),
                Err(_) => Err(error),
            }
        }
        Err(error) => Err(error),
    }
}

fn own_login_refused(broker: &Broker, session: &Session, error: &ClientError) -> Failure {
    Failure::Network(format!(
        "{broker} lets this user in, but not with the daemon's client id, {}: {error}",
        session.client_id
    ))
}

/// What it may hear, and what the daemon found of what it may say.
fn rights(learned: &Learned, broker: &Broker, state: &StateDirectory, report: &mut Report) {
    if !learned.refused.is_empty() {
        report.warn(
            "rights",
            format!(
                "may not subscribe to {}: grant it there, or commands do not arrive",
                learned.refused.join(", ")
            ),
        );
    }
    let found = Remembered::read(state).filter(|found| found.broker == broker.to_string());
    let cannot =
        "what a broker lets one publish shows only by publishing, and this publishes nothing";
    match found {
        Some(found) if !found.left_out.is_empty() => {
            let each: Vec<_> = found
                .left_out
                .iter()
                .map(|left| format!("{}: {}", left.what, left.why))
                .collect();
            report.warn(
                "rights",
                format!("the daemon found at {:.0} what it leaves out: {}", found.time, each.join("; ")),
            );
        }
        _ if !learned.refused.is_empty() => {}
        Some(found) => report.ok(
            "rights",
            format!(
                "the broker took all that the daemon said and asked for, as of {:.0} ({cannot})",
                found.time
            ),
        ),
        None => report.ok(
            "rights",
            format!(
                "the broker grants the subscriptions, though some grant and then deliver nothing (Mosquitto's \
                 acl_file); {cannot}: ask again once the daemon has run, which notes what it is refused"
            ),
        ),
    }
}

/// Whether the broker takes packets as large as the device's.
fn packets(learned: &Learned, mqtt: &crate::config::Mqtt, topics: &Topics, report: &mut Report) {
    let Some(limit) = learned.packet_limit else { return };
    let packet = |topic: usize, text: usize| topic + text + ENVELOPE;
    let event = packet(topics.event().len(), jws::LIMIT);
    let discovery = packet(mqtt.discovery_prefix.len() + 80, discovery::LIMIT);
    let mend = "raise it there (in Mosquitto max_packet_size)";
    if (limit as usize) < event {
        report.fail(
            "packets",
            Failure::Network(format!(
                "the broker takes packets of {limit} bytes at most, and an event or a health report may have {event}: \
                 {mend}, or events are stuck"
            )),
        );
    } else if !mqtt.discovery_prefix.is_empty() && (limit as usize) < discovery {
        report.warn(
            "packets",
            format!(
                "the broker takes packets of {limit} bytes at most; the message by which Home Assistant learns of the \
                 device has up to {discovery}, with 64 people: {mend}, or entities are missing"
            ),
        );
    } else {
        report.ok("packets", format!("the broker takes {limit} bytes, more than any message has"));
    }
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
            "the broker keeps something on `identity` that is not a valid identity: check who may publish there",
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
