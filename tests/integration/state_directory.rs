//! Who may use a state directory: one daemon at a time, verbs beside it, and root only as the directory's owner.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::home::{self, Home, copy};
use crate::support::mosquitto::wait;
use crate::support::program;

/// Somebody else: any user that is neither root nor the one who runs the tests.
const OTHER: u32 = 64_123;

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Ada sees herself for ever.
fn endless(home: &Home) {
    home.record("P001", 20);
    home.configure("");
    home.loop_frames();
}

fn ready(home: &Home) {
    wait("the daemon is ready", || {
        std::fs::read_to_string(home.path("said")).is_ok_and(|said| said.contains("ready after"))
    });
}

fn holder(home: &Home) -> Value {
    serde_json::from_slice(&std::fs::read(home.path("state/daemon.lock")).unwrap()).unwrap()
}

/// Holds STA-02.
#[test]
fn second_run_refused_first_named() {
    let test = "second_run_refused_first_named";
    let Some(home) = Home::new(test) else { return };
    endless(&home);
    let first = home.start(&[]);
    ready(&home);
    let second = home.familiar(&["run"]);
    let text = said(&second);
    assert_eq!(second.status.code(), Some(1), "{text}");
    let (pid, since) = (holder(&home)["pid"].clone(), holder(&home)["since"].clone());
    let name = format!("`familiar run`, pid {pid}, since {}", since.as_str().unwrap());
    assert!(text.contains(&name) && text.lines().count() == 1, "{text}");
    let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    assert!(command.contains("familiar"), "{command}");
    // The first goes on, and after it the directory is free: after an orderly end ...
    first.stop();
    let next = home.start(&[]);
    ready(&home);
    assert_ne!(holder(&home)["pid"], pid);
    // ... and after SIGKILL, whatever lies in the file.
    next.signal("KILL");
    drop(next);
    let last = home.start(&[]);
    ready(&home);
    last.stop();
}

/// Holds STA-04.
#[test]
fn verbs_work_beside_a_running_daemon() {
    let Some(home) = Home::new("verbs_work_beside_a_running_daemon") else { return };
    endless(&home);
    home.enroll("Ada", "P001");
    let running = home.start(&[]);
    ready(&home);
    std::fs::write(home.path("passphrase"), "six random words of a list").unwrap();
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(home.path("passphrase"), private).unwrap();
    let [passphrase, backup] =
        ["passphrase", "people.backup"].map(|name| home.path(name).to_str().unwrap().to_owned());
    let photo = home.picture("P005", "studio_portrait.jpg");
    let photo = photo.to_str().unwrap();
    let frame = home.path("frames/0000.jpg");
    for arguments in [
        &["enroll", "Mia", photo][..],
        &["people"],
        &["people", "rename", "mia", "Mia B"],
        &["people", "export", "mia"],
        &["people", "backup", &backup, "--passphrase-file", &passphrase],
        &["forget", "mia"],
        &["people", "restore", &backup, "--passphrase-file", &passphrase, "--skip-existing"],
        &["key", "rotate"],
        &["key", "show"],
        &["model", "list"],
        &["identify", frame.to_str().unwrap()],
        &["check"],
    ] {
        let output = home.familiar(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    }
    running.stop();
    let log = std::fs::read_to_string(home.path("said")).unwrap();
    assert!(log.contains("the device key was rotated"), "{log}");
}

/// Holds STA-06.
#[test]
fn verbs_that_read_make_nothing() {
    let Some(home) = Home::new("verbs_that_read_make_nothing") else { return };
    home.record("P001", 1);
    let frame = home.path("frames/0000.jpg");
    std::fs::write(home.path("events"), "").unwrap();
    for exists in [false, true] {
        if exists {
            std::fs::create_dir(home.path("state")).unwrap();
            std::fs::set_permissions(home.path("state"), std::fs::Permissions::from_mode(0o700))
                .unwrap();
        }
        for (arguments, code) in [
            (&["people"][..], 0),
            (&["people", "--json"], 0),
            (&["people", "anchors"], 0),
            (&["people", "show", "ada"], 1),
            (&["people", "rename", "ada", "Ada"], 1),
            (&["people", "export", "ada"], 1),
            (&["people", "check"], 0),
            (&["identify", frame.to_str().unwrap()], 0),
            (&["key", "show"], 1),
            (&["verify", home.path("events").to_str().unwrap()], 2),
            (&["model", "list"], 0),
            (&["check"], 0),
        ] {
            let output = home.familiar(arguments);
            assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", said(&output));
            let made: Vec<_> = std::fs::read_dir(home.path("state"))
                .map(|entries| entries.map(|entry| entry.unwrap().file_name()).collect())
                .unwrap_or_default();
            assert!(
                made.is_empty() && home.path("state").exists() == exists,
                "{arguments:?}: {made:?}"
            );
        }
    }
}

/// The owner of each file below a folder.
fn owners(folder: &Path) -> Vec<(PathBuf, u32)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        found.push((entry.path(), entry.metadata().unwrap().uid()));
        if entry.file_type().unwrap().is_dir() {
            found.extend(owners(&entry.path()));
        }
    }
    found
}

/// As the daemon's user, whom nothing but its own directory belongs to, with a program that this user may reach.
fn as_other(folder: &Path, arguments: &[&str]) -> Output {
    let program = folder.join("familiar");
    if !program.exists() {
        // By a process of its own: a file that this one had open for writing could not be run while another test forks.
        let copied = Command::new("cp").arg(program::familiar()).arg(&program).status().unwrap();
        assert!(copied.success());
    }
    let mut command = Command::new(program);
    command.arg("--config").arg(folder.join("familiar.toml")).args(arguments);
    command.env("STATE_DIRECTORY", folder.join("state")).env_remove("CREDENTIALS_DIRECTORY");
    command.env_remove("NOTIFY_SOCKET").uid(OTHER).gid(OTHER).output().unwrap()
}

/// Models that every user may read, wherever this project lies.
fn bundle_for_all(home: &Home) {
    let bundle = home.path("bundle");
    copy(&home.bundle, &bundle);
    let frames = format!("replay:{}", home.path("frames").display());
    home.configure_with(&bundle, &frames, "");
    std::fs::set_permissions(home.folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// A state directory of somebody else's, as a package makes it; only root can make one.
fn foreign(home: &Home) {
    bundle_for_all(home);
    let state = home.path("state");
    std::fs::create_dir(&state).unwrap();
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o700)).unwrap();
    chown(&state, Some(OTHER), Some(OTHER)).unwrap();
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

/// Holds STA-05.
#[test]
#[ignore = "makes another user's files: make test runs it as root"]
fn what_root_does_leaves_the_daemon_its_files() {
    assert!(is_root(), "only root can make another user's files");
    let home = Home::small();
    home.record("P001", 30);
    foreign(&home);
    // What root alone can read, and where root alone can write.
    let secret = home.path("root");
    std::fs::create_dir(&secret).unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o700)).unwrap();
    let photo = secret.join("ada.jpg");
    std::fs::copy(home.picture("P001", "studio_portrait.jpg"), &photo).unwrap();
    std::fs::set_permissions(&photo, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(secret.join("passphrase"), "six random words of a list").unwrap();
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(secret.join("passphrase"), private).unwrap();
    let text = |path: PathBuf| path.to_str().unwrap().to_owned();
    let [photo, passphrase, backup] =
        [photo, secret.join("passphrase"), secret.join("people.backup")].map(text);

    let enrolled = home.familiar(&["-v", "enroll", "Ada", &photo]);
    assert!(enrolled.status.success(), "{}", said(&enrolled));
    assert!(said(&enrolled).contains(&format!("acting as {OTHER}")), "{}", said(&enrolled));
    for arguments in [
        &["people"][..],
        &["identify", &photo],
        &["people", "rename", "ada", "Ada B"],
        &["people", "backup", &backup, "--passphrase-file", &passphrase],
        &["people", "restore", &backup, "--passphrase-file", &passphrase, "--skip-existing"],
        &["run"],
        &["key", "rotate"],
        &["model", "list"],
        &["check"],
    ] {
        let output = home.familiar(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        for (path, owner) in owners(&home.path("state")) {
            assert_eq!(owner, OTHER, "{arguments:?}: {}", path.display());
        }
    }
    assert_eq!(std::fs::metadata(&backup).unwrap().uid(), 0, "root's own file");
    // And the daemon's user works with all of it.
    let run = as_other(home.folder.path(), &["run", "--stdout"]);
    assert!(run.status.success(), "{}", said(&run));
    assert!(String::from_utf8_lossy(&run.stdout).contains("Ada B"), "{run:?}");
    // That user cannot read what root gave.
    let refused = as_other(home.folder.path(), &["identify", &photo]);
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
}

#[test]
#[ignore = "makes another user's files: make test runs it as root"]
fn files_that_root_left_before_are_named_with_the_mend() {
    assert!(is_root(), "only root can make another user's files");
    let home = Home::small();
    home.record("P001", 1);
    home.enroll("Ada", "P001");
    bundle_for_all(&home);
    chown(home.path("state"), Some(OTHER), Some(OTHER)).unwrap();
    let key = home.path("state/gallery-key");
    for output in [as_other(home.folder.path(), &["people"]), home.familiar(&["people"])] {
        let text = said(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(&format!("sudo chown {OTHER} {}", key.display())), "{text}");
    }
    let check = home.familiar(&["check"]);
    let text = String::from_utf8_lossy(&check.stdout);
    assert!(!check.status.success() && text.contains("sudo chown -R"), "{text}");
}

/// Holds STA-05.
#[test]
#[ignore = "makes another user's files: make test runs it as root"]
fn directory_that_its_owner_cannot_reach_is_refused() {
    assert!(is_root(), "only root can make another user's files");
    let home = Home::small();
    foreign(&home);
    // As /var/lib/private is, below which systemd keeps the state of a unit with DynamicUser=.
    std::fs::set_permissions(home.folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let output = home.familiar(&["people"]);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(&format!("user {OTHER}")) && text.contains("systemd-run"), "{text}");
    assert!(owners(&home.path("state")).is_empty());
}

#[test]
fn directory_of_another_user_says_whose_it_is() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("familiar.toml"), "device = \"porch\"\n").unwrap();
    // A plain user meets root's folder here, root its own.
    let arguments = ["forget", "nobody"];
    let output = if is_root() {
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let state = folder.path().join("state");
        std::fs::create_dir(&state).unwrap();
        std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o700)).unwrap();
        as_other(folder.path(), &arguments)
    } else {
        home::command(folder.path(), &arguments).env("STATE_DIRECTORY", "/root").output().unwrap()
    };
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("belongs to user 0") && text.contains("with sudo"), "{text}");
}
