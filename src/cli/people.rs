//! `familiar people`: list, show, check, rename, export, backup, restore.

mod anchors;
mod backup;
mod check;
mod export;
pub(super) mod lookalikes;

use jiff::Timestamp;
use serde::Serialize;

use super::{Failure, Global, engine};
use crate::model;
use crate::recognition::gallery::{Expiry, Gallery, GalleryError, Person, PersonName};
use crate::recognition::{PersonId, Space, Usable};
use crate::system::owner;
use crate::system::state::StateDirectory;

/// List, show, check, rename and export people; back them up and restore them
///
/// Without an action: lists the people and the faces that are not to be named. What --json prints: docs/people.md.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  familiar people\n  familiar people show ada")]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Show one person
    #[command(after_help = "Example:\n  familiar people show ada")]
    Show {
        /// Of the person; `familiar people` lists them
        id: PersonId,
    },
    /// List the faces that are not to be named (`familiar enroll --negative`)
    #[command(after_help = "Example:\n  familiar people anchors --json")]
    Anchors,
    Check(check::CheckArgs),
    /// Give a person another name; the id stays
    #[command(after_help = "Example:\n  familiar people rename ada 'Ada Lovelace'")]
    Rename {
        /// Of the person; `familiar people` lists them
        id: PersonId,
        /// What the person is called from now on, 1 to 64 characters
        name: PersonName,
    },
    /// Tell all that is held on one person
    #[command(after_help = "Example:\n  familiar people export ada --json")]
    Export {
        /// Of the person; `familiar people` lists them
        id: PersonId,
    },
    Backup(backup::BackupArgs),
    Restore(backup::RestoreArgs),
}

#[derive(Serialize)]
struct Row {
    id: PersonId,
    name: String,
    looks: usize,
    usable_looks: Option<usize>,
    /// These are of another model and mapped into this one's space.
    mapped: bool,
    enrolled: Timestamp,
    expires: Option<Timestamp>,
    /// In place of `expires`: a span that waits for a clock that can be believed, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_after: Option<String>,
    consent: Option<String>,
    expired: bool,
    /// Who was enrolled as looking alike.
    lookalikes: Vec<PersonId>,
}

impl Row {
    fn of(person: Person, space: Option<&Space>) -> Self {
        let usable = space.map(|space| person.usable(space));
        Self {
            looks: person.total_looks(),
            usable_looks: usable.map(Usable::looks),
            mapped: matches!(usable, Some(Usable::Mapped(_))),
            expired: person.expired(Timestamp::now()),
            id: person.id,
            name: person.name,
            enrolled: person.enrolled,
            expires: person.expires.as_ref().and_then(Expiry::date),
            expires_after: waiting(person.expires.as_ref()),
            consent: person.consent,
            lookalikes: person.lookalikes,
        }
    }

    /// What an operator should know: why the person may not be recognised.
    fn flags(&self) -> Vec<String> {
        let mut flags = Vec::new();
        if self.expired {
            flags.push("expired".to_owned());
        }
        if let Some(after) = &self.expires_after {
            flags.push(format!("expires {after}"));
        }
        match self.usable_looks {
            Some(0) => flags.push("templates of another model: enrol anew".to_owned()),
            Some(usable) if self.mapped => {
                flags.push(format!("{usable} mapped from another model; better enrol anew"));
            }
            Some(usable) if usable < self.looks => {
                flags.push(format!("{} of another model", self.looks - usable));
            }
            _ => {}
        }
        flags
    }
}

pub fn run(global: &Global, args: Args) -> Result<(), Failure> {
    if !matches!(args.action, Some(Action::Backup(_) | Action::Restore(_))) {
        owner::for_good();
    }
    match args.action {
        None => list(global),
        Some(Action::Show { id }) => show(global, &id),
        Some(Action::Anchors) => anchors::run(global),
        Some(Action::Check(args)) => check::run(global, &args),
        Some(Action::Rename { id, name }) => {
            let person = look()?.rename(&id, name)?;
            if global.json {
                return print_json(&person);
            }
            println!("{}: {}", person.id, person.name);
            Ok(())
        }
        Some(Action::Export { id }) => export::run(global, &id),
        Some(Action::Backup(args)) => backup::backup(global, &args),
        Some(Action::Restore(args)) => backup::restore(global, &args),
    }
}

fn list(global: &Global) -> Result<(), Failure> {
    let space = space(global);
    let gallery = look()?;
    let rows: Vec<Row> =
        gallery.people()?.into_iter().map(|person| Row::of(person, space.as_ref())).collect();
    if global.json {
        return print_json(&rows);
    }
    if rows.is_empty() {
        eprintln!("familiar: nobody is enrolled; `familiar enroll NAME PHOTO…` adds a person");
    } else {
        table(&rows);
    }
    anchors::print(&gallery, space.as_ref())
}

fn table(rows: &[Row]) {
    let width = |of: fn(&Row) -> &str, title: &str| {
        rows.iter().map(of).chain([title]).map(|text| text.chars().count()).max().unwrap_or(0)
    };
    let (ids, names) = (width(|r| r.id.as_str(), "ID"), width(|r| r.name.as_str(), "NAME"));
    println!("{:ids$}  {:names$}  LOOKS  ENROLLED    EXPIRES     CONSENT", "ID", "NAME");
    for row in rows {
        let waits = if row.expires_after.is_some() { "later" } else { "never" };
        let expires = row.expires.map_or(waits.to_owned(), day);
        let mut notes = row.consent.clone().unwrap_or_default();
        for flag in row.flags() {
            notes.extend([" [", &flag, "]"]);
        }
        let line = format!(
            "{:ids$}  {:names$}  {:5}  {}  {expires:10}  {notes}",
            row.id.as_str(),
            row.name,
            row.looks,
            day(row.enrolled),
        );
        println!("{}", line.trim_end());
    }
}

fn show(global: &Global, id: &PersonId) -> Result<(), Failure> {
    let row = Row::of(look()?.person(id)?, space(global).as_ref());
    if global.json {
        return print_json(&row);
    }
    println!("id        {}", row.id);
    println!("name      {}", row.name);
    println!("looks     {}", row.looks);
    println!("enrolled  {}", row.enrolled);
    let waits = row.expires_after.clone().unwrap_or_else(|| "never".to_owned());
    println!("expires   {}", row.expires.map_or(waits, |time| time.to_string()));
    println!("consent   {}", row.consent.as_deref().unwrap_or("-"));
    for id in &row.lookalikes {
        println!("like      {id}");
    }
    for flag in row.flags() {
        println!("note      {flag}");
    }
    Ok(())
}

/// The gallery of this device, for verbs that add nobody: they make none.
pub(super) fn look() -> Result<Gallery, Failure> {
    Ok(Gallery::look(&StateDirectory::there())?)
}

/// The gallery of this device, made where there is none.
pub(super) fn open() -> Result<Gallery, Failure> {
    Ok(Gallery::open(&StateDirectory::open()?)?)
}

pub(super) fn print_json(data: &impl Serialize) -> Result<(), Failure> {
    println!("{}", serde_json::to_string(data).map_err(Failure::failed)?);
    Ok(())
}

impl From<GalleryError> for Failure {
    fn from(error: GalleryError) -> Self {
        if error.is_refusal() { Self::refused(error) } else { Self::failed(error) }
    }
}

/// Of the configured model; people can be listed without one.
fn space(global: &Global) -> Option<Space> {
    let mapping = global.located().ok()?.config.models.mapping;
    let running = engine::running(global).inspect_err(|error| {
        eprintln!("familiar: not told which templates fit the model: {error}");
    });
    Some(model::space(running.ok()?.0).ok()?.mapped_if(mapping))
}

/// A span that has no date yet.
fn waiting(expires: Option<&Expiry>) -> Option<String> {
    expires.filter(|expires| expires.date().is_none()).map(Expiry::to_string)
}

/// To four places.
fn rounded(value: f32) -> f64 {
    (f64::from(value) * 1e4).round() / 1e4 + 0.0 // no -0
}

/// A UTC date.
fn day(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d").to_string()
}
