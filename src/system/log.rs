//! Logs through `log`: to the journal with structured fields when systemd reads our stderr, else to
//! stderr.

use log::{LevelFilter, Log, Metadata, Record};

use super::plain;

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
    {
        let logger = logger.with_syslog_identifier("familiar".to_owned());
        return install(logger, level);
    }
    // Our own messages at the level asked for; libraries only when something is wrong.
    let logger = env_logger::Builder::new()
        .filter_level(LevelFilter::Warn)
        .filter_module("familiar", level)
        .target(env_logger::Target::Stderr)
        .build();
    let level = logger.filter();
    install(logger, level);
}

fn install(logger: impl Log + 'static, level: LevelFilter) {
    // Fails only where somebody has installed one already, which then goes on.
    if log::set_boxed_logger(Box::new(Plain(logger))).is_ok() {
        log::set_max_level(level);
    }
}

/// Passes messages on without what could steer a terminal, forge a line of the journal or give a password away.
struct Plain<L>(L);

impl<L: Log> Log for Plain<L> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        let text = plain::message(&record.args().to_string());
        self.0.log(&record.to_builder().args(format_args!("{text}")).build());
    }

    fn flush(&self) {
        self.0.flush();
    }
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
    use std::sync::Mutex;

    use super::*;

    struct Kept(Mutex<Vec<String>>);

    impl Log for Kept {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn log(&self, record: &Record<'_>) {
            self.0.lock().map(|mut kept| kept.push(record.args().to_string())).unwrap_or_default();
        }

        fn flush(&self) {}
    }

    /// Holds CLI-03.
    #[test]
    fn logged_text_is_one_plain_line_without_passwords() {
        let logger = Plain(Kept(Mutex::default()));
        let record = |text: &str| {
            logger.log(&Record::builder().args(format_args!("{text}")).build());
        };
        record("a\u{1b}[2J.jpg: broken\nfamiliar: all is well");
        record("mqtts://ann:secret@broker:8883 is away");
        let kept = logger.0.0.into_inner().unwrap_or_default();
        let plain =
            [r"a\u001b[2J.jpg: broken familiar: all is well", "mqtts://***@broker:8883 is away"];
        assert_eq!(kept, plain);
    }

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
