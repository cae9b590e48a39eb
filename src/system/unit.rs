//! A service's unit file with its drop-ins, as far as `check` and `setup` need it: credentials and sandbox.
//!
//! Read by `systemctl cat` where systemd answers, else from the folders in which units lie.

use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use crate::system::bounded;

/// Folders of unit files, the first hit wins.
const FOLDERS: [&str; 5] = [
    "etc/systemd/system",
    "run/systemd/system",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
];

/// Largest unit file that is read, in bytes; ours has under 6,000.
const LIMIT: u64 = 64 * 1024;

/// Settings that say how the daemon is started and watched over, and not what it may do. The commands themselves
/// (`ExecStart=`…) are left out by their own rule.
const OF_ITS_START: [&str; 26] = [
    "BusName",
    "FailureAction",
    "FileDescriptorStoreMax",
    "GuessMainPID",
    "NotifyAccess",
    "PIDFile",
    "RemainAfterExit",
    "Restart",
    "RestartForceExitStatus",
    "RestartMaxDelaySec",
    "RestartPreventExitStatus",
    "RestartSec",
    "RestartSteps",
    "Sockets",
    "StandardError",
    "StandardInput",
    "StandardOutput",
    "SuccessAction",
    "SuccessExitStatus",
    "TimeoutAbortSec",
    "TimeoutSec",
    "TimeoutStartSec",
    "TimeoutStopSec",
    "Type",
    "WatchdogSec",
    "WatchdogSignal",
];

/// The `[Service]` settings of a unit, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    name: String,
    settings: Vec<(String, String)>,
}

/// A secret that systemd hands to the service, and to nobody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    pub id: String,
    pub source: Source,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `LoadCredential=ID:PATH`
    File(PathBuf),
    /// `LoadCredentialEncrypted=ID:PATH`
    Encrypted(PathBuf),
    /// Written into the unit, or passed on from elsewhere: systemd alone can give it.
    Other,
}

/// The unit that runs the daemon with this configuration, if it lies where a unit of ours looks for it.
pub fn of_configuration(path: &Path) -> Option<String> {
    let rest = path.strip_prefix("/etc/familiar").ok()?;
    let mut parts = rest.iter().map(|part| part.to_str());
    match (parts.next()??, parts.next(), parts.next()) {
        ("familiar.toml", None, None) => Some("familiar.service".to_owned()),
        (instance, Some(Some("familiar.toml")), None) => {
            Some(format!("familiar@{instance}.service"))
        }
        _ => None,
    }
}

impl Unit {
    /// The unit of this name as systemd would run it; `None` if there is none.
    pub fn find(name: &str) -> Option<Self> {
        let text = cat(name).or_else(|| on_disk(name, Path::new("/")))?;
        Some(Self::parse(name, &text))
    }

    /// The same of a system that is not running, whose root is `root`.
    pub fn below(root: &Path, name: &str) -> Option<Self> {
        on_disk(name, root).map(|text| Self::parse(name, &text))
    }

    fn parse(name: &str, text: &str) -> Self {
        let mut settings = Vec::new();
        let mut service = false;
        // A line that ends in a backslash goes on in the next one, comments between them left out.
        let mut joined = String::new();
        for line in text.lines() {
            let line = line.trim();
            if line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(part) = line.strip_suffix('\\') {
                joined.push_str(part);
                joined.push(' ');
                continue;
            }
            joined.push_str(line);
            let line = std::mem::take(&mut joined);
            if let Some(section) = line.strip_prefix('[') {
                service = section.trim_end() == "Service]";
            } else if service && let Some((key, value)) = line.split_once('=') {
                let value = expand(value.trim(), name);
                settings.push((key.trim().to_owned(), value));
            }
        }
        Self { name: name.to_owned(), settings }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it hands to the service; an empty setting takes back those before it.
    pub fn credentials(&self) -> Vec<Credential> {
        let mut found: Vec<Credential> = Vec::new();
        for (key, value) in &self.settings {
            let (id, rest) = value.split_once(':').unwrap_or((value, ""));
            let source = match key.as_str() {
                "LoadCredential" => Source::File(stored(id, rest, "credstore")),
                "LoadCredentialEncrypted" => {
                    Source::Encrypted(stored(id, rest, "credstore.encrypted"))
                }
                "SetCredential" | "SetCredentialEncrypted" | "ImportCredential" => Source::Other,
                _ => continue,
            };
            if value.is_empty() {
                found.retain(|other| (other.source == Source::Other) != (source == Source::Other));
                continue;
            }
            found.retain(|other| other.id != id);
            found.push(Credential { id: id.to_owned(), source });
        }
        found
    }

    /// The settings that say as whom and in which sandbox the service runs, and what it is given: `KEY=VALUE` each,
    /// as `systemd-run --property` takes them.
    pub fn properties(&self) -> impl Iterator<Item = String> {
        let kept = self.settings.iter().filter(|(key, _)| {
            let command = key.starts_with("Exec");
            let path = ["ExecPaths", "ExecSearchPath"].contains(&key.as_str());
            (path || !command) && !OF_ITS_START.contains(&key.as_str())
        });
        kept.flat_map(|(key, value)| {
            // systemd-run knows `localhost` and its like only where they stand alone.
            let alone = key.starts_with("IPAddress") && !value.is_empty();
            let values =
                if alone { value.split_whitespace().collect() } else { vec![value.as_str()] };
            values.into_iter().map(move |value| format!("{key}={value}"))
        })
    }

    /// Where it keeps its state: the first of `StateDirectory=`; an empty setting takes back those before it.
    pub fn state_directory(&self) -> Option<PathBuf> {
        let mut names: Vec<&str> = Vec::new();
        for (_, value) in self.settings.iter().filter(|(key, _)| key == "StateDirectory") {
            if value.is_empty() {
                names.clear();
            }
            names.extend(value.split_whitespace());
        }
        // `NAME:LINK` makes a link, too.
        let name = Path::new(names.first()?.split(':').next()?);
        let plain = name.components().all(|part| matches!(part, Component::Normal(_)));
        plain.then(|| Path::new("/var/lib").join(name))
    }

    /// The program that it starts: the only one that its sandbox lets run.
    pub fn program(&self) -> Option<&str> {
        let (_, command) = self
            .settings
            .iter()
            .rev()
            .find(|(key, value)| key == "ExecStart" && !value.is_empty())?;
        command.trim_start_matches(['-', '@', ':', '+', '!']).split_whitespace().next()
    }
}

/// `%i` and what else our units use; others are left as they are.
fn expand(value: &str, unit: &str) -> String {
    let prefix = unit.strip_suffix(".service").unwrap_or(unit);
    let (before, instance) = prefix.split_once('@').unwrap_or((prefix, ""));
    value
        .replace("%i", instance)
        .replace("%I", instance)
        .replace("%p", before)
        .replace("%N", prefix)
        .replace("%n", unit)
}

/// An absolute path as it is; else a name in the stores that systemd searches, the first in which it is.
fn stored(id: &str, path: &str, store: &str) -> PathBuf {
    if path.starts_with('/') {
        return path.into();
    }
    let name = if path.is_empty() { id } else { path };
    let places = ["/etc", "/run", "/usr/lib"].map(|place| Path::new(place).join(store).join(name));
    let [first, ..] = &places;
    places.iter().find(|place| place.exists()).unwrap_or(first).clone()
}

fn cat(name: &str) -> Option<String> {
    let output = Command::new("systemctl")
        .args(["cat", "--no-pager", "--", name])
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then_some(text)
}

/// The unit file and its drop-ins, one after the other.
fn on_disk(name: &str, root: &Path) -> Option<String> {
    let template = name.split_once('@').map(|(before, _)| format!("{before}@.service"));
    let names: Vec<&str> = [Some(name), template.as_deref()].into_iter().flatten().collect();
    let read = |path: &Path| bounded::read_text(path, LIMIT).ok();
    let mut text = names
        .iter()
        .find_map(|name| FOLDERS.iter().find_map(|folder| read(&root.join(folder).join(name))))?;
    let mut more: Vec<PathBuf> = Vec::new();
    for folder in names.iter().flat_map(|name| {
        FOLDERS.iter().map(move |folder| root.join(folder).join(format!("{name}.d")))
    }) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let conf = path.extension().is_some_and(|extension| extension == "conf");
            if conf && more.iter().all(|other| other.file_name() != path.file_name()) {
                more.push(path);
            }
        }
    }
    more.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
    for path in more {
        text.push('\n');
        text.push_str(&read(&path).unwrap_or_default());
    }
    Some(text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SHIPPED: &str = include_str!("../../systemd/familiar.service");
    const TEMPLATE: &str = include_str!("../../systemd/familiar@.service");

    #[test]
    fn unit_is_found_by_where_the_configuration_lies() {
        let unit = |path: &str| of_configuration(Path::new(path));
        assert_eq!(unit("/etc/familiar/familiar.toml").as_deref(), Some("familiar.service"));
        assert_eq!(
            unit("/etc/familiar/garden/familiar.toml").as_deref(),
            Some("familiar@garden.service")
        );
        for other in [
            "familiar.toml",
            "/etc/familiar/a/b/familiar.toml",
            "/etc/familiar/my.toml",
            "/etc/familiar",
        ] {
            assert_eq!(unit(other), None, "{other}");
        }
    }

    /// Holds CHK-05.
    #[test]
    fn credentials_of_a_unit() {
        let found = |text: &str| Unit::parse("familiar.service", text).credentials();
        assert_eq!(found(SHIPPED), []); // commented out
        let more = "[Service]\nLoadCredential=mqtt-password:/etc/familiar/mqtt-password\n\
                    LoadCredentialEncrypted=gallery-key:/etc/credstore.encrypted/gallery-key\n\
                    SetCredential=device-key:text\n[Unit]\nLoadCredential=no:/service\n";
        let all = found(&format!("{SHIPPED}{more}"));
        let file = |path: &str| PathBuf::from(path);
        let expected = [
            ("mqtt-password", Source::File(file("/etc/familiar/mqtt-password"))),
            ("gallery-key", Source::Encrypted(file("/etc/credstore.encrypted/gallery-key"))),
            ("device-key", Source::Other),
        ];
        let expected = expected.map(|(id, source)| Credential { id: id.to_owned(), source });
        assert_eq!(all, expected);
        // Taken back, and given anew.
        let again =
            found(&format!("{more}[Service]\nLoadCredential=\nLoadCredential=mqtt-password\n"));
        assert_eq!(again.len(), 2);
        assert_eq!(again[1].source, Source::File(file("/etc/credstore/mqtt-password")));
    }

    #[test]
    fn sandbox_is_handed_on_whole_and_the_start_is_not() {
        for (name, text) in [("familiar.service", SHIPPED), ("familiar@garden.service", TEMPLATE)] {
            let unit = Unit::parse(name, text);
            assert_eq!(unit.program(), Some("/usr/bin/familiar"));
            let properties: Vec<String> = unit.properties().collect();
            let has = |wanted: &str| properties.iter().any(|property| property == wanted);
            for wanted in [
                "User=familiar",
                "NoNewPrivileges=yes",
                "CapabilityBoundingSet=",
                "SystemCallFilter=~@privileged @resources",
                "NoExecPaths=/",
                "ExecPaths=/usr/bin/familiar /usr/lib /lib -/lib64",
                "DeviceAllow=char-video4linux rw",
                "IPAddressAllow=localhost",
                "IPAddressAllow=10.0.0.0/8",
            ] {
                assert!(has(wanted), "{name}: {wanted}: {properties:?}");
            }
            for out in [
                "ExecStart=",
                "ExecReload=",
                "Type=",
                "Restart",
                "WatchdogSec=",
                "TimeoutStartSec=",
                "WantedBy=",
            ] {
                assert!(
                    !properties.iter().any(|property| property.starts_with(out)),
                    "{name}: {out}"
                );
            }
            assert!(
                !properties.iter().any(|property| property.trim_end_matches('%').contains('%')),
                "{name}: {properties:?}"
            );
        }
        let garden = Unit::parse("familiar@garden.service", TEMPLATE);
        assert!(garden.properties().any(|it| it == "StateDirectory=familiar-garden"));
        assert_eq!(garden.state_directory(), Some("/var/lib/familiar-garden".into()));
        let state = |more: &str| {
            Unit::parse("familiar.service", &format!("{SHIPPED}[Service]\n{more}"))
                .state_directory()
                .map(|path| path.display().to_string())
        };
        assert_eq!(state("").as_deref(), Some("/var/lib/familiar"));
        assert_eq!(state("StateDirectory=\nStateDirectory=a:b c\n").as_deref(), Some("/var/lib/a"));
        assert_eq!(state("StateDirectory=\n"), None);
        assert_eq!(state("StateDirectory=\nStateDirectory=../../etc\n"), None);
    }

    #[test]
    fn units_on_disk_with_their_drop_ins() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        assert_eq!(Unit::below(root, "familiar@garden.service"), None);
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("usr/lib/systemd/system/familiar@.service", TEMPLATE);
        write("usr/lib/systemd/system/familiar@.service.d/20.conf", "[Service]\nUser=vendor\n");
        write("etc/systemd/system/familiar@.service.d/20.conf", "[Service]\nUser=owner\n");
        write(
            "etc/systemd/system/familiar@garden.service.d/10.conf",
            "[Service]\n# why\nLoadCredential=a:\\\n/b\n",
        );
        let unit = Unit::below(root, "familiar@garden.service").unwrap();
        let users: Vec<String> = unit.properties().filter(|it| it.starts_with("User=")).collect();
        assert_eq!(users, ["User=familiar", "User=owner"]);
        assert_eq!(unit.credentials().len(), 1);
    }
}
