#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use super::*;
use crate::config::{CameraSource, DeviceName};
use crate::event::chain::{Chain, Report};
use crate::event::jws::Envelope;
use crate::event::outbox::{Outbox, Position};
use crate::event::payload::Link;

const AGE: Limits = Limits { events: 1000, age: Duration::from_secs(100) };
/// Some day in 2026.
const TODAY: i64 = 1_795_000_000;

struct Device {
    _folder: tempfile::TempDir,
    state: StateDirectory,
    ledger: Ledger,
}

impl Device {
    fn new(limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDirectory::at(folder.path().to_owned()).unwrap();
        let ledger = open(&state, DeviceKey::open_or_create(&state).unwrap(), limits);
        Self { _folder: folder, state, ledger }
    }

    /// Records so many events at a time since the machine's start.
    fn tell(&self, events: usize, reading: &Reading) -> Vec<String> {
        (0..events)
            .map(|_| {
                self.ledger.lock().look = Instant::now();
                self.ledger
                    .record_at(&fact(), ClockState::Unsynchronized, reading)
                    .unwrap()
                    .as_str()
                    .to_owned()
            })
            .collect()
    }

    fn expire(&self, reading: &Reading) {
        self.ledger.lock().look = Instant::now();
        self.ledger.expire_at(reading).unwrap();
    }

    fn waiting(&self) -> Vec<String> {
        let outbox = Outbox::open(&self.state).unwrap();
        let mut at = Position::default();
        let next = || {
            let entry = outbox.after(at).unwrap()?;
            at = entry.position;
            Some(entry.message.as_str().to_owned())
        };
        std::iter::from_fn(next).collect()
    }

    fn seqs(&self) -> Vec<u64> {
        self.waiting().iter().map(|text| link(&self.ledger, text).seq).collect()
    }

    /// Ranges that the waiting overflow events tell of.
    fn told(&self) -> Vec<(u64, u64)> {
        let links = self.waiting();
        let lost = links.iter().filter_map(|text| link(&self.ledger, text).overflow);
        lost.map(|lost| (lost.from, lost.to)).collect()
    }

    fn chain(&self, texts: &[String]) -> Report {
        let mut chain = Chain::default();
        for text in texts {
            let event = verified(&self.ledger, text);
            chain.add(&event, &Link::of(&event.payload).unwrap());
        }
        chain.report()
    }
}

fn open(state: &StateDirectory, key: DeviceKey, limits: Limits) -> Ledger {
    let device = DeviceName::try_from("porch".to_owned()).unwrap();
    let context = Context::new(device, &CameraSource::Device("video".into()), None);
    Ledger::open(state, Arc::new(key), context, limits).unwrap()
}

fn verified(ledger: &Ledger, text: &str) -> crate::event::jws::Verified {
    Envelope::parse(text).unwrap().verify(&ledger.key.public().clone().into(), None).unwrap()
}

fn link(ledger: &Ledger, text: &str) -> Link {
    Link::of(&verified(ledger, text).payload).unwrap()
}

fn fact() -> Fact {
    Fact::Erased { person: "ada".parse().unwrap(), time: jiff::Timestamp::now() }
}

fn at(up: i64) -> Reading {
    Reading { boot: "a".to_owned(), up, date: None }
}

/// Holds EVT-10.
#[test]
fn full_disk() {
    let device = Device::new(Limits::default());
    let ledger = &device.ledger;
    ledger.record(&fact()).unwrap();
    // SQLite reports a full disk and its own limit in the same way.
    let limit = |pages: i64| {
        let database = ledger.lock();
        database
            .connection
            .pragma_update_and_check(None, "max_page_count", pages, |row| row.get::<_, i64>(0))
    };
    limit(1).unwrap();
    let mut stored = 1;
    let error = loop {
        match ledger.record(&fact()) {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, LedgerError::Store(StoreError::Full { .. })), "{error}");
    assert_eq!(ledger.depth().unwrap(), stored);
    limit(1_000_000).unwrap();
    let next = ledger.record(&fact()).unwrap();
    // The number that was not taken is the next one's.
    assert!(next.as_str().contains(&format!("\\\"seq\\\":{}", stored + 1)));
}

/// Holds EVT-05.
#[test]
fn old_events_go_and_are_told() {
    let device = Device::new(AGE);
    let mut received = device.tell(10, &at(1000));
    device.tell(10, &at(1060));
    device.expire(&at(1100));
    assert_eq!(device.seqs(), (1..=20).collect::<Vec<_>>(), "not older than the limit");
    device.expire(&at(1101));
    assert_eq!(device.seqs(), (11..=21).collect::<Vec<_>>());
    assert_eq!(device.told(), [(1, 10)]);
    // With the next event, too, and not only in between.
    device.tell(1, &at(1161));
    assert_eq!(device.seqs(), [21, 22, 23]);
    assert_eq!(device.told(), [(1, 10), (11, 20)]);
    // What told of the first loss has become old itself, and hands on what it told.
    device.expire(&at(1202));
    assert_eq!(device.told(), [(11, 20), (1, 21)]);
    // Who was there at first and comes back knows of each event that will not come.
    received.truncate(4);
    received.extend(device.waiting());
    let report = device.chain(&received);
    assert!(report.ok, "{report:?}");
    received.retain(|text| !text.contains("overflow"));
    assert!(!device.chain(&received).ok);
}

/// Holds EVT-05.
#[test]
fn old_events_go_while_nothing_happens() {
    let device = Device::new(AGE);
    device.tell(3, &at(50));
    device.expire(&at(50 + 31 * 86_400));
    assert_eq!(device.seqs(), [4]);
    assert_eq!(device.told(), [(1, 3)]);
}

/// Holds EVT-08, EVT-09.
#[test]
fn clock_that_jumps_drops_nothing_and_keeps_nothing() {
    let date = |up, date| Reading { boot: "a".to_owned(), up, date: Some(date) };
    let device = Device::new(AGE);
    let mut all = device.tell(5, &date(10, TODAY));
    // Forward by eleven years, back to 1970, and right again.
    all.extend(device.tell(5, &date(20, TODAY + 11 * 365 * 86_400)));
    all.extend(device.tell(5, &date(30, 5)));
    all.extend(device.tell(5, &date(40, TODAY + 30)));
    assert_eq!(device.waiting(), all);
    assert_eq!(device.seqs(), (1..=20).collect::<Vec<_>>());
    assert!(device.chain(&all).ok);
    // A clock that stays in the past keeps nothing longer than one that is right.
    device.expire(&date(115, -100));
    assert_eq!(device.seqs(), (6..=21).collect::<Vec<_>>());
}

/// Holds EVT-08.
#[test]
fn one_wrong_date_after_a_restart_drops_nothing() {
    let reading =
        |boot: &str, up, date| Reading { boot: boot.to_owned(), up, date: Some(TODAY + date) };
    let device = Device::new(AGE);
    device.tell(5, &reading("a", 10, 0));
    device.tell(5, &reading("b", 10, 11 * 365 * 86_400));
    assert_eq!(device.seqs(), (1..=10).collect::<Vec<_>>());
    // But it counts, for a part: those from before go earlier, those from after do not.
    device.expire(&reading("b", 60, 50));
    assert_eq!(device.seqs(), (6..=11).collect::<Vec<_>>());
}

#[test]
fn undated_events_do_not_age_when_switched_off() {
    let device = Device::new(AGE);
    let reading = |boot: &str, up, date| Reading { boot: boot.to_owned(), up, date };
    device.tell(2, &reading("a", 10, Some(TODAY)));
    device.tell(2, &reading("b", 10, None));
    device.tell(2, &reading("b", 20, Some(TODAY + 40 + 20)));
    // 30 s on and 40 s off.
    device.expire(&reading("b", 61, Some(TODAY + 101)));
    assert_eq!(device.seqs(), (3..=7).collect::<Vec<_>>());
    device.expire(&reading("b", 111, Some(TODAY + 151)));
    assert_eq!(device.seqs(), [5, 6, 7, 8]);
}

#[test]
fn events_of_an_earlier_key_are_told_as_such() {
    let device = Device::new(AGE);
    device.tell(3, &at(1));
    let earlier = device.ledger.key.kid().to_owned();
    std::fs::remove_file(device.state.file("device-key")).unwrap();
    let key = DeviceKey::open_or_create(&device.state).unwrap();
    let ledger = open(&device.state, key, AGE);
    ledger.record_at(&fact(), ClockState::Unsynchronized, &at(2)).unwrap();
    for _ in 0..2 {
        ledger.lock().look = Instant::now();
        ledger.expire_at(&at(200)).unwrap();
    }
    let told: Vec<_> = device
        .waiting()
        .iter()
        .map(|text| link(&ledger, text).overflow.unwrap())
        .map(|lost| (lost.from, lost.to, lost.kid))
        .collect();
    assert_eq!(told, [(1, 3, Some(earlier)), (1, 1, None)]);
}

#[test]
fn many_old_events_go_in_several_steps() {
    let device = Device::new(Limits { events: 100_000, ..AGE });
    device.tell(1, &at(1));
    {
        let database = device.ledger.lock();
        let copies =
            "WITH RECURSIVE n (n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM n WHERE n < 25000)
             INSERT INTO outbox (kid, seq, message, recorded)
             SELECT kid, n, message, recorded FROM outbox, n WHERE seq = 1";
        database.connection.execute_batch(copies).unwrap();
        database.connection.execute("UPDATE chain SET seq = 25000", []).unwrap();
        database.connection.execute_batch("UPDATE outbox SET recorded = 0").unwrap();
    }
    device.ledger.lock().look = Instant::now();
    for left in [15_001, 5_002, 3, 3] {
        // Without waiting for the next look.
        device.ledger.expire_at(&at(500)).unwrap();
        assert_eq!(device.ledger.depth().unwrap(), left);
    }
    assert_eq!(device.told(), [(1, 10_000), (10_001, 20_000), (20_001, 25_000)]);
}
