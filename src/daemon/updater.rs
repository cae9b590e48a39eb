//! One update, from the question to the installed bundle: refresh the repository's metadata, choose, download,
//! verify the bundle's own signature, self-test, shadow run, install on trial. For the daemon and for `familiar model
//! update`, which has no camera and so no shadow run.

use std::fs::File;
use std::path::PathBuf;

use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::DaemonError;
use super::attempts::Attempts;
use super::models::{self, fits, load};
use super::shadow::{Beside, ShadowError, Step};
use crate::config::{Located, Update};
use crate::model::slots::{By, Figures, Identity, InstallError, Installed, Slots, SlotsError, Why};
use crate::model::update::archive::{ArchiveError, unpack};
use crate::model::update::client::{Client, TufError};
use crate::model::update::download::{DownloadError, download, part_of};
use crate::model::update::fetch::{FetchError, Limits, Source};
use crate::model::update::release::Release;
use crate::model::update::store::{Store, StoreError};
use crate::model::{AnchorError, BundleError, Engine, ModelIdentity, TrustAnchors, VerifiedBundle};
use crate::system::clock::Date;
use crate::system::disk;
use crate::system::memory;
use crate::system::state::StateDirectory;

/// Folder in the state directory: metadata, and what is downloaded.
pub(super) const FOLDER: &str = "update";
/// Largest archive, in bytes.
const ARCHIVE_LIMIT: u64 = (1 << 30) + (1 << 20);
/// Largest `root.json` beside the configuration, in bytes.
const ROOT_LIMIT: u64 = 512 * 1024;
/// Which `root.json` of the configuration was last taken over.
const ROOT_TAKEN: &str = "root-taken";

/// Why there was no update. Nothing of what runs has changed.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    #[error("there is no [update] in the configuration")]
    NotConfigured,
    #[error("an update is under way")]
    Busy,
    #[error("trusted TUF root {}: {source}; put the repository's root.json there", .path.display())]
    Root { path: PathBuf, source: std::io::Error },
    #[error(
        "the clock is not synchronised, so a repository that somebody froze would not be noticed"
    )]
    Clock,
    #[error("update: {0}")]
    Tuf(#[from] TufError),
    #[error("update: {0}")]
    Fetch(#[from] FetchError),
    #[error("update: {0}")]
    Download(#[from] DownloadError),
    #[error("update: {0}")]
    Store(#[from] StoreError),
    #[error("update {path}: {source}")]
    Archive { path: String, source: ArchiveError },
    #[error("update: {0}")]
    Bundle(#[from] BundleError),
    #[error("update {path}: the bundle in it is {found}, not what the repository says ({wanted})")]
    Other { path: String, found: String, wanted: String },
    #[error("update: {0}")]
    Unfit(DaemonError),
    #[error(transparent)]
    Anchors(#[from] AnchorError),
    #[error(transparent)]
    Slots(#[from] SlotsError),
    #[error(transparent)]
    Install(#[from] InstallError),
    #[error("{model}: shadow run: {reason}; it is not tried again by itself")]
    Shadow { model: Identity, reason: String },
    #[error("the camera gave too few frames for a shadow run in {minutes} minutes")]
    Unseen { minutes: u64 },
    #[error("the shadow run was interrupted")]
    Interrupted,
    #[error("{}: {}", .path.display(), disk::told(.path, .source))]
    Io { path: PathBuf, source: std::io::Error },
}

/// What a look at the repository came to.
pub enum Found {
    /// Nothing newer for this device. The newest version that the repository lists, if it lists any.
    Nothing(Option<String>),
    Installed(Box<Installed<Engine>>),
}

/// A device's side of its update repository; one process at a time.
pub struct Updater<'a> {
    located: &'a Located,
    state: &'a StateDirectory,
    folder: StateDirectory,
    update: &'a Update,
    _lock: File,
}

impl<'a> Updater<'a> {
    /// Waits while somebody else updates.
    pub fn new(located: &'a Located, state: &'a StateDirectory) -> Result<Self, UpdateError> {
        Self::with(located, state, FlockOperation::LockExclusive)
    }

    /// An error while somebody else updates.
    pub fn at_once(located: &'a Located, state: &'a StateDirectory) -> Result<Self, UpdateError> {
        Self::with(located, state, FlockOperation::NonBlockingLockExclusive)
    }

    fn with(
        located: &'a Located,
        state: &'a StateDirectory,
        lock_as: FlockOperation,
    ) -> Result<Self, UpdateError> {
        let update = located.config.update.as_ref().ok_or(UpdateError::NotConfigured)?;
        let path = state.file(FOLDER);
        let io = |source| UpdateError::Io { path: path.clone(), source };
        let folder =
            StateDirectory::at(path.clone()).map_err(|error| io(std::io::Error::other(error)))?;
        let lock = folder.private("lock").and_then(File::open).map_err(io)?;
        flock(&lock, lock_as).map_err(|error| match error {
            Errno::WOULDBLOCK => UpdateError::Busy,
            error => io(error.into()),
        })?;
        Ok(Self { located, state, folder, update, _lock: lock })
    }

    /// Brings the metadata up to date and installs the newest bundle that is for this device (`device`: the
    /// thumbprint of its key) and newer than `running`. `explicit`: somebody asked for it, so it is done with a
    /// clock that nobody vouches for, too. `beside`: the daemon's engine, which the new one has to stand beside.
    pub fn run(
        &self,
        date: Date,
        device: &str,
        running: &ModelIdentity,
        explicit: bool,
        beside: Option<&Beside>,
    ) -> Result<Found, UpdateError> {
        // No certificate is valid then, and neither is any metadata.
        if date.time < Timestamp::UNIX_EPOCH {
            return Err(UpdateError::Clock);
        }
        let store = self.store()?;
        let ca = self.update.ca.as_deref();
        let source = Source::with(&self.update.repository, ca, Limits::default())?;
        let mut client = Client::refresh(store, source.below("metadata"), date)?;
        if !client.now().is_certain() {
            if !explicit {
                return Err(UpdateError::Clock);
            }
            log::warn!("{}; going on, for it was asked for", UpdateError::Clock);
        }
        let mut releases = client.releases()?;
        releases.retain(|release| release.bundle.name == running.name);
        releases.sort_by_key(|release| release.bundle.version);
        let newest = releases.last().map(|release| release.bundle.version.to_string());
        let now = client.now().time;
        let version = running.version.parse().ok();
        let chosen = releases.iter().rev().find(|release| {
            release.bundle.digest != running.digest
                && Some(release.bundle.version) > version
                && release.is_for(device, &self.update.groups, now)
        });
        let Some(release) = chosen else { return Ok(Found::Nothing(newest)) };
        let anchors = TrustAnchors::load(&self.located.directory().join("trust.d"))?;
        let factory = &self.located.config.models.bundle;
        let model = ModelIdentity {
            name: release.bundle.name.clone(),
            version: release.bundle.version.to_string(),
            digest: release.bundle.digest.clone(),
        };
        // Not tried again, and nothing is downloaded for it.
        Slots::open(self.state)?.admit(&model, factory, &anchors, By::Updater)?;
        let before = memory::resident();
        let bundle = self.fetch(&client, &source, release, &anchors, beside)?;
        fits(self.located, bundle.manifest()).map_err(UpdateError::Unfit)?;
        let Some(beside) = beside else {
            let start = |bundle| load(self.located, bundle);
            let installed =
                Slots::open(self.state)?.install(bundle, factory, &anchors, By::Updater, start)?;
            self.discard(None);
            return Ok(Found::Installed(Box::new(installed)));
        };
        let engine = self.prove(&Identity::from(&model), bundle, beside, before)?;
        // Only now is anything written to a slot: what was refused has cost no way back. The archive still lies here.
        beside.progress(&model.version, Step::Install, 1.0);
        // First what needs other bundles in memory: beside two engines there shall be one at a time.
        let mut slots = Slots::open(self.state)?;
        let admission =
            memory::compactly(|| slots.admission(&model, factory, &anchors, By::Updater))?;
        let bundle = self.fetch(&client, &source, release, &anchors, None)?;
        // The very bytes that the engine was loaded from, by their digest.
        let Installed { model, place, .. } =
            memory::compactly(|| slots.place(&admission, bundle, &anchors, |_| Ok(())))?;
        if let Some(figures) = engine.1 {
            slots.note_shadow(&model.digest, figures)?;
        }
        self.discard(None);
        Ok(Found::Installed(Box::new(Installed { engine: engine.0, model, place })))
    }

    /// Loads and self-tests a bundle, and lets it stand beside the running one. If that brings the daemon down, it
    /// was counted before, and is not tried for ever.
    fn prove(
        &self,
        model: &Identity,
        bundle: VerifiedBundle,
        beside: &Beside,
        before: Option<u64>,
    ) -> Result<(Engine, Option<Figures>), UpdateError> {
        let attempts = Attempts::of(&self.folder);
        let refuse = |reason: String, figures: Option<Figures>| {
            Slots::open(self.state)?.refuse(model, Why::Shadow, &reason, figures);
            Ok(UpdateError::Shadow { model: model.clone(), reason })
        };
        let io = |source| UpdateError::Io { path: attempts.path(), source };
        if let Err(starts) = attempts.begin(&model.digest).map_err(io)? {
            attempts.end();
            let reason = format!("the daemon did not survive it in {starts} starts");
            return Err(refuse(reason, None).unwrap_or_else(|error: SlotsError| error.into()));
        }
        beside.progress(&model.version, Step::SelfTest, 0.0);
        let proved = load(self.located, bundle)
            .map_err(|source| match Slots::open(self.state) {
                Ok(mut slots) => slots.unfit(model.clone(), source).into(),
                Err(error) => UpdateError::from(error),
            })
            .and_then(|engine| match beside.run(&engine, before) {
                Ok(figures) => Ok((engine, figures)),
                Err(ShadowError::Refused { reason, figures }) => {
                    // Its memory first: what follows is only words.
                    drop(engine);
                    Err(refuse(reason, Some(*figures)).unwrap_or_else(UpdateError::from))
                }
                Err(ShadowError::Unseen { minutes }) => Err(UpdateError::Unseen { minutes }),
                Err(ShadowError::Interrupted) => Err(UpdateError::Interrupted),
            });
        attempts.end();
        if proved.is_err()
            && !matches!(proved, Err(UpdateError::Unseen { .. } | UpdateError::Interrupted))
        {
            self.discard(None);
        }
        proved
    }

    fn fetch(
        &self,
        client: &Client,
        source: &Source,
        release: &Release,
        anchors: &TrustAnchors,
        beside: Option<&Beside>,
    ) -> Result<VerifiedBundle, UpdateError> {
        let Release { path, target, bundle: wanted } = release;
        // By what it is: a part of another archive is never gone on from.
        let name = format!("{}.tar", wanted.digest.trim_start_matches("sha256:"));
        let sound = name.len() == 68
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.');
        let other = |found: String| UpdateError::Other {
            path: path.clone(),
            found,
            wanted: format!("{} {} ({})", wanted.name, wanted.version, wanted.digest),
        };
        if !sound {
            return Err(other("of a digest that is none".to_owned()));
        }
        self.discard(Some(&name));
        let file = self.folder.file(&name);
        let location = client.location(path, target);
        let mut progress = |bytes: u64| {
            if let Some(beside) = beside {
                let share = bytes as f64 / target.length.max(1) as f64;
                beside.progress(&wanted.version.to_string(), Step::Download, share);
            }
        };
        let targets = source.below("targets");
        download(&targets, &location, target, ARCHIVE_LIMIT, &file, &mut progress)?;
        let opened =
            File::open(&file).map_err(|source| UpdateError::Io { path: file.clone(), source })?;
        // Pages of their own, which go back at once: a second engine is about to need them.
        let unpacked = memory::compactly(|| unpack(std::io::BufReader::new(opened)))
            .map_err(|source| UpdateError::Archive { path: path.clone(), source });
        // Whatever is wrong with it now, it is what the repository signed: it would not get better.
        let bundle = unpacked
            .and_then(|files| Ok(VerifiedBundle::from_memory(&file, files, anchors)?))
            .inspect_err(|_| self.discard(None))?;
        let ModelIdentity { name, version, digest } = bundle.identity();
        if (&name, &version, &digest) != (&wanted.name, &wanted.version.to_string(), &wanted.digest)
        {
            self.discard(None);
            return Err(other(format!("{name} {version} ({digest})")));
        }
        Ok(bundle)
    }

    /// Whether the repository, as it was last seen, lists a bundle; where nothing of it was ever seen, nothing is
    /// known against one.
    pub fn lists(&self, model: &ModelIdentity) -> Result<bool, UpdateError> {
        let Some(mut client) = Client::last_seen(self.store()?)? else { return Ok(true) };
        Ok(client.releases()?.iter().any(|release| release.bundle.digest == model.digest))
    }

    /// The trusted metadata; begins with the `root.json` beside the configuration, and again when that is replaced.
    fn store(&self) -> Result<Store, UpdateError> {
        let store = Store::open(&self.folder.file("metadata"))?;
        let path = self.located.directory().join("root.json");
        let root = |source| UpdateError::Root { path: path.clone(), source };
        let bytes = read_limited(&path).map_err(root)?;
        let digest = crate::model::digest::Sha256::of(&bytes).to_string();
        let taken = std::fs::read_to_string(self.folder.file(ROOT_TAKEN)).unwrap_or_default();
        if taken != digest || store.read("root")?.is_none() {
            store.write("root", &bytes)?;
            let io = |source| UpdateError::Io { path: self.folder.file(ROOT_TAKEN), source };
            self.folder.replace(ROOT_TAKEN, digest.as_bytes()).map_err(io)?;
        }
        Ok(store)
    }

    /// Removes downloads, but for the one that is wanted.
    fn discard(&self, wanted: Option<&str>) {
        let Ok(entries) = std::fs::read_dir(self.folder.path()) else { return };
        let keep = wanted.map(|name| [self.folder.file(name), part_of(&self.folder.file(name))]);
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let archive = name.ends_with(".tar") || name.ends_with(".tar.part");
            if archive && !keep.as_ref().is_some_and(|keep| keep.contains(&path)) {
                drop(std::fs::remove_file(&path));
            }
        }
    }
}

fn read_limited(path: &std::path::Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    File::open(path)?.take(ROOT_LIMIT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > ROOT_LIMIT {
        return Err(std::io::Error::other(format!("larger than {ROOT_LIMIT} bytes")));
    }
    Ok(bytes)
}

/// The bundle that a start would run now, without starting it.
pub fn running(located: &Located, state: &StateDirectory) -> Result<ModelIdentity, UpdateError> {
    let anchors = TrustAnchors::load(&located.directory().join("trust.d"))?;
    let factory = &located.config.models.bundle;
    Ok(models::chosen(state.path(), factory, &anchors)?.identity())
}

/// Where there is a repository, an operator goes back to nothing that it has withdrawn.
pub fn is_listed(updater: Option<&Updater<'_>>, model: &ModelIdentity) -> bool {
    updater.is_none_or(|updater| {
        updater.lists(model).unwrap_or_else(|error| {
            log::error!("{error}");
            false
        })
    })
}
