//! Foreign implementations that judge ours: a Python with `tests/judges/requirements.txt` in it, and
//! Node.js with `tests/judges/package.json`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A command of the judges' Python, which `FAMILIAR_JUDGES` names (`make test` sets it).
///
/// Without it the test is listed as not run ([`super::not_run`]); in CI, or with `FAMILIAR_REQUIRE_JUDGES=1`, it fails.
pub fn python(test: &str) -> Option<Command> {
    let mut command = Command::new(named(test, "FAMILIAR_JUDGES")?);
    // What the judge says shall be about what it judged.
    command.env("PYTHONWARNINGS", "ignore");
    Some(command)
}

/// Node.js about to run a program in `folder`, with the packages of `tests/judges/package.json`, whose
/// folder `FAMILIAR_JUDGES_NODE` names; without it as with [`python`].
pub fn node(test: &str, folder: &Path, program: &Path) -> Option<Command> {
    let judges = PathBuf::from(named(test, "FAMILIAR_JUDGES_NODE")?);
    std::os::unix::fs::symlink(judges.join("node_modules"), folder.join("node_modules")).unwrap();
    // Node.js 18 knows WebCrypto only by this flag; later ones take it and do nothing.
    let mut node = Command::new("node");
    node.arg("--experimental-global-webcrypto").arg(program);
    Some(node)
}

/// systemd's analysis of units; without it as with [`python`].
pub fn systemd(test: &str) -> Option<Command> {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        super::not_run(test, "systemd-analyze is not installed (Debian's package systemd)");
        return None;
    }
    Some(Command::new("systemd-analyze"))
}

/// Whether a missing judge is a failure.
pub fn required() -> bool {
    set("CI").is_some() || std::env::var("FAMILIAR_REQUIRE_JUDGES").is_ok_and(|value| value == "1")
}

/// What the variable says; without it as with [`python`].
pub fn named(test: &str, variable: &str) -> Option<OsString> {
    let judge = set(variable);
    if judge.is_none() {
        super::not_run(test, &format!("{variable} is not set; `make test` sets it"));
    }
    judge
}

fn set(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}
