//! `familiar verify`

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use super::verdict::{Verdict, believe, envelope};
use super::{Failure, Global};
use crate::event::chain::Chain;
use crate::event::jws::{Envelope, LIMIT};
use crate::event::{DeviceKey, KeyError, KeyRing, identity, jwk};
use crate::system::state::StateDirectory;

/// Ends with 3 if a message is not verified or, with --chain, if the chain is not whole.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Signed messages, one JSON per line; `-` is standard input
    #[arg(default_value = "-")]
    file: PathBuf,
    /// Also prove the order of events and that none is missing
    #[arg(long)]
    chain: bool,
    /// Keys to trust: a JWK, a JWK set or a device's identity message [default: this device's own key]
    #[arg(long, value_name = "FILE")]
    jwks: Option<PathBuf>,
}

pub fn run(global: &Global, args: Args) -> Result<(), Failure> {
    let Args { file, chain: prove, jwks } = args;
    let keys = trusted(jwks.as_deref())?;
    let mut input = open(&file)?;
    let mut out = std::io::stdout().lock();
    let mut chain = Chain::default();
    let (mut total, mut refused) = (0u64, 0u64);
    while let Some(line) =
        next_line(&mut input).map_err(|e| Failure::failed(format!("{}: {e}", file.display())))?
    {
        let verdict = judge(&line, &keys, &mut chain);
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
        let mut report = chain.report();
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

fn judge(line: &[u8], keys: &KeyRing, chain: &mut Chain) -> Verdict {
    let envelope = match envelope(line) {
        Ok(envelope) => envelope,
        Err(reason) => return Verdict::refused(&reason, None),
    };
    let claimed = Some((envelope.kid().to_owned(), envelope.typ()));
    match believe(envelope, keys, None) {
        Ok(believed) => {
            if let Some(link) = &believed.link {
                chain.add(&believed.message, link);
            }
            Verdict::believed(&believed.message)
        }
        Err(reason) => Verdict::refused(&reason, claimed),
    }
}

/// The keys of `--jwks`, else this device's own.
fn trusted(jwks: Option<&Path>) -> Result<KeyRing, Failure> {
    if let Some(path) = jwks {
        let wrong = |what: String| Failure::usage(format!("--jwks {}: {what}", path.display()));
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(jwk::LIMIT as u64 + 1).read_to_string(&mut text))
            .map_err(|e| wrong(e.to_string()))?;
        let text = text.trim();
        return match Envelope::parse(text) {
            Ok(envelope) => identity::introduction(envelope)
                .map(|met| met.key.into())
                .map_err(|e| wrong(format!("identity message: {e}"))),
            Err(_) => KeyRing::from_json(text).map_err(|e| wrong(e.to_string())),
        };
    }
    let none = "no key to trust: name one with --jwks, or run this where the device keeps its own \
                (STATE_DIRECTORY)";
    let Ok(state) = StateDirectory::open() else { return Err(Failure::usage(none)) };
    match DeviceKey::open(&state) {
        Ok(key) => Ok(key.public().clone().into()),
        Err(KeyError::Missing) => Err(Failure::usage(none)),
        Err(error) => Err(super::key::failure(error)),
    }
}

fn open(path: &Path) -> Result<Box<dyn BufRead>, Failure> {
    if path == Path::new("-") {
        return Ok(Box::new(BufReader::new(std::io::stdin())));
    }
    let file = File::open(path).map_err(|e| Failure::usage(format!("{}: {e}", path.display())))?;
    Ok(Box::new(BufReader::new(file)))
}

/// The next line that is not blank, without its end. Of one that is too long only the beginning is
/// kept, enough to be refused as [too long](crate::event::jws::VerifyError::TooLong).
fn next_line(input: &mut dyn BufRead) -> std::io::Result<Option<Vec<u8>>> {
    loop {
        let mut line = Vec::new();
        let mut limited = input.take(LIMIT as u64 + 2);
        if limited.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        if !line.ends_with(b"\n") && line.len() > LIMIT {
            input.skip_until(b'\n')?;
        }
        while line.last().is_some_and(|byte| b"\r\n".contains(byte)) {
            line.pop();
        }
        if !line.trim_ascii().is_empty() {
            return Ok(Some(line));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::event::jws::VerifyError;

    #[test]
    fn lines_without_end() {
        let mut text = vec![b'x'; 3 * LIMIT];
        text.extend_from_slice(b"\n\n  \r\nlast");
        let mut input = text.as_slice();
        let first = next_line(&mut input).unwrap().unwrap();
        assert_eq!(envelope(&first).unwrap_err(), VerifyError::TooLong);
        assert_eq!(next_line(&mut input).unwrap().unwrap(), b"last");
        assert_eq!(next_line(&mut input).unwrap(), None);
    }
}
