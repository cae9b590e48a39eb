//! Delivery to a real Mosquitto: nothing lost, in order, whatever the broker and the network do.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use familiar::config::Mqtt;
use familiar::event::Outbox;
use familiar::event::jws::{Envelope, LIMIT};
use familiar::mqtt::{Broker, ClientError, Connection, Session};

use super::support::device::Device;
use super::support::home::command;
use super::support::mosquitto::{Mosquitto, Subscriber, free_port, password, wait};
use super::support::proxy::Proxy;
use crate::support::not_run;

const PATIENT: Duration = Duration::from_mins(1);

fn loopback(port: u16) -> String {
    format!("mqtt://127.0.0.1:{port}")
}

fn depth(device: &Device) -> u64 {
    Outbox::open(&device.state).unwrap().depth().unwrap()
}

/// Different events in the order they first came.
fn first_times(events: &[String]) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    events.iter().filter(|event| seen.insert(event.as_str())).cloned().collect()
}

#[test]
fn events_arrive_as_signed() {
    let Some(broker) = Mosquitto::start("events_arrive_as_signed", "") else { return };
    let subscriber = Subscriber::start(broker.port, "familiar/#", &[]);
    let device = Device::new();
    let before = device.tell(3);
    let publisher = device.publisher(&loopback(broker.port), "");
    let after = device.tell(40);
    publisher.notify();
    assert!(publisher.flush(PATIENT).unwrap());
    wait("all events", || subscriber.on("/event").len() == 43);
    let sent: Vec<_> = before.iter().chain(&after).map(|m| m.as_str().to_owned()).collect();
    assert_eq!(subscriber.on("/event"), sent);
    assert_eq!(publisher.status().acknowledged, 43);
    // Who the device is comes before what it says.
    let topics: Vec<String> = subscriber.messages().into_iter().map(|(topic, _)| topic).collect();
    assert_eq!(topics[..2], ["familiar/porch/availability", "familiar/porch/identity"]);
    publisher.stop();
    wait("offline", || subscriber.on("/availability") == ["online", "offline"]);
    // Events are not retained; the identity is, and it introduces the key.
    let late = Subscriber::start(broker.port, "familiar/#", &[]);
    wait("what is retained", || late.messages().len() == 2);
    let identity = Envelope::parse(&late.on("/identity")[0]).unwrap();
    let met = familiar::event::identity::introduction(identity).unwrap();
    assert_eq!((met.device.as_str(), &met.key), ("porch", device.key.public()));
    assert_eq!(late.on("/availability"), ["offline"]);
}

/// Who was told of, and when, lingers neither in the database nor in its journal.
/// Holds EVT-15.
#[test]
fn delivered_events_leave_no_bytes() {
    let Some(broker) = Mosquitto::start("delivered_events_leave_no_bytes", "") else { return };
    let device = Device::new();
    device.tell(20);
    let holds = || {
        ["outbox.db", "outbox.db-wal"].iter().any(|name| {
            let bytes = std::fs::read(device.state.file(name)).unwrap_or_default();
            bytes.windows(10).any(|part| part == b"recognized")
        })
    };
    assert!(holds(), "what waits is there");
    let publisher = device.publisher(&loopback(broker.port), "");
    assert!(publisher.flush(PATIENT).unwrap());
    wait("nothing is left of them", || !holds());
}

/// Holds EVT-04.
#[test]
fn broker_away() {
    let Some(mut broker) = Mosquitto::start("broker_away", "") else { return };
    broker.kill();
    let device = Device::new();
    let publisher = device.publisher(&loopback(broker.port), "");
    device.tell(200);
    publisher.notify();
    wait("trouble", || publisher.status().trouble.is_some());
    assert!(!publisher.flush(Duration::from_millis(100)).unwrap());
    // The subscriber must be there first: while it comes, nobody else gets through.
    let proxy_gate = Proxy::start(broker.port);
    proxy_gate.open(false);
    publisher.stop();
    let publisher = device.publisher(&loopback(proxy_gate.port), "");
    broker.start_again();
    let subscriber = Subscriber::start(broker.port, "familiar/#", &[]);
    proxy_gate.open(true);
    assert!(publisher.flush(PATIENT).unwrap());
    wait("all events", || first_times(&subscriber.on("/event")).len() == 200);
    let report = device.chain(&subscriber.on("/event"));
    assert!(report.ok && report.events == 200, "{report:?}");
}

/// Holds EVT-04.
#[test]
fn broker_forgets_the_session() {
    let Some(mut broker) = Mosquitto::start("broker_forgets_the_session", "") else { return };
    let proxy = Proxy::start(broker.port);
    let device = Device::new();
    let publisher = device.publisher(&loopback(proxy.port), "");
    let mut received = Vec::new();
    for round in 0..4 {
        let subscriber = Subscriber::start(broker.port, "familiar/#", &[]);
        proxy.open(true);
        wait("connected", || publisher.status().connected);
        device.tell(1);
        assert!(publisher.flush(PATIENT).unwrap());
        // From here on the broker takes messages whose acknowledgement may not come through.
        proxy.deaf(round % 2 == 1);
        device.tell(30);
        publisher.notify();
        if round % 2 == 1 {
            wait("an event whose answer is lost", || subscriber.on("/event").len() > 1);
        } else {
            assert!(publisher.flush(PATIENT).unwrap());
        }
        proxy.open(false);
        proxy.cut();
        proxy.deaf(false);
        broker.kill();
        wait("disconnected", || !publisher.status().connected);
        wait("the subscriber has all that it will get", || {
            let n = subscriber.on("/event").len();
            std::thread::sleep(Duration::from_millis(100));
            n == subscriber.on("/event").len()
        });
        received.extend(subscriber.on("/event"));
        broker.start_again();
    }
    let subscriber = Subscriber::start(broker.port, "familiar/#", &[]);
    proxy.open(true);
    assert!(publisher.flush(PATIENT).unwrap());
    wait("the last", || {
        let mut all = received.clone();
        all.extend(subscriber.on("/event"));
        first_times(&all).len() == 124
    });
    received.extend(subscriber.on("/event"));
    let report = device.chain(&received);
    assert!(report.ok && report.events == 124 && report.duplicates > 0, "{report:?}");
}

/// Holds EVT-03.
#[test]
fn killed_before_puback() {
    let Some(broker) = Mosquitto::start("killed_before_puback", "") else { return };
    let subscriber = Subscriber::start(broker.port, "familiar/#", &[]);
    let proxy = Proxy::start(broker.port);
    let device = Device::new();
    let publisher = device.publisher(&loopback(proxy.port), "");
    device.tell(1);
    assert!(publisher.flush(PATIENT).unwrap());
    proxy.deaf(true);
    device.tell(40);
    publisher.notify();
    // In flight is no more than one, and it does not leave the outbox.
    wait("one that waits for its answer", || subscriber.on("/event").len() == 2);
    assert_eq!(depth(&device), 40);
    drop(publisher);
    assert_eq!(subscriber.on("/event").len(), 2);
    assert_eq!(depth(&device), 40);
    proxy.deaf(false);
    let publisher = device.publisher(&loopback(proxy.port), "");
    assert!(publisher.flush(PATIENT).unwrap());
    wait("all events", || subscriber.on("/event").len() == 42);
    let report = device.chain(&subscriber.on("/event"));
    assert!(report.ok && report.events == 41 && report.duplicates == 1, "{report:?}");
}

/// Holds EVT-04.
#[test]
fn cut_again_and_again() {
    let Some(broker) = Mosquitto::start("cut_again_and_again", "") else { return };
    let subscriber = Subscriber::start(broker.port, "familiar/#", &[]);
    let proxy = Proxy::start(broker.port);
    let device = Device::new();
    let publisher = device.publisher(&loopback(proxy.port), "");
    for _ in 0..8 {
        device.tell(50);
        publisher.notify();
        wait("connected", || publisher.status().connected);
        proxy.cut();
    }
    assert!(publisher.flush(PATIENT).unwrap());
    wait("all events", || first_times(&subscriber.on("/event")).len() == 400);
    let report = device.chain(&subscriber.on("/event"));
    assert!(report.ok && report.events == 400, "{report:?}");
    // The will was told each time the broker noticed; the last word is `online`.
    wait("online", || subscriber.on("/availability").last().is_some_and(|last| last == "online"));
    assert!(subscriber.on("/availability").iter().any(|text| text == "offline"));
}

/// Holds MQT-21.
#[test]
fn refused_by_access_rules() {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("acl");
    let allow = |events: &str| {
        std::fs::write(
            &rules,
            format!("topic read familiar/#\ntopic write familiar/porch/availability\n{events}"),
        )
        .unwrap();
    };
    allow("");
    let options = format!("acl_file {}", rules.display());
    let Some(broker) = Mosquitto::start("refused_by_access_rules", &options) else { return };
    let subscriber = Subscriber::start(broker.port, "familiar/#", &[]);
    let device = Device::new();
    device.tell(20);
    let publisher = device.publisher(&loopback(broker.port), "");
    wait("a refusal", || {
        publisher.status().trouble.is_some_and(|trouble| trouble.contains("not authorized (0x87)"))
    });
    assert_eq!(depth(&device), 20);
    assert!(subscriber.on("/event").is_empty());
    allow("topic write familiar/porch/event\n");
    broker.reload();
    assert!(publisher.flush(PATIENT).unwrap());
    wait("all events", || subscriber.on("/event").len() == 20);
    assert!(device.chain(&subscriber.on("/event")).ok);
    assert_eq!(publisher.status().trouble, None);
}

/// `cargo test --release --test integration -- --ignored --nocapture mqtt::throughput`
#[test]
#[ignore = "a measurement"]
fn throughput() {
    const EVENTS: usize = 5000;
    let Some(broker) = Mosquitto::start("throughput", "") else { return };
    let device = Device::new();
    let start = std::time::Instant::now();
    device.tell(EVENTS);
    let recorded = start.elapsed();
    let start = std::time::Instant::now();
    let publisher = device.publisher(&loopback(broker.port), "");
    assert!(publisher.flush(PATIENT).unwrap());
    let rate = |time: Duration| EVENTS as f64 / time.as_secs_f64();
    println!(
        "{:.0} events/s recorded, {:.0} events/s published",
        rate(recorded),
        rate(start.elapsed())
    );
}

#[test]
fn wrong_password() {
    let folder = tempfile::tempdir().unwrap();
    let Some(options) = password(folder.path(), "porch", "secret 1") else { return };
    let Some(broker) = Mosquitto::start("wrong_password", &options) else { return };
    let device = Device::new();
    device.tell(1);
    let login = "username = \"porch\"";
    let publisher = device.publisher(&loopback(broker.port), login);
    wait("a refusal", || {
        publisher.status().trouble.is_some_and(|trouble| trouble.contains("refused the login"))
    });
    publisher.stop();
    familiar::system::secret::create(&device.state, "mqtt-password", b"secret 1\n").unwrap();
    assert!(device.publisher(&loopback(broker.port), login).flush(PATIENT).unwrap());
}

/// Everything that the device sends, byte by byte.
/// Holds EVT-19, EVT-20.
#[test]
fn all_that_goes_over_the_wire() {
    use rumqttc::v5::mqttbytes::v5::Packet;
    let Some(broker) = Mosquitto::start("all_that_goes_over_the_wire", "") else { return };
    let proxy = Proxy::start(broker.port);
    let device = Device::new();
    let publisher = device.publisher(&loopback(proxy.port), "");
    device.tell(30);
    assert!(publisher.flush(PATIENT).unwrap());
    proxy.cut();
    device.tell(30);
    assert!(publisher.flush(PATIENT).unwrap());
    publisher.stop();
    let (mut events, mut other) = (0, Vec::new());
    for connection in proxy.sent() {
        let mut bytes = bytes::BytesMut::from(connection.as_slice());
        while !bytes.is_empty() {
            match Packet::read(&mut bytes, None) {
                Ok(Packet::Publish(publish)) => {
                    assert!(publish.payload.len() <= LIMIT);
                    assert_eq!(publish.properties, None);
                    let text = std::str::from_utf8(&publish.payload).unwrap();
                    match std::str::from_utf8(&publish.topic).unwrap() {
                        "familiar/porch/event" => {
                            assert!(!publish.retain);
                            let payload = device.verify(text).unwrap().payload;
                            assert_only_contract(&payload);
                            events += 1;
                        }
                        "familiar/porch/identity" => {
                            assert!(publish.retain);
                            assert!(!device.verify(text).unwrap().payload.contains("\"d\""));
                        }
                        "familiar/porch/availability" => {
                            assert!(publish.retain && ["online", "offline"].contains(&text));
                        }
                        topic => panic!("published on {topic}"),
                    }
                }
                Ok(Packet::Connect(connect, will, login)) => {
                    let (name, scope) = connect.client_id.rsplit_once('-').unwrap();
                    assert_eq!((name, scope.len()), ("familiar-porch", 16));
                    assert_eq!(&will.unwrap().message[..], b"offline");
                    assert_eq!(login, None);
                }
                Ok(packet) => other.push(format!("{packet:?}")),
                // A goodbye of two bytes, which rumqttc writes but does not read.
                Err(_) => other.push("Disconnect".to_owned()),
            }
        }
    }
    assert!(events >= 60);
    assert!(other.iter().all(|packet| packet == "Disconnect" || packet.starts_with("Ping")));
}

/// No member that the contract does not name, at any depth.
fn assert_only_contract(payload: &str) {
    const MEMBERS: [&str; 22] = [
        "v",
        "event_type",
        "id",
        "device",
        "camera",
        "boot",
        "seq",
        "prev",
        "time",
        "clock",
        "track",
        "person",
        "name",
        "similarity",
        "threshold",
        "false_match_rate",
        "frames",
        "liveness",
        "model",
        "version",
        "digest",
        "score",
    ];
    fn walk(value: &serde_json::Value) {
        match value {
            serde_json::Value::Object(members) => {
                for (name, value) in members {
                    assert!(MEMBERS.contains(&name.as_str()), "{name}");
                    walk(value);
                }
            }
            serde_json::Value::Array(_) => panic!("a list: {value}"),
            serde_json::Value::String(text) => assert!(text.len() <= 128, "{text}"),
            _ => {}
        }
    }
    walk(&serde_json::from_str(payload).unwrap());
}

const ROUNDS: u64 = 300;

#[test]
fn broker_that_speaks_nonsense() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = loopback(listener.local_addr().unwrap().port());
    std::thread::spawn(move || {
        for round in 0..ROUNDS {
            let mut random = fastrand::Rng::with_seed(round);
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]);
            // Every kind of packet, with true and false lengths, alone or after a sound CONNACK.
            let mut answer = Vec::new();
            if round % 3 == 0 {
                answer.extend([0x20, 3, 0, 0, 0]);
            }
            answer.extend([
                random.u8(0..16) << 4 | random.u8(0..16) & random.u8(..),
                random.u8(0..40),
            ]);
            let length = random.usize(0..300);
            answer.extend(std::iter::repeat_with(|| random.u8(..)).take(length));
            let _ = stream.write_all(&answer);
        }
    });
    let device = Device::new();
    let mqtt: Mqtt = toml::from_str(&format!("url = {url:?}")).unwrap();
    let broker = Broker::new(&mqtt, &device.state).unwrap();
    let session = Session { client_id: "x".to_owned(), will: None, expiry: 0, clean: true };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for _ in 0..ROUNDS {
        // It ends, by an error, and without a panic.
        let error = runtime.block_on(async {
            let mut connection = Connection::open(&broker, &session).await?;
            loop {
                connection.next().await?;
            }
            #[allow(unreachable_code)]
            Ok::<(), ClientError>(())
        });
        assert!(error.is_err());
    }
}

/// Access rules as a plugin keeps them, changed while the device is connected.
/// Holds MQT-21.
#[test]
fn dynamic_security() {
    let test = "dynamic_security";
    let plugins = ["x86_64", "aarch64"]
        .map(|machine| PathBuf::from(format!("/usr/lib/{machine}-linux-gnu")))
        .map(|folder| folder.join("mosquitto_dynamic_security.so"));
    let Some(plugin) = plugins.iter().find(|plugin| plugin.exists()) else {
        not_run(test, "Mosquitto's plugin mosquitto_dynamic_security.so is not installed");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("dynamic-security.json");
    let made = Command::new("mosquitto_ctrl")
        .args(["dynsec", "init"])
        .arg(&rules)
        .args(["admin", "secret"])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let options = format!(
        "plugin {}\nplugin_opt_config_file {}\nallow_anonymous false",
        plugin.display(),
        rules.display()
    );
    let Some(broker) = Mosquitto::start(test, &options) else { return };
    let port = broker.port.to_string();
    let control = |arguments: &[&str]| {
        let out = Command::new("mosquitto_ctrl")
            .args(["-h", "127.0.0.1", "-p", &port, "-u", "admin", "-P", "secret", "dynsec"])
            .args(arguments)
            .output()
            .unwrap();
        assert!(out.status.success(), "{arguments:?}: {out:?}");
    };
    let allow = |role: &str, kind: &str, topic: &str| {
        control(&["addRoleACL", role, kind, topic, "allow"]);
    };
    control(&["createRole", "device"]);
    allow("device", "publishClientSend", "familiar/porch/#");
    control(&["createClient", "porch", "-p", "secret 1"]);
    control(&["addClientRole", "porch", "device"]);
    control(&["createRole", "consumer"]);
    allow("consumer", "subscribePattern", "familiar/#");
    allow("consumer", "publishClientReceive", "familiar/#");
    control(&["createClient", "panel", "-p", "secret 2"]);
    control(&["addClientRole", "panel", "consumer"]);

    let subscriber =
        Subscriber::start(broker.port, "familiar/#", &["-u", "panel", "-P", "secret 2"]);
    let device = Device::new();
    familiar::system::secret::create(&device.state, "mqtt-password", b"secret 1").unwrap();
    let publisher = device.publisher(&loopback(broker.port), "username = \"porch\"");
    let mut told = 0;
    let mut tell = |number| {
        device.tell(number);
        publisher.notify();
        told += number;
        told
    };
    let arrive = |told| {
        assert!(publisher.flush(PATIENT).unwrap());
        wait("all events", || first_times(&subscriber.on("/event")).len() == told);
    };
    arrive(tell(5));

    // Disabled in the middle of the session: the broker hangs up, and lets it in again when it is told to.
    control(&["disableClient", "porch"]);
    wait("disconnected", || !publisher.status().connected);
    let waiting = tell(5);
    wait("a refused login", || {
        publisher.status().trouble.is_some_and(|why| why.contains("refused the login"))
    });
    assert_eq!(depth(&device), 5);
    control(&["enableClient", "porch"]);
    arrive(waiting);

    // The right to publish goes while the connection stays.
    control(&["removeRoleACL", "device", "publishClientSend", "familiar/porch/#"]);
    let waiting = tell(5);
    wait("a refusal", || {
        publisher.status().trouble.is_some_and(|why| why.contains("not authorized (0x87)"))
    });
    assert_eq!(depth(&device), 5);
    allow("device", "publishClientSend", "familiar/porch/#");
    arrive(waiting);
    let report = device.chain(&subscriber.on("/event"));
    assert!(report.ok && report.events == 15, "{report:?}");
}

mod tls {
    use super::*;
    use crate::support::authority::{Authority, EXPIRED, VALID};

    fn trouble(device: &Device, url: &str, extra: &str) -> String {
        let publisher = device.publisher(url, extra);
        wait("trouble", || publisher.status().trouble.is_some());
        assert_eq!(publisher.status().acknowledged, 0);
        publisher.status().trouble.unwrap()
    }

    fn ca(path: &Path) -> String {
        format!("ca = \"{}\"", path.display())
    }

    /// Holds MQT-01.
    #[test]
    fn given_ca() {
        let authority = Authority::new();
        authority.sign("server", "DNS:localhost,IP:127.0.0.1", "serverAuth", VALID);
        let Some(broker) = authority.broker("given_ca", "server", "") else { return };
        let device = Device::new();
        device.tell(30);
        let trusted = ca(&authority.path("ca.crt"));
        for host in ["localhost", "127.0.0.1"] {
            let publisher = device.publisher(&format!("mqtts://{host}:{}", broker.port), &trusted);
            device.tell(30);
            assert!(publisher.flush(PATIENT).unwrap());
        }
        let url = format!("mqtts://localhost:{}", broker.port);
        device.tell(1);
        // An authority of the same name is not the same authority.
        let stranger = Authority::new();
        let why = trouble(&device, &url, &ca(&stranger.path("ca.crt")));
        assert!(why.contains("another CA of the same name"), "{why}");
        let why = trouble(&device, &loopback(broker.port), "");
        assert!(!why.is_empty());
        assert_eq!(depth(&device), 1);
    }

    /// Holds MQT-02.
    #[test]
    fn wrong_host_expired_and_wrong_use() {
        let authority = Authority::new();
        let device = Device::new();
        device.tell(1);
        let trusted = ca(&authority.path("ca.crt"));
        authority.sign("elsewhere", "DNS:broker.example", "serverAuth", VALID);
        authority.sign("expired", "DNS:localhost", "serverAuth", EXPIRED);
        authority.sign("client", "DNS:localhost", "clientAuth", VALID);
        for (server, reason) in [
            ("elsewhere", "is for broker.example, and not for localhost"),
            ("expired", "expired on 2"),
            ("client", "not for a server"),
        ] {
            let Some(broker) = authority.broker("wrong_host", server, "") else { return };
            let why = trouble(&device, &format!("mqtts://localhost:{}", broker.port), &trusted);
            assert!(why.contains(reason), "{server}: {why}");
        }
        assert_eq!(depth(&device), 1);
    }

    /// Holds MQT-03.
    #[test]
    fn tls_1_2_and_nothing_older() {
        let authority = Authority::new();
        authority.sign("server", "DNS:localhost,IP:127.0.0.1", "serverAuth", VALID);
        let trusted = ca(&authority.path("ca.crt"));
        let device = Device::new();
        let start = |least, most, older| {
            let versions = Some((least, most));
            authority.broker_of_version("tls_1_2_and_nothing_older", "server", older, versions)
        };
        let Some(broker) = start("TLSv1.2", "TLSv1.2", "") else { return };
        assert!(!authority.agrees(broker.port, &["-tls1_3"]));
        device.tell(3);
        let url = format!("mqtts://localhost:{}", broker.port);
        assert!(device.publisher(&url, &trusted).flush(PATIENT).unwrap());
        drop(broker);
        let Some(broker) = start("TLSv1", "TLSv1.1", "tls_version tlsv1.1") else { return };
        let legacy = ["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"];
        assert!(authority.agrees(broker.port, &legacy), "the broker does speak TLS 1.1");
        device.tell(1);
        let why = trouble(&device, &format!("mqtts://localhost:{}", broker.port), &trusted);
        assert!(why.contains("neither TLS 1.2 nor 1.3"), "{why}");
        assert_eq!(depth(&device), 1);
    }

    /// Holds MQT-01.
    #[test]
    fn self_signed() {
        let (authority, other) = (Authority::new(), Authority::new());
        // The broker shows the certificate of an authority, as its own.
        std::fs::copy(other.path("ca.crt"), authority.path("server.crt")).unwrap();
        std::fs::copy(other.path("ca.key"), authority.path("server.key")).unwrap();
        let Some(broker) = authority.broker("self_signed", "server", "") else { return };
        let device = Device::new();
        device.tell(1);
        let url = format!("mqtts://localhost:{}", broker.port);
        let why = trouble(&device, &url, &ca(&authority.path("ca.crt")));
        assert!(why.contains("signed by itself"), "{why}");
        // It is taken where it is itself what is trusted: see certificates.rs.
    }

    #[test]
    fn client_certificate() {
        let authority = Authority::new();
        authority.sign("server", "DNS:localhost", "serverAuth", VALID);
        authority.sign("porch", "DNS:porch", "clientAuth", VALID);
        let demanded = "require_certificate true\nuse_identity_as_username true";
        let Some(broker) = authority.broker("client_certificate", "server", demanded) else {
            return;
        };
        let device = Device::new();
        device.tell(5);
        let url = format!("mqtts://localhost:{}", broker.port);
        let trusted = ca(&authority.path("ca.crt"));
        assert!(!trouble(&device, &url, &trusted).is_empty());
        let shown = format!(
            "{trusted}\ncert = {:?}\nkey = {:?}",
            authority.path("porch.crt"),
            authority.path("porch.key")
        );
        assert!(device.publisher(&url, &shown).flush(PATIENT).unwrap());
    }
}

mod listen {
    use super::*;

    struct Consumer {
        folder: tempfile::TempDir,
    }

    impl Consumer {
        fn new(url: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let config = format!("device = \"porch\"\n[mqtt]\nurl = {url:?}\n");
            std::fs::write(folder.path().join("familiar.toml"), config).unwrap();
            Self { folder }
        }

        fn listen(&self, args: &[&str]) -> Command {
            let mut command = command(self.folder.path(), &[&["listen"], args].concat());
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            command
        }
    }

    fn lines(out: &[u8]) -> Vec<serde_json::Value> {
        std::str::from_utf8(out)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn events_of_a_device_met_for_the_first_time() {
        let Some(broker) = Mosquitto::start("events_of_a_device_met", "") else { return };
        let device = Device::new();
        let publisher = device.publisher(&loopback(broker.port), "");
        wait("connected", || publisher.status().connected);
        let consumer = Consumer::new(&loopback(broker.port));
        let child = consumer.listen(&["--json", "--count", "3"]).spawn().unwrap();
        wait_for_listener(&broker, &consumer);
        device.tell(3);
        publisher.notify();
        let out = child.wait_with_output().unwrap();
        assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
        let events: Vec<_> = lines(&out.stdout)
            .into_iter()
            .filter(|line| line["topic"] == "familiar/porch/event")
            .collect();
        assert_eq!(events.len(), 3);
        assert!(
            events
                .iter()
                .all(|event| { event["verified"] == true && event["kid"] == device.key.kid() })
        );
        publisher.stop();

        // Another device takes the name: the pin holds against its events and its identity.
        let impostor = Device::new();
        impostor.tell(2);
        let publisher = impostor.publisher(&loopback(broker.port), "");
        assert!(publisher.flush(PATIENT).unwrap());
        let child = consumer.listen(&["--json", "--count", "1"]).spawn().unwrap();
        std::thread::sleep(Duration::from_secs(2));
        impostor.tell(1);
        publisher.notify();
        let out = child.wait_with_output().unwrap();
        assert_eq!(out.status.code(), Some(3));
        for line in lines(&out.stdout) {
            assert_eq!(line["verified"], false, "{line}");
            assert!(line["topic"] == "familiar/porch/availability" || line["payload"].is_null());
        }
    }

    #[test]
    fn broker_that_is_not_there() {
        let consumer = Consumer::new(&loopback(free_port()));
        let out = consumer.listen(&[]).output().unwrap();
        assert_eq!(out.status.code(), Some(5), "{}", String::from_utf8_lossy(&out.stderr));
    }

    #[test]
    fn plaintext_to_elsewhere() {
        let consumer = Consumer::new("mqtt://192.0.2.1");
        let out = consumer.listen(&[]).output().unwrap();
        assert_eq!(out.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&out.stderr).contains("allow_plaintext"));
    }

    /// Until it has pinned the device, and with that subscribes to the rest; then a little more.
    fn wait_for_listener(_broker: &Mosquitto, consumer: &Consumer) {
        let pins = consumer.folder.path().join("state/pins.json");
        wait("the pin", || pins.exists());
        std::thread::sleep(Duration::from_secs(1));
    }
}
