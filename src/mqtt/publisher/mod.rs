//! The device's side of the conversation with the broker.
//!
//! Events are drained from the outbox: in order, one at a time, removed on the broker's acknowledgement
//! alone, everything else again after a reconnect (contract §5). Statements are
//! retained by the broker and said again on each connection. What others tell the device waits in a
//! queue for the daemon.

mod board;
mod flight;
mod inbox;
mod noted;

pub use board::Statement;
pub use inbox::{Inbound, Received};

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rumqttc::v5::mqttbytes::v5::PubAckReason;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::broker::Broker;
use super::client::{ClientError, Connection, Incoming, Session};
use super::retained::RecordError;
use super::topics::Topics;
use crate::config::DeviceName;
use crate::event::jws::Envelope;
use crate::event::store::StoreError;
use crate::event::{Outbox, SignedMessage, identity};
use crate::system::log::kind;
use crate::system::state::StateDirectory;
use board::Board;
use flight::{Flight, What};
use inbox::Inbox;
use noted::Noted;

/// How long a message may stay unacknowledged before the connection is given up.
const PATIENCE: Duration = Duration::from_mins(1);
/// Other processes record into the outbox too (`forget`); they cannot wake us.
const LOOK: Duration = Duration::from_secs(1);
/// Waits between attempts: doubled each time, each shortened by up to a half by chance.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_mins(1);
/// For `offline` and what is in flight when the device stops.
const GOODBYE: Duration = Duration::from_secs(3);
/// Outcomes of commands that wait for a connection; the oldest go.
const OUTCOMES: usize = 128;
/// Connections that may break before the broker has answered whether this device may hear its own topic `identity`;
/// then it is not asked any more: some brokers close the connection of who asks for too much.
const ASKS: u8 = 2;
/// Lines in the log about rivals, at most: whoever may publish on `identity` could fill it.
const RIVALS: u8 = 16;

/// How the publisher stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    pub connected: bool,
    /// Events that the broker acknowledged since the start.
    pub acknowledged: u64,
    /// Connections since the start.
    pub connections: u64,
    /// Why there is no connection, or why the last event was not taken.
    pub trouble: Option<String>,
    /// Another device that was met, since the start, under this one's prefix and name.
    pub rival: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    #[error("{0}")]
    Client(#[from] ClientError),
    #[error("the broker refused event {seq}: {reason:?}; it stays in the outbox")]
    Refused { seq: u64, reason: PubAckReason },
    #[error("the broker acknowledged nothing for {} s", PATIENCE.as_secs())]
    NoAcknowledgement,
    #[error("the broker acknowledged {0}, which was not in flight")]
    Unsolicited(u16),
    #[error("{0}")]
    Store(#[from] StoreError),
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("cannot start the publisher: {0}")]
    Io(#[from] std::io::Error),
}

/// What the device listens to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ears {
    /// Signed commands.
    pub command: bool,
    /// Unsigned commands.
    pub set: bool,
    /// Topic of Home Assistant's birth message.
    pub home_assistant: Option<String>,
    /// Who tells an identity as this device does: another one of its prefix and name.
    pub identity: bool,
}

/// The running publisher; it ends when dropped, or better by [`Publisher::stop`].
pub struct Publisher {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
    outbox: Mutex<Outbox>,
    topics: Topics,
}

struct Shared {
    /// Something is to be sent.
    work: Notify,
    status: Mutex<Status>,
    board: Mutex<Board>,
    /// Locked after the board, where both are.
    noted: Mutex<Noted>,
    outcomes: Mutex<VecDeque<SignedMessage>>,
    inbox: Mutex<Inbox>,
    /// Thumbprint of the key that the identity on the board introduces.
    introduced: Mutex<String>,
    beat: AtomicU64,
}

impl Publisher {
    /// Starts it on a thread of its own. `identity` is the first thing it says.
    pub fn start(
        broker: Broker,
        device: &DeviceName,
        identity: SignedMessage,
        ears: Ears,
        state: &StateDirectory,
    ) -> Result<Self, StartError> {
        let topics = Topics::new(broker.prefix(), device);
        let client_id = topics.client_id(identity.kid());
        let mut noted = Noted::open(state, &broker, &topics)?;
        noted.note_key(&identity)?;
        noted.note([topics.availability().as_str(), &topics.identity()])?;
        let shared = Arc::new(Shared::new(noted));
        let (stop, stopped) = watch::channel(false);
        shared.introduce(&topics, identity);
        let task = Task {
            session: Session {
                client_id,
                will: Some((topics.availability(), "offline")),
                expiry: 0,
                clean: true,
            },
            broker,
            topics: topics.clone(),
            ears,
            outbox: Outbox::open(state)?,
            shared: shared.clone(),
            stopped,
            asked: Cell::default(),
            unanswered: Cell::default(),
            rivals: Cell::default(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let beating = shared.clone();
        let thread = std::thread::Builder::new().name("mqtt".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = task.run() => {}
                    () = beat(&beating) => {}
                }
            });
            // A name that is being looked up may take a while; nobody waits for it any more.
            runtime.shutdown_background();
        })?;
        let outbox = Mutex::new(Outbox::open(state)?);
        Ok(Self { shared, stop, thread: Some(thread), outbox, topics })
    }

    /// Introduces another key. Its events go out after this, and not before.
    pub fn introduce(&self, identity: SignedMessage) {
        self.shared.introduce(&self.topics, identity);
        self.notify();
    }

    /// Tells it that an event was recorded.
    pub fn notify(&self) {
        self.shared.work.notify_one();
    }

    /// Has the broker keep a statement: told as soon as there is a connection, and again on each. Its topic is put on
    /// record first; where the disk does not take that, the statement waits.
    pub fn retain(&self, statement: Statement) {
        self.shared.retain(statement);
        self.notify();
    }

    /// Puts many topics on record at once, that are about to be retained.
    pub fn note(&self, topics: &[String]) {
        if let Err(error) = lock(&self.shared.noted).note(topics.iter().map(String::as_str)) {
            log::debug!("{error}"); // said when they are retained
        }
    }

    /// Says all statements again; Home Assistant asks for it by its birth message.
    pub fn repeat(&self) {
        lock(&self.shared.board).repeat();
        self.notify();
    }

    /// Whether the broker has taken the newest statement on a topic.
    pub fn is_settled(&self, topic: &str) -> bool {
        lock(&self.shared.board).is_settled(topic)
    }

    /// Sends the outcome of a command. Without a connection, a bounded number waits for one.
    pub fn answer(&self, outcome: SignedMessage) {
        let mut outcomes = lock(&self.shared.outcomes);
        if outcomes.len() >= OUTCOMES {
            outcomes.pop_front();
        }
        outcomes.push_back(outcome);
        drop(outcomes);
        self.notify();
    }

    /// Whether Home Assistant has said, since this was last asked, that it has started.
    pub fn take_birth(&self) -> bool {
        lock(&self.shared.inbox).take_birth()
    }

    /// The next message that somebody sent to the device.
    pub fn received(&self) -> Option<Received> {
        lock(&self.shared.inbox).take()
    }

    /// Messages to the device that were dropped because too many came.
    pub fn dropped(&self) -> u64 {
        lock(&self.shared.inbox).dropped()
    }

    /// Waits until the broker has acknowledged all events; `false` if that took too long.
    pub fn flush(&self, within: Duration) -> Result<bool, StoreError> {
        let deadline = Instant::now() + within;
        let outbox = lock(&self.outbox);
        self.notify();
        loop {
            if outbox.depth()? == 0 {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn status(&self) -> Status {
        lock(&self.shared.status).clone()
    }

    /// Grows by one about every second while the publisher is neither stuck nor dead.
    pub fn beat(&self) -> u64 {
        self.shared.beat.load(Ordering::Relaxed)
    }

    /// Says what is left to say, `offline`, and closes the connection. Events that the broker has not
    /// acknowledged stay in the outbox for the next start. Gives the outcomes that found no connection.
    pub fn stop(mut self) -> Vec<SignedMessage> {
        self.end();
        lock(&self.shared.outcomes).drain(..).collect()
    }

    fn end(&mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the publisher panicked; the outbox keeps what was not acknowledged");
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn new(noted: Noted) -> Self {
        Self {
            work: Notify::default(),
            status: Mutex::default(),
            board: Mutex::default(),
            noted: Mutex::new(noted),
            outcomes: Mutex::default(),
            inbox: Mutex::default(),
            introduced: Mutex::default(),
            beat: AtomicU64::default(),
        }
    }

    fn retain(&self, statement: Statement) {
        // Held all along, lest an older statement on the topic be acknowledged as cleared in between.
        let mut board = lock(&self.board);
        for statement in lock(&self.noted).admit(statement) {
            board.put(statement);
        }
    }

    fn introduce(&self, topics: &Topics, identity: SignedMessage) {
        // The statement first: whoever sees the key finds it on the board.
        let kid = identity.kid().to_owned();
        let topic = topics.identity();
        self.retain(Statement::Signed { topic, message: identity });
        *lock(&self.introduced) = kid;
    }
}

/// Runs beside the task on one thread: if that is stuck, so is this.
async fn beat(shared: &Shared) {
    loop {
        shared.beat.fetch_add(1, Ordering::Relaxed);
        sleep(LOOK).await;
    }
}

/// A panic while one of these was held left a whole value behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Task {
    broker: Broker,
    session: Session,
    topics: Topics,
    ears: Ears,
    outbox: Outbox,
    shared: Arc<Shared>,
    stopped: watch::Receiver<bool>,
    /// The subscription to `identity` that the broker has not answered yet.
    asked: Cell<Option<u16>>,
    /// Connections that broke before it had.
    unanswered: Cell<u8>,
    /// Lines logged about rivals.
    rivals: Cell<u8>,
}

impl Task {
    async fn run(mut self) {
        let mut wait = FIRST_WAIT;
        while !*self.stopped.borrow() {
            let before = self.status().acknowledged;
            let mut stopped = self.stopped.clone();
            let connecting = Connection::open(&self.broker, &self.session);
            let outcome = tokio::select! {
                connection = connecting => match connection {
                    Ok(connection) => self.serve(connection).await,
                    Err(error) => Err(error.into()),
                },
                _ = stopped.wait_for(|stop| *stop) => break,
            };
            let Err(error) = outcome else { break };
            if self.status().acknowledged > before {
                wait = FIRST_WAIT;
            }
            if matches!(error, PublishError::Client(ClientError::TakenOver)) {
                let client = &self.session.client_id;
                self.note_rival(format!(
                    "another client logs in as {client}: a copy of this device's state is in use elsewhere; give each \
                     device a state and a name of its own"
                ));
            }
            self.report(&error);
            if self.asked.take().is_some() {
                self.unanswered.set(self.unanswered.get().saturating_add(1));
            }
            let shortened = wait.mul_f64(1.0 - fastrand::f64() / 2.0);
            wait = (wait * 2).min(LONGEST_WAIT);
            let _ = timeout(shortened, stopped.wait_for(|stop| *stop)).await;
        }
        self.status().connected = false;
    }

    fn status(&self) -> MutexGuard<'_, Status> {
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
    async fn serve(&mut self, mut connection: Connection) -> Result<(), PublishError> {
        log::info!("connected to {}", self.broker);
        {
            let mut status = self.status();
            status.connected = true;
            status.connections += 1;
        }
        lock(&self.shared.board).repeat();
        let mut flight = Flight::new(connection.receive_maximum());
        // First it hears, then it says that it is there: who sees `online` is heard.
        self.listen(&mut connection)?;
        let id = connection.publish(&self.topics.availability(), "online", true)?;
        flight.push(id, What::Availability);
        let shared = self.shared.clone();
        let mut stopped = self.stopped.clone();
        loop {
            flight.check_patience()?;
            self.outbox.settle()?;
            self.send_statements(&mut connection, &mut flight)?;
            self.send_event(&mut connection, &mut flight)?;
            tokio::select! {
                incoming = connection.next() => self.take(incoming?, &mut flight)?,
                () = shared.work.notified() => {}
                () = sleep(LOOK) => {}
                _ = stopped.wait_for(|stop| *stop) => break,
            }
        }
        match timeout(GOODBYE, self.leave(&mut connection, flight)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => log::debug!("while stopping: {error}"),
            Err(_) => log::debug!("while stopping: not everything was acknowledged"),
        }
        if let Ok(Err(error)) = timeout(GOODBYE, connection.close()).await {
            log::debug!("while stopping: {error}");
        }
        Ok(())
    }

    fn listen(&self, connection: &mut Connection) -> Result<(), PublishError> {
        if self.ears.command {
            connection.subscribe(&self.topics.command())?;
        }
        if self.ears.set {
            connection.subscribe(&self.topics.set("+"))?;
        }
        if let Some(topic) = &self.ears.home_assistant {
            connection.subscribe(topic)?;
        }
        if self.ears.identity && self.unanswered.get() < ASKS {
            self.asked.set(Some(connection.subscribe(&self.topics.identity())?));
        }
        Ok(())
    }

    /// Outcomes of commands and statements.
    fn send_statements(
        &self,
        connection: &mut Connection,
        flight: &mut Flight,
    ) -> Result<(), PublishError> {
        while flight.has_room() {
            let outcome = lock(&self.shared.outcomes).pop_front();
            let sent = if let Some(outcome) = outcome {
                (connection.publish(&self.topics.result(), outcome.as_str(), false), What::Outcome)
            } else if let Some(due) = lock(&self.shared.board).next_due() {
                let sent = connection.publish(&due.topic, &due.text, true);
                (sent, What::Statement(due.topic, due.version))
            } else {
                break;
            };
            match sent {
                (Ok(id), what) => flight.push(id, what),
                // One statement too many for this broker must not keep the events back.
                (Err(error @ ClientError::PacketTooLarge { .. }), what) => {
                    log::warn!("{what:?} is not sent: {error}");
                }
                (Err(error), _) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn send_event(
        &self,
        connection: &mut Connection,
        flight: &mut Flight,
    ) -> Result<(), PublishError> {
        let introduced = lock(&self.shared.introduced).clone();
        if flight.has_room_for_an_event()
            && let Some(entry) = self.outbox.oldest()?
            // Nobody could verify it yet; the daemon is about to introduce the key.
            && (entry.message.kid() == introduced
                || !self.outbox.is_newer(entry.message.kid(), &introduced)?)
        {
            let id = connection.publish(&self.topics.event(), entry.message.as_str(), false)?;
            flight.push(id, What::Event(entry.position, entry.seq));
        }
        Ok(())
    }

    fn take(&self, incoming: Incoming, flight: &mut Flight) -> Result<(), PublishError> {
        match incoming {
            Incoming::Acknowledged { id, refusal } => match flight.acknowledged(id, refusal)? {
                Some(What::Event(position, _)) => {
                    self.outbox.acknowledged(position)?;
                    let mut status = self.status();
                    status.acknowledged += 1;
                    status.trouble = None;
                }
                Some(What::Statement(topic, version)) => {
                    let mut board = lock(&self.shared.board);
                    if board.taken(&topic, version) {
                        lock(&self.shared.noted).cleared(&topic);
                    }
                }
                _ => {}
            },
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
                } else {
                    log::debug!("a message on {topic}, which was not subscribed to");
                    return Ok(());
                };
                lock(&self.shared.inbox).put(Received { inbound, payload, retained });
            }
            // Who may not read it there knows of no rival by it.
            Incoming::Subscribed { id, .. } if self.asked.get() == Some(id) => self.asked.set(None),
            Incoming::Subscribed { refusal: Some(reason), .. } => {
                log::warn!(
                    "the broker refused a subscription, commands may not arrive: {reason:?}"
                );
            }
            Incoming::Subscribed { refusal: None, .. } => {}
        }
        Ok(())
    }

    /// Somebody told an identity as this device does; it may have been this device, now or by a former key.
    fn meet(&self, told: &[u8], retained: bool) {
        let told = std::str::from_utf8(told)
            .ok()
            .and_then(|text| Envelope::parse(text).ok())
            .and_then(|envelope| identity::introduction(envelope).ok());
        let Some(told) = told.filter(|told| told.device == self.topics.device().as_str()) else {
            return;
        };
        let (kid, place) = (told.key.kid(), self.topics.place());
        if lock(&self.shared.noted).is_own(kid) {
            return;
        }
        self.note_rival(if retained {
            format!(
                "the broker kept another key for {place}, {kid}: another device has this prefix and name, or it is this \
                 one's from before its state was lost"
            )
        } else {
            format!(
                "another key is told for {place}, {kid}: another device has this prefix and name; give one of them \
                 another `device` or `prefix`"
            )
        });
    }

    fn note_rival(&self, rival: String) {
        let mut status = self.status();
        if status.rival.as_ref() != Some(&rival) && self.rivals.get() < RIVALS {
            self.rivals.set(self.rivals.get() + 1);
            log::error!("{}: {rival}", self.broker);
        }
        status.rival = Some(rival);
    }

    /// Says what is left but for events, then `offline`, and waits for the acknowledgements.
    async fn leave(
        &self,
        connection: &mut Connection,
        mut flight: Flight,
    ) -> Result<(), PublishError> {
        loop {
            self.send_statements(connection, &mut flight)?;
            let told = lock(&self.shared.board).is_sent() && lock(&self.shared.outcomes).is_empty();
            if told && flight.has_room() {
                break;
            }
            self.take(connection.next().await?, &mut flight)?;
        }
        let id = connection.publish(&self.topics.availability(), "offline", true)?;
        flight.push(id, What::Availability);
        while !flight.is_empty() {
            self.take(connection.next().await?, &mut flight)?;
        }
        Ok(())
    }
}
