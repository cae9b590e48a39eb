//! Negative anchors, listed apart from people.

use jiff::Timestamp;
use serde::Serialize;

use super::{day, look, print_json, space, waiting};
use crate::cli::{Failure, Global};
use crate::recognition::gallery::{Anchor, Expiry, Gallery};
use crate::recognition::{PersonId, Space, Usable};

#[derive(Serialize)]
struct Row {
    id: PersonId,
    looks: usize,
    usable_looks: Option<usize>,
    enrolled: Timestamp,
    expires: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_after: Option<String>,
    consent: Option<String>,
    expired: bool,
}

impl Row {
    fn of(anchor: Anchor, space: Option<&Space>) -> Self {
        Self {
            looks: anchor.total_looks(),
            usable_looks: space.map(|space| anchor.usable(space)).map(Usable::looks),
            expired: anchor.expired(Timestamp::now()),
            id: anchor.id,
            enrolled: anchor.enrolled,
            expires: anchor.expires.as_ref().and_then(Expiry::date),
            expires_after: waiting(anchor.expires.as_ref()),
            consent: anchor.consent,
        }
    }
}

pub fn run(global: &Global) -> Result<(), Failure> {
    let (gallery, space) = (look()?, space(global));
    if global.json {
        let anchors = gallery.anchors()?.into_iter();
        let rows: Vec<Row> = anchors.map(|anchor| Row::of(anchor, space.as_ref())).collect();
        return print_json(&rows);
    }
    print(&gallery, space.as_ref())
}

/// Nothing where there are none.
pub fn print(gallery: &Gallery, space: Option<&Space>) -> Result<(), Failure> {
    let anchors = gallery.anchors()?;
    if anchors.is_empty() {
        return Ok(());
    }
    let ids = anchors.iter().map(|anchor| anchor.id.as_str().len()).max().unwrap_or(0);
    println!("\nNot to be named (`familiar enroll --negative`):");
    for anchor in anchors {
        let row = Row::of(anchor, space);
        let waits = row.expires_after.unwrap_or_else(|| "never".to_owned());
        let expires = row.expires.map_or(waits, day);
        let mut notes = row.consent.unwrap_or_default();
        if row.expired {
            notes.push_str(" [expired]");
        }
        if row.usable_looks == Some(0) {
            notes.push_str(" [templates of another model: enrol anew]");
        }
        let enrolled = day(row.enrolled);
        let line = format!(
            "{:ids$}  {:2} looks, since {enrolled}, expires {expires}  {notes}",
            row.id.as_str(),
            row.looks
        );
        println!("{}", line.trim_end());
    }
    Ok(())
}
