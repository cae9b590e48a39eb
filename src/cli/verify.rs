//! `familiar verify`

mod lines;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use super::verdict::{Believed, Verdict, believe};
use super::{Failure, Global};
use crate::event::chain::Chain;
use crate::event::identity::Introduction;
use crate::event::jws::{Envelope, Verified, VerifyError};
use crate::event::line::{Heard, Met};
use crate::event::{DeviceKey, KeyError, KeyRing, Line, Typ, identity, jwk};
use crate::system::owner;
use crate::system::state::StateDirectory;
use lines::{Content, FormatError, Lines};

/// Verify signed messages, one JSON per line
///
/// Ends with 3 if a message is not verified or, with --chain, if the chain is not whole; with 2 if the file is not one
/// of messages, one per line.
///
/// A byte order mark, UTF-16, CRLF, blank lines, a topic before a message (`mosquitto_sub -v`) and the JSON of
/// `mosquitto_sub -F %j` around it are taken off; none of it is signed. Lines of `availability` are passed over.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  familiar verify events.jsonl --chain\n  familiar verify --jwks porch.jwks < events.jsonl"
)]
pub struct Args {
    /// Signed messages, one JSON per line; `-` is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// Also prove the order of events and that none is missing
    #[arg(long)]
    chain: bool,
    /// Keys to trust: a JWK, a JWK set or a device's identity messages, one per line [default: this
    /// device's own key]. A key may be followed to its successor by an identity message here or among
    /// the messages
    #[arg(long, value_name = "FILE")]
    jwks: Option<PathBuf>,
}

pub fn run(global: &Global, args: Args) -> Result<(), Failure> {
    let Args { file, chain: prove, jwks } = args;
    let mut trusted = trusted(jwks.as_deref())?;
    let wrong = |error: FormatError| match error {
        FormatError::Io(error) => Failure::failed(format!("{}: {error}", file.display())),
        error @ FormatError::Other { .. } => Failure::usage(format!("{}: {error}", file.display())),
    };
    let mut input = Lines::new(open(&file)?).map_err(wrong)?;
    owner::for_good();
    let mut out = std::io::stdout().lock();
    let mut chain = Chain::default();
    let (mut total, mut refused) = (0u64, 0u64);
    while let Some((line, content)) = input.next().map_err(wrong)? {
        let verdict = match content {
            Content::Unsigned => continue,
            Content::Message(Ok(envelope)) => judge(envelope, &mut trusted, &mut chain),
            Content::Message(Err(reason)) => {
                let reason = VerifyError::Payload(format!("line {line}: {reason}"));
                Verdict::refused(&reason, None)
            }
        };
        total += 1;
        refused += u64::from(!verdict.verified);
        let text = if global.json { verdict.to_json() } else { verdict.to_line() };
        writeln!(out, "{text}").map_err(Failure::failed)?;
    }
    if total == 0 {
        log::warn!("no message to verify");
    }
    let mut broken = None;
    if prove {
        for line in &trusted {
            chain.follow(line);
        }
        let mut report = chain.report();
        for doubt in &report.doubts {
            log::warn!("{doubt}");
        }
        if !report.ok {
            broken = Some(report.faults.first().cloned().unwrap_or_else(|| "a gap".to_owned()));
        }
        for fault in &report.faults {
            log::warn!("{fault}");
        }
        report.ok &= refused == 0;
        let text = if global.json {
            serde_json::to_string(&report).map_err(Failure::failed)?
        } else {
            let state = if report.ok { "whole" } else { "BROKEN" };
            format!(
                "chain {state}: {} events, {} duplicates, gaps {:?}",
                report.events, report.duplicates, report.gaps
            )
        };
        writeln!(out, "{text}").map_err(Failure::failed)?;
    }
    if refused > 0 {
        return Err(Failure::refused(format!("{refused} of {total} messages not verified")));
    }
    broken.map_or(Ok(()), |why| Err(Failure::refused(format!("the chain is not whole: {why}"))))
}

fn judge(envelope: Envelope, trusted: &mut [Line], chain: &mut Chain) -> Verdict {
    let claimed = Some((envelope.kid().to_owned(), envelope.typ()));
    let outcome = if envelope.typ() == Typ::Identity {
        follow(envelope, trusted)
    } else {
        let known = trusted.iter().find(|line| line.ring().get(envelope.kid()).is_some());
        known.ok_or_else(|| VerifyError::UnknownKey(envelope.kid().to_owned())).and_then(|line| {
            let Believed { message, link } = believe(envelope, &line.ring(), None)?;
            line.admit(&message.kid, message.typ, link.as_ref(), Heard::Before)?;
            if let Some(link) = link {
                chain.add(&message, &link);
            }
            Ok(message)
        })
    };
    match outcome {
        Ok(message) => Verdict::believed(&message),
        Err(reason) => Verdict::refused(&reason, claimed),
    }
}

/// An identity message: believed if it is by a trusted key, also a former one, or if a trusted key vouched
/// for it; then the new key is trusted as well.
fn follow(envelope: Envelope, trusted: &mut [Line]) -> Result<Verified, VerifyError> {
    let met = identity::introduction(envelope)?;
    let Some(line) = related(&met, trusted) else {
        return Err(VerifyError::UnknownKey(met.key.kid().to_owned()));
    };
    if line.former().iter().any(|former| former.key == met.key) {
        return Ok(met.verified);
    }
    let old = line.key().kid().to_owned();
    if line.follow(&met)? == Met::Followed {
        log::warn!("{} has a new key, {}: {old} vouched for it", met.device, met.key.kid());
    }
    Ok(met.verified)
}

/// The trusted line that the introduced key, or one before it, belongs to.
fn related<'a>(met: &Introduction, trusted: &'a mut [Line]) -> Option<&'a mut Line> {
    trusted.iter_mut().find(|line| {
        let ring = line.ring();
        ring.get(met.key.kid()).is_some()
            || met.former.iter().any(|former| ring.get(former.key.kid()).is_some())
    })
}

/// The keys of `--jwks`, else this device's own.
fn trusted(jwks: Option<&Path>) -> Result<Vec<Line>, Failure> {
    if let Some(path) = jwks {
        let wrong = |what: String| Failure::usage(format!("--jwks {}: {what}", path.display()));
        let mut bytes = Vec::new();
        owner::as_invoker(|| File::open(path))
            .and_then(|file| file.take(jwk::LIMIT as u64 + 1).read_to_end(&mut bytes))
            .map_err(|e| wrong(e.to_string()))?;
        if bytes.len() > jwk::LIMIT {
            return Err(wrong(jwk::JwkError::TooLong.to_string()));
        }
        let text = lines::text(&bytes).map_err(wrong)?;
        // A JWK or a set of them may be written over several lines; messages are one line each.
        if let Ok(keys) = KeyRing::from_json(&text) {
            return Ok(keys.iter().cloned().map(Line::from).collect());
        }
        return each_line(&text).map_err(wrong);
    }
    let none = "no key to trust: name one with --jwks, or run this where the device keeps its own \
                (STATE_DIRECTORY)";
    match DeviceKey::look(&StateDirectory::there()) {
        Ok(key) => Ok(vec![key.line()]),
        Err(KeyError::Missing) => Err(Failure::usage(none)),
        Err(error) => Err(super::key::failure(error)),
    }
}

/// Keys and identity messages, one per line. The first message of a device is taken at its word; a
/// further one must follow from what came before.
fn each_line(text: &str) -> Result<Vec<Line>, String> {
    let mut trusted: Vec<Line> = Vec::new();
    let mut met_devices: Vec<String> = Vec::new();
    for text in text.lines().map(str::trim).filter(|text| !text.is_empty()) {
        let envelope = match lines::content(text) {
            Content::Message(Ok(envelope)) => envelope,
            Content::Message(Err(_)) => {
                let keys = KeyRing::from_json(text).map_err(|e| e.to_string())?;
                trusted.extend(keys.iter().cloned().map(Line::from));
                continue;
            }
            Content::Unsigned => continue,
        };
        let met = identity::introduction(envelope).map_err(|e| format!("identity message: {e}"))?;
        let stranger =
            !trusted.is_empty() && (met_devices.is_empty() || met_devices.contains(&met.device));
        match related(&met, &mut trusted) {
            Some(line) => {
                line.follow(&met).map_err(|e| format!("identity message: {e}"))?;
            }
            // Keys that were given by hand, or an earlier message, say who this device is.
            None if stranger => {
                return Err(format!(
                    "identity message: no key given before it vouched for {}",
                    met.key.kid()
                ));
            }
            None => trusted.push(Line::from(&met)),
        }
        met_devices.push(met.device);
    }
    if trusted.is_empty() { Err("no key in it".to_owned()) } else { Ok(trusted) }
}

fn open(path: &Path) -> Result<Box<dyn BufRead>, Failure> {
    if path == Path::new("-") {
        return Ok(Box::new(BufReader::new(std::io::stdin())));
    }
    let file = owner::as_invoker(|| File::open(path))
        .map_err(|e| Failure::usage(format!("{}: {e}", path.display())))?;
    Ok(Box::new(BufReader::new(file)))
}
