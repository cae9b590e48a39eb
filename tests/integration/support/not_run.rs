//! What was not run is said where nobody can miss it.

use std::io::Write;

/// Names a file to which each line is added; `make test` prints it at its end.
const LIST: &str = "FAMILIAR_NOT_RUN";

/// The only way for a test to end early. Says so on the real stderr (libtest swallows `eprintln!` of a test that
/// passes), and in the file that `FAMILIAR_NOT_RUN` names. Where judges are required (`FAMILIAR_REQUIRE_JUDGES=1`, CI)
/// it fails the test instead.
///
/// `suite` is what the list says is missing, for instance a module; the reason says what would help.
pub fn not_run(suite: &str, reason: &str) {
    assert!(!super::judge::required(), "{suite}: {reason}");
    let line = format!("not run: {suite}: {reason}\n");
    // One write, so that tests on several threads do not mix their lines.
    let _ = std::io::stderr().write_all(line.as_bytes());
    if let Some(list) = std::env::var_os(LIST).filter(|path| !path.is_empty()) {
        let file = std::fs::File::options().create(true).append(true).open(list);
        file.and_then(|mut file| file.write_all(line.as_bytes())).unwrap();
    }
}
