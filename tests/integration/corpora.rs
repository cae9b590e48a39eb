//! Every input that fuzzing has made or found, through the same functions: what was mended stays mended.

mod seeds;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::fuzzed::TARGETS;

fn corpora() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

#[test]
fn inputs_of_every_target() {
    for (name, target, longest) in TARGETS {
        let mut count = 0;
        for entry in std::fs::read_dir(corpora().join(name)).unwrap() {
            let path = entry.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            assert!(bytes.len() <= longest, "{}: never tried", path.display());
            // A panic of the target does not say which input it was.
            let outcome = std::panic::catch_unwind(|| target(&bytes));
            assert!(outcome.is_ok(), "{}", path.display());
            // As a mutation would have it.
            for cut in [0, 1, bytes.len() / 2, bytes.len().saturating_sub(1)] {
                let outcome = std::panic::catch_unwind(|| target(&bytes[..cut.min(bytes.len())]));
                assert!(outcome.is_ok(), "{} cut at {cut}", path.display());
            }
            count += 1;
        }
        assert!(count >= 3, "{name} has only {count} inputs");
    }
}

#[test]
fn every_target_has_a_corpus() {
    let folders = std::fs::read_dir(corpora()).unwrap();
    let folders: BTreeSet<String> =
        folders.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, ..)| (*name).to_owned()).collect();
    assert_eq!(folders, targets);
}
