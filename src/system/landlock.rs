//! A layer of the daemon's own, which also holds where no service manager confines it: after this, the process reads what it needs,
//! writes its state and its camera, starts no program, listens nowhere and connects to the configured ports alone (Landlock,
//! landlock(7)). What it was given up cannot be had again.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, LandlockStatus, NetPort,
    RestrictionStatus, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus,
    path_beneath_rules,
};

use super::state::StateDirectory;
use crate::config::{CameraSource, Located};

/// Up to device ioctls (Linux 6.10); an older kernel enforces what it knows.
const KNOWN: ABI = ABI::V5;
/// The C library and its resolver, certificates, time zones. `/etc` as a whole: `resolv.conf` and its like are replaced by new files,
/// which a rule for the old one would not cover.
const SYSTEM: [&str; 9] = [
    "/etc",
    "/usr",
    "/lib",
    "/lib64",
    "/nix/store",
    "/gnu/store",
    "/var/lib/ca-certificates",
    "/proc",
    "/sys",
];
/// Where `/etc/resolv.conf` may lead.
const RESOLVERS: [&str; 4] =
    ["/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager", "/run/connman"];
const DNS: u16 = 53;

/// What the process has been left with.
#[derive(Debug)]
pub struct Layer {
    pub state: Enforcement,
    needs: Needs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enforcement {
    /// With `network`, TCP as well as files.
    Full { network: bool },
    /// An older kernel: files, but not all that is done to them, or not TCP.
    Part,
    /// Nothing is enforced: the kernel has no Landlock that serves (before 5.19), it is off, or its system calls are forbidden.
    None,
}

impl std::fmt::Display for Enforcement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Full { network: true } => "files, programs and TCP ports",
            Self::Full { network: false } => {
                "files and programs; TCP ports not, for a proxy is set"
            }
            Self::Part => "files and programs, as far as this kernel knows them",
            Self::None => {
                "nothing: this kernel has no Landlock (Linux 5.19), or has it switched off, or a filter of system calls forbids it"
            }
        })
    }
}

/// Confines the calling thread and those that it starts from now on; so it comes before any of them. It never fails: a kernel
/// without Landlock enforces nothing, and the answer says so.
pub fn confine(located: &Located, state: &StateDirectory) -> Layer {
    let needs = Needs::of(located);
    let state = match restrict(&needs, state.path()) {
        Ok(status) => enforcement(&status, needs.ports.is_some()),
        Err(error) => {
            log::debug!("no Landlock: {error}");
            Enforcement::None
        }
    };
    Layer { state, needs }
}

impl Layer {
    /// What another configuration asks for that this process has given up.
    pub fn lacks(&self, located: &Located) -> Option<String> {
        if self.state == Enforcement::None {
            return None;
        }
        let wanted = Needs::of(located);
        let outside = wanted.read.iter().find(|path| {
            path.exists() && !self.needs.read.iter().any(|root| path.starts_with(root))
        });
        if let Some(path) = outside {
            return Some(format!("reading {}", path.display()));
        }
        if !matches!(self.state, Enforcement::Full { network: true }) {
            return None;
        }
        let ports = self.needs.ports.as_ref()?;
        let port =
            wanted.ports.unwrap_or_default().into_iter().find(|port| !ports.contains(port))?;
        Some(format!("TCP port {port}"))
    }
}

fn restrict(needs: &Needs, state: &Path) -> Result<RestrictionStatus, RulesetError> {
    let all = AccessFs::from_all(KNOWN);
    let device = AccessFs::ReadFile
        | AccessFs::ReadDir
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::IoctlDev;
    // Without `Refer` (Linux 5.19) no file could be renamed from one folder to another, as an update must.
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::Refer)?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)?
        .handle_access(AccessNet::BindTcp)?;
    if needs.ports.is_some() {
        ruleset = ruleset.handle_access(AccessNet::ConnectTcp)?;
    }
    let mut created = ruleset
        .create()?
        .add_rules(path_beneath_rules(&needs.read, AccessFs::ReadFile | AccessFs::ReadDir))?
        .add_rules(path_beneath_rules([state], all & !AccessFs::Execute))?
        // Which camera comes, and when, is not known; which devices may be opened is the unit's and the file modes' to say.
        .add_rules(path_beneath_rules(["/dev"], device))?;
    for port in needs.ports.iter().flatten() {
        created = created.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
    }
    created.restrict_self()
}

fn enforcement(status: &RestrictionStatus, ports: bool) -> Enforcement {
    let LandlockStatus::Available { .. } = status.landlock else { return Enforcement::None };
    match status.ruleset {
        RulesetStatus::FullyEnforced => Enforcement::Full { network: ports },
        RulesetStatus::PartiallyEnforced => Enforcement::Part,
        RulesetStatus::NotEnforced => Enforcement::None,
    }
}

/// What a configuration asks of the system, besides state and camera.
#[derive(Debug)]
struct Needs {
    /// Folders, and files alone where their folder is the root; without links.
    read: BTreeSet<PathBuf>,
    /// `None`: a proxy may be anywhere.
    ports: Option<BTreeSet<u16>>,
}

impl Needs {
    fn of(located: &Located) -> Self {
        let config = &located.config;
        let mut wanted: Vec<PathBuf> = SYSTEM.iter().chain(&RESOLVERS).map(PathBuf::from).collect();
        let variables = ["CREDENTIALS_DIRECTORY", "SSL_CERT_FILE", "SSL_CERT_DIR"];
        wanted.extend(variables.iter().filter_map(std::env::var_os).map(PathBuf::from));
        // For the names in a backtrace.
        wanted.extend(std::env::current_exe());

        // The configuration may be a link; so may its neighbours.
        wanted.push(located.directory().to_owned());
        let trust = located.directory().join("trust.d");
        for folder in [located.directory(), &trust] {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            let links = entries.filter(|it| it.file_type().is_ok_and(|kind| kind.is_symlink()));
            wanted.extend(links.filter_map(|it| folder_of(&it.path())));
        }
        wanted.extend(folder_of(&config.models.bundle));
        if let CameraSource::Replay(path) = &config.camera.source {
            wanted.push(path.clone());
            // A named pipe may be made anew.
            wanted.extend(folder_of(path).filter(|_| !path.is_dir()));
        }
        if let Some(mqtt) = &config.mqtt {
            let files = [&mqtt.ca, &mqtt.cert, &mqtt.key];
            wanted.extend(files.into_iter().flatten().filter_map(|file| folder_of(file)));
        }
        let authority = config.update.as_ref().and_then(|update| update.ca.as_ref());
        wanted.extend(authority.and_then(|file| folder_of(file)));
        let repository = config.update.as_ref().map(|update| update.repository.as_str());
        if let Some(path) = repository.map(|it| it.strip_prefix("file://").unwrap_or(it))
            && path.starts_with('/')
        {
            wanted.push(PathBuf::from(path));
        }
        let read = wanted.into_iter().map(|path| path.canonicalize().unwrap_or(path)).collect();
        Self { read, ports: ports(located) }
    }
}

/// The folder that a file lies in, where its links lead; the path itself if that folder is the root.
fn folder_of(path: &Path) -> Option<PathBuf> {
    let real = path.canonicalize().ok()?;
    match real.parent() {
        Some(parent) if parent.parent().is_some() => Some(parent.to_owned()),
        _ => Some(real),
    }
}

fn ports(located: &Located) -> Option<BTreeSet<u16>> {
    let proxies =
        ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"];
    if proxies.iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty())) {
        return None;
    }
    let config = &located.config;
    let broker =
        config.mqtt.as_ref().map(|mqtt| port(&mqtt.url, &[("mqtts", 8883), ("mqtt", 1883)]));
    let repository =
        config.update.as_ref().map(|it| port(&it.repository, &[("https", 443), ("http", 80)]));
    Some([broker, repository, Some(Some(DNS))].into_iter().flatten().flatten().collect())
}

/// The port of `SCHEME://HOST[:PORT][/PATH]`.
fn port(url: &str, schemes: &[(&str, u16)]) -> Option<u16> {
    let (scheme, rest) = url.split_once("://")?;
    let default = schemes.iter().find(|(name, _)| *name == scheme)?.1;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host_and_port = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    match host_and_port.rsplit_once(':') {
        // The colons within brackets belong to an address.
        Some((_, port)) if !port.contains(']') => port.parse().ok(),
        _ => Some(default),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs::Permissions;
    use std::io::ErrorKind::PermissionDenied;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    struct Site {
        folder: tempfile::TempDir,
        located: Located,
        state: StateDirectory,
    }

    impl Site {
        fn new(more: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("etc/familiar.toml");
            for name in ["etc/trust.d", "elsewhere", "bundles/facenet"] {
                std::fs::create_dir_all(folder.path().join(name)).unwrap();
            }
            std::fs::write(folder.path().join("elsewhere/secret"), "secret").unwrap();
            std::fs::write(folder.path().join("bundles/facenet/bundle.toml"), "bundle").unwrap();
            let bundle = folder.path().join("bundles/facenet");
            let text = format!("device = \"porch\"\n[models]\nbundle = {bundle:?}\n{more}");
            std::fs::write(&path, text).unwrap();
            let located = crate::config::find(Some(&path)).unwrap();
            let state = StateDirectory::at(folder.path().join("state")).unwrap();
            Self { folder, located, state }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        /// Runs `look` in a thread of its own, which alone is confined.
        fn confined<R: Send>(&self, look: impl FnOnce(&Layer) -> R + Send) -> R {
            std::thread::scope(|scope| {
                let thread = scope.spawn(|| {
                    let layer = confine(&self.located, &self.state);
                    assert!(layer.state != Enforcement::None, "this kernel has no Landlock");
                    look(&layer)
                });
                thread.join().unwrap()
            })
        }
    }

    fn refused<T>(outcome: std::io::Result<T>) -> bool {
        outcome.is_err_and(|error| error.kind() == PermissionDenied)
    }

    /// Holds STA-25, STA-26.
    #[test]
    #[ignore = "needs a kernel with Landlock: make test, or make test-landlock"]
    fn nothing_outside_is_read_written_or_run() {
        let site = Site::new("");
        site.confined(|_| {
            assert!(refused(std::fs::read(site.path("elsewhere/secret"))));
            assert!(refused(std::fs::read_dir(site.path("elsewhere"))));
            assert!(refused(std::fs::write(site.path("elsewhere/new"), "")));
            assert!(refused(std::fs::write(site.path("etc/familiar.toml"), "")));
            assert!(refused(std::fs::write(site.path("bundles/facenet/bundle.toml"), "")));
            assert!(refused(std::process::Command::new("/bin/true").status()));
            let program = site.path("state/program");
            std::fs::write(&program, "#!/bin/sh\n").unwrap();
            std::fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
            assert!(refused(std::process::Command::new(&program).status()));
        });
        assert_eq!(std::fs::read(site.path("elsewhere/secret")).unwrap(), b"secret");
    }

    /// Holds STA-25.
    #[test]
    #[ignore = "needs a kernel with Landlock: make test, or make test-landlock"]
    fn what_the_daemon_does_still_works() {
        let site = Site::new("");
        // Where the configuration is a link, and an anchor is one too.
        std::fs::rename(site.path("etc/familiar.toml"), site.path("elsewhere/familiar.toml"))
            .unwrap();
        let link = std::os::unix::fs::symlink::<PathBuf, PathBuf>;
        link(site.path("elsewhere/familiar.toml"), site.path("etc/familiar.toml")).unwrap();
        site.confined(|_| {
            std::fs::read(site.path("etc/familiar.toml")).unwrap();
            std::fs::read(site.path("bundles/facenet/bundle.toml")).unwrap();
            // What was not there before: a new certificate, another bundle beside the first.
            std::fs::read_dir(site.path("bundles")).unwrap();
            // An update: a folder filled and renamed into another.
            for name in ["state/a", "state/b"] {
                std::fs::create_dir(site.path(name)).unwrap();
            }
            std::fs::write(site.path("state/a/file"), "1").unwrap();
            std::fs::rename(site.path("state/a/file"), site.path("state/b/file")).unwrap();
            std::fs::remove_dir_all(site.path("state/b")).unwrap();
            std::fs::write("/dev/null", "").unwrap();
            std::fs::read("/proc/self/status").unwrap();
            std::fs::read("/proc/sys/kernel/random/boot_id").unwrap();
            assert!(std::thread::spawn(|| ()).join().is_ok());
        });
    }

    /// Holds STA-25.
    #[test]
    #[ignore = "needs a kernel with Landlock: make test, or make test-landlock"]
    fn what_the_configuration_names_elsewhere_is_read() {
        let mut site = Site::new("");
        let text = format!("repository = \"https://x\"\nca = {:?}", site.path("elsewhere/secret"));
        site.located.config.update = Some(toml::from_str(&text).unwrap());
        site.confined(|_| {
            assert_eq!(std::fs::read(site.path("elsewhere/secret")).unwrap(), b"secret");
        });
    }

    /// Holds STA-27.
    #[test]
    #[ignore = "needs a kernel with Landlock: make test, or make test-landlock"]
    fn no_port_but_the_configured() {
        let (open, closed) = (listener(), listener());
        let (broker, other) = (open.local_addr().unwrap(), closed.local_addr().unwrap());
        let site = Site::new(&format!("[mqtt]\nurl = \"mqtt://{broker}\"\n"));
        site.confined(|layer| {
            // Of Linux 6.7 and later, where no proxy is set.
            assert!(layer.state == Enforcement::Full { network: true }, "Landlock knows no ports");
            TcpStream::connect(broker).unwrap();
            assert!(refused(TcpStream::connect(other)));
            assert!(refused(TcpListener::bind("127.0.0.1:0")));
        });
        // Outside of that thread nothing has changed.
        TcpStream::connect(other).unwrap();
    }

    fn listener() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").unwrap()
    }

    /// Holds STA-28.
    #[test]
    #[ignore = "needs a kernel with Landlock: make test, or make test-landlock"]
    fn configuration_that_asks_for_more_is_told_apart() {
        let site = Site::new("[mqtt]\nurl = \"mqtt://localhost:1883\"\n");
        site.confined(|layer| {
            assert_eq!(layer.lacks(&site.located), None);
            let mut same = site.located.clone();
            same.config.models.bundle = site.path("bundles/another");
            assert_eq!(layer.lacks(&same), None);
            let mut wider = site.located.clone();
            wider.config.camera.source = CameraSource::Replay(site.path("elsewhere"));
            assert!(layer.lacks(&wider).unwrap().contains("elsewhere"));
            let mut port = site.located.clone();
            port.config.mqtt.as_mut().unwrap().url = "mqtts://localhost".to_owned();
            let network = layer.state == Enforcement::Full { network: true };
            assert_eq!(layer.lacks(&port), network.then(|| "TCP port 8883".to_owned()));
        });
    }

    #[test]
    fn ports_of_urls() {
        let mqtt = |url| port(url, &[("mqtts", 8883), ("mqtt", 1883)]);
        assert_eq!(mqtt("mqtts://broker.local"), Some(8883));
        assert_eq!(mqtt("mqtt://[::1]"), Some(1883));
        assert_eq!(mqtt("mqtt://[fd00::1]:1884/"), Some(1884));
        assert_eq!(mqtt("https://x"), None);
        assert_eq!(port("https://models.example.org:8443/a:b", &[("https", 443)]), Some(8443));
    }
}
