//! The real networks of a real bundle: `FAMILIAR_TEST_BUNDLE` is its folder, `FAMILIAR_TEST_TRUST` that of its trust
//! anchors (`make test` builds a bundle and sets both). Without them these tests say so and pass.

use std::path::{Path, PathBuf};

use familiar::model::{Engine, SigningKey, TrustAnchors, VerifiedBundle, sign};
use image::RgbImage;
use tempfile::TempDir;

use crate::support::bundle::{Curve, TestKey};

fn given() -> Option<(PathBuf, PathBuf)> {
    let folder = |name| std::env::var_os(name).map(PathBuf::from);
    let both = folder("FAMILIAR_TEST_BUNDLE").zip(folder("FAMILIAR_TEST_TRUST"));
    if both.is_none() {
        eprintln!("skipped: FAMILIAR_TEST_BUNDLE and FAMILIAR_TEST_TRUST are not set");
    }
    both
}

fn start(bundle: &Path, trust: &Path) -> Result<Engine, String> {
    let anchors = TrustAnchors::load(trust).unwrap();
    let verified = VerifiedBundle::open(bundle, &anchors).map_err(|error| error.to_string())?;
    Engine::start(verified).map_err(|error| error.to_string())
}

/// A copy of the bundle, changed, and signed by a key that is trusted: only the self-test can notice.
fn resigned(bundle: &Path, change: impl Fn(&Path)) -> (TempDir, PathBuf, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let (copy, trust) = (root.path().join("facenet"), root.path().join("trust.d"));
    std::fs::create_dir(&copy).unwrap();
    std::fs::create_dir(&trust).unwrap();
    for entry in std::fs::read_dir(bundle).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    change(&copy);
    let key = TestKey::new(Curve::P256);
    let file = root.path().join("key.pem");
    key.write(&file);
    std::fs::write(trust.join("signer.pub"), key.public_pem()).unwrap();
    sign(&copy, &SigningKey::read(&file).unwrap(), None).unwrap();
    (root, copy, trust)
}

fn edit(file: &Path, change: impl Fn(String) -> String) {
    let text = std::fs::read_to_string(file).unwrap();
    let changed = change(text.clone());
    assert_ne!(text, changed, "{} did not change", file.display());
    std::fs::write(file, changed).unwrap();
}

#[test]
fn real_bundle_passes_its_self_test() {
    let Some((bundle, trust)) = given() else { return };
    let engine = start(&bundle, &trust).unwrap();
    let empty = RgbImage::from_pixel(640, 480, image::Rgb([90, 120, 150]));
    assert!(engine.detect(&empty).unwrap().is_empty());
    assert!(engine.embedder_digest().starts_with("sha256:"));
    engine.load_liveness().unwrap();
}

#[test]
fn embedder_that_computes_something_else() {
    let Some((bundle, trust)) = given() else { return };
    drop(trust);
    let (_root, copy, trust) = resigned(&bundle, |copy| {
        edit(&copy.join("bundle.toml"), |text| {
            // Another normalisation: a mistake that no signature notices.
            text.replacen("mean = [127.5, 127.5, 127.5]", "mean = [0.0, 127.5, 127.5]", 1)
        });
    });
    let refused = start(&copy, &trust).err().expect("a wrong normalisation was taken");
    assert!(refused.contains("embedder self-test 1: cosine"), "{refused}");
}

#[test]
fn detector_that_sees_something_else() {
    let Some((bundle, trust)) = given() else { return };
    drop(trust);
    let (_root, copy, trust) = resigned(&bundle, |copy| {
        edit(&copy.join("bundle.toml"), |text| {
            text.replacen("score_threshold = 0.", "score_threshold = 0.99", 1)
        });
    });
    let refused = start(&copy, &trust).err().expect("a blind detector was taken");
    assert!(refused.contains("detector self-test 1: 0 faces found"), "{refused}");
}

#[test]
fn bundle_without_self_test_cases() {
    let Some((bundle, trust)) = given() else { return };
    drop(trust);
    let (_root, copy, trust) =
        resigned(&bundle, |copy| std::fs::write(copy.join("selftest.toml"), "").unwrap());
    let refused = start(&copy, &trust).err().expect("an untested bundle was taken");
    assert!(refused.contains("no self-test"), "{refused}");
}

#[test]
fn swapped_networks() {
    let Some((bundle, trust)) = given() else { return };
    drop(trust);
    let (_root, copy, trust) = resigned(&bundle, |copy| {
        let (one, other) = (copy.join("embedder.onnx"), copy.join("detector.onnx"));
        let between = copy.join("between.onnx");
        std::fs::rename(&one, &between).unwrap();
        std::fs::rename(&other, &one).unwrap();
        std::fs::rename(&between, &other).unwrap();
    });
    let refused = start(&copy, &trust).err().expect("swapped networks were taken");
    assert!(refused.contains("bundle.toml describes"), "{refused}");
}
