//! What a command says, parsed strictly; and its making, at the operator's side.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::result::Refusal;
use crate::recognition::PersonId;

/// How far the operator's clock and the device's may be apart (contract §4).
pub const SKEW: SignedDuration = SignedDuration::from_mins(5);
/// Longest time for which a command may be valid: what was signed and never arrived shall not lie in
/// wait for ever, and the device has to remember the id for as long.
pub const LONGEST: SignedDuration = SignedDuration::from_hours(24);

/// What the device can be told to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Look no more, until `resume`.
    Pause,
    Resume,
    Forget {
        person: PersonId,
    },
    Update,
    Rollback,
    /// Make the device known to somebody who stands before several.
    IdentifyDevice,
    /// Report health now.
    Health,
}

impl Command {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Forget { .. } => "forget",
            Self::Update => "update",
            Self::Rollback => "rollback",
            Self::IdentifyDevice => "identify-device",
            Self::Health => "health",
        }
    }

    /// The command of that name with exactly the arguments that it takes.
    fn parse(name: &str, mut args: Map<String, Value>) -> Result<Self, Refusal> {
        let command = match name {
            "pause" => Self::Pause,
            "resume" => Self::Resume,
            "forget" => match args.remove("person") {
                Some(Value::String(id)) => {
                    Self::Forget { person: id.parse().map_err(|_| Refusal::Malformed)? }
                }
                _ => return Err(Refusal::Malformed),
            },
            "update" => Self::Update,
            "rollback" => Self::Rollback,
            "identify-device" => Self::IdentifyDevice,
            "health" => Self::Health,
            _ => return Err(Refusal::UnknownCommand),
        };
        if args.is_empty() { Ok(command) } else { Err(Refusal::Malformed) }
    }
}

/// A command's id: 1 to 64 of `A-Z a-z 0-9 _ . : -`, so a UUID fits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct CommandId(String);

impl CommandId {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id that unproven text claims, to answer by. It is echoed and nothing else.
    pub(super) fn claimed(payload: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Named {
            id: CommandId,
        }
        serde_json::from_str::<Named>(payload).ok().map(|named| named.id)
    }
}

impl std::fmt::Display for CommandId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for CommandId {
    type Error = String;

    fn try_from(id: String) -> Result<Self, String> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_.:-".contains(c);
        if (1..=64).contains(&id.len()) && id.chars().all(allowed) {
            Ok(Self(id))
        } else {
            Err("the id of a command is 1 to 64 of A-Z, a-z, 0-9, _, ., : and -".to_owned())
        }
    }
}

/// What an operator signed. Whether it is for this device, new and in time is yet to be judged.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    pub id: CommandId,
    pub device: String,
    pub issued: Timestamp,
    pub expires: Timestamp,
    command: String,
    #[serde(default)]
    args: Map<String, Value>,
}

impl Request {
    pub fn parse(payload: &str) -> Result<Self, Refusal> {
        serde_json::from_str(payload).map_err(|_| Refusal::Malformed)
    }

    /// What is to be done; takes the arguments out.
    pub fn command(&mut self) -> Result<Command, Refusal> {
        Command::parse(&self.command, std::mem::take(&mut self.args))
    }

    /// Whether `now` lies in the time for which the command was signed, give or take [`SKEW`].
    pub fn check_window(&self, now: Timestamp) -> Result<(), Refusal> {
        let (issued, expires) = (self.issued, self.expires);
        if expires <= issued || expires.duration_since(issued) > LONGEST {
            Err(Refusal::Window)
        } else if issued.duration_since(now) > SKEW {
            Err(Refusal::Future)
        } else if now.duration_since(expires) > SKEW {
            Err(Refusal::Stale)
        } else {
            Ok(())
        }
    }
}

/// A command as an operator puts it, to be signed by [`super::OperatorKey::sign`]. The device judges
/// whether it makes sense, so it may be more than this version knows.
#[derive(Debug, Clone, Serialize)]
pub struct Order {
    pub id: CommandId,
    pub device: String,
    pub issued: Timestamp,
    pub expires: Timestamp,
    pub command: String,
    pub args: Map<String, Value>,
}

impl Order {
    pub(super) fn to_json(&self) -> String {
        // Strings and times only: this cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn command(name: &str, args: &str) -> Result<Command, Refusal> {
        Command::parse(name, serde_json::from_str(args).unwrap())
    }

    #[test]
    fn exactly_the_arguments_it_takes() {
        assert_eq!(command("pause", "{}"), Ok(Command::Pause));
        assert_eq!(command("pause", r#"{"for":"1h"}"#), Err(Refusal::Malformed));
        let forget = Command::Forget { person: "zoe".parse().unwrap() };
        assert_eq!(command("forget", r#"{"person":"zoe"}"#), Ok(forget));
        for args in [
            "{}",
            r#"{"person":""}"#,
            r#"{"person":"../zoe"}"#,
            r#"{"person":["zoe"]}"#,
            r#"{"person":"zoe","also":"mia"}"#,
        ] {
            assert_eq!(command("forget", args), Err(Refusal::Malformed), "{args}");
        }
        assert_eq!(command("Pause", "{}"), Err(Refusal::UnknownCommand));
        assert_eq!(command("", "{}"), Err(Refusal::UnknownCommand));
    }

    #[test]
    fn ids() {
        for sound in ["a", "01998e2a-7c1b-7e50-9d5c-6a6c7d1d2f30", "A.b_c:9", &"x".repeat(64)] {
            assert!(CommandId::try_from(sound.to_owned()).is_ok(), "{sound}");
        }
        for unfit in ["", " ", "a b", "a/b", "ä", "a\n", &"x".repeat(65), "\u{1b}[2J"] {
            assert!(CommandId::try_from(unfit.to_owned()).is_err(), "{unfit:?}");
        }
    }

    #[test]
    fn windows_to_the_second() {
        let at = |seconds: i64| Timestamp::from_second(1_800_000_000 + seconds).unwrap();
        let judged = |issued: i64, expires: i64| {
            let payload = format!(
                r#"{{"id":"x","device":"porch","issued":"{}","expires":"{}","command":"pause"}}"#,
                at(issued),
                at(expires)
            );
            Request::parse(&payload).unwrap().check_window(at(0))
        };
        assert_eq!(judged(0, 60), Ok(()));
        assert_eq!(judged(300, 301), Ok(()));
        assert_eq!(judged(301, 302), Err(Refusal::Future));
        assert_eq!(judged(-400, -300), Ok(()));
        assert_eq!(judged(-400, -301), Err(Refusal::Stale));
        assert_eq!(judged(0, 0), Err(Refusal::Window));
        assert_eq!(judged(60, 0), Err(Refusal::Window));
        assert_eq!(judged(0, 24 * 3600), Ok(()));
        assert_eq!(judged(0, 24 * 3600 + 1), Err(Refusal::Window));
    }

    #[test]
    fn ends_of_time_do_not_overflow() {
        for (issued, expires) in
            [(Timestamp::MIN, Timestamp::MAX), (Timestamp::MAX, Timestamp::MAX)]
        {
            let payload = format!(
                r#"{{"id":"x","device":"d","issued":"{issued}","expires":"{expires}","command":"c"}}"#
            );
            let request = Request::parse(&payload).unwrap();
            for now in [Timestamp::MIN, Timestamp::UNIX_EPOCH, Timestamp::MAX] {
                assert_eq!(request.check_window(now), Err(Refusal::Window));
            }
        }
    }
}
