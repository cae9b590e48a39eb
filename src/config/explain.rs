//! From the parser's words to the operator's: which key, what is wrong with it, and a line that would be right.

use std::borrow::Cow;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue, Error};

use super::keys::{self, Key};
use crate::system::nearest::nearest;
use crate::system::plain;

/// Longest value that is repeated in an error, in characters.
const SHOWN: usize = 60;

/// The line that is wrong, from 1, and what is wrong with it. `text` is the whole file.
pub(super) fn explain(text: &str, error: &Error) -> (usize, String) {
    let at = error.span().map_or(0, |span| span.start);
    let message = error.message();
    let Ok(document) = DeTable::parse(text) else {
        return (line_of(text, at), not_toml(text, at, message));
    };
    let place = Place::at(document.get_ref(), at);
    if let Some(name) = quoted(message, "missing field `") {
        return missing(text, document.get_ref(), name);
    }
    let line = line_of(text, at);
    if let Some(name) = quoted(message, "unknown field `") {
        let section = place.as_ref().map_or("", Place::section);
        let known = message.split('`').skip(3).step_by(2);
        return (line, unknown(section, name, known));
    }
    let Some(key) = place.as_ref().and_then(Place::key) else {
        return (line, message.to_owned());
    };
    let value = place.and_then(|place| text.get(place.value)).unwrap_or_default();
    let what = if is_technical(message) {
        format!("{} is not {}", shown(key, value), key.must)
    } else {
        message.to_owned()
    };
    (line, format!("{}: {what}; for example: {}", name_of(key), key.example))
}

/// A document that is not TOML. The key is told by its line alone.
fn not_toml(text: &str, at: usize, message: &str) -> String {
    // What the parser expected instead are terms of its grammar.
    let what = message.split(", expected ").next().unwrap_or(message);
    let before = text.get(..at).unwrap_or_default();
    let start = before.rfind('\n').map_or(0, |end| end + 1);
    let written = text.get(start..).and_then(|rest| rest.lines().next()).unwrap_or_default();
    let header = |line: &str| {
        let name = line.trim().strip_prefix('[')?.split(']').next()?;
        Some(name.trim().to_owned())
    };
    let section = before.lines().rev().find_map(header).unwrap_or_default();
    let name = written.trim_start().split(['=', ':', ' ', '\t']).next().unwrap_or_default();
    let value = written.split_once('=').and_then(|(_, value)| value.split('#').next());
    let what = match value.map(str::trim) {
        Some("") => "the value is missing",
        _ => what,
    };
    if what == "duplicate key" {
        return format!("`{}` is in this file twice", plain::line(name.trim_matches(['[', ']'])));
    }
    match keys::find(&section, name) {
        Some(key) => format!("{}: {what}; for example: {}", name_of(key), key.example),
        None => format!("{what}; a line is KEY = VALUE or [SECTION]"),
    }
}

fn missing(text: &str, document: &DeTable<'_>, name: &str) -> (usize, String) {
    let section = |key: &&Key| {
        key.name == name && (key.section.is_empty() || document.contains_key(key.section))
    };
    let Some(key) = keys::KEYS.iter().find(section) else {
        return (1, format!("`{name}` is missing"));
    };
    if key.section.is_empty() {
        let what =
            format!("`{name}` is missing; write it above the first section: {}", key.example);
        return (1, what);
    }
    let header = document.iter().find(|(header, _)| header.get_ref() == key.section);
    let line = header.map_or(1, |(header, _)| line_of(text, header.span().start));
    let what =
        format!("[{}] has no `{name}`; write it below this line: {}", key.section, key.example);
    (line, what)
}

fn unknown<'a>(section: &str, name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.collect();
    let place = if section.is_empty() { String::new() } else { format!(" in [{section}]") };
    let what = format!("unknown key `{}`{place}", plain::line(name));
    if let Some(advice) = keys::instead(section, name) {
        return format!("{what}: {advice}");
    }
    if let Some(meant) = nearest(name, known.iter().copied()) {
        let example =
            keys::find(section, meant).map(|key| format!(" For example: {}", key.example));
        return format!("{what}; did you mean `{meant}`?{}", example.unwrap_or_default());
    }
    match keys::elsewhere(section, name) {
        Some(Key { section: "", example, .. }) => {
            format!("{what}: it belongs above the first section: {example}")
        }
        Some(key) => format!("{what}: it belongs below a line [{}]: {}", key.section, key.example),
        None => format!("{what}; known here: {}", known.join(", ")),
    }
}

/// Where in the document something stands.
struct Place {
    /// From the top to the key.
    path: Vec<String>,
    /// Bytes of the key's value.
    value: Range<usize>,
}

impl Place {
    /// The innermost key whose name or value stands there.
    fn at(table: &DeTable<'_>, at: usize) -> Option<Self> {
        let mut found = None;
        for (key, value) in table {
            let here = || Self { path: vec![key.get_ref().to_string()], value: value.span() };
            // The span of a section is that of its header: its keys stand outside of it.
            if let DeValue::Table(inner) = value.get_ref()
                && let Some(mut inner) = Self::at(inner, at)
            {
                inner.path.insert(0, key.get_ref().to_string());
                return Some(inner);
            }
            if contains(key, at) || contains(value, at) {
                found = Some(here());
            }
        }
        found
    }

    fn section(&self) -> &str {
        match self.path.as_slice() {
            [section, _, ..] => section,
            _ => "",
        }
    }

    fn key(&self) -> Option<&'static Key> {
        match self.path.as_slice() {
            [name] => keys::find("", name),
            [section, name, ..] => keys::find(section, name),
            [] => None,
        }
    }
}

fn contains<T>(spanned: &Spanned<T>, at: usize) -> bool {
    spanned.span().contains(&at)
}

/// Whether these are the words of the parser, not of [`super::load`].
fn is_technical(message: &str) -> bool {
    ["invalid type:", "invalid value:", "invalid length", "unknown variant", "wanted ", "expected "]
        .iter()
        .any(|words| message.starts_with(words))
        || message.contains("number overflowed")
}

/// A value as it was written, shortened, and without a password.
fn shown(key: &Key, value: &str) -> String {
    let line = value.lines().next().unwrap_or_default();
    // Before it is shortened: what is cut off may be what shows that there is a password.
    let plain = match key.name {
        "url" | "repository" => Cow::Owned(plain::redacted_address(line)),
        _ => plain::redacted(line),
    };
    let short: String = plain.chars().take(SHOWN).collect();
    let more = if short.len() < plain.len() || line.len() < value.len() { "…" } else { "" };
    format!("{}{more}", plain::line(&short))
}

fn name_of(key: &Key) -> String {
    if key.section.is_empty() {
        format!("`{}`", key.name)
    } else {
        format!("`{}` in [{}]", key.name, key.section)
    }
}

fn quoted<'a>(message: &'a str, before: &str) -> Option<&'a str> {
    message.strip_prefix(before)?.split('`').next()
}

fn line_of(text: &str, at: usize) -> usize {
    text.get(..at).map_or(1, |before| before.matches('\n').count() + 1)
}
