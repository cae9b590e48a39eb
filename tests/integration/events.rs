//! Signed events: what is believed and what is not, and the chain that nothing breaks.

use std::process::{Command, Stdio};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use familiar::event::jws::{Envelope, LIMIT, VerifyError};
use familiar::event::outbox::Position;
use familiar::event::store::StoreError;
use familiar::event::{DeviceKey, Ledger, LedgerError, Limits, Outbox, Typ};
use familiar::system::state::StateDirectory;

use super::support::device::{Device, bounded, context, open, person, recognized};
use super::support::judge;
use crate::support::not_run;

/// Holds EVT-16.
#[test]
fn altered_by_one_byte() {
    let device = Device::new();
    let message = device.tell(1).remove(0);
    device.verify(message.as_str()).unwrap();
    for at in 0..message.as_str().len() {
        for change in [0x01, 0x02, 0x20] {
            let mut bytes = message.as_str().as_bytes().to_vec();
            bytes[at] ^= change;
            let Ok(text) = String::from_utf8(bytes) else { continue };
            assert!(device.verify(&text).is_err(), "byte {at} of {text}");
        }
    }
}

/// Holds EVT-16.
#[test]
fn strangers_key() {
    let (device, stranger) = (Device::new(), Device::new());
    let message = stranger.tell(1).remove(0);
    assert!(matches!(device.verify(message.as_str()), Err(VerifyError::UnknownKey(_))));
    // Nor does it help to claim our key.
    let ours = header(device.key.kid(), "familiar-event+json");
    let forged = with_header(message.as_str(), &ours);
    assert_eq!(device.verify(&forged), Err(VerifyError::Signature));
}

/// Holds EVT-16.
#[test]
fn typ_confusion() {
    let device = Device::new();
    let keys = device.key.public().clone().into();
    let health = device.key.sign(Typ::Health, "{}").unwrap();
    let envelope = Envelope::parse(health.as_str()).unwrap();
    assert_eq!(
        envelope.verify(&keys, Some(Typ::Event)),
        Err(VerifyError::Typ { found: Typ::Health, wanted: Typ::Event })
    );
    let renamed = with_header(health.as_str(), &header(device.key.kid(), "familiar-event+json"));
    assert_eq!(device.verify(&renamed), Err(VerifyError::Signature));
}

#[test]
fn other_headers() {
    let device = Device::new();
    let message = device.tell(1).remove(0);
    let good = header(device.key.kid(), "familiar-event+json");
    assert!(device.verify(&with_header(message.as_str(), &good)).is_ok());
    for (from, to) in [
        (r#""alg":"EdDSA""#, r#""alg":"none""#),
        (r#""alg":"EdDSA""#, r#""alg":"HS256""#),
        (r#""alg":"EdDSA""#, r#""alg":"EdDSA","alg":"EdDSA""#),
        (r#""b64":false"#, r#""b64":true"#),
        (r#""b64":false,"#, ""),
        (r#""crit":["b64"],"#, ""),
        (r#""crit":["b64"]"#, r#""crit":["b64","exp"]"#),
        (r#""crit":["b64"]"#, r#""crit":[]"#),
        (r#""alg":"EdDSA""#, r#""alg":"EdDSA","jwk":{}"#),
        ("familiar-event+json", "JWT"),
        ("}", "} "),
    ] {
        let header = good.replacen(from, to, 1);
        assert_ne!(header, good);
        let text = with_header(message.as_str(), &header);
        let refused = device.verify(&text).unwrap_err();
        let at_the_header = matches!(refused, VerifyError::Header(_));
        // A space behind the header is sound JSON; there the signature speaks.
        assert!(at_the_header || refused == VerifyError::Signature, "{header}: {refused}");
        assert!(at_the_header || to == "} ", "{header}: {refused}");
    }
}

#[test]
fn other_envelopes() {
    let device = Device::new();
    let text = device.tell(1).remove(0).as_str().to_owned();
    let body = text.strip_suffix('}').unwrap();
    for other in [
        format!("{text} {{}}"),
        format!("{text}x"),
        format!(r#"{body},"header":{{"kid":"x"}}}}"#),
        format!(r#"{body},"signature":"AA"}}"#),
        format!(r#"{body},"payload":"{{}}"}}"#),
        format!(r#"{{"payload":"","signatures":[{text}]}}"#),
        text.replacen(r#""signature":""#, r#""signature":"=="#, 1),
        "null".to_owned(),
        "[".repeat(LIMIT),
        String::new(),
    ] {
        assert!(
            matches!(device.verify(&other), Err(VerifyError::NotAMessage(_))),
            "{other}: {:?}",
            device.verify(&other)
        );
    }
    assert_eq!(device.verify(&format!("{text}{}", " ".repeat(LIMIT))), Err(VerifyError::TooLong));
}

/// Holds EVT-19.
#[test]
fn larger_than_4_kib() {
    let device = Device::new();
    assert!(device.key.sign(Typ::Event, &"x".repeat(LIMIT)).is_err());
    let mut long = recognized(1);
    if let familiar::event::Fact::Decision(decision) = &mut long {
        let person = familiar::recognition::PersonRef { name: "n".repeat(LIMIT), ..person() };
        decision.verdict = familiar::recognition::Verdict::Departed { person };
    }
    assert!(matches!(device.ledger.record(&long), Err(LedgerError::TooLong(_))));
    // It took no number.
    assert_eq!(seqs(&device.state), Vec::<u64>::new());
    device.tell(1);
    assert_eq!(seqs(&device.state), [1]);
}

/// Holds EVT-18.
#[test]
fn chain_across_restarts_and_an_empty_outbox() {
    let device = Device::new();
    let mut all: Vec<String> = texts(&device.tell(3));
    for _ in 0..3 {
        let outbox = Outbox::open(&device.state).unwrap();
        while let Some(entry) = outbox.after(Position::default()).unwrap() {
            outbox.acknowledged(entry.position).unwrap();
        }
        assert_eq!(outbox.depth().unwrap(), 0);
        let (_, ledger) = open(&device.state);
        all.push(ledger.record(&recognized(9)).unwrap().as_str().to_owned());
    }
    let report = device.chain(&all);
    assert!(report.ok, "{report:?}");
    assert_eq!(report.events, 6);
}

#[test]
fn chain_that_was_tampered_with() {
    let device = Device::new();
    let all = texts(&device.tell(6));
    let ok = |order: &[usize]| device.chain(order.iter().map(|n| &all[*n]));
    assert!(ok(&[0, 1, 2, 3, 4, 5]).ok);
    // The consumer came later.
    assert!(ok(&[3, 4, 5]).ok);
    let replayed = ok(&[0, 1, 2, 1, 2, 3, 4, 5]);
    assert!(replayed.ok && replayed.duplicates == 2 && replayed.events == 6);
    let cut = ok(&[0, 1, 4, 5]);
    assert!(!cut.ok && cut.gaps == [(3, 4)]);
    assert!(!ok(&[0, 2, 1, 3]).ok, "out of order");
    // A restored outbox: the same number, signed again with other content.
    let twin = Device::new();
    std::fs::copy(device.state.file("device-key"), twin.state.file("device-key")).unwrap();
    std::fs::remove_file(twin.state.file("outbox.db")).unwrap();
    let (_, ledger) = open(&twin.state);
    let other = ledger.record(&recognized(7)).unwrap().as_str().to_owned();
    assert!(!device.chain([&all[0], &other]).ok, "contradiction");
    assert!(!device.chain([&other, &all[1]]).ok, "does not follow");
}

/// Holds EVT-05.
#[test]
fn full_outbox_tells_what_it_dropped() {
    let device = Device::new();
    let ledger = bounded(&device.state, &device.key, Limits { events: 20, ..Limits::default() });
    let mut received = Vec::new();
    for n in 0..137 {
        let message = ledger.record(&recognized(n)).unwrap();
        assert!(ledger.depth().unwrap() <= 20);
        if n < 10 {
            received.push(message.as_str().to_owned());
        }
    }
    let left = all_texts(&device.state);
    assert!(left.iter().any(|text| text.contains(r#"\"from\":1,"#)), "the first loss is reported");
    // A consumer that was there at first and came back knows of every event that it will not get.
    received.extend(left.clone());
    let report = device.chain(&received);
    assert!(report.ok && report.gaps.is_empty(), "{report:?}");
    // Without those that tell, it would be a gap.
    received.retain(|text| !text.contains("overflow"));
    assert!(!device.chain(&received).ok);
}

/// Holds EVT-03.
#[test]
fn torn_outbox() {
    let device = Device::new();
    device.tell(20);
    drop(device.ledger);
    let path = device.state.file("outbox.db");
    let whole = std::fs::read(&path).unwrap();
    let key = Arc::new(DeviceKey::open(&device.state).unwrap());
    let reopen = || Ledger::open(&device.state, key.clone(), context(), Limits::default());
    assert!(reopen().is_ok());
    // The chain table and its rows: the header is left whole.
    let mut torn = whole.clone();
    for byte in &mut torn[4096..] {
        *byte = 0xa5;
    }
    for damaged in [torn, b"not a database at all, and long enough to be one".repeat(100)] {
        let _ = std::fs::remove_file(device.state.file("outbox.db-wal"));
        let _ = std::fs::remove_file(device.state.file("outbox.db-shm"));
        std::fs::write(&path, &damaged).unwrap();
        let refused = reopen().unwrap_err();
        assert!(matches!(&refused, LedgerError::Store(StoreError::Damaged { .. })), "{refused}");
        // Nothing was thrown away.
        assert_eq!(std::fs::read(&path).unwrap(), damaged);
    }
}

#[test]
fn event_changed_on_the_disk_is_not_sent() {
    let device = Device::new();
    device.tell(2);
    let path = device.state.file("outbox.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection
        .execute(
            "UPDATE outbox SET message = replace(message, '0.7123', '0.9999') WHERE seq = 2",
            [],
        )
        .unwrap();
    let outbox = Outbox::open(&device.state).unwrap();
    let first = outbox.after(Position::default()).unwrap().unwrap();
    let refused = outbox.after(first.position).unwrap_err();
    assert!(refused.to_string().contains("event 2"), "{refused}");
}

#[test]
fn outbox_that_others_may_read() {
    use std::os::unix::fs::PermissionsExt;
    let device = Device::new();
    let path = device.state.file("outbox.db");
    for name in ["outbox.db", "outbox.db-wal"] {
        let mode = std::fs::metadata(device.state.file(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(Outbox::open(&device.state), Err(StoreError::Io { .. })));
}

/// Holds EVT-18.
#[test]
fn threads_and_processes_record_at_once() {
    let device = Device::new();
    let mut children: Vec<_> = (0..3).map(|_| child(&device.state, "40")).collect();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| device.tell(20));
        }
    });
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(seqs(&device.state), (1..=180).collect::<Vec<_>>());
    assert!(device.chain(&all_texts(&device.state)).ok);
}

/// Holds EVT-03.
#[test]
fn killed_while_recording() {
    let device = Device::new();
    for round in 0..12 {
        let mut child = child(&device.state, "100000");
        std::thread::sleep(std::time::Duration::from_millis(60 + 13 * round));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    device.tell(1);
    let left = all_texts(&device.state);
    assert!(left.len() > 12, "the children recorded {} events", left.len());
    assert_eq!(seqs(&device.state), (1..=left.len() as u64).collect::<Vec<_>>());
    assert!(device.chain(&left).ok);
}

/// The tables of format 1, version 0.1.0, as that version made them.
const FORMAT_1: &str = "
    CREATE TABLE chain (
        kid TEXT PRIMARY KEY NOT NULL,
        public BLOB NOT NULL CHECK (length(public) = 32),
        seq INTEGER NOT NULL CHECK (seq >= 0),
        link TEXT
    ) STRICT;
    CREATE TABLE outbox (
        position INTEGER PRIMARY KEY AUTOINCREMENT,
        kid TEXT NOT NULL REFERENCES chain (kid),
        seq INTEGER NOT NULL,
        lost_from INTEGER,
        message TEXT NOT NULL,
        UNIQUE (kid, seq)
    ) STRICT;
    PRAGMA application_id = 0x666d6c72;
    PRAGMA user_version = 1;
";

/// Holds EVT-12.
#[test]
fn outbox_of_version_0_1_0() {
    let device = Device::new();
    let written = texts(&device.tell(5));
    let path = device.state.file("outbox.db");
    let old = device.state.file("old.db");
    // The same events, as that version kept them.
    let connection = rusqlite::Connection::open(&old).unwrap();
    connection.execute_batch(FORMAT_1).unwrap();
    let attach = format!("ATTACH '{}' AS new", path.display());
    connection.execute_batch(&attach).unwrap();
    connection
        .execute_batch(
            "INSERT INTO chain (kid, public, seq, link) SELECT kid, public, seq, link FROM new.chain;
             INSERT INTO outbox (position, kid, seq, lost_from, message)
                 SELECT position, kid, seq, lost_from, message FROM new.outbox WHERE seq > 2;",
        )
        .unwrap();
    connection.close().unwrap();
    let (state, key) = (device.state.clone(), device.key.clone());
    drop(device.ledger);
    for name in ["outbox.db", "outbox.db-wal", "outbox.db-shm"] {
        let _ = std::fs::remove_file(state.file(name));
    }
    std::fs::copy(&old, &path).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&path, mode).unwrap();

    let ledger = bounded(&state, &key, Limits::default());
    assert_eq!(ledger.depth().unwrap(), 3);
    let next = ledger.record(&recognized(6)).unwrap().as_str().to_owned();
    ledger.expire().unwrap();
    assert_eq!(all_texts(&state), [&written[2..], &[next]].concat());
    assert_eq!(seqs(&state), [3, 4, 5, 6]);
    let mut chain = familiar::event::chain::Chain::default();
    for text in all_texts(&state) {
        let event = Envelope::parse(&text).unwrap().verify(&key.public().clone().into(), None);
        let event = event.unwrap();
        chain.add(&event, &familiar::event::payload::Link::of(&event.payload).unwrap());
    }
    assert!(chain.report().ok);
    // It is of the new format now, and opens again.
    bounded(&state, &key, Limits::default()).record(&recognized(7)).unwrap();
    let version: i32 = rusqlite::Connection::open(&path)
        .unwrap()
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .unwrap();
    assert_eq!(version, 2);
}

/// Processes whose clock is years ahead, then years behind, then right, record into one outbox.
/// Holds EVT-08.
#[test]
fn clock_that_jumps_either_way() {
    let faketime = Command::new("faketime").arg("--version").output();
    if !faketime.is_ok_and(|out| out.status.success()) {
        not_run("clock_that_jumps_either_way", "faketime is not installed");
        return;
    }
    let device = Device::new();
    device.tell(2);
    for shift in ["+9y", "-20y", "+0"] {
        let mut child = Command::new("faketime");
        child.args(["-f", shift]).arg(std::env::current_exe().unwrap());
        assert!(recording(child, &device.state, "5").wait().unwrap().success(), "{shift}");
    }
    device.tell(2);
    let all = all_texts(&device.state);
    assert_eq!(seqs(&device.state), (1..=19).collect::<Vec<_>>());
    assert!(device.chain(&all).ok);
    let (mut years, mut ids) = (Vec::new(), std::collections::HashSet::new());
    for text in &all {
        let payload: serde_json::Value =
            serde_json::from_str(&device.verify(text).unwrap().payload).unwrap();
        years.push(payload["time"].as_str().unwrap()[..4].parse::<i32>().unwrap());
        let id = payload["id"].as_str().unwrap();
        assert_eq!(&id[14..15], "7", "UUIDv7");
        assert!(ids.insert(id.to_owned()));
    }
    // Order and numbers do not heed the time, which is told as the clock told it.
    let now = years[0];
    assert!(years[2] - now >= 8 && now - years[7] >= 19, "{years:?}");
    assert!((years[18] - now).abs() <= 1, "{years:?}");
}

const CHILD: &str = "FAMILIAR_TEST_RECORDS";

/// Another process that records: this test program again, running only [`child_records`].
fn child(state: &StateDirectory, events: &str) -> std::process::Child {
    recording(Command::new(std::env::current_exe().unwrap()), state, events)
}

fn recording(mut program: Command, state: &StateDirectory, events: &str) -> std::process::Child {
    program
        .args(["--exact", "events::child_records", "--ignored"])
        .env(CHILD, events)
        .env("STATE_DIRECTORY", state.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
#[ignore = "a part of other tests, in a process of its own"]
fn child_records() {
    let events = std::env::var(CHILD).expect("is started by other tests alone");
    let (_, ledger) = open(&StateDirectory::open().unwrap());
    for n in 0..events.parse().unwrap() {
        ledger.record(&recognized(n)).unwrap();
    }
}

fn header(kid: &str, typ: &str) -> String {
    format!(r#"{{"alg":"EdDSA","b64":false,"crit":["b64"],"kid":"{kid}","typ":"{typ}"}}"#)
}

fn with_header(message: &str, header: &str) -> String {
    let mut envelope: serde_json::Value = serde_json::from_str(message).unwrap();
    envelope["protected"] = BASE64URL.encode(header).into();
    envelope.to_string()
}

fn texts(messages: &[familiar::event::SignedMessage]) -> Vec<String> {
    messages.iter().map(|message| message.as_str().to_owned()).collect()
}

fn all_texts(state: &StateDirectory) -> Vec<String> {
    entries(state).into_iter().map(|entry| entry.message.as_str().to_owned()).collect()
}

fn seqs(state: &StateDirectory) -> Vec<u64> {
    entries(state).into_iter().map(|entry| entry.seq).collect()
}

fn entries(state: &StateDirectory) -> Vec<familiar::event::outbox::Entry> {
    let outbox = Outbox::open(state).unwrap();
    let mut entries: Vec<familiar::event::outbox::Entry> = Vec::new();
    while let Some(entry) =
        outbox.after(entries.last().map(|e| e.position).unwrap_or_default()).unwrap()
    {
        entries.push(entry);
    }
    entries
}

/// SQLite's locks are the process's own, and closing any file drops them (POSIX); without them, whoever else
/// closes the database removes the journal that this process still writes.
/// Holds EVT-13.
#[test]
fn locks_survive_a_second_opening() {
    use std::os::unix::fs::MetadataExt;

    let Some(mut python) = judge::python("locks_survive_a_second_opening") else { return };
    let device = Device::new();
    device.tell(1);
    let _outbox = Outbox::open(&device.state).unwrap();
    let journal = device.state.file("outbox.db-wal");
    let before = std::fs::metadata(&journal).unwrap().ino();
    let program = "import sqlite3, sys\n\
                   other = sqlite3.connect(sys.argv[1])\n\
                   other.execute('SELECT count(*) FROM outbox').fetchone()\n\
                   other.close()";
    let path = device.state.file("outbox.db");
    assert!(python.args(["-c", program]).arg(path).status().unwrap().success());
    assert_eq!(std::fs::metadata(&journal).map(|file| file.ino()).ok(), Some(before));
}
