//! Reason codes of MQTT 5 (section 2.4), as a broker gives them, in words that keep the number.

use std::fmt;

/// Why a broker refused something or hung up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    pub code: u8,
    /// What it added in words of its own.
    pub text: Option<String>,
}

/// Longest text of a broker's that is repeated, in characters.
const LONGEST: usize = 120;

impl Reason {
    pub fn new(code: u8) -> Self {
        Self { code, text: None }
    }

    pub fn with(code: u8, text: Option<&str>) -> Self {
        let clean = |text: &str| text.chars().filter(|c| !c.is_control()).take(LONGEST).collect();
        Self { code, text: text.map(clean).filter(|text: &String| !text.is_empty()) }
    }
}

pub const SESSION_TAKEN_OVER: u8 = 0x8e;

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self.code {
            0x00 => "no reason given",
            0x04 => "disconnect with will",
            0x80 => "unspecified error",
            0x81 => "malformed packet",
            0x82 => "protocol error",
            0x83 => "implementation specific error",
            0x84 => "unsupported protocol version",
            0x85 => "client identifier not valid",
            0x86 => "bad user name or password",
            0x87 => "not authorized",
            0x88 => "server unavailable",
            0x89 => "server busy",
            0x8a => "banned",
            0x8b => "server shutting down",
            0x8c => "bad authentication method",
            0x8d => "keep alive timeout",
            SESSION_TAKEN_OVER => "session taken over: another client has the same client id",
            0x8f => "topic filter invalid",
            0x90 => "topic name invalid",
            0x91 => "packet identifier in use",
            0x92 => "packet identifier not found",
            0x93 => "receive maximum exceeded",
            0x94 => "topic alias invalid",
            0x95 => "packet too large",
            0x96 => "message rate too high",
            0x97 => "quota exceeded",
            0x98 => "administrative action",
            0x99 => "payload format invalid",
            0x9a => "retain not supported",
            0x9b => "QoS not supported",
            0x9c => "use another server",
            0x9d => "server moved",
            0x9e => "shared subscriptions not supported",
            0x9f => "connection rate exceeded",
            0xa0 => "maximum connect time",
            0xa1 => "subscription identifiers not supported",
            0xa2 => "wildcard subscriptions not supported",
            _ => "unknown reason",
        };
        write!(f, "{words} (0x{:02x})", self.code)?;
        match &self.text {
            Some(text) => write!(f, ", \"{text}\""),
            None => Ok(()),
        }
    }
}
