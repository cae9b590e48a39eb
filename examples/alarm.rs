//! A consumer: an alarm that is armed when the last known person has departed, disarmed when one is recognised, and goes off
//! when somebody else, or a picture of somebody, comes before the camera in between.
//!
//! ```console
//! $ familiar key show >porch.jwk       # on the device: the key that the alarm believes
//! $ cargo run --release --example alarm -- --broker 127.0.0.1:1883 --device porch --key porch.jwk --state alarm.json
//! ```
//!
//! It does not trust the broker. It verifies each event, and keeps the number and the link of the last one in a file: a repeated
//! event changes nothing, not even after a restart, and a missing one is reported. The connection is plain MQTT, for a broker on
//! this machine; use TLS over a network. After a key rotation (docs/messages.md) give it the new key.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use familiar::event::jws::Envelope;
use familiar::event::{KeyRing, Typ};
use rumqttc::{Client, Event, MqttOptions, Packet, QoS};
use serde::{Deserialize, Serialize};

#[derive(Parser)]
struct Arguments {
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:1883")]
    broker: String,
    #[arg(long, default_value = "familiar")]
    prefix: String,
    #[arg(long)]
    device: String,
    #[arg(long, value_name = "JWK")]
    key: PathBuf,
    #[arg(long, value_name = "FILE")]
    state: PathBuf,
}

/// The members of an event that an alarm needs.
#[derive(Deserialize)]
struct Fact {
    device: String,
    event_type: String,
    seq: u64,
    prev: Option<String>,
    person: Option<Person>,
}

#[derive(Deserialize)]
struct Person {
    id: String,
}

/// What is kept over a restart.
#[derive(Default, Serialize, Deserialize)]
struct State {
    /// Number and link of the last event; none before the first.
    last: Option<(u64, String)>,
    present: BTreeSet<String>,
    armed: bool,
}

impl State {
    fn read(file: &Path) -> Result<Self, Box<dyn Error>> {
        match std::fs::read(file) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error.into()),
        }
    }

    /// Whole or not at all.
    fn write(&self, file: &Path) -> Result<(), Box<dyn Error>> {
        let new = file.with_extension("new");
        std::fs::write(&new, serde_json::to_vec(self)?)?;
        Ok(std::fs::rename(new, file)?)
    }

    /// Takes an event as the next one of the chain. An error if it was seen before or does not follow.
    fn follow(&mut self, fact: &Fact, link: String) -> Result<(), String> {
        if let Some((seq, last)) = &self.last {
            if fact.seq <= *seq {
                return Err(format!("event {} was seen before", fact.seq));
            }
            if fact.seq > seq + 1 {
                println!("MISSING: events {} to {}", seq + 1, fact.seq - 1);
            } else if fact.prev.as_ref() != Some(last) {
                return Err(format!("event {} does not follow the one before", fact.seq));
            }
        }
        self.last = Some((fact.seq, link));
        Ok(())
    }

    fn react(&mut self, fact: Fact) {
        match (fact.event_type.as_str(), fact.person) {
            ("recognized", Some(person)) => {
                println!("disarmed: {} came", person.id);
                self.armed = false;
                self.present.insert(person.id);
            }
            ("departed", Some(person)) => {
                self.present.remove(&person.id);
                self.armed = self.present.is_empty();
                println!("{}: {} left", if self.armed { "armed" } else { "disarmed" }, person.id);
            }
            ("unknown" | "spoof", _) if self.armed => println!("ALARM: {}", fact.event_type),
            _ => {}
        }
    }
}

/// The payload of an event that the key signed for this device, and the link by which the next one names it.
fn verify(text: &[u8], keys: &KeyRing, device: &str) -> Result<(Fact, String), Box<dyn Error>> {
    let verified = Envelope::parse(std::str::from_utf8(text)?)?.verify(keys, Some(Typ::Event))?;
    let fact: Fact = serde_json::from_str(&verified.payload)?;
    if fact.device != device {
        return Err(format!("an event of {}", fact.device).into());
    }
    Ok((fact, verified.link))
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let keys = KeyRing::from_json(&std::fs::read_to_string(&arguments.key)?)?;
    let mut state = State::read(&arguments.state)?;
    let (host, port) = arguments.broker.rsplit_once(':').ok_or("--broker HOST:PORT")?;

    let topic = format!("{}/{}/event", arguments.prefix, arguments.device);
    let mut options = MqttOptions::new(format!("alarm-{}", arguments.device), host, port.parse()?);
    // The broker keeps events while the alarm is away, and forgets one only when the alarm has kept what follows from it.
    options.set_clean_session(false).set_manual_acks(true);
    let (client, mut connection) = Client::new(options, 64);
    for happened in connection.iter() {
        match happened {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                client.subscribe(&topic, QoS::AtLeastOnce)?;
            }
            Ok(Event::Incoming(Packet::SubAck(_))) => println!("listening on {topic}"),
            Ok(Event::Incoming(Packet::Publish(message))) => {
                match verify(&message.payload, &keys, &arguments.device) {
                    Ok((fact, link)) => match state.follow(&fact, link) {
                        Ok(()) => {
                            state.react(fact);
                            state.write(&arguments.state)?;
                        }
                        Err(reason) => println!("ignored: {reason}"),
                    },
                    Err(reason) => println!("REFUSED: {reason}"),
                }
                client.ack(&message)?;
            }
            Ok(_) => {}
            Err(error) => {
                eprintln!("{}: {error}", arguments.broker);
                std::thread::sleep(Duration::from_secs(2));
            }
        }
    }
    Ok(())
}
