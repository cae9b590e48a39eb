//! Foreign implementations that judge ours: a Python with `tests/judges/requirements.txt` in it.

use std::process::Command;

/// A command of the judges' Python, which `FAMILIAR_JUDGES` names (`make test` sets it).
///
/// Without it the test is skipped, and says so; but in CI, or with `FAMILIAR_REQUIRE_JUDGES=1`, it
/// fails: what must not be missing there is not skipped in silence.
pub fn python(test: &str) -> Option<Command> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(python) = set("FAMILIAR_JUDGES") {
        let mut command = Command::new(python);
        // What the judge says shall be about what it judged.
        command.env("PYTHONWARNINGS", "ignore");
        return Some(command);
    }
    let required = set("CI").is_some()
        || std::env::var("FAMILIAR_REQUIRE_JUDGES").is_ok_and(|value| value == "1");
    assert!(!required, "{test}: FAMILIAR_JUDGES does not name the judges' python");
    eprintln!("{test}: SKIPPED, FAMILIAR_JUDGES does not name the judges' python");
    None
}
