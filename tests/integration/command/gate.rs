//! The gate on its own: each way not to be obeyed, and that it leaves no trace but a count.

use std::os::unix::fs::PermissionsExt;

use familiar::command::{
    Command, CommandError, Gate, Judgement, LIMIT, OperatorKey, OperatorKeyError, OperatorsError,
    Origin, Refusal, SeenError, Trouble, request_digest,
};
use familiar::config::UnsignedCommand;
use familiar::event::Typ;
use familiar::event::jws::COMMAND_LIMIT;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::site::{Site, allow};

#[test]
fn operators_command_is_taken() {
    let mut site = Site::new();
    let names = ["pause", "resume", "update", "rollback", "identify-device", "health"];
    for name in names {
        let accepted = site.accepted(&site.sign(name, name));
        assert_eq!(accepted.command().name(), name);
        assert_eq!(accepted.id().unwrap().as_str(), name);
        let kid = site.operator.public().kid().to_owned();
        assert_eq!(*accepted.origin(), Origin::Operator(kid));
    }
    let mut order = site.order("f", "forget");
    order.args = json!({"person": "zoe"}).as_object().unwrap().clone();
    let accepted = site.accepted(&site.operator.sign(&order));
    assert_eq!(*accepted.command(), Command::Forget { person: "zoe".parse().unwrap() });
    assert_eq!((site.gate.counters().accepted, site.gate.counters().refused), (7, 0));
}

#[test]
fn result_tells_what_became_of_it() {
    let mut site = Site::new();
    let text = site.sign("a", "health");
    let accepted = site.accepted(&text);
    let done = accepted.done("here it is").with_data(json!({"uptime": 7}));
    let payload: serde_json::Value = serde_json::from_str(&site.signed(&done)).unwrap();
    assert_eq!(
        payload,
        json!({
            "v": 1, "device": "porch", "id": "a", "command": "health",
            "request": request_digest(text.as_bytes()), "outcome": "done", "message": "here it is",
            "time": format!("{:.3}", site.at.time), "clock": site.at.clock, "data": {"uptime": 7},
        })
    );
    // What an error says is cut, and breaks no line; what is too much is left out.
    let failed = accepted.failed(Trouble::Internal, &"no\n\u{1b}[2J\"".repeat(1000));
    let failed = site.signed(&failed.with_data(json!("\"".repeat(3000))));
    let failed: serde_json::Value = serde_json::from_str(&failed).unwrap();
    assert_eq!((&failed["outcome"], &failed["reason"]), (&json!("failed"), &json!("internal")));
    let message = failed["message"].as_str().unwrap();
    assert!(message.chars().count() == 300 && !message.contains(char::is_control));
    assert!(failed.get("data").is_none());
}

/// Holds CMD-01.
#[test]
fn forged_command() {
    let mut site = Site::new();
    let text = site.sign("a", "pause");
    // Every bit of it counts: nothing but the very message is taken.
    for at in 0..text.len() {
        for bit in [0x01, 0x02, 0x20] {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= bit;
            assert!(
                matches!(site.gate.judge(&bytes, false, &site.at), Judgement::Refused(_)),
                "byte {at}: {}",
                String::from_utf8_lossy(&bytes)
            );
        }
    }
    site.pass(60);
    assert_eq!(site.refused(&text.replace("pause", "resum")), Refusal::Forged);
    let mut other: serde_json::Value = serde_json::from_str(&site.sign("b", "pause")).unwrap();
    let genuine: serde_json::Value = serde_json::from_str(&text).unwrap();
    other["signature"] = genuine["signature"].clone();
    assert_eq!(site.refused(&other.to_string()), Refusal::Forged);
    // It had no effect: the genuine one is still new.
    site.at.time -= SignedDuration::from_secs(60);
    site.accepted(&text);
}

/// Holds CMD-01.
#[test]
fn command_of_a_stranger() {
    let mut site = Site::new();
    let stranger = site.another_operator("stranger.pem");
    let text = stranger.sign(&site.order("a", "pause"));
    assert_eq!(site.refused(&text), Refusal::UnknownKey);
    // Nor does it help to claim a key that is trusted.
    let as_ours = with_header(&text, &header(site.operator.public().kid(), Typ::Command.as_str()));
    assert_eq!(site.refused(&as_ours), Refusal::Forged);
    // The device's own key commands nothing.
    let own = site.device.sign(Typ::Command, &payload(&site.order("b", "pause"))).unwrap();
    assert_eq!(site.refused(own.as_str()), Refusal::UnknownKey);
}

/// Holds CMD-02.
#[test]
fn replayed_command() {
    let mut site = Site::new();
    let text = site.sign("a", "pause");
    site.accepted(&text);
    assert_eq!(site.refused(&text), Refusal::Replayed);
    site.restart();
    assert_eq!(site.refused(&text), Refusal::Replayed);
    // The id, not the bytes: the same signed anew is a replay too, by whomever.
    let mut order = site.order("a", "resume");
    assert_eq!(site.refused(&site.operator.sign(&order)), Refusal::Replayed);
    let other = site.another_operator("other.pem");
    allow(site.folder.path(), &[&site.operator, &other]);
    site.gate.reload(&site.located()).unwrap();
    assert_eq!(site.refused(&other.sign(&order)), Refusal::Replayed);
    order.id = "b".to_owned().try_into().unwrap();
    site.accepted(&other.sign(&order));
    // Retained by the broker it comes with each connection, and is done once.
    let text = site.sign("c", "pause");
    let judge = |site: &mut Site| site.gate.judge(text.as_bytes(), true, &site.at);
    assert!(matches!(judge(&mut site), Judgement::Accepted(_)));
    site.restart();
    assert!(
        matches!(judge(&mut site), Judgement::Refused(refused) if refused.reason() == Refusal::Replayed)
    );
}

/// Ids are dropped once they have expired. No clock, set wherever, makes them come alive again.
/// Holds CMD-09.
#[test]
fn replay_after_the_clock_was_set_back() {
    let mut site = Site::new();
    let start = site.at.time;
    let mut texts = Vec::new();
    for n in 0..30 {
        let text = site.sign(&format!("id{n}"), "health");
        site.accepted(&text);
        texts.push(text);
        site.pass(60);
    }
    // The first have been dropped by now.
    let kept: i64 = rusqlite::Connection::open(site.state.file("commands.db"))
        .unwrap()
        .query_row("SELECT count(*) FROM seen", [], |row| row.get(0))
        .unwrap();
    assert!(kept < 10, "{kept} ids kept");
    for hours in [-24 * 365 * 57, -24, -1, 0, 1, 24] {
        site.set_clock(start + SignedDuration::from_hours(hours));
        for (n, text) in texts.iter().enumerate() {
            let minute = start + SignedDuration::from_mins(n as i64);
            for time in [site.at.time, minute] {
                site.at.time = time;
                let refused = site.refusal(text.as_bytes()).reason();
                assert!(matches!(refused, Refusal::Replayed | Refusal::Stale), "{n}: {refused:?}");
            }
        }
        site.restart();
    }
}

/// What was signed for an earlier time and kept back is not young again on a clock that was set back.
#[test]
fn withheld_command_after_the_clock_was_set_back() {
    let mut site = Site::new();
    let withheld = site.sign("withheld", "pause");
    let start = site.at.time;
    site.pass(3600);
    let later = site.sign("later", "health");
    site.accepted(&later);
    site.restart();
    site.set_clock(start);
    assert_eq!(site.refused(&withheld), Refusal::Stale);
}

/// A device without battery and network begins in 1970 at each start. It tells its time, the operator signs
/// by it, and what was done is not done again at the next start.
/// Holds CMD-09.
#[test]
fn clock_that_begins_in_1970() {
    let mut site = Site::new();
    let truth = site.at.time;
    let boot = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(20);
    site.set_clock(boot);
    let mut order = site.order("a", "pause");
    (order.issued, order.expires) = (truth, truth + SignedDuration::from_secs(60));
    let refused = site.refusal(site.operator.sign(&order).as_bytes());
    assert_eq!(refused.reason(), Refusal::Future);
    let told = site.result(&refused);
    assert_eq!((told.time.as_second(), told.now), (20, None));
    let text = site.sign("b", "pause"); // by the device's time
    site.accepted(&text);
    site.pass(1000);
    let later = site.sign("c", "resume");
    site.accepted(&later);
    // The next start.
    site.restart();
    site.set_clock(boot);
    // The first one's id was dropped, for by then its time was over.
    assert_eq!(site.refused(&text), Refusal::Stale);
    assert_eq!(site.refused(&later), Refusal::Replayed);
    let refused = site.refusal(site.operator.sign(&order).as_bytes());
    let now = site.result(&refused).now.expect("it knows that its clock is behind");
    assert_eq!(now.as_second(), 1020);
    site.at.time = now;
    let text = site.sign("d", "pause");
    site.at.time = boot;
    site.accepted(&text);
}

/// Holds CMD-03.
#[test]
fn stale_command() {
    let mut site = Site::new();
    let text = site.sign("a", "pause");
    site.pass(60 + 300);
    site.pass(1);
    assert_eq!(site.refused(&text), Refusal::Stale);
    site.at.time -= SignedDuration::from_secs(1);
    site.accepted(&text);
}

/// Holds CMD-03.
#[test]
fn command_from_the_future() {
    let mut site = Site::new();
    let mut order = site.order("a", "pause");
    order.issued += SignedDuration::from_secs(301);
    order.expires += SignedDuration::from_secs(301);
    let text = site.operator.sign(&order);
    assert_eq!(site.refused(&text), Refusal::Future);
    site.pass(1);
    site.accepted(&text);
}

/// Holds ROB-16.
#[test]
fn command_that_never_expires() {
    let mut site = Site::new();
    let mut order = site.order("a", "pause");
    order.expires = order.issued + SignedDuration::from_secs(24 * 3600 + 1);
    assert_eq!(site.refused(&site.operator.sign(&order)), Refusal::Window);
    order.expires = Timestamp::MAX;
    assert_eq!(site.refused(&site.operator.sign(&order)), Refusal::Window);
    order.expires = order.issued;
    assert_eq!(site.refused(&site.operator.sign(&order)), Refusal::Window);
}

/// Holds CMD-04.
#[test]
fn command_for_another_device() {
    let mut site = Site::new();
    for device in ["garden", "", "Porch", "porch ", "+", "#", "*"] {
        let mut order = site.order("a", "pause");
        order.device = device.to_owned();
        assert_eq!(site.refused(&site.operator.sign(&order)), Refusal::OtherDevice, "{device}");
    }
}

/// Holds CMD-05.
#[test]
fn oversized_command() {
    let mut site = Site::new();
    let text = site.sign("a", "pause");
    let with = |length: usize| format!("{text}{}", " ".repeat(length - text.len()));
    assert_eq!(LIMIT, COMMAND_LIMIT);
    assert_eq!(site.refused(&with(LIMIT + 1)), Refusal::Oversized);
    assert_eq!(site.refused(&"[".repeat(60_000)), Refusal::Oversized);
    // The limit itself is within.
    site.accepted(&with(LIMIT));
}

/// Holds CMD-06.
#[test]
fn malformed_command() {
    let mut site = Site::new();
    let good = payload(&site.order("a", "pause"));
    site.accepted(&site.sign_text(Typ::Command, &good));
    let minute = r#""issued":"2026-11-23T00:00:00Z","expires":"2026-11-23T00:01:00Z""#;
    // Well signed, and yet no command.
    for payload in [
        String::new(),
        "null".to_owned(),
        "[]".to_owned(),
        "{".to_owned(),
        good.replacen('a', "ä/../", 1),
        good.replacen(r#""id":"a""#, r#""id":"a b""#, 1),
        good.replacen(r#""id":"a""#, r#""id":"""#, 1),
        good.replacen(r#""id":"a""#, &format!(r#""id":"{}""#, "x".repeat(65)), 1),
        good.replacen(r#""id":"a","#, "", 1),
        good.replacen(r#""device":"porch","#, "", 1),
        good.replacen('{', r#"{"extra":1,"#, 1),
        good.replacen('{', r#"{"id":"b","#, 1),
        good.replacen(r#""args":{}"#, r#""args":null"#, 1),
        good.replacen(r#""args":{}"#, r#""args":[]"#, 1),
        good.replacen(r#""args":{}"#, r#""args":{"x":1}"#, 1),
        format!(r#"{{"id":"b","device":"porch","command":"pause",{}}}"#, minute.replace('Z', "")),
        r#"{"id":"b","device":"porch","command":"pause","issued":1,"expires":2}"#.to_owned(),
        format!("{good} {good}"),
    ] {
        site.pass(10);
        let refused = site.refused(&site.sign_text(Typ::Command, &payload));
        assert_eq!(refused, Refusal::Malformed, "{payload}");
    }
    // No signed message at all.
    for bytes in [
        b"".as_slice(),
        b"{}",
        b"pause",
        b"\xff\xfe\x00",
        b"\x00\x00",
        "[".repeat(LIMIT).as_bytes(),
        r#"{"payload":"{}","protected":"","signature":""}"#.as_bytes(),
    ] {
        site.pass(10);
        assert_eq!(site.refusal(bytes).reason(), Refusal::Malformed, "{bytes:?}");
    }
    // Other algorithms and headers do not even come to be verified.
    let kid = site.operator.public().kid().to_owned();
    for (from, to) in [("EdDSA", "none"), ("EdDSA", "HS256"), ("false", "true")] {
        let header = header(&kid, Typ::Command.as_str()).replace(from, to);
        let refused = site.refused(&with_header(&site.sign_text(Typ::Command, &good), &header));
        assert_eq!(refused, Refusal::Malformed, "{header}");
    }
}

/// Holds CMD-06.
#[test]
fn unknown_command() {
    let mut site = Site::new();
    for command in ["reboot", "", "PAUSE", "pause ", "forget; rm -rf", "__proto__"] {
        assert_eq!(site.refused(&site.sign("a", command)), Refusal::UnknownCommand, "{command}");
    }
}

/// Holds CMD-07.
#[test]
fn event_replayed_as_command() {
    let mut site = Site::new();
    // The operator's key signed it, but as something else.
    let text = site.sign("a", "pause");
    let kid = site.operator.public().kid().to_owned();
    for typ in [Typ::Event, Typ::Presence, Typ::Health, Typ::Identity, Typ::Result] {
        let text = site.sign_text(typ, &payload(&site.order("a", "pause")));
        assert_eq!(site.refused(&text), Refusal::Typ, "{typ}");
        // Renaming it breaks the signature.
        let renamed = with_header(&text, &header(&kid, Typ::Command.as_str()));
        assert_eq!(site.refused(&renamed), Refusal::Forged, "{typ}");
    }
    site.accepted(&text);
}

/// Holds CMD-08.
#[test]
fn flood_of_commands() {
    let mut site = Site::new();
    let other = site.another_operator("other.pem");
    allow(site.folder.path(), &[&site.operator, &other]);
    site.gate.reload(&site.located()).unwrap();
    for n in 0..10 {
        site.accepted(&site.sign(&format!("id{n}"), "health"));
    }
    for n in 10..60 {
        assert_eq!(site.refused(&site.sign(&format!("id{n}"), "health")), Refusal::Rate);
    }
    // An operator does not use up what another may.
    site.accepted(&other.sign(&site.order("other", "pause")));
    // A refused one was not taken: it may come again when there is room.
    site.pass(59);
    assert_eq!(site.refused(&site.sign("id10", "health")), Refusal::Rate);
    site.pass(1);
    site.accepted(&site.sign("id10", "health"));
}

/// Holds CMD-11.
#[test]
fn flood_of_forgeries_locks_nobody_out() {
    let mut site = Site::new();
    let stranger = site.another_operator("stranger.pem");
    let done = site.sign("done", "health");
    site.accepted(&done);
    let mut answered = 0;
    for n in 0..2000 {
        let text = match n % 4 {
            0 => "garbage".to_owned(),
            1 => stranger.sign(&site.order("x", "pause")),
            // What the operator once signed, caught and sent again.
            2 => done.clone(),
            _ => site.sign("y", "pause").replace("pause", "resum"),
        };
        answered += u64::from(site.refusal(text.as_bytes()).answer().is_some());
    }
    assert_eq!(answered, 100, "answers are bounded");
    let counters = site.gate.counters();
    assert_eq!((counters.refused, counters.unanswered), (2000, 1900));
    let by = |reason| counters.by_reason.get(&reason).copied();
    assert_eq!(by(Refusal::Forged), Some(500));
    assert_eq!(by(Refusal::UnknownKey), Some(500));
    assert_eq!(by(Refusal::Replayed), Some(500));
    assert_eq!(counters.last_refusal.unwrap().reason, Refusal::Forged);
    site.accepted(&site.sign("genuine", "pause"));
}

/// Holds CMD-12.
#[test]
fn command_of_a_removed_operator() {
    let mut site = Site::new();
    let other = site.another_operator("other.pem");
    allow(site.folder.path(), &[&other]);
    site.accepted(&site.sign("a", "pause"));
    site.gate.reload(&site.located()).unwrap();
    assert_eq!(site.refused(&site.sign("b", "pause")), Refusal::UnknownKey);
    site.accepted(&other.sign(&site.order("c", "pause")));
    // Nor does one stay because the file has become unreadable.
    std::fs::write(site.folder.path().join("operators.jwks"), "{\"keys\":[").unwrap();
    assert!(matches!(site.gate.reload(&site.located()), Err(OperatorsError::Malformed { .. })));
    assert_eq!(site.refused(&other.sign(&site.order("d", "pause"))), Refusal::NoOperators);
}

#[test]
fn no_operators() {
    let mut site = Site::new();
    let file = site.folder.path().join("operators.jwks");
    for nobody in ["{\"keys\":[]}", ""] {
        if nobody.is_empty() {
            std::fs::remove_file(&file).unwrap();
        } else {
            std::fs::write(&file, nobody).unwrap();
        }
        site.gate.reload(&site.located()).unwrap();
        assert_eq!(site.refused(&site.sign("a", "pause")), Refusal::NoOperators);
    }
}

#[test]
fn operators_that_others_may_write() {
    let site = Site::new();
    let file = site.folder.path().join("operators.jwks");
    let open = || Gate::open(&site.located(), &site.state);
    for mode in [0o664, 0o646, 0o666] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        assert!(
            matches!(open(), Err(CommandError::Operators(OperatorsError::TooOpen { .. }))),
            "{mode:o}"
        );
    }
    // Public keys are no secret.
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(open().is_ok());
    // A private key among them was given away by whoever put it there.
    let jwk = site.operator.public().to_jwk().replace("\"kid\"", "\"d\":\"AAAA\",\"kid\"");
    std::fs::write(&file, format!("{{\"keys\":[{jwk}]}}")).unwrap();
    assert!(matches!(open(), Err(CommandError::Operators(OperatorsError::Malformed { .. }))));
}

/// Holds CMD-10.
#[test]
fn id_that_cannot_be_stored_is_not_obeyed() {
    let mut site = Site::new();
    let connection = rusqlite::Connection::open(site.state.file("commands.db")).unwrap();
    connection
        .execute_batch(
            "CREATE TRIGGER full BEFORE INSERT ON seen
             BEGIN SELECT raise(ABORT, 'database or disk is full'); END",
        )
        .unwrap();
    assert_eq!(site.refused(&site.sign("a", "pause")), Refusal::Storage);
    connection.execute_batch("DROP TRIGGER full").unwrap();
    site.accepted(&site.sign("a", "pause"));
}

/// Holds CMD-10.
#[test]
fn damaged_ids_are_not_forgotten_in_silence() {
    let mut site = Site::new();
    site.accepted(&site.sign("a", "pause"));
    let path = site.state.file("commands.db");
    let located = site.located();
    drop(site.gate);
    for damaged in [b"not a database at all".repeat(100), vec![0xa5; 8192]] {
        for name in ["commands.db-wal", "commands.db-shm"] {
            let _ = std::fs::remove_file(site.state.file(name));
        }
        std::fs::write(&path, &damaged).unwrap();
        let refused = Gate::open(&located, &site.state).err().unwrap();
        assert!(matches!(refused, CommandError::Seen(SeenError::Damaged { .. })), "{refused}");
        assert_eq!(std::fs::read(&path).unwrap(), damaged);
    }
}

#[test]
fn ids_lie_in_a_file_of_the_owners() {
    let site = Site::new();
    let path = site.state.file("commands.db");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(
        Gate::open(&site.located(), &site.state),
        Err(CommandError::Seen(SeenError::Io { .. }))
    ));
}

/// Nothing of a message is told again but an id that is made of letters.
/// Holds CMD-17.
#[test]
fn answers_echo_nothing() {
    let mut site = Site::new();
    let evil = "\u{1b}]0;pwned\u{7}<script>";
    let texts = [
        site.sign("sound", evil),
        site.sign_text(
            Typ::Command,
            &payload(&site.order("a", "pause")).replace("\"a\"", &format!("{evil:?}")),
        ),
        site.sign_text(Typ::Command, evil),
        evil.to_owned(),
    ];
    for text in texts {
        let refused = site.refusal(text.as_bytes());
        let told = site.signed(&refused.answer().unwrap());
        assert!(!told.contains("pwned") && !told.contains("script"), "{told}");
    }
    // An unproven id is told, so that whoever sent it learns of the refusal; `request` says of what.
    let forged = site.sign("mine", "pause").replace("pause", "resum");
    let refused = site.refusal(forged.as_bytes());
    let told = site.result(&refused);
    assert_eq!(told.id.as_deref(), Some("mine"));
    assert_eq!(told.request, Some(request_digest(forged.as_bytes())));
}

#[test]
fn unsigned_commands() {
    use UnsignedCommand::{Pause, Resume, Update};
    let mut site = Site::new();
    let mut judge = |name: &str, payload: &[u8], retained: bool, allowed: &[UnsignedCommand]| {
        site.pass(60);
        match site.gate.unsigned(name, payload, retained, allowed, &site.at) {
            Judgement::Accepted(accepted) => {
                assert_eq!((accepted.origin(), accepted.id()), (&Origin::Broker, None));
                Ok(accepted.command().clone())
            }
            Judgement::Refused(refused) => {
                assert_eq!(refused.answer().is_none(), refused.reason() == Refusal::Retained);
                Err(refused.reason())
            }
        }
    };
    let all = [Pause, Resume, Update];
    for payload in [b"".as_slice(), b"PRESS", b"ON"] {
        assert_eq!(judge("pause", payload, false, &all), Ok(Command::Pause));
        assert_eq!(judge("resume", payload, false, &all), Ok(Command::Resume));
        assert_eq!(judge("update", payload, false, &all), Ok(Command::Update));
        assert_eq!(judge("pause", payload, false, &[Resume]), Err(Refusal::NotAllowed));
        assert_eq!(judge("update", payload, false, &[]), Err(Refusal::NotAllowed));
    }
    assert_eq!(judge("pause", b"OFF", false, &all), Ok(Command::Resume));
    // Pausing alone is allowed: whoever may do that may not make it look again.
    assert_eq!(judge("pause", b"OFF", false, &[Pause]), Err(Refusal::NotAllowed));
    for (name, payload) in
        [("resume", b"OFF".as_slice()), ("pause", b"on"), ("pause", b"{}"), ("update", b" ")]
    {
        assert_eq!(judge(name, payload, false, &all), Err(Refusal::Malformed), "{name}");
    }
    for name in ["forget", "health", "rollback", "identify-device", "", "pause/x"] {
        assert_eq!(judge(name, b"", false, &all), Err(Refusal::UnknownCommand), "{name}");
    }
    assert_eq!(judge("pause", b"ON", true, &all), Err(Refusal::Retained));
}

#[test]
fn flood_of_unsigned_commands() {
    let mut site = Site::new();
    let allowed = [UnsignedCommand::Pause];
    let mut taken = 0;
    for _ in 0..500 {
        let judgement = site.gate.unsigned("pause", b"ON", false, &allowed, &site.at);
        taken += u32::from(matches!(judgement, Judgement::Accepted(_)));
    }
    assert_eq!(taken, 10);
    // The operators' own are not touched by it.
    site.accepted(&site.sign("a", "resume"));
}

#[test]
fn operator_key_that_others_may_read() {
    let site = Site::new();
    let path = site.folder.path().join("operator.pem");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    for mode in [0o640, 0o604, 0o644] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        assert!(matches!(OperatorKey::open(&path), Err(OperatorKeyError::TooOpen { .. })));
    }
    // A key is never overwritten.
    let before = std::fs::read(&path).unwrap();
    assert!(matches!(OperatorKey::create(&path), Err(OperatorKeyError::Io { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), before);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&path, site.operator.public().to_jwk()).unwrap();
    assert!(matches!(OperatorKey::open(&path), Err(OperatorKeyError::Malformed { .. })));
}

fn payload(order: &familiar::command::Order) -> String {
    serde_json::to_string(order).unwrap()
}

fn header(kid: &str, typ: &str) -> String {
    format!(r#"{{"alg":"EdDSA","b64":false,"crit":["b64"],"kid":"{kid}","typ":"{typ}"}}"#)
}

/// The message with another protected header; its signature stays.
fn with_header(text: &str, header: &str) -> String {
    use base64::Engine as _;
    let mut message: serde_json::Value = serde_json::from_str(text).unwrap();
    message["protected"] = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(header).into();
    message.to_string()
}
