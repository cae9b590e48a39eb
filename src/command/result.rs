//! What the device answers: the payload of a `familiar-result+json` message
//! (`schemas/result.schema.json`). It holds nothing of a sender's making but a sound id.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::request::CommandId;
use super::{LIMIT, Moment};
use crate::config::DeviceName;
use crate::event::jws;
use crate::system::clock::ClockState;

/// Longest message, in characters.
const MESSAGE: usize = 300;
/// What the envelope needs beside the payload, in bytes, and some.
const ENVELOPE: usize = 512;

/// Why a command is not done. Codes are part of the interface (`docs/commands.md`) and stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    Oversized,
    Malformed,
    Typ,
    NoOperators,
    UnknownKey,
    Forged,
    UnknownCommand,
    OtherDevice,
    Window,
    Future,
    Stale,
    Replayed,
    Rate,
    Full,
    Storage,
    NotAllowed,
    Retained,
}

impl Refusal {
    pub fn code(self) -> &'static str {
        match self {
            Self::Oversized => "oversized",
            Self::Malformed => "malformed",
            Self::Typ => "typ",
            Self::NoOperators => "no-operators",
            Self::UnknownKey => "unknown-key",
            Self::Forged => "forged",
            Self::UnknownCommand => "unknown-command",
            Self::OtherDevice => "other-device",
            Self::Window => "window",
            Self::Future => "future",
            Self::Stale => "stale",
            Self::Replayed => "replayed",
            Self::Rate => "rate",
            Self::Full => "full",
            Self::Storage => "storage",
            Self::NotAllowed => "not-allowed",
            Self::Retained => "retained",
        }
    }

    /// For people.
    pub fn message(self) -> &'static str {
        match self {
            Self::Oversized => "more than 16 KiB",
            Self::Malformed => "not a command as docs/commands.md describes it",
            Self::Typ => "signed, but not as a command",
            Self::NoOperators => "this device has no operators.jwks: nobody may command it",
            Self::UnknownKey => "signed by a key that is not in this device's operators.jwks",
            Self::Forged => "the signature does not hold",
            Self::UnknownCommand => "this device knows no such command",
            Self::OtherDevice => "signed for another device",
            Self::Window => "`expires` is not after `issued`, or more than 24 hours after it",
            Self::Future => "issued more than 5 minutes in the future",
            Self::Stale => "expired more than 5 minutes ago",
            Self::Replayed => "its id was seen before",
            Self::Rate => "more than 10 commands in a minute",
            Self::Full => "too many of this operator's commands are still valid",
            Self::Storage => "its id cannot be stored, so it might be done twice",
            Self::NotAllowed => "the configuration does not allow it unsigned",
            Self::Retained => "retained: it would be done at every connection",
        }
    }

    /// Whether only what an operator signed can be refused so.
    pub(super) fn is_of_an_operator(self) -> bool {
        match self {
            Self::UnknownCommand
            | Self::OtherDevice
            | Self::Window
            | Self::Future
            | Self::Stale
            | Self::Replayed
            | Self::Rate
            | Self::Full
            | Self::Storage => true,
            Self::Oversized
            | Self::Malformed
            | Self::Typ
            | Self::NoOperators
            | Self::UnknownKey
            | Self::Forged
            | Self::NotAllowed
            | Self::Retained => false,
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.message())
    }
}

/// Why what was begun was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trouble {
    /// Nobody of that id is enrolled.
    NoSuchPerson,
    /// This device or version cannot do it.
    NotAvailable,
    /// It was tried and failed; the message says how.
    Internal,
}

/// What an answer refers to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reference {
    pub(super) id: Option<CommandId>,
    pub(super) command: Option<&'static str>,
    pub(super) request: Option<String>,
    /// The time it was judged by, where that is not the clock's.
    pub(super) now: Option<Timestamp>,
}

impl Reference {
    /// To a message as it came.
    pub(super) fn to(bytes: &[u8]) -> Self {
        // What is too long came cut: its digest would be of something that nobody sent.
        let request = (bytes.len() <= LIMIT).then(|| request_digest(bytes));
        Self { request, ..Self::default() }
    }
}

/// By what `request` in a result names the message it answers: base64url SHA-256 of its bytes. An id
/// alone could be claimed by anybody's message.
pub fn request_digest(bytes: &[u8]) -> String {
    BASE64URL.encode(digest(&SHA256, bytes))
}

/// An outcome, to be signed as [`Typ::Result`](crate::event::Typ::Result).
#[derive(Debug, Clone)]
pub struct Answer {
    pub(super) to: Reference,
    pub(super) outcome: Outcome,
    pub(super) data: Option<Value>,
}

#[derive(Debug, Clone)]
pub(super) enum Outcome {
    Done(String),
    Refused(Refusal),
    Failed(Trouble, String),
}

#[derive(Serialize)]
struct Payload<'a> {
    v: u8,
    device: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<&'a str>,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    message: &'a str,
    time: String,
    clock: ClockState,
    #[serde(skip_serializing_if = "Option::is_none")]
    now: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a Value>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Reason {
    Refusal(Refusal),
    Trouble(Trouble),
}

impl Answer {
    /// Adds what the command asked for. Where it does not fit into a message, it is left out.
    #[must_use]
    pub fn with_data(self, data: Value) -> Self {
        Self { data: Some(data), ..self }
    }

    /// The payload, one line of JSON; signed, it fits into a message.
    pub fn to_json(&self, device: &DeviceName, at: &Moment) -> String {
        let whole = self.write(device, at, self.data.as_ref());
        // The payload is a string within JSON: its own quotes are escaped once more.
        let sent = Value::from(whole.as_str()).to_string().len() + ENVELOPE;
        if self.data.is_some() && sent > jws::LIMIT { self.write(device, at, None) } else { whole }
    }

    fn write(&self, device: &DeviceName, at: &Moment, data: Option<&Value>) -> String {
        let (outcome, reason, message) = match &self.outcome {
            Outcome::Done(message) => ("done", None, message.as_str()),
            Outcome::Refused(refusal) => {
                ("refused", Some(Reason::Refusal(*refusal)), refusal.message())
            }
            Outcome::Failed(trouble, message) => {
                ("failed", Some(Reason::Trouble(*trouble)), message.as_str())
            }
        };
        let payload = Payload {
            v: 1,
            device: device.as_str(),
            id: self.to.id.as_ref().map(CommandId::as_str),
            command: self.to.command,
            request: self.to.request.as_deref(),
            outcome,
            reason,
            message,
            time: format!("{:.3}", at.time),
            clock: at.clock,
            now: self.to.now.map(|now| format!("{now:.3}")),
            data,
        };
        // Strings, numbers and JSON only: this cannot fail.
        serde_json::to_string(&payload).unwrap_or_default()
    }
}

/// Cut, and without what could break a line.
pub(super) fn plain(message: &str) -> String {
    message.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MESSAGE).collect()
}

/// A result as an operator reads it, from a verified payload.
#[derive(Debug, Clone, Deserialize)]
pub struct Reported {
    pub v: u64,
    pub device: String,
    pub id: Option<String>,
    pub request: Option<String>,
    pub outcome: String,
    pub reason: Option<String>,
    pub message: String,
    pub time: Timestamp,
    pub clock: ClockState,
    pub now: Option<Timestamp>,
    pub data: Option<Value>,
}

impl Reported {
    /// Reads a version 1 payload.
    pub fn parse(payload: &str) -> Result<Self, String> {
        let reported: Self = serde_json::from_str(payload).map_err(|e| e.to_string())?;
        if reported.v == 1 {
            Ok(reported)
        } else {
            Err(format!("result of version {}; this program knows version 1", reported.v))
        }
    }
}
