//! The enrolled people as the running daemon knows them: kept in memory, read again when another
//! process has enrolled, renamed or forgotten someone, or somebody's time is over.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::DaemonError;
use crate::event::{Fact, Ledger};
use crate::model::Engine;
use crate::recognition::Candidate;
use crate::recognition::gallery::{Gallery, GalleryError, Generation};

/// How often the store is asked whether it has changed.
const LOOK: Duration = Duration::from_secs(1);

pub struct People {
    gallery: Gallery,
    embedder: String,
    candidates: Vec<Candidate>,
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
        gallery.settle_erasures(|person| {
            let fact = Fact::Erased { person: person.clone(), time: Timestamp::now() };
            ledger.record(&fact).map(drop).map_err(DaemonError::from)
        })?;
        let embedder = engine.embedder_digest().to_owned();
        let foreign =
            gallery.people()?.iter().filter(|person| person.looks_by(&embedder) == 0).count();
        if foreign > 0 {
            log::warn!(
                "{foreign} enrolled with another model cannot be recognised; enroll them again"
            );
        }
        let (candidates, generation, expiry) = read(&gallery, &embedder)?;
        Ok(Self {
            gallery,
            embedder,
            candidates,
            generation,
            expiry,
            looked: Instant::now(),
            failing: false,
        })
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
        (self.candidates, self.generation, self.expiry) = read(&self.gallery, &self.embedder)?;
        log::info!("the gallery has changed: {} enrolled", self.candidates.len());
        Ok(())
    }
}

fn read(
    gallery: &Gallery,
    embedder: &str,
) -> Result<(Vec<Candidate>, Generation, Option<Timestamp>), GalleryError> {
    // The generation first: a change in between is then seen at the next look.
    let generation = gallery.generation()?;
    let now = Timestamp::now();
    Ok((gallery.candidates_at(embedder, now)?, generation, gallery.next_expiry(now)?))
}
