//! A device that gets another name, prefix or discovery: what it published before does not stay at the broker.
//! With real models and a real Mosquitto.

use std::collections::BTreeMap;

use familiar::config::DeviceName;
use familiar::event::Typ;
use familiar::mqtt::retained::Record;
use familiar::system::state::StateDirectory;

use super::states::Scene;
use super::support::device::Device;
use super::support::house::publish;
use super::support::mosquitto::wait;

impl Scene {
    /// What the broker keeps: the last word on every topic but those that are not retained.
    fn retained(&self) -> BTreeMap<String, String> {
        let mut last: BTreeMap<String, String> = self.subscriber.all().into_iter().collect();
        last.retain(|topic, text| {
            !text.is_empty() && !topic.ends_with("/event") && !topic.ends_with("/result")
        });
        last
    }

    /// The topics of them that begin so.
    fn kept_below(&self, prefix: &str) -> Vec<String> {
        self.retained().into_keys().filter(|topic| topic.starts_with(prefix)).collect()
    }

    fn reconfigure(&self, from: &str, to: &str) {
        let path = self.home.path("familiar.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(path, text.replace(from, to)).unwrap();
    }

    /// Runs until the presence of Ada and everything else is published there.
    fn run_once_as(&self, place: &str) {
        let running = self.home.start(&[]);
        wait("all is published", || {
            let all = self.kept_below(&format!("{place}/"));
            ["availability", "health", "identity", "person/ada"]
                .iter()
                .all(|end| all.contains(&format!("{place}/{end}")))
        });
        running.stop();
    }

    /// Topics on record that this place published.
    fn on_record(&self, place: &str) -> usize {
        let state = StateDirectory::at(self.home.path("state")).unwrap();
        let all = Record::find(&state).unwrap().unwrap().all().unwrap();
        all.iter().filter(|kept| kept.place == place).count()
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.home.path("said")).unwrap()
    }
}

/// Holds STA-14.
#[test]
fn nothing_stays_under_the_old_name_of_a_device() {
    let Some(scene) = Scene::new("nothing_stays_under_the_old_name", "") else { return };
    scene.run_once_as("familiar/porch");
    assert_eq!(scene.kept_below("homeassistant/"), ["homeassistant/device/porch/config"]);
    scene.reconfigure("device = \"porch\"", "device = \"garden\"");
    let check = scene.home.familiar(&["check"]);
    let said = String::from_utf8(check.stdout).unwrap();
    assert!(said.contains("published") && said.contains("familiar/porch/"), "{said}");

    let running = scene.home.start(&[]);
    wait("the old name is gone", || scene.kept_below("familiar/porch/").is_empty());
    wait("Home Assistant forgets the old device", || {
        scene.kept_below("homeassistant/") == ["homeassistant/device/garden/config"]
    });
    wait("it is off the record", || scene.on_record("familiar/porch") == 0);
    wait("the presence of Ada is published", || {
        scene.kept_below("familiar/garden/").contains(&"familiar/garden/person/ada".to_owned())
    });
    running.stop();
    // Another prefix, by reload.
    let running = scene.home.start(&[]);
    wait("online", || {
        scene.retained().get("familiar/garden/availability").is_some_and(|word| word == "online")
    });
    scene.reconfigure("[mqtt]\n", "[mqtt]\nprefix = \"familiar/site2\"\n");
    running.signal("HUP");
    wait("the old prefix is gone", || scene.kept_below("familiar/garden/").is_empty());
    wait("Home Assistant knows the new prefix alone", || {
        scene.kept_below("homeassistant/")
            == ["homeassistant/device/garden-AT-familiarX2fsite2/config"]
    });
    wait("the old prefix is off the record", || scene.on_record("familiar/garden") == 0);
    running.stop();
    let check = scene.home.familiar(&["check"]);
    let said = String::from_utf8(check.stdout).unwrap();
    assert!(!said.contains("published under"), "{said}");
}

/// Holds STA-16.
#[test]
fn person_forgotten_after_a_rename_is_cleared_under_every_name() {
    let test = "person_forgotten_after_a_rename_is_cleared_under_every_name";
    let Some(mut scene) = Scene::new(test, "") else { return };
    scene.run_once_as("familiar/porch");
    let kept = scene.retained();
    let ada = "familiar/porch/person/ada";
    // By the verb, while no daemon runs.
    scene.reconfigure("device = \"porch\"", "device = \"garden\"");
    let export = scene.home.familiar(&["people", "export", "ada"]);
    assert!(String::from_utf8(export.stdout).unwrap().contains(ada));
    assert!(scene.home.familiar(&["forget", "ada"]).status.success());
    wait("her old topic is cleared", || !scene.retained().contains_key(ada));
    // The broker comes back with what it kept before: it lost the clearing, and nobody was there to repeat it.
    publish(scene.broker.port, ada, &kept[ada], true);
    wait("it is there again", || scene.retained().contains_key(ada));
    let running = scene.home.start(&[]);
    wait("the daemon makes good for it", || !scene.retained().contains_key(ada));
    wait("it is off the record", || scene.on_record("familiar/porch") == 0);
    let erased =
        |events: &[serde_json::Value]| events.iter().position(|it| it["event_type"] == "erased");
    wait("the erasure is published", || erased(&scene.events()).is_some());
    running.stop();
    let events = scene.events();
    let erased = erased(&events).unwrap();
    assert!(events[erased..].iter().all(|event| event["person"]["name"].is_null()), "{events:?}");

    // Away at the time of both the rename and the forgetting, and killed in between.
    scene.home.enroll("Ada", "P001");
    scene.run_once_as("familiar/garden");
    let garden = "familiar/garden/person/ada";
    let kept = scene.retained();
    scene.broker.kill();
    scene.reconfigure("device = \"garden\"", "device = \"cellar\"");
    drop(scene.home.start(&[])); // killed at once
    let forgotten = scene.home.familiar(&["forget", "ada"]);
    assert!(forgotten.status.success(), "{forgotten:?}");
    scene.broker.start_again();
    scene.subscriber = super::support::mosquitto::Subscriber::start(scene.broker.port, "#", &[]);
    for topic in [garden, "familiar/garden/identity"] {
        publish(scene.broker.port, topic, &kept[topic], true);
    }
    wait("they are there", || scene.kept_below("familiar/garden/").len() == 2);
    let running = scene.home.start(&[]);
    wait("the old name is gone", || scene.kept_below("familiar/garden/").is_empty());
    running.stop();
}

/// The mend for two devices of one name is that one of them gets another.
/// Holds STA-15.
#[test]
fn old_name_that_another_device_took_is_left_alone() {
    let test = "old_name_that_another_device_took_is_left_alone";
    let Some(scene) = Scene::new(test, "") else { return };
    scene.run_once_as("familiar/porch");
    scene.reconfigure("device = \"porch\"", "device = \"garden\"");
    let other = Device::new();
    let porch: DeviceName = "porch".to_owned().try_into().unwrap();
    let told = |topic: &str, text: &str| publish(scene.broker.port, topic, text, true);
    told("familiar/porch/identity", other.key.identity(&porch).unwrap().as_str());
    told("familiar/porch/availability", "online");
    let health = other.key.sign(Typ::Health, "{\"v\":1}").unwrap();
    told("familiar/porch/health", health.as_str());
    let bob = other.key.sign(Typ::Presence, "{\"v\":1}").unwrap();
    told("familiar/porch/person/bob", bob.as_str());
    let discovery = format!("{{\"dev\":{{\"sn\":\"{}\"}}}}", other.key.kid());
    told("homeassistant/device/porch/config", &discovery);

    let running = scene.home.start(&[]);
    wait("ours are settled", || scene.on_record("familiar/porch") == 0);
    running.stop();
    let theirs = ["availability", "health", "identity", "person/bob"];
    assert_eq!(
        scene.kept_below("familiar/porch/"),
        theirs.map(|end| format!("familiar/porch/{end}")),
        "{}",
        scene.said()
    );
    assert_eq!(scene.retained()["homeassistant/device/porch/config"], discovery);
}

/// Holds STA-14.
#[test]
fn discovery_that_is_turned_off_is_taken_back() {
    let test = "discovery_that_is_turned_off_is_taken_back";
    let Some(scene) = Scene::new(test, "") else { return };
    scene.run_once_as("familiar/porch");
    assert_eq!(scene.kept_below("homeassistant/").len(), 1);
    scene.reconfigure("[mqtt]\n", "[mqtt]\ndiscovery_prefix = \"\"\n");
    let running = scene.home.start(&[]);
    wait("Home Assistant forgets the device", || scene.kept_below("homeassistant/").is_empty());
    running.stop();
    assert!(scene.kept_below("familiar/porch/").contains(&"familiar/porch/person/ada".to_owned()));
}
