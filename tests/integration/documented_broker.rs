//! The broker of docs/home-assistant.md and docs/integrations.md, set up as they say: certificates, access rules,
//! passwords, before a real Mosquitto; and the device logs in and may do its part, and no more.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use familiar::event::Typ;
use familiar::mqtt::{Broker, Ears, Publisher, Statement};
use familiar::system::secret;

use super::support::device::{Device, name};
use super::support::mosquitto::{Mosquitto, Subscriber, wait};

const PATIENT: Duration = Duration::from_mins(1);
const DISCOVERY: &str = "homeassistant/device/porch/config";

/// What stands between the fences behind `<!-- test: NAME -->`.
fn documented(page: &str, name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page);
    let text = std::fs::read_to_string(path).unwrap();
    let (_, behind) = text.split_once(&format!("<!-- test: {name} -->\n```")).unwrap();
    let (_, content) = behind.split_once('\n').unwrap();
    content.split("```").next().unwrap().to_owned()
}

/// The commands behind `$ `, by a shell in the folder.
fn run_documented(folder: &Path) {
    let commands = documented("home-assistant.md", "certificates");
    let lines: Vec<_> = commands.lines().map(|line| line.strip_prefix("$ ").unwrap()).collect();
    let out = Command::new("bash")
        .args(["-euc", &lines.join("\n")])
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

fn make_certificates(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/certificates.sh"))
        .args(arguments)
        .env("CERTIFICATES", folder)
        .output()
        .unwrap()
}

fn passwords(folder: &Path, users: &[&str]) -> PathBuf {
    let file = folder.join("passwords");
    for (number, user) in users.iter().enumerate() {
        let mut command = Command::new("mosquitto_passwd");
        command.arg("-b");
        if number == 0 {
            command.arg("-c");
        }
        assert!(command.arg(&file).args([user, "secret"]).status().unwrap().success());
    }
    file
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// The documented configuration of the device; its broker's name leads to this machine.
fn speak(device: &Device, port: u16, ca: &Path) -> Publisher {
    let text = documented("home-assistant.md", "familiar.toml")
        .replace(":8883", &format!(":{port}"))
        .replace("/etc/familiar/ca.pem", ca.to_str().unwrap());
    let config: familiar::config::Config = toml::from_str(&text).unwrap();
    let _ = secret::create(&device.state, "mqtt-password", b"secret\n");
    let broker = Broker::new(config.mqtt.as_ref().unwrap(), &device.state).unwrap().resolved_by(
        Arc::new(|host, port| {
            assert_eq!(host, "homeassistant.local");
            Ok(vec![([127, 0, 0, 1], port).into()])
        }),
    );
    let identity = device.key.identity(&name()).unwrap();
    let publisher =
        Publisher::start(broker, &name(), identity, Ears::of(&config), &device.state).unwrap();
    for topic in [DISCOVERY, "familiar/porch/health", "familiar/porch/person/zoe"] {
        let message = device.key.sign(Typ::Health, "{}").unwrap();
        publisher.retain(Statement::Signed { topic: topic.to_owned(), message });
    }
    publisher
}

/// The device does all of its part, Home Assistant hears it, and nobody else may speak for it.
fn plays_its_part(port: u16, ca: &Path) {
    let tls = ["--cafile", ca.to_str().unwrap(), "--insecure", "-P", "secret"];
    let listener = Subscriber::start(port, "#", &[&tls[..], &["-u", "homeassistant"]].concat());
    let device = Device::new();
    device.tell(3);
    let publisher = speak(&device, port, ca);
    assert!(publisher.flush(PATIENT).unwrap(), "{:?}", publisher.status());
    for topic in [DISCOVERY, "familiar/porch/health", "familiar/porch/person/zoe"] {
        wait(topic, || publisher.is_settled(topic));
    }
    assert_eq!(publisher.status().left_out, []);
    wait("what it says", || listener.on("/event").len() == 3);
    let publish = |user: &str, topic: &str| {
        Command::new("mosquitto_pub")
            .args(["-V", "5", "-d", "-h", "127.0.0.1", "-p", &port.to_string(), "-q", "1"])
            .args(tls)
            .args(["-u", user, "-t", topic, "-m", "pressed"])
            .output()
            .unwrap()
    };
    // Home Assistant's switch comes through; others' words do not.
    publish("homeassistant", "familiar/porch/set/pause");
    wait("the switch", || publisher.received().is_some());
    publish("porch", "familiar/garden/event");
    publish("guest", "familiar/porch/event");
    publish("homeassistant", "familiar/last");
    wait("the last", || listener.messages().iter().any(|(topic, _)| topic == "familiar/last"));
    let said = listener.messages();
    assert!(
        !said.iter().any(|(topic, text)| topic.ends_with("/event") && text == "pressed"),
        "{said:?}"
    );
    publisher.stop();
}

/// The app of Home Assistant: its configuration as its template makes it of the documented options (its users come from
/// Home Assistant, here from a file).
/// Holds HAS-12.
#[test]
fn home_assistants_broker_as_documented() {
    let test = "home_assistants_broker_as_documented";
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let [ssl, share] = ["ssl", "share"].map(path);
    std::fs::create_dir(&ssl).unwrap();
    std::fs::create_dir_all(share.join("mosquitto")).unwrap();
    run_documented(&ssl);
    let options = documented("home-assistant.md", "app.yaml");
    let option = |name: &str| {
        let line = options.lines().find_map(|line| line.trim().strip_prefix(&format!("{name}: ")));
        line.unwrap().to_owned()
    };
    assert_eq!((option("active"), option("folder")), ("true".to_owned(), "mosquitto".to_owned()));
    let here = |text: String| text.replace("/share", share.to_str().unwrap());
    for name in ["acl.conf", "accesscontrollist"] {
        let text = here(documented("home-assistant.md", name));
        std::fs::write(share.join("mosquitto").join(name), text).unwrap();
    }
    let users = passwords(folder.path(), &["homeassistant", "addons", "porch", "guest"]);
    let certificate = ssl.join(option("certfile"));
    let configuration = format!(
        "allow_anonymous false\npassword_file {}\ncafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate {}\n\
         include_dir {}",
        users.display(),
        certificate.display(),
        certificate.display(),
        ssl.join(option("keyfile")).display(),
        option("require_certificate"),
        share.join(option("folder")).display()
    );
    let Some(broker) = Mosquitto::start(test, &configuration) else { return };
    plays_its_part(broker.port, &ssl.join("ca.pem"));
}

/// A Mosquitto of one's own, with `make certificates`.
/// Holds HAS-12.
#[test]
fn own_mosquitto_as_documented() {
    let test = "own_mosquitto_as_documented";
    let folder = tempfile::tempdir().unwrap();
    let certificates = folder.path().join("certificates");
    let made = make_certificates(&certificates, &["server", "homeassistant.local,192.168.1.10"]);
    assert!(made.status.success(), "{made:?}");
    let users = passwords(folder.path(), &["homeassistant", "porch", "guest"]);
    let rules = folder.path().join("rules");
    std::fs::write(&rules, documented("home-assistant.md", "accesscontrollist")).unwrap();
    let text = documented("integrations.md", "familiar.conf");
    let (listener, rest) = text.split_once('\n').unwrap();
    assert_eq!(listener, "listener 8883");
    let configuration = rest
        .replace("/etc/mosquitto/certs", certificates.to_str().unwrap())
        .replace("/etc/mosquitto/passwords", users.to_str().unwrap())
        .replace("/etc/mosquitto/accesscontrollist", rules.to_str().unwrap());
    let Some(broker) = Mosquitto::start(test, &configuration) else { return };
    plays_its_part(broker.port, &certificates.join("ca.pem"));
}

/// Holds HAS-13.
#[test]
fn certificates_overwrite_nothing_keys_stay_private() {
    let folder = tempfile::tempdir().unwrap();
    let made = folder.path().join("made");
    let run = |arguments: &[&str]| make_certificates(&made, arguments);
    let content = |name: &str| std::fs::read(made.join(name)).unwrap();
    for wrong in [
        &["server", ""][..],
        &["server", "https://broker"],
        &["server", "broker:8883"],
        &["server", "-x"],
        &["server", "a b;c"],
        &["client", "../porch"],
        &["client", "ca"],
        &["client", "a,b"],
        &["other", "a"],
        &[],
    ] {
        let out = run(wrong);
        assert_eq!(out.status.code(), Some(2), "{wrong:?} {out:?}");
        assert!(!made.exists() && !out.stderr.is_empty(), "{wrong:?}");
    }
    assert!(run(&["server", "broker.local,::1,192.0.2.7"]).status.success());
    for name in ["ca.key", "mosquitto.key"] {
        assert_eq!(mode(&made.join(name)), 0o600, "{name}");
    }
    let before: Vec<_> = ["ca.pem", "ca.key", "mosquitto.pem", "mosquitto.key"].map(content).into();
    let again = run(&["server", "other.local"]);
    assert_eq!(again.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&again.stderr).contains("not overwritten"), "{again:?}");
    // A client's is signed by the same CA.
    assert!(run(&["client", "porch"]).status.success());
    assert_eq!(mode(&made.join("porch.key")), 0o600);
    let after: Vec<_> = ["ca.pem", "ca.key", "mosquitto.pem", "mosquitto.key"].map(content).into();
    assert_eq!(before, after);
    for (name, purpose) in [("mosquitto", "sslserver"), ("porch", "sslclient")] {
        let out = Command::new("openssl")
            .args(["verify", "-x509_strict", "-purpose", purpose, "-CAfile"])
            .arg(made.join("ca.pem"))
            .arg(made.join(format!("{name}.pem")))
            .output()
            .unwrap();
        assert!(out.status.success(), "{name}: {out:?}");
    }
    // Half a CA signs nothing.
    std::fs::remove_file(made.join("ca.key")).unwrap();
    assert_eq!(run(&["client", "garden"]).status.code(), Some(2));
    let left = std::fs::read_dir(&made).unwrap().flatten();
    assert!(left.into_iter().all(|file| !file.file_name().to_string_lossy().starts_with('.')));
}

/// With the drop-in for a broker elsewhere the unit's address rules let it through, and nothing else is opened.
#[test]
fn drop_in_for_a_public_broker_opens_addresses_alone() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd");
    let text = std::fs::read_to_string(source.join("public-broker.conf")).unwrap();
    let settings: Vec<_> =
        text.lines().filter(|line| !line.starts_with('#') && line.contains('=')).collect();
    assert_eq!(settings, ["IPAddressAllow=any"]);
    // What the message of an address that does not answer goes by is what the unit says.
    let unit = std::fs::read_to_string(source.join("familiar.service")).unwrap();
    let allowed = unit.lines().find_map(|line| line.strip_prefix("IPAddressAllow=")).unwrap();
    assert_eq!(
        allowed, "localhost link-local 10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 fc00::/7",
        "change system/dial.rs, is_near, with it"
    );
}
