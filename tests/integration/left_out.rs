//! What a broker does not take beside events (discovery, health, presence, identity, availability, the outcome of a
//! command, a subscription) is left out and said, and never keeps the events back.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use familiar::event::Typ;
use familiar::mqtt::publisher::Remembered;
use familiar::mqtt::{Broker, Ears, Publisher, Statement};

use super::support::device::{Device, name};
use super::support::fake_broker::{FakeBroker, answer, packet};
use super::support::home::Home;
use super::support::house::publish;
use super::support::mosquitto::{Mosquitto, Subscriber, wait};
use super::support::proxy::Proxy;

const PATIENT: Duration = Duration::from_mins(1);
const DISCOVERY: &str = "homeassistant/device/porch/config";

/// Speaks of everything that a daemon speaks of.
fn everything(device: &Device, url: &str) -> Publisher {
    let mqtt = toml::from_str(&format!("url = {url:?}")).unwrap();
    let broker = Broker::new(&mqtt, &device.state).unwrap();
    let home_assistant = Some("homeassistant/status".to_owned());
    let ears = Ears { command: true, set: true, home_assistant, identity: false };
    let identity = device.key.identity(&name()).unwrap();
    let publisher = Publisher::start(broker, &name(), identity, ears, &device.state).unwrap();
    for (topic, typ, payload) in [
        (DISCOVERY.to_owned(), Typ::Health, "{}".to_owned()),
        ("familiar/porch/health".to_owned(), Typ::Health, padded(1600)),
        ("familiar/porch/person/zoe".to_owned(), Typ::Presence, "{}".to_owned()),
    ] {
        let message = device.key.sign(typ, &payload).unwrap();
        publisher.retain(Statement::Signed { topic, message });
    }
    publisher.answer(device.key.sign(Typ::Result, "{}").unwrap());
    publisher
}

fn padded(length: usize) -> String {
    format!("{{\"x\":\"{}\"}}", "x".repeat(length))
}

/// What is asked of a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Asked {
    Publish(String, String),
    Subscribe(String),
}

fn asked(first: u8, body: &[u8]) -> Option<Asked> {
    let text = |from: usize| {
        let length = usize::from(u16::from_be_bytes([body[from], body[from + 1]]));
        let text = String::from_utf8(body[from + 2..from + 2 + length].to_vec()).unwrap();
        (text, from + 2 + length)
    };
    match first >> 4 {
        3 => {
            let (topic, end) = text(0);
            // Packet id and no properties.
            Some(Asked::Publish(topic, String::from_utf8_lossy(&body[end + 3..]).into_owned()))
        }
        8 => Some(Asked::Subscribe(text(3).0)),
        _ => None,
    }
}

/// A broker that hangs up on some things, with a reason or without a word, and notes what it took.
struct Touchy {
    broker: FakeBroker,
    taken: Arc<Mutex<Vec<Asked>>>,
}

impl Touchy {
    fn start(minds: impl Fn(&Asked) -> bool + Send + Sync + 'static, reason: Option<u8>) -> Self {
        let taken = Arc::new(Mutex::new(Vec::new()));
        let notes = taken.clone();
        let broker = FakeBroker::start(move |_, mut stream| {
            while let Some((first, body)) = packet(&mut stream) {
                let asked = asked(first, &body);
                if asked.as_ref().is_some_and(&minds) {
                    if let Some(reason) = reason {
                        let _ = stream.write_all(&[0xe0, 2, reason, 0]);
                    }
                    return;
                }
                notes.lock().unwrap().extend(asked);
                let Some(answer) = answer(first, &body) else { return };
                if stream.write_all(&answer).is_err() {
                    return;
                }
            }
        });
        Self { broker, taken }
    }

    fn has_taken(&self, wanted: &str) -> bool {
        self.taken.lock().unwrap().iter().any(|asked| topic(asked) == wanted)
    }
}

fn topic(asked: &Asked) -> &str {
    match asked {
        Asked::Publish(topic, _) | Asked::Subscribe(topic) => topic,
    }
}

const ASIDES: [&str; 9] = [
    DISCOVERY,
    "familiar/porch/health",
    "familiar/porch/person/zoe",
    "familiar/porch/identity",
    "familiar/porch/availability",
    "familiar/porch/result",
    "familiar/porch/command",
    "familiar/porch/set/+",
    "homeassistant/status",
];

/// Holds MQT-12, MQT-13.
#[test]
fn left_out_when_broker_hangs_up_rest_arrives() {
    std::thread::scope(|scope| {
        for denied in ASIDES {
            for reason in [None, Some(0x87)] {
                scope.spawn(move || left_out(denied, reason));
            }
        }
    });
}

fn left_out(denied: &'static str, reason: Option<u8>) {
    let touchy = Touchy::start(move |asked| topic(asked) == denied, reason);
    let device = Device::new();
    device.tell(5);
    let publisher = everything(&device, &touchy.broker.url());
    assert!(publisher.flush(PATIENT).unwrap(), "{denied} {reason:?}: events are kept back");
    wait("it is left out", || !publisher.status().left_out.is_empty());
    for other in ASIDES.iter().filter(|other| **other != denied) {
        wait(other, || touchy.has_taken(other));
    }
    let status = publisher.status();
    let [left] = &status.left_out[..] else { panic!("{:?}", status.left_out) };
    assert!(left.what.ends_with(denied), "{left:?}");
    if reason.is_some() {
        assert!(left.why.contains("not authorized (0x87)"), "{left:?}");
    }
    assert!(!touchy.has_taken(denied));
    // `check` is told once all was said over a connection; from here on that stands.
    wait("the note for check", || {
        Remembered::read(&device.state).is_some_and(|found| found.left_out == status.left_out)
    });
    let before = touchy.broker.connections();
    device.tell(5);
    publisher.notify();
    assert!(publisher.flush(PATIENT).unwrap());
    assert_eq!(touchy.broker.connections(), before, "{denied}");
    publisher.stop();
}

/// However many topics are denied, events go out before the next of them is tried.
/// Holds MQT-14.
#[test]
fn events_go_before_what_is_suspected() {
    let touchy = Touchy::start(|asked| topic(asked).contains("/person/"), None);
    let device = Device::new();
    let publisher = everything(&device, &touchy.broker.url());
    for person in 0..4 {
        let message = device.key.sign(Typ::Presence, "{}").unwrap();
        let topic = format!("familiar/porch/person/p{person}");
        publisher.retain(Statement::Signed { topic, message });
    }
    for told in 1..=3 {
        device.tell(1);
        publisher.notify();
        assert!(publisher.flush(PATIENT).unwrap());
        assert_eq!(publisher.status().acknowledged, told);
    }
    wait("all of them are left out", || publisher.status().left_out.len() == 5);
    wait("health", || touchy.has_taken("familiar/porch/health"));
}

/// A link that broke once makes suspects of all greetings; they do not wait until a long backlog of events is drained.
#[test]
fn what_is_suspected_gets_its_turn_between_many_events() {
    let ready = Arc::new(AtomicBool::new(false));
    let taken = Arc::new(Mutex::new(Vec::new()));
    let (open, notes) = (ready.clone(), taken.clone());
    let broker = FakeBroker::start(move |number, mut stream| {
        if number > 0 && !open.load(Ordering::SeqCst) {
            return;
        }
        while let Some((first, body)) = packet(&mut stream) {
            let asked = asked(first, &body);
            if number == 0 && asked.is_some() {
                return;
            }
            notes.lock().unwrap().extend(asked);
            let Some(answer) = answer(first, &body) else { return };
            if stream.write_all(&answer).is_err() {
                return;
            }
        }
    });
    let device = Device::new();
    let publisher = everything(&device, &broker.url());
    wait("the first connection broke", || broker.connections() > 1);
    device.tell(40);
    ready.store(true, Ordering::SeqCst);
    publisher.notify();
    assert!(publisher.flush(PATIENT).unwrap());
    let taken = taken.lock().unwrap();
    let command = taken.iter().position(|asked| topic(asked) == "familiar/porch/command");
    let before = taken[..command.expect("subscribed before the last event")].iter();
    let events = before.filter(|asked| topic(asked) == "familiar/porch/event").count();
    assert!((1..40).contains(&events), "{events}");
}

/// A broker that refuses events and hangs up on health: each gets its turn.
/// Holds MQT-14.
#[test]
fn refused_events_do_not_keep_the_rest_back() {
    let broker = FakeBroker::start(|_, mut stream| {
        while let Some((first, body)) = packet(&mut stream) {
            let Some(mut answer) = answer(first, &body) else { return };
            match asked(first, &body) {
                Some(Asked::Publish(topic, _)) if topic.ends_with("/health") => return,
                Some(Asked::Publish(topic, _)) if topic.ends_with("/event") => {
                    answer = vec![0x40, 4, answer[2], answer[3], 0x87, 0];
                }
                _ => {}
            }
            let _ = stream.write_all(&answer);
        }
    });
    let device = Device::new();
    device.tell(2);
    let publisher = everything(&device, &broker.url());
    wait("health is left out", || {
        publisher.status().left_out.iter().any(|left| left.what.ends_with("/health"))
    });
    wait("the event's refusal is said", || {
        publisher.status().trouble.is_some_and(|why| why.contains("not authorized (0x87)"))
    });
    wait("presence is taken", || publisher.is_settled("familiar/porch/person/zoe"));
}

/// A network that breaks is not taken for a broker that minds something.
/// Holds MQT-15.
#[test]
fn cut_connections_leave_nothing_out() {
    let Some(broker) = Mosquitto::start("cut_connections_leave_nothing_out", "") else { return };
    let subscriber = Subscriber::start(broker.port, "familiar/#", &[]);
    let proxy = Proxy::start(broker.port);
    let device = Device::new();
    let publisher = everything(&device, &format!("mqtt://127.0.0.1:{}", proxy.port));
    for round in 1..=4 {
        device.tell(5);
        publisher.notify();
        wait("connected", || publisher.status().connections >= round);
        proxy.cut();
        wait("connected again", || publisher.status().connections > round);
    }
    assert!(publisher.flush(PATIENT).unwrap());
    for topic in ["familiar/porch/health", "familiar/porch/identity", DISCOVERY] {
        wait(topic, || publisher.is_settled(topic));
    }
    assert_eq!(publisher.status().left_out, []);
    assert!(!subscriber.on("/health").is_empty());
}

/// Some brokers refuse the login because of a last will that may not be published.
/// Holds MQT-16.
#[test]
fn login_refused_because_of_the_last_will_is_done_without_it() {
    let topics = Arc::new(Mutex::new(Vec::new()));
    let heard = topics.clone();
    let broker = FakeBroker::start(move |_, mut stream| {
        while let Some((first, body)) = packet(&mut stream) {
            let Some(mut answer) = answer(first, &body) else { return };
            // The flag of a last will, behind the protocol's name and version.
            if first >> 4 == 1 && body[7] & 4 != 0 {
                answer[3] = 0x87;
            }
            heard.lock().unwrap().extend(asked(first, &body));
            let _ = stream.write_all(&answer);
        }
    });
    let device = Device::new();
    device.tell(3);
    let publisher = everything(&device, &broker.url());
    assert!(publisher.flush(PATIENT).unwrap());
    let left = publisher.status().left_out;
    assert!(left.len() == 1 && left[0].what.contains("last will"), "{left:?}");
    publisher.stop();
    // Nobody would take `online` back.
    let heard = topics.lock().unwrap();
    assert!(!heard.iter().any(|asked| topic(asked).ends_with("/availability")), "{heard:?}");
}

/// Holds MQT-12, MQT-13.
#[test]
fn topics_denied_by_mosquitto_are_said_and_taken_once_allowed() {
    let test = "topics_denied_by_mosquitto_are_said_and_taken_once_allowed";
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("acl");
    let allow = |more: &str| {
        let text = "topic read #\ntopic write familiar/porch/event\ntopic write familiar/porch/identity\n\
                    topic write familiar/porch/availability\ntopic write familiar/porch/result\n";
        std::fs::write(&rules, format!("{text}{more}")).unwrap();
    };
    allow("");
    let options = format!("acl_file {}", rules.display());
    let Some(broker) = Mosquitto::start(test, &options) else { return };
    let device = Device::new();
    device.tell(5);
    let publisher = everything(&device, &format!("mqtt://127.0.0.1:{}", broker.port));
    assert!(publisher.flush(PATIENT).unwrap());
    wait("three are left out", || publisher.status().left_out.len() == 3);
    for left in publisher.status().left_out {
        assert!(left.why.contains("not authorized (0x87)"), "{left:?}");
    }
    assert_eq!(publisher.status().connections, 1, "a refusal in so many words breaks nothing");
    allow("topic write familiar/porch/#\ntopic write homeassistant/device/porch/config\n");
    broker.reload();
    // Its rules hold once a message after the signal was judged by them.
    wait("all is taken", || {
        publisher.repeat();
        publish(broker.port, "x", "x", false);
        publisher.status().left_out.is_empty()
    });
    wait("the note for check", || {
        Remembered::read(&device.state).is_some_and(|found| found.left_out.is_empty())
    });
}

/// Announced (`max_packet_size`) or not (`message_size_limit`): a health report beyond it does not keep events back.
/// Holds MQT-12.
#[test]
fn message_larger_than_mosquitto_takes_is_left_out() {
    let test = "message_larger_than_mosquitto_takes_is_left_out";
    for (limit, why) in
        [("max_packet_size 1500", "the 1500 bytes"), ("message_size_limit 1500", "(0x95)")]
    {
        let Some(broker) = Mosquitto::start(test, limit) else { return };
        let subscriber = Subscriber::start(broker.port, "familiar/#", &[]);
        let device = Device::new();
        device.tell(5);
        let publisher = everything(&device, &format!("mqtt://127.0.0.1:{}", broker.port));
        assert!(publisher.flush(PATIENT).unwrap(), "{limit}");
        wait("it is said", || !publisher.status().left_out.is_empty());
        let left = publisher.status().left_out;
        assert!(left.len() == 1 && left[0].what.ends_with("/health"), "{left:?}");
        assert!(left[0].why.contains(why), "{left:?}");
        wait("presence", || subscriber.on("/person/zoe").len() == 1);
        assert_eq!(publisher.status().connections, 1, "{limit}");
        assert_eq!(subscriber.on("/event").len(), 5);
    }
}

/// Holds MQT-14.
#[test]
fn event_waits_when_too_large_rest_goes_on() {
    let test = "event_waits_when_too_large_rest_goes_on";
    let Some(mut broker) = Mosquitto::start(test, "max_packet_size 500") else { return };
    let device = Device::new();
    device.tell(3);
    let publisher = everything(&device, &format!("mqtt://127.0.0.1:{}", broker.port));
    wait("it is said", || {
        publisher.status().trouble.is_some_and(|why| why.contains("max_packet_size"))
    });
    wait("discovery", || publisher.is_settled(DISCOVERY));
    assert_eq!((publisher.status().connections, publisher.status().acknowledged), (1, 0));
    broker.stop();
    broker.configure("");
    broker.start_again();
    assert!(publisher.flush(PATIENT).unwrap());
    assert_eq!(publisher.status().trouble, None);
}

/// The daemon itself: discovery denied by hanging up, as brokers in the cloud do it. Its events arrive, and its signed
/// health says what it leaves out.
/// Holds MQT-12.
#[test]
fn daemon_whose_discovery_is_denied_tells_of_who_comes() {
    let Some(home) = Home::new("daemon_whose_discovery_is_denied_tells_of_who_comes") else {
        return;
    };
    let touchy = Touchy::start(|asked| topic(asked).starts_with("homeassistant/device/"), None);
    home.enroll("Ada", "P001");
    home.record("P001", 60);
    home.configure(&format!("[mqtt]\nurl = {:?}\n", touchy.broker.url()));
    home.loop_frames();
    let daemon = home.start(&[]);
    wait("an event", || touchy.has_taken("familiar/porch/event"));
    wait("health that says it", || {
        touchy.taken.lock().unwrap().iter().any(|asked| {
            matches!(asked, Asked::Publish(topic, text) if topic.ends_with("/health")
                && text.contains("left_out") && text.contains("homeassistant/device/"))
        })
    });
    daemon.stop();
}
