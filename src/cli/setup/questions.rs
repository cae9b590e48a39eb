//! The questions, one after the other, for what the options leave open.

use std::io;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::answers::{self, Answers, Broker};
use super::{Before, Taken, read_password};
use crate::camera;
use crate::config::DeviceName;
use crate::system::terminal::Terminal;

/// A question that was answered wrongly is asked again; end of input ends it all.
pub fn ask(
    terminal: Terminal,
    taken: Taken,
    before: &Before,
) -> io::Result<(Answers, Option<Zeroizing<String>>)> {
    eprintln!(
        "An empty answer takes what stands in brackets. Ctrl-C ends this, and nothing is changed.\n"
    );
    let device = match taken.device.clone() {
        Some(device) => device,
        None => device(terminal, before)?,
    };
    let camera = match taken.camera.clone() {
        Some(camera) => camera,
        None => camera_source(terminal, before)?,
    };
    let url = match &taken.broker {
        Some(url) => url.clone(),
        None => broker_url(terminal, before)?,
    };
    let (broker, password) = match url {
        None => (None, None),
        Some(url) => broker(terminal, url, &taken)?,
    };
    Ok((Answers { device, camera, broker, unknown: taken.unknown }, password))
}

fn device(terminal: Terminal, before: &Before) -> io::Result<DeviceName> {
    let known = before
        .config
        .as_ref()
        .filter(|_| !before.is_replaceable())
        .map(|config| config.device.to_string());
    let name = known.unwrap_or_else(|| suggested_name(&hostname()));
    loop {
        match DeviceName::try_from(
            terminal.ask(
                "Name of this device, as it stands in topics and events (a-z 0-9 _ -)",
                &name,
            )?,
        ) {
            Ok(device) => return Ok(device),
            Err(why) => eprintln!("  {why}"),
        }
    }
}

fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// A host's name as a device's.
fn suggested_name(host: &str) -> String {
    let first = host.split('.').next().unwrap_or_default().to_lowercase();
    let name: String = first
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' })
        .take(64)
        .collect();
    let name = name.trim_matches('-');
    if name.is_empty() || name == "localhost" { "camera".to_owned() } else { name.to_owned() }
}

fn camera_source(terminal: Terminal, before: &Before) -> io::Result<String> {
    let found = camera::cameras();
    let first = found
        .first()
        .map_or(answers::CAMERA.to_owned(), |camera| camera.path.display().to_string());
    if found.is_empty() {
        eprintln!(
            "No camera was found among /dev/video*: plug it in now, or name where it will be."
        );
    } else {
        eprintln!("Cameras:");
        for (number, camera) in found.iter().enumerate() {
            eprintln!("  {}  {}  {}", number + 1, camera.path.display(), camera.about);
        }
    }
    let default = before.camera().unwrap_or(first);
    let question = if found.is_empty() { "Camera" } else { "Camera (its number, or a path)" };
    loop {
        let answer = terminal.ask(question, &default)?;
        match answer.parse::<usize>() {
            Err(_) => match answers::camera(&answer) {
                Ok(source) => return Ok(source),
                Err(why) => eprintln!("  {why}"),
            },
            Ok(number) => match number.checked_sub(1).and_then(|index| found.get(index)) {
                Some(camera) => return Ok(camera.path.display().to_string()),
                None => eprintln!("  there is no camera {number}"),
            },
        }
    }
}

fn broker_url(terminal: Terminal, before: &Before) -> io::Result<Option<String>> {
    let known =
        before.config.as_ref().and_then(|config| config.mqtt.as_ref()).map(|mqtt| mqtt.url.clone());
    let known = known.unwrap_or_default();
    loop {
        let question = "Broker, as mqtts://HOST:8883 (`none`: events stay on this device)";
        let answer = terminal.ask(question, &known)?;
        if answer.is_empty() || answer == "none" {
            return Ok(None);
        }
        match answers::url(&answer).and_then(|url| check_url(&url).map(|()| url)) {
            Ok(url) => return Ok(Some(url)),
            Err(why) => eprintln!("  {why}"),
        }
    }
}

/// Everything that can be said of a URL without asking anybody.
fn check_url(url: &str) -> Result<(), String> {
    let broker = Broker { url: url.to_owned(), allow_plaintext: true, ca: None, username: None };
    super::files::usable(&broker, None).map_err(|failure| failure.to_string())
}

fn broker(
    terminal: Terminal,
    url: String,
    taken: &Taken,
) -> io::Result<(Option<Broker>, Option<Zeroizing<String>>)> {
    let mut broker = Broker {
        url,
        allow_plaintext: taken.allow_plaintext,
        ca: taken.ca.clone(),
        username: taken.username.clone(),
    };
    let encrypted = broker.url.starts_with("mqtts://");
    if !encrypted && !broker.allow_plaintext && super::files::usable(&broker, None).is_err() {
        let question = "Without TLS whoever listens in the network reads the password and who comes and goes. Go on";
        broker.allow_plaintext = terminal.agrees(question)?;
        if !broker.allow_plaintext {
            return Err(io::Error::other("name the broker as mqtts://HOST:8883"));
        }
    }
    if encrypted && broker.ca.is_none() {
        broker.ca = authority(terminal, &broker)?;
    }
    if broker.username.is_none() {
        let name = terminal.ask("User name at the broker (empty: none)", "")?;
        broker.username = (!name.is_empty()).then_some(name);
    }
    let password = match (&broker.username, &taken.password) {
        (None, _) => None,
        (Some(_), Some(file)) => {
            Some(read_password(file).map_err(|failure| io::Error::other(failure.to_string()))?)
        }
        (Some(name), None) => Some(password(terminal, name)?),
    };
    Ok((Some(broker), password))
}

fn authority(terminal: Terminal, broker: &Broker) -> io::Result<Option<PathBuf>> {
    loop {
        let question = "PEM file with the certificate that signed the broker's (empty: those that this system trusts)";
        let answer = terminal.ask(question, "")?;
        if answer.is_empty() {
            return Ok(None);
        }
        match super::files::usable(broker, Some(Path::new(&answer))) {
            Ok(()) => return Ok(Some(answer.into())),
            Err(failure) => eprintln!("  {failure}"),
        }
    }
}

fn password(terminal: Terminal, name: &str) -> io::Result<Zeroizing<String>> {
    loop {
        let password = terminal.ask_hidden(&format!("Password of {name}"))?;
        if !password.is_empty() {
            return Ok(password);
        }
        eprintln!("  a user has a password");
    }
}

#[cfg(test)]
mod tests {
    use super::suggested_name;

    #[test]
    fn host_name_makes_a_device_name() {
        for (host, name) in [
            ("porch.local", "porch"),
            ("Front Door", "front-door"),
            ("-x-", "x"),
            ("", "camera"),
            ("localhost", "camera"),
            ("größe", "gr--e"),
        ] {
            assert_eq!(suggested_name(host), name, "{host}");
        }
    }
}
