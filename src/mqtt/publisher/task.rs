//! What the publisher's thread does: connect, say what is to be said, listen, and begin again.

use std::collections::VecDeque;
use std::sync::{Arc, MutexGuard};
use std::time::Instant;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::caution::{Caution, Finding, Subject};
use super::flight::{Answer, Flight, What};
use super::{
    Ears, FIRST_WAIT, GOODBYE, INFORMED_WAIT, Inbound, LONGEST_WAIT, LOOK, LeftOut, PublishError,
    Received, Remembered, Shared, Status, WILLS, WITHOUT_WILL, lock,
};
use crate::event::Outbox;
use crate::mqtt::broker::Broker;
use crate::mqtt::client::{ClientError, Connection, Incoming, Session};
use crate::mqtt::reason::Reason;
use crate::mqtt::topics::Topics;
use crate::system::log::kind;
use crate::system::state::StateDirectory;

pub(super) struct Task {
    pub broker: Broker,
    pub session: Session,
    pub topics: Topics,
    pub ears: Ears,
    pub outbox: Outbox,
    pub state: StateDirectory,
    pub shared: Arc<Shared>,
    pub stopped: watch::Receiver<bool>,
    pub caution: Caution,
    /// Whether events go before what is suspected: not after a connection that broke on an event.
    pub events_first: bool,
    /// Logins refused in a row.
    pub login_refusals: u32,
    /// The broker let us in without the last will after it refused us with it.
    pub will_suspected: bool,
    /// So long we log in without it.
    pub without_will_until: Option<Instant>,
    /// What was last written down for `check`.
    pub remembered: Option<Vec<LeftOut>>,
    /// Lines logged about rivals.
    pub rivals: u8,
}

/// What is said and asked over one connection.
struct Talk {
    flight: Flight,
    /// Subscriptions and availability that have not been sent.
    greetings: VecDeque<Subject>,
    /// The broker takes no packet as large as the oldest event.
    event_too_large: bool,
    /// All was said once, and what the broker does not take is written down.
    settled: bool,
    /// Events acknowledged since a suspect last had its turn.
    events: u32,
}

/// After so many events one thing that is suspected gets its turn, however many events wait.
const EVENTS_PER_SUSPECT: u32 = 16;

impl Task {
    pub async fn run(mut self) {
        let mut wait = FIRST_WAIT;
        while !*self.stopped.borrow() {
            let before = self.status().acknowledged;
            let mut stopped = self.stopped.clone();
            let session = self.session();
            let connecting = Connection::open(&self.broker, &session);
            let outcome = tokio::select! {
                connection = connecting => match connection {
                    Ok(connection) if session.will.is_none() && !self.goes_without_will() => {
                        // Perhaps not because of the will: it is asked for once more.
                        self.will_suspected = true;
                        let _ = connection.close().await;
                        continue;
                    }
                    Ok(connection) => {
                        self.let_in(session.will.is_some());
                        self.serve(connection).await
                    }
                    Err(error) => {
                        self.kept_out(&error, session.will.is_some());
                        Err(Broken { error: error.into(), finding: Finding::Nothing })
                    }
                },
                _ = stopped.wait_for(|stop| *stop) => break,
            };
            let Err(Broken { error, finding }) = outcome else { break };
            if self.status().acknowledged > before {
                wait = FIRST_WAIT;
            } else if finding != Finding::Nothing {
                // Something was learned from it: the next attempt gets further.
                wait = wait.min(INFORMED_WAIT);
            }
            if matches!(error, PublishError::Client(ClientError::TakenOver)) {
                self.note_copy();
            }
            self.report(&error);
            let shortened = wait.mul_f64(1.0 - fastrand::f64() / 2.0);
            wait = (wait * 2).min(LONGEST_WAIT);
            let _ = timeout(shortened, stopped.wait_for(|stop| *stop)).await;
        }
        self.status().connected = false;
    }

    /// As whom to log in: with the last will, unless the broker refuses the login because of it.
    fn session(&self) -> Session {
        let rests = self.without_will_until.is_some_and(|until| until > Instant::now());
        let tried = !self.will_suspected && self.login_refusals % (WILLS + 1) == WILLS;
        let mut session = self.session.clone();
        if rests || tried {
            session.will = None;
        }
        session
    }

    fn let_in(&mut self, with_will: bool) {
        self.login_refusals = 0;
        if with_will {
            self.will_suspected = false;
            self.without_will_until = None;
            if self.caution.taken(&Subject::Will) {
                log::info!("the broker takes the last will again");
                self.publish_refusals();
            }
        }
    }

    fn kept_out(&mut self, error: &ClientError, with_will: bool) {
        match error {
            ClientError::Refused(_) if with_will && self.will_suspected => {
                // Refused with it, let in without it, and refused with it again.
                self.without_will_until = Some(Instant::now() + WITHOUT_WILL);
                let why = format!(
                    "the broker refuses the login with it; let this user publish on {}",
                    self.topics.availability()
                );
                self.refused(Subject::Will, &why);
            }
            ClientError::Refused(_) => self.login_refusals += 1,
            _ => self.login_refusals = 0,
        }
    }

    pub(super) fn status(&self) -> MutexGuard<'_, Status> {
        lock(&self.shared.status)
    }

    fn report(&self, error: &PublishError) {
        let trouble = format!("{}: {error}", self.broker);
        let mut status = self.status();
        // Days without a broker are one line in the log, not one for each attempt, whatever seconds its text counts.
        if status.trouble.as_deref().map(kind) == Some(kind(&trouble)) && !status.connected {
            log::debug!("{trouble}");
        } else {
            log::warn!("{trouble}; trying again");
        }
        status.connected = false;
        status.trouble = Some(trouble);
    }

    /// Speaks over one connection until it breaks (`Err`) or the device stops (`Ok`).
    async fn serve(&mut self, mut connection: Connection) -> Result<(), Broken> {
        log::info!("connected to {}", self.broker);
        {
            let mut status = self.status();
            status.connected = true;
            status.connections += 1;
        }
        lock(&self.shared.board).repeat();
        let mut talk = Talk {
            flight: Flight::new(connection.receive_maximum()),
            greetings: self.greetings(),
            event_too_large: false,
            settled: false,
            events: 0,
        };
        if let Err(error) = self.converse(&mut connection, &mut talk).await {
            let finding = self.suspect(&talk.flight, &error);
            return Err(Broken { error, finding });
        }
        match timeout(GOODBYE, self.leave(&mut connection, talk)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => log::debug!("while stopping: {error}"),
            Err(_) => log::debug!("while stopping: not everything was acknowledged"),
        }
        if let Ok(Err(error)) = timeout(GOODBYE, connection.close()).await {
            log::debug!("while stopping: {error}");
        }
        Ok(())
    }

    async fn converse(
        &mut self,
        connection: &mut Connection,
        talk: &mut Talk,
    ) -> Result<(), PublishError> {
        let shared = self.shared.clone();
        let mut stopped = self.stopped.clone();
        let identity = self.topics.identity();
        loop {
            talk.flight.check_patience()?;
            self.outbox.settle()?;
            // Who the device is comes before what it says, even where it goes alone.
            self.send_a_suspect(connection, talk, |subject| {
                *subject == Subject::publish(&identity)
            })?;
            self.send_greetings(connection, talk)?;
            self.send_statements(connection, talk)?;
            let turn = talk.events >= EVENTS_PER_SUSPECT && self.has_suspects(talk);
            // It goes alone: what is on its way is awaited, and the next event with it.
            let awaited = turn && !talk.flight.is_empty();
            if turn && !awaited {
                talk.events = 0;
            }
            if turn || !self.events_first {
                self.send_a_suspect(connection, talk, |_| true)?;
            }
            if !awaited && (self.events_first || !self.has_suspects(talk)) {
                self.send_event(connection, talk)?;
            }
            self.send_a_suspect(connection, talk, |_| true)?;
            self.settle(talk);
            tokio::select! {
                incoming = connection.next() => self.take(incoming?, talk)?,
                () = shared.work.notified() => {}
                () = sleep(LOOK) => {}
                _ = stopped.wait_for(|stop| *stop) => return Ok(()),
            }
        }
    }

    /// First it hears, then it says that it is there: who sees `online` is heard.
    fn greetings(&self) -> VecDeque<Subject> {
        let mut greetings: VecDeque<_> =
            self.ears.filters(&self.topics).into_iter().map(Subject::Subscribe).collect();
        // Without a last will nobody would take it back.
        if !self.goes_without_will() {
            greetings.push_back(Subject::Publish(self.topics.availability()));
        }
        greetings
    }

    fn goes_without_will(&self) -> bool {
        self.without_will_until.is_some()
    }

    fn greet(&self, connection: &mut Connection, subject: &Subject) -> Result<u16, ClientError> {
        match subject {
            Subject::Subscribe(filter) => connection.subscribe(filter),
            _ => connection.publish(&self.topics.availability(), "online", true),
        }
    }

    fn send_greetings(
        &mut self,
        connection: &mut Connection,
        talk: &mut Talk,
    ) -> Result<(), PublishError> {
        for _ in 0..talk.greetings.len() {
            let Some(subject) = talk.greetings.pop_front() else { break };
            if !talk.flight.has_room() || !self.caution.trusts(&subject) {
                talk.greetings.push_back(subject);
                continue;
            }
            let id = self.greet(connection, &subject)?;
            talk.flight.push(id, What::Aside(subject));
        }
        Ok(())
    }

    /// Outcomes of commands and statements, but for those that are suspected.
    fn send_statements(
        &mut self,
        connection: &mut Connection,
        talk: &mut Talk,
    ) -> Result<(), PublishError> {
        let result = Subject::Publish(self.topics.result());
        while talk.flight.has_room() {
            let outcome = if self.caution.trusts(&result) {
                lock(&self.shared.outcomes).pop_front()
            } else {
                None
            };
            if let Some(outcome) = outcome {
                let sent = connection.publish(&self.topics.result(), outcome.as_str(), false);
                if let Some(id) = self.sent(&result, sent)? {
                    talk.flight.push(id, What::Outcome(result.clone(), outcome));
                }
                continue;
            }
            let caution = &self.caution;
            let due =
                lock(&self.shared.board).next_due(|topic| caution.trusts(&Subject::publish(topic)));
            let Some(due) = due else { break };
            let subject = Subject::Publish(due.topic.clone());
            let sent = connection.publish(&due.topic, &due.text, true);
            if let Some(id) = self.sent(&subject, sent)? {
                talk.flight.push(id, What::Statement(subject, due.version));
            }
        }
        Ok(())
    }

    /// Whether something that is suspected waits for its turn over this connection.
    fn has_suspects(&self, talk: &Talk) -> bool {
        let (caution, now) = (&self.caution, Instant::now());
        let may = |topic: &str| caution.may_be_tried(&Subject::publish(topic), now);
        talk.greetings.iter().any(|subject| caution.may_be_tried(subject, now))
            || !lock(&self.shared.board).is_sent(may)
            || may(&self.topics.result()) && !lock(&self.shared.outcomes).is_empty()
    }

    /// Sends one thing that is suspected, of those that are wanted, if nothing else is on its way.
    fn send_a_suspect(
        &mut self,
        connection: &mut Connection,
        talk: &mut Talk,
        wanted: impl Fn(&Subject) -> bool,
    ) -> Result<(), PublishError> {
        let now = Instant::now();
        if !talk.flight.is_empty() || !self.caution.has_suspects(now) {
            return Ok(());
        }
        let may = |subject: &Subject| wanted(subject) && self.caution.may_be_tried(subject, now);
        if let Some(index) = talk.greetings.iter().position(&may)
            && let Some(subject) = talk.greetings.remove(index)
        {
            let id = self.greet(connection, &subject)?;
            talk.flight.push_alone(id, What::Aside(subject));
            return Ok(());
        }
        let result = Subject::Publish(self.topics.result());
        let outcome = if may(&result) { lock(&self.shared.outcomes).pop_front() } else { None };
        if let Some(outcome) = outcome {
            let sent = connection.publish(&self.topics.result(), outcome.as_str(), false);
            if let Some(id) = self.sent(&result, sent)? {
                talk.flight.push_alone(id, What::Outcome(result, outcome));
            }
            return Ok(());
        }
        let due = lock(&self.shared.board).next_due(|topic| may(&Subject::publish(topic)));
        let Some(due) = due else { return Ok(()) };
        let subject = Subject::Publish(due.topic.clone());
        let sent = connection.publish(&due.topic, &due.text, true);
        if let Some(id) = self.sent(&subject, sent)? {
            talk.flight.push_alone(id, What::Statement(subject, due.version));
        }
        Ok(())
    }

    /// The packet id of what was sent; `None` if it is larger than the broker takes.
    fn sent(
        &mut self,
        subject: &Subject,
        sent: Result<u16, ClientError>,
    ) -> Result<Option<u16>, PublishError> {
        match sent {
            Ok(id) => Ok(Some(id)),
            // Without its own size, which differs each time: that would be news each time.
            Err(ClientError::PacketTooLarge { limit, .. }) => {
                let why = format!("larger than the {limit} bytes that the broker takes at most");
                self.refused(subject.clone(), &why);
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn send_event(&self, connection: &mut Connection, talk: &mut Talk) -> Result<(), PublishError> {
        let introduced = lock(&self.shared.introduced).clone();
        if !talk.event_too_large
            && talk.flight.has_room_for_an_event()
            && let Some(entry) = self.outbox.oldest()?
            // Nobody could verify it yet; the daemon is about to introduce the key.
            && (entry.message.kid() == introduced
                || !self.outbox.is_newer(entry.message.kid(), &introduced)?)
        {
            match connection.publish(&self.topics.event(), entry.message.as_str(), false) {
                Ok(id) => talk.flight.push(id, What::Event(entry.position, entry.seq)),
                // What else there is to say goes on; another limit comes with another connection.
                Err(error @ ClientError::PacketTooLarge { .. }) => {
                    talk.event_too_large = true;
                    let trouble = format!(
                        "{}: event {} waits: {error}; raise the broker's limit (in Mosquitto max_packet_size)",
                        self.broker, entry.seq
                    );
                    log::warn!("{trouble}");
                    self.status().trouble = Some(trouble);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn take(&mut self, incoming: Incoming, talk: &mut Talk) -> Result<(), PublishError> {
        match incoming {
            Incoming::Acknowledged { id, refusal } => {
                match talk.flight.acknowledged(id, refusal)? {
                    Answer::Taken(What::Event(position, _)) => {
                        self.outbox.acknowledged(position)?;
                        talk.events = talk.events.saturating_add(1);
                        let mut status = self.status();
                        status.acknowledged += 1;
                        status.trouble = None;
                    }
                    Answer::Taken(What::Statement(subject, version)) => {
                        if let Subject::Publish(topic) = &subject {
                            let mut board = lock(&self.shared.board);
                            if board.taken(topic, version) {
                                lock(&self.shared.noted).cleared(topic);
                            }
                        }
                        self.taken(&subject);
                    }
                    Answer::Taken(What::Aside(subject) | What::Outcome(subject, _)) => {
                        self.taken(&subject);
                    }
                    Answer::Refused(subject, reason) => {
                        self.refused(subject, &format!("the broker refuses it: {reason}"));
                    }
                }
            }
            Incoming::Subscribed { id, refusal } => {
                // An answer to nothing is no harm.
                match talk.flight.acknowledged(id, refusal) {
                    Ok(Answer::Taken(What::Aside(subject))) => self.taken(&subject),
                    Ok(Answer::Refused(subject, reason)) => {
                        self.refused(subject, &format!("the broker refuses it: {reason}"));
                    }
                    _ => {}
                }
            }
            Incoming::Message { topic, payload, retained } => {
                let inbound = if self.ears.home_assistant.as_ref() == Some(&topic) {
                    // A retained one is of long ago, and with the connection everything was just said.
                    if !retained && payload.as_ref() == b"online" {
                        lock(&self.shared.inbox).note_birth();
                    }
                    return Ok(());
                } else if topic == self.topics.command() {
                    Inbound::Command
                } else if let Some(name) = topic.strip_prefix(&self.topics.set("")) {
                    Inbound::Set(name.chars().take(64).collect())
                } else if self.ears.identity && topic == self.topics.identity() {
                    self.meet(&payload, retained);
                    return Ok(());
                } else if self.ears.identity && topic == self.topics.health() {
                    self.meet_copy(&payload);
                    return Ok(());
                } else {
                    log::debug!("a message on {topic}, which was not subscribed to");
                    return Ok(());
                };
                lock(&self.shared.inbox).put(Received { inbound, payload, retained });
            }
        }
        Ok(())
    }

    fn taken(&mut self, subject: &Subject) {
        if self.caution.taken(subject) {
            log::info!("the broker allows again: {subject}");
            self.publish_refusals();
        }
    }

    fn refused(&mut self, subject: Subject, why: &str) {
        let (shown, own_identity) = (subject.to_string(), self.is_own_identity(&subject));
        if self.caution.refused(subject, why) {
            let level = if own_identity { log::Level::Debug } else { log::Level::Warn };
            log::log!(level, "left out: {shown}: {why}");
            self.publish_refusals();
        }
    }

    /// A subscription that only shows rivals: a broker that denies it takes nothing away that was wanted.
    fn is_own_identity(&self, subject: &Subject) -> bool {
        let (identity, health) = (self.topics.identity(), self.topics.health());
        matches!(subject, Subject::Subscribe(filter) if *filter == identity || *filter == health)
    }

    /// Whether what broke the connection was something that was sent beside events.
    fn suspect(&mut self, flight: &Flight, error: &PublishError) -> Finding {
        for outcome in flight.outcomes().into_iter().rev() {
            lock(&self.shared.outcomes).push_front(outcome);
        }
        let (subjects, with_an_event) = flight.on_the_way();
        self.events_first = !(with_an_event || matches!(error, PublishError::Refused { .. }));
        if !may_be_for_a_message(error) {
            return Finding::Nothing;
        }
        let why = format!("the broker breaks the connection on it ({error})");
        let finding = self.caution.broke(&subjects, with_an_event, &why, Instant::now());
        if let Finding::LeftOut(subject, rest) = &finding {
            if self.is_own_identity(subject) {
                // Each attempt would cost the connection, for no more than a notice.
                self.caution.give_up(subject);
                log::debug!("left out: {subject}: {why}");
                return finding;
            }
            log::warn!(
                "left out for {} s: {subject}: {why}; let this user do that there, or look into the broker's log",
                rest.as_secs()
            );
            self.publish_refusals();
        }
        finding
    }

    fn left_out(&self) -> Vec<LeftOut> {
        let one = |(subject, why): (&Subject, &str)| LeftOut {
            what: subject.to_string(),
            why: why.to_owned(),
        };
        let wanted = |(subject, _): &(&Subject, &str)| !self.is_own_identity(subject);
        self.caution.refusals().filter(wanted).map(one).collect()
    }

    fn publish_refusals(&self) {
        self.status().left_out = self.left_out();
    }

    /// Once all was said, what the broker does not take is known, and written down for `check`.
    fn settle(&mut self, talk: &mut Talk) {
        let now = Instant::now();
        let caution = &self.caution;
        let quiet = talk.flight.is_empty()
            && talk.greetings.iter().all(|subject| caution.leaves_out(subject, now))
            && lock(&self.shared.board)
                .is_sent(|topic| !caution.leaves_out(&Subject::publish(topic), now));
        if quiet && !(talk.settled && self.remembered.as_ref() == Some(&self.left_out())) {
            talk.settled = true;
            let (broker, left_out) = (self.broker.to_string(), self.left_out());
            Remembered { broker, time: Timestamp::now(), left_out: left_out.clone() }
                .write(&self.state);
            self.remembered = Some(left_out);
        }
    }

    /// Says what is left but for events, then `offline`, and waits for the acknowledgements.
    async fn leave(
        &mut self,
        connection: &mut Connection,
        mut talk: Talk,
    ) -> Result<(), PublishError> {
        let result = Subject::Publish(self.topics.result());
        loop {
            self.send_statements(connection, &mut talk)?;
            let caution = &self.caution;
            let told = lock(&self.shared.board)
                .is_sent(|topic| caution.trusts(&Subject::publish(topic)))
                && (lock(&self.shared.outcomes).is_empty() || !caution.trusts(&result));
            if told && talk.flight.has_room() {
                break;
            }
            self.take(connection.next().await?, &mut talk)?;
        }
        let availability = Subject::Publish(self.topics.availability());
        if !self.goes_without_will() && !self.caution.leaves_out(&availability, Instant::now()) {
            let id = connection.publish(&self.topics.availability(), "offline", true)?;
            talk.flight.push(id, What::Aside(availability));
        }
        while !talk.flight.is_empty() {
            self.take(connection.next().await?, &mut talk)?;
        }
        Ok(())
    }
}

/// A connection that ended by itself.
struct Broken {
    error: PublishError,
    finding: Finding,
}

/// Whether a broker breaks a connection so because of a message: not where it, or we, say another reason.
fn may_be_for_a_message(error: &PublishError) -> bool {
    /// Unspecified and malformed to "implementation specific", not authorized, topic filter and name, packet too
    /// large, payload format, retain, QoS, subscription identifiers and wildcards.
    const CODES: [u8; 13] =
        [0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x8f, 0x90, 0x95, 0x99, 0x9a, 0x9b, 0xa2];
    match error {
        PublishError::Client(ClientError::Ended(Reason { code, .. })) => CODES.contains(code),
        PublishError::Client(
            ClientError::Closed
            | ClientError::Io(_)
            | ClientError::Tls(_)
            | ClientError::Timeout
            | ClientError::Protocol(_),
        )
        | PublishError::NoAcknowledgement => true,
        _ => false,
    }
}
