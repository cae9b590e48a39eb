//! Bundles whose signature holds, but which do not do what they should: only the self-test can notice.

use std::path::Path;

use familiar::model::{Engine, TrustAnchors, VerifiedBundle};

use crate::support::bundle::TestBundle;
use crate::support::small;

fn start(bundle: &Path, trust: &Path) -> Result<Engine, String> {
    let anchors = TrustAnchors::load(trust).unwrap();
    let verified = VerifiedBundle::open(bundle, &anchors).map_err(|error| error.to_string())?;
    Engine::start(verified).map_err(|error| error.to_string())
}

/// The small bundle, changed, and signed again by its own key.
fn resigned(change: impl Fn(&Path)) -> TestBundle {
    let bundle = small::bundle();
    change(&bundle.path());
    bundle.sign();
    bundle
}

fn edit(file: &Path, change: impl Fn(String) -> String) {
    let text = std::fs::read_to_string(file).unwrap();
    let changed = change(text.clone());
    assert_ne!(text, changed, "{} did not change", file.display());
    std::fs::write(file, changed).unwrap();
}

/// Holds TRU-09, REC-05.
#[test]
fn embedder_that_computes_something_else() {
    let bundle = resigned(|copy| {
        edit(&copy.join("bundle.toml"), |text| {
            // Another normalisation: a mistake that no signature notices.
            text.replacen("mean = [127.5, 127.5, 127.5]", "mean = [0.0, 127.5, 127.5]", 1)
        });
    });
    let refused =
        start(&bundle.path(), &bundle.trust()).err().expect("a wrong normalisation was taken");
    assert!(refused.contains("embedder self-test 1: cosine"), "{refused}");
}

/// Holds TRU-09.
#[test]
fn detector_that_sees_something_else() {
    let bundle = resigned(|copy| {
        edit(&copy.join("bundle.toml"), |text| {
            text.replacen("score_threshold = 0.", "score_threshold = 0.99", 1)
        });
    });
    let refused = start(&bundle.path(), &bundle.trust()).err().expect("a blind detector was taken");
    assert!(refused.contains("detector self-test 1: 0 faces found"), "{refused}");
}

#[test]
fn bundle_without_self_test_cases() {
    let bundle = resigned(|copy| std::fs::write(copy.join("selftest.toml"), "").unwrap());
    let refused =
        start(&bundle.path(), &bundle.trust()).err().expect("an untested bundle was taken");
    assert!(refused.contains("no self-test"), "{refused}");
}

#[test]
fn swapped_networks() {
    let bundle = resigned(|copy| {
        let (one, other) = (copy.join("embedder.onnx"), copy.join("detector.onnx"));
        let between = copy.join("between.onnx");
        std::fs::rename(&one, &between).unwrap();
        std::fs::rename(&other, &one).unwrap();
        std::fs::rename(&between, &other).unwrap();
    });
    let refused =
        start(&bundle.path(), &bundle.trust()).err().expect("swapped networks were taken");
    assert!(refused.contains("bundle.toml describes"), "{refused}");
}
