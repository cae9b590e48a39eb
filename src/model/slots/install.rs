//! Into the slot that nothing points to, and back out of it.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::boot::{BootError, open_slot};
use super::figures::Figures;
use super::record::{Identity, Kind, Slot, Why};
use super::{Place, Slots, SlotsError};
use crate::model::manifest::Version;
use crate::model::{BundleError, EngineError, ModelIdentity, TrustAnchors, VerifiedBundle};

/// Why a verified bundle was not installed. Nothing of what runs has changed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    #[error("{0} is what runs already")]
    Already(Identity),
    #[error(
        "{0} is still on trial; wait until it is confirmed, or go back from it (familiar model rollback)"
    )]
    OnTrial(Identity),
    #[error("{model} was refused on this device before and is not tried again: {reason}")]
    Refused { model: Identity, reason: String },
    #[error(
        "{model} is older than {floor}, which this device had; only `familiar model rollback` goes back"
    )]
    Stale { model: Identity, floor: Version },
    #[error("a network was taken out of the bundle before it was installed")]
    Incomplete,
    #[error("{0} was not admitted, or something else was installed since; try again")]
    NotAdmitted(Identity),
    #[error(transparent)]
    Slots(#[from] SlotsError),
    #[error("as written to the slot: {0}")]
    Written(BootError),
    #[error("{model}: {source}; it is not tried again")]
    Unfit { model: Identity, source: Box<EngineError> },
}

/// Why there was no way back. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum RollbackError {
    #[error("the factory's bundle runs; there is none before it")]
    Factory,
    #[error("the update repository does not list {0} any more")]
    Unlisted(Identity),
    #[error("the bundle before: {0}")]
    Bundle(#[from] BootError),
    #[error(transparent)]
    Slots(#[from] SlotsError),
}

/// What was installed, loaded and self-tested as it lies in its slot.
#[derive(Debug)]
pub struct Installed<T> {
    pub engine: T,
    pub model: ModelIdentity,
    pub place: Place,
}

/// A bundle that may be installed, as long as nothing else is.
#[derive(Debug)]
pub struct Admission {
    model: ModelIdentity,
    serial: u64,
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// May install again what was rolled back.
    Operator,
    Updater,
}

impl Slots {
    /// Writes a bundle to the free slot, verifies it as it lies there, starts it, and makes it the one that
    /// boots next, on trial. `factory` gives the version that nothing may be older than.
    pub fn install<T>(
        &mut self,
        bundle: VerifiedBundle,
        factory: &Path,
        anchors: &TrustAnchors,
        by: By,
        start: impl Fn(VerifiedBundle) -> Result<T, EngineError>,
    ) -> Result<Installed<T>, InstallError> {
        let admission = self.admission(&bundle.identity(), factory, anchors, by)?;
        self.place(&admission, bundle, anchors, start)
    }

    /// What [`Slots::install`] asks before it takes a bundle, apart from it: this holds whole bundles in memory, one after
    /// the other, and a small device need not have the new one there as well.
    pub fn admission(
        &mut self,
        model: &ModelIdentity,
        factory: &Path,
        anchors: &TrustAnchors,
        by: By,
    ) -> Result<Admission, InstallError> {
        self.drop_unsound(anchors)?;
        self.admit(model, factory, anchors, by)?;
        Ok(Admission { model: model.clone(), serial: self.record.serial })
    }

    /// The rest of [`Slots::install`], for the bundle that was admitted and while nothing else was changed.
    pub fn place<T>(
        &mut self,
        admission: &Admission,
        bundle: VerifiedBundle,
        anchors: &TrustAnchors,
        start: impl Fn(VerifiedBundle) -> Result<T, EngineError>,
    ) -> Result<Installed<T>, InstallError> {
        let model = bundle.identity();
        if (&model, self.record.serial) != (&admission.model, admission.serial) {
            return Err(InstallError::NotAdmitted(Identity::from(&model)));
        }
        let place = self.record.current.as_ref().map_or(Place::A, |slot| slot.place.other());
        let slot = Slot {
            place,
            model: Identity::from(&model),
            trial: Some(0),
            installed: Timestamp::now(),
        };
        self.write_slot(&bundle, place)?;
        drop(bundle); // its memory is needed for what follows

        let written =
            open_slot(&self.folder(place), &slot, anchors).map_err(InstallError::Written)?;
        let engine = match start(written) {
            Ok(engine) => engine,
            Err(source) => return Err(self.unfit(slot.model, source)),
        };
        self.change(|record| {
            record.refused.retain(|refused| refused.model.digest != slot.model.digest);
            record.previous = record.current.take();
            record.tell(Kind::Trial, slot.model.clone(), None, Timestamp::now());
            record.current = Some(slot);
        })?;
        Ok(Installed { engine, model, place })
    }

    /// Whether a bundle may be installed at all.
    pub fn admit(
        &self,
        model: &ModelIdentity,
        factory: &Path,
        anchors: &TrustAnchors,
        by: By,
    ) -> Result<(), InstallError> {
        let identity = Identity::from(model);
        if let Some(refused) = self.record.refusal(&model.digest)
            && (by == By::Updater || refused.why == Why::Unfit)
        {
            let reason = refused.reason.clone();
            return Err(InstallError::Refused { model: identity, reason });
        }
        if let Some(current) = &self.record.current {
            let sound = || open_slot(&self.folder(current.place), current, anchors).is_ok();
            if current.model.digest == model.digest && sound() {
                return Err(InstallError::Already(identity));
            }
            if current.trial.is_some() {
                return Err(InstallError::OnTrial(current.model.clone()));
            }
        }
        let factory = VerifiedBundle::open(factory, anchors).ok().map(|bundle| bundle.identity());
        if self.record.current.is_none()
            && factory.as_ref().is_some_and(|factory| factory.digest == model.digest)
        {
            return Err(InstallError::Already(identity));
        }
        let of_factory = factory
            .filter(|factory| factory.name == model.name)
            .and_then(|factory| factory.version.parse().ok());
        let confirmed = self.record.floors.get(&model.name).copied();
        // A manifest's version is one; what is not is older than all.
        let version: Option<Version> = model.version.parse().ok();
        match of_factory.max(confirmed) {
            Some(floor) if version < Some(floor) => {
                Err(InstallError::Stale { model: identity, floor })
            }
            _ => Ok(()),
        }
    }

    /// Goes back to the bundle before, which must verify and be `listed`, and will not be updated to the
    /// present one again.
    pub fn rollback(
        &mut self,
        factory: &Path,
        anchors: &TrustAnchors,
        listed: impl Fn(&ModelIdentity) -> bool,
    ) -> Result<ModelIdentity, RollbackError> {
        if self.record.current.is_none() {
            return Err(RollbackError::Factory);
        }
        let previous = match &self.record.previous {
            Some(slot) => open_slot(&self.folder(slot.place), slot, anchors)?,
            None => VerifiedBundle::open(factory, anchors).map_err(BootError::from)?,
        };
        let model = previous.identity();
        if !listed(&model) {
            return Err(RollbackError::Unlisted(Identity::from(&model)));
        }
        let (now, to) = (Timestamp::now(), Identity::from(&model));
        self.change(|record| {
            if let Some(left) = record.current.take() {
                record.refuse(left.model, Why::RolledBack, "an operator went back from it", now);
            }
            record.current = record.previous.take();
            record.tell(Kind::RolledBack, to, None, now);
        })?;
        Ok(model)
    }

    /// A current slot that does not hold any more gives way to the one before, which then is not overwritten.
    fn drop_unsound(&mut self, anchors: &TrustAnchors) -> Result<(), SlotsError> {
        let Some(slot) = &self.record.current else { return Ok(()) };
        let Err(error) = open_slot(&self.folder(slot.place), slot, anchors) else { return Ok(()) };
        log::error!("the installed model {} is given up: {error}", slot.model);
        self.change(|record| record.current = record.previous.take())
    }

    fn write_slot(&mut self, bundle: &VerifiedBundle, place: Place) -> Result<(), InstallError> {
        // First nothing may point there.
        if self.record.previous.as_ref().is_some_and(|slot| slot.place == place) {
            self.change(|record| record.previous = None)?;
        }
        let files = bundle.all_files().ok_or(InstallError::Incomplete)?;
        let folder = self.folder(place);
        let io = |path: &PathBuf, source| SlotsError::Io { path: path.clone(), source };
        self.disk.remove_folder(&folder).map_err(|error| io(&folder, error))?;
        self.disk.make_folder(&folder).map_err(|error| io(&folder, error))?;
        for (name, bytes) in files {
            let path = folder.join(name);
            self.disk.write(&path, bytes).map_err(|error| io(&path, error))?;
        }
        for folder in [&folder, &self.root] {
            self.disk.sync_folder(folder).map_err(|error| io(folder, error))?;
        }
        Ok(())
    }

    /// A bundle that did not load or pass its self-test: remembered, and told.
    pub fn unfit(&mut self, model: Identity, source: EngineError) -> InstallError {
        self.refuse(&model, Why::Unfit, &source.to_string(), None);
        InstallError::Unfit { model, source: Box::new(source) }
    }

    /// Remembers that a bundle is not tried again, and why. If that cannot be written down it is told, and the next
    /// look finds the same.
    pub fn refuse(&mut self, model: &Identity, why: Why, reason: &str, shadow: Option<Figures>) {
        let now = Timestamp::now();
        let remembered = self.change(|record| {
            record.refuse(model.clone(), why, reason, now);
            record.tell(Kind::Refused, model.clone(), Some(reason), now);
            if let Some(last) = &mut record.last {
                last.shadow = shadow;
            }
        });
        if let Err(error) = remembered {
            log::error!("{error}");
        }
    }

    /// What the shadow run of the bundle last installed has found.
    pub fn note_shadow(&mut self, digest: &str, figures: Figures) -> Result<(), SlotsError> {
        let is = |model: &Identity| model.digest == digest;
        if !self.record.last.as_ref().is_some_and(|last| last.model.as_ref().is_some_and(is)) {
            return Ok(());
        }
        self.change(|record| {
            if let Some(last) = &mut record.last {
                last.shadow = Some(figures);
            }
        })
    }
}

impl From<BundleError> for InstallError {
    fn from(error: BundleError) -> Self {
        Self::Written(error.into())
    }
}
