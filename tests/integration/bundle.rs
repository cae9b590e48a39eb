//! A bundle that was tampered with does not open, and the message names the file: each attack
//! through `familiar model verify`.

use std::os::unix::fs::symlink;
use std::process::{Command, Output};

use familiar::model::VerifiedBundle;

use crate::support::bundle::{MANIFEST, TestBundle};
use crate::support::program;

fn verify(bundle: &TestBundle) -> Output {
    Command::new(program::familiar())
        .args(["model", "verify"])
        .arg(bundle.path())
        .arg("--trust")
        .arg(bundle.trust())
        .output()
        .unwrap()
}

/// Exit code 3, nothing on stdout, and one line on stderr that names the file and says why. The
/// library refuses it, too.
#[track_caller]
pub fn refused(bundle: &TestBundle, file: &str, why: &str) {
    let output = verify(bundle);
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{message}");
    assert!(output.stdout.is_empty());
    assert_eq!(message.matches('\n').count(), 1, "{message}");
    assert!(message.contains(&format!(" {file}: ")), "{message}");
    assert!(message.contains(why), "{message}");
    VerifiedBundle::open(&bundle.path(), &bundle.anchors()).expect_err("opened");
}

#[track_caller]
pub fn accepted(bundle: &TestBundle) {
    let output = verify(bundle);
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{message}");
    VerifiedBundle::open(&bundle.path(), &bundle.anchors()).unwrap();
}

/// Holds TRU-08.
#[test]
fn verified_bytes_are_the_loaded_bytes() {
    let bundle = TestBundle::new();
    accepted(&bundle);
    let mut opened = VerifiedBundle::open(&bundle.path(), &bundle.anchors()).unwrap();
    // What happens on the disk from here on concerns nobody.
    let (embedder, card) = (bundle.read("embedder.onnx"), bundle.read("CARD.md"));
    bundle.write("embedder.onnx", b"something else");
    bundle.write("CARD.md", b"something else");

    let root = &bundle.statement()["subject"][0]["digest"]["sha256"];
    assert_ne!(opened.identity().digest, format!("sha256:{}", root.as_str().unwrap()));
    assert_eq!(opened.identity().name, "tiny");
    assert_eq!(opened.identity().version, "1.2.3");
    assert_eq!(opened.manifest().embedder.dimensions, 4);
    assert_eq!(opened.file("CARD.md"), Some(card.as_slice()));
    assert_eq!(opened.take_model("embedder.onnx").unwrap().as_bytes(), embedder);
    assert!(opened.take_model("embedder.onnx").is_none());
    assert!(opened.take_model("nothing.onnx").is_none());
}

/// Holds TRU-07.
#[test]
fn identity_is_the_root_digest() {
    let bundle = TestBundle::new();
    let opened = VerifiedBundle::open(&bundle.path(), &bundle.anchors()).unwrap();
    let root = bundle.statement()["subject"][0]["digest"]["sha256"].clone();
    assert_eq!(opened.identity().digest, format!("sha256:{}", root.as_str().unwrap()));
}

/// Holds TRU-01.
#[test]
fn changed_byte_in_a_model() {
    let bundle = TestBundle::new();
    let mut bytes = bundle.read("embedder.onnx");
    bytes[17] ^= 1;
    bundle.write("embedder.onnx", &bytes);
    refused(&bundle, "embedder.onnx", "changed after signing");
}

/// Holds TRU-01.
#[test]
fn changed_byte_in_the_manifest() {
    let bundle = TestBundle::new();
    bundle.write("bundle.toml", MANIFEST.replace("0.01,", "0.02,").as_bytes());
    refused(&bundle, "bundle.toml", "changed after signing");
}

/// Holds TRU-01.
#[test]
fn swapped_models() {
    let bundle = TestBundle::new();
    let (embedder, detector) = (bundle.read("embedder.onnx"), bundle.read("detector.onnx"));
    bundle.write("embedder.onnx", &detector);
    bundle.write("detector.onnx", &embedder);
    refused(&bundle, "detector.onnx", "changed after signing");
}

/// Holds TRU-01.
#[test]
fn truncated_model() {
    let bundle = TestBundle::new();
    for length in [299, 1, 0] {
        let bytes = bundle.read("detector.onnx");
        bundle.write("detector.onnx", &bytes[..length]);
        refused(&bundle, "detector.onnx", "changed after signing");
    }
}

/// Holds TRU-01.
#[test]
fn truncated_signature() {
    let bundle = TestBundle::new();
    let whole = bundle.read("model.sig");
    for length in (0..whole.len()).step_by(191).chain([whole.len() - 1]) {
        bundle.write("model.sig", &whole[..length]);
        refused(&bundle, "model.sig", "not a Sigstore bundle");
    }
}

/// Holds TRU-02.
#[test]
fn missing_file() {
    for file in ["embedder.onnx", "bundle.toml", "CARD.md"] {
        let bundle = TestBundle::new();
        std::fs::remove_file(bundle.file(file)).unwrap();
        refused(&bundle, file, "missing");
    }
}

/// Holds TRU-02.
#[test]
fn missing_signature() {
    let bundle = TestBundle::new();
    std::fs::remove_file(bundle.file("model.sig")).unwrap();
    refused(&bundle, "model.sig", "missing");
}

/// Holds TRU-02.
#[test]
fn extra_file() {
    // The last of these the reference tool passes over.
    for file in ["extra.onnx", ".hidden", "model.sig.bak", ".gitignore"] {
        let bundle = TestBundle::new();
        bundle.write(file, b"");
        refused(&bundle, file, "not among the signed files");
    }
}

/// Holds TRU-02.
#[test]
fn extra_directory() {
    for directory in ["extra", ".git"] {
        let bundle = TestBundle::new();
        std::fs::create_dir(bundle.file(directory)).unwrap();
        refused(&bundle, directory, "not among the signed files");
    }
}

/// Holds TRU-02.
#[test]
fn renamed_file() {
    let bundle = TestBundle::new();
    std::fs::rename(bundle.file("CARD.md"), bundle.file("card.md")).unwrap();
    refused(&bundle, "CARD.md", "missing");
}

/// Holds TRU-02.
#[test]
fn file_name_with_a_newline() {
    let bundle = TestBundle::new();
    bundle.write("a\nfamiliar: all is well", b"");
    refused(&bundle, "a\\nfamiliar: all is well", "not among the signed files");
}

/// Holds TRU-02.
#[test]
fn symbolic_link() {
    // To the very content that was signed: still not a file of the bundle.
    for file in ["embedder.onnx", "bundle.toml", "model.sig"] {
        let bundle = TestBundle::new();
        let elsewhere = bundle.root().join("elsewhere");
        std::fs::rename(bundle.file(file), &elsewhere).unwrap();
        symlink(&elsewhere, bundle.file(file)).unwrap();
        refused(&bundle, file, "symbolic link");
    }
}

/// Holds TRU-02.
#[test]
fn dangling_symbolic_link() {
    let bundle = TestBundle::new();
    symlink("nowhere", bundle.file("link")).unwrap();
    refused(&bundle, "link", "not among the signed files");
}

/// Holds TRU-02.
#[test]
fn directory_in_place_of_a_file() {
    for file in ["embedder.onnx", "model.sig"] {
        let bundle = TestBundle::new();
        std::fs::remove_file(bundle.file(file)).unwrap();
        std::fs::create_dir(bundle.file(file)).unwrap();
        refused(&bundle, file, "not a regular file");
    }
}

/// Holds TRU-02.
#[test]
fn fifo_in_place_of_a_file() {
    for file in ["embedder.onnx", "model.sig"] {
        let bundle = TestBundle::new();
        std::fs::remove_file(bundle.file(file)).unwrap();
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, bundle.file(file), mode).unwrap();
        refused(&bundle, file, "not a regular file");
    }
}

/// Holds TRU-02.
#[test]
fn hard_link_to_another_model() {
    let bundle = TestBundle::new();
    std::fs::remove_file(bundle.file("embedder.onnx")).unwrap();
    std::fs::hard_link(bundle.file("detector.onnx"), bundle.file("embedder.onnx")).unwrap();
    refused(&bundle, "embedder.onnx", "changed after signing");
}

/// Holds TRU-01.
#[test]
fn enormous_file() {
    let bundle = TestBundle::new();
    for (file, size) in [("embedder.onnx", (512 << 20) + 1), ("model.sig", (1 << 20) + 1)] {
        let sparse = std::fs::File::create(bundle.file(file)).unwrap();
        sparse.set_len(size).unwrap();
        refused(&bundle, file, "is larger than");
    }
}

/// Holds TRU-04.
#[test]
fn unknown_key_in_the_manifest() {
    let bundle = TestBundle::new();
    bundle.write("bundle.toml", format!("surprise = 1\n{MANIFEST}").as_bytes());
    bundle.sign();
    refused(&bundle, "bundle.toml", "line 1: unknown field `surprise`");
}

/// Holds TRU-04.
#[test]
fn manifest_that_makes_no_sense() {
    for (from, to, why) in [
        ("format = 1", "format = 2", "format is 2"),
        ("\"tiny\"", "\"../tiny\"", "`name`"),
        ("\"1.2.3\"", "\"1.2\"", "`version`"),
        ("\"0.1.0\"", "\"99.0.0\"", "needs familiar 99.0.0"),
        ("\"embedder.onnx\"", "\"../embedder.onnx\"", "`file`"),
        ("\"detector.onnx\"", "\"embedder.onnx\"", "two networks"),
        ("width = 8,", "width = 0,", "`embedder.input`"),
        ("height = 32", "height = 5000", "`detector.input`"),
        ("mean = [127.5", "mean = [nan", "`embedder.input`"),
        ("margin = 0.2", "margin = -0.2", "`embedder.crop.margin`"),
        ("dimensions = 4", "dimensions = 0", "`embedder.dimensions`"),
        ("score_threshold = 0.7", "score_threshold = 1.7", "`detector.score_threshold`"),
        (
            "[[calibration]]",
            "[liveness_decision]\nthreshold = 0.3\n[[calibration]]",
            "`liveness_decision`",
        ),
        ("_rate = 0.01", "_rate = 0.0", "`calibration.points.false_match_rate`"),
        ("_rate = 0.1,", "_rate = 1.0,", "`calibration.points.false_match_rate`"),
        ("similarity = 0.4", "similarity = 0.1", "`calibration.points`"),
        ("similarity = 0.4", "similarity = nan", "`calibration.points.similarity`"),
        ("looks = 1", "looks = 0", "`calibration.looks`"),
    ] {
        let bundle = TestBundle::new();
        assert!(MANIFEST.contains(from), "{from}");
        bundle.write("bundle.toml", MANIFEST.replacen(from, to, 1).as_bytes());
        bundle.sign();
        refused(&bundle, "bundle.toml", why);
    }
}

/// Holds TRU-04.
#[test]
fn network_that_the_manifest_needs_is_not_there() {
    let bundle = TestBundle::new();
    std::fs::remove_file(bundle.file("detector.onnx")).unwrap();
    bundle.sign();
    refused(&bundle, "detector.onnx", "needs it");
}

/// Thousands of single flipped bits across all files; not one may open.
/// Holds TRU-05.
#[test]
fn random_bit_flips() {
    let bundle = TestBundle::new();
    let anchors = bundle.anchors();
    let files: Vec<(&str, Vec<u8>)> =
        ["bundle.toml", "embedder.onnx", "detector.onnx", "CARD.md", "model.sig"]
            .map(|name| (name, bundle.read(name)))
            .into();
    let total: usize = files.iter().map(|(_, bytes)| bytes.len() * 8).sum();
    let mut random = fastrand::Rng::with_seed(0x5eed);
    for round in 0..6000 {
        let mut bit = random.usize(..total);
        let (name, bytes) = files
            .iter()
            .find(|(_, bytes)| {
                let here = bit < bytes.len() * 8;
                bit -= if here { 0 } else { bytes.len() * 8 };
                here
            })
            .unwrap();
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        bundle.write(name, &flipped);
        assert!(
            VerifiedBundle::open(&bundle.path(), &anchors).is_err(),
            "round {round}: opened with bit {bit} of {name} flipped"
        );
        bundle.write(name, bytes);
    }
    VerifiedBundle::open(&bundle.path(), &anchors).unwrap();
}
