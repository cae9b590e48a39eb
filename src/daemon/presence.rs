//! Who is here, told as one retained, signed state for each enrolled person (contract §4, `person/ID`).
//!
//! The register survives a restart: a person who was here when the daemon stopped counts as here until
//! the daemon has watched for `departed_after` without a sight of them, and topics of people who were
//! forgotten in the meantime are still cleared.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::people::People;
use super::voice::Voice;
use crate::event::Typ;
use crate::recognition::watch::Present;
use crate::recognition::{PersonId, PersonRef};
use crate::system::clock::{self, ClockState};
use crate::system::state::StateDirectory;

/// File in the state directory.
const NAME: &str = "presence.json";
/// A person who stays is told again so often, with a newer `last_seen`.
const REFRESH: SignedDuration = SignedDuration::from_secs(60);
/// Longest register that is read, in bytes: the fullest gallery has less.
const LIMIT: u64 = 8 << 20;

pub struct Register {
    state: StateDirectory,
    people: BTreeMap<PersonId, Entry>,
    departed_after: Duration,
    /// Where the time line was when watching began.
    began: Option<Duration>,
    /// The file is behind.
    unsaved: bool,
    /// The last write failed; say it once.
    failing: bool,
    /// The reading of the gallery that was taken over last.
    reading: u64,
    /// People or names changed since [`Register::take_change`].
    changed: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    present: bool,
    /// Of the last change; the beginning of this appearance, or the end of the last.
    since: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen: Option<Timestamp>,
    /// Seen by this run of the daemon; what an earlier one left is believed for a time only.
    #[serde(skip)]
    confirmed: bool,
    /// `None`: no longer enrolled, the broker has yet to forget the topic.
    #[serde(skip)]
    name: Option<String>,
    #[serde(skip)]
    told: Option<Told>,
    /// Something of it may have changed.
    #[serde(skip)]
    due: bool,
}

/// What was last said of a person.
#[derive(Debug, Clone, PartialEq)]
struct Told {
    name: Option<String>,
    present: bool,
    since: Timestamp,
    last_seen: Option<Timestamp>,
}

#[derive(Serialize)]
struct Payload<'a> {
    v: u8,
    device: &'a str,
    person: Person<'a>,
    present: bool,
    since: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen: Option<String>,
    time: String,
    clock: ClockState,
}

#[derive(Serialize)]
struct Person<'a> {
    id: &'a str,
    name: &'a str,
}

impl Register {
    /// Reads what an earlier run left. A file that cannot be read is begun anew, with a word: it holds
    /// nothing that the next sight of a person does not bring back.
    pub fn open(state: &StateDirectory, departed_after: Duration) -> Self {
        let path = state.file(NAME);
        let people = read(&path).unwrap_or_else(|what| {
            log::warn!("{}: {what}; who was here last is not known", path.display());
            BTreeMap::new()
        });
        Self {
            state: state.clone(),
            people,
            departed_after,
            began: None,
            unsaved: false,
            failing: false,
            reading: 0,
            changed: true,
        }
    }

    pub fn departed_after(&mut self, time: Duration) {
        self.departed_after = time;
    }

    /// Takes over who is enrolled, and who is present at `media` of the time line that is watched (`None`:
    /// nobody watches), then tells what changed.
    pub fn update<'a>(
        &mut self,
        people: &People,
        present: impl Iterator<Item = Present<'a>>,
        media: Option<Duration>,
        voice: &Voice,
    ) {
        // Galleries can be large, and this is asked with every frame.
        if self.reading != people.reading() {
            self.reading = people.reading();
            self.enroll(people.enrolled());
        }
        if let Some(media) = media {
            self.see(present, media);
        }
        self.tell(voice);
        self.save();
    }

    /// A new publisher knows of nothing.
    pub fn tell_all_again(&mut self) {
        for entry in self.people.values_mut() {
            entry.told = None;
            entry.due = true;
        }
        self.changed = true;
    }

    /// Whether people came, went or were renamed since this was last asked.
    pub fn take_change(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// People whose topics the broker has yet to forget.
    pub fn gone(&self) -> Vec<PersonId> {
        let gone = self.people.iter().filter(|(_, entry)| entry.name.is_none());
        gone.map(|(id, _)| id.clone()).collect()
    }

    /// How many are held to be present.
    pub fn present(&self) -> usize {
        self.people.values().filter(|entry| entry.present && entry.name.is_some()).count()
    }

    /// Drops people whose topics the broker has forgotten.
    pub fn settle(&mut self, is_settled: impl Fn(&PersonId) -> bool) {
        let before = self.people.len();
        self.people
            .retain(|id, entry| entry.name.is_some() || entry.told.is_none() || !is_settled(id));
        if self.people.len() != before {
            self.unsaved = true;
            self.changed = true;
            self.save();
        }
    }

    fn enroll(&mut self, enrolled: &[PersonRef]) {
        for person in enrolled {
            let entry = self.people.entry(person.id.clone()).or_insert_with(|| {
                self.unsaved = true;
                Entry {
                    present: false,
                    since: Timestamp::now(),
                    last_seen: None,
                    confirmed: true,
                    name: None,
                    told: None,
                    due: true,
                }
            });
            if entry.name.as_ref() != Some(&person.name) {
                entry.name = Some(person.name.clone());
                entry.told = None;
                self.changed = true;
            }
        }
        let enrolled: BTreeSet<&PersonId> = enrolled.iter().map(|person| &person.id).collect();
        for (id, entry) in &mut self.people {
            if entry.name.is_some() && !enrolled.contains(id) {
                entry.name = None;
                entry.told = None;
                self.changed = true;
            }
            // Also who was forgotten while the daemon did not run.
            entry.due = true;
        }
    }

    fn see<'a>(&mut self, present: impl Iterator<Item = Present<'a>>, media: Duration) {
        let began = *self.began.get_or_insert(media);
        let mut here = BTreeMap::new();
        for present in present {
            here.insert(&present.person.id, (present.since, present.last_seen));
        }
        let settled = media.saturating_sub(began) >= self.departed_after;
        for (id, entry) in &mut self.people {
            match here.get(id) {
                Some(&(since, last_seen)) => {
                    if !entry.present || !entry.confirmed {
                        // Here across a restart is here all along.
                        entry.since = if entry.present { entry.since } else { since };
                        entry.present = true;
                        self.unsaved = true;
                    }
                    entry.confirmed = true;
                    entry.last_seen = Some(last_seen);
                    entry.due = true;
                }
                None if entry.present && (entry.confirmed || settled) => {
                    entry.present = false;
                    entry.confirmed = true;
                    entry.since = Timestamp::now();
                    entry.due = true;
                    self.unsaved = true;
                }
                None => {}
            }
        }
    }

    fn tell(&mut self, voice: &Voice) {
        for (id, entry) in &mut self.people {
            if !std::mem::take(&mut entry.due) {
                continue;
            }
            let now = Told {
                name: entry.name.clone(),
                present: entry.present,
                since: entry.since,
                last_seen: entry.last_seen,
            };
            if entry.told.as_ref().is_some_and(|told| !news(told, &now)) {
                continue;
            }
            let topic = voice.topics().person(id);
            match &entry.name {
                Some(name) => {
                    let payload = payload(voice.device().as_str(), id, name, entry);
                    voice.state(Typ::Presence, topic, &payload);
                }
                None => voice.clear(topic),
            }
            if entry.last_seen.is_some() {
                self.unsaved = true;
            }
            entry.told = Some(now);
        }
    }

    fn save(&mut self) {
        if !self.unsaved {
            return;
        }
        // A disk that takes nothing: what is told goes on, and the next change tries again.
        self.unsaved = false;
        let written = serde_json::to_vec(&self.people)
            .map_err(std::io::Error::from)
            .and_then(|text| self.state.replace(NAME, &text));
        match written {
            Ok(()) => self.failing = false,
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    log::warn!("{NAME}: {error}; after a restart it is not known who was here");
                }
            }
        }
    }
}

/// Whether it is worth a message. A name or a state is at once, a newer `last_seen` once a minute.
fn news(told: &Told, now: &Told) -> bool {
    let stale = match (told.last_seen, now.last_seen) {
        // Either way: the clock may have jumped.
        (Some(before), Some(after)) => after.duration_since(before).abs() >= REFRESH,
        (before, after) => before != after,
    };
    stale || Told { last_seen: told.last_seen, ..now.clone() } != *told
}

fn payload(device: &str, id: &PersonId, name: &str, entry: &Entry) -> String {
    let payload = Payload {
        v: 1,
        device,
        person: Person { id: id.as_str(), name },
        present: entry.present,
        since: format!("{:.3}", entry.since),
        last_seen: entry.last_seen.map(|time| format!("{time:.3}")),
        time: format!("{:.3}", Timestamp::now()),
        clock: clock::state(),
    };
    // Strings, booleans and numbers only: this cannot fail.
    serde_json::to_string(&payload).unwrap_or_default()
}

fn read(path: &Path) -> Result<BTreeMap<PersonId, Entry>, String> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error.to_string()),
        Ok(metadata) if metadata.len() > LIMIT => return Err("too long".to_owned()),
        Ok(_) => {}
    }
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    serde_json::from_slice(&bytes).map_err(|error| error.to_string())
}
