//! Where everything goes, and writing it: all of it is valid before the first byte is written.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use zeroize::Zeroizing;

use super::Before;
use super::answers::{Answers, Broker};
use crate::cli::Failure;
use crate::config::{self, load};
use crate::mqtt::{self, PASSWORD};
use crate::system::bounded;
use crate::system::state::StateDirectory;
use crate::system::unit::{self, Source, Unit};

/// The configuration that the package brings.
pub const SHIPPED: &str = include_str!("../../../packaging/familiar.toml");

const SYSTEM: &str = "/etc/familiar/familiar.toml";
const DROP_IN: &str = "mqtt-password.conf";
/// Largest file of certificates that is copied, in bytes.
const CERTIFICATES: u64 = 1024 * 1024;

/// What is set up: the system's configuration with its unit, or a file of one's own.
pub struct Place {
    /// `/`, or where another system is mounted.
    root: PathBuf,
    /// As the daemon will see it.
    configuration: PathBuf,
    unit: Option<String>,
}

impl Place {
    pub fn new(config: Option<&Path>, root: Option<&Path>) -> Result<Self, Failure> {
        let configuration =
            std::path::absolute(config.unwrap_or(Path::new(SYSTEM))).map_err(Failure::failed)?;
        let root = root.unwrap_or(Path::new("/"));
        if !root.is_dir() {
            return Err(Failure::usage(format!("--root {}: no such folder", root.display())));
        }
        let place = Self {
            root: std::path::absolute(root).map_err(Failure::failed)?,
            unit: unit::of_configuration(&configuration),
            configuration,
        };
        place.writable()?;
        Ok(place)
    }

    /// Asked at the start: it would be a pity to find out after the last question.
    fn writable(&self) -> Result<(), Failure> {
        use rustix::fs::{Access, access};
        let folder = self.on_disk(self.folder());
        let there = folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
        access(there, Access::WRITE_OK).map_err(|_| {
            let mend = if self.unit.is_some() {
                "run it as root: sudo familiar setup"
            } else {
                "name another by --config"
            };
            Failure::usage(format!("this user may not write in {}; {mend}", there.display()))
        })
    }

    fn folder(&self) -> &Path {
        self.configuration.parent().unwrap_or(Path::new("/"))
    }

    fn on_disk(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    pub fn configuration(&self) -> PathBuf {
        self.on_disk(&self.configuration)
    }

    pub fn unit(&self) -> Option<&str> {
        self.unit.as_deref()
    }

    /// What `--config` must say where it is not the system's own.
    pub fn own_configuration(&self) -> Option<&Path> {
        (self.configuration != Path::new(SYSTEM)).then_some(self.configuration.as_path())
    }

    /// A second camera runs the models that the first one trusts.
    fn share_anchors(&self) -> Result<Option<PathBuf>, Failure> {
        let link = self.on_disk(self.folder()).join("trust.d");
        let is_second = self.unit.as_ref().is_some_and(|unit| unit.contains('@'));
        if !is_second || link.symlink_metadata().is_ok() {
            return Ok(None);
        }
        std::os::unix::fs::symlink("../trust.d", &link).map_err(|error| failed(&link, &error))?;
        Ok(Some(link))
    }

    /// Where the unit keeps its state, and the daemon enrolled people.
    pub fn state(&self) -> Option<PathBuf> {
        let instance = self.unit.as_ref()?.strip_suffix(".service")?.split_once('@');
        Some(match instance {
            Some((_, name)) => PathBuf::from(format!("/var/lib/familiar-{name}")),
            None => PathBuf::from("/var/lib/familiar"),
        })
    }

    /// People are enrolled before the unit, which makes it otherwise, has started for the first time.
    fn make_state(&self) -> Result<(), Failure> {
        let (Some(state), first) = (self.state(), self.on_disk(Path::new("/var/lib/familiar")))
        else {
            return Ok(());
        };
        let (state, Ok(owner)) = (self.on_disk(&state), std::fs::metadata(&first)) else {
            return Ok(());
        };
        if state.exists() {
            return Ok(());
        }
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&state)
            .and_then(|()| std::os::unix::fs::chown(&state, Some(owner.uid()), Some(owner.gid())))
            .map_err(|error| failed(&state, &error))
    }

    fn is_this_system(&self) -> bool {
        self.root == Path::new("/")
    }

    pub fn before(&self) -> Result<Before, Failure> {
        let path = self.configuration();
        match bounded::read_text(&path, load::LIMIT) {
            Ok(text) => Ok(Before { config: load::parse(&path, &text).ok(), exists: true }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Ok(Before { config: None, exists: false })
            }
            Err(error) => Err(Failure::failed(format!("{}: {error}", path.display()))),
        }
    }

    /// Where certificates lie that are named by `ca`: the sandbox shows the daemon no home directory, so they are copied beside
    /// the configuration unless they lie with the system's.
    fn authority(&self, given: &Path) -> Result<Authority, Failure> {
        let given = std::path::absolute(given).map_err(Failure::failed)?;
        let stays = self.unit.is_none()
            || [Path::new("/etc"), Path::new("/usr")].iter().any(|kept| given.starts_with(kept));
        Ok(if stays && self.is_this_system() {
            Authority { path: given, copied_from: None }
        } else {
            Authority { path: self.folder().join("ca.pem"), copied_from: Some(given) }
        })
    }
}

struct Authority {
    path: PathBuf,
    copied_from: Option<PathBuf>,
}

/// Whether a broker can be spoken to like this, as far as this machine can tell: URL, plain text, certificates.
pub fn usable(broker: &Broker, ca: Option<&Path>) -> Result<(), Failure> {
    let wanted = config::Mqtt {
        url: broker.url.clone(),
        allow_plaintext: broker.allow_plaintext,
        // The password is not asked for, so that any folder will do for a state directory.
        username: None,
        ca: ca.map(Path::to_owned),
        cert: None,
        key: None,
        prefix: "familiar".to_owned(),
        discovery_prefix: String::new(),
    };
    let state = StateDirectory::at(PathBuf::from("/"))?;
    mqtt::Broker::new(&wanted, &state).map(drop).map_err(Failure::from)
}

/// Checks all, writes all, and says what was written.
pub fn write(
    place: &Place,
    answers: &Answers,
    password: Option<&Zeroizing<String>>,
) -> Result<Vec<String>, Failure> {
    let mut authority = None;
    if let Some(broker) = &answers.broker {
        usable(broker, broker.ca.as_deref())?;
        authority = broker.ca.as_deref().map(|ca| place.authority(ca)).transpose()?;
    }
    let ca = authority.as_ref().map(|authority| authority.path.as_path());
    let (text, _) = answers.parsed(&place.configuration, ca)?;
    let store = password.map(|_| Store::of(place)).transpose()?;

    let mut said = Vec::new();
    let folder = place.on_disk(place.folder());
    std::fs::create_dir_all(&folder).map_err(|error| failed(&folder, &error))?;
    place.make_state()?;
    if let Some(link) = place.share_anchors()? {
        said.push(format!("{}: the models that this system trusts", link.display()));
    }
    if let Some(Authority { path, copied_from: Some(from) }) = &authority {
        let bytes = bounded::read(from, CERTIFICATES).map_err(|error| failed(from, &error))?;
        replace(&place.on_disk(path), &bytes, 0o644)?;
        said.push(format!("{}: copied from {}", place.on_disk(path).display(), from.display()));
    }
    if let (Some(password), Some(store)) = (password, store) {
        store.write(place, password, &mut said)?;
    }
    let path = place.configuration();
    if let Some(kept) = keep(&path)? {
        said.push(format!(
            "{}: what was there before; settings that were not asked for are in it alone",
            kept.display()
        ));
    }
    replace(&path, text.as_bytes(), 0o644)?;
    said.push(format!("{}: written", path.display()));
    Ok(said)
}

/// Where the password is kept.
enum Store {
    /// For systemd, which hands it to the unit; beside the configuration, for root alone.
    Credential { path: PathBuf, drop_in: Option<PathBuf>, unit: String },
    /// For a daemon without a unit of ours.
    State(PathBuf, Option<Owner>),
}

/// User and group that a file is given to.
#[derive(Debug, Clone, Copy)]
struct Owner(u32, u32);

/// To whom root gives what it writes into the state directory: the daemon runs as that directory's owner. `None` where this is
/// not root, or root named a directory that is still to be made. The usual one is not made: it would be root's, and the daemon
/// could not enter it.
fn state_owner(folder: &Path) -> Result<Option<Owner>, Failure> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    match std::fs::metadata(folder) {
        Ok(data) => Ok(Some(Owner(data.uid(), data.gid()))),
        Err(_) if std::env::var_os("STATE_DIRECTORY").is_some_and(|value| !value.is_empty()) => {
            Ok(None)
        }
        Err(error) => Err(Failure::usage(format!(
            "state directory {}: {error}; the password goes there, for the user that runs the daemon. Make it for that user \
             (install -d -m 0700 -o USER {0}), or set STATE_DIRECTORY; nothing was changed",
            folder.display()
        ))),
    }
}

impl Store {
    fn of(place: &Place) -> Result<Self, Failure> {
        let Some(name) = &place.unit else {
            let folder = StateDirectory::locate();
            let owner = state_owner(&folder)?;
            return Ok(Self::State(folder, owner));
        };
        let path = place.folder().join(PASSWORD);
        let drop_in = Path::new("/etc/systemd/system").join(format!("{name}.d")).join(DROP_IN);
        let unit =
            if place.is_this_system() { Unit::find(name) } else { Unit::below(&place.root, name) };
        let held =
            unit.iter().flat_map(Unit::credentials).find(|credential| credential.id == PASSWORD);
        match held.map(|credential| credential.source) {
            None => Ok(Self::Credential { path, drop_in: Some(drop_in), unit: name.clone() }),
            Some(Source::File(held)) if held == path => {
                Ok(Self::Credential { path, drop_in: None, unit: name.clone() })
            }
            Some(other) => {
                let from = match other {
                    Source::File(held) | Source::Encrypted(held) => {
                        format!("from {}", held.display())
                    }
                    Source::Other => "in another way".to_owned(),
                };
                Err(Failure::usage(format!(
                    "{name} gets its {PASSWORD} {from} already (`systemctl cat {name}`): change it there, or take that line away; \
                     nothing was changed"
                )))
            }
        }
    }

    fn write(self, place: &Place, password: &str, said: &mut Vec<String>) -> Result<(), Failure> {
        match self {
            Self::State(folder, owner) => {
                let path = match owner {
                    Some(_) => folder.join(PASSWORD),
                    None => StateDirectory::at(folder)?.file(PASSWORD),
                };
                replace_for(&path, password.as_bytes(), 0o600, owner)?;
                said.push(format!("{}: the password, for its owner alone", path.display()));
            }
            Self::Credential { path, drop_in, unit } => {
                let path_on_disk = place.on_disk(&path);
                replace(&path_on_disk, password.as_bytes(), 0o600)?;
                said.push(format!("{}: the password, for root alone", path_on_disk.display()));
                let Some(drop_in) = drop_in else { return Ok(()) };
                let drop_in = place.on_disk(&drop_in);
                if let Some(folder) = drop_in.parent() {
                    std::fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
                }
                let text = format!(
                    "# Written by `familiar setup`: {unit} gets the broker's password, and nobody else.\n\
                     [Service]\nLoadCredential={PASSWORD}:{}\n",
                    path.display()
                );
                replace(&drop_in, text.as_bytes(), 0o644)?;
                said.push(format!("{}: hands it to {unit}", drop_in.display()));
                if place.is_this_system() {
                    reload(said);
                }
            }
        }
        Ok(())
    }
}

/// Makes systemd read the drop-in, where it runs.
fn reload(said: &mut Vec<String>) {
    if !Path::new("/run/systemd/system").is_dir() {
        return;
    }
    let done = Command::new("systemctl").arg("daemon-reload").stdin(Stdio::null()).status();
    if !done.is_ok_and(|status| status.success()) {
        said.push("systemd could not be made to read it: sudo systemctl daemon-reload".to_owned());
    }
}

/// Keeps a copy of a file under the first free name: `.bak`, `.bak.2`, ….
fn keep(path: &Path) -> Result<Option<PathBuf>, Failure> {
    if !path.exists() {
        return Ok(None);
    }
    let name = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(if number == 1 { ".bak".to_owned() } else { format!(".bak.{number}") });
        PathBuf::from(name)
    };
    for number in 1..1000 {
        let kept = name(number);
        // Fails where the name is taken.
        match std::fs::hard_link(path, &kept) {
            Ok(()) => return Ok(Some(kept)),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(&kept, &error)),
        }
    }
    Err(Failure::failed(format!("{}: too many copies are kept beside it", path.display())))
}

/// Puts a file there whole or not at all, durably.
fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    replace_for(path, bytes, mode, None)
}

/// As [`replace`], and gives the file away before it holds anything.
fn replace_for(path: &Path, bytes: &[u8], mode: u32, owner: Option<Owner>) -> Result<(), Failure> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{:016x}", fastrand::u64(..)));
    let temporary = PathBuf::from(temporary);
    let write = || -> std::io::Result<()> {
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        if let Some(Owner(user, group)) = owner {
            fchown(&file, Some(user), Some(group))?;
        }
        file.write_all(bytes)?;
        // Whatever umask is in force: the daemon's user must be able to read what is no secret.
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        std::fs::File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
    };
    write().map_err(|error| {
        let _ = std::fs::remove_file(&temporary);
        failed(path, &error)
    })
}

fn failed(path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format!("{}: {error}", path.display()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_copy_is_kept_under_a_name_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("familiar.toml");
        assert_eq!(keep(&path).unwrap(), None);
        for text in ["one", "two", "three"] {
            replace(&path, text.as_bytes(), 0o644).unwrap();
            keep(&path).unwrap();
        }
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(read("familiar.toml.bak"), "one");
        assert_eq!(read("familiar.toml.bak.2"), "two");
        assert_eq!(read("familiar.toml.bak.3"), "three");
    }

    #[test]
    fn configuration_of_the_package_is_replaced_without_asking() {
        let parsed = load::parse(Path::new("familiar.toml"), SHIPPED).unwrap();
        let before = |config, exists| Before { config, exists }.is_replaceable();
        assert!(before(Some(parsed.clone()), true) && before(None, false));
        // One that cannot be read may hold anything.
        assert!(!before(None, true));
        let mut mine = parsed;
        mine.events.unknown = true;
        assert!(!before(Some(mine), true));
    }
}
