//! Files of messages as people's tools write them: a byte order mark, UTF-16 (PowerShell's `>`), CRLF, blank lines, the
//! topic before each message (`mosquitto_sub -v`), or a JSON object around it (`mosquitto_sub -F %j`).
//!
//! None of it is signed, and none of it is believed: it is taken off, and what is left must verify as ever.

use std::io::{BufRead, Chain, Cursor, Read};

use crate::cli::verdict::envelope;
use crate::event::jws::{Envelope, VerifyError};

/// Longest line that is kept whole, in bytes: the longest topic and a message, each byte of it escaped, in UTF-16.
const LONGEST: usize = 256 * 1024;
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Why a file is not one of messages, one per line.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("line {line}: {what}; {way}")]
    Other { line: u64, what: &'static str, way: &'static str },
}

/// What a line holds.
pub enum Content {
    /// Something that should be a signed message.
    Message(Result<Envelope, VerifyError>),
    /// What nobody signs, by contract: `availability`, or a retained topic that was cleared.
    Unsigned,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Utf8,
    Utf16 { big: bool },
}

/// The lines of a file that are not blank.
pub struct Lines<R> {
    input: Chain<Cursor<Vec<u8>>, R>,
    encoding: Encoding,
    line: u64,
}

impl<R: BufRead> Lines<R> {
    /// Looks at the first four bytes, which a message has in any case.
    pub fn new(mut input: R) -> Result<Self, FormatError> {
        let mut first = Vec::new();
        input.by_ref().take(4).read_to_end(&mut first)?;
        let encoding = encoding(&first)?;
        Ok(Self { input: Cursor::new(first).chain(input), encoding, line: 0 })
    }

    /// The next line that is not blank, with its number. Of one that is too long only the beginning is kept, which is
    /// refused as any other that is no message.
    pub fn next(&mut self) -> Result<Option<(u64, Content)>, FormatError> {
        loop {
            let Some(bytes) = self.read()? else { return Ok(None) };
            self.line += 1;
            let text = match decode(&bytes, self.encoding) {
                Ok(text) => text,
                Err(error) => return Ok(Some((self.line, Content::Message(Err(error))))),
            };
            let text = tidy(&text);
            if text.is_empty() {
                continue;
            }
            self.one_per_line(text)?;
            return Ok(Some((self.line, content(text))));
        }
    }

    /// Without its end.
    fn read(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        loop {
            let room = (LONGEST - line.len().min(LONGEST)) as u64 + 1;
            let read = self.input.by_ref().take(room).read_until(b'\n', &mut line)?;
            let over = line.len() > LONGEST;
            if read == 0 && line.is_empty() {
                return Ok(None);
            }
            match self.encoding {
                Encoding::Utf8 => {
                    if over && !line.ends_with(b"\n") {
                        self.input.skip_until(b'\n')?;
                    }
                    return Ok(Some(line));
                }
                // The byte of a line's end may be half of another character; and of a little-endian one the other
                // half is still to come.
                Encoding::Utf16 { big } => {
                    let odd = line.len() % 2 == 1;
                    if odd && !big && read > 0 {
                        let mut other = [0];
                        if self.input.read(&mut other)? == 1 {
                            line.push(other[0]);
                        }
                    }
                    let end: [u8; 2] = if big { [0, b'\n'] } else { [b'\n', 0] };
                    if read == 0 || over || (line.len() % 2 == 0 && line.ends_with(&end)) {
                        return Ok(Some(line));
                    }
                }
            }
        }
    }

    /// A whole file of another shape is told as such, by its first line.
    fn one_per_line(&self, text: &str) -> Result<(), FormatError> {
        let line = self.line;
        if text == "{" {
            let what = "JSON over several lines, not one message per line";
            return Err(FormatError::Other { line, what, way: "`jq -c . FILE` makes it so" });
        }
        if line == 1 && text.starts_with('[') {
            let what = "a JSON array, not one message per line";
            return Err(FormatError::Other { line, what, way: "`jq -c '.[]' FILE` makes it so" });
        }
        Ok(())
    }
}

/// A small file of text in any of these encodings.
pub fn text(bytes: &[u8]) -> Result<String, String> {
    let encoding = encoding(bytes).map_err(|error| error.to_string())?;
    let text = decode(bytes, encoding).map_err(|error| error.to_string())?;
    Ok(text.trim_start_matches(BYTE_ORDER_MARK).to_owned())
}

/// What is left of a line without what was put around it.
pub fn content(text: &str) -> Content {
    let text = tidy(text);
    // The first brace after a space: a topic, and whatever else a recorder writes, comes before it.
    let brace = text.find(" {").or_else(|| text.find("\t{"));
    let message = match brace {
        Some(at) if !text.starts_with('{') => &text[at + 1..],
        None if is_unsigned(text) => return Content::Unsigned,
        _ => text,
    };
    if !message.starts_with('{') {
        let begin: String = message.chars().take(24).collect();
        let what = format!("{begin:?} is no JSON object");
        return Content::Message(Err(VerifyError::NotAMessage(what)));
    }
    let bare = envelope(message.as_bytes());
    let recorded = match bare {
        Err(VerifyError::NotAMessage(_) | VerifyError::TooLong) => Envelope::recorded(message),
        _ => None,
    };
    Content::Message(recorded.unwrap_or(bare))
}

/// `TOPIC online`, and what `mosquitto_sub -v` writes of an empty message.
fn is_unsigned(text: &str) -> bool {
    match text.rsplit_once(' ') {
        Some((topic, "online" | "offline")) => topic.ends_with("/availability"),
        Some((topic, "(null)")) => !topic.contains(' '),
        _ => false,
    }
}

/// Marks may also lie where two files were joined.
fn tidy(text: &str) -> &str {
    text.trim_matches(|c: char| c == BYTE_ORDER_MARK || c.is_ascii_whitespace())
}

fn encoding(first: &[u8]) -> Result<Encoding, FormatError> {
    let other = |what, way| Err(FormatError::Other { line: 1, what, way });
    match *first {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] | [0, 0, 0, _, ..] | [_, 0, 0, 0, ..] => {
            other("UTF-32 text", "`iconv -f UTF-32 -t UTF-8 FILE` makes UTF-8 of it")
        }
        [0x1f, 0x8b, ..] => {
            other("compressed by gzip", "`gunzip -c FILE | familiar verify` reads it")
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            other("compressed by zstd", "`zstdcat FILE | familiar verify` reads it")
        }
        [0xfd, b'7', b'z', b'X', ..] => {
            other("compressed by xz", "`xzcat FILE | familiar verify` reads it")
        }
        [0xfe, 0xff, ..] | [0, 1..=255, ..] => Ok(Encoding::Utf16 { big: true }),
        [0xff, 0xfe, ..] | [1..=255, 0, ..] => Ok(Encoding::Utf16 { big: false }),
        _ => Ok(Encoding::Utf8),
    }
}

fn decode(bytes: &[u8], encoding: Encoding) -> Result<String, VerifyError> {
    let wrong = |what: &str| VerifyError::NotAMessage(what.to_owned());
    let Encoding::Utf16 { big } = encoding else {
        return String::from_utf8(bytes.to_owned()).map_err(|_| wrong("not UTF-8"));
    };
    let (pairs, []) = bytes.as_chunks::<2>() else {
        return Err(wrong("half a character of UTF-16 at its end"));
    };
    let unit =
        |pair: &[u8; 2]| if big { u16::from_be_bytes(*pair) } else { u16::from_le_bytes(*pair) };
    char::decode_utf16(pairs.iter().map(unit))
        .collect::<Result<String, _>>()
        .map_err(|_| wrong("not UTF-16, as its beginning says"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::event::jws::LIMIT;

    fn kinds(bytes: &[u8]) -> Result<Vec<(u64, String)>, FormatError> {
        let mut lines = Lines::new(bytes)?;
        let mut kinds = Vec::new();
        while let Some((line, content)) = lines.next()? {
            let kind = match content {
                Content::Unsigned => "unsigned".to_owned(),
                Content::Message(Ok(_)) => "message".to_owned(),
                Content::Message(Err(error)) => error.to_string(),
            };
            kinds.push((line, kind));
        }
        Ok(kinds)
    }

    #[test]
    fn lines_without_end() {
        let mut text = vec![b'x'; 3 * LONGEST];
        text.extend_from_slice(b"\n\n  \r\nlast");
        let kinds = kinds(&text).unwrap();
        assert_eq!(kinds.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 4]);
        assert!(kinds.iter().all(|(_, kind)| kind.starts_with("not a signed message")));
        let long = format!("{{\"payload\":\"{}\"}}\n", "x".repeat(2 * LIMIT));
        assert_eq!(self::kinds(long.as_bytes()).unwrap(), [(1, "too long".to_owned())]);
        // UTF-16 whose end is missing, of lines longer than any.
        let mut wide = vec![0xff, 0xfe];
        wide.extend("y".repeat(LONGEST).encode_utf16().flat_map(u16::to_le_bytes));
        assert!(self::kinds(&wide).unwrap().iter().all(|(_, kind)| kind != "message"));
        assert!(self::kinds(&[0xff, 0xfe, b'{']).unwrap()[0].1.contains("half a character"));
    }

    #[test]
    fn files_of_another_shape_are_named() {
        for (bytes, words) in [
            (&b"[{\"payload\":1}]\n"[..], "line 1: a JSON array"),
            (b"\xef\xbb\xbf{\n  \"payload\": 1\n}\n", "line 1: JSON over several lines"),
            (b"\x1f\x8b\x08\x00", "compressed by gzip"),
            (b"\xff\xfe\x00\x00{\x00\x00\x00", "UTF-32"),
        ] {
            let error = kinds(bytes).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn what_nobody_signs_is_no_message() {
        let text = b"familiar/porch/availability online\nfamiliar/porch/person/ada (null)\n";
        let unsigned = |line| (line, "unsigned".to_owned());
        assert_eq!(kinds(text).unwrap(), [unsigned(1), unsigned(2)]);
        // Anything else that is said on such a topic is to be signed.
        assert!(kinds(b"familiar/porch/event online\n").unwrap()[0].1.contains("no JSON object"));
    }
}
