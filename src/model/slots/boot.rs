//! Which bundle a start runs: the installed one, else the one before, else the factory's.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::record::Slot;
use super::{ATTEMPTS, Place, Slots, folder, look};
use crate::model::{BundleError, EngineError, TrustAnchors, VerifiedBundle};

/// Where a bundle came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Factory,
    Installed(Place),
}

impl Origin {
    pub fn name(self) -> &'static str {
        match self {
            Self::Factory => "factory",
            Self::Installed(place) => place.name(),
        }
    }
}

/// A bundle that was verified, loaded and self-tested.
#[derive(Debug)]
pub struct Booted<T> {
    pub engine: T,
    pub origin: Origin,
    pub verified: Timestamp,
    /// To be confirmed once it has proved itself.
    pub on_trial: bool,
    /// Why it is not the bundle that should run.
    pub trouble: Option<String>,
}

/// Why a bundle does not run.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error("model bundle {}: {source}", .directory.display())]
    Engine { directory: PathBuf, source: EngineError },
    /// Verified, but not the one that was installed there.
    #[error("model bundle {}: another bundle than the one installed", .directory.display())]
    Swapped { directory: PathBuf },
}

impl Slots {
    /// Starts the bundle that is to run: that of the current slot; if it does not hold, the one before;
    /// else that of `factory`. One on trial that does not hold, or did not stay up, is refused for good.
    /// The error is the factory bundle's; those of the slots are in the log.
    pub fn boot<T>(
        &mut self,
        factory: &Path,
        anchors: &TrustAnchors,
        start: impl Fn(VerifiedBundle) -> Result<T, EngineError>,
    ) -> Result<Booted<T>, BootError> {
        let mut trouble = self.damaged.as_ref().map(|why| format!("slots.json is damaged: {why}"));
        let countable = self.count_start(&mut trouble);
        let mut trial_failed = None;
        for slot in
            [self.record.current.clone(), self.record.previous.clone()].into_iter().flatten()
        {
            if slot.trial.is_some() && !countable {
                continue;
            }
            let origin = Origin::Installed(slot.place);
            match try_slot(&self.folder(slot.place), &slot, anchors, &start) {
                Ok((engine, verified)) => {
                    self.give_up_failed(trial_failed);
                    let on_trial = slot.trial.is_some();
                    return Ok(Booted { engine, origin, verified, on_trial, trouble });
                }
                Err(error) => {
                    log::error!("the installed model {} is not used: {error}", slot.model);
                    if slot.trial.is_some() {
                        trial_failed = Some((slot.model.digest.clone(), error.to_string()));
                    }
                    trouble.get_or_insert(error.to_string());
                }
            }
        }
        let (engine, verified) = try_bundle(factory, anchors, &start)?;
        self.give_up_failed(trial_failed);
        Ok(Booted { engine, origin: Origin::Factory, verified, on_trial: false, trouble })
    }

    /// Counts a start on trial before anything is loaded: if that brings the machine down, the count is there.
    /// `false` if a bundle on trial must not be started.
    fn count_start(&mut self, trouble: &mut Option<String>) -> bool {
        let Some(Slot { trial: Some(starts), model, .. }) = &self.record.current else {
            return true;
        };
        let (starts, model) = (*starts, model.clone());
        let counted = if starts >= ATTEMPTS {
            let reason = format!("it did not stay up: {starts} starts and no confirmation");
            log::error!("the installed model {model} is not used: {reason}");
            *trouble = Some(format!("{model}: {reason}"));
            self.give_up(&model.digest, &reason)
        } else {
            self.on_trial(&model.digest, |record| {
                if let Some(Slot { trial, .. }) = &mut record.current {
                    *trial = Some(starts + 1);
                }
            })
        };
        match counted {
            Ok(_) => true,
            Err(error) => {
                log::error!("the installed model {model} is on trial and not used: {error}");
                *trouble = Some(format!("a start on trial cannot be counted: {error}"));
                false
            }
        }
    }

    /// What failed is refused now that something else is known to work: otherwise the reason may lie in
    /// what both need, the trust anchors above all.
    fn give_up_failed(&mut self, failed: Option<(String, String)>) {
        if let Some((digest, reason)) = failed
            && let Err(error) = self.give_up(&digest, &reason)
        {
            log::error!("{error}");
        }
    }
}

fn try_slot<T>(
    directory: &Path,
    slot: &Slot,
    anchors: &TrustAnchors,
    start: &impl Fn(VerifiedBundle) -> Result<T, EngineError>,
) -> Result<(T, Timestamp), BootError> {
    let bundle = open_slot(directory, slot, anchors)?;
    start_bundle(directory, bundle, start)
}

fn try_bundle<T>(
    directory: &Path,
    anchors: &TrustAnchors,
    start: &impl Fn(VerifiedBundle) -> Result<T, EngineError>,
) -> Result<(T, Timestamp), BootError> {
    start_bundle(directory, VerifiedBundle::open(directory, anchors)?, start)
}

fn start_bundle<T>(
    directory: &Path,
    bundle: VerifiedBundle,
    start: &impl Fn(VerifiedBundle) -> Result<T, EngineError>,
) -> Result<(T, Timestamp), BootError> {
    let verified = Timestamp::now();
    match start(bundle) {
        Ok(engine) => Ok((engine, verified)),
        Err(source) => Err(BootError::Engine { directory: directory.to_owned(), source }),
    }
}

/// Verifies the bundle in a slot, which must be the very one that was installed there.
pub fn open_slot(
    directory: &Path,
    slot: &Slot,
    anchors: &TrustAnchors,
) -> Result<VerifiedBundle, BootError> {
    let bundle = VerifiedBundle::open(directory, anchors)?;
    if bundle.identity().digest == slot.model.digest {
        Ok(bundle)
    } else {
        Err(BootError::Swapped { directory: directory.to_owned() })
    }
}

/// The verified bundle that a start would run, and its folder, for verbs that only look: nothing is
/// counted or refused. The first that verifies is taken; `state` may be out of reach.
pub fn chosen(
    state: &Path,
    factory: &Path,
    anchors: &TrustAnchors,
) -> Result<(VerifiedBundle, PathBuf, Origin), BundleError> {
    let record = look(state).unwrap_or_else(|error| {
        log::warn!("the factory's model bundle is taken: {error}");
        None
    });
    let slots = record.map(|record| [record.current, record.previous]).into_iter().flatten();
    for slot in slots.flatten().filter(|slot| slot.trial.is_none_or(|starts| starts <= ATTEMPTS)) {
        let directory = folder(state, slot.place);
        match open_slot(&directory, &slot, anchors) {
            Ok(bundle) => return Ok((bundle, directory, Origin::Installed(slot.place))),
            Err(error) => log::error!("the installed model {} is not used: {error}", slot.model),
        }
    }
    Ok((VerifiedBundle::open(factory, anchors)?, factory.to_owned(), Origin::Factory))
}
