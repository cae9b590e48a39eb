//! Events a second: onto the disk, and through outbox and broker; and how long a backlog takes.
//!
//! Needs a Mosquitto. `FAMILIAR_BENCH_BACKLOG` sets the size of the backlog. The outbox lies in a
//! temporary folder: `TMPDIR` chooses the disk.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../tests/integration/support/device.rs"]
#[allow(dead_code)]
mod device;
#[path = "../tests/integration/support/judge.rs"]
#[allow(dead_code)]
mod judge;
#[path = "../tests/integration/support/mosquitto.rs"]
#[allow(dead_code)]
mod mosquitto;
#[path = "../tests/integration/support/not_run.rs"]
mod not_run;

use std::path::Path;
use std::time::{Duration, Instant};

use device::Device;
use familiar::event::Outbox;
use familiar::system::state::StateDirectory;
use mosquitto::Mosquitto;
use not_run::not_run;

const RECORDED: usize = 2_000;
const BACKLOG: usize = 100_000;
const PATIENT: Duration = Duration::from_mins(30);

fn main() {
    // `cargo test --benches` only asks whether it runs.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let backlog = std::env::var("FAMILIAR_BENCH_BACKLOG").ok().and_then(|text| text.parse().ok());
    let backlog = backlog.unwrap_or(BACKLOG);
    let Some(broker) = Mosquitto::start("delivery", "") else { return };
    let url = format!("mqtt://127.0.0.1:{}", broker.port);
    println!("| delivery | events | seconds | events a second |");
    println!("|---|---|---|---|");

    let device = Device::new();
    let began = Instant::now();
    device.tell(RECORDED);
    row("recorded, each on the disk before the next", RECORDED, began);

    // Both at once, as the daemon does it.
    let publisher = device.publisher(&url, "");
    assert!(publisher.flush(PATIENT).unwrap());
    let began = Instant::now();
    for _ in 0..RECORDED {
        device.tell(1);
        publisher.notify();
    }
    assert!(publisher.flush(PATIENT).unwrap());
    row("recorded, published and acknowledged", RECORDED, began);
    publisher.stop();

    let device = backlogged(backlog);
    assert_eq!(Outbox::open(&device.state).unwrap().depth().unwrap(), backlog as u64);
    let began = Instant::now();
    let publisher = device.publisher(&url, "");
    assert!(publisher.flush(PATIENT).unwrap());
    row("backlog caught up with", backlog, began);
    assert_eq!(publisher.status().acknowledged, backlog as u64);
    publisher.stop();
}

fn row(what: &str, events: usize, began: Instant) {
    let seconds = began.elapsed().as_secs_f64();
    println!("| {what} | {events} | {seconds:.2} | {:.0} |", events as f64 / seconds);
}

/// A device with so many events in its outbox. They are recorded in memory, where that can be had, and
/// brought to the disk: what is measured is how they leave.
fn backlogged(events: usize) -> Device {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let made = Device::at(folder.unwrap());
    made.tell(events);
    let source = made.state.clone();
    let folder = tempfile::tempdir().unwrap();
    let state = StateDirectory::at(folder.path().join("state")).unwrap();
    let connection = rusqlite::Connection::open(source.file("outbox.db")).unwrap();
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    for name in ["device-key", "outbox.db"] {
        std::fs::copy(source.file(name), state.file(name)).unwrap();
    }
    Device::at(folder)
}
