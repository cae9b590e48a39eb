//! The enrolled people as the running daemon knows them: kept in memory, read again when another
//! process has enrolled, renamed or forgotten someone. Whose time is over is erased.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::DaemonError;
use crate::event::{Fact, Ledger};
use crate::recognition::gallery::{
    AnchorTemplate, Expiry, Fit, Gallery, GalleryError, Generation, Person, Transform,
};
use crate::recognition::matcher::Known;
use crate::recognition::{Candidate, Decision, PersonId, PersonRef, Space, Verdict};
use crate::system::clock::{ClockState, Date, Uptime};

/// How often the store is asked whether it has changed.
const LOOK: Duration = Duration::from_secs(1);
/// How often an erasure that failed is tried again.
const AGAIN: Duration = Duration::from_mins(1);
/// People erased between two frames, at most: each has the store written anew.
const AT_ONCE: usize = 4;

#[allow(clippy::struct_excessive_bools)] // each is a fact of its own
pub struct People {
    gallery: Gallery,
    transform: Arc<Transform>,
    space: Space,
    candidates: Vec<Candidate>,
    anchors: Vec<AnchorTemplate>,
    /// Everybody enrolled whose time is not over, in the order of enrolment; also those enrolled with
    /// another model.
    enrolled: Vec<PersonRef>,
    fit: Fit,
    /// How often the gallery was read.
    reading: u64,
    generation: Generation,
    /// When the time of those who have one is over, people and anchors.
    expiries: Vec<Expiry>,
    /// When that was last looked at, by the machine's clock: it may be set back.
    seen: Timestamp,
    /// The time of somebody who is still in the store is over.
    overdue: bool,
    /// That overdue people wait for a date to believe was said.
    awaiting_date: bool,
    /// Erasures were begun here that are not told of yet.
    owing: bool,
    /// When erasing last failed.
    failed: Option<Instant>,
    looked: Instant,
    /// The last look failed; say it once.
    failing: bool,
}

impl People {
    /// Finishes erasures that were cut short, then reads the gallery, for templates of this space or that can be
    /// mapped into it.
    pub fn open(mut gallery: Gallery, space: Space, ledger: &Ledger) -> Result<Self, DaemonError> {
        settle_erasures(&mut gallery, ledger)?;
        let seen = Timestamp::now();
        let Read { candidates, anchors, enrolled, fit, generation, expiries, overdue } =
            read(&gallery, &space, seen)?;
        tell(&fit);
        Ok(Self {
            transform: gallery.transform(),
            gallery,
            space,
            candidates,
            anchors,
            enrolled,
            fit,
            reading: 1,
            generation,
            expiries,
            seen,
            overdue,
            awaiting_date: false,
            owing: false,
            failed: None,
            looked: Instant::now(),
            failing: false,
        })
    }

    /// Turns looks as the templates of the candidates are.
    pub fn transform(&self) -> &Transform {
        &self.transform
    }

    pub fn enrolled(&self) -> &[PersonRef] {
        &self.enrolled
    }

    /// Whom of them the running model knows by other means than looks of its own.
    pub fn fit(&self) -> &Fit {
        &self.fit
    }

    /// Differs when the gallery has been read again.
    pub fn reading(&self) -> u64 {
        self.reading
    }

    /// Erases a person; the signed event is recorded before the last trace goes. A negative anchor goes
    /// without one.
    pub fn forget(&mut self, id: &PersonId, ledger: &Ledger) -> Result<(), DaemonError> {
        if self.gallery.erase_anchor(id)? {
            return Ok(self.reread(Timestamp::now())?);
        }
        let known = self.begin_erasure(id);
        self.settle(ledger)?;
        Ok(known?)
    }

    /// Finishes begun erasures.
    pub fn settle(&mut self, ledger: &Ledger) -> Result<(), DaemonError> {
        self.settle_at(ledger, Timestamp::now())
    }

    /// Matches in another space from now on.
    pub fn use_space(&mut self, space: Space) -> Result<(), GalleryError> {
        self.space = space;
        self.read_again(Timestamp::now())?;
        tell(&self.fit);
        Ok(())
    }

    /// The people and anchors to compare with in another space.
    pub fn seen_in(
        &self,
        space: &Space,
    ) -> Result<(Vec<Candidate>, Vec<AnchorTemplate>), GalleryError> {
        Ok((self.gallery.candidates(space)?, self.gallery.anchor_templates(space)?))
    }

    /// Whom to compare with; in number and order the people.
    pub fn candidates(&self) -> Known<'_> {
        Known::new(&self.candidates, &self.anchors)
    }

    /// Whether it is time for [`Self::refresh`] and [`Self::erase_expired`]; once a second.
    pub fn is_due(&mut self) -> bool {
        let due = self.looked.elapsed() >= LOOK;
        if due {
            self.looked = Instant::now();
        }
        due
    }

    /// Reads the gallery again if it has changed. If that fails, those known so far are kept.
    pub fn refresh(&mut self, date: &Date) {
        let renewed = self.renew_expiries(date);
        match self.reread(date.time).and(renewed) {
            Ok(()) => self.failing = false,
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    log::error!("cannot read the gallery again, keeping who was known: {error}");
                }
            }
        }
    }

    /// Nobody is named whom another process has forgotten since the last look: `erased` is recorded by then,
    /// and no name may come after it.
    pub fn without_the_forgotten(&mut self, mut decisions: Vec<Decision>) -> Vec<Decision> {
        let names = |decision: &Decision| matches!(decision.verdict, Verdict::Recognized { .. });
        if decisions.iter().any(names) {
            self.refresh(&Date::now());
            decisions.retain(|decision| match &decision.verdict {
                Verdict::Recognized { person, .. } => {
                    self.enrolled.iter().any(|known| known.id == person.id)
                }
                _ => true,
            });
        }
        decisions
    }

    /// Erases those whose time is over, a few at a time, each with its signed event; `true` if it did.
    ///
    /// Nobody matches any more from the moment that the device's clock says so, right or wrong: that can be
    /// taken back. An erasure cannot, so it waits until the kernel says that the date is synchronized.
    pub fn erase_expired(&mut self, ledger: &Ledger, date: &Date) -> Result<bool, DaemonError> {
        if !(self.overdue || self.owing) || self.failed.is_some_and(|at| at.elapsed() < AGAIN) {
            return Ok(false);
        }
        let uptime = Uptime::now();
        let certain = self.expiries.iter().any(|end| end.is_certainly_over(date, &uptime));
        if !self.owing && !certain && date.state == ClockState::Unsynchronized {
            if !std::mem::replace(&mut self.awaiting_date, true) {
                log::warn!(
                    "the time of an enrolled person is over by this clock, which is not synchronized: they are \
                     no longer recognised, and erased once the date is certain"
                );
            }
            return Ok(false);
        }
        self.failed = Some(Instant::now()); // unless all of it succeeds
        let people = self.gallery.people()?;
        let over = |person: &&Person| {
            person.expires.as_ref().is_some_and(|end| end.is_certainly_over(date, &uptime))
        };
        for person in people.iter().filter(over).take(AT_ONCE) {
            log::info!(person = person.id.as_str(); "the time of {} is over: erasing", person.id);
            self.begin_erasure(&person.id)?;
        }
        self.gallery.erase_expired_anchors(date)?;
        self.awaiting_date &= date.state == ClockState::Unsynchronized;
        let erased = self.owing;
        self.settle_at(ledger, date.time)?;
        if !erased {
            // The date was put right, and their time is not over after all.
            self.read_again(date.time)?;
        }
        Ok(erased)
    }

    fn begin_erasure(&mut self, id: &PersonId) -> Result<(), GalleryError> {
        match self.gallery.begin_erasure(id).map(drop) {
            Err(error @ GalleryError::Unknown { .. }) => Err(error),
            // Also after an error it may have begun.
            outcome => {
                self.owing = true;
                outcome
            }
        }
    }

    fn settle_at(&mut self, ledger: &Ledger, now: Timestamp) -> Result<(), DaemonError> {
        settle_erasures(&mut self.gallery, ledger)?;
        self.owing = false;
        self.failed = None;
        Ok(self.reread(now)?)
    }

    fn reread(&mut self, now: Timestamp) -> Result<(), GalleryError> {
        let changed = self.gallery.generation()? != self.generation;
        if changed || self.turns(now) {
            self.read_again(now)?;
            log::info!("the gallery has changed: {} enrolled", self.candidates.len());
        }
        Ok(())
    }

    /// Whether somebody's time has become over since the last look, or is no longer: the clock may have been set back.
    fn turns(&mut self, now: Timestamp) -> bool {
        let uptime = Uptime::now();
        let seen = std::mem::replace(&mut self.seen, now);
        self.expiries.iter().any(|end| match end {
            Expiry::At(_) => end.is_over(seen, &uptime) != end.is_over(now, &uptime),
            Expiry::After(_) => !self.overdue && end.is_over(now, &uptime),
        })
    }

    /// Spans become dates once the date is known; what is left of them is written down until then.
    fn renew_expiries(&mut self, date: &Date) -> Result<(), GalleryError> {
        if self.expiries.iter().any(|end| matches!(end, Expiry::After(_))) {
            let uptime = Uptime::now();
            if self.expiries.iter().any(|end| end.renewed(date, &uptime).is_some()) {
                self.gallery.renew_expiries(date)?;
                self.expiries = self.gallery.expiries()?;
            }
        }
        Ok(())
    }

    fn read_again(&mut self, now: Timestamp) -> Result<(), GalleryError> {
        let Read { candidates, anchors, enrolled, fit, generation, expiries, overdue } =
            read(&self.gallery, &self.space, now)?;
        self.fit = fit;
        self.candidates = candidates;
        self.anchors = anchors;
        self.enrolled = enrolled;
        self.generation = generation;
        self.expiries = expiries;
        self.seen = now;
        self.overdue = overdue;
        self.reading += 1;
        Ok(())
    }
}

/// Finishes erasures, those that a crash cut short among them.
fn settle_erasures(gallery: &mut Gallery, ledger: &Ledger) -> Result<(), DaemonError> {
    gallery.settle_erasures(|person| {
        let fact = Fact::Erased { person: person.clone(), time: Timestamp::now() };
        ledger.record(&fact).map(drop).map_err(DaemonError::from)
    })?;
    Ok(())
}

fn tell(fit: &Fit) {
    let (mapped, foreign) = (fit.mapped.len(), fit.foreign.len());
    if mapped > 0 {
        log::warn!(
            "{mapped} enrolled with another model are recognised by templates that this bundle maps into its \
             embedding space; looks of this model's own would be surer"
        );
    }
    if foreign > 0 {
        log::warn!("{foreign} enrolled with another model cannot be recognised; enroll them again");
    }
}

struct Read {
    candidates: Vec<Candidate>,
    anchors: Vec<AnchorTemplate>,
    enrolled: Vec<PersonRef>,
    fit: Fit,
    generation: Generation,
    expiries: Vec<Expiry>,
    overdue: bool,
}

fn read(gallery: &Gallery, space: &Space, now: Timestamp) -> Result<Read, GalleryError> {
    // The generation first: a change in between is then seen at the next look.
    let generation = gallery.generation()?;
    let people = gallery.people()?;
    Ok(Read {
        candidates: gallery.candidates_at(space, now)?,
        anchors: gallery.anchor_templates_at(space, now)?,
        fit: Fit::of(people.iter().filter(|person| !person.expired(now)), space),
        enrolled: people.iter().filter(|p| !p.expired(now)).map(Person::reference).collect(),
        generation,
        expiries: gallery.expiries()?,
        overdue: people.iter().any(|person| person.expired(now))
            || gallery.anchors()?.iter().any(|anchor| anchor.expired(now)),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::event::{self, Context, Limits, Outbox};
    use crate::recognition::gallery::NewPerson;
    use crate::recognition::{Embedding, Evidence};
    use crate::system::state::StateDirectory;

    const MODEL: &str = "sha256:aa";

    struct Home {
        _folder: tempfile::TempDir,
        state: StateDirectory,
        ledger: Ledger,
        start: Timestamp,
    }

    impl Home {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let state = StateDirectory::at(folder.path().to_owned()).unwrap();
            let context = Context::new(
                "porch".to_owned().try_into().unwrap(),
                &crate::config::CameraSource::Device("/dev/video0".into()),
                None,
            );
            let (_, ledger) = event::open(&state, context, Limits::default()).unwrap();
            Self { _folder: folder, state, ledger, start: Timestamp::now() }
        }

        fn gallery(&self) -> Gallery {
            Gallery::open(&self.state).unwrap()
        }

        /// Enrols somebody for so many hours.
        fn enrol(&self, name: &str, hours: Option<i64>) {
            let expires =
                hours.map(|hours| (self.start + SignedDuration::from_hours(hours)).into());
            let person =
                NewPerson { name: name.parse().unwrap(), id: None, consent: None, expires };
            let look = Embedding::normalized(vec![1.0, 2.0, 3.0]).unwrap();
            self.gallery().add(person, &[look], MODEL).unwrap();
        }

        fn people(&self) -> People {
            People::open(self.gallery(), Space::new(MODEL), &self.ledger).unwrap()
        }

        fn date(&self, hours: i64, state: ClockState) -> Date {
            Date { time: self.start + SignedDuration::from_hours(hours), state }
        }

        /// Ids of the `erased` events, in their order.
        fn told(&self) -> Vec<String> {
            let outbox = Outbox::open(&self.state).unwrap();
            let mut entry = outbox.after(event::outbox::Position::default()).unwrap();
            let mut told = Vec::new();
            while let Some(event) = entry {
                let message: serde_json::Value =
                    serde_json::from_str(event.message.as_str()).unwrap();
                let payload: serde_json::Value =
                    serde_json::from_str(message["payload"].as_str().unwrap()).unwrap();
                assert_eq!(payload["event_type"], "erased");
                told.push(payload["person"]["id"].as_str().unwrap().to_owned());
                entry = outbox.after(event.position).unwrap();
            }
            told
        }
    }

    fn ids(people: &People) -> Vec<&str> {
        people.enrolled().iter().map(|person| person.id.as_str()).collect()
    }

    #[test]
    fn clock_set_forward_and_back_leaves_everybody() {
        let home = Home::new();
        home.enrol("Ann", Some(1));
        let mut people = home.people();
        for (hours, known) in [(0, 1), (90_000, 0), (0, 1), (-90_000, 1), (0, 1)] {
            let date = home.date(hours, ClockState::Unsynchronized);
            people.refresh(&date);
            assert_eq!(people.enrolled().len(), known, "{hours}");
            assert!(!people.erase_expired(&home.ledger, &date).unwrap());
        }
        assert!(home.told().is_empty());
    }

    #[test]
    fn span_of_an_unsynchronised_clock_ends_by_the_time_that_passes() {
        let home = Home::new();
        let unknown = Date { time: Timestamp::UNIX_EPOCH, state: ClockState::Unsynchronized };
        let mut gallery = home.gallery();
        for (name, seconds) in [("Ann", 0), ("Bob", 7 * 86_400)] {
            let span = Duration::from_secs(seconds);
            let expires = Expiry::after(span, &unknown, &Uptime::now());
            let name = name.parse().unwrap();
            let person = NewPerson { name, id: None, consent: None, expires };
            let look = Embedding::normalized(vec![1.0, 2.0, 3.0]).unwrap();
            gallery.add(person, &[look], MODEL).unwrap();
        }
        let mut people = home.people();
        assert_eq!(ids(&people), ["bob"]);
        // No date is needed to know that no time is left.
        people.refresh(&unknown);
        assert!(people.erase_expired(&home.ledger, &unknown).unwrap());
        assert_eq!(home.told(), ["ann"]);
        // Once there is a date, the other one's span has become one.
        people.refresh(&home.date(0, ClockState::Synchronized));
        let end = home.gallery().people().unwrap()[0].expires.as_ref().and_then(Expiry::date);
        let left = end.unwrap().duration_since(home.start);
        assert!((7 * 86_400 - 60..=7 * 86_400).contains(&left.as_secs()), "{left}");
        assert_eq!(ids(&people), ["bob"]);
    }

    /// Holds GAL-09.
    #[test]
    fn nobody_is_named_after_another_process_forgot_them() {
        let home = Home::new();
        home.enrol("Ann", None);
        home.enrol("Bob", None);
        let mut people = home.people();
        let evidence = Evidence {
            similarity: 0.9,
            threshold: 0.7,
            false_match_rate: 1e-4,
            frames: 3,
            liveness: None,
        };
        let decisions: Vec<Decision> = people
            .enrolled()
            .iter()
            .flat_map(|person| {
                [
                    Verdict::Recognized { person: person.clone(), evidence: evidence.clone() },
                    Verdict::Departed { person: person.clone() },
                ]
            })
            .map(|verdict| Decision { time: home.start, track: 1, verdict })
            .collect();
        assert_eq!(people.without_the_forgotten(decisions.clone()), decisions);

        let ann = decisions[1].clone();
        home.people().forget(&"ann".to_owned().try_into().unwrap(), &home.ledger).unwrap();
        let left = people.without_the_forgotten(decisions);
        assert_eq!((left.len(), &left[0]), (3, &ann), "only the name is not told");
        assert_eq!(ids(&people), ["bob"]);
    }

    /// Holds GAL-05.
    #[test]
    fn expired_are_erased_with_their_event() {
        let home = Home::new();
        for (name, hours) in [("Ann", Some(1)), ("Bob", None), ("Cat", Some(3))] {
            home.enrol(name, hours);
        }
        let mut people = home.people();
        let early = home.date(0, ClockState::Synchronized);
        assert!(!people.erase_expired(&home.ledger, &early).unwrap());
        assert_eq!(people.candidates().len(), 3);

        let later = home.date(2, ClockState::Synchronized);
        people.refresh(&later);
        assert_eq!((people.candidates().len(), ids(&people)), (2, vec!["bob", "cat"]));
        assert!(people.erase_expired(&home.ledger, &later).unwrap());
        assert_eq!(home.told(), ["ann"]);
        assert_eq!(home.gallery().people().unwrap().len(), 2);
        assert!(home.gallery().unfinished_erasures().unwrap().is_empty());
        // Once.
        assert!(!people.erase_expired(&home.ledger, &later).unwrap());
        assert_eq!((home.told().len(), ids(&people)), (1, vec!["bob", "cat"]));
    }

    /// Holds GAL-06.
    #[test]
    fn unsynchronized_clock_erases_nobody() {
        let home = Home::new();
        home.enrol("Ann", Some(1));
        let mut people = home.people();
        // A clock that woke up in another century: no match, but nothing that cannot be taken back.
        let wrong = home.date(24 * 365 * 70, ClockState::Unsynchronized);
        people.refresh(&wrong);
        assert!(!people.erase_expired(&home.ledger, &wrong).unwrap());
        assert!(people.candidates().is_empty() && people.enrolled().is_empty());
        assert_eq!(home.gallery().people().unwrap().len(), 1);
        // The date is put right: the person is back.
        let right = home.date(0, ClockState::Synchronized);
        people.refresh(&right);
        assert!(!people.erase_expired(&home.ledger, &right).unwrap());
        assert_eq!((people.candidates().len(), ids(&people)), (1, vec!["ann"]));
        assert!(home.told().is_empty());
        // And erased when it is time by a date that is certain.
        let over = home.date(1, ClockState::Synchronized);
        people.refresh(&over);
        assert!(people.erase_expired(&home.ledger, &over).unwrap());
        assert_eq!(home.told(), ["ann"]);
    }

    /// Holds GAL-05.
    #[test]
    fn many_expired_are_erased_a_few_at_a_time() {
        let home = Home::new();
        for number in 0..=AT_ONCE {
            home.enrol(&format!("P{number}"), Some(1));
        }
        let mut people = home.people();
        let over = home.date(1, ClockState::Synchronized);
        people.refresh(&over);
        assert!(people.candidates().is_empty());
        assert!(people.erase_expired(&home.ledger, &over).unwrap());
        assert_eq!(home.told().len(), AT_ONCE);
        assert!(people.erase_expired(&home.ledger, &over).unwrap());
        assert_eq!(home.told().len(), AT_ONCE + 1);
        assert!(home.gallery().people().unwrap().is_empty());
    }

    /// Begun, then the event could not be recorded: the debt is paid, also while the date is uncertain.
    /// Holds GAL-07.
    #[test]
    fn erasure_that_could_not_be_told_is_told_later() {
        let home = Home::new();
        home.enrol("Ann", Some(1));
        let mut people = home.people();
        people.begin_erasure(&"ann".parse().unwrap()).unwrap();
        let date = home.date(0, ClockState::Unsynchronized);
        assert!(people.erase_expired(&home.ledger, &date).unwrap());
        assert_eq!(home.told(), ["ann"]);
        assert!(home.gallery().unfinished_erasures().unwrap().is_empty());
    }
}
