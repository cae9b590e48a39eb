//! Looking from where the daemon looks: a unit may have credentials that nobody else gets, not even its user. `check`
//! then runs once more as that unit would run it, or, where systemd cannot do that, with what the unit would be given.

use std::io::Write;
use std::os::unix::fs::{
    DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown, lchown,
};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::Report;
use crate::cli::{Failure, Global};
use crate::system::secret;
use crate::system::signals::Signals;
use crate::system::state::StateDirectory;
use crate::system::unit::{self, Credential, Source, Unit};

/// How this process came to look; given by [`look`] to the `check` that it starts.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Look from within this unit, with its user, sandbox and credentials (as root) [default: the one that runs the
    /// daemon with this configuration, if it has credentials]
    #[arg(long, value_name = "UNIT", conflicts_with = "within")]
    unit: Option<String>,
    /// Said by `check` itself when it runs again
    #[arg(long, hide = true)]
    within: Option<String>,
}

/// Credentials that the daemon has and this process has not.
#[derive(Debug, Default)]
pub struct Hidden(Vec<String>);

impl Hidden {
    /// The name of the unit's credential `id`, if this process misses it.
    pub fn misses(&self, id: &str) -> bool {
        self.0.iter().any(|hidden| hidden == id)
    }
}

/// Runs `check` again where the daemon's credentials are, and ends this process as that one ended; returns where there is
/// nothing to gain by it, or no right to it.
pub fn look(global: &Global, args: &Args, report: &mut Report) -> Result<Hidden, Failure> {
    if let Some(how) = &args.within {
        report.ok("unit", how.as_str());
        return Ok(Hidden::default());
    }
    // Within a unit already, or set by hand.
    if std::env::var_os("CREDENTIALS_DIRECTORY").is_some() {
        return Ok(Hidden::default());
    }
    let Some(unit) = wanted(global, args)? else { return Ok(Hidden::default()) };
    with_state_of(&unit)?;
    let credentials = unit.credentials();
    let ids = credentials.iter().map(|credential| credential.id.clone()).collect::<Vec<_>>();
    if ids.is_empty() && args.unit.is_none() {
        return Ok(Hidden::default());
    }
    if !rustix::process::geteuid().is_root() {
        report.warn(
            "unit",
            format!(
                "{} has {}, which this user cannot read; `sudo familiar check` looks with it",
                unit.name(),
                named(&ids)
            ),
        );
        return Ok(Hidden(ids));
    }
    match by_systemd(&unit, &ids) {
        Ok(output) => end(&output),
        Err(why) => end(&by_hand(&unit, &credentials, &why)?),
    }
}

/// Starts anew with the unit's state directory, where that is another one (a second camera has its own) and none is set.
fn with_state_of(unit: &Unit) -> Result<(), Failure> {
    let is_set = std::env::var_os("STATE_DIRECTORY").is_some_and(|value| !value.is_empty());
    match unit.state_directory() {
        Some(state) if !is_set && state != StateDirectory::locate() => {
            let program = std::env::current_exe().map_err(Failure::failed)?;
            let mut command = Command::new(program);
            command.args(std::env::args_os().skip(1)).env("STATE_DIRECTORY", state);
            // Returns only where it fails.
            Err(Failure::failed(command.exec()))
        }
        _ => Ok(()),
    }
}

fn wanted(global: &Global, args: &Args) -> Result<Option<Unit>, Failure> {
    if let Some(name) = &args.unit {
        let relative = global.config.as_deref().is_some_and(Path::is_relative);
        if relative {
            return Err(Failure::usage(
                "with --unit, --config must be an absolute path: a unit starts elsewhere",
            ));
        }
        let name = if name.contains('.') { name.clone() } else { format!("{name}.service") };
        let none = || Failure::usage(format!("there is no unit {name}"));
        return Unit::find(&name).ok_or_else(none).map(Some);
    }
    let path =
        global.config.clone().unwrap_or_else(|| PathBuf::from("/etc/familiar/familiar.toml"));
    Ok(unit::of_configuration(&path).and_then(|name| Unit::find(&name)))
}

fn named(ids: &[String]) -> String {
    match ids {
        [] => "no credential".to_owned(),
        [one] => format!("the credential {one}"),
        more => format!("the credentials {}", more.join(", ")),
    }
}

/// What was typed, once more, and how it came about.
fn again(how: &str) -> impl Iterator<Item = std::ffi::OsString> {
    let typed = std::env::args_os().skip(1);
    let unit = std::cell::Cell::new(false);
    typed
        .filter(move |word| {
            // `--unit NAME` or `--unit=NAME`
            let word = word.to_string_lossy();
            let value = unit.replace(word == "--unit");
            !value && word != "--unit" && !word.starts_with("--unit=")
        })
        .chain(["--within".into(), how.into()])
}

/// As a service of the same user, sandbox and credentials. The error says why systemd did not do it.
fn by_systemd(unit: &Unit, ids: &[String]) -> Result<Output, String> {
    let how = format!(
        "looked from within {} (by systemd-run): its user, its sandbox and {}",
        unit.name(),
        named(ids)
    );
    let mut command = systemd_run(unit);
    command.args(again(&how)).stdin(Stdio::null());
    let output = command.output().map_err(|error| format!("systemd-run: {error}"))?;
    // `check` always has something to say; nothing said means that it was not started.
    if output.stdout.is_empty() {
        let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', " ");
        return Err(if said.is_empty() { format!("systemd-run: {}", output.status) } else { said });
    }
    Ok(output)
}

/// The command line up to the program, inclusive.
fn systemd_run(unit: &Unit) -> Command {
    let mut command = Command::new("systemd-run");
    command.args(["--quiet", "--pipe", "--wait", "--collect", "--service-type=exec"]);
    for property in unit.properties() {
        command.arg("--property").arg(property);
    }
    let own = std::env::current_exe().ok();
    let program = unit.program().map(PathBuf::from).or(own).unwrap_or_else(|| "familiar".into());
    command.arg("--").arg(program);
    command
}

/// With copies of what systemd would give it, in a folder as systemd would make it.
fn by_hand(unit: &Unit, credentials: &[Credential], why: &str) -> Result<Output, Failure> {
    // From here on a signal does not end this process before the folder is removed. It ends the child, which has no handler.
    let signals = Signals::watch().map_err(Failure::failed)?;
    let folder = Folder::new()
        .map_err(|error| Failure::failed(format!("a folder for credentials: {error}")))?;
    let mut read = Vec::new();
    let mut missed = Vec::new();
    for credential in credentials {
        match reveal(credential)
            .and_then(|bytes| folder.put(&credential.id, &bytes).map_err(|e| e.to_string()))
        {
            Ok(()) => read.push(credential.id.clone()),
            Err(error) => missed.push(format!("{}: {error}", credential.id)),
        }
    }
    // Last of all: until now nobody else could put anything there.
    give(&folder.path).map_err(Failure::failed)?;
    if signals.stop_requested() {
        return Err(Failure::failed("interrupted"));
    }
    let mut how = format!(
        "{} was not started ({why}); read {} as root and looked with it, outside of its sandbox",
        unit.name(),
        named(&read)
    );
    if !missed.is_empty() {
        how = format!("{how}; not read: {}", missed.join("; "));
    }
    let program = std::env::current_exe().map_err(Failure::failed)?;
    Command::new(program)
        .args(again(&how))
        .env("CREDENTIALS_DIRECTORY", &folder.path)
        .stdin(Stdio::null())
        .output()
        .map_err(Failure::failed)
}

fn reveal(credential: &Credential) -> Result<secret::Secret, String> {
    match &credential.source {
        Source::File(path) => secret::read_file(path, 0)
            .map_err(|error| error.to_string())?
            .ok_or_else(|| format!("{} is not there", path.display())),
        Source::Encrypted(path) => {
            let output = Command::new("systemd-creds")
                .arg("decrypt")
                .arg(format!("--name={}", credential.id))
                .args([path.as_os_str(), "-".as_ref()])
                .stdin(Stdio::null())
                .output()
                .map_err(|error| format!("systemd-creds: {error}"))?;
            if output.status.success() {
                Ok(output.stdout.into())
            } else {
                Err(format!("systemd-creds: {}", String::from_utf8_lossy(&output.stderr).trim()))
            }
        }
        Source::Other => Err("only systemd can give it".to_owned()),
    }
}

/// A folder for secrets, wiped and removed when dropped.
struct Folder {
    path: PathBuf,
    /// The same, open: its path may lead elsewhere once it was given away.
    open: std::fs::File,
}

impl Folder {
    fn new() -> std::io::Result<Self> {
        // In memory where there is such a place.
        let parent = ["/run", "/dev/shm"]
            .iter()
            .map(PathBuf::from)
            .find(|parent| rustix::fs::access(parent, rustix::fs::Access::WRITE_OK).is_ok());
        let parent = parent.unwrap_or_else(std::env::temp_dir);
        let path = parent.join(format!("familiar-check-{:016x}", fastrand::u64(..)));
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        let mut options = std::fs::OpenOptions::new();
        let open =
            options.read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(&path)?;
        Ok(Self { path, open })
    }

    fn put(&self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        if name.contains('/') || name.starts_with('.') {
            return Err(std::io::Error::other("no name for a credential"));
        }
        let path = self.path.join(name);
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(bytes)?;
        give(&path)
    }

    /// Takes it from the user that it was given to, who can then change nothing in it. Says whether the path still leads to it.
    fn take_back(&self) -> std::io::Result<bool> {
        fchown(&self.open, Some(0), Some(0))?;
        self.open.set_permissions(std::fs::Permissions::from_mode(0o700))?;
        let (open, named) = (self.open.metadata()?, std::fs::symlink_metadata(&self.path)?);
        Ok((open.dev(), open.ino()) == (named.dev(), named.ino()))
    }
}

/// To whom the state belongs: root's `check` goes on as that user.
fn give(path: &Path) -> std::io::Result<()> {
    let Ok(state) = std::fs::metadata(StateDirectory::locate()) else { return Ok(()) };
    lchown(path, Some(state.uid()), Some(state.gid()))
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A link that its user put there, or put in its place, must not lead root to another file.
        if !self.take_back().unwrap_or(false) {
            log::warn!(
                "{} with copies of credentials was changed, and is left",
                self.path.display()
            );
            return;
        }
        for entry in std::fs::read_dir(&self.path).into_iter().flatten().flatten() {
            let plain = entry.metadata().is_ok_and(|data| data.is_file() && data.nlink() == 1);
            let _ = if plain {
                secret::wipe(&entry.path())
            } else {
                std::fs::remove_file(entry.path())
            };
        }
        let _ = std::fs::remove_dir(&self.path);
    }
}

/// What the other one said is said, and this process ends as it did.
fn end(output: &Output) -> ! {
    let _ = std::io::stdout().write_all(&output.stdout);
    let _ = std::io::stdout().flush();
    let _ = std::io::stderr().write_all(&output.stderr);
    std::process::exit(output.status.code().unwrap_or(1))
}
