//! Every input that fuzzing has made or found, through the same functions: what was mended stays mended. And a bounded
//! number of mutations of them, the same each time; `make fuzz` searches on, guided by coverage.

mod seeds;

use std::collections::BTreeSet;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use crate::fuzzed::TARGETS;

/// Mutated inputs tried on each target.
const MUTATIONS: usize = 3000;

fn corpora() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

/// Name and content, in the order of the names.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = std::fs::read_dir(corpora().join(target)).unwrap();
    let mut paths: Vec<PathBuf> = folder.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let read = |path: PathBuf| (path.clone(), std::fs::read(path).unwrap());
    paths.into_iter().map(read).collect()
}

/// Holds ROB-12.
#[test]
fn inputs_of_every_target() {
    for (name, target, longest) in TARGETS {
        let inputs = corpus(name);
        assert!(inputs.len() >= 3, "{name} has only {} inputs", inputs.len());
        for (path, bytes) in inputs {
            assert!(bytes.len() <= longest, "{}: never tried", path.display());
            // A panic of the target does not say which input it was.
            assert!(catch_unwind(|| target(&bytes)).is_ok(), "{}", path.display());
            for cut in [0, 1, bytes.len() / 2, bytes.len().saturating_sub(1)] {
                let outcome = catch_unwind(|| target(&bytes[..cut.min(bytes.len())]));
                assert!(outcome.is_ok(), "{} cut at {cut}", path.display());
            }
        }
    }
}

/// Holds ROB-12.
#[test]
fn mutated_inputs_of_every_target() {
    for (name, target, longest) in TARGETS {
        let inputs = corpus(name);
        let mut random = fastrand::Rng::with_seed(20_261_123);
        for _ in 0..MUTATIONS {
            let mut bytes = random.choice(&inputs).unwrap().1.clone();
            for _ in 0..random.usize(1..6) {
                mutate(&mut bytes, &random.choice(&inputs).unwrap().1, &mut random);
            }
            bytes.truncate(longest);
            let outcome = catch_unwind(|| target(&bytes));
            assert!(outcome.is_ok(), "{name}: put this into its corpus: {}", bytes.escape_ascii());
        }
    }
}

/// One change, of the kinds that fuzzers make.
fn mutate(bytes: &mut Vec<u8>, other: &[u8], random: &mut fastrand::Rng) {
    let part = |length: usize, random: &mut fastrand::Rng| {
        let from = random.usize(..=length);
        from..random.usize(from..=length).min(from + 64)
    };
    let range = part(bytes.len(), random);
    match random.u8(..6) {
        0 => bytes[range].iter_mut().take(1).for_each(|byte| *byte ^= 1 << random.u8(..8)),
        1 => bytes[range].iter_mut().take(1).for_each(|byte| *byte = random.u8(..)),
        // Numbers at which lengths and counts turn over.
        2 => {
            let number = *random.choice(&[0, 0x7f, 0x80, 0xff]).unwrap();
            bytes[range].iter_mut().take(4).for_each(|byte| *byte = number);
        }
        3 => drop(bytes.drain(range)),
        4 => {
            let copy = bytes[range.clone()].to_vec();
            bytes.splice(range.start..range.start, copy);
        }
        _ => {
            let piece = other[part(other.len(), random)].to_vec();
            bytes.splice(range, piece);
        }
    }
}

/// Holds ROB-12.
#[test]
fn every_target_has_a_corpus() {
    let folders = std::fs::read_dir(corpora()).unwrap();
    let folders: BTreeSet<String> =
        folders.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, ..)| (*name).to_owned()).collect();
    assert_eq!(folders, targets);
}
