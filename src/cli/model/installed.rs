//! `familiar model list | install | rollback`: what this device has, and may run.

use std::path::Path;

use serde_json::{Value, json};

use crate::cli::{Failure, Global, engine};
use crate::daemon::models::{fits, load};
use crate::daemon::updater::{UpdateError, Updater, is_listed};
use crate::model::slots::{
    self, BootError, By, InstallError, Installed, Record, RollbackError, Slots, SlotsError,
};
use crate::model::update::archive::unpack;
use crate::model::{Engine, ModelIdentity, TrustAnchors, VerifiedBundle};
use crate::recognition::gallery::{Fit, Gallery};
use crate::recognition::{PersonRef, Space};
use crate::system::owner;
use crate::system::state::StateDirectory;

/// When a change takes effect.
const WHEN: &str = "it runs from the daemon's next start or reload (systemctl reload familiar)";

/// A bundle of this device.
struct Row {
    origin: &'static str,
    /// `trial`, `confirmed`, `previous` or `factory`.
    standing: &'static str,
    directory: String,
    outcome: Result<(ModelIdentity, String), Failure>,
}

pub fn list(global: &Global) -> Result<(), Failure> {
    let located = global.located()?;
    let anchors = engine::anchors(&located)?;
    let state = StateDirectory::locate();
    let record = slots::look(&state)?.unwrap_or_default();
    let Record { current, previous, refused, .. } = &record;
    let mut rows: Vec<Row> = Vec::new();
    for (slot, is_current) in [(current, true), (previous, false)] {
        let Some(slot) = slot else { continue };
        let directory = slots::folder(&state, slot.place);
        let standing = match slot.trial {
            Some(_) => "trial",
            None if is_current => "confirmed",
            None => "previous",
        };
        let bundle = slots::open_slot(&directory, slot, &anchors).map_err(Failure::refused);
        rows.push(Row::new(slot.place.name(), standing, &directory, bundle));
    }
    let factory = &located.config.models.bundle;
    let bundle = VerifiedBundle::open(factory, &anchors).map_err(Failure::from);
    rows.push(Row::new("factory", "factory", factory, bundle));
    let runs = rows.iter().position(|row| row.outcome.is_ok());

    if global.json {
        let rows = rows.iter().enumerate();
        let lines: Vec<Value> = rows.map(|(i, row)| row.json(Some(i) == runs)).collect();
        println!("{}", Value::from(lines));
    } else {
        for (i, row) in rows.iter().enumerate() {
            row.print(Some(i) == runs);
        }
        for refused in refused {
            println!("refused  {}  {}  {}", refused.model, refused.model.digest, refused.reason);
        }
    }
    rows.into_iter().try_for_each(|row| row.outcome.map(drop))
}

impl Row {
    fn new(
        origin: &'static str,
        standing: &'static str,
        directory: &Path,
        bundle: Result<VerifiedBundle, Failure>,
    ) -> Self {
        let outcome = bundle.map(|bundle| (bundle.identity(), bundle.signer().name()));
        Self { origin, standing, directory: directory.display().to_string(), outcome }
    }

    fn json(&self, boots: bool) -> Value {
        let Self { origin, standing, directory, outcome } = self;
        match outcome {
            Ok((ModelIdentity { name, version, digest }, signer)) => json!({
                "origin": origin, "standing": standing, "boots": boots, "directory": directory,
                "verified": true, "name": name, "version": version, "digest": digest, "signer": signer }),
            Err(error) => json!({
                "origin": origin, "standing": standing, "boots": false, "directory": directory,
                "verified": false, "reason": error.to_string() }),
        }
    }

    fn print(&self, boots: bool) {
        let Self { origin, standing, directory, outcome } = self;
        let mark = if boots { "*" } else { " " };
        match outcome {
            Ok((ModelIdentity { name, version, digest }, signer)) => println!(
                "{mark} {origin:7}  {standing:9}  {name} {version}  {digest}  verified, signed by {signer}"
            ),
            Err(_) => println!("{mark} {origin:7}  {standing:9}  {directory}  refused"),
        }
    }
}

/// Verifies a bundle (a folder, an archive, or `-` for an archive on standard input), copies the verified bytes into
/// the free slot, self-tests it there, and has it boot next.
pub fn install(global: &Global, path: &Path) -> Result<(), Failure> {
    let located = global.located()?;
    let anchors = engine::anchors(&located)?;
    let bundle = if path == Path::new("-") {
        unpacked(path, std::io::stdin().lock(), &anchors)?
    } else if owner::as_invoker(|| path.is_file()) {
        let file = owner::as_invoker(|| std::fs::File::open(path))
            .map_err(|error| Failure::failed(format!("{}: {error}", path.display())))?;
        unpacked(path, std::io::BufReader::new(file), &anchors)?
    } else {
        owner::as_invoker(|| VerifiedBundle::open(path, &anchors))?
    };
    owner::for_good();
    fits(&located, bundle.manifest()).map_err(|error| {
        let ModelIdentity { name, version, .. } = bundle.identity();
        Failure::refused(format!("{name} {version} does not fit the configuration: {error}"))
    })?;
    let state = StateDirectory::open()?;
    let start = |bundle| load(&located, bundle);
    let factory = &located.config.models.bundle;
    let installed = Slots::open(&state)?.install(bundle, factory, &anchors, By::Operator, start)?;

    tell(global, &state, &installed);
    Ok(())
}

/// By the updater's rules: flat, regular, bounded; nothing of it reaches the disk before it is verified.
fn unpacked(
    path: &Path,
    archive: impl std::io::Read,
    anchors: &TrustAnchors,
) -> Result<VerifiedBundle, Failure> {
    let files = unpack(archive)
        .map_err(|error| Failure::refused(format!("{}: {error}", path.display())))?;
    Ok(VerifiedBundle::from_memory(path, files, anchors)?)
}

/// Says what was installed, and what follows from it.
pub fn tell(global: &Global, state: &StateDirectory, installed: &Installed<Engine>) {
    let mapping = global.located().is_ok_and(|located| located.config.models.mapping);
    let space = installed.engine.space().mapped_if(mapping);
    let fit = fit(state, &space);
    let ModelIdentity { name, version, digest } = &installed.model;
    let place = installed.place.name();
    if global.json {
        let ids = |of: fn(&Fit) -> &Vec<PersonRef>| {
            fit.as_ref().map(|fit| of(fit).iter().map(|person| &person.id).collect::<Vec<_>>())
        };
        println!(
            "{}",
            json!({ "installed": true, "slot": place, "name": name, "version": version,
                    "digest": digest, "enrol_again": ids(|fit| &fit.foreign),
                    "mapped": ids(|fit| &fit.mapped) })
        );
    } else {
        println!("{name} {version}: verified, self-tested, installed in slot {place}, on trial");
        println!("digest   {digest}");
    }
    eprintln!("familiar: {WHEN}");
    if let Some(fit) = fit {
        tell_who(&fit);
    }
}

/// `None` if nobody knows.
fn fit(state: &StateDirectory, space: &Space) -> Option<Fit> {
    if !Gallery::exists(state) {
        return Some(Fit::default());
    }
    let people = Gallery::look(state).and_then(|gallery| gallery.people()).inspect_err(|error| {
        eprintln!("familiar: warning: not told who must be enrolled again: {error}");
    });
    Some(Fit::of(&people.ok()?, space))
}

fn tell_who(Fit { mapped, foreign }: &Fit) {
    let list = |people: &[PersonRef]| {
        for PersonRef { id, name } in people {
            eprintln!("familiar:   {id}  {name}");
        }
    };
    if !mapped.is_empty() {
        eprintln!(
            "familiar: warning: this model sees faces otherwise than the one they were enrolled with, but maps \
             their templates into its own space. These are recognised, a little less surely than if they were \
             enrolled again; with mapping = false in [models] they are not:"
        );
        list(mapped);
    }
    if foreign.is_empty() {
        eprintln!("familiar: nobody needs to be enrolled again");
    } else {
        eprintln!(
            "familiar: warning: this model sees faces otherwise than the one they were enrolled with. \
             These are not recognised by it before they are enrolled again (familiar enroll --id ID NAME PHOTO…):"
        );
        list(foreign);
    }
}

/// Has the bundle before boot next.
pub fn rollback(global: &Global) -> Result<(), Failure> {
    let located = global.located()?;
    let anchors: TrustAnchors = engine::anchors(&located)?;
    let state = StateDirectory::open()?;
    let factory = &located.config.models.bundle;
    let updater = match Updater::new(&located, &state) {
        Ok(updater) => Some(updater),
        Err(UpdateError::NotConfigured) => None,
        Err(error) => return Err(error.into()),
    };
    let mut slots = Slots::open(&state)?;
    let model = slots.rollback(factory, &anchors, |model| is_listed(updater.as_ref(), model))?;
    let ModelIdentity { name, version, digest } = &model;
    if global.json {
        println!("{}", json!({ "name": name, "version": version, "digest": digest }));
    } else {
        println!("{name} {version} boots next");
        println!("digest   {digest}");
    }
    eprintln!("familiar: {WHEN}");
    Ok(())
}

impl From<SlotsError> for Failure {
    fn from(error: SlotsError) -> Self {
        match error {
            SlotsError::Damaged { .. } => Self::refused(error),
            SlotsError::Io { .. } => Self::failed(error),
        }
    }
}

impl From<InstallError> for Failure {
    fn from(error: InstallError) -> Self {
        match error {
            InstallError::Slots(error) => error.into(),
            InstallError::Already(_) | InstallError::OnTrial(_) | InstallError::NotAdmitted(_) => {
                Self::failed(error)
            }
            InstallError::Refused { .. }
            | InstallError::Stale { .. }
            | InstallError::Incomplete
            | InstallError::Written(_)
            | InstallError::Unfit { .. } => Self::refused(error),
        }
    }
}

impl From<RollbackError> for Failure {
    fn from(error: RollbackError) -> Self {
        match error {
            RollbackError::Slots(error) => error.into(),
            RollbackError::Factory => Self::failed(error),
            RollbackError::Unlisted(_) | RollbackError::Bundle(_) => Self::refused(error),
        }
    }
}

impl From<BootError> for Failure {
    fn from(error: BootError) -> Self {
        Self::refused(error)
    }
}
