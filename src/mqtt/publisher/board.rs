//! What the broker shall keep, retained, for whoever comes later: one text a topic, the newest counts.

use std::collections::{BTreeMap, VecDeque};
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

impl Statement {
    pub fn topic(&self) -> &str {
        match self {
            Self::Signed { topic, .. } | Self::Cleared { topic } => topic,
            Self::Discovery(discovery) => discovery.topic(),
        }
    }
}

/// The newest statement on every topic.
#[derive(Debug, Default)]
pub(super) struct Board {
    notices: BTreeMap<String, Notice>,
    /// Topics to be said over this connection, in their order.
    due: VecDeque<String>,
    versions: u64,
}

#[derive(Debug)]
struct Notice {
    text: Arc<str>,
    cleared: bool,
    /// Of the topic's first statement: the order after a reconnect.
    first: u64,
    /// Grows with each change; never used twice.
    version: u64,
    /// The version the broker has taken, over whichever connection.
    taken: u64,
    /// Among those due.
    queued: bool,
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
        let fresh = || Notice {
            text: Arc::from(""),
            cleared,
            first: version,
            version,
            taken: 0,
            queued: false,
        };
        let notice = self.notices.entry(topic.clone()).or_insert_with(fresh);
        notice.text = text;
        notice.cleared = cleared;
        notice.version = version;
        if !std::mem::replace(&mut notice.queued, true) {
            self.due.push_back(topic);
        }
    }

    /// Has everything said again: the broker may have lost what it kept.
    pub fn repeat(&mut self) {
        let mut all: Vec<_> = self.notices.iter_mut().collect();
        all.sort_by_key(|(_, notice)| notice.first);
        self.due.clear();
        for (topic, notice) in all {
            notice.queued = true;
            self.due.push_back(topic.clone());
        }
    }

    /// The next statement to send over this connection, of those whose topic may be sent; it then counts as sent.
    pub fn next_due(&mut self, may_be_sent: impl Fn(&str) -> bool) -> Option<Due> {
        let index = self.due.iter().position(|topic| may_be_sent(topic))?;
        let topic = self.due.remove(index)?;
        let notice = self.notices.get_mut(&topic)?;
        notice.queued = false;
        Some(Due { topic, text: notice.text.clone(), version: notice.version })
    }

    /// The broker has taken a statement; `true` if it keeps nothing on the topic from then on.
    pub fn taken(&mut self, topic: &str, version: u64) -> bool {
        let Some(notice) = self.notices.get_mut(topic) else { return false };
        notice.taken = notice.taken.max(version);
        let cleared = notice.cleared && notice.taken == notice.version && !notice.queued;
        if cleared {
            self.notices.remove(topic);
        }
        cleared
    }

    /// The newest statement on the topic, if the broker has taken one there before.
    pub fn text_after_taken(&self, topic: &str) -> Option<Arc<str>> {
        let notice = self.notices.get(topic).filter(|notice| notice.taken > 0)?;
        Some(notice.text.clone())
    }

    /// Whether the broker has taken the newest statement on the topic.
    pub fn is_settled(&self, topic: &str) -> bool {
        self.notices.get(topic).is_none_or(|notice| notice.taken == notice.version)
    }

    /// Whether everything of those whose topic may be sent was sent over this connection.
    pub fn is_sent(&self, may_be_sent: impl Fn(&str) -> bool) -> bool {
        !self.due.iter().any(|topic| may_be_sent(topic))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn cleared(topic: &str) -> Statement {
        Statement::Cleared { topic: topic.to_owned() }
    }

    /// Holds MQT-23.
    #[test]
    fn newest_message_counts_when_acknowledged_late() {
        let mut board = Board::default();
        board.put(cleared("a"));
        let first = board.next_due(|_| true).unwrap();
        board.put(cleared("a"));
        assert!(!board.taken("a", first.version));
        assert!(!board.is_settled("a"), "the newer one is still on its way");
        let second = board.next_due(|_| true).unwrap();
        assert!(board.next_due(|_| true).is_none() && board.is_sent(|_| true));
        assert!(board.taken("a", second.version));
        assert!(board.is_settled("a") && board.notices.is_empty());
    }

    /// Holds MQT-23.
    #[test]
    fn clearing_cut_off_is_said_again() {
        let mut board = Board::default();
        board.put(cleared("a"));
        assert!(board.next_due(|_| true).is_some());
        board.repeat();
        assert!(!board.is_settled("a"));
        assert!(board.next_due(|_| true).is_some());
    }
}
