//! `familiar command`: sign a command, send it, wait for the device's signed result.

use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};
use tokio::time::{Instant, timeout_at};

use super::verdict::{envelope, plain};
use super::{Failure, Global, acquaintance, block_on};
use crate::command::{CommandId, LONGEST, OperatorKey, Order, Reported, request_digest};
use crate::config::{self, DeviceName, Span};
use crate::event::pins::Pins;
use crate::event::{KeyRing, Typ};
use crate::mqtt::topics::Topics;
use crate::mqtt::{Broker, ClientError, Connection, Incoming, Session};
use crate::recognition::PersonId;
use crate::system::clock::{self, ClockState};
use crate::system::owner;
use crate::system::state::StateDirectory;

/// How long to wait for the identity that the broker keeps of a device whose key is known already: it may
/// have been rotated.
const IDENTITY: std::time::Duration = std::time::Duration::from_millis(500);

/// Command a device, signed, and wait for its signed result
///
/// Ends with 0 when the device has done it, 3 when it refused, 1 when it failed, and 5 without the broker or an
/// answer. The result is believed only if the device's own key signed it; keys are pinned as `listen`
/// does. With --json: the result's payload, as signed.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  familiar command pause --key operator.pem\n  familiar command forget --person ada --key operator.pem --device porch"
)]
pub struct Args {
    /// pause, resume, forget, update, rollback, identify-device or health
    #[arg(value_name = "COMMAND")]
    name: String,
    /// The operator's private key; `familiar operator new` makes one
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Whom to forget
    #[arg(long, value_name = "ID")]
    person: Option<PersonId>,
    /// An argument of the command
    #[arg(long = "arg", value_name = "NAME=VALUE", value_parser = argument)]
    arguments: Vec<(String, String)>,
    /// The device that shall do it [default: the configuration's own]
    #[arg(long, value_name = "NAME", value_parser = device)]
    device: Option<DeviceName>,
    /// The device takes it until then, and not later
    #[arg(long, value_name = "DURATION", default_value = "60s")]
    expires: Span,
    /// How long to wait for the result
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    wait: Span,
    /// If the device refuses because its clock is wrong, sign once more by the time that it told
    #[arg(long)]
    device_time: bool,
    /// Print the signed command and send nothing
    #[arg(long)]
    print: bool,
}

pub fn run(global: &Global, args: Args) -> Result<(), Failure> {
    let longest = LONGEST.unsigned_abs();
    if args.expires.get().is_zero() || args.expires.get() > longest {
        return Err(Failure::usage("--expires is more than nothing and at most 24h"));
    }
    if args.name == "forget" && args.person.is_none() {
        return Err(Failure::usage("`forget` needs --person ID"));
    }
    let key = owner::as_invoker(|| OperatorKey::open(&args.key))?;
    let config = global.located()?.config;
    owner::for_good();
    let device = args.device.clone().unwrap_or(config.device.clone());
    if args.print {
        println!("{}", key.sign(&args.order(&device, Timestamp::now())?));
        return Ok(());
    }
    let Some(mqtt) = &config.mqtt else {
        return Err(Failure::usage("the configuration has no [mqtt]: there is no broker to ask"));
    };
    let mut conversation = Conversation::prepare(&config, mqtt, device)?;
    let (payload, reported) = block_on(conversation.hold(&args, &key))??;
    tell(global, &args, &conversation.device, &payload, &reported)
}

impl Args {
    fn order(&self, device: &DeviceName, now: Timestamp) -> Result<Order, Failure> {
        let mut args: Map<String, Value> = self
            .arguments
            .iter()
            .map(|(name, value)| (name.clone(), value.clone().into()))
            .collect();
        if let Some(person) = &self.person {
            args.insert("person".to_owned(), person.as_str().into());
        }
        let lifetime = SignedDuration::try_from(self.expires.get()).map_err(Failure::usage)?;
        Ok(Order {
            id: CommandId::try_from(clock::new_id().to_string()).map_err(Failure::failed)?,
            device: device.to_string(),
            issued: now,
            expires: now.saturating_add(lifetime).map_err(Failure::usage)?,
            command: self.name.clone(),
            args,
        })
    }
}

fn argument(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("not NAME=VALUE".to_owned()),
    }
}

fn device(text: &str) -> Result<DeviceName, String> {
    DeviceName::try_from(text.to_owned())
}

fn tell(
    global: &Global,
    args: &Args,
    device: &DeviceName,
    payload: &str,
    reported: &Reported,
) -> Result<(), Failure> {
    let name = plain(&args.name);
    let message = plain(&reported.message);
    if global.json {
        println!("{payload}");
    } else if reported.outcome == "done" {
        println!("{device}: {name}: {message}");
        if let Some(data) = &reported.data {
            let text = serde_json::to_string_pretty(data).map_err(Failure::failed)?;
            text.lines().for_each(|line| println!("{}", plain(line)));
        }
    }
    let reason = plain(reported.reason.as_deref().unwrap_or("no reason given"));
    match reported.outcome.as_str() {
        "done" => Ok(()),
        "refused" => {
            let hint = match (reason.as_str(), reported.clock) {
                ("stale" | "future", ClockState::Unsynchronized) if !args.device_time => format!(
                    "; by its clock, which nothing disciplines, it is {}: --device-time signs by that",
                    reported.now.unwrap_or(reported.time)
                ),
                _ => String::new(),
            };
            Err(Failure::refused(format!("{device} refuses {name}: {message} ({reason}){hint}")))
        }
        _ => Err(Failure::failed(format!("{device}: {name}: {message} ({reason})"))),
    }
}

/// With one device, by way of the broker.
struct Conversation {
    broker: Broker,
    device: DeviceName,
    topics: Topics,
    pins: Pins,
}

impl Conversation {
    fn prepare(
        config: &config::Config,
        mqtt: &config::Mqtt,
        device: DeviceName,
    ) -> Result<Self, Failure> {
        let state = StateDirectory::open()?;
        let broker = Broker::new(mqtt, &state)?;
        let pins = acquaintance::pins(&state, &config.device)?;
        let topics = Topics::new(broker.prefix(), &device);
        Ok(Self { broker, device, topics, pins })
    }

    /// Sends the command and gives the result: its payload as signed, and what it says.
    async fn hold(
        &mut self,
        args: &Args,
        key: &OperatorKey,
    ) -> Result<(String, Reported), Failure> {
        let deadline = Instant::now() + args.wait.get();
        let mut connection = self.connect(deadline).await?;
        let mut order = args.order(&self.device, Timestamp::now())?;
        let (mut payload, mut reported) =
            self.ask(&mut connection, &key.sign(&order), args).await?;
        let by_the_clock = matches!(reported.reason.as_deref(), Some("stale" | "future"));
        if args.device_time && reported.outcome == "refused" && by_the_clock {
            // What the device told answers this very command, so nobody can have us sign by an old time.
            let now = reported.now.unwrap_or(reported.time);
            log::warn!("signing by the device's time, {now}");
            order = args.order(&self.device, now)?;
            (payload, reported) = self.ask(&mut connection, &key.sign(&order), args).await?;
        }
        let _ = connection.close().await;
        Ok((payload, reported))
    }

    /// Connects, learns the device's key and listens to its results.
    async fn connect(&mut self, deadline: Instant) -> Result<Connection, Failure> {
        let session = Session {
            client_id: format!("familiar-command-{:016x}", fastrand::u64(..)),
            will: None,
            expiry: 0,
            clean: true,
        };
        let opening = timeout_at(deadline, Connection::open(&self.broker, &session)).await;
        let mut connection = opening
            .unwrap_or(Err(ClientError::Timeout))
            .map_err(|error| Failure::Network(format!("{}: {error}", self.broker)))?;
        self.subscribe(&mut connection, &self.topics.identity(), deadline).await?;
        let patience = match self.pins.key(self.device.as_str()) {
            Some(_) => deadline.min(Instant::now() + IDENTITY),
            None => deadline,
        };
        loop {
            match timeout_at(patience, connection.next()).await {
                Ok(incoming) => {
                    let incoming = incoming.map_err(|error| self.broken(&error))?;
                    if let Incoming::Message { topic, payload, .. } = incoming
                        && topic == self.topics.identity()
                        && self.meet(&payload)
                    {
                        break;
                    }
                }
                Err(_) if self.pins.key(self.device.as_str()).is_some() => break,
                Err(_) => {
                    return Err(Failure::Network(format!(
                        "{} is not known: it has told no identity on {}",
                        self.device, self.broker
                    )));
                }
            }
        }
        self.subscribe(&mut connection, &self.topics.result(), deadline).await?;
        Ok(connection)
    }

    async fn subscribe(
        &mut self,
        connection: &mut Connection,
        topic: &str,
        deadline: Instant,
    ) -> Result<(), Failure> {
        connection.subscribe(topic).map_err(|error| self.broken(&error))?;
        loop {
            let incoming = timeout_at(deadline, connection.next()).await;
            match incoming.unwrap_or(Err(ClientError::Timeout)) {
                Ok(Incoming::Subscribed { refusal: None, .. }) => return Ok(()),
                Ok(Incoming::Subscribed { refusal: Some(reason), .. }) => {
                    return Err(Failure::Network(format!(
                        "the broker refused the subscription to {topic}: {reason}"
                    )));
                }
                // A message may come before the answer to the subscription that it comes by.
                Ok(Incoming::Message { topic, payload, .. }) if topic == self.topics.identity() => {
                    self.meet(&payload);
                }
                Ok(_) => {}
                Err(error) => return Err(self.broken(&error)),
            }
        }
    }

    /// Whether it is the identity of the device as it is known from now on.
    fn meet(&mut self, payload: &[u8]) -> bool {
        acquaintance::meet(&mut self.pins, self.device.as_str(), payload).is_ok()
    }

    async fn ask(
        &mut self,
        connection: &mut Connection,
        command: &str,
        args: &Args,
    ) -> Result<(String, Reported), Failure> {
        let request = request_digest(command.as_bytes());
        let sent = connection
            .publish(&self.topics.command(), command, false)
            .map_err(|error| self.broken(&error))?;
        let deadline = Instant::now() + args.wait.get();
        let mut repeated = None;
        loop {
            let incoming = match timeout_at(deadline, connection.next()).await {
                Ok(incoming) => incoming.map_err(|error| self.broken(&error))?,
                Err(_) => return repeated.ok_or_else(|| self.silent()),
            };
            match incoming {
                Incoming::Acknowledged { id, refusal: Some(reason) } if id == sent => {
                    return Err(Failure::Network(format!(
                        "the broker refused the command: {reason}"
                    )));
                }
                Incoming::Message { topic, payload, .. } if topic == self.topics.identity() => {
                    self.meet(&payload);
                }
                Incoming::Message { topic, payload, .. } if topic == self.topics.result() => {
                    let Some(result) = self.result(&payload, &request) else { continue };
                    // The broker, or somebody, may have delivered it twice: the other one counts.
                    if result.1.reason.as_deref() == Some("replayed") {
                        repeated = Some(result);
                    } else {
                        return Ok(result);
                    }
                }
                _ => {}
            }
        }
    }

    /// The result of that very command, by the key that the device has now.
    fn result(&self, message: &[u8], request: &str) -> Option<(String, Reported)> {
        let key = self.pins.key(self.device.as_str())?;
        let ring = KeyRing::from(key.clone());
        let payload = match envelope(message).and_then(|e| e.verify(&ring, Some(Typ::Result))) {
            Ok(verified) => verified.payload,
            Err(error) => {
                log::warn!("a result is not believed: {error}");
                return None;
            }
        };
        let reported = Reported::parse(&payload)
            .inspect_err(|error| log::warn!("a result that is none: {error}"))
            .ok()?;
        let ours =
            reported.device == self.device.as_str() && reported.request.as_deref() == Some(request);
        ours.then_some((payload, reported))
    }

    fn broken(&self, error: &ClientError) -> Failure {
        Failure::Network(format!("{}: {error}", self.broker))
    }

    fn silent(&self) -> Failure {
        Failure::Network(format!(
            "{} has not answered; it takes the command until it expires, if it comes to hear of it",
            self.device
        ))
    }
}
