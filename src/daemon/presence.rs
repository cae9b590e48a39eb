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
use crate::system::clock::{self, ClockState, Date};
use crate::system::disk;
use crate::system::state::StateDirectory;

/// File in the state directory.
const NAME: &str = "presence.json";
/// A person who stays is told again so often, with a newer `last_seen`.
const REFRESH: SignedDuration = SignedDuration::from_secs(60);
/// Longest register that is read, in bytes: the fullest gallery has less.
const LIMIT: u64 = 8 << 20;

/// A clock that moves by less was not set.
const STEP: SignedDuration = SignedDuration::from_secs(1);

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
    /// `since` was read from a clock that was not synchronised, and has not been put right since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unsynchronized: bool,
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
    /// When the clock was last looked at, and what it said.
    clock: (Instant, Date),
}

#[derive(Debug)]
struct Entry {
    /// Empty until the gallery was read.
    name: String,
    /// `None`: no longer enrolled, the broker has yet to forget the topic.
    kept: Option<Kept>,
    /// Seen by this run of the daemon; what an earlier one left is believed for a time only.
    confirmed: bool,
    /// `since` was noted by this run, and so is known however the clock is set.
    noted: bool,
    /// When the person was last seen, as it was told to this register.
    seen: Option<Timestamp>,
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

impl Kept {
    /// Not here, as of now.
    fn away(date: &Date) -> Self {
        let unsynchronized = date.state == ClockState::Unsynchronized;
        Self { present: false, since: date.time, last_seen: None, unsynchronized }
    }
}

impl Entry {
    fn new(confirmed: bool) -> Self {
        Self {
            name: String::new(),
            kept: None,
            confirmed,
            noted: false,
            seen: None,
            told: None,
            due: true,
        }
    }
}

fn moved_by(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.checked_add(by).unwrap_or(time)
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
        let entry = |kept| Entry { kept, ..Entry::new(false) };
        Self {
            state: state.clone(),
            people: people.into_iter().map(|(id, kept)| (id, entry(kept))).collect(),
            departed_after,
            began: None,
            unsaved: false,
            failed: None,
            reading: 0,
            changed: true,
            clock: (Instant::now(), Date::now()),
        }
    }

    /// Adds people whose topics the broker may keep; whoever of them is not enrolled is cleared.
    pub fn owe(&mut self, people: impl IntoIterator<Item = PersonId>) {
        for id in people {
            self.people.entry(id).or_insert_with(|| Entry::new(false));
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
        self.mind_the_clock(Instant::now(), Date::now());
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
        self.mind_the_clock(Instant::now(), Date::now());
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
            let entry = self.people.entry(id.clone()).or_insert_with(|| Entry::new(true));
            if entry.kept.is_none() {
                entry.kept = Some(Kept::away(&self.clock.1));
                (entry.told, entry.noted) = (None, true);
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
                *entry = Entry::new(false);
                self.unsaved = true;
                self.changed = true;
            }
            entry.due = true;
        }
    }

    /// A clock that was not synchronised is set: what was noted by it moves along, so that `since` says when it was.
    fn mind_the_clock(&mut self, now: Instant, date: Date) {
        let (at, before) = std::mem::replace(&mut self.clock, (now, date));
        if before.state == ClockState::Synchronized {
            return;
        }
        let passed = SignedDuration::try_from(now.saturating_duration_since(at));
        let moved = date.time.duration_since(before.time) - passed.unwrap_or_default();
        let certain = date.state == ClockState::Synchronized;
        if moved.abs() < STEP && !certain {
            return;
        }
        for entry in self.people.values_mut() {
            let Some(kept) = entry.kept.as_mut().filter(|kept| kept.unsynchronized) else {
                continue;
            };
            kept.since = moved_by(kept.since, moved);
            kept.last_seen = kept.last_seen.map(|time| moved_by(time, moved));
            kept.unsynchronized = !(certain && entry.noted);
            entry.due = true;
            self.unsaved = true;
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
                        let last_seen = kept.last_seen;
                        *kept =
                            Kept { present: true, since, last_seen, ..Kept::away(&self.clock.1) };
                        entry.noted = true;
                        self.unsaved = true;
                    }
                    // What was told before may have been put right since.
                    if entry.seen.replace(last_seen) != Some(last_seen) {
                        kept.last_seen = Some(last_seen);
                    }
                    entry.confirmed = true;
                    entry.due = true;
                }
                None if kept.present && (entry.confirmed || settled) => {
                    *kept = Kept { last_seen: kept.last_seen, ..Kept::away(&self.clock.1) };
                    entry.noted = true;
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
                    let path = self.state.file(NAME);
                    let why = disk::told(&path, &error);
                    log::warn!(
                        "{}: {why}; after a restart it is not known who was here",
                        path.display()
                    );
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
    let state = |kept: &Kept| (kept.present, kept.since, kept.unsynchronized);
    stale || told.name != now.name || state(before) != state(after)
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
        clock: if kept.unsynchronized { ClockState::Unsynchronized } else { clock::state() },
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

    /// Holds STA-08.
    #[test]
    fn since_moves_along_when_the_clock_is_put_right() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDirectory::at(folder.path().to_owned()).unwrap();
        let mut register = Register::open(&state, Duration::from_secs(30));
        let ada = PersonRef { id: "ada".parse().unwrap(), name: "Ada".to_owned() };
        let (start, early) = (Instant::now(), Timestamp::UNIX_EPOCH);
        let wrong = |seconds| Date {
            time: early + SignedDuration::from_secs(seconds),
            state: ClockState::Unsynchronized,
        };
        let right: Timestamp = "2026-11-28T12:01:00Z".parse().unwrap();
        register.clock = (start, wrong(0));
        register.enroll(std::slice::from_ref(&ada));
        let here = || {
            std::iter::once(Present {
                person: &ada,
                track: 1,
                since: early,
                last_seen: wrong(10).time,
            })
        };
        register.see(here(), Duration::ZERO);
        let told = |register: &Register| register.people[&ada.id].kept.clone().unwrap();
        assert!(told(&register).present && told(&register).unsynchronized);
        // The clock is stepped a minute after the start, and said to be right only ten seconds later.
        let at = |seconds| start + Duration::from_secs(seconds);
        register.mind_the_clock(at(60), Date { time: right, ..wrong(0) });
        let later = right + SignedDuration::from_secs(10);
        register.mind_the_clock(at(70), Date { time: later, state: ClockState::Synchronized });
        register.see(here(), Duration::from_secs(70));
        let kept = told(&register);
        assert_eq!(kept.since, "2026-11-28T12:00:00Z".parse().unwrap());
        assert_eq!(kept.last_seen, Some("2026-11-28T12:00:10Z".parse().unwrap()));
        assert!(kept.present && !kept.unsynchronized);
        // A jump of a clock that is right moves nothing.
        register
            .mind_the_clock(at(80), Date { time: Timestamp::MAX, state: ClockState::Synchronized });
        assert_eq!(told(&register), kept);
    }

    /// Holds STA-12.
    #[test]
    fn forgotten_person_leaves_nothing_but_the_id() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDirectory::at(folder.path().to_owned()).unwrap();
        let [ada, bo]: [PersonId; 2] = ["ada", "bo"].map(|id| id.parse().unwrap());
        let here =
            Kept { present: true, last_seen: Some(Timestamp::now()), ..Kept::away(&Date::now()) };
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
