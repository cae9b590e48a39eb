//! `familiar setup`: from a few answers to a configuration that works.

mod answers;
mod files;
mod questions;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use zeroize::Zeroizing;

use super::{Failure, Global};
use crate::config::{CameraSource, Config, DeviceName};
use crate::system::secret;
use crate::system::terminal::Terminal;
use answers::{Answers, Broker};
use files::Place;

/// Write the configuration from a few answers, and try it
///
/// On a terminal it asks for what the options leave open; elsewhere it takes the options alone. The broker's password is
/// stored so that systemd hands it to the daemon, and to nobody else.
///
/// Nothing is written before all of it is valid. A configuration that is there already is replaced only if you agree
/// (or by --replace), and kept as familiar.toml.bak. Then `familiar check` tries it. Nothing is started or enabled.
///
/// Ends with the exit code of `check`; what was written stays.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  familiar setup\n  familiar setup --device porch --broker mqtts://broker.local:8883 --ca ca.pem \
                  --username porch --password-file password.txt"
)]
#[allow(clippy::struct_excessive_bools)] // options that say nothing about each other
pub struct Args {
    /// Name of this device in topics and events: 1 to 64 of a-z, 0-9, _ and -
    #[arg(long, value_name = "NAME", value_parser = device_name)]
    device: Option<DeviceName>,
    /// Camera: a device such as /dev/video0, or replay:DIR [default without a terminal: /dev/video0]
    #[arg(long, value_name = "SOURCE", value_parser = answers::camera)]
    camera: Option<String>,
    #[allow(rustdoc::broken_intra_doc_links)] // the comment is the text of --help: [:PORT] is no link
    /// Broker: mqtts://HOST[:PORT] or mqtt://HOST[:PORT] [default without a terminal: none, events stay on this device]
    #[arg(long, value_name = "URL", value_parser = answers::url)]
    broker: Option<String>,
    /// Events stay on this device: do not ask for a broker
    #[arg(long, conflicts_with = "broker")]
    no_broker: bool,
    /// Let mqtt:// leave this machine: whoever listens in the network can read the password and who comes and goes
    #[arg(long, requires = "broker")]
    allow_plaintext: bool,
    /// PEM file with the certificates that may sign the broker's [default: those that this system trusts]
    #[arg(long, value_name = "FILE", requires = "broker")]
    ca: Option<PathBuf>,
    /// User name at the broker
    #[arg(long, value_name = "NAME", requires = "broker")]
    username: Option<String>,
    /// File with the password of that user; - reads it from stdin
    #[arg(long, value_name = "FILE", requires = "username")]
    password_file: Option<PathBuf>,
    /// Also send an event when somebody comes who is not enrolled
    #[arg(long)]
    unknown: bool,
    /// Replace a configuration that is there already; it is kept as familiar.toml.bak
    #[arg(long)]
    replace: bool,
    /// Do not run `familiar check` afterwards
    #[arg(long)]
    no_check: bool,
    /// Set up the system whose root directory this is, such as a mounted card or an image; `check` is not run
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    root: Option<PathBuf>,
    /// Set up the unit familiar@NAME, for a second camera: /etc/familiar/NAME/familiar.toml
    #[arg(long, value_name = "NAME", value_parser = device_name, conflicts_with = "config")]
    instance: Option<DeviceName>,
}

pub fn run(global: &Global, args: Args) -> Result<(), Failure> {
    let instance = args.instance.as_ref().map(|name| format!("/etc/familiar/{name}/familiar.toml"));
    let configuration = instance.as_deref().map(Path::new).or(global.config.as_deref());
    let place = Place::new(configuration, args.root.as_deref())?;
    // A password may come by stdin: then nobody can be asked there.
    let terminal =
        if args.password_file.as_deref() == Some(Path::new("-")) { None } else { Terminal::open() };
    let before = place.before()?;
    let replace = args.replace || before.is_replaceable();
    if !replace {
        let path = place.configuration().display().to_string();
        let Some(terminal) = terminal else {
            return Err(Failure::usage(format!(
                "{path} is there already; --replace replaces it and keeps it as familiar.toml.bak"
            )));
        };
        let question =
            format!("{path} is there already. Replace it? It is kept as familiar.toml.bak");
        if !terminal.agrees(&question).map_err(unanswered)? {
            return Err(Failure::usage("nothing was changed"));
        }
    }
    let (answers, password) = match terminal {
        Some(terminal) => questions::ask(terminal, args.taken(), &before).map_err(unanswered)?,
        None => args.without_terminal()?,
    };
    let written = files::write(&place, &answers, password.as_ref())?;
    for line in &written {
        eprintln!("{line}");
    }
    let checked = if args.no_check || args.root.is_some() { Ok(()) } else { check(&place) };
    eprintln!("\n{}", left(&place, &answers, args.root.is_some() || args.no_check));
    checked
}

fn device_name(text: &str) -> Result<DeviceName, String> {
    DeviceName::try_from(text.to_owned())
}

fn unanswered(error: std::io::Error) -> Failure {
    Failure::usage(format!("nothing was changed: {error}"))
}

/// What the options say, and what they leave open.
struct Taken {
    device: Option<DeviceName>,
    camera: Option<String>,
    /// `Some(None)`: none is wanted.
    #[allow(clippy::option_option)]
    broker: Option<Option<String>>,
    allow_plaintext: bool,
    ca: Option<PathBuf>,
    username: Option<String>,
    password: Option<PathBuf>,
    unknown: bool,
}

impl Args {
    fn taken(&self) -> Taken {
        Taken {
            device: self.device.clone(),
            camera: self.camera.clone(),
            broker: if self.no_broker { Some(None) } else { self.broker.clone().map(Some) },
            allow_plaintext: self.allow_plaintext,
            ca: self.ca.clone(),
            username: self.username.clone(),
            password: self.password_file.clone(),
            unknown: self.unknown,
        }
    }

    fn without_terminal(&self) -> Result<(Answers, Option<Zeroizing<String>>), Failure> {
        let taken = self.taken();
        let device = taken.device.ok_or_else(|| {
            Failure::usage("which device? There is no terminal to ask on: --device NAME (and --broker URL, --username NAME, --password-file FILE)")
        })?;
        let password = match (&taken.username, &taken.password) {
            (Some(name), None) => {
                return Err(Failure::usage(format!(
                    "the password of {name:?}? There is no terminal to ask on: --password-file FILE"
                )));
            }
            (_, Some(file)) => Some(read_password(file)?),
            (None, None) => None,
        };
        let broker = taken.broker.flatten().map(|url| Broker {
            url,
            allow_plaintext: taken.allow_plaintext,
            ca: taken.ca,
            username: taken.username,
        });
        let camera = taken.camera.unwrap_or_else(|| answers::CAMERA.to_owned());
        Ok((Answers { device, camera, broker, unknown: taken.unknown }, password))
    }
}

/// The first line of a file, or of stdin.
fn read_password(file: &Path) -> Result<Zeroizing<String>, Failure> {
    let bytes = if file == Path::new("-") {
        let mut line = Zeroizing::new(String::with_capacity(4096));
        std::io::stdin().read_line(&mut line).map_err(Failure::failed)?;
        line
    } else {
        let wrong =
            |what: &str| Failure::usage(format!("password file {}: {what}", file.display()));
        let bytes = secret::read_file(file, 0)
            .map_err(Failure::from)?
            .ok_or_else(|| wrong("is not there"))?;
        let text = std::str::from_utf8(&bytes).map_err(|_| wrong("is not UTF-8 text"))?;
        Zeroizing::new(text.lines().next().unwrap_or_default().to_owned())
    };
    let password = Zeroizing::new(bytes.trim_end_matches(['\r', '\n']).to_owned());
    if password.is_empty() {
        return Err(Failure::usage(format!(
            "password file {}: its first line is empty",
            file.display()
        )));
    }
    Ok(password)
}

/// Tries it, by the same program in a process of its own: it may have to take the daemon's place.
fn check(place: &Place) -> Result<(), Failure> {
    eprintln!("\n$ familiar check");
    let mut command = Command::new(std::env::current_exe().map_err(Failure::failed)?);
    command.arg("check").stdin(Stdio::null());
    if let Some(path) = place.own_configuration() {
        command.arg("--config").arg(path);
    }
    let status = command
        .status()
        .map_err(|error| Failure::failed(format!("cannot run familiar check: {error}")))?;
    let why = "the configuration is written, and `familiar check` found what is said above";
    match status.code() {
        Some(0) => Ok(()),
        Some(2) => Err(Failure::usage(why)),
        Some(3) => Err(Failure::refused(why)),
        Some(4) => Err(Failure::Camera(why.to_owned())),
        Some(5) => Err(Failure::Network(why.to_owned())),
        _ => Err(Failure::failed(why)),
    }
}

/// What is left to do, with the commands for it.
fn left(place: &Place, answers: &Answers, unchecked: bool) -> String {
    let own = place.own_configuration();
    let option = own.map(|path| format!(" --config {}", path.display())).unwrap_or_default();
    let state = place.state().filter(|_| own.is_some());
    let state =
        state.map(|path| format!("STATE_DIRECTORY={} ", path.display())).unwrap_or_default();
    let sudo = if place.unit().is_some() { "sudo " } else { "" };
    let mut steps = Vec::new();
    if unchecked {
        steps.push(format!("{sudo}familiar check{option}"));
    }
    steps.push(
        "# each person who has agreed, from the camera; or from pictures: NAME PHOTO…".to_owned(),
    );
    steps.push(format!("{sudo}{state}familiar enroll{option} NAME --live"));
    match place.unit() {
        Some(unit) => {
            let unit = unit.strip_suffix(".service").unwrap_or(unit);
            steps.push("# from now on it watches, and after each start of the system".to_owned());
            steps.push(format!("sudo systemctl enable --now {unit}"));
        }
        None => steps.push(format!("familiar run{option}")),
    }
    if answers.broker.is_none() {
        steps.push("# no broker is named: events stay on this device".to_owned());
    }
    format!("What is left to do:\n  {}", steps.join("\n  "))
}

/// What is kept of the configuration before, as suggestions.
struct Before {
    /// `None`: there is none, or it cannot be read by this version.
    config: Option<Config>,
    exists: bool,
}

impl Before {
    /// Nothing of anybody's is lost: it is as the package brought it, or not there.
    fn is_replaceable(&self) -> bool {
        let shipped = crate::config::load::parse(Path::new("familiar.toml"), files::SHIPPED).ok();
        !self.exists || (self.config.is_some() && self.config == shipped)
    }

    fn camera(&self) -> Option<String> {
        if self.is_replaceable() {
            return None;
        }
        Some(match &self.config.as_ref()?.camera.source {
            CameraSource::Device(path) => path.display().to_string(),
            CameraSource::Replay(path) => format!("replay:{}", path.display()),
        })
    }
}
