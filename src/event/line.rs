//! The keys of one device as a consumer knows them: the one that signs now, and those before it, each
//! with where it ended.

use super::identity::Introduction;
use super::jwk::{KeyRing, PublicKey};
use super::jws::{Typ, VerifyError};
use super::payload::Link;
use super::vouch::{Former, Last, MOST};

/// Former keys that are remembered, at most.
const REMEMBERED: usize = 64;

/// One device's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    key: PublicKey,
    /// Newest first.
    former: Vec<Former>,
}

/// What an introduction changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Met {
    /// The key that was known.
    Known,
    /// The known key's word led to a new one.
    Followed,
}

/// When a message was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// Just now.
    Live,
    /// Some time, perhaps when the key that signed it was the device's own.
    Before,
}

impl From<PublicKey> for Line {
    fn from(key: PublicKey) -> Self {
        Self { key, former: Vec::new() }
    }
}

impl From<&Introduction> for Line {
    fn from(met: &Introduction) -> Self {
        Self { key: met.key.clone(), former: met.former.clone() }
    }
}

impl Line {
    pub(super) fn new(key: PublicKey, former: Vec<Former>) -> Self {
        Self { key, former }
    }

    /// The key that signs now.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The keys before it, newest first.
    pub fn former(&self) -> &[Former] {
        &self.former
    }

    /// Whether it is the same device's line, followed further.
    pub(super) fn is_after(&self, other: &Self) -> bool {
        self.former.iter().any(|former| former.key == other.key)
    }

    pub fn ring(&self) -> KeyRing {
        let mut ring = KeyRing::from(self.key.clone());
        self.former.iter().for_each(|former| ring.insert(former.key.clone()));
        ring
    }

    /// Goes along where the known key vouched for the one that is met, and nowhere else.
    pub fn follow(&mut self, met: &Introduction) -> Result<Met, VerifyError> {
        let refused = |what: String| Err(VerifyError::Payload(what));
        let (known, shown) = (self.key.kid(), met.key.kid());
        if self.key == met.key {
            if self.former.is_empty() {
                // Pinned by hand: the key itself tells of those before it.
                self.former.clone_from(&met.former);
            }
            return Ok(Met::Known);
        }
        if let Some(at) = met.former.iter().position(|former| former.key == self.key) {
            let older = std::mem::take(&mut self.former);
            self.former = met.former[..=at].iter().cloned().chain(older).take(REMEMBERED).collect();
            self.key = met.key.clone();
            return Ok(Met::Followed);
        }
        if self.former.iter().any(|former| former.key == met.key) {
            return refused(format!("{shown} was replaced by {known}: this is an old message"));
        }
        let forked = |new: &&Former| self.former.iter().any(|old| old.key == new.key);
        if let Some(fork) = met.former.iter().find(forked) {
            return refused(format!(
                "{} has two successors, {shown} beside {known} that was followed: somebody else may \
                 hold that old key",
                fork.key.kid()
            ));
        }
        let missed = if met.former.len() >= MOST - 1 {
            "; it may have been replaced more often than an identity message tells: make sure of its \
             key on the device (`familiar key show`) and pin it anew"
        } else {
            ""
        };
        refused(format!("shows key {shown}, for which the known key {known} did not vouch{missed}"))
    }

    /// Whether a verified message may be by the key that signed it: a former key's word counts for the
    /// events of its chain, and live for nothing else.
    pub fn admit(
        &self,
        kid: &str,
        typ: Typ,
        link: Option<&Link>,
        when: Heard,
    ) -> Result<(), VerifyError> {
        let Some(Former { last, .. }) = self.former.iter().find(|f| f.key.kid() == kid) else {
            return Ok(());
        };
        match (typ, link, last) {
            (Typ::Event, Some(link), Some(last)) if link.seq <= last.seq => Ok(()),
            (Typ::Event, Some(link), Some(last)) => Err(VerifyError::Payload(format!(
                "event {} by a key that was replaced after event {}",
                link.seq, last.seq
            ))),
            _ if when == Heard::Before => Ok(()),
            _ => Err(VerifyError::Payload(format!(
                "by a key that was replaced by {}",
                self.key.kid()
            ))),
        }
    }

    /// Each former key with where it ended and its successor, newest first.
    pub(super) fn ends(&self) -> impl Iterator<Item = (&PublicKey, Option<&Last>, &PublicKey)> {
        let successors = std::iter::once(&self.key).chain(self.former.iter().map(|f| &f.key));
        self.former.iter().zip(successors).map(|(f, next)| (&f.key, f.last.as_ref(), next))
    }
}
