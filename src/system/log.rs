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
