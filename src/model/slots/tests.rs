//! Whole updates on small bundles, with the power failing at every operation.

mod power;

use std::path::{Path, PathBuf};

use super::*;
use crate::model::selftest::SelfTestError;
use crate::model::{EngineError, ModelIdentity, SigningKey, TrustAnchors, VerifiedBundle, sign};

const MANIFEST: &str = r#"format = 1
name = "tiny"
version = "VERSION"
licence = "MIT"
minimum_daemon = "0.1.0"

[embedder]
file = "embedder.onnx"
input = { width = 8, height = 8, layout = "nhwc", channels = "rgb", mean = [127.5, 127.5, 127.5], scale = [0.0078125, 0.0078125, 0.0078125] }
crop = { kind = "box", margin = 0.2 }
dimensions = 4
distance = "cosine"

[detector]
file = "detector.onnx"
decoder = "yunet"
input = { width = 32, height = 32, layout = "nchw", channels = "bgr", mean = [0.0, 0.0, 0.0], scale = [1.0, 1.0, 1.0] }
score_threshold = 0.7
overlap_threshold = 0.3

[[calibration]]
looks = 1
pairs = 1000
points = [ { false_match_rate = 0.1, similarity = 0.2 } ]
"#;

/// A device and a publisher in one folder; bundles are told apart by their version.
struct Site {
    folder: tempfile::TempDir,
    anchors: TrustAnchors,
    key: SigningKey,
}

impl Site {
    /// With a factory bundle of version 1.0.0.
    fn new() -> Self {
        use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
        let folder = tempfile::tempdir().unwrap();
        let random = ring::rand::SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
        let pem = pkcs8::SecretDocument::try_from(pkcs8.as_ref())
            .unwrap()
            .to_pem("PRIVATE KEY", pkcs8::LineEnding::LF)
            .unwrap();
        let path = folder.path().join("key.pem");
        let mut options = File::options();
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.write(true).create_new(true).open(&path).unwrap();
        io::Write::write_all(&mut file, pem.as_bytes()).unwrap();
        let key = SigningKey::read(&path).unwrap();
        let anchor = crate::model::Anchor { file: path, key: key.public().clone() };
        let anchors = TrustAnchors::new(vec![anchor]).unwrap();
        let site = Self { folder, anchors, key };
        site.publish("1.0.0");
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn factory(&self) -> PathBuf {
        self.path("1.0.0")
    }

    fn publish(&self, version: &str) -> PathBuf {
        let folder = self.path(version);
        std::fs::create_dir(&folder).unwrap();
        let manifest = MANIFEST.replace("VERSION", version);
        for (name, bytes) in [
            ("bundle.toml", manifest.as_bytes()),
            ("embedder.onnx", version.repeat(100).as_bytes()),
            ("detector.onnx", b"the same in all"),
        ] {
            std::fs::write(folder.join(name), bytes).unwrap();
        }
        sign(&folder, &self.key, None).unwrap();
        folder
    }

    fn state(&self) -> StateDirectory {
        StateDirectory::at(self.path("state")).unwrap()
    }

    fn slots(&self) -> Slots {
        Slots::open(&self.state()).unwrap()
    }

    fn bundle(&self, version: &str) -> VerifiedBundle {
        let folder = self.path(version);
        let folder = if folder.exists() { folder } else { self.publish(version) };
        VerifiedBundle::open(&folder, &self.anchors).unwrap()
    }

    fn digest(&self, version: &str) -> String {
        self.bundle(version).identity().digest
    }

    fn install(&self, version: &str) -> Result<String, InstallError> {
        self.install_to(&mut self.slots(), version, By::Updater)
    }

    fn install_to(&self, slots: &mut Slots, version: &str, by: By) -> Result<String, InstallError> {
        let bundle = self.bundle(version);
        let installed = slots.install(bundle, &self.factory(), &self.anchors, by, works)?;
        Ok(installed.engine)
    }

    fn install_and_confirm(&self, version: &str) {
        self.install(version).unwrap();
        assert!(self.slots().confirm(&self.digest(version)).unwrap());
    }

    /// One start of the daemon.
    fn boot(&self) -> Booted<String> {
        self.boot_with(works)
    }

    fn boot_with(
        &self,
        start: impl Fn(VerifiedBundle) -> Result<String, EngineError>,
    ) -> Booted<String> {
        self.slots().boot(&self.factory(), &self.anchors, start).unwrap()
    }
}

/// Stands for loading and self-test: the version that runs.
#[allow(clippy::unnecessary_wraps)]
fn works(mut bundle: VerifiedBundle) -> Result<String, EngineError> {
    let version = bundle.identity().version;
    let network = bundle.take_model("embedder.onnx").unwrap();
    assert_eq!(network.as_bytes(), version.repeat(100).as_bytes());
    Ok(version)
}

fn fails_for(version: &str) -> impl Fn(VerifiedBundle) -> Result<String, EngineError> {
    let version = version.to_owned();
    move |bundle| {
        if bundle.identity().version == version {
            return Err(SelfTestError::None("embedder".to_owned()).into());
        }
        works(bundle)
    }
}

fn damage(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn factory_runs_where_nothing_is_installed() {
    let site = Site::new();
    let booted = site.boot();
    assert_eq!((booted.engine.as_str(), booted.origin), ("1.0.0", Origin::Factory));
    assert!(!booted.on_trial && booted.trouble.is_none());
}

#[test]
fn installed_runs_before_the_factory_bundle() {
    let site = Site::new();
    assert_eq!(site.install("1.1.0").unwrap(), "1.1.0");
    let booted = site.boot();
    assert_eq!((booted.engine.as_str(), booted.origin), ("1.1.0", Origin::Installed(Place::A)));
    assert!(booted.on_trial && booted.trouble.is_none());
    assert!(site.slots().confirm(&site.digest("1.1.0")).unwrap());
    assert!(!site.slots().confirm(&site.digest("1.1.0")).unwrap());
    assert!(!site.boot().on_trial);

    site.install_and_confirm("1.2.0");
    assert_eq!(site.boot().origin, Origin::Installed(Place::B));
    site.install_and_confirm("1.3.0");
    assert_eq!(site.boot().origin, Origin::Installed(Place::A));
}

/// Holds UPD-06.
#[test]
fn crash_loop_on_trial_falls_back_by_itself() {
    let site = Site::new();
    site.install_and_confirm("1.1.0");
    site.install("1.2.0").unwrap();
    for _ in 0..ATTEMPTS {
        assert_eq!(site.boot().engine, "1.2.0"); // and then it dies, or the watchdog kills it
    }
    let booted = site.boot();
    assert_eq!(booted.engine, "1.1.0");
    assert!(booted.trouble.unwrap().contains("did not stay up"));
    let last = site.slots().record().last.clone().unwrap();
    assert_eq!((last.outcome, last.model.unwrap().version.as_str()), (Kind::FellBack, "1.2.0"));
    // Not once more, neither by an update nor by hand.
    for by in [By::Updater, By::Operator] {
        let refused = site.install_to(&mut site.slots(), "1.2.0", by);
        assert!(matches!(refused, Err(InstallError::Refused { .. })), "{refused:?}");
    }
    assert_eq!(site.install("1.2.1").unwrap(), "1.2.1");
}

/// Holds UPD-06.
#[test]
fn orderly_stops_on_trial_are_no_crashes() {
    let site = Site::new();
    site.install("1.1.0").unwrap();
    for _ in 0..3 * ATTEMPTS {
        assert_eq!(site.boot().engine, "1.1.0");
        assert!(site.slots().stopped(&site.digest("1.1.0")).unwrap());
    }
}

#[test]
fn failed_self_test_is_never_installed() {
    let site = Site::new();
    let bundle = site.bundle("1.1.0");
    let mut slots = site.slots();
    let outcome =
        slots.install(bundle, &site.factory(), &site.anchors, By::Updater, fails_for("1.1.0"));
    assert!(matches!(outcome, Err(InstallError::Unfit { .. })), "{outcome:?}");
    assert_eq!(slots.record().last.as_ref().unwrap().outcome, Kind::Refused);
    drop(slots);
    assert_eq!(site.boot().engine, "1.0.0");
    assert!(matches!(site.install("1.1.0"), Err(InstallError::Refused { .. })));
}

/// Holds UPD-04.
#[test]
fn self_test_that_fails_after_a_restart_falls_back() {
    let site = Site::new();
    site.install("1.1.0").unwrap();
    let booted = site.boot_with(fails_for("1.1.0"));
    assert_eq!((booted.engine.as_str(), booted.origin), ("1.0.0", Origin::Factory));
    assert!(booted.trouble.is_some());
    let slots = site.slots();
    assert_eq!(slots.record().last.as_ref().unwrap().outcome, Kind::FellBack);
    assert!(slots.record().current.is_none());
}

#[test]
fn tampered_slot_never_runs() {
    let site = Site::new();
    site.install_and_confirm("1.1.0");
    site.install_and_confirm("1.2.0");
    damage(&site.slots().folder(Place::B).join("embedder.onnx"));
    let booted = site.boot();
    assert_eq!(booted.engine, "1.1.0");
    assert!(booted.trouble.unwrap().contains("embedder.onnx"));
    damage(&site.slots().folder(Place::A).join("bundle.toml"));
    let booted = site.boot();
    assert_eq!((booted.engine.as_str(), booted.origin), ("1.0.0", Origin::Factory));
    // The damaged one can be installed again: it was not the bundle's fault.
    assert_eq!(site.install("1.2.0").unwrap(), "1.2.0");
    assert_eq!(site.boot().engine, "1.2.0");
}

#[test]
fn signed_bundle_swapped_into_a_slot() {
    let site = Site::new();
    site.install_and_confirm("1.1.0");
    // An old one, properly signed, put there by somebody who writes to the disk.
    let slot = site.slots().folder(Place::A);
    std::fs::remove_dir_all(&slot).unwrap();
    std::fs::rename(site.publish("0.9.0"), &slot).unwrap();
    let booted = site.boot();
    assert_eq!(booted.engine, "1.0.0");
    assert!(booted.trouble.unwrap().contains("another bundle"));
}

/// Holds UPD-21.
#[test]
fn older_than_what_was_confirmed_is_refused() {
    let site = Site::new();
    assert!(matches!(site.install("0.9.0"), Err(InstallError::Stale { .. })));
    site.install_and_confirm("1.10.0");
    site.install_and_confirm("1.11.0");
    for by in [By::Updater, By::Operator] {
        let stale = site.install_to(&mut site.slots(), "1.9.0", by);
        assert!(matches!(stale, Err(InstallError::Stale { .. })), "{stale:?}");
    }
    // Going back does not lower the bar.
    site.slots().rollback(&site.factory(), &site.anchors, |_| true).unwrap();
    assert_eq!(site.boot().engine, "1.10.0");
    let stale = site.install("1.10.1");
    assert!(matches!(stale, Err(InstallError::Stale { .. })), "{stale:?}");
}

#[test]
fn what_was_never_confirmed_raises_no_bar() {
    let site = Site::new();
    site.install("9.0.0").unwrap();
    site.boot_with(fails_for("9.0.0"));
    assert_eq!(site.install("1.1.0").unwrap(), "1.1.0");
}

/// Holds UPD-22.
#[test]
fn rollback_only_to_what_is_listed_and_verifies() {
    let site = Site::new();
    let back = |site: &Site, listed: bool| {
        site.slots().rollback(&site.factory(), &site.anchors, |_| listed)
    };
    assert!(matches!(back(&site, true), Err(RollbackError::Factory)));
    site.install_and_confirm("1.1.0");
    site.install_and_confirm("1.2.0");
    assert!(matches!(back(&site, false), Err(RollbackError::Unlisted(_))));
    let file = site.slots().folder(Place::A).join("embedder.onnx");
    damage(&file);
    assert!(matches!(back(&site, true), Err(RollbackError::Bundle(_))));
    damage(&file); // the same bit back
    assert_eq!(back(&site, true).unwrap().version, "1.1.0");
    assert_eq!(site.boot().engine, "1.1.0");
    assert_eq!(back(&site, true).unwrap().version, "1.0.0");
    assert_eq!(site.boot().origin, Origin::Factory);
    // The updater does not bring back what an operator left; an operator may.
    assert!(matches!(site.install("1.2.0"), Err(InstallError::Refused { .. })));
    assert!(site.install_to(&mut site.slots(), "1.2.0", By::Operator).is_ok());
}

/// An admission is for one bundle, and for as long as nothing else comes between.
#[test]
fn bundle_that_was_not_admitted() {
    let site = Site::new();
    let (one, other) = (site.bundle("1.1.0"), site.bundle("1.2.0"));
    let mut slots = site.slots();
    let admit = |slots: &mut Slots, model: &ModelIdentity| {
        slots.admission(model, &site.factory(), &site.anchors, By::Updater).unwrap()
    };
    let admission = admit(&mut slots, &one.identity());
    let swapped = slots.place(&admission, other, &site.anchors, |_| Ok(()));
    assert!(matches!(swapped, Err(InstallError::NotAdmitted(_))), "{swapped:?}");
    assert!(slots.record().current.is_none());
    let late = admit(&mut slots, &site.bundle("1.2.0").identity());
    slots.place(&admission, one, &site.anchors, |_| Ok(())).unwrap();
    let late = slots.place(&late, site.bundle("1.2.0"), &site.anchors, |_| Ok(()));
    assert!(matches!(late, Err(InstallError::NotAdmitted(_))), "{late:?}");
    assert_eq!(slots.record().current.as_ref().unwrap().model.version, "1.1.0");
}

#[test]
fn trial_in_progress_is_not_overwritten() {
    let site = Site::new();
    site.install("1.1.0").unwrap();
    assert!(matches!(site.install("1.1.0"), Err(InstallError::Already(_))));
    assert!(matches!(site.install("1.2.0"), Err(InstallError::OnTrial(_))));
}

#[test]
fn lost_trust_anchor_refuses_nothing_for_good() {
    let site = Site::new();
    site.install("1.1.0").unwrap();
    let stranger = Site::new();
    let booted = site.slots().boot(&site.factory(), &stranger.anchors, works);
    assert!(booted.is_err());
    assert_eq!(site.boot().engine, "1.1.0");
}

#[test]
fn damaged_pointer_runs_the_factorys_bundle_and_says_so() {
    let site = Site::new();
    site.install_and_confirm("1.1.0");
    let pointer = site.path("state/models/slots.json");
    let sound = std::fs::read(&pointer).unwrap();
    let [cut, noise] = [sound[..sound.len() / 2].to_vec(), vec![0xff; 100]];
    let enormous = vec![b' '; POINTER_LIMIT as usize + 1];
    let other = String::from_utf8(sound).unwrap().replace("\"v\":1", "\"v\":2").into_bytes();
    for text in [cut, noise, enormous, other, Vec::new()] {
        std::fs::write(&pointer, text).unwrap();
        let booted = site.boot();
        assert_eq!(booted.origin, Origin::Factory);
        assert!(booted.trouble.unwrap().contains("damaged"));
    }
    assert_eq!(site.install("1.1.0").unwrap(), "1.1.0");
    assert_eq!(site.boot().engine, "1.1.0");
}

#[test]
fn looking_counts_nothing_and_sees_what_runs() {
    let site = Site::new();
    site.install("1.1.0").unwrap();
    let state = site.state();
    for _ in 0..5 {
        let (bundle, _, origin) = chosen(state.path(), &site.factory(), &site.anchors).unwrap();
        assert_eq!(bundle.identity().version, "1.1.0");
        assert_eq!(origin, Origin::Installed(Place::A));
    }
    assert_eq!(site.slots().record().current.as_ref().unwrap().trial, Some(0));
    damage(&site.slots().folder(Place::A).join("bundle.toml"));
    let (bundle, ..) = chosen(state.path(), &site.factory(), &site.anchors).unwrap();
    assert_eq!(bundle.identity().version, "1.0.0");
}

#[test]
fn serial_never_goes_back() {
    let site = Site::new();
    let mut before = 0;
    for version in ["1.1.0", "1.2.0", "1.3.0"] {
        site.install_and_confirm(version);
        let serial = site.slots().record().serial;
        assert!(serial > before);
        before = serial;
    }
}
