//! The real liveness networks: `make test-liveness`. A bundle made from package registries alone has none, so this is a
//! suite of its own, which `make test` runs where they are and otherwise lists as not run.
//!
//! The pictures are stills of people who do not exist. To the networks one of the recordings made of them here is an
//! attack (mean score 0.02), another a live face (0.96).

use familiar::model::{Engine, TrustAnchors, VerifiedBundle};

use crate::liveness::{events, kinds, mode};
use crate::support::home::Home;

const ATTACK: &str = "P005";
const LIVE: &str = "P007";

/// A device that knows this person and sees a recording of a picture of the same person.
fn device(test: &str, person: &str) -> Option<Home> {
    let home = Home::new(test)?;
    let manifest = std::fs::read_to_string(home.bundle.join("bundle.toml")).unwrap();
    assert!(manifest.contains("[[liveness]]"), "{} has no liveness", home.bundle.display());
    home.record(person, 20);
    home.enroll("Ada", person);
    Some(home)
}

#[test]
#[ignore = "no liveness networks: make test-liveness"]
fn real_networks_pass_their_self_test() {
    let test = "real_networks_pass_their_self_test";
    let Some(home) = device(test, LIVE) else { return };
    let anchors = TrustAnchors::load(&home.path("trust.d")).unwrap();
    let bundle = VerifiedBundle::open(&home.bundle, &anchors).unwrap();
    let engine = Engine::start_with_liveness(bundle).unwrap();
    assert!(engine.has_liveness());
}

#[test]
#[ignore = "no liveness networks: make test-liveness"]
fn picture_is_a_spoof_to_the_real_networks() {
    let test = "picture_is_a_spoof_to_the_real_networks";
    let Some(home) = device(test, ATTACK) else { return };
    home.configure(&mode("enforce"));
    let events = events(&home.familiar(&["run", "--stdout"]));
    assert_eq!(kinds(&events), ["spoof"]);
    assert_eq!(events[0]["liveness"]["verdict"], "attack");
    assert!(events[0]["liveness"]["score"].as_f64().unwrap() < 0.2);
}

#[test]
#[ignore = "no liveness networks: make test-liveness"]
fn live_face_passes_the_real_networks() {
    let test = "live_face_passes_the_real_networks";
    let Some(home) = device(test, LIVE) else { return };
    home.configure(&mode("enforce"));
    let events = events(&home.familiar(&["run", "--stdout"]));
    assert_eq!(kinds(&events), ["recognized"]);
    assert_eq!(events[0]["liveness"]["verdict"], "live");
    assert!(events[0]["liveness"]["score"].as_f64().unwrap() > 0.8);
}
