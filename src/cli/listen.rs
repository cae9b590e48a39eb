//! `familiar listen`: the reference consumer.

mod republish;

use std::io::{ErrorKind, Write};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::verdict::{Believed, Verdict, believe, envelope, plain};
use super::{Failure, Global, acquaintance, block_on};
use crate::config::Span;
use crate::event::Typ;
use crate::event::jws::VerifyError;
use crate::event::line::Heard;
use crate::event::pins::Pins;
use crate::mqtt::topics::{self, Content, Topics};
use crate::mqtt::{Broker, BrokerError, ClientError, Connection, Incoming, Session};
use crate::system::state::StateDirectory;
use republish::{Bridge, Proven, Word};

/// Attempts at the start before the broker counts as unreachable.
const ATTEMPTS: u32 = 5;
/// Between attempts.
const WAIT: Duration = Duration::from_secs(1);
/// How long to wait for the identities that the broker keeps, before anything is judged by them.
const IDENTITIES: Duration = Duration::from_millis(500);
/// The broker keeps messages that long for us while the connection is broken, in seconds.
const SESSION: u32 = 3600;

/// Subscribe, verify every message, print
///
/// Keys are pinned on first use (docs/messages.md). Ends with 3 if a message was not verified,
/// with 5 if the broker cannot be reached.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  familiar listen\n  familiar listen --all --json --for 1h")]
pub struct Args {
    /// Listen to every device below the prefix, not only to this one
    #[arg(long)]
    all: bool,
    /// End after so many events
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// End after a time such as 30s
    #[arg(long = "for", value_name = "DURATION")]
    duration: Option<Span>,
    /// Publish what was verified again, as plain JSON, below this prefix
    #[arg(long, value_name = "PREFIX")]
    republish: Option<String>,
}

#[allow(clippy::needless_pass_by_value)] // every verb takes its arguments so
pub fn run(global: &Global, args: Args) -> Result<(), Failure> {
    let Args { all, count, duration, republish } = args;
    let config = global.located()?.config;
    let Some(mqtt) = &config.mqtt else {
        return Err(Failure::usage(
            "the configuration has no [mqtt]: there is no broker to listen to",
        ));
    };
    let state = StateDirectory::open()?;
    let broker = Broker::new(mqtt, &state)?;
    let pins = acquaintance::pins(&state, &config.device)?;
    let prefix = broker.prefix();
    let (identities, everything) = if all {
        (topics::every_identity(prefix), topics::every_device(prefix))
    } else {
        let topics = Topics::new(prefix, &config.device);
        (topics.identity(), topics.everything())
    };
    let bridge = republish.map(|target| Bridge::new(prefix, &target)).transpose()?;
    let session = match &bridge {
        None => Session {
            client_id: format!("familiar-listen-{:016x}", fastrand::u64(..)),
            will: None,
            expiry: SESSION,
            clean: true,
        },
        // What came while the bridge was away waits for it.
        Some(bridge) => Session {
            client_id: bridge.client_id(config.device.as_str()),
            will: None,
            expiry: republish::SESSION,
            clean: false,
        },
    };
    let mut listener = Listener {
        session,
        bridge,
        broker,
        identities,
        everything,
        pins,
        json: global.json,
        count,
        events: 0,
        messages: 0,
        refused: 0,
        worked: false,
        closed: false,
    };
    let deadline = duration.map(|span| Instant::now() + span.get());
    block_on(async {
        let end = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            outcome = listener.listen() => outcome,
            () = end => Ok(()),
            _ = tokio::signal::ctrl_c() => Ok(()),
        }
    })??;
    if listener.refused > 0 {
        let Listener { refused, messages, .. } = listener;
        return Err(Failure::refused(format!("{refused} of {messages} messages not verified")));
    }
    Ok(())
}

impl From<BrokerError> for Failure {
    fn from(error: BrokerError) -> Self {
        match error {
            BrokerError::Secret(error) => error.into(),
            other => Self::usage(other),
        }
    }
}

struct Listener {
    broker: Broker,
    session: Session,
    identities: String,
    everything: String,
    pins: Pins,
    json: bool,
    count: Option<u64>,
    events: u64,
    messages: u64,
    refused: u64,
    bridge: Option<Bridge>,
    /// There was a connection that worked.
    worked: bool,
    /// Nobody reads what is printed any more.
    closed: bool,
}

/// Why listening over one connection ended.
enum Ended {
    Enough,
    Broken(ClientError),
    Failed(Failure),
}

impl From<ClientError> for Ended {
    fn from(error: ClientError) -> Self {
        Self::Broken(error)
    }
}

impl Listener {
    async fn listen(&mut self) -> Result<(), Failure> {
        let mut failures = 0;
        loop {
            let error = match Connection::open(&self.broker, &self.session).await {
                Ok(connection) => match self.serve(connection).await {
                    Ended::Enough => return Ok(()),
                    Ended::Failed(failure) => return Err(failure),
                    Ended::Broken(error) => error,
                },
                Err(error) => error,
            };
            failures += 1;
            // Once it worked, it may work again.
            if !self.worked && failures >= ATTEMPTS {
                return Err(Failure::Network(format!("{}: {error}", self.broker)));
            }
            log::warn!("{}: {error}; trying again", self.broker);
            sleep(WAIT).await;
        }
    }

    async fn serve(&mut self, mut connection: Connection) -> Ended {
        match self.receive(&mut connection).await {
            Ok(()) => {
                // Enough was heard: the broker need not keep anything for us.
                let _ = connection.close().await;
                Ended::Enough
            }
            Err(ended) => ended,
        }
    }

    async fn receive(&mut self, connection: &mut Connection) -> Result<(), Ended> {
        if !connection.session_present() {
            self.identities_first(connection).await?;
        }
        if let Some(bridge) = &mut self.bridge {
            bridge.connected();
            connection.acknowledge_by_hand();
        }
        // A bridge also wants the states that changed while its session waited.
        if self.bridge.is_some() || !connection.session_present() {
            connection.subscribe(&self.everything)?;
        }
        while !self.is_done() {
            match connection.next().await? {
                Incoming::Message { topic, payload, retained } => {
                    let word = self.heard(&topic, &payload).map_err(Ended::Failed)?;
                    if let Some(bridge) = &mut self.bridge {
                        bridge.pass_on(connection, &topic, word, retained)?;
                    }
                }
                Incoming::Subscribed { refusal, .. } => {
                    granted(refusal)?;
                    self.session.clean = false;
                    self.worked = true;
                    log::info!("listening to {} on {}", self.everything, self.broker);
                }
                Incoming::Acknowledged { id, refusal } => {
                    if let Some(bridge) = &mut self.bridge {
                        bridge.taken(connection, id, refusal.map(|reason| reason.to_string()))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Enough was heard, and passed on.
    fn is_done(&self) -> bool {
        let enough = self.count.is_some_and(|count| self.events >= count) || self.closed;
        enough && self.bridge.as_ref().is_none_or(Bridge::is_idle)
    }

    /// Lets the broker tell the identities that it keeps before events come that need them.
    async fn identities_first(&mut self, connection: &mut Connection) -> Result<(), Ended> {
        connection.subscribe(&self.identities)?;
        loop {
            match timeout(IDENTITIES, connection.next()).await {
                Err(_) => return Ok(()),
                Ok(incoming) => match incoming? {
                    Incoming::Subscribed { refusal, .. } => granted(refusal)?,
                    Incoming::Message { topic, payload, .. } => {
                        // It comes again with everything else; then it is printed and counted.
                        if let Some((device, _)) = topics::parse(self.broker.prefix(), &topic) {
                            let _ = acquaintance::meet(&mut self.pins, device, &payload);
                            if !self.everything.ends_with("+/#") {
                                return Ok(());
                            }
                        }
                    }
                    Incoming::Acknowledged { .. } => {}
                },
            }
        }
    }

    fn heard(&mut self, topic: &str, payload: &[u8]) -> Result<Word, Failure> {
        let Some((device, content)) = topics::parse(self.broker.prefix(), topic) else {
            return Ok(Word::Nothing);
        };
        let judged = match content {
            // What others tell the device is not for us to judge.
            Content::ToDevice => return Ok(Word::Nothing),
            Content::Availability => {
                self.unsigned(topic, payload)?;
                return Ok(Word::Nothing);
            }
            // A retained message that was cleared.
            Content::Signed(typ @ (Typ::Presence | Typ::Health | Typ::Identity))
                if payload.is_empty() =>
            {
                self.unsigned(topic, b"")?;
                return Ok(if typ == Typ::Identity { Word::Nothing } else { Word::Cleared });
            }
            Content::Signed(Typ::Identity) => acquaintance::meet(&mut self.pins, device, payload)
                .map(|message| Believed { message, link: None })
                .map_err(|reason| Verdict::refused(&reason, None)),
            Content::Signed(typ) => {
                self.events += u64::from(typ == Typ::Event);
                self.judge(device, typ, payload)
            }
            Content::Other => {
                let reason = "no device has anything to say on this topic".to_owned();
                Err(Verdict::refused(&VerifyError::NotAMessage(reason), None))
            }
        };
        self.messages += 1;
        let (verdict, word) = match judged {
            Ok(Believed { message, link }) => {
                let device = device.to_owned();
                (
                    Verdict::believed(&message),
                    Word::Proven(Box::new(Proven { device, message, link })),
                )
            }
            Err(verdict) => {
                self.refused += 1;
                (verdict, Word::Nothing)
            }
        };
        self.print(&Verdict { topic: Some(topic.to_owned()), ..verdict })?;
        Ok(word)
    }

    /// What a trusted key of the device said; else what there is to tell of it.
    fn judge(&self, device: &str, due: Typ, payload: &[u8]) -> Result<Believed, Verdict> {
        let envelope = envelope(payload).map_err(|reason| Verdict::refused(&reason, None))?;
        let claimed = Some((envelope.kid().to_owned(), envelope.typ()));
        believe(envelope, &self.pins.ring(device), Some(due))
            .and_then(|believed| told_by(device, believed))
            .and_then(|believed| self.by_the_right_key(device, believed))
            .map_err(|reason| match reason {
                VerifyError::UnknownKey(_) if self.pins.key(device).is_none() => {
                    let reason =
                        format!("the key of {device} is not known: it has not told its identity");
                    Verdict::refused(&VerifyError::Payload(reason), claimed)
                }
                reason => Verdict::refused(&reason, claimed),
            })
    }

    /// A key that was replaced may still be heard with what it signed before, and no more.
    fn by_the_right_key(&self, device: &str, believed: Believed) -> Result<Believed, VerifyError> {
        let Believed { message, link } = &believed;
        match self.pins.line(device) {
            Some(line) => line.admit(&message.kid, message.typ, link.as_ref(), Heard::Live)?,
            None => return Err(VerifyError::UnknownKey(message.kid.clone())),
        }
        Ok(believed)
    }

    /// `availability` and cleared topics: plain text by contract.
    fn unsigned(&mut self, topic: &str, payload: &[u8]) -> Result<(), Failure> {
        let text = String::from_utf8_lossy(payload).chars().take(64).collect::<String>();
        if self.json {
            self.print(&Verdict {
                topic: Some(topic.to_owned()),
                verified: false,
                reason: Some("unsigned by contract".to_owned()),
                kid: None,
                typ: None,
                payload: Some(text),
            })
        } else {
            self.say(&format!("unsigned    {} {}", plain(topic), plain(&text)))
        }
    }

    fn print(&mut self, verdict: &Verdict) -> Result<(), Failure> {
        self.say(&if self.json { verdict.to_json() } else { verdict.to_line() })
    }

    /// Whoever reads may stop reading (`| head`): that is an end, and no failure.
    fn say(&mut self, line: &str) -> Result<(), Failure> {
        match writeln!(std::io::stdout().lock(), "{line}") {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => self.closed = true,
            outcome => outcome.map_err(Failure::failed)?,
        }
        Ok(())
    }
}

/// A key may be trusted for one device and not for another.
fn told_by(device: &str, believed: Believed) -> Result<Believed, VerifyError> {
    match &believed.link {
        Some(link) if link.device != device => Err(VerifyError::Payload(format!(
            "an event of {:?} on the topic of {device:?}",
            link.device
        ))),
        _ => Ok(believed),
    }
}

fn granted(refusal: Option<crate::mqtt::reason::Reason>) -> Result<(), Ended> {
    match refusal {
        None => Ok(()),
        Some(reason) => Err(Ended::Failed(Failure::Network(format!(
            "the broker refused the subscription: {reason}"
        )))),
    }
}
