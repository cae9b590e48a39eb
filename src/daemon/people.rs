//! The enrolled people as the running daemon knows them: kept in memory, read again when another
//! process has enrolled, renamed or forgotten someone, or somebody's time is over.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::DaemonError;
use crate::event::{Fact, Ledger};
use crate::model::Engine;
use crate::recognition::gallery::{Gallery, GalleryError, Generation, Person};
use crate::recognition::{Candidate, PersonId, PersonRef};

/// How often the store is asked whether it has changed.
const LOOK: Duration = Duration::from_secs(1);

pub struct People {
    gallery: Gallery,
    embedder: String,
    candidates: Vec<Candidate>,
    /// Everybody enrolled whose time is not over, in the order of enrolment; also those enrolled with
    /// another model.
    enrolled: Vec<PersonRef>,
    /// How often the gallery was read.
    reading: u64,
    generation: Generation,
    /// When the next person's time is over.
    expiry: Option<Timestamp>,
    looked: Instant,
    /// The last look failed; say it once.
    failing: bool,
}

impl People {
    /// Finishes erasures that were cut short, then reads the gallery.
    pub fn open(
        mut gallery: Gallery,
        engine: &Engine,
        ledger: &Ledger,
    ) -> Result<Self, DaemonError> {
        settle_erasures(&mut gallery, ledger)?;
        let embedder = engine.embedder_digest().to_owned();
        let foreign =
            gallery.people()?.iter().filter(|person| person.looks_by(&embedder) == 0).count();
        if foreign > 0 {
            log::warn!(
                "{foreign} enrolled with another model cannot be recognised; enroll them again"
            );
        }
        let Read { candidates, enrolled, generation, expiry } = read(&gallery, &embedder)?;
        Ok(Self {
            gallery,
            embedder,
            candidates,
            enrolled,
            reading: 1,
            generation,
            expiry,
            looked: Instant::now(),
            failing: false,
        })
    }

    pub fn enrolled(&self) -> &[PersonRef] {
        &self.enrolled
    }

    /// Differs when the gallery has been read again.
    pub fn reading(&self) -> u64 {
        self.reading
    }

    /// Erases a person; the signed event is recorded before the last trace goes.
    pub fn forget(&mut self, id: &PersonId, ledger: &Ledger) -> Result<(), DaemonError> {
        let known = self.gallery.begin_erasure(id).map(drop);
        self.settle(ledger)?;
        Ok(known?)
    }

    /// Finishes begun erasures.
    pub fn settle(&mut self, ledger: &Ledger) -> Result<(), DaemonError> {
        settle_erasures(&mut self.gallery, ledger)?;
        Ok(self.reread()?)
    }

    /// Matches by another embedder from now on.
    pub fn use_embedder(&mut self, engine: &Engine) -> Result<(), GalleryError> {
        engine.embedder_digest().clone_into(&mut self.embedder);
        self.read_again()
    }

    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// Reads the gallery again if it has changed. If that fails, those known so far are kept.
    pub fn refresh(&mut self) {
        if self.looked.elapsed() < LOOK {
            return;
        }
        self.looked = Instant::now();
        match self.reread() {
            Ok(()) => self.failing = false,
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    log::error!("cannot read the gallery again, keeping who was known: {error}");
                }
            }
        }
    }

    fn reread(&mut self) -> Result<(), GalleryError> {
        let due = self.expiry.is_some_and(|expiry| expiry <= Timestamp::now());
        if !due && self.gallery.generation()? == self.generation {
            return Ok(());
        }
        self.read_again()?;
        log::info!("the gallery has changed: {} enrolled", self.candidates.len());
        Ok(())
    }

    fn read_again(&mut self) -> Result<(), GalleryError> {
        let Read { candidates, enrolled, generation, expiry } =
            read(&self.gallery, &self.embedder)?;
        self.candidates = candidates;
        self.enrolled = enrolled;
        self.generation = generation;
        self.expiry = expiry;
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

struct Read {
    candidates: Vec<Candidate>,
    enrolled: Vec<PersonRef>,
    generation: Generation,
    expiry: Option<Timestamp>,
}

fn read(gallery: &Gallery, embedder: &str) -> Result<Read, GalleryError> {
    // The generation first: a change in between is then seen at the next look.
    let generation = gallery.generation()?;
    let now = Timestamp::now();
    let people = gallery.people()?;
    Ok(Read {
        candidates: gallery.candidates_at(embedder, now)?,
        enrolled: people.iter().filter(|p| !p.expired(now)).map(Person::reference).collect(),
        generation,
        expiry: gallery.next_expiry(now)?,
    })
}
