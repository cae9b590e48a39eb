//! The program under test.

use std::ffi::OsString;

/// The one built with these tests.
pub const NATIVE: &str = env!("CARGO_BIN_EXE_familiar");

/// What `FAMILIAR_BINARY` names (`make test-arm`: the one for ARM, by an emulator), else [`NATIVE`].
pub fn familiar() -> OsString {
    foreign().unwrap_or_else(|| NATIVE.into())
}

/// What `FAMILIAR_BINARY` names.
pub fn foreign() -> Option<OsString> {
    std::env::var_os("FAMILIAR_BINARY").filter(|value| !value.is_empty())
}
