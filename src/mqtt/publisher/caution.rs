//! What the broker does not take, beside events, must not keep the events back.
//!
//! A broker may answer a message that it does not want (a topic that its access rules deny, a size beyond its
//! limit) by hanging up, without a word of which one it was. So what was on its way when a connection broke is
//! suspected, and from then on sent alone: if the connection breaks again, it is known which one it was. After
//! [`PROOFS`] such breaks it is left out, for a minute, and longer each time. Events go before the suspects, of
//! which one gets its turn after every few events; they are never suspected themselves, and never left out.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Breaks of a connection over which nothing else was on its way, until something is left out.
const PROOFS: u32 = 2;
/// How long something is left out at first; doubled each time.
const FIRST_REST: Duration = Duration::from_mins(1);
const LONGEST_REST: Duration = Duration::from_hours(1);

/// Something that is asked of the broker beside taking events.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    /// The last will, on the topic of availability: part of the login.
    Will,
    /// To take messages on a topic.
    Publish(String),
    /// To send those that a filter matches.
    Subscribe(String),
}

impl Subject {
    pub fn publish(topic: &str) -> Self {
        Self::Publish(topic.to_owned())
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Will => f.write_str("the last will on availability"),
            Self::Publish(topic) => write!(f, "publishing on {topic}"),
            Self::Subscribe(filter) => write!(f, "subscribing to {filter}"),
        }
    }
}

#[derive(Debug, Default)]
struct Record {
    /// Breaks while nothing else was on its way, since it was last taken or left out.
    breaks: u32,
    /// How often it was left out.
    times: u32,
    /// Left out until then.
    rests_until: Option<Instant>,
    /// Why the broker does not take it, as far as is known: for people.
    why: Option<String>,
    /// Breaks made it a suspect; a refusal in so many words does not.
    suspect: bool,
    /// Left out for as long as this process runs.
    given_up: bool,
}

/// What is known of the subjects that gave trouble.
#[derive(Debug, Default)]
pub(super) struct Caution {
    records: BTreeMap<Subject, Record>,
}

/// What came of a break.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Finding {
    /// It cannot be told what it was.
    Nothing,
    /// One subject more is known or nearly known to be at fault; the next attempt need not wait long.
    Nearer,
    /// From now on it is left out.
    LeftOut(Subject, Duration),
}

impl Caution {
    /// Whether it may be sent along with others.
    pub fn trusts(&self, subject: &Subject) -> bool {
        self.records.get(subject).is_none_or(|record| !record.suspect)
    }

    /// Whether it may be sent alone: it is suspected, and does not rest.
    pub fn may_be_tried(&self, subject: &Subject, now: Instant) -> bool {
        self.records.get(subject).is_some_and(|record| {
            record.suspect
                && !record.given_up
                && record.rests_until.is_none_or(|until| until <= now)
        })
    }

    /// Whether it is left out for now.
    pub fn leaves_out(&self, subject: &Subject, now: Instant) -> bool {
        !self.trusts(subject) && !self.may_be_tried(subject, now)
    }

    /// The connection broke while these were on their way, and perhaps an event.
    pub fn broke(
        &mut self,
        on_the_way: &[Subject],
        with_an_event: bool,
        why: &str,
        now: Instant,
    ) -> Finding {
        if let ([alone], false) = (on_the_way, with_an_event) {
            let record = self.records.entry(alone.clone()).or_default();
            record.suspect = true;
            record.breaks += 1;
            // What was left out before has had its chance.
            if record.breaks < PROOFS && record.times == 0 {
                return Finding::Nearer;
            }
            let rest = FIRST_REST.saturating_mul(1 << record.times.min(16)).min(LONGEST_REST);
            record.breaks = 0;
            record.times += 1;
            record.rests_until = Some(now + rest);
            record.why = Some(why.to_owned());
            return Finding::LeftOut(alone.clone(), rest);
        }
        for subject in on_the_way {
            self.records.entry(subject.clone()).or_default().suspect = true;
        }
        if on_the_way.is_empty() { Finding::Nothing } else { Finding::Nearer }
    }

    /// Never tries again what was left out.
    pub fn give_up(&mut self, subject: &Subject) {
        if let Some(record) = self.records.get_mut(subject) {
            record.given_up = true;
        }
    }

    /// The broker has taken it; `true` if it was known to be refused until now.
    pub fn taken(&mut self, subject: &Subject) -> bool {
        self.records.remove(subject).is_some_and(|record| record.why.is_some())
    }

    /// The broker refused it in so many words, or it is larger than the broker takes; `true` if that is news.
    pub fn refused(&mut self, subject: Subject, why: &str) -> bool {
        let record = self.records.entry(subject).or_default();
        record.suspect = false;
        record.rests_until = None;
        let news = record.why.as_deref() != Some(why);
        record.why = Some(why.to_owned());
        news
    }

    /// What the broker does not take, and why.
    pub fn refusals(&self) -> impl Iterator<Item = (&Subject, &str)> {
        self.records.iter().filter_map(|(subject, record)| Some((subject, record.why.as_deref()?)))
    }

    /// Whether anything awaits its turn alone.
    pub fn has_suspects(&self, now: Instant) -> bool {
        self.records.keys().any(|subject| self.may_be_tried(subject, now))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn subjects(topics: &[&str]) -> Vec<Subject> {
        topics.iter().map(|topic| Subject::publish(topic)).collect()
    }

    #[test]
    fn one_of_many_is_found_and_left_out_and_the_others_are_cleared() {
        let (mut caution, now) = (Caution::default(), Instant::now());
        let all = subjects(&["a", "b", "c"]);
        assert_eq!(caution.broke(&all, true, "closed", now), Finding::Nearer);
        assert!(all.iter().all(|s| !caution.trusts(s) && caution.may_be_tried(s, now)));
        caution.taken(&all[0]);
        assert!(caution.trusts(&all[0]));
        assert_eq!(caution.broke(&all[1..2], false, "closed", now), Finding::Nearer);
        assert_eq!(
            caution.broke(&all[1..2], false, "closed", now),
            Finding::LeftOut(all[1].clone(), FIRST_REST)
        );
        assert!(caution.leaves_out(&all[1], now) && caution.may_be_tried(&all[2], now));
        assert_eq!(caution.refusals().collect::<Vec<_>>(), [(&all[1], "closed")]);
    }

    #[test]
    fn what_is_left_out_is_tried_again_ever_more_seldom() {
        let (mut caution, mut now) = (Caution::default(), Instant::now());
        let one = subjects(&["a"]);
        caution.broke(&one, false, "closed", now);
        let mut rests = Vec::new();
        for _ in 0..9 {
            let Finding::LeftOut(_, rest) = caution.broke(&one, false, "closed", now) else {
                panic!("one break is enough of what was left out before");
            };
            rests.push(rest.as_secs() / 60);
            assert!(caution.leaves_out(&one[0], now));
            now += rest;
            assert!(caution.may_be_tried(&one[0], now));
        }
        assert_eq!(rests, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert!(caution.taken(&one[0]) && caution.trusts(&one[0]));
    }

    #[test]
    fn what_is_given_up_is_never_tried_again() {
        let (mut caution, now) = (Caution::default(), Instant::now());
        let all = subjects(&["a", "b"]);
        caution.broke(&all, false, "closed", now);
        caution.broke(&all[..1], false, "closed", now);
        caution.broke(&all[..1], false, "closed", now);
        caution.give_up(&all[0]);
        let later = now + 2 * LONGEST_REST;
        assert!(caution.leaves_out(&all[0], later) && caution.may_be_tried(&all[1], later));
    }

    #[test]
    fn a_break_while_only_an_event_was_on_its_way_suspects_nothing() {
        let (mut caution, now) = (Caution::default(), Instant::now());
        assert_eq!(caution.broke(&[], true, "closed", now), Finding::Nothing);
        assert!(!caution.has_suspects(now));
    }

    #[test]
    fn a_refusal_in_words_is_news_once() {
        let mut caution = Caution::default();
        let one = Subject::publish("a");
        assert!(caution.refused(one.clone(), "not authorized"));
        assert!(!caution.refused(one.clone(), "not authorized"));
        assert!(caution.refused(one.clone(), "packet too large"));
        assert!(caution.trusts(&one), "the connection stands");
    }
}
