//! A password that somebody wrote into an address.

use super::verbs::Home;

/// Holds CLI-03.
#[test]
fn password_in_an_address_is_in_no_message() {
    let home = Home::new();
    home.enrol("Ann");
    let mqtt = |url: &str| format!("device = \"porch\"\n[mqtt]\nurl = {url}\n");
    let update = |url: &str| format!("device = \"porch\"\n[update]\nrepository = {url}\n");
    for configuration in [
        mqtt("\"mqtts://ann:hunter22@broker.invalid:8883\""),
        mqtt("\"mqtt://ann:hunter22@127.0.0.1:9\""),
        mqtt("\"mqtts://ann:hun/hunter22@ter@broker.invalid\""),
        mqtt("\"ann:hunter22@broker.invalid\""),
        mqtt("\"mqtts://hunter22@broker.invalid\""),
        mqtt("[\"mqtts://ann:hunter22@broker.invalid\"]"),
        mqtt("\"mqtts://broker.invalid\"\npassword = \"hunter22\""),
        mqtt("\"mqtts://ann:hunter22@broker.invalid"),
        update("\"https://ann:hunter22@127.0.0.1:9/familiar\""),
        update("\"http://ann:hunter22@models.example.org/familiar\""),
        update("\"ftp://ann:hunter22@models.example.org\""),
        update("\"https://127.0.0.1:9\"\nurl = \"https://ann:hunter22@h\""),
    ] {
        std::fs::write(home.path("familiar.toml"), &configuration).unwrap();
        for verb in [
            &["check", "-vv"][..],
            &["check", "--json"],
            &["run", "-vv"],
            &["listen", "-vv", "--for", "1s"],
            &["forget", "ann", "-vv"],
            &["model", "update", "-vv", "--unsynchronized"],
            &["people", "export", "ann", "--json"],
        ] {
            let (code, stdout, stderr) = home.run(verb);
            let said = format!("{stdout}{stderr}");
            assert!(!said.contains("hunter22"), "{verb:?} ({code}) of {configuration}: {said}");
        }
        if home.gallery().people().unwrap().is_empty() {
            home.enrol("Ann");
        }
    }
}
