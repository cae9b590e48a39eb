//! Other devices that publish under this one's prefix and name, and copies of this one.

use serde::Deserialize;

use super::task::Task;
use super::{RIVALS, lock};
use crate::event::identity;
use crate::event::jws::Envelope;

impl Task {
    /// An identity for this device's prefix and name. It may be its own, of now or of a former key.
    pub fn meet(&mut self, payload: &[u8], retained: bool) {
        let other = std::str::from_utf8(payload)
            .ok()
            .and_then(|text| Envelope::parse(text).ok())
            .and_then(|envelope| identity::introduction(envelope).ok());
        let Some(other) = other.filter(|other| other.device == self.topics.device().as_str())
        else {
            return;
        };
        let (kid, place) = (other.key.kid(), self.topics.place());
        if lock(&self.shared.noted).is_own(kid) {
            return;
        }
        self.note_rival(if retained {
            format!(
                "the broker kept another key for {place}, {kid}: another device has this prefix and name, or it is this \
                 one's from before its state was lost"
            )
        } else {
            format!(
                "another device publishes as {place}, with key {kid}: it has the same prefix and name; give one of them \
                 another `device` or `prefix`"
            )
        });
    }

    /// A health report for this device's prefix and name. If it names this device's key but another start, and came after
    /// the broker had taken this one's, a copy of the device runs. Some brokers (Mosquitto 2.0.11) throw the older of
    /// two clients off without a word, and this is the only sign. No signature is looked at, for this is only a notice.
    pub fn meet_copy(&mut self, payload: &[u8]) {
        let own = lock(&self.shared.board).text_after_taken(&self.topics.health());
        let own = own.and_then(|own| start_of(own.as_bytes()));
        if let (Some((_, own)), Some((kid, other))) = (own, start_of(payload))
            && own != other
            && lock(&self.shared.noted).is_own(&kid)
        {
            self.note_copy();
        }
    }

    pub fn note_copy(&mut self) {
        let client = &self.session.client_id;
        self.note_rival(format!(
            "another client logs in as {client}: a copy of this device's state is in use elsewhere; give each device a \
             state and a name of its own"
        ));
    }

    fn note_rival(&mut self, rival: String) {
        let known = self.status().rival.replace(rival.clone());
        if known.as_ref() != Some(&rival) && self.rivals < RIVALS {
            self.rivals += 1;
            log::error!("{}: {rival}", self.broker);
        }
    }
}

/// The key that a health report claims, and the start of the program that it names.
fn start_of(report: &[u8]) -> Option<(String, String)> {
    #[derive(Deserialize)]
    struct Report {
        boot: String,
    }
    let envelope = Envelope::parse(std::str::from_utf8(report).ok()?).ok()?;
    let Report { boot } = serde_json::from_str(envelope.unproven_payload()).ok()?;
    Some((envelope.kid().to_owned(), boot))
}
