//! `familiar check` looks from where the daemon looks: with the credentials of its unit. systemd does not run here: what would be
//! run, and what becomes of its answer, is seen by programs that stand for `systemctl` and `systemd-run`.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::support::mosquitto::{Mosquitto, password};
use super::support::program::familiar;

/// A user who is neither root nor the one who runs the tests.
const OTHER: u32 = 64_123;
const SHIPPED: &str = include_str!("../../systemd/familiar.service");
/// Answers `cat UNIT` as systemd would.
const SYSTEMCTL: &str = "#!/bin/sh\n[ \"$1\" = cat ] || exit 1\ncat \"$HERE/unit\"\n";
/// Notes what it is asked for and does it, with the credential.
const SYSTEMD_RUN: &str = "#!/bin/sh\nfor word; do printf '%s\\n' \"$word\"; done >\"$HERE/asked\"\n\
                           echo \"$STATE_DIRECTORY\" >\"$HERE/state-seen\"\n\
                           while [ \"$1\" != -- ]; do shift; done\nshift\n\
                           CREDENTIALS_DIRECTORY=$HERE/credentials exec \"$@\"\n";
const NO_SYSTEMD: &str =
    "#!/bin/sh\necho 'System has not been booted with systemd as init system' >&2\nexit 1\n";

struct Home(tempfile::TempDir);

impl Home {
    fn new(broker: &Mosquitto, systemd_run: &str) -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        for folder in ["bin", "credentials", "state", "frames"] {
            fs::create_dir(home.path(folder)).unwrap();
        }
        image::RgbImage::from_pixel(64, 48, image::Rgb([90, 90, 90]))
            .save(home.path("frames/0.jpg"))
            .unwrap();
        home.private("state", 0o700);
        for secret in ["credentials/mqtt-password", "mqtt-password"] {
            fs::write(home.path(secret), "secret 1\n").unwrap();
            home.private(secret, 0o400);
        }
        for (name, text) in [("systemctl", SYSTEMCTL), ("systemd-run", systemd_run)] {
            fs::write(home.path("bin").join(name), text).unwrap();
            home.private(&format!("bin/{name}"), 0o755);
        }
        let configuration = format!(
            "device = \"porch\"\n[camera]\nsource = \"replay:{}\"\nspeed = \"max\"\n[mqtt]\nurl = \"mqtt://127.0.0.1:{}\"\nusername = \"porch\"\n",
            home.path("frames").display(),
            broker.port
        );
        fs::write(home.path("familiar.toml"), configuration).unwrap();
        let source = home.path("mqtt-password");
        let program = PathBuf::from(familiar());
        let unit = SHIPPED.replace("/usr/bin/familiar", program.to_str().unwrap());
        let drop_in = format!("[Service]\nLoadCredential=mqtt-password:{}\n", source.display());
        fs::write(home.path("unit"), format!("{unit}\n# a drop-in\n{drop_in}")).unwrap();
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn private(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn check(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        self.command_of(Path::new(&familiar()), arguments)
    }

    fn command_of(&self, program: &Path, arguments: &[&str]) -> Command {
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        let mut command = Command::new(program);
        command
            .args(["check", "--json", "--config"])
            .arg(self.path("familiar.toml"))
            .args(arguments)
            .env("PATH", path)
            .env("HERE", self.0.path())
            .env("STATE_DIRECTORY", self.path("state"))
            .env_remove("CREDENTIALS_DIRECTORY");
        command
    }
}

/// State and message of one line.
fn line(output: &Output, check: &str) -> (String, String) {
    let lines: Vec<serde_json::Value> =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    let found: Vec<_> = lines.iter().filter(|line| line["check"] == check).collect();
    let [line] = found[..] else { panic!("{check}: {lines:?}") };
    let text = |key: &str| line[key].as_str().unwrap().to_owned();
    (text("state"), text("message"))
}

fn broker(test: &str) -> Option<(Mosquitto, tempfile::TempDir)> {
    let folder = tempfile::tempdir().unwrap();
    let options = password(folder.path(), "porch", "secret 1")?;
    Some((Mosquitto::start(test, &options)?, folder))
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// What a user who may not read the credential is shown: the way, and no failure of what is right.
/// Holds CHK-06.
#[test]
fn user_who_may_not_read_the_credential_is_shown_the_way() {
    let Some((broker, _folder)) = broker("user_who_may_not_read_the_credential_is_shown_the_way")
    else {
        return;
    };
    for systemd_run in [SYSTEMD_RUN, NO_SYSTEMD] {
        let home = Home::new(&broker, systemd_run);
        let mut command = home.command(&["--unit", "familiar"]);
        if is_root() {
            // As another user, with a program that this one may run wherever the project lies.
            home.private("", 0o755);
            chown(home.path("state"), Some(OTHER), Some(OTHER)).unwrap();
            fs::copy(familiar(), home.path("familiar")).unwrap();
            command = home.command_of(&home.path("familiar"), &["--unit", "familiar"]);
            command.uid(OTHER).gid(OTHER);
        }
        let output = command.output().unwrap();
        let (state, said) = line(&output, "unit");
        assert!(state == "warn" && said.contains("sudo familiar check"), "{said}");
        let (state, said) = line(&output, "broker");
        assert!(state == "warn" && said.contains("not asked"), "{said}");
        assert!(!home.path("asked").exists(), "systemd-run was asked");
    }
}

/// Holds CHK-05.
#[test]
#[ignore = "reads a unit's credentials as root: make test runs it as root"]
fn password_of_the_unit_is_used_by_the_unit_itself() {
    let Some((broker, _folder)) = broker("password_of_the_unit_is_used_by_the_unit_itself") else {
        return;
    };
    assert!(is_root(), "only root is handed on to the unit");
    let home = Home::new(&broker, SYSTEMD_RUN);
    let output = home.check(&["--unit", "familiar"]);
    let (state, said) = line(&output, "unit");
    assert!(state == "ok" && said.contains("familiar.service (by systemd-run)"), "{said}");
    assert!(said.contains("mqtt-password"), "{said}");
    let (state, said) = line(&output, "broker");
    assert!(state == "ok" && said.contains("logged in"), "{said}");
    // There are no models: the exit code is that of the one that looked.
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let asked = fs::read_to_string(home.path("asked")).unwrap();
    let words: Vec<&str> = asked.lines().collect();
    let end = words.iter().position(|word| *word == "--").unwrap();
    let (options, command) = words.split_at(end);
    assert_eq!(options[..5], ["--quiet", "--pipe", "--wait", "--collect", "--service-type=exec"]);
    let properties: Vec<&str> = options[5..]
        .chunks(2)
        .map(|pair| {
            assert_eq!(pair[0], "--property");
            pair[1]
        })
        .collect();
    let source = format!("LoadCredential=mqtt-password:{}", home.path("mqtt-password").display());
    // Everything that the unit says of user, sandbox and credentials, and in its order.
    let section = SHIPPED.split("[Service]").nth(1).unwrap().split("[Install]").next().unwrap();
    let kept = section.lines().filter(|line| {
        let start = ["Exec", "Type=", "Restart", "Timeout", "Watchdog"]
            .iter()
            .any(|key| line.starts_with(key));
        line.contains('=') && !line.starts_with('#') && (!start || line.starts_with("ExecPaths="))
    });
    let mut expected: Vec<String> = kept
        .flat_map(|line| {
            let line = line.replace("/usr/bin/familiar", familiar().to_str().unwrap());
            match line.strip_prefix("IPAddressAllow=") {
                Some(all) => all.split(' ').map(|one| format!("IPAddressAllow={one}")).collect(),
                None => vec![line],
            }
        })
        .collect();
    expected.push(source);
    assert_eq!(properties, expected);
    assert_eq!(command[1], familiar().to_str().unwrap());
    assert_eq!(command[2..4], ["check", "--json"]);
    assert!(!command.contains(&"--unit") && command.contains(&"--within"), "{command:?}");
}

/// Holds CHK-05.
#[test]
#[ignore = "reads a unit's credentials as root: make test runs it as root"]
fn password_of_the_unit_is_read_where_systemd_does_not_run() {
    let Some((broker, _folder)) = broker("password_of_the_unit_is_read_where_systemd_does_not_run")
    else {
        return;
    };
    assert!(is_root(), "only root is handed on to the unit");
    let home = Home::new(&broker, NO_SYSTEMD);
    let output = home.check(&["--unit=familiar.service"]);
    let (state, said) = line(&output, "unit");
    assert!(state == "ok" && said.contains("read the credential mqtt-password as root"), "{said}");
    assert!(said.contains("not been booted"), "{said}");
    let (state, said) = line(&output, "broker");
    assert!(state == "ok" && said.contains("logged in"), "{said}");
    // Its copy is gone.
    for place in ["/run", "/dev/shm", "/tmp"] {
        let left = fs::read_dir(place).into_iter().flatten().flatten();
        let left: Vec<PathBuf> = left
            .map(|entry| entry.path())
            .filter(|path| {
                path.join("mqtt-password").exists() && name(path).starts_with("familiar-check-")
            })
            .filter(|path| {
                fs::read_to_string(path.join("mqtt-password"))
                    .is_ok_and(|text| text == "secret 1\n")
            })
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[test]
#[ignore = "reads a unit's credentials as root: make test runs it as root"]
fn state_directory_is_that_of_the_unit() {
    let Some((broker, _folder)) = broker("state_directory_is_that_of_the_unit") else { return };
    assert!(is_root(), "only root is handed on to the unit");
    let home = Home::new(&broker, SYSTEMD_RUN);
    let unit = fs::read_to_string(home.path("unit")).unwrap();
    let unit = unit.replace("StateDirectory=familiar\n", "StateDirectory=familiar-no-such-state\n");
    fs::write(home.path("unit"), unit).unwrap();
    let seen = |command: &mut Command| {
        command.output().unwrap();
        fs::read_to_string(home.path("state-seen")).unwrap()
    };
    let arguments = ["--unit", "familiar"];
    let found = seen(home.command(&arguments).env_remove("STATE_DIRECTORY"));
    assert_eq!(found, "/var/lib/familiar-no-such-state\n");
    // One that is set by hand stays.
    let found = seen(&mut home.command(&arguments));
    assert_eq!(found.trim_end(), home.path("state").to_str().unwrap());
}

/// Holds CHK-05.
#[test]
#[ignore = "reads a unit's credentials as root: make test runs it as root"]
fn credential_that_cannot_be_read_is_named() {
    let Some((broker, _folder)) = broker("credential_that_cannot_be_read_is_named") else { return };
    assert!(is_root(), "only root is handed on to the unit");
    let home = Home::new(&broker, NO_SYSTEMD);
    fs::remove_file(home.path("mqtt-password")).unwrap();
    let output = home.check(&["--unit", "familiar"]);
    let (_, said) = line(&output, "unit");
    assert!(said.contains("not read: mqtt-password") && said.contains("is not there"), "{said}");
    assert_eq!(line(&output, "broker").0, "fail");
}

#[test]
fn unit_without_credentials_changes_nothing() {
    let Some((broker, _folder)) = broker("unit_without_credentials_changes_nothing") else {
        return;
    };
    let home = Home::new(&broker, SYSTEMD_RUN);
    // A configuration that no unit of ours reads.
    let output = home.check(&[]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!home.path("asked").exists() && !text.contains("\"unit\""), "{text}");
    fs::remove_file(home.path("bin/systemctl")).unwrap();
    let output = home.check(&["--unit", "no-such-unit"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("no-such-unit.service"), "{output:?}");
}
