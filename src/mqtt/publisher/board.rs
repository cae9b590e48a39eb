//! What the broker shall keep, retained, for whoever comes later: one text a topic, the newest counts.

use std::sync::Arc;

use crate::event::SignedMessage;
use crate::mqtt::discovery::Discovery;

/// A retained message of this device, or its end.
#[derive(Debug, Clone)]
pub enum Statement {
    Signed {
        topic: String,
        message: SignedMessage,
    },
    /// What Home Assistant is told of the device; unsigned by contract.
    Discovery(Discovery),
    /// The broker forgets what it kept on the topic.
    Cleared {
        topic: String,
    },
}

/// The newest statement on every topic, in the order in which the topics first came.
#[derive(Debug, Default)]
pub(super) struct Board {
    notices: Vec<Notice>,
    versions: u64,
}

#[derive(Debug)]
struct Notice {
    topic: String,
    text: Arc<str>,
    cleared: bool,
    /// Grows with each change; never used twice.
    version: u64,
    /// The version sent over this connection; 0 if none was.
    sent: u64,
    /// The version the broker has taken, over whichever connection.
    taken: u64,
}

/// A statement on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Due {
    pub topic: String,
    pub text: Arc<str>,
    pub version: u64,
}

impl Board {
    pub fn put(&mut self, statement: Statement) {
        let (topic, text, cleared) = match statement {
            Statement::Signed { topic, message } => (topic, Arc::from(message.as_str()), false),
            Statement::Discovery(discovery) => {
                (discovery.topic().to_owned(), Arc::from(discovery.text()), false)
            }
            Statement::Cleared { topic } => (topic, Arc::from(""), true),
        };
        self.versions += 1;
        let version = self.versions;
        match self.notices.iter_mut().find(|notice| notice.topic == topic) {
            Some(notice) => {
                notice.text = text;
                notice.cleared = cleared;
                notice.version = version;
            }
            None => {
                self.notices.push(Notice { topic, text, cleared, version, sent: 0, taken: 0 });
            }
        }
    }

    /// A new connection: the broker may have lost what it kept, so everything is said again.
    pub fn connected(&mut self) {
        for notice in &mut self.notices {
            notice.sent = 0;
        }
    }

    /// Says everything again without a new connection.
    pub fn repeat(&mut self) {
        self.connected();
    }

    /// The next statement to send over this connection; it then counts as sent.
    pub fn next_due(&mut self) -> Option<Due> {
        let notice = self.notices.iter_mut().find(|notice| notice.sent != notice.version)?;
        notice.sent = notice.version;
        Some(Due {
            topic: notice.topic.clone(),
            text: notice.text.clone(),
            version: notice.version,
        })
    }

    /// The broker has taken a statement.
    pub fn taken(&mut self, topic: &str, version: u64) {
        let Some(at) = self.notices.iter().position(|notice| notice.topic == topic) else { return };
        let notice = &mut self.notices[at];
        notice.taken = notice.taken.max(version);
        if notice.cleared && notice.taken == notice.version {
            self.notices.remove(at);
        }
    }

    /// Whether the broker has taken the newest statement on the topic.
    pub fn is_settled(&self, topic: &str) -> bool {
        self.notices
            .iter()
            .find(|notice| notice.topic == topic)
            .is_none_or(|notice| notice.taken == notice.version)
    }

    /// Whether everything was sent over this connection.
    pub fn is_sent(&self) -> bool {
        self.notices.iter().all(|notice| notice.sent == notice.version)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn cleared(topic: &str) -> Statement {
        Statement::Cleared { topic: topic.to_owned() }
    }

    #[test]
    fn newest_statement_counts_and_a_late_acknowledgement_settles_nothing() {
        let mut board = Board::default();
        board.put(cleared("a"));
        let first = board.next_due().unwrap();
        board.put(cleared("a"));
        board.taken("a", first.version);
        assert!(!board.is_settled("a"), "the newer one is still on its way");
        let second = board.next_due().unwrap();
        assert!(board.next_due().is_none() && board.is_sent());
        board.taken("a", second.version);
        assert!(board.is_settled("a") && board.notices.is_empty());
    }

    #[test]
    fn clearing_cut_off_is_said_again() {
        let mut board = Board::default();
        board.put(cleared("a"));
        assert!(board.next_due().is_some());
        board.connected();
        assert!(!board.is_settled("a"));
        assert!(board.next_due().is_some());
    }
}
