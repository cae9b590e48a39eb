//! Text from outside - file names, names of people, a broker's reasons, subjects of certificates - as it may be
//! shown: nothing in it steers a terminal, forges a line or gives a password away.
//!
//! All that the program prints or logs passes here: [`print()`] and its siblings are behind this crate's own
//! `println!`, `eprintln!` and `eprint!`, which shadow the standard library's, and [`crate::system::log`] wraps the
//! logger.

use std::borrow::Cow;
use std::fmt::{Arguments, Write as _};

/// As the standard library's, with [`lines`] applied.
macro_rules! println {
    () => { std::println!() };
    ($($argument:tt)*) => { $crate::system::plain::print(format_args!($($argument)*)) };
}

/// As the standard library's, with [`lines`] and [`redacted`] applied.
macro_rules! eprintln {
    () => { std::eprintln!() };
    ($($argument:tt)*) => { $crate::system::plain::say(format_args!($($argument)*)) };
}

/// As the standard library's, with [`lines`] and [`redacted`] applied.
macro_rules! eprint {
    ($($argument:tt)*) => { $crate::system::plain::ask(format_args!($($argument)*)) };
}

/// Data on stdout. Escapes are those of JSON, so that JSON stays what it was.
pub fn print(text: Arguments<'_>) {
    std::println!("{}", lines(&text.to_string()));
}

/// A message on stderr.
pub fn say(text: Arguments<'_>) {
    std::eprintln!("{}", lines(&in_words(&redacted(&text.to_string()))));
}

/// A message on stderr whose line goes on.
pub fn ask(text: Arguments<'_>) {
    std::eprint!("{}", lines(&in_words(&redacted(&text.to_string()))));
}

/// A message of one line, without passwords. A library may have made several of it, to be read as one.
pub fn message(text: &str) -> String {
    line(&in_words(&redacted(&text.replace('\n', " ")))).into_owned()
}

/// One line: control characters and those that turn the direction of writing are escaped, line breaks as well.
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c.is_control() || is_layout(c))
}

/// The same, but line breaks and tabs stay.
pub fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| (c.is_control() && c != '\n' && c != '\t') || is_layout(c))
}

/// Characters that turn the writing direction or break the line, and are no control characters.
pub fn is_layout(c: char) -> bool {
    matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{feff}')
}

fn escaped(text: &str, steers: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&steers) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' if steers(c) => plain.push_str("\\n"),
            c if steers(c) => drop(write!(plain, "\\u{:04x}", u32::from(c))),
            c => plain.push(c),
        }
    }
    Cow::Owned(plain)
}

/// What stands for a user's name and password.
const HIDDEN: &str = "***";

/// Without user and password in any address (`SCHEME://USER:PASSWORD@HOST`) within the text. A password may hold
/// what an address should not, so an address reaches to the next blank or quotation mark.
pub fn redacted(text: &str) -> Cow<'_, str> {
    let mut found = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        let is_end = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '<' | '>');
        let address = after.split(is_end).next().unwrap_or(after);
        found.push_str(before);
        rest = match login(address) {
            Some(length) => {
                found.push_str(HIDDEN);
                &after[length..]
            }
            None => after,
        };
    }
    if found.is_empty() {
        return Cow::Borrowed(text);
    }
    found.push_str(rest);
    Cow::Owned(found)
}

/// How many bytes of an address (without its scheme) are user and password.
fn login(address: &str) -> Option<usize> {
    let at = address.rfind('@')?;
    // After a slash an @ may be part of the path, unless what is before could be a password.
    let within_host = address.find('/').is_none_or(|slash| at < slash);
    (within_host || address[..at].contains(':')).then_some(at)
}

/// An address on its own, whatever it looks like, without user and password.
pub fn redacted_address(address: &str) -> String {
    match address.rsplit_once('@') {
        None => address.to_owned(),
        Some((before, host)) => {
            let scheme = before.split_once("://").map_or(String::new(), |(s, _)| format!("{s}://"));
            format!("{scheme}{HIDDEN}@{host}")
        }
    }
}

/// Without the number that the standard library adds to the system's words: "(os error 2)".
pub fn in_words(text: &str) -> Cow<'_, str> {
    const MARK: &str = " (os error ";
    if !text.contains(MARK) {
        return Cow::Borrowed(text);
    }
    let mut parts = text.split(MARK);
    let mut words = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let number = part.trim_start_matches(|c: char| c.is_ascii_digit());
        match number.strip_prefix(')') {
            Some(rest) if number.len() < part.len() => words.push_str(rest),
            _ => words.extend([MARK, part]),
        }
    }
    Cow::Owned(words)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Holds CLI-04.
    #[test]
    fn nothing_steers_a_terminal_or_forges_a_line() {
        let name = "a\u{1b}[31m\u{9b}2J\r\nfamiliar: ok\u{7f}\u{202e}gpj";
        assert_eq!(line(name), r"a\u001b[31m\u009b2J\u000d\nfamiliar: ok\u007f\u202egpj");
        assert_eq!(lines("a\tb\n\u{1b}c"), "a\tb\n\\u001bc");
        for plain in ["Zoë 王小明", "فاطمة", "👩\u{200d}👧", "C:\\new"] {
            assert_eq!(line(plain), plain);
        }
    }

    #[test]
    fn escaped_json_says_the_same() {
        let text = "a\u{1b}\u{9b}\u{202e}\n";
        let json = serde_json::to_string(text).unwrap();
        let shown = lines(&json).into_owned();
        assert!(!shown.contains(['\u{1b}', '\u{9b}', '\u{202e}']), "{shown}");
        assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), text);
    }

    /// Holds CLI-03.
    #[test]
    fn passwords_in_addresses_are_hidden() {
        for (text, hidden) in [
            ("mqtts://ann:secret@broker:8883: refused", "mqtts://***@broker:8883: refused"),
            ("\"mqtt://u:p@ss/w@h\" is wrong", "\"mqtt://***@h\" is wrong"),
            ("a https://token@h/x, b https://u:p@g/y", "a https://***@h/x, b https://***@g/y"),
            ("https://models.example.org/a@b", "https://models.example.org/a@b"),
            ("mqtts://broker:8883", "mqtts://broker:8883"),
            ("to ann@example.org", "to ann@example.org"),
        ] {
            assert_eq!(redacted(text), hidden);
        }
        assert_eq!(redacted_address("ann:se cret@broker"), "***@broker");
        assert_eq!(redacted_address("mqtt://ann:se cret@broker:1"), "mqtt://***@broker:1");
        assert_eq!(redacted_address("broker"), "broker");
    }

    #[test]
    fn system_errors_are_words_without_numbers() {
        let error = std::io::Error::from_raw_os_error(2);
        assert!(error.to_string().contains("(os error 2)"));
        assert_eq!(message(&format!("a.jpg: {error}; b")), "a.jpg: No such file or directory; b");
        assert_eq!(message("two\nlines \u{1b}"), "two lines \\u001b");
        assert_eq!(message("x (os error y) z (os error ) w"), "x (os error y) z (os error ) w");
    }
}
