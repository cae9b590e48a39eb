//! Logs through `log`: to the journal with structured fields when systemd reads our stderr, else to
//! stderr.

use log::LevelFilter;

/// Starts logging; `verbosity` 0 shows information, 1 debug, 2 and more trace.
pub fn start(verbosity: u8, quiet: bool) {
    let level = match (quiet, verbosity) {
        (true, 0) => LevelFilter::Warn,
        (_, 0) => LevelFilter::Info,
        (_, 1) => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    };
    if systemd_journal_logger::connected_to_journal()
        && let Ok(logger) = systemd_journal_logger::JournalLog::new()
        && logger.with_syslog_identifier("familiar".to_owned()).install().is_ok()
    {
        log::set_max_level(level);
        return;
    }
    // Our own messages at the level asked for; libraries only when something is wrong.
    let _ = env_logger::Builder::new()
        .filter_level(LevelFilter::Warn)
        .filter_module("familiar", level)
        .target(env_logger::Target::Stderr)
        .try_init();
}

/// What a text is about, whatever numbers it carries. A trouble that lasts is logged once, and its text may count
/// seconds: compare kinds and not texts.
pub fn kind(text: &str) -> String {
    let mut kind = String::with_capacity(text.len());
    for character in text.chars() {
        if !character.is_ascii_digit() {
            kind.push(character);
        } else if !kind.ends_with('#') {
            kind.push('#');
        }
    }
    kind
}

#[cfg(test)]
mod tests {
    use super::kind;

    #[test]
    fn trouble_that_counts_seconds_is_one_kind() {
        let [one, two, other] = [
            "certificate not valid yet: verification time 99 (UNIX), but it begins at 1700000000",
            "certificate not valid yet: verification time 100 (UNIX), but it begins at 1700000000",
            "certificate expired: verification time 100 (UNIX), but it ended at 1700000000",
        ]
        .map(kind);
        assert_eq!(one, two);
        assert_ne!(one, other);
    }
}
