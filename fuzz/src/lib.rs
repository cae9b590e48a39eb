//! The fuzz targets; [`fuzzed`] is also a module of the integration tests.

pub mod fuzzed;

/// A libFuzzer program of the target of that name.
#[macro_export]
macro_rules! fuzz {
    ($target:ident) => {
        libfuzzer_sys::fuzz_target!(|bytes: &[u8]| $crate::fuzzed::$target(bytes));
    };
}
