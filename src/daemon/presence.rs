//! Who is here, told as one retained, signed state for each enrolled person (contract §4, `person/ID`).
//!
//! The register survives a restart: a person who was here when the daemon stopped counts as here until
//! the daemon has watched for `departed_after` without a sight of them, and topics of people who were
//! forgotten in the meantime are still cleared.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

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

/// How often a disk that took nothing is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// What is kept of one person's presence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    pub present: bool,
    /// Of the last change; the beginning of this appearance, or the end of the last.
    pub since: Timestamp,
    #[serde(default)]
    pub last_seen: Option<Timestamp>,
}

/// What the file holds on one person; a file that cannot be read holds nothing that can be told.
pub fn kept(state: &StateDirectory, id: &PersonId) -> Option<Kept> {
    read(&state.file(NAME)).ok()?.remove(id)?
}

/// Whether anybody's presence was ever told of from here.
pub fn was_told(state: &StateDirectory) -> bool {
    state.file(NAME).exists()
}

/// Leaves nothing of a person but the id, until the broker has cleared the topic.
pub fn forget(state: &StateDirectory, id: &PersonId) -> std::io::Result<()> {
    match read(&state.file(NAME)) {
        Ok(mut people) if people.get(id).is_some_and(Option::is_some) => {
            people.insert(id.clone(), None);
            write(state, &people)
        }
        _ => Ok(()),
    }
}

pub(super) struct Register {
    state: StateDirectory,
    people: BTreeMap<PersonId, Entry>,
    departed_after: Duration,
    /// Where the time line was when watching began.
    began: Option<Duration>,
    /// The file is behind.
    unsaved: bool,
    /// When the last write failed.
    failed: Option<Instant>,
    /// The reading of the gallery that was taken over last.
    reading: u64,
    /// People or names changed since [`Register::take_change`].
    changed: bool,
}

#[derive(Debug)]
struct Entry {
    /// Empty until the gallery was read.
    name: String,
    /// `None`: no longer enrolled, the broker has yet to forget the topic.
    kept: Option<Kept>,
    /// Seen by this run of the daemon; what an earlier one left is believed for a time only.
    confirmed: bool,
    told: Option<Told>,
    /// Something of it may have changed.
    due: bool,
}

/// What was last said of a person.
#[derive(Debug, Clone, PartialEq)]
struct Told {
    name: String,
    kept: Option<Kept>,
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
        let entry =
            |kept| Entry { name: String::new(), kept, confirmed: false, told: None, due: true };
        Self {
            state: state.clone(),
            people: people.into_iter().map(|(id, kept)| (id, entry(kept))).collect(),
            departed_after,
            began: None,
            unsaved: false,
            failed: None,
            reading: 0,
            changed: true,
        }
    }

    /// Adds people whose topics the broker may keep; whoever of them is not enrolled is cleared.
    pub fn owe(&mut self, people: impl IntoIterator<Item = PersonId>) {
        for id in people {
            self.people.entry(id).or_insert_with(|| Entry {
                name: String::new(),
                kept: None,
                confirmed: false,
                told: None,
                due: true,
            });
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
        self.take_over(people);
        if let Some(media) = media {
            self.see(present, media);
        }
        // Before it is told: whoever is told of is to be cleared one day.
        self.save();
        self.tell(voice);
    }

    /// The same without a broker: there is nobody to tell, and nothing to clear.
    pub fn update_alone(&mut self, people: &People) {
        self.take_over(people);
        let before = self.people.len();
        self.people.retain(|_, entry| entry.kept.is_some());
        self.unsaved |= self.people.len() != before;
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
        let gone = self.people.iter().filter(|(_, entry)| entry.kept.is_none());
        gone.map(|(id, _)| id.clone()).collect()
    }

    /// How many are held to be present.
    pub fn present(&self) -> usize {
        let here = |entry: &&Entry| entry.kept.as_ref().is_some_and(|kept| kept.present);
        self.people.values().filter(here).count()
    }

    /// Drops people whose topics the broker has forgotten.
    pub fn settle(&mut self, is_settled: impl Fn(&PersonId) -> bool) {
        let before = self.people.len();
        self.people
            .retain(|id, entry| entry.kept.is_some() || entry.told.is_none() || !is_settled(id));
        if self.people.len() != before {
            self.unsaved = true;
            self.changed = true;
        }
    }

    /// Galleries can be large, and this is asked with every frame: only what was read anew is taken over.
    fn take_over(&mut self, people: &People) {
        if self.reading != people.reading() {
            self.reading = people.reading();
            self.enroll(people.enrolled());
        }
    }

    fn enroll(&mut self, enrolled: &[PersonRef]) {
        for PersonRef { id, name } in enrolled {
            let entry = self.people.entry(id.clone()).or_insert_with(|| Entry {
                name: String::new(),
                kept: None,
                confirmed: true,
                told: None,
                due: true,
            });
            if entry.kept.is_none() {
                entry.kept =
                    Some(Kept { present: false, since: Timestamp::now(), last_seen: None });
                entry.told = None;
                self.unsaved = true;
                self.changed = true;
            }
            if entry.name != *name {
                entry.name.clone_from(name);
                entry.told = None;
                self.changed = true;
            }
        }
        let enrolled: BTreeSet<&PersonId> = enrolled.iter().map(|person| &person.id).collect();
        for (id, entry) in &mut self.people {
            if entry.kept.is_some() && !enrolled.contains(id) {
                // Nothing is left of them but whose topic is to be cleared.
                *entry = Entry {
                    name: String::new(),
                    kept: None,
                    confirmed: false,
                    told: None,
                    due: true,
                };
                self.unsaved = true;
                self.changed = true;
            }
            entry.due = true;
        }
    }

    fn see<'a>(&mut self, present: impl Iterator<Item = Present<'a>>, media: Duration) {
        let began = *self.began.get_or_insert(media);
        let here: BTreeMap<&PersonId, (Timestamp, Timestamp)> = present
            .map(|present| (&present.person.id, (present.since, present.last_seen)))
            .collect();
        let settled = media.saturating_sub(began) >= self.departed_after;
        for (id, entry) in &mut self.people {
            let Some(kept) = &mut entry.kept else { continue };
            match here.get(id) {
                Some(&(since, last_seen)) => {
                    // Here across a restart is here all along.
                    if !kept.present {
                        kept.present = true;
                        kept.since = since;
                        self.unsaved = true;
                    }
                    kept.last_seen = Some(last_seen);
                    entry.confirmed = true;
                    entry.due = true;
                }
                None if kept.present && (entry.confirmed || settled) => {
                    kept.present = false;
                    kept.since = Timestamp::now();
                    entry.confirmed = true;
                    entry.due = true;
                    self.unsaved = true;
                }
                None => {}
            }
        }
    }

    fn tell(&mut self, voice: &Voice) {
        // Together: a disk takes long for each of many.
        let first = self
            .people
            .iter()
            .filter(|(_, entry)| entry.due && entry.told.is_none() && entry.kept.is_some());
        let first: Vec<String> = first.map(|(id, _)| voice.topics().person(id)).collect();
        if first.len() > 1 {
            voice.publisher().note(&first);
        }
        for (id, entry) in &mut self.people {
            if !std::mem::take(&mut entry.due) {
                continue;
            }
            let now = Told { name: entry.name.clone(), kept: entry.kept.clone() };
            if entry.told.as_ref().is_some_and(|told| !news(told, &now)) {
                continue;
            }
            let topic = voice.topics().person(id);
            match &now.kept {
                Some(kept) => {
                    let payload = payload(voice.device().as_str(), id, &now.name, kept);
                    voice.state(Typ::Presence, topic, &payload);
                    // A newer `last_seen` is kept as often as it is told.
                    self.unsaved |= kept.last_seen.is_some();
                }
                None => voice.clear(topic),
            }
            entry.told = Some(now);
        }
    }

    /// A disk that takes nothing is tried again; what is told goes on.
    fn save(&mut self) {
        if !self.unsaved || self.failed.is_some_and(|failed| failed.elapsed() < AGAIN) {
            return;
        }
        let people: BTreeMap<&PersonId, &Option<Kept>> =
            self.people.iter().map(|(id, entry)| (id, &entry.kept)).collect();
        match write(&self.state, &people) {
            Ok(()) => {
                self.unsaved = false;
                self.failed = None;
            }
            Err(error) => {
                if self.failed.replace(Instant::now()).is_none() {
                    log::warn!("{NAME}: {error}; after a restart it is not known who was here");
                }
            }
        }
    }
}

/// Whether it is worth a message. A name or a state is at once, a newer `last_seen` once a minute.
fn news(told: &Told, now: &Told) -> bool {
    let (Some(before), Some(after)) = (&told.kept, &now.kept) else { return told != now };
    let stale = match (before.last_seen, after.last_seen) {
        // Either way: the clock may have jumped.
        (Some(before), Some(after)) => after.duration_since(before).abs() >= REFRESH,
        (before, after) => before != after,
    };
    stale || told.name != now.name || (before.present, before.since) != (after.present, after.since)
}

fn payload(device: &str, id: &PersonId, name: &str, kept: &Kept) -> String {
    let payload = Payload {
        v: 1,
        device,
        person: Person { id: id.as_str(), name },
        present: kept.present,
        since: format!("{:.3}", kept.since),
        last_seen: kept.last_seen.map(|time| format!("{time:.3}")),
        time: format!("{:.3}", Timestamp::now()),
        clock: clock::state(),
    };
    // Strings, booleans and numbers only: this cannot fail.
    serde_json::to_string(&payload).unwrap_or_default()
}

fn write(state: &StateDirectory, people: &impl Serialize) -> std::io::Result<()> {
    state.replace(NAME, &serde_json::to_vec(people)?)
}

fn read(path: &Path) -> Result<BTreeMap<PersonId, Option<Kept>>, String> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error.to_string()),
        Ok(metadata) if metadata.len() > LIMIT => return Err("too long".to_owned()),
        Ok(_) => {}
    }
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    serde_json::from_slice(&bytes).map_err(|error| error.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn forgotten_person_leaves_nothing_but_the_id() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDirectory::at(folder.path().to_owned()).unwrap();
        let [ada, bo]: [PersonId; 2] = ["ada", "bo"].map(|id| id.parse().unwrap());
        let here =
            Kept { present: true, since: Timestamp::now(), last_seen: Some(Timestamp::now()) };
        let both = BTreeMap::from([(&ada, &here), (&bo, &here)]);
        write(&state, &both).unwrap();
        forget(&state, &ada).unwrap();
        assert_eq!((kept(&state, &ada), kept(&state, &bo)), (None, Some(here)));
        assert_eq!(read(&state.file(NAME)).unwrap().get(&ada), Some(&None), "the topic is owed");
        // Nobody of that id: nothing to do, and no file is made.
        forget(&StateDirectory::at(folder.path().join("else")).unwrap(), &ada).unwrap();
        assert!(!folder.path().join("else").join(NAME).exists());
    }
}
