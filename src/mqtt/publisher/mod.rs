//! The device's side of the conversation with the broker.
//!
//! Events are drained from the outbox: in order, one at a time, removed on the broker's acknowledgement
//! alone, everything else again after a reconnect (contract §5). Statements are
//! retained by the broker and said again on each connection; one that the broker does not take is left out
//! ([`caution`]). What others tell the device waits in a queue for the daemon.

mod board;
mod caution;
mod flight;
mod inbox;
mod memory;
mod noted;
mod rivals;
mod task;

pub use board::Statement;
pub use inbox::{Inbound, Received};
pub use memory::{LeftOut, Remembered};

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use super::broker::Broker;
use super::client::{ClientError, Session};
use super::discovery::Discovery;
use super::reason::Reason;
use super::retained::RecordError;
use super::topics::Topics;
use crate::config::{Config, DeviceName};
use crate::event::store::StoreError;
use crate::event::{Outbox, SignedMessage};
use crate::system::state::StateDirectory;
use board::Board;
use caution::Caution;
use inbox::Inbox;
use noted::Noted;
use task::Task;

/// How long a message may stay unacknowledged before the connection is given up.
const PATIENCE: Duration = Duration::from_mins(1);
/// Other processes record into the outbox too (`forget`); they cannot wake us.
const LOOK: Duration = Duration::from_secs(1);
/// Waits between attempts: doubled each time, each shortened by up to a half by chance.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_mins(1);
/// No longer than this while each break tells more of what the broker minds.
const INFORMED_WAIT: Duration = Duration::from_secs(2);
/// For `offline` and what is in flight when the device stops.
const GOODBYE: Duration = Duration::from_secs(3);
/// Refused logins, until one without the last will is tried; and how long it then goes without.
const WILLS: u32 = 2;
const WITHOUT_WILL: Duration = Duration::from_hours(1);
/// Outcomes of commands that wait for a connection; the oldest go.
const OUTCOMES: usize = 128;
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
    /// What the broker does not take beside events, or does not let us hear.
    pub left_out: Vec<LeftOut>,
}

#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    #[error("{0}")]
    Client(#[from] ClientError),
    #[error(
        "the broker refused event {seq}: {reason}; it stays in the outbox until the broker lets this user publish \
         on `event`"
    )]
    Refused { seq: u64, reason: Reason },
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
    /// Who tells an identity or health as this device does: another one of its prefix and name.
    pub identity: bool,
}

impl Ears {
    /// What a device with this configuration listens to.
    pub fn of(config: &Config) -> Self {
        let prefix = config.mqtt.as_ref().map(|mqtt| mqtt.discovery_prefix.as_str());
        Self {
            command: true,
            set: !config.commands.unsigned.is_empty(),
            home_assistant: prefix.filter(|prefix| !prefix.is_empty()).map(Discovery::birth_topic),
            identity: true,
        }
    }

    /// What it subscribes to, in this order.
    pub fn filters(&self, topics: &Topics) -> Vec<String> {
        let command = self.command.then(|| topics.command());
        let set = self.set.then(|| topics.set("+"));
        let rivals = self.identity.then(|| [topics.identity(), topics.health()]);
        let rivals = rivals.into_iter().flatten();
        command.into_iter().chain(set).chain(self.home_assistant.clone()).chain(rivals).collect()
    }
}

/// As whom a device with the key `kid` logs in.
pub fn session(topics: &Topics, kid: &str) -> Session {
    Session {
        client_id: topics.client_id(kid),
        will: Some((topics.availability(), "offline")),
        expiry: 0,
        clean: true,
    }
}

/// The running publisher; it ends when dropped, or better by [`Publisher::stop`].
pub struct Publisher {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
    outbox: Mutex<Outbox>,
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
    identity_topic: String,
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
        let mut noted = Noted::open(state, &broker, &topics)?;
        noted.note_key(&identity)?;
        noted.note_former_keys(&identity)?;
        noted.note([topics.availability().as_str(), &topics.identity()])?;
        let shared = Arc::new(Shared::new(noted, &topics));
        let (stop, stopped) = watch::channel(false);
        let session = session(&topics, identity.kid());
        shared.introduce(identity);
        let task = Task {
            session,
            broker,
            topics: topics.clone(),
            ears,
            outbox: Outbox::open(state)?,
            state: state.clone(),
            shared: shared.clone(),
            stopped,
            caution: Caution::default(),
            events_first: true,
            login_refusals: 0,
            will_suspected: false,
            without_will_until: None,
            remembered: None,
            rivals: 0,
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
        Ok(Self { shared, stop, thread: Some(thread), outbox })
    }

    /// Introduces another key. Its events go out after this, and not before.
    pub fn introduce(&self, identity: SignedMessage) {
        self.shared.introduce(identity);
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
    fn new(noted: Noted, topics: &Topics) -> Self {
        Self {
            work: Notify::default(),
            status: Mutex::default(),
            board: Mutex::default(),
            noted: Mutex::new(noted),
            outcomes: Mutex::default(),
            inbox: Mutex::default(),
            introduced: Mutex::default(),
            identity_topic: topics.identity(),
            beat: AtomicU64::default(),
        }
    }

    fn retain(&self, statement: Statement) {
        // Held all along: no older statement on the topic may be acknowledged as cleared in between.
        let mut board = lock(&self.board);
        for statement in lock(&self.noted).admit(statement) {
            let kid = match &statement {
                Statement::Signed { topic, message } if *topic == self.identity_topic => {
                    Some(message.kid().to_owned())
                }
                _ => None,
            };
            // The statement first: whoever sees the key finds it on the board.
            board.put(statement);
            if let Some(kid) = kid {
                *lock(&self.introduced) = kid;
            }
        }
    }

    fn introduce(&self, identity: SignedMessage) {
        let topic = self.identity_topic.clone();
        self.retain(Statement::Signed { topic, message: identity });
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
