//! What `verify` and `listen` print about a message.

use serde::{Deserialize, Serialize};

use crate::event::jws::{Envelope, Verified, VerifyError};
use crate::event::payload::Link;
use crate::event::{KeyRing, Typ};
use crate::system::plain::line;

/// One line of output (contract §1, `verify --json`).
#[derive(Debug, Serialize)]
pub struct Verdict {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    pub verified: bool,
    /// Why not.
    pub reason: Option<String>,
    /// Proven if verified, else only claimed.
    pub kid: Option<String>,
    pub typ: Option<Typ>,
    /// Exactly the signed text; nothing that is not proven.
    pub payload: Option<String>,
}

/// A message that was believed.
#[derive(Debug)]
pub struct Believed {
    pub message: Verified,
    /// Of an event.
    pub link: Option<Link>,
}

/// Parses the bytes as a signed message.
pub fn envelope(bytes: &[u8]) -> Result<Envelope, VerifyError> {
    let text =
        std::str::from_utf8(bytes).map_err(|_| VerifyError::NotAMessage("not UTF-8".to_owned()))?;
    Envelope::parse(text)
}

/// Checks one message: its signature, the kind that is due, and that an event says what the chain
/// needs.
pub fn believe(
    envelope: Envelope,
    keys: &KeyRing,
    due: Option<Typ>,
) -> Result<Believed, VerifyError> {
    let message = envelope.verify(keys, due)?;
    let link = match message.typ {
        Typ::Event => Some(Link::of(&message.payload).map_err(VerifyError::Payload)?),
        _ => None,
    };
    Ok(Believed { message, link })
}

impl Verdict {
    pub fn believed(message: &Verified) -> Self {
        Self {
            topic: None,
            verified: true,
            reason: None,
            kid: Some(message.kid.clone()),
            typ: Some(message.typ),
            payload: Some(message.payload.clone()),
        }
    }

    pub fn refused(reason: &VerifyError, claimed: Option<(String, Typ)>) -> Self {
        let (kid, typ) = claimed.unzip();
        Self {
            topic: None,
            verified: false,
            reason: Some(reason.to_string()),
            kid,
            typ,
            payload: None,
        }
    }

    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// One line for people.
    pub fn to_line(&self) -> String {
        let topic = self.topic.as_deref().map(|t| format!("{} ", plain(t))).unwrap_or_default();
        match (&self.payload, self.typ) {
            (Some(payload), Some(Typ::Event)) if self.verified => {
                format!("verified    {topic}{}", event_line(payload))
            }
            (Some(payload), Some(typ)) if self.verified => {
                format!("verified    {topic}{typ} {}", plain(payload))
            }
            _ => {
                let reason = plain(self.reason.as_deref().unwrap_or_default());
                format!("UNVERIFIED  {topic}{reason}")
            }
        }
    }
}

#[derive(Deserialize)]
struct Shown {
    event_type: String,
    seq: u64,
    time: String,
    device: String,
    person: Option<Person>,
    similarity: Option<f64>,
    threshold: Option<f64>,
    frames: Option<u64>,
    overflow: Option<crate::event::payload::Lost>,
}

#[derive(Deserialize)]
struct Person {
    id: String,
    name: Option<String>,
}

fn event_line(payload: &str) -> String {
    use std::fmt::Write as _;

    let Ok(event) = serde_json::from_str::<Shown>(payload) else { return plain(payload) };
    let mut line = format!("{} {} #{} {}", event.time, event.device, event.seq, event.event_type);
    if let Some(Person { id, name }) = event.person {
        let _ = match name {
            Some(name) => write!(line, " {name} ({id})"),
            None => write!(line, " {id}"),
        };
    }
    if let (Some(similarity), Some(threshold)) = (event.similarity, event.threshold) {
        let _ = write!(line, ", similarity {similarity:.3} (threshold {threshold:.3})");
    }
    if let Some(frames) = event.frames {
        let _ = write!(line, ", {frames} looks");
    }
    if let Some(lost) = event.overflow {
        let _ = write!(line, ": events {} to {} may be lost", lost.from, lost.to);
    }
    plain(&line)
}

/// One line of at most 4096 characters, nothing of which could steer a terminal.
pub fn plain(text: &str) -> String {
    let end = text.char_indices().nth(4096).map_or(text.len(), |(end, _)| end);
    line(&text[..end]).into_owned()
}
