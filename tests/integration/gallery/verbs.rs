//! The verbs about people, as a person types them.
//!
//! What needs networks has the small ones of `support/small.rs`, and painted people.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use familiar::recognition::Embedding;
use familiar::recognition::gallery::{Gallery, NewPerson};
use familiar::system::state::StateDirectory;
use image::RgbImage;
use serde_json::Value;

use crate::support::home::copy;
use crate::support::program;

pub(super) struct Home(tempfile::TempDir);

/// Painted people: `P001` and on.
struct People(crate::support::home::Home);

impl People {
    fn asset(&self, person: &str, picture: &str) -> PathBuf {
        self.0.picture(person, picture)
    }
}

impl Home {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = Self(folder);
        home.configure("/nonexistent");
        home
    }

    /// One with the default bundle, and the folder of generated people, where these are given.
    pub(super) fn with_default_models() -> Option<(Self, PathBuf)> {
        let folder = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_dir());
        let (Some(bundle), Some(trust), Some(people)) = (
            folder("FAMILIAR_TEST_BUNDLE"),
            folder("FAMILIAR_TEST_TRUST"),
            folder("FAMILIAR_OPENPEOPLE"),
        ) else {
            crate::support::not_run(
                "gallery",
                "no FAMILIAR_TEST_BUNDLE, FAMILIAR_TEST_TRUST, FAMILIAR_OPENPEOPLE; make test names them",
            );
            return None;
        };
        let home = Self::new();
        home.configure(bundle.to_str().unwrap());
        copy(&trust, &home.path("trust.d"));
        Some((home, people))
    }

    /// One with networks, and the people whom they know.
    fn with_models() -> (Self, People) {
        let home = Self::new();
        let people = People(crate::support::home::Home::small());
        home.configure(people.0.bundle.to_str().unwrap());
        copy(&people.0.path("trust.d"), &home.path("trust.d"));
        (home, people)
    }

    pub(super) fn configure(&self, bundle: &str) {
        let text = format!("device = \"porch\"\n[models]\nbundle = {bundle:?}\n");
        std::fs::write(self.path("familiar.toml"), text).unwrap();
    }

    /// With a broker where nobody listens.
    pub(super) fn configure_with_broker(&self) {
        let text = "device = \"porch\"\n[mqtt]\nurl = \"mqtt://127.0.0.1:9\"\n";
        std::fs::write(self.path("familiar.toml"), text).unwrap();
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(super) fn gallery(&self) -> Gallery {
        Gallery::open(&StateDirectory::at(self.path("state")).unwrap()).unwrap()
    }

    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(program::familiar());
        command
            .env("STATE_DIRECTORY", self.path("state"))
            .env_remove("CREDENTIALS_DIRECTORY")
            .arg("--config")
            .arg(self.path("familiar.toml"));
        command
    }

    /// Exit code, stdout, stderr.
    pub(super) fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let Output { status, stdout, stderr } = self.command().args(arguments).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code().unwrap(), text(stdout), text(stderr))
    }

    /// What it says at a terminal, where `answer` is typed.
    pub(super) fn at_a_terminal(&self, arguments: &[&str], answer: &str) -> String {
        let command = self.command();
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words = words.map(|word| word.to_str().unwrap()).chain(arguments.iter().copied());
        let line: Vec<String> = words.map(|word| format!("'{word}'")).collect();
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--command", &line.join(" "), "/dev/null"]);
        script.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let mut child =
            script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("bsdutils");
        child.stdin.take().unwrap().write_all(answer.as_bytes()).unwrap();
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
    }

    /// The same with --json; stdout is one JSON text.
    pub(super) fn json(&self, arguments: &[&str]) -> (i32, Value) {
        let (code, stdout, stderr) = self.run(&[arguments, &["--json"]].concat());
        let data = serde_json::from_str(&stdout);
        (code, data.unwrap_or_else(|error| panic!("{error}: {stdout:?}, {stderr:?}")))
    }

    pub(super) fn enrol(&self, name: &str) {
        let person =
            NewPerson { name: name.parse().unwrap(), id: None, consent: None, expires: None };
        let look = Embedding::normalized(vec![1.0, 2.0, 3.0]).unwrap();
        self.gallery().add(person, &[look], "sha256:aa").unwrap();
    }
}

pub(super) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn people_without_models() {
    let home = Home::new();
    let (code, people) = home.json(&["people"]);
    assert_eq!((code, people), (0, serde_json::json!([])));
    home.enrol("Ann");
    home.enrol("Berta Blau");
    let (code, people) = home.json(&["people"]);
    assert_eq!((code, people[1]["id"].as_str()), (0, Some("berta-blau")));
    assert_eq!(people[0]["usable_looks"], Value::Null);
    let (code, stdout, _) = home.run(&["people"]);
    assert!(code == 0 && stdout.contains("Berta Blau"), "{stdout}");

    let (code, _, stderr) = home.run(&["people", "show", "berta-blue"]);
    assert!(code == 1 && stderr.contains("did you mean berta-blau?"), "{stderr}");
    assert_eq!(home.run(&["people", "rename", "berta-blau", "Berta"]).0, 0);
    assert_eq!(home.json(&["people", "show", "berta-blau"]).1["name"], "Berta");
}

pub(super) fn secret_file(path: &Path, text: &str, mode: u32) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Holds GAL-21.
#[test]
fn backup_is_the_owners_and_never_without_a_passphrase() {
    let home = Home::new();
    home.enrol("Ann");
    let (file, words) = (home.path("people.backup"), home.path("words"));
    let backup = ["people", "backup", text(&file), "--passphrase-file", text(&words)];
    assert_eq!(home.run(&backup[..3]).0, 2, "no passphrase");
    assert_eq!(home.run(&backup).0, 2, "no such file");
    secret_file(&words, "six words that nobody guesses\n", 0o644);
    assert_eq!(home.run(&backup).0, 3, "a passphrase that others may read");
    secret_file(&words, "short\n", 0o600);
    assert_eq!(home.run(&backup).0, 2);
    assert!(!file.exists());

    secret_file(&words, "six words that nobody guesses\n", 0o600);
    let (code, told) = home.json(&backup);
    assert_eq!((code, &told["people"]), (0, &1.into()));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let before = std::fs::read(&file).unwrap();
    let (code, _, stderr) = home.run(&backup);
    assert!(code == 1 && stderr.contains("exists"), "{stderr}");
    assert_eq!(std::fs::read(&file).unwrap(), before, "written over");

    // Refused before any model is looked for, and nothing is changed.
    let restore = ["people", "restore", text(&file), "--passphrase-file", text(&words)];
    secret_file(&words, "six words that nobody guessed\n", 0o600);
    let (code, _, stderr) = home.run(&restore);
    assert!(code == 3 && stderr.contains("another passphrase"), "{stderr}");
    std::fs::write(&file, &before[..before.len() - 1]).unwrap();
    assert_eq!(home.run(&restore).0, 3, "cut");
    std::fs::File::create(&file).unwrap().set_len((256 << 20) + 1).unwrap();
    let (code, _, stderr) = home.run(&restore);
    assert!(code == 3 && stderr.contains("256 MiB"), "{stderr}");
    assert_eq!(home.gallery().people().unwrap().len(), 1);
}

/// One device's people, recognised on another with another key.
/// Holds GAL-22.
#[test]
fn restored_people_are_recognised_on_another_device() {
    let (old, people) = Home::with_models();
    let (new, _people) = Home::with_models();
    let asset = |name: &str| people.asset("P001", name);
    let (portrait, selfie) = (asset("studio_portrait.jpg"), asset("amateur_selfie.jpg"));
    assert_eq!(old.run(&["enroll", "Ada", text(&portrait)]).0, 0);
    let (file, words) = (old.path("people.backup"), old.path("words"));
    secret_file(&words, "six words that nobody guesses\n", 0o600);
    let end = ["--passphrase-file", text(&words)];
    assert_eq!(old.run(&[&["people", "backup", text(&file)], &end[..]].concat()).0, 0);
    let restore = [&["people", "restore", text(&file)], &end[..]].concat();
    let (code, told) = new.json(&restore);
    assert_eq!((code, &told["restored"]), (0, &serde_json::json!(["ada"])));
    let similarity = |home: &Home| {
        let (code, photos) = home.json(&["identify", text(&selfie)]);
        assert_eq!((code, &photos[0]["faces"][0]["person"]["id"]), (0, &"ada".into()));
        photos[0]["faces"][0]["similarity"].as_f64().unwrap()
    };
    assert!((similarity(&old) - similarity(&new)).abs() < 2e-4); // told to four places
    assert_eq!(new.run(&restore).0, 3, "enrolled already");
    assert_eq!(new.run(&[&restore[..], &["--skip-existing"]].concat()).0, 0);
}

/// All that is held on a person, and neither a template nor anything of somebody else.
/// Holds GAL-08.
#[test]
fn export_tells_what_is_held_on_one_person() {
    let home = Home::new();
    home.configure_with_broker();
    home.enrol("Ann");
    home.enrol("Bob");
    let seen = r#"{"ann":{"present":true,"since":"2026-01-02T03:04:05Z","last_seen":"2026-01-02T03:05:00Z"},
                   "bob":{"present":false,"since":"2026-01-02T03:04:05Z"}}"#;
    std::fs::write(home.path("state/presence.json"), seen).unwrap();
    // Something about Bob waits in the outbox, and nothing about Ann.
    home.enrol("Bob");
    assert_eq!(home.run(&["forget", "bob-2"]).0, 0);

    let (code, export) = home.json(&["people", "export", "ann"]);
    assert_eq!((code, &export["id"], &export["name"]), (0, &"ann".into(), &"Ann".into()));
    let templates = &export["templates"][0];
    assert_eq!((&templates["embedder"], &templates["count"]), (&"sha256:aa".into(), &1.into()));
    assert_eq!(templates["dimensions"], 3);
    let presence = &export["presence"];
    assert_eq!(
        (&presence["present"], &presence["last_seen"]),
        (&true.into(), &"2026-01-02T03:05:00Z".into())
    );
    assert_eq!(
        (&export["outbox_events"], &export["retained_topic"]),
        (&0.into(), &"familiar/porch/person/ann".into())
    );
    assert!(!export.to_string().contains("ob"), "something of Bob: {export}");
    let (code, text, _) = home.run(&["people", "export", "ann"]);
    assert!(code == 0 && text.contains("1 of 3 numbers each") && !text.contains("0.26"), "{text}");
    let (code, _, stderr) = home.run(&["people", "export", "anne"]);
    assert!(code == 1 && stderr.contains("did you mean ann?"), "{stderr}");

    let state = StateDirectory::at(home.path("state")).unwrap();
    let outbox = familiar::event::Outbox::open(&state).unwrap();
    let about = |id: &str| outbox.about(&id.parse().unwrap()).unwrap();
    assert_eq!((about("bob-2"), about("bob"), about("ann")), (1, 0, 0));
}

#[test]
fn forgotten_person_is_told_of_once() {
    let home = Home::new();
    home.enrol("Ann");
    home.enrol("Bob");
    let (code, outcome) = home.json(&["forget", "ann"]);
    assert_eq!((code, outcome), (0, serde_json::json!({ "erased": ["ann"] })));
    let (code, _, stderr) = home.run(&["forget", "ann"]);
    assert!(code == 1 && stderr.contains("nobody is enrolled as ann"), "{stderr}");
    // What a crash left is paid by the next call, whatever it is about.
    drop(home.gallery().begin_erasure(&"bob".parse().unwrap()).unwrap());
    assert_eq!(home.json(&["forget", "bob"]), (0, serde_json::json!({ "erased": ["bob"] })));
    assert!(home.gallery().people().unwrap().is_empty());

    let state = StateDirectory::at(home.path("state")).unwrap();
    let outbox = familiar::event::Outbox::open(&state).unwrap();
    let mut payloads: Vec<Value> = Vec::new();
    #[allow(clippy::default_trait_access)] // its type is not named outside
    let mut entry = outbox.after(Default::default()).unwrap();
    while let Some(event) = entry {
        let envelope: Value = serde_json::from_str(event.message.as_str()).unwrap();
        payloads.push(serde_json::from_str(envelope["payload"].as_str().unwrap()).unwrap());
        entry = outbox.after(event.position).unwrap();
    }
    let told: Vec<(&Value, &Value)> =
        payloads.iter().map(|p| (&p["event_type"], &p["person"])).collect();
    let [ann, bob] = [serde_json::json!({ "id": "ann" }), serde_json::json!({ "id": "bob" })];
    let erased = Value::from("erased");
    assert_eq!(told, [(&erased, &ann), (&erased, &bob)]);
}

#[test]
fn unfit_keys_end_with_3() {
    let home = Home::new();
    home.enrol("Ann");
    let key = home.path("state/gallery-key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (code, _, stderr) = home.run(&["people"]);
    assert!(code == 3 && stderr.contains("gallery-key"), "{stderr}");
    std::fs::remove_file(&key).unwrap();
    let (code, _, stderr) = home.run(&["people"]);
    assert!(code == 3 && stderr.contains("key is missing"), "{stderr}");
    // A systemd credential goes before the file.
    let credentials = home.path("credentials");
    std::fs::create_dir(&credentials).unwrap();
    std::fs::write(credentials.join("gallery-key"), [b'A'; 43]).unwrap();
    let output =
        home.command().arg("people").env("CREDENTIALS_DIRECTORY", &credentials).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn usage_errors_end_with_2() {
    let home = Home::new();
    for arguments in [
        &["enroll", "Ann"][..],
        &["enroll", "Ann", "a.jpg", "--live"],
        &["enroll", "A\u{7}nn", "a.jpg"],
        &["enroll", "", "a.jpg"],
        &["enroll", "Ann", "a.jpg", "--id", "Not an id"],
        &["enroll", "Ann", "a.jpg", "--expires", "soon"],
        &["enroll", "Ann", "a.jpg", "--consent", "line\nbreak"],
        &["identify"],
        &["forget"],
        &["forget", "../x"],
    ] {
        let (code, _, stderr) = home.run(arguments);
        assert_eq!(code, 2, "{arguments:?}: {stderr}");
    }
    // Without a verified model nothing is enrolled or identified.
    assert_eq!(home.run(&["enroll", "Ann", "a.jpg"]).0, 3);
    assert_eq!(home.run(&["identify", "a.jpg"]).0, 3);
}

/// Two pictures side by side.
fn beside(left: &Path, right: &Path) -> RgbImage {
    let scaled = |path| {
        let picture = image::open(path).unwrap().to_rgb8();
        image::imageops::resize(&picture, 640, 640, image::imageops::FilterType::Triangle)
    };
    let mut both = RgbImage::new(1280, 640);
    image::imageops::replace(&mut both, &scaled(left), 0, 0);
    image::imageops::replace(&mut both, &scaled(right), 640, 0);
    both
}

/// A portrait of the household on the wall, a neighbour alike: nobody, until the anchor is forgotten.
/// Holds GAL-12.
#[test]
fn face_that_is_not_to_be_named() {
    let (home, people) = Home::with_models();
    let asset = |person: &str, name: &str| people.asset(person, name);
    let (portrait, selfie) =
        (asset("P001", "studio_portrait.jpg"), asset("P001", "amateur_selfie.jpg"));
    let other = asset("P002", "studio_portrait.jpg");
    assert_eq!(home.run(&["enroll", "Person One", "--id", "one", text(&portrait)]).0, 0);
    assert_eq!(home.run(&["enroll", "Person Two", "--id", "two", text(&other)]).0, 0);
    let named = || {
        let (code, photos) = home.json(&["identify", text(&selfie), text(&other)]);
        assert_eq!(code, 0, "{photos}");
        [0, 1].map(|photo| photos[photo]["faces"][0]["person"]["id"].as_str().map(str::to_owned))
    };
    assert_eq!(named(), [Some("one".to_owned()), Some("two".to_owned())]);

    let (code, stdout, stderr) = home.run(&["enroll", "--not", text(&selfie)]);
    assert!(code == 0 && stdout.contains("not-1"), "{stdout}{stderr}");
    assert!(stderr.contains("it looks like Person One (one)"), "{stderr}");
    assert_eq!(named(), [None, Some("two".to_owned())]);
    assert_eq!(home.json(&["identify", text(&selfie)]).1[0]["faces"][0]["anchored"], true);

    // It is no person.
    let (_, listed) = home.json(&["people"]);
    assert_eq!(listed.as_array().unwrap().len(), 2, "{listed}");
    assert!(home.run(&["people"]).1.contains("not-1"));

    assert_eq!(home.run(&["forget", "not-1"]).0, 0);
    assert_eq!(named(), [Some("one".to_owned()), Some("two".to_owned())]);
}

/// Holds GAL-11.
#[test]
fn look_that_hurts_is_named_and_dropped() {
    let (home, people) = Home::with_models();
    let asset = |person: &str, name: &str| people.asset(person, name);
    let (portrait, selfie) =
        (asset("P001", "studio_portrait.jpg"), asset("P001", "amateur_selfie.jpg"));
    let code = home.run(&["enroll", "Person One", "--id", "one", text(&portrait), text(&selfie)]).0;
    assert_eq!(code, 0);
    let (code, stdout, _) = home.run(&["people", "check"]);
    assert!(code == 0 && stdout.contains("nothing hurts"), "{stdout}");

    // One of the looks is the very face that must not be named.
    assert_eq!(home.run(&["enroll", "--not", text(&selfie)]).0, 0);
    let (code, found) = home.json(&["people", "check"]);
    let worst = &found["looks"][0];
    assert_eq!((code, worst["reason"].as_str()), (1, Some("near-anchor")), "{found}");
    assert_eq!((worst["look"].as_u64(), worst["dropped"].as_bool()), (Some(2), Some(false)));
    let before = home.json(&["people", "show", "one"]).1;
    assert_eq!(before["looks"], 2, "a check alone drops nothing: {before}");

    // At a terminal it asks, and drops what is confirmed.
    let ask = |answer: &str| home.at_a_terminal(&["people", "check"], answer);
    let said = ask("n\n");
    assert!(said.contains("drop look 2 of one? [y/N]"), "{said}");
    assert_eq!(home.json(&["people", "show", "one"]).1["looks"], 2, "{said}");
    assert!(ask("y\n").contains("dropped"));
    assert_eq!(home.json(&["people", "show", "one"]).1["looks"], 1);

    // Without one, only when told to.
    assert_eq!(home.run(&["forget", "one"]).0, 0);
    let anchor = found["looks"][0]["other"].as_str().unwrap();
    assert_eq!(home.run(&["forget", anchor]).0, 0);
    let both = ["enroll", "Person One", "--id", "one", text(&portrait), text(&selfie)];
    assert_eq!(home.run(&both).0, 0);
    assert_eq!(home.run(&["enroll", "--not", text(&selfie)]).0, 0);
    let (_, found) = home.json(&["people", "check", "--drop"]);
    assert_eq!(found["looks"][0]["dropped"], true, "{found}");
    assert_eq!(home.json(&["people", "show", "one"]).1["looks"], 1, "the last look stays");
}

#[test]
fn enrolled_people_are_identified() {
    let (home, people) = Home::with_models();
    let asset = |person: &str, name: &str| people.asset(person, name);
    let enrol = |name: &str, id: &str, pictures: &[PathBuf]| {
        let pictures: Vec<&str> = pictures.iter().map(|path| text(path)).collect();
        home.json(&[&["enroll", name, "--id", id], &pictures[..]].concat())
    };
    for (name, id, person) in [("Person One", "one", "P001"), ("Person Two", "two", "P002")] {
        let (code, report) = enrol(name, id, &[asset(person, "studio_portrait.jpg")]);
        assert_eq!(code, 0, "{report}");
        assert_eq!(report["person"]["id"], id);
        assert_eq!(report["pictures"][0]["accepted"], true);
    }

    // Their other pictures, and a stranger.
    let probes = [
        (asset("P001", "amateur_selfie.jpg"), Some("one")),
        (asset("P002", "amateur_selfie.jpg"), Some("two")),
        (asset("P003", "studio_portrait.jpg"), None),
    ];
    let paths: Vec<&str> = probes.iter().map(|(path, _)| text(path)).collect();
    let (code, photos) = home.json(&[&["identify"], &paths[..]].concat());
    assert_eq!(code, 0);
    for ((path, who), photo) in probes.iter().zip(photos.as_array().unwrap()) {
        assert_eq!(photo["photo"], text(path));
        let faces = photo["faces"].as_array().unwrap();
        assert_eq!(faces.len(), 1, "{photo}");
        assert_eq!(faces[0]["person"]["id"].as_str(), *who, "{photo}");
        let keys: Vec<&String> = faces[0].as_object().unwrap().keys().collect();
        assert_eq!(keys, ["box", "person", "similarity", "threshold"]);
        let (similarity, threshold) =
            (faces[0]["similarity"].as_f64().unwrap(), faces[0]["threshold"].as_f64().unwrap());
        assert_eq!(similarity >= threshold, who.is_some(), "{photo}");
    }

    // Two on one picture, each at the right place.
    let both = home.path("both.jpg");
    beside(&asset("P002", "studio_portrait.jpg"), &asset("P001", "studio_portrait.jpg"))
        .save(&both)
        .unwrap();
    let (code, photos) = home.json(&["identify", text(&both)]);
    let faces = photos[0]["faces"].as_array().unwrap();
    let found: Vec<Option<&str>> = faces.iter().map(|f| f["person"]["id"].as_str()).collect();
    assert_eq!((code, found), (0, vec![Some("two"), Some("one")]));
    assert!(faces[0]["box"][0].as_f64().unwrap() < 640.0);
    assert!(faces[1]["box"][0].as_f64().unwrap() >= 640.0);

    // Forgotten, nobody is recognised.
    assert_eq!(home.run(&["forget", "one"]).0, 0);
    let (_, photos) = home.json(&["identify", paths[0]]);
    assert_eq!(photos[0]["faces"][0]["person"], Value::Null);
}

#[test]
fn unfit_pictures_are_refused() {
    let (home, people) = Home::with_models();
    let asset = |person: &str, name: &str| people.asset(person, name);
    let (one, two) = (asset("P001", "studio_portrait.jpg"), asset("P002", "studio_portrait.jpg"));
    let (both, empty, broken) =
        (home.path("both.png"), home.path("empty.png"), home.path("broken.jpg"));
    beside(&one, &two).save(&both).unwrap();
    RgbImage::from_fn(640, 480, |x, y| image::Rgb([(x / 3) as u8, (y / 2) as u8, 240]))
        .save(&empty)
        .unwrap();
    let whole = std::fs::read(&one).unwrap();
    std::fs::write(&broken, &whole[..whole.len() / 2]).unwrap();
    let reasons = |report: &Value| -> Vec<String> {
        let reason = |picture: &Value| picture["reason"].as_str().unwrap_or("-").to_owned();
        report["pictures"].as_array().unwrap().iter().map(reason).collect()
    };

    // Nothing that can be accepted: nobody is enrolled.
    let unfit = [text(&both), text(&empty), text(&broken), "/nonexistent.jpg"];
    let (code, report) = home.json(&[&["enroll", "One"], &unfit[..]].concat());
    assert_eq!(code, 6);
    assert_eq!(reasons(&report), ["several-faces", "no-face", "unreadable", "unreadable"]);
    assert_eq!((&report["person"], &report["looks"]), (&Value::Null, &Value::from(0)));
    assert!(home.gallery().people().unwrap().is_empty());

    // One that can among some that cannot; the same picture twice.
    let (code, report) = home.json(&["enroll", "One", text(&empty), text(&one), text(&one)]);
    assert_eq!(
        (code, reasons(&report)),
        (0, vec!["no-face".into(), "-".into(), "repeated".into()])
    );
    let (code, report) = home.json(&["enroll", "One", text(&one)]);
    assert_eq!((code, reasons(&report)), (6, vec!["repeated".into()]));

    // The same person under another name, and somebody else's picture among a person's own.
    let selfie = asset("P001", "amateur_selfie.jpg");
    let (code, report) = home.json(&["enroll", "Two", text(&selfie), text(&two)]);
    assert_eq!((code, reasons(&report)), (0, vec!["somebody-else".into(), "-".into()]));
    let three = asset("P003", "studio_portrait.jpg");
    let (code, report) = home.json(&["enroll", "One", text(&three), text(&selfie)]);
    assert_eq!((code, reasons(&report)), (0, vec!["does-not-fit".into(), "-".into()]));
    assert_eq!((&report["person"]["id"], &report["looks"]), (&"one".into(), &2.into()));

    // identify: a picture without a face, one that cannot be read.
    let (code, photos) = home.json(&["identify", text(&empty)]);
    assert_eq!((code, &photos[0]["faces"]), (6, &serde_json::json!([])));
    let (code, photos) = home.json(&["identify", text(&broken), text(&one)]);
    assert_eq!((code, photos.as_array().unwrap().len()), (1, 1));
    assert_eq!(photos[0]["faces"][0]["person"]["id"], "one");
}
