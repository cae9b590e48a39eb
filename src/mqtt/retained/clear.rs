//! Has a broker forget what this device published before, over a connection of its own: whatever the broker's access
//! rules make of it, events are not kept back.
//!
//! A name that this device gave up may be another's by now. So it looks first: what another key has signed stays, and
//! so does what is unsigned at a place where another key tells its identity. Where nothing can be seen, because nothing
//! is there or the access rules forbid to read, what is on record as published is cleared all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;
use tokio::time::{Instant, timeout, timeout_at};

use super::Kept;
use crate::event::jws::Envelope;
use crate::mqtt::reason::Reason;
use crate::mqtt::{Broker, ClientError, Connection, Incoming, Session};

/// How long to wait for what a broker keeps, after it granted a subscription or sent the last.
const SILENCE: Duration = Duration::from_millis(500);
/// How long to wait for a grant or an acknowledgement.
const PATIENCE: Duration = Duration::from_secs(10);
/// Topics looked at together.
const AT_ONCE: usize = 64;
/// Messages in flight, at most; fewer if the broker says so.
const WINDOW: usize = 16;

/// What came of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// The broker has forgotten it.
    Cleared,
    /// Another device's by now, and left alone.
    Anothers,
    /// This broker keeps nothing there, and it was not certain that this device published it, or not to this broker.
    NotFound,
    /// The broker does not let us.
    Refused(Reason),
}

/// The message that a broker keeps on a topic, as far as it was seen.
#[derive(Debug, Clone, Copy)]
enum Seen<'a> {
    Nothing,
    Unsigned,
    /// Claims to be of the key with this thumbprint.
    Signed(&'a str),
}

impl<'a> Seen<'a> {
    fn of(message: Option<&'a Option<String>>) -> Self {
        match message {
            None => Self::Nothing,
            Some(None) => Self::Unsigned,
            Some(Some(kid)) => Self::Signed(kid),
        }
    }
}

/// Somebody who clears.
pub struct Clearing<'a> {
    pub broker: &'a Broker,
    /// Names it among the broker's clients.
    pub device: &'a str,
    /// Thumbprints of the keys that this device published by.
    pub keys: &'a BTreeSet<String>,
}

impl Clearing<'_> {
    /// Clears `own`, topics that are this device's now, without looking, then `former` ones. `fates` holds what came of
    /// each, also when the connection breaks in the middle.
    pub async fn run(
        &self,
        own: &[String],
        former: &[Kept],
        fates: &mut BTreeMap<String, Fate>,
    ) -> Result<(), ClientError> {
        let session = Session {
            client_id: format!("familiar-{}-clear-{:08x}", self.device, fastrand::u32(..)),
            will: None,
            expiry: 0,
            clean: true,
        };
        let mut connection = Connection::open(self.broker, &session).await?;
        forget(&mut connection, own.iter().cloned(), fates).await?;
        let mut places: BTreeMap<&str, Vec<&Kept>> = BTreeMap::new();
        for kept in former {
            places.entry(&kept.place).or_default().push(kept);
        }
        for (place, all) in places {
            self.clear_place(&mut connection, place, &all, fates).await?;
        }
        connection.close().await
    }

    async fn clear_place(
        &self,
        connection: &mut Connection,
        place: &str,
        all: &[&Kept],
        fates: &mut BTreeMap<String, Fate>,
    ) -> Result<(), ClientError> {
        let identity = format!("{place}/identity");
        let topics: BTreeSet<&str> =
            all.iter().map(|kept| kept.topic.as_str()).chain([identity.as_str()]).collect();
        let topics: Vec<&str> = topics.into_iter().collect();
        let mut seen = BTreeMap::new();
        for some in topics.chunks(AT_ONCE) {
            look(connection, some, &mut seen).await?;
        }
        let resident = seen.get(&identity).and_then(Option::as_ref).map(|kid| self.owns(kid));
        let mut due = Vec::new();
        for kept in all {
            match self.judge(kept, Seen::of(seen.get(&kept.topic)), resident) {
                Fate::Cleared => due.push(kept.topic.clone()),
                fate => drop(fates.insert(kept.topic.clone(), fate)),
            }
        }
        // Whose place it is can be seen until the rest is gone: a run that is cut short is repeated.
        due.sort_by_key(|topic| *topic == identity);
        forget(connection, due.into_iter(), fates).await
    }

    /// What to do about a topic: `Cleared` if it is to be cleared. `resident`: whether the key that tells its identity
    /// at the place is this device's.
    fn judge(&self, kept: &Kept, seen: Seen<'_>, resident: Option<bool>) -> Fate {
        let here = kept.certain && kept.broker == self.broker.name();
        match (seen, resident) {
            (Seen::Signed(kid), _) if !self.owns(kid) => Fate::Anothers,
            (Seen::Unsigned, Some(false)) => Fate::Anothers,
            (Seen::Nothing, _) if !here => Fate::NotFound,
            // What is there can be read, and this is not.
            (Seen::Nothing, Some(false)) => Fate::NotFound,
            _ => Fate::Cleared,
        }
    }

    fn owns(&self, kid: &str) -> bool {
        self.keys.contains(kid)
    }
}

/// The key that a message claims; enough to see whose it is, and nothing is believed because of it.
fn signer(text: &[u8]) -> Option<String> {
    let envelope = Envelope::parse(std::str::from_utf8(text).ok()?).ok()?;
    Some(envelope.kid().to_owned())
}

/// The key that a discovery message gives as the device's serial number.
fn discovered(text: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Discovery {
        dev: Device,
    }
    #[derive(Deserialize)]
    struct Device {
        sn: String,
    }
    serde_json::from_slice(text).ok().map(|Discovery { dev }| dev.sn)
}

/// Notes which of these topics the broker keeps a message on, and the key that each claims. What it does not keep, or
/// does not let us read, is left out.
async fn look(
    connection: &mut Connection,
    topics: &[&str],
    seen: &mut BTreeMap<String, Option<String>>,
) -> Result<(), ClientError> {
    for topic in topics {
        connection.subscribe(topic)?;
    }
    let mut granted = 0;
    let mut missing: BTreeSet<&str> = topics.iter().copied().collect();
    let mut deadline = Instant::now() + PATIENCE;
    while granted < topics.len() || !missing.is_empty() {
        let Ok(incoming) = timeout_at(deadline, connection.next()).await else {
            break; // it keeps nothing there, or says nothing of it
        };
        match incoming? {
            Incoming::Subscribed { .. } => granted += 1,
            Incoming::Message { topic, payload, .. } => {
                if missing.remove(topic.as_str()) && !payload.is_empty() {
                    let kid = signer(&payload).or_else(|| discovered(&payload));
                    seen.insert(topic, kid);
                }
            }
            Incoming::Acknowledged { .. } => {}
        }
        if granted == topics.len() {
            deadline = Instant::now() + SILENCE;
        }
    }
    Ok(())
}

/// Publishes an empty retained message on each topic, and notes what the broker says to it.
async fn forget(
    connection: &mut Connection,
    mut topics: impl Iterator<Item = String>,
    fates: &mut BTreeMap<String, Fate>,
) -> Result<(), ClientError> {
    let window = WINDOW.min(connection.receive_maximum().into());
    let mut flight: BTreeMap<u16, String> = BTreeMap::new();
    loop {
        while flight.len() < window
            && let Some(topic) = topics.next()
        {
            flight.insert(connection.publish(&topic, "", true)?, topic);
        }
        if flight.is_empty() {
            return Ok(());
        }
        let incoming =
            timeout(PATIENCE, connection.next()).await.map_err(|_| ClientError::Timeout)??;
        if let Incoming::Acknowledged { id, refusal } = incoming
            && let Some(topic) = flight.remove(&id)
        {
            fates.insert(topic, refusal.map_or(Fate::Cleared, Fate::Refused));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::system::state::StateDirectory;

    /// Holds STA-15.
    #[test]
    fn what_may_be_anothers_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDirectory::at(folder.path().to_owned()).unwrap();
        let mqtt = toml::from_str("url = \"mqtt://localhost\"").unwrap();
        let broker = Broker::new(&mqtt, &state).unwrap();
        let keys = BTreeSet::from(["own".to_owned()]);
        let clearing = Clearing { broker: &broker, device: "porch", keys: &keys };
        let kept = |broker: &str, certain| Kept {
            broker: broker.to_owned(),
            topic: "familiar/garden/person/ada".to_owned(),
            place: "familiar/garden".to_owned(),
            certain,
        };
        let (here, there, guess) =
            (kept("localhost", true), kept("elsewhere", true), kept("localhost", false));
        let (own, other, unsigned) = (Seen::Signed("own"), Seen::Signed("other"), Seen::Unsigned);
        for (kept, seen, resident, fate) in [
            (&here, own, Some(false), Fate::Cleared),
            (&here, other, Some(true), Fate::Anothers),
            (&here, unsigned, Some(true), Fate::Cleared),
            (&here, unsigned, Some(false), Fate::Anothers),
            (&here, Seen::Nothing, None, Fate::Cleared),
            (&here, Seen::Nothing, Some(true), Fate::Cleared),
            (&here, Seen::Nothing, Some(false), Fate::NotFound),
            (&there, own, None, Fate::Cleared),
            (&there, Seen::Nothing, Some(true), Fate::NotFound),
            (&guess, own, None, Fate::Cleared),
            (&guess, Seen::Nothing, None, Fate::NotFound),
        ] {
            let judged = clearing.judge(kept, seen, resident);
            assert_eq!(judged, fate, "{kept:?} {seen:?} {resident:?}");
        }
    }

    #[test]
    fn keys_that_messages_claim() {
        let discovery = br#"{"dev":{"ids":["familiar_porch"],"sn":"kid"},"cmps":{}}"#;
        assert_eq!((signer(discovery), discovered(discovery)), (None, Some("kid".to_owned())));
        for text in [&b"online"[..], b"{}", b"", b"\xff"] {
            assert_eq!((signer(text), discovered(text)), (None, None));
        }
    }
}
