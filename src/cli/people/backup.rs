//! `familiar people backup` and `restore`: the enrolled people, from one device to another.

use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use zeroize::Zeroizing;

use super::{look, open, print_json};
use crate::cli::{Failure, Global, engine};
use crate::model;
use crate::recognition::PersonId;
use crate::recognition::gallery::{
    BACKUP_LIMIT, Backup, BackupError, Passphrase, Restore, Restored,
};
use crate::system::terminal::Terminal;
use crate::system::{disk, owner, plain, secret};

/// Longest passphrase that is read from stdin, in bytes.
const LONGEST: u64 = 4096;

/// Write everybody enrolled to a file for another device, sealed under a passphrase
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    familiar people backup household.people\n  \
    familiar people backup household.people --passphrase-file words.txt")]
pub struct BackupArgs {
    /// Where the backup goes; must not exist, and gets mode 0600
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// File (mode 0600) with a passphrase of at least 12 characters, or - for stdin [default: asked for, twice, at the
    /// terminal]
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

/// Enrol the people of such a file, all of them or nobody
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  familiar people restore household.people --skip-existing")]
pub struct RestoreArgs {
    /// The backup
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// File (mode 0600) with the passphrase of the backup, or - for stdin [default: asked for at the terminal]
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Leave who is enrolled here already as they are, instead of refusing the whole
    #[arg(long)]
    skip_existing: bool,
    /// Leave out templates of another model than this device's, instead of refusing the whole
    #[arg(long)]
    usable_only: bool,
}

#[derive(Serialize)]
struct Outcome<'a> {
    restored: Vec<&'a PersonId>,
    anchors: &'a [PersonId],
    existing: &'a [PersonId],
    expired: &'a [PersonId],
    unusable: &'a [PersonId],
}

pub fn backup(global: &Global, args: &BackupArgs) -> Result<(), Failure> {
    if owner::as_invoker(|| args.file.exists()) {
        return Err(Failure::failed(format!("{}: exists already", args.file.display())));
    }
    let passphrase = passphrase(args.passphrase_file.as_deref(), Asked::Twice)?;
    let gallery = look()?;
    let (bytes, people) = gallery.backup(&passphrase)?;
    let anchors = gallery.anchors()?.len();
    owner::as_invoker(|| write_new(&args.file, &bytes))
        .map_err(|error| io_failure(&args.file, &error))?;
    if global.json {
        return print_json(
            &serde_json::json!({ "people": people, "anchors": anchors, "bytes": bytes.len() }),
        );
    }
    let and =
        if anchors == 0 { String::new() } else { format!(" and {anchors} faces not to be named") };
    println!("{people} people{and} in {}", plain::line(&args.file.to_string_lossy()));
    Ok(())
}

pub fn restore(global: &Global, args: &RestoreArgs) -> Result<(), Failure> {
    let bytes = owner::as_invoker(|| read_limited(&args.file))?;
    let passphrase = passphrase(args.passphrase_file.as_deref(), Asked::Once)?;
    owner::for_good();
    let told = |error: BackupError| match error {
        error @ BackupError::Gallery(_) => error.into(),
        error if error.is_refusal() => {
            Failure::refused(format!("{}: {error}", args.file.display()))
        }
        error => Failure::failed(format!("{}: {error}", args.file.display())),
    };
    let backup = Backup::open(&bytes, &passphrase).map_err(told)?;
    let (bundle, directory) = engine::running(global)?;
    let wanted = global.located()?.config.models.mapping;
    let space = model::space(bundle).map_err(|error| engine::refused(&directory, &error))?;
    let how = Restore {
        space: &space.mapped_if(wanted),
        skip_existing: args.skip_existing,
        usable_only: args.usable_only,
    };
    let restored = open()?.restore(backup, &how).map_err(told)?;
    print(global, &restored)
}

fn print(global: &Global, restored: &Restored) -> Result<(), Failure> {
    let Restored { people, anchors, existing, expired, unusable } = restored;
    if global.json {
        let restored = people.iter().map(|person| &person.id).collect();
        return print_json(&Outcome { restored, anchors, existing, expired, unusable });
    }
    for person in people {
        println!("{}: restored as {}", person.id, person.name);
    }
    for id in anchors {
        println!("{id}: restored, a face that is not to be named");
    }
    for (ids, why) in [
        (existing, "enrolled here already"),
        (expired, "expired"),
        (unusable, "templates of another model only"),
    ] {
        for id in ids {
            println!("{id}: left out, {why}");
        }
    }
    Ok(())
}

/// How often a passphrase is asked for at the terminal.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Once,
    /// What is typed unseen may hold a slip that nobody would ever find again.
    Twice,
}

fn passphrase(path: Option<&Path>, asked: Asked) -> Result<Passphrase, Failure> {
    let text = match path {
        None => ask(asked)?,
        Some(path) if path == Path::new("-") => {
            // Room for the whole from the start: growing would leave copies behind that nothing wipes.
            let mut text = Zeroizing::new(Vec::with_capacity(LONGEST as usize + 1));
            let read = std::io::stdin().lock().take(LONGEST).read_to_end(&mut text);
            read.map_err(|error| Failure::failed(format!("stdin: {error}")))?;
            text
        }
        Some(path) => owner::as_invoker(|| secret::read_file(path, 0o077))?
            .ok_or_else(|| Failure::usage(format!("{}: no such file", path.display())))?,
    };
    Passphrase::new(&text).map_err(Failure::usage)
}

/// At the terminal, without echo.
fn ask(asked: Asked) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let Some(terminal) = Terminal::open() else {
        return Err(Failure::usage(
            "no terminal to ask for the passphrase at; give --passphrase-file FILE, or - for standard input",
        ));
    };
    let ask = |question: &str| {
        terminal
            .ask_hidden(question)
            .map(|text| Zeroizing::new(text.as_bytes().to_vec()))
            .map_err(|error| Failure::failed(format!("the terminal: {error}")))
    };
    let text = ask("passphrase")?;
    if asked == Asked::Twice {
        Passphrase::new(&text).map_err(Failure::usage)?; // before it is typed again
        if ask("the same again")? != text {
            return Err(Failure::usage("the two are not the same; nothing was written"));
        }
    }
    Ok(text)
}

/// Whole, on the disk, and for its owner alone; or not at all.
fn write_new(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .inspect_err(|_| drop(std::fs::remove_file(path)))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    std::fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn io_failure(path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format!("{}: {}", path.display(), disk::told(path, error)))
}

fn read_limited(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |error: std::io::Error| io_failure(path, &error);
    let file = std::fs::File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() || metadata.len() > BACKUP_LIMIT as u64 {
        let limit = BACKUP_LIMIT >> 20;
        return Err(Failure::refused(format!(
            "{}: not a regular file of at most {limit} MiB",
            path.display()
        )));
    }
    let mut bytes = Vec::new();
    file.take(BACKUP_LIMIT as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::Gallery(error) => error.into(),
            error if error.is_refusal() => Self::refused(error),
            error => Self::failed(error),
        }
    }
}
