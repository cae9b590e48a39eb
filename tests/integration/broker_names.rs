//! A broker whose name has several addresses, some of them dead: the live one is found (RFC 8305).

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use familiar::mqtt::{Broker, ClientError, Connection, Ears, Publisher, Session};
use familiar::system::dial::Resolver;

use super::support::device::{Device, name};
use super::support::fake_broker::{FakeBroker, honest};
use super::support::mosquitto::{free_port, wait};

const PATIENT: Duration = Duration::from_mins(1);

/// A listener that takes no connection more: who comes now is never answered, as behind a firewall that drops.
struct BlackHole {
    address: SocketAddr,
    _listener: TcpListener,
    _queue: Vec<TcpStream>,
}

impl BlackHole {
    /// On an address of this machine's own that nobody else uses, at the port of the broker.
    fn at(port: u16) -> Self {
        let address = SocketAddr::from((Ipv4Addr::new(127, 77, 0, 1), port));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(async {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind(address).unwrap();
            socket.listen(0).unwrap().into_std().unwrap()
        });
        // The queue of those who were not accepted is filled, until one is left unanswered.
        let mut queue = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) {
            queue.push(stream);
            assert!(queue.len() < 64, "this kernel's queue has no end");
        }
        Self { address, _listener: listener, _queue: queue }
    }
}

/// A broker by the name `broker.test`, with these addresses.
fn broker(device: &Device, port: u16, addresses: Vec<SocketAddr>) -> Broker {
    let url = format!("mqtt://broker.test:{port}");
    let mqtt = toml::from_str(&format!("url = {url:?}\nallow_plaintext = true")).unwrap();
    let resolver: Resolver = Arc::new(move |host, _| {
        assert_eq!(host, "broker.test");
        Ok(addresses.clone())
    });
    Broker::new(&mqtt, &device.state).unwrap().resolved_by(resolver)
}

fn open(broker: &Broker) -> Result<(), ClientError> {
    let session = Session { client_id: "x".to_owned(), will: None, expiry: 0, clean: true };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { Connection::open(broker, &session).await?.close().await })
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Holds MQT-10.
#[test]
fn live_address_found_behind_dead_ones() {
    let live = FakeBroker::start(|_, mut stream| honest(&mut stream, usize::MAX));
    let hole = BlackHole::at(live.port);
    let refused = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, live.port));
    for addresses in [
        vec![refused, at(live.port)],
        vec![hole.address, at(live.port)],
        vec![hole.address, refused, at(live.port)],
    ] {
        let device = Device::new();
        device.tell(3);
        let broker = broker(&device, live.port, addresses.clone());
        let identity = device.key.identity(&name()).unwrap();
        let publisher =
            Publisher::start(broker, &name(), identity, Ears::default(), &device.state).unwrap();
        assert!(publisher.flush(PATIENT).unwrap(), "{addresses:?}: {:?}", publisher.status());
        // At the first attempt: nothing failed on the way.
        assert_eq!(publisher.status().trouble, None, "{addresses:?}");
    }
}

/// Holds MQT-10.
#[test]
fn silent_address_passed_over_after_connect() {
    let live = FakeBroker::start(|_, mut stream| honest(&mut stream, usize::MAX));
    // As a port forwarded to nothing does: it accepts, and closes or says nothing.
    let forwarded = TcpListener::bind((Ipv4Addr::new(127, 77, 0, 2), live.port)).unwrap();
    let address = forwarded.local_addr().unwrap();
    std::thread::spawn(move || while forwarded.accept().is_ok() {});
    let device = Device::new();
    open(&broker(&device, live.port, vec![address, at(live.port)])).unwrap();
}

/// Holds MQT-11.
#[test]
fn every_address_that_failed_is_named_with_its_reason() {
    let device = Device::new();
    let port = free_port();
    let hole = BlackHole::at(port);
    let refused = at(port);
    let said = open(&broker(&device, port, vec![refused, hole.address])).unwrap_err().to_string();
    assert!(said.contains(&format!("{refused}: connection refused")), "{said}");
    assert!(said.contains(&format!("{}: no answer within 10 s", hole.address)), "{said}");
    assert!(!said.contains("os error"), "{said}");
}

#[test]
fn name_without_an_address_says_what_to_check() {
    let device = Device::new();
    let said = open(&broker(&device, 1883, Vec::new())).unwrap_err().to_string();
    assert!(said.contains("broker.test") && said.contains("name server"), "{said}");
    let plain = "url = \"mqtt://no-such-broker.invalid\"\nallow_plaintext = true";
    let broker = Broker::new(&toml::from_str(plain).unwrap(), &device.state).unwrap();
    let said = open(&broker).unwrap_err().to_string();
    assert!(said.contains("no-such-broker.invalid") && !said.contains("os error"), "{said}");
}

/// Plain text stays on this machine whatever a name server says.
#[test]
fn loopback_name_with_a_foreign_address_is_not_connected_to() {
    let device = Device::new();
    let live = FakeBroker::start(|_, mut stream| honest(&mut stream, usize::MAX));
    let mqtt = toml::from_str(&format!("url = \"mqtt://localhost:{}\"", live.port)).unwrap();
    let elsewhere: SocketAddr = "192.0.2.1:1883".parse().unwrap();
    let addresses = vec![at(live.port), elsewhere];
    let broker = Broker::new(&mqtt, &device.state)
        .unwrap()
        .resolved_by(Arc::new(move |_, _| Ok(addresses.clone())));
    assert!(
        matches!(open(&broker), Err(ClientError::NotLoopback { address, .. }) if address == elsewhere)
    );
    assert_eq!(live.connections(), 0);
}

/// A broker that hangs up says why just before (MQTT 5); the device is writing meanwhile.
#[test]
fn reason_that_the_broker_gave_before_it_hung_up_is_not_lost() {
    use std::io::Write;
    let broker = FakeBroker::start(|_, mut stream| {
        honest(&mut stream, 1);
        // It says why, and closes with what we sent unread: the connection is reset under our feet.
        let _ = stream.peek(&mut [0]);
        let _ = stream.write_all(&[0xe0, 2, 0x87, 0]);
    });
    let device = Device::new();
    device.tell(3);
    let publisher = device.publisher(&broker.url(), "");
    wait("trouble", || publisher.status().trouble.is_some());
    let said = publisher.status().trouble.unwrap();
    assert!(said.contains("not authorized (0x87)"), "{said}");
}

/// Keeps the helper honest: whoever connects to a black hole is not answered.
#[test]
fn black_hole_answers_nobody() {
    let hole = BlackHole::at(free_port());
    let out = Command::new("timeout")
        .args(["1", "bash", "-c"])
        .arg(format!("exec 3<>/dev/tcp/{}/{}", hole.address.ip(), hole.address.port()))
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(out.code(), Some(124));
}
