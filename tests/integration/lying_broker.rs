//! A broker that lies, floods, stalls or speaks nonsense: it costs a connection, and nothing more.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use familiar::config::Mqtt;
use familiar::event::Outbox;
use familiar::mqtt::{Broker, ClientError, Connection, Ears, Publisher, Session};

use super::support::device::{Device, name};
use super::support::fake_broker::{CONNACK, FakeBroker, answer, connack, honest, packet, retained};
use super::support::home::command;
use super::support::mosquitto::wait;

const PATIENT: Duration = Duration::from_mins(1);

fn depth(device: &Device) -> u64 {
    Outbox::open(&device.state).unwrap().depth().unwrap()
}

/// What the publisher complains of; nothing of three events was taken.
fn trouble(broker: &FakeBroker) -> String {
    let device = Device::new();
    device.tell(3);
    let publisher = device.publisher(&broker.url(), "");
    wait("trouble", || publisher.status().trouble.is_some());
    let status = publisher.status();
    assert_eq!((status.acknowledged, depth(&device)), (0, 3));
    status.trouble.unwrap()
}

/// How a bare connection ends.
fn ends(broker: &FakeBroker, clean: bool) -> ClientError {
    let device = Device::new();
    let mqtt: Mqtt = toml::from_str(&format!("url = {:?}", broker.url())).unwrap();
    let broker = Broker::new(&mqtt, &device.state).unwrap();
    let session = Session { client_id: "x".to_owned(), will: None, expiry: 60, clean };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcome: Result<(), ClientError> = runtime.block_on(async {
        let mut connection = Connection::open(&broker, &session).await?;
        loop {
            connection.next().await?;
        }
    });
    outcome.unwrap_err()
}

/// Holds MQT-17.
#[test]
fn garbage_in_the_middle_of_delivery() {
    let broker = FakeBroker::start(|number, mut stream| {
        let mut random = fastrand::Rng::with_seed(number as u64);
        if number >= 12 {
            return honest(&mut stream, usize::MAX);
        }
        honest(&mut stream, number);
        let garbage: Vec<u8> = (0..random.usize(1..2000)).map(|_| random.u8(..)).collect();
        let _ = stream.write_all(&garbage);
        let _ = stream.read(&mut [0; 4096]);
    });
    let device = Device::new();
    // More than all of them take together: none shall wait for what never comes.
    device.tell(80);
    for _ in 0..12 {
        // A new publisher each time: the waits between attempts are not what is tested.
        let before = broker.connections();
        let publisher = device.publisher(&broker.url(), "");
        wait("it came and went", || {
            broker.connections() > before && publisher.status().trouble.is_some()
        });
    }
    assert!(device.publisher(&broker.url(), "").flush(PATIENT).unwrap());
}

/// Holds MQT-17.
#[test]
fn oversized_packet() {
    let sent = Arc::new(AtomicU64::new(0));
    let count = sent.clone();
    let broker = FakeBroker::start(move |_, mut stream| {
        honest(&mut stream, 1);
        // The largest length that can be declared: 256 MiB of one message.
        let _ = stream.write_all(&[0x30, 0xff, 0xff, 0xff, 0x7f]);
        while stream.write_all(&vec![b'x'; 65536]).is_ok() {
            count.fetch_add(65536, Ordering::SeqCst);
        }
    });
    let why = trouble(&broker);
    assert!(why.contains("broke the protocol"), "{why}");
    assert!(sent.load(Ordering::SeqCst) < 64 << 20, "no more than sockets hold was taken");
}

/// Holds MQT-17.
#[test]
fn acknowledges_what_was_never_sent() {
    for id in [0u16, 1, 77, u16::MAX] {
        let broker = FakeBroker::start(move |_, mut stream| {
            honest(&mut stream, 1);
            let [high, low] = id.to_be_bytes();
            // Before anything else was sent, and again and again.
            let _ = stream.write_all(&[0x40, 2, high, low].repeat(50));
            while stream.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {}
        });
        let why = trouble(&broker);
        assert!(why.contains("acknowledged"), "{why}");
    }
}

/// Holds MQT-18.
#[test]
fn accepts_and_never_answers() {
    let broker =
        FakeBroker::start(
            |_, mut stream| {
                while stream.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {}
            },
        );
    assert!(trouble(&broker).contains("no answer in time"));
}

/// Holds MQT-18.
#[test]
fn slow_loris() {
    let broker = FakeBroker::start(|_, mut stream| {
        let _ = packet(&mut stream);
        // One byte a second of a CONNACK with a long reason.
        let mut bytes = vec![0x20, 104, 0, 0, 101, 0x1f, 0, 98];
        bytes.extend([b'x'; 98]);
        for byte in bytes {
            if stream.write_all(&[byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_secs(1));
        }
    });
    assert!(trouble(&broker).contains("no answer in time"));
}

/// Holds MQT-18.
#[test]
fn falls_silent_after_the_login() {
    let broker = FakeBroker::start(|_, mut stream| {
        let _ = packet(&mut stream);
        // It demands a sign of life each second, and gives none: half a packet for ever.
        let _ = stream.write_all(&connack(&[0x13, 0, 1]));
        let _ = stream.write_all(&[0x30, 100]);
        while stream.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(200));
        }
    });
    let error = ends(&broker, true);
    assert!(matches!(error, ClientError::Timeout | ClientError::Protocol(_)), "{error}");
}

/// Holds MQT-17.
#[test]
fn absurd_login() {
    let says = |answer: Vec<u8>, clean| {
        let broker = FakeBroker::start(move |_, mut stream| {
            let _ = packet(&mut stream);
            let _ = stream.write_all(&answer);
            while stream.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {}
        });
        ends(&broker, clean)
    };
    let receives_nothing = says(connack(&[0x21, 0, 0]), true);
    assert!(matches!(receives_nothing, ClientError::Protocol(_)), "{receives_nothing}");
    let no_size = says(connack(&[0x27, 0, 0, 0, 0]), true);
    assert!(matches!(no_size, ClientError::Protocol(_)), "{no_size}");
    assert!(matches!(says(connack(&[0x24, 0]), true), ClientError::NoQos1));
    assert!(matches!(says(connack(&[0x25, 0]), true), ClientError::NoRetain));
    let remembers = says(vec![0x20, 3, 1, 0, 0], true);
    assert!(matches!(remembers, ClientError::Protocol(_)), "a session that was to be forgotten");
    // Truths that contradict each other, a length that lies, an unknown property.
    for body in [&[0x21u8, 0, 1, 0x21, 0, 9][..], &[0x21, 0], &[0x7f, 1], &[0x1f, 0xff, 0xff]] {
        let broker = connack(body);
        let broker = FakeBroker::start(move |_, mut stream| {
            let _ = packet(&mut stream);
            let _ = stream.write_all(&broker);
        });
        ends(&broker, true);
    }
}

/// Holds MQT-19.
#[test]
fn takes_one_message_at_a_time() {
    let most = Arc::new(AtomicU64::new(0));
    let seen = most.clone();
    let broker = FakeBroker::start(move |_, mut stream| {
        let _ = packet(&mut stream);
        let _ = stream.write_all(&connack(&[0x21, 0, 1]));
        stream.set_read_timeout(Some(Duration::from_millis(30))).unwrap();
        // Waits for whether a second one comes before the first is acknowledged.
        let mut waiting = Vec::new();
        loop {
            let mut peeked = [0];
            match stream.peek(&mut peeked) {
                Ok(1..) => {
                    let Some((first, body)) = packet(&mut stream) else { return };
                    waiting.push(answer(first, &body).unwrap_or_default());
                    seen.fetch_max(waiting.len() as u64, Ordering::SeqCst);
                }
                Ok(0) => return,
                Err(_) => {
                    for answer in waiting.drain(..) {
                        let _ = stream.write_all(&answer);
                    }
                }
            }
        }
    });
    let device = Device::new();
    device.tell(10);
    assert!(device.publisher(&broker.url(), "").flush(PATIENT).unwrap());
    assert_eq!(most.load(Ordering::SeqCst), 1);
}

/// Holds MQT-19.
#[test]
fn takes_only_tiny_packets() {
    let broker = FakeBroker::start(|_, mut stream| {
        let _ = packet(&mut stream);
        let _ = stream.write_all(&connack(&[0x27, 0, 0, 0, 20]));
        honest(&mut stream, usize::MAX);
    });
    assert!(trouble(&broker).contains("20 bytes"));
}

/// Holds MQT-17.
#[test]
fn topics_that_are_none() {
    // QoS 0, the topic's length and name, properties, a byte of payload.
    let alias = [0x30, 7, 0, 0, 3, 0x23, 0, 1, b'x'].to_vec();
    let named_alias = [0x30, 8, 0, 1, b'a', 3, 0x23, 0, 1, b'x'].to_vec();
    let empty = [0x30, 4, 0, 0, 0, b'x'].to_vec();
    let wildcard = [0x30, 5, 0, 1, b'#', 0, b'x'].to_vec();
    let not_utf8 = [0x30, 5, 0, 1, 0xff, 0, b'x'].to_vec();
    let no_id = [0x32, 7, 0, 1, b'a', 0, 0, 0, b'x'].to_vec();
    for message in [alias, named_alias, empty, wildcard, not_utf8, no_id] {
        let shown = format!("{message:02x?}");
        let broker = FakeBroker::start(move |_, mut stream| {
            honest(&mut stream, 1);
            let _ = stream.write_all(&message);
            while stream.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {}
        });
        let error = ends(&broker, true);
        assert!(matches!(error, ClientError::Protocol(_)), "{shown}: {error}");
    }
}

/// Sends without end on a topic that the device listens to, and answers what it is told: one writer, so that no message is
/// cut in two.
fn flood(mut stream: TcpStream, topic: &str, sent: &AtomicU64) {
    honest(&mut stream, 1);
    stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let message = retained(topic, 9, &[b'x'; 15_000]);
    loop {
        for _ in 0..20 {
            if stream.write_all(&message).is_err() {
                return;
            }
            sent.fetch_add(message.len() as u64, Ordering::SeqCst);
        }
        while matches!(stream.peek(&mut [0]), Ok(1..)) {
            stream.set_read_timeout(None).unwrap();
            let Some((first, body)) = packet(&mut stream) else { return };
            stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
            if answer(first, &body).is_some_and(|answer| stream.write_all(&answer).is_err()) {
                return;
            }
        }
    }
}

/// Holds MQT-20.
#[test]
fn endless_retained_messages() {
    let sent = Arc::new(AtomicU64::new(0));
    let count = sent.clone();
    let broker =
        FakeBroker::start(move |_, stream| flood(stream, "familiar/porch/command", &count));
    let device = Device::new();
    device.tell(40);
    let mqtt = toml::from_str(&format!("url = {:?}", broker.url())).unwrap();
    let publisher = Publisher::start(
        Broker::new(&mqtt, &device.state).unwrap(),
        &name(),
        device.key.identity(&name()).unwrap(),
        Ears { command: true, ..Ears::default() },
        &device.state,
    )
    .unwrap();
    // The outbox moves all the same.
    assert!(publisher.flush(PATIENT).unwrap());
    wait("a hundred MiB of it", || sent.load(Ordering::SeqCst) > 100 << 20);
    let waiting = std::iter::from_fn(|| publisher.received()).take(10_000).count();
    assert!(waiting < 1000, "{waiting} messages were kept");
    device.tell(5);
    assert!(publisher.flush(PATIENT).unwrap());
}

/// The memory of a process of its own, flooded with half a gigabyte.
/// Holds MQT-20.
#[test]
fn flood_fills_no_memory() {
    let sent = Arc::new(AtomicU64::new(0));
    let count = sent.clone();
    let broker =
        FakeBroker::start(move |_, stream| flood(stream, "familiar/porch/command", &count));
    let folder = tempfile::tempdir().unwrap();
    let config = format!("device = \"porch\"\n[mqtt]\nurl = {:?}\n", broker.url());
    std::fs::write(folder.path().join("familiar.toml"), config).unwrap();
    let mut child = command(folder.path(), &["listen"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait("half a gigabyte", || {
        assert!(child.try_wait().unwrap().is_none(), "it is still there");
        sent.load(Ordering::SeqCst) > 500 << 20
    });
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib < 64 << 10, "{kib} KiB");
}

/// Sends for ever and never reads an acknowledgement: those must not pile up.
/// Holds MQT-20.
#[test]
fn floods_and_takes_no_answer() {
    let broker = FakeBroker::start(|_, mut stream| {
        let _ = packet(&mut stream);
        // A sign of life each second, so that the end comes soon.
        let _ = stream.write_all(&connack(&[0x13, 0, 1]));
        let messages = retained("a", 9, b"").repeat(1000);
        while stream.write_all(&messages).is_ok() {}
    });
    assert!(matches!(ends(&broker, true), ClientError::Timeout | ClientError::Io(_)));
    // Not the whole of what came was kept: two sides' sockets and a bounded buffer.
    assert_eq!(broker.connections(), 1);
}

/// Holds MQT-17.
#[test]
fn login_says_nothing_that_was_not_read() {
    // Even the very first bytes may be cut anywhere.
    for cut in 0..CONNACK.len() {
        let broker = FakeBroker::start(move |_, mut stream| {
            let _ = packet(&mut stream);
            let _ = stream.write_all(&CONNACK[..cut]);
        });
        assert!(matches!(ends(&broker, true), ClientError::Closed | ClientError::Io(_)));
    }
}

/// Quotas and access rules refuse one message and take the next; first arrivals keep their order.
/// Holds EVT-14.
#[test]
fn refuses_one_and_takes_the_next() {
    let arrived = Arc::new(std::sync::Mutex::new(Vec::new()));
    let (log, seen) = (arrived.clone(), Arc::new(AtomicU64::new(0)));
    let broker = FakeBroker::start(move |_, mut stream| {
        while let Some((first, body)) = packet(&mut stream) {
            let Some(mut reply) = answer(first, &body) else { return };
            if first >> 4 == 3 && body[2..].starts_with(b"familiar/porch/event") {
                // Every fifth is over the quota.
                if seen.fetch_add(1, Ordering::SeqCst) % 5 == 4 {
                    reply = vec![0x40, 3, reply[2], reply[3], 0x97];
                } else {
                    log.lock().unwrap().push(String::from_utf8_lossy(&body).into_owned());
                }
            }
            let _ = stream.write_all(&reply);
        }
    });
    let device = Device::new();
    device.tell(12);
    let publisher = device.publisher(&broker.url(), "");
    assert!(publisher.flush(PATIENT).unwrap());
    let arrived = arrived.lock().unwrap();
    assert_eq!(arrived.len(), 12, "none twice, for none was in doubt");
    for (number, text) in arrived.iter().enumerate() {
        assert!(text.contains(&format!("\\\"seq\\\":{},", number + 1)), "{number}: {text}");
    }
}

/// Holds CMD-13.
#[test]
fn outcomes_without_a_connection_are_handed_back() {
    let device = Device::new();
    let publisher = device.publisher("mqtt://127.0.0.1:1", "");
    let outcome = device.key.sign(familiar::event::Typ::Result, "{}").unwrap();
    publisher.answer(outcome.clone());
    assert_eq!(publisher.stop(), [outcome]);
}
