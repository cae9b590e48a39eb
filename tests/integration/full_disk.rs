//! A file system that really is full: a small tmpfs, mounted by a process of its own in a name space
//! of its own (`unshare`), so that no other process sees it and no rights are needed.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use familiar::event::outbox::Position;
use familiar::event::store::StoreError;
use familiar::event::{LedgerError, Limits, Outbox};
use familiar::system::state::StateDirectory;

use crate::soak::home::Home;
use crate::soak::judge::{judge, last_recorded};
use crate::support::device::{Device, bounded, recognized};
use crate::support::mosquitto::{Mosquitto, Subscriber};

const CHILD: &str = "FAMILIAR_TEST_MAY_MOUNT";

/// Whether this process may mount. If not, the test of that name has been run by one that may, and passed.
fn may_mount(test: &str) -> bool {
    if std::env::var_os(CHILD).is_some() {
        return true;
    }
    let name = format!("full_disk::{test}");
    let out = Command::new("unshare")
        .args(["-rm", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &name, "--ignored", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(
        out.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&out.stderr)
    );
    false
}

fn mount(folder: &Path, kib: u32) {
    let size = format!("size={kib}k,mode=700");
    let mounted =
        Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder).status();
    assert!(mounted.unwrap().success());
}

/// Takes what room there is.
fn fill(folder: &Path) {
    let mut file =
        std::fs::File::options().create(true).append(true).open(folder.join("filler")).unwrap();
    for size in [4096, 1] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
}

fn make_room(folder: &Path) {
    std::fs::remove_file(folder.join("filler")).unwrap();
}

/// Holds EVT-10.
#[test]
#[ignore = "mounts a small disk: make test runs it where the system allows that"]
fn what_is_stored_stays_and_recording_resumes() {
    if may_mount("what_is_stored_stays_and_recording_resumes") {
        ledger_on_a_full_disk();
    }
}

/// Holds EVT-11.
#[test]
#[ignore = "mounts a small disk: make test runs it where the system allows that"]
fn recognition_goes_on_while_the_disk_is_full() {
    if may_mount("recognition_goes_on_while_the_disk_is_full") {
        daemon_on_a_full_disk();
    }
}

fn ledger_on_a_full_disk() {
    let device = Device::new();
    let folder = tempfile::tempdir().unwrap();
    mount(folder.path(), 1024);
    let state = StateDirectory::at(folder.path().to_owned()).unwrap();
    std::fs::copy(device.state.file("device-key"), state.file("device-key")).unwrap();
    let open = || bounded(&state, &device.key, Limits::default());
    let ledger = open();
    let mut stored: Vec<String> = Vec::new();
    for round in 0..4 {
        if round > 0 {
            fill(folder.path());
        }
        let error = loop {
            match ledger.record(&recognized(1)) {
                Ok(message) => stored.push(message.as_str().to_owned()),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, LedgerError::Store(StoreError::Full { .. })), "{error}");
        assert!(ledger.record(&recognized(1)).is_err());
        assert!(ledger.expire().is_ok());
        // All that was stored can be read, and is sent.
        let outbox = Outbox::open(&state).unwrap();
        let mut at = Position::default();
        let mut held = Vec::new();
        while let Some(entry) = outbox.after(at).unwrap() {
            at = entry.position;
            held.push(entry.message.as_str().to_owned());
        }
        assert_eq!(held, stored[stored.len() - held.len()..]);
        if round == 0 {
            assert_eq!(held.len(), stored.len());
            // The disk is full of events: the broker takes them, and there is room again, if not at
            // once: to remove something takes room as well.
            fill(folder.path());
            outbox.acknowledged(at).unwrap();
            outbox.settle().unwrap();
            assert_eq!(outbox.depth().unwrap(), stored.len() as u64, "not forgotten yet");
            let more = format!("remount,size={}k", 4096);
            let again =
                Command::new("mount").args(["-o", &more]).arg(folder.path()).status().unwrap();
            assert!(again.success());
            outbox.settle().unwrap();
            assert_eq!(outbox.depth().unwrap(), 0);
        }
        make_room(folder.path());
        stored.push(ledger.record(&recognized(2)).unwrap().as_str().to_owned());
    }
    // Nor does opening it on a full disk harm it.
    drop(ledger);
    fill(folder.path());
    let opened = familiar::event::Ledger::open(
        &state,
        device.key.clone(),
        crate::support::device::context(),
        Limits::default(),
    );
    drop(opened);
    make_room(folder.path());
    stored.push(open().record(&recognized(3)).unwrap().as_str().to_owned());
    let report = device.chain(&stored);
    assert!(report.ok && report.events == stored.len() as u64, "{report:?}");
    assert!(report.events > 30);
}

fn daemon_on_a_full_disk() {
    let test = "daemon_on_a_full_disk";
    let Some(mut home) = Home::new(test) else { return };
    let Some(broker) = Mosquitto::start(test, "") else { return };
    let subscriber = Subscriber::start(broker.port, "familiar/#", &[]);
    home.configure(Some(broker.port), true);
    // What enrolment wrote moves to the small disk.
    let (state, before) = (home.path("state"), home.path("before"));
    std::fs::rename(&state, &before).unwrap();
    std::fs::create_dir(&state).unwrap();
    mount(&state, 2048);
    for file in std::fs::read_dir(&before).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), state.join(file.file_name())).unwrap();
    }
    home.start_daemon();
    let recognized = |home: &Home| {
        std::fs::read_to_string(home.path("log")).unwrap().matches("recognized ").count()
    };
    let await_ = |home: &Home, what: &str, come: &dyn Fn() -> bool| {
        let deadline = Instant::now() + Duration::from_mins(2);
        while !come() {
            assert!(Instant::now() < deadline, "this never came: {what}\n{}", home.log_tail());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    await_(&home, "events", &|| subscriber.on("/event").len() >= 3);
    let told = |word: &str| {
        let health = subscriber.on("/health");
        health.last().is_some_and(|health| health.contains(word))
    };
    // Now, while the outbox's journal is still to grow: later it would go on within its own room.
    await_(&home, "the full disk in `health`", &|| {
        fill(&state);
        told(r#"\"storing\":false"#)
    });
    let seen = recognized(&home);
    await_(&home, "recognition", &|| recognized(&home) >= seen + 3);
    make_room(&state);
    await_(&home, "the disk in `health`", &|| told(r#"\"storing\":true"#));
    let arrived = subscriber.on("/event").len();
    await_(&home, "events again", &|| subscriber.on("/event").len() >= arrived + 3);
    assert!(home.stop_daemon().unwrap().success(), "{}", home.log_tail());
    let last = last_recorded(&state);
    let newest = format!("\\\"seq\\\":{last},");
    await_(&home, "all events", &|| subscriber.on("/event").iter().any(|m| m.contains(&newest)));
    let figures = judge(&subscriber.on("/event"), &home.jwk(), last).unwrap();
    // What was recognised while the disk took nothing was recorded afterwards.
    let departed = std::fs::read_to_string(home.path("log")).unwrap().matches("departed ").count();
    assert!(figures.events as usize >= recognized(&home) + departed, "{figures:?}");
}
