//! Drains the outbox to the broker: in order, a bounded number in flight, removed on the broker's
//! acknowledgement alone, everything else again after a reconnect (contract §5).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rumqttc::v5::mqttbytes::v5::PubAckReason;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::broker::Broker;
use super::client::{ClientError, Connection, Incoming, Session};
use super::topics::Topics;
use crate::config::DeviceName;
use crate::event::outbox::Position;
use crate::event::store::StoreError;
use crate::event::{DeviceKey, Outbox, SignedMessage};
use crate::system::state::StateDirectory;

/// Events in flight, at most; fewer if the broker says so, one until the first is acknowledged.
const WINDOW: usize = 16;
/// How long an event may stay unacknowledged before the connection is given up.
const PATIENCE: Duration = Duration::from_mins(1);
/// Other processes record into the outbox too (`forget`); they cannot wake us.
const LOOK: Duration = Duration::from_secs(1);
/// Waits between attempts: doubled each time, each shortened by up to a half by chance.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_mins(1);
/// For `offline` and what is in flight when the device stops.
const GOODBYE: Duration = Duration::from_secs(3);

/// How the publisher stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    pub connected: bool,
    /// Events that the broker acknowledged since the start.
    pub acknowledged: u64,
    /// Why there is no connection, or why the last event was not taken.
    pub trouble: Option<String>,
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
    TooLong(#[from] crate::event::jws::TooLong),
    #[error("cannot start the publisher: {0}")]
    Io(#[from] std::io::Error),
}

/// The running publisher; it ends when dropped, or better by [`Publisher::stop`].
pub struct Publisher {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
    outbox: Mutex<Outbox>,
}

#[derive(Default)]
struct Shared {
    recorded: Notify,
    status: Mutex<Status>,
}

impl Publisher {
    /// Starts it on a thread of its own.
    pub fn start(
        broker: Broker,
        device: &DeviceName,
        key: &DeviceKey,
        state: &StateDirectory,
    ) -> Result<Self, StartError> {
        let shared = Arc::new(Shared::default());
        let (stop, stopped) = watch::channel(false);
        let topics = Topics::new(broker.prefix(), device);
        let task = Task {
            session: Session {
                client_id: format!("familiar-{device}"),
                will: Some((topics.availability(), "offline")),
                expiry: 0,
                clean: true,
            },
            broker,
            identity: key.identity(device)?,
            topics,
            outbox: Outbox::open(state)?,
            shared: shared.clone(),
            stopped,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new()
            .name("mqtt".to_owned())
            .spawn(move || runtime.block_on(task.run()))?;
        let outbox = Mutex::new(Outbox::open(state)?);
        Ok(Self { shared, stop, thread: Some(thread), outbox })
    }

    /// Tells it that an event was recorded.
    pub fn notify(&self) {
        self.shared.recorded.notify_one();
    }

    /// Waits until the broker has acknowledged everything; `false` if that took too long.
    pub fn flush(&self, within: Duration) -> Result<bool, StoreError> {
        let deadline = Instant::now() + within;
        let outbox = self.outbox.lock().unwrap_or_else(PoisonError::into_inner);
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
        self.shared.status().clone()
    }

    /// Says `offline` and closes the connection. What the broker has not acknowledged stays in the
    /// outbox for the next start.
    pub fn stop(mut self) {
        self.end();
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
    fn status(&self) -> std::sync::MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Task {
    broker: Broker,
    session: Session,
    topics: Topics,
    identity: SignedMessage,
    outbox: Outbox,
    shared: Arc<Shared>,
    stopped: watch::Receiver<bool>,
}

/// A message that waits for its acknowledgement.
struct InFlight {
    id: u16,
    sent: Instant,
    acknowledged: bool,
    what: What,
}

enum What {
    /// A retained message about the device, by its topic.
    Retained(String),
    Event(Position, u64),
}

impl Task {
    async fn run(mut self) {
        let mut wait = FIRST_WAIT;
        while !*self.stopped.borrow() {
            let before = self.shared.status().acknowledged;
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
            if self.shared.status().acknowledged > before {
                wait = FIRST_WAIT;
            }
            self.report(&error);
            let shortened = wait.mul_f64(1.0 - fastrand::f64() / 2.0);
            wait = (wait * 2).min(LONGEST_WAIT);
            let _ = timeout(shortened, stopped.wait_for(|stop| *stop)).await;
        }
        self.shared.status().connected = false;
    }

    fn report(&self, error: &PublishError) {
        let trouble = format!("{}: {error}", self.broker);
        let mut status = self.shared.status();
        // Days without a broker are one line in the log, not one for each attempt.
        if status.trouble.as_ref() == Some(&trouble) && !status.connected {
            log::debug!("{trouble}");
        } else {
            log::warn!("{trouble}; trying again");
        }
        status.connected = false;
        status.trouble = Some(trouble);
    }

    /// Publishes over one connection until it breaks (`Err`) or the device stops (`Ok`).
    async fn serve(&mut self, mut connection: Connection) -> Result<(), PublishError> {
        log::info!("connected to {}", self.broker);
        self.shared.status().connected = true;
        let mut flight = Flight::new(connection.receive_maximum());
        let identity = self.identity.as_str();
        flight.retained(&mut connection, self.topics.availability(), "online")?;
        flight.retained(&mut connection, self.topics.identity(), identity)?;
        let topic = self.topics.event();
        let shared = self.shared.clone();
        let mut stopped = self.stopped.clone();
        loop {
            flight.check_patience()?;
            while flight.has_room()
                && let Some(entry) = self.outbox.after(flight.last_sent)?
            {
                let id = connection.publish(&topic, entry.message.as_str(), false)?;
                flight.event(id, entry.position, entry.seq);
            }
            tokio::select! {
                incoming = connection.next() => {
                    if let Incoming::Acknowledged { id, refusal } = incoming? {
                        self.acknowledged(&mut flight, id, refusal)?;
                    }
                }
                () = shared.recorded.notified() => {}
                () = sleep(LOOK) => {}
                _ = stopped.wait_for(|stop| *stop) => break,
            }
        }
        self.leave(connection, flight).await
    }

    fn acknowledged(
        &self,
        flight: &mut Flight,
        id: u16,
        refusal: Option<PubAckReason>,
    ) -> Result<(), PublishError> {
        let events = flight.acknowledged(id, refusal)?;
        // Only a run without holes from the oldest on leaves the outbox: after a refusal, all that
        // follows is sent again behind the refused one.
        if let Some((last, number)) = events {
            self.outbox.acknowledged(last)?;
            let mut status = self.shared.status();
            status.acknowledged += number;
            status.trouble = None;
        }
        Ok(())
    }

    async fn leave(
        &self,
        mut connection: Connection,
        mut flight: Flight,
    ) -> Result<(), PublishError> {
        flight.retained(&mut connection, self.topics.availability(), "offline")?;
        let drained = async {
            while !flight.is_empty() {
                if let Incoming::Acknowledged { id, refusal } = connection.next().await? {
                    self.acknowledged(&mut flight, id, refusal)?;
                }
            }
            Ok::<(), PublishError>(())
        };
        match timeout(GOODBYE, drained).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => log::debug!("while stopping: {error}"),
            Err(_) => log::debug!("while stopping: not everything was acknowledged"),
        }
        if let Err(error) = connection.close().await {
            log::debug!("while stopping: {error}");
        }
        Ok(())
    }
}

/// What was sent over one connection and not yet acknowledged, oldest first.
struct Flight {
    messages: VecDeque<InFlight>,
    window: usize,
    /// What the window becomes once the broker has taken an event: until then one at a time, so that
    /// a broker that refuses all of them does not take a later one before an earlier one.
    widest: usize,
    last_sent: Position,
}

impl Flight {
    fn new(receive_maximum: u16) -> Self {
        let widest = WINDOW.min(receive_maximum.into());
        Self { messages: VecDeque::new(), window: 1, widest, last_sent: Position::default() }
    }

    fn has_room(&self) -> bool {
        self.messages.len() < self.window
    }

    fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    fn retained(
        &mut self,
        connection: &mut Connection,
        topic: String,
        text: &str,
    ) -> Result<(), ClientError> {
        let id = connection.publish(&topic, text, true)?;
        self.push(id, What::Retained(topic));
        Ok(())
    }

    fn event(&mut self, id: u16, position: Position, seq: u64) {
        self.last_sent = position;
        self.push(id, What::Event(position, seq));
    }

    fn push(&mut self, id: u16, what: What) {
        self.messages.push_back(InFlight { id, sent: Instant::now(), acknowledged: false, what });
    }

    /// Notes an acknowledgement; gives the last position of the events that are now done without a
    /// hole before them, and their number.
    fn acknowledged(
        &mut self,
        id: u16,
        refusal: Option<PubAckReason>,
    ) -> Result<Option<(Position, u64)>, PublishError> {
        let message = self
            .messages
            .iter_mut()
            .find(|m| m.id == id && !m.acknowledged)
            .ok_or(PublishError::Unsolicited(id))?;
        message.acknowledged = true;
        match (&message.what, refusal) {
            (What::Retained(topic), Some(reason)) => {
                log::warn!("the broker refused {topic}: {reason:?}");
            }
            (What::Event(_, seq), Some(reason)) => {
                return Err(PublishError::Refused { seq: *seq, reason });
            }
            (What::Event(..), None) => self.window = self.widest,
            (What::Retained(_), None) => {}
        }
        let mut done = None;
        while self.messages.front().is_some_and(|m| m.acknowledged) {
            if let Some(InFlight { what: What::Event(position, _), .. }) = self.messages.pop_front()
            {
                done = Some((position, done.map_or(1, |(_, n)| n + 1)));
            }
        }
        Ok(done)
    }

    fn check_patience(&self) -> Result<(), PublishError> {
        match self.messages.front() {
            Some(oldest) if oldest.sent.elapsed() > PATIENCE => {
                Err(PublishError::NoAcknowledgement)
            }
            _ => Ok(()),
        }
    }
}
