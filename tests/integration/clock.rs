//! Clocks that are wrong: of 1970 and before, set right while the daemon runs, or set wrong.

use std::process::Output;

use serde_json::Value;

use crate::support::faults::Faults;
use crate::support::home::Home;
use crate::support::mosquitto::{Mosquitto, wait};

const DAY: i64 = 86_400;

fn json(home: &Home, faults: &Faults, arguments: &[&str]) -> Value {
    let output = faults.rule(&mut home.command(arguments)).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn people(home: &Home, faults: &Faults) -> Value {
    json(home, faults, &["people", "--json"])
}

fn endless(home: &Home) {
    home.record("P001", 20);
    home.configure("");
    home.loop_frames();
}

fn enroll(home: &Home, faults: &Faults, more: &[&str]) -> Output {
    let picture = home.picture("P001", "studio_portrait.jpg");
    let arguments = [&["enroll", "Ada", picture.to_str().unwrap()], more].concat();
    let output = faults.rule(&mut home.command(&arguments)).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    output
}

fn log(home: &Home) -> String {
    std::fs::read_to_string(home.path("said")).unwrap_or_default()
}

/// Holds ROB-01.
#[test]
fn expiry_given_at_a_clock_of_1970_counts_from_enrolment() {
    let test = "expiry_given_at_a_clock_of_1970_counts_from_enrolment";
    let Some(home) = Home::new(test) else { return };
    let faults = Faults::new();
    endless(&home);
    faults.date(100, false);
    let enrolled = enroll(&home, &faults, &["--expires", "90d"]);
    let said = String::from_utf8_lossy(&enrolled.stderr).into_owned();
    assert!(said.contains("not synchronised"), "{said}");
    let ada = &people(&home, &faults)[0];
    assert!(ada["expires"].is_null(), "{ada}");
    assert_eq!(ada["expires_after"], "90 days from when the clock is set");

    let environment = faults.environment();
    let environment: Vec<_> =
        environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let running = home.start(&environment);
    wait("Ada is recognised in 1970", || log(&home).contains("recognized ada"));
    // The time server answers: the span becomes a date, ninety days after enrolment.
    faults.clock(0, true);
    wait("a date", || people(&home, &faults)[0]["expires"].is_string());
    let ada = people(&home, &faults)[0].clone();
    let end: jiff::Timestamp = ada["expires"].as_str().unwrap().parse().unwrap();
    let left = end.duration_since(jiff::Timestamp::now()).as_secs();
    assert!((90 * DAY - 3600..=90 * DAY).contains(&left), "{left}");
    assert!(ada.get("expires_after").is_none() && ada["expired"] == false, "{ada}");
    // And then it is over, in its time.
    faults.clock(91 * DAY, true);
    wait("Ada is erased", || people(&home, &faults).as_array().unwrap().is_empty());
    running.stop();
    assert!(log(&home).contains("the time of ada is over"), "{}", log(&home));
}

/// Holds ROB-02.
#[test]
fn wrong_clock_of_the_future_erases_nobody() {
    let Some(home) = Home::new("wrong_clock_of_the_future_erases_nobody") else { return };
    let faults = Faults::new();
    endless(&home);
    faults.clock(0, true);
    enroll(&home, &faults, &["--expires", "90d"]);
    let environment = faults.environment();
    let environment: Vec<_> =
        environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let running = home.start(&environment);
    wait("Ada is recognised", || log(&home).contains("recognized ada"));
    // Ten years on, by a clock that nobody vouches for, and back.
    faults.clock(3650 * DAY, false);
    wait("her time is over by that clock", || log(&home).contains("no longer recognised"));
    assert_eq!(people(&home, &faults)[0]["expired"], true);
    faults.clock(0, false);
    wait("she is known again", || log(&home).contains("has changed: 1 enrolled"));
    assert_eq!(people(&home, &faults)[0]["expired"], false);
    running.stop();
}

/// Holds ROB-01.
#[test]
fn clock_before_1970_is_survived() {
    let Some(home) = Home::new("clock_before_1970_is_survived") else { return };
    let faults = Faults::new();
    home.record("P001", 30);
    faults.date(-DAY, false);
    enroll(&home, &faults, &["--expires", "90d"]);
    let run = faults.rule(&mut home.command(&["-v", "run", "--stdout"])).output().unwrap();
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(run.status.success() && !said.contains("panicked"), "{said}");
    let events = String::from_utf8(run.stdout).unwrap();
    let event: Value = serde_json::from_str(events.lines().next().unwrap()).unwrap();
    let event: Value = serde_json::from_str(event["payload"].as_str().unwrap()).unwrap();
    assert!(event["time"].as_str().unwrap().starts_with("1969-12-31T"), "{event}");
    assert_eq!(event["clock"], "unsynchronized");
    std::fs::write(home.path("events"), &events).unwrap();
    for arguments in [
        &["verify", "--chain", home.path("events").to_str().unwrap()][..],
        &["people"],
        &["people", "export", "ada"],
        &["key", "rotate"],
        &["forget", "ada"],
    ] {
        let output = faults.rule(&mut home.command(arguments)).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }
}

#[test]
fn certificate_is_not_valid_yet_before_1970() {
    let test = "certificate_is_not_valid_yet_before_1970";
    let Some(home) = Home::new(test) else { return };
    let [key, certificate, ca] = certificate(&home);
    let options = format!("certfile {certificate}\nkeyfile {key}");
    let Some(broker) = Mosquitto::start(test, &options) else { return };
    home.record("P001", 1);
    home.configure(&format!("[mqtt]\nurl = \"mqtts://localhost:{}\"\nca = {ca:?}\n", broker.port));
    let faults = Faults::new();
    faults.date(-DAY, false);
    let check = faults.rule(&mut home.command(&["check"])).output().unwrap();
    assert_eq!(check.status.code(), Some(5), "{check:?}");
    let said = String::from_utf8_lossy(&check.stdout);
    assert!(said.contains("valid"), "{said}");
    faults.clock(0, true);
    let check = faults.rule(&mut home.command(&["check"])).output().unwrap();
    assert!(check.status.success(), "{check:?}");
}

/// Key and certificate of a broker on this machine, and the certificate of its authority.
fn certificate(home: &Home) -> [String; 3] {
    let openssl = |arguments: &str| {
        let mut command = std::process::Command::new("openssl");
        command.args(arguments.split(' ')).current_dir(home.folder.path());
        let made = command.output().unwrap();
        assert!(made.status.success(), "{made:?}");
    };
    let curve = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(&format!("req -x509 {curve} -keyout ca.key -out ca.crt -subj /CN=authority -days 30"));
    openssl(&format!("req {curve} -keyout broker.key -out broker.csr -subj /CN=localhost"));
    std::fs::write(home.path("ext"), "subjectAltName=DNS:localhost\n").unwrap();
    openssl(
        "x509 -req -in broker.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out broker.crt -extfile ext -days 30",
    );
    ["broker.key", "broker.crt", "ca.crt"].map(|name| home.path(name).to_str().unwrap().to_owned())
}
