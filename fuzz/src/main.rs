//! libFuzzer on one of the targets, named by FAMILIAR_FUZZ. One program for all of them, for each would take the linker
//! a hundred megabytes.
#![no_main]

mod fuzzed;

use std::sync::LazyLock;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("FAMILIAR_FUZZ").unwrap_or_default();
    let found = fuzzed::TARGETS.iter().find(|(target, ..)| *target == name);
    let Some((_, target, _)) = found else { panic!("FAMILIAR_FUZZ={name:?} names no target") };
    *target
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| TARGET(bytes));
