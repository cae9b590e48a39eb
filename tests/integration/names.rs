//! Devices that share a name, a prefix or a key: none throws another off, and what is wrong is named.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::time::Duration;

use familiar::config::DeviceName;
use familiar::daemon::former::{Cleaner, begin_record};
use familiar::event::Typ;
use familiar::mqtt::discovery::Discovery;
use familiar::mqtt::retained::clear::{Clearing, Fate};
use familiar::mqtt::retained::{Kept, Record};
use familiar::mqtt::{Broker, Ears, Publisher, Statement, Topics};

use super::support::device::{Device, name};
use super::support::fake_broker::{FakeBroker, answer, packet};
use super::support::house::publish;
use super::support::mosquitto::{Mosquitto, Subscriber, wait};

const PATIENT: Duration = Duration::from_mins(1);

/// Its publisher, which listens for others of its name.
fn publisher(device: &Device, name: &DeviceName, port: u16, more: &str) -> Publisher {
    let mqtt = toml::from_str(&format!("url = \"mqtt://127.0.0.1:{port}\"\n{more}")).unwrap();
    let broker = Broker::new(&mqtt, &device.state).unwrap();
    let identity = device.key.identity(name).unwrap();
    let ears = Ears { identity: true, ..Ears::default() };
    Publisher::start(broker, name, identity, ears, &device.state).unwrap()
}

/// Holds MQT-24.
#[test]
fn sites_of_another_prefix_do_not_throw_each_other_off() {
    let Some(broker) = Mosquitto::start("sites_of_another_prefix", "") else { return };
    let all = Subscriber::start(broker.port, "#", &[]);
    let sites = [(Device::new(), "familiar"), (Device::new(), "site2")];
    let publishers = sites.each_ref().map(|(device, prefix)| {
        publisher(device, &name(), broker.port, &format!("prefix = {prefix:?}"))
    });
    // Who was thrown off would connect again, and throw off the other.
    for _ in 0..5 {
        for ((device, _), publisher) in sites.iter().zip(&publishers) {
            device.tell(2);
            assert!(publisher.flush(PATIENT).unwrap());
        }
    }
    for (publisher, (_, prefix)) in publishers.into_iter().zip(&sites) {
        let status = publisher.status();
        assert_eq!((status.connections, status.rival), (1, None), "{prefix}: {:?}", status.trouble);
        publisher.stop();
        wait("its events", || all.below(&format!("{prefix}/porch/event")).len() == 10);
    }
}

/// Holds MQT-25.
#[test]
fn another_key_under_this_name_is_named_and_keeps_no_event_back() {
    let Some(broker) = Mosquitto::start("another_key_under_this_name", "") else { return };
    let [first, second] = [Device::new(), Device::new()];
    let one = publisher(&first, &name(), broker.port, "");
    first.tell(1);
    assert!(one.flush(PATIENT).unwrap());
    assert_eq!(one.status().rival, None);
    let other = publisher(&second, &name(), broker.port, "");
    for (mine, theirs) in [(&one, &second), (&other, &first)] {
        wait("the other is named", || {
            mine.status().rival.is_some_and(|rival| {
                rival.contains(theirs.key.kid()) && rival.contains("familiar/porch")
            })
        });
    }
    for (device, publisher) in [(&first, one), (&second, other)] {
        device.tell(3);
        assert!(publisher.flush(PATIENT).unwrap());
        assert_eq!(publisher.status().connections, 1);
        publisher.stop();
    }
}

/// A copied card: prefix, name and key are the same, and so is the client id. Mosquitto 2.0.11 throws the older one off
/// without a word.
/// Holds MQT-25.
#[test]
fn copied_state_is_named() {
    let Some(broker) = Mosquitto::start("copied_state_is_named", "") else { return };
    let original = Device::new();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("state")).unwrap();
    std::fs::copy(original.state.file("device-key"), folder.path().join("state/device-key"))
        .unwrap();
    let copy = Device::at(folder);
    assert_eq!(copy.key.kid(), original.key.kid());
    let publishers = [(&original, "one"), (&copy, "other")].map(|(device, boot)| {
        let publisher = publisher(device, &name(), broker.port, "");
        let health = format!("{{\"v\":1,\"boot\":\"{boot}\"}}");
        let message = device.key.sign(Typ::Health, &health).unwrap();
        publisher.retain(Statement::Signed { topic: "familiar/porch/health".to_owned(), message });
        publisher
    });
    wait("the copy is named", || {
        publishers.iter().any(|publisher| {
            publisher
                .status()
                .rival
                .is_some_and(|rival| rival.contains("copy of this device's state"))
        })
    });
}

/// Holds MQT-25.
#[test]
fn copied_state_is_named_by_a_broker_that_says_who_took_over() {
    let fake = FakeBroker::start(|_, mut stream| {
        while let Some((first, body)) = packet(&mut stream) {
            let Some(answer) = answer(first, &body) else { return };
            let _ = stream.write_all(&answer);
            if first >> 4 == 3 {
                let _ = stream.write_all(&[0xe0, 2, 0x8e, 0]);
                return;
            }
        }
    });
    let device = Device::new();
    let publisher = publisher(&device, &name(), fake.port, "");
    wait("the copy is named", || {
        let rival = publisher.status().rival;
        rival.is_some_and(|rival| rival.contains("copy of this device's state"))
    });
}

/// Some brokers close the connection of who asks for what it may not hear.
/// Holds MQT-26.
#[test]
fn broker_that_closes_when_asked_for_identity_still_gets_events() {
    let fake = FakeBroker::start(|_, mut stream| {
        while let Some((first, body)) = packet(&mut stream) {
            let asks = String::from_utf8_lossy(&body).contains("/identity");
            if first >> 4 == 8 && asks {
                return;
            }
            let Some(answer) = answer(first, &body) else { return };
            if stream.write_all(&answer).is_err() {
                return;
            }
        }
    });
    let device = Device::new();
    let publisher = publisher(&device, &name(), fake.port, "");
    device.tell(3);
    assert!(publisher.flush(PATIENT).unwrap());
    publisher.stop();
}

fn kept(topic: &str) -> Kept {
    Kept {
        broker: "localhost".to_owned(),
        topic: topic.to_owned(),
        place: "familiar/old".to_owned(),
        certain: true,
    }
}

fn clear(port: u16, former: &[Kept]) -> BTreeMap<String, Fate> {
    let device = Device::new();
    let mqtt = toml::from_str(&format!("url = \"mqtt://127.0.0.1:{port}\"")).unwrap();
    let broker = Broker::new(&mqtt, &device.state).unwrap();
    let keys = BTreeSet::from([device.key.kid().to_owned()]);
    let clearing = Clearing { broker: &broker, device: "porch", keys: &keys };
    let mut fates = BTreeMap::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcome = runtime.block_on(clearing.run(&[], former, &mut fates));
    eprintln!("{outcome:?}");
    fates
}

/// Holds STA-14.
#[test]
fn clearing_that_is_refused_or_cut_short_is_not_taken_for_done() {
    let former = ["familiar/old/availability", "familiar/old/health", "familiar/old/identity"];
    let former = former.map(kept);
    // Refuses one of them.
    let fake = FakeBroker::start(|_, mut stream| {
        while let Some((first, body)) = packet(&mut stream) {
            let Some(mut answer) = answer(first, &body) else { return };
            if first >> 4 == 3 && String::from_utf8_lossy(&body).contains("/health") {
                answer = vec![0x40, 4, answer[2], answer[3], 0x87, 0];
            }
            let _ = stream.write_all(&answer);
        }
    });
    let fates = clear(fake.port, &former);
    assert_eq!(fates.len(), 3);
    assert_eq!(fates["familiar/old/availability"], Fate::Cleared);
    assert!(matches!(fates["familiar/old/health"], Fate::Refused(_)), "{fates:?}");
    // Closes the connection after the first.
    let fake = FakeBroker::start(|_, mut stream| {
        while let Some((first, body)) = packet(&mut stream) {
            let Some(answer) = answer(first, &body) else { return };
            let _ = stream.write_all(&answer);
            if first >> 4 == 3 {
                return;
            }
        }
    });
    let fates = clear(fake.port, &former);
    assert!(fates.len() <= 1 && !fates.contains_key("familiar/old/identity"), "{fates:?}");
}

/// Versions before had two sites share this topic: it is taken back where it tells of this device, and only there.
#[test]
fn shared_discovery_taken_back_by_its_device() {
    let Some(broker) = Mosquitto::start("discovery_that_sites_shared", "") else { return };
    let shared = "homeassistant/device/porch/config";
    let all = Subscriber::start(broker.port, "#", &[]);
    let last = || all.all().into_iter().rfind(|(topic, _)| topic == shared).map(|(_, text)| text);
    for own in [false, true] {
        let device = Device::new();
        // What a version left that kept no record.
        std::fs::write(device.state.file("presence.json"), "{}").unwrap();
        let kid = if own { device.key.kid() } else { "another" };
        let told = format!("{{\"dev\":{{\"sn\":\"{kid}\"}}}}");
        publish(broker.port, shared, &told, true);
        wait("it is there", || last().as_ref() == Some(&told));

        let mqtt = format!("url = \"mqtt://127.0.0.1:{}\"\nprefix = \"site2\"", broker.port);
        let mqtt = Broker::new(&toml::from_str(&mqtt).unwrap(), &device.state).unwrap();
        let topics = Topics::new(mqtt.prefix(), &name());
        begin_record(&device.state, &mqtt, &topics, Some("homeassistant")).unwrap();
        let record = Record::open(&device.state).unwrap();
        record.note_key(device.key.kid()).unwrap();
        let discovery = Discovery::topic_of("homeassistant", &topics);
        let mut cleaner = Cleaner::new(&device.state, &mqtt, &topics, Some(discovery));
        wait("it is settled", || {
            cleaner.tend(|| true);
            record.all().unwrap().is_empty()
        });
        let left = if own { String::new() } else { told };
        wait("what is left", || last().as_ref() == Some(&left));
    }
}
