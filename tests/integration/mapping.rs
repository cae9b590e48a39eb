//! People enrolled with another model, carried over by a mapping that the bundle brings.
//!
//! The model before is another embedding space for real (`small::before`), out of which the bundle's mapping leads.

use std::path::Path;

use serde_json::{Value, json};

use crate::slots::{Site, said};
use crate::support::small;

const FILE: &str = small::MAPPING;

/// The bundle with the embedder of the model before, signed as 7.1.0.
pub fn model_before(site: &Site) -> std::path::PathBuf {
    site.publish_changed("7.1.0", "format = 1", "format = 1", small::before)
}

fn edit(path: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{from}");
    std::fs::write(path, text.replacen(from, to, 1)).unwrap();
}

pub fn space_of(site: &Site, folder: &Path) -> String {
    let verified = site.familiar(&["model", "verify", "--json", folder.to_str().unwrap()]);
    let report: Value = serde_json::from_slice(&verified.stdout).unwrap();
    report["space"].as_str().unwrap().to_owned()
}

/// What the bundle's mapping is from.
pub fn mapped_space(site: &Site) -> String {
    let text = std::fs::read_to_string(site.home.bundle.join("bundle.toml")).unwrap();
    let table: toml::Table = text.parse().unwrap();
    table["mapping"][0]["from"].as_str().unwrap().to_owned()
}

/// Similarity of the recorded picture to the one it is named for.
fn identified(site: &Site) -> (f64, String) {
    let picture = site.home.picture("P001", "amateur_selfie.jpg");
    let output = site.familiar(&["identify", "--json", picture.to_str().unwrap()]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let face = &report[0]["faces"][0];
    assert_eq!(face["person"]["id"], "ada", "{report}");
    (face["similarity"].as_f64().unwrap(), said(&output))
}

/// Holds UPD-25, UPD-26, UPD-28.
#[test]
fn people_are_carried_over_by_the_bundles_mapping() {
    let site = Site::new();
    let before = model_before(&site);
    assert!(site.install(&before).status.success());
    site.home.enroll("Ada", "P001");
    assert_eq!(site.run().0, "7.1.0");

    let (from, to) = (mapped_space(&site), space_of(&site, &before));
    assert_ne!(from, to);
    let output = site.install(&site.publish("7.2.0", &from, &to));
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["mapped"], &report["enrol_again"]), (&json!(["ada"]), &json!([])));
    let (version, log) = site.run();
    assert_eq!(version, "7.2.0");
    assert!(log.contains("1 enrolled with another model are recognised by templates"), "{log}");
    let (mapped, note) = identified(&site);
    assert!(note.contains("mapped from another model"), "{note}");
    let people = site.familiar(&["people", "--json"]);
    let people: Value = serde_json::from_slice(&people.stdout).unwrap();
    assert_eq!((&people[0]["mapped"], &people[0]["usable_looks"]), (&json!(true), &json!(1)));

    // Nobody is enrolled a second time under another name.
    let picture = site.home.picture("P001", "studio_portrait.jpg");
    let twice = site.familiar(&["enroll", "Eve", picture.to_str().unwrap()]);
    assert_eq!(twice.status.code(), Some(6), "{twice:?}");

    // The operator declines: then she is told of as somebody to enrol again, and not compared.
    site.edit("[models]\n", "[models]\nmapping = false\n");
    let run = site.familiar(&["run", "--stdout"]);
    assert!(run.status.success() && run.stdout.is_empty(), "{run:?}");
    assert!(said(&run).contains("cannot be recognised"), "{run:?}");
    site.edit("mapping = false\n", "");

    // The model before finds its own templates as they were.
    assert!(site.familiar(&["model", "rollback"]).status.success());
    assert_eq!(site.run().0, "7.1.0");
    assert!(!identified(&site).1.contains("another model"));

    // Enrolled again with the new one, from the same picture: that is what the mapping gave.
    let newer = site.publish("7.3.0", &from, &to);
    assert!(site.install(&newer).status.success());
    let again = site.familiar(&["enroll", "--id", "ada", "Ada", picture.to_str().unwrap()]);
    assert!(again.status.success(), "{again:?}");
    let (native, note) = identified(&site);
    assert!(!note.contains("another model"), "{note}");
    assert!((native - mapped).abs() < 2e-3, "{native} {mapped}");
}

/// Holds UPD-27.
#[test]
fn mapping_that_lies_is_never_installed() {
    let site = Site::new();
    let refused = |version: &str, why: &str, change: &dyn Fn(&Path)| {
        let folder = site.publish_changed(version, "format = 1", "format = 1", change);
        let output = site.install(&folder);
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        assert!(said(&output).contains(why), "{}", said(&output));
        assert_eq!(site.boots().1, "factory");
    };
    // As if it came from a space that is nothing like this one.
    refused("7.1.0", "the mapping is not from the space it names", &|folder| {
        let mut bytes = std::fs::read(folder.join(FILE)).unwrap();
        bytes[..16 * 16 * 4].rotate_left(16 * 4);
        std::fs::write(folder.join(FILE), bytes).unwrap();
    });
    refused("7.1.1", "a mapping of 16 to 16 dimensions has", &|folder| {
        let bytes = std::fs::read(folder.join(FILE)).unwrap();
        std::fs::write(folder.join(FILE), &bytes[4..]).unwrap();
    });
    refused("7.1.2", "holds a number that is none", &|folder| {
        let mut bytes = std::fs::read(folder.join(FILE)).unwrap();
        bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
        std::fs::write(folder.join(FILE), bytes).unwrap();
    });
    refused("7.1.3", "no self-test for its mapping-before.bin", &|folder| {
        let path = folder.join("selftest.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        let (head, rest) = text.split_once("[[mapping]]").unwrap();
        let rest = rest.find("\n[[").map_or("", |at| &rest[at..]);
        std::fs::write(path, format!("{head}{rest}")).unwrap();
    });
}

/// The publisher hears of it before any device does.
#[test]
fn mapping_that_makes_no_sense_is_not_signed() {
    let site = Site::new();
    let refused = |version: &str, why: &str, change: &dyn Fn(&Path)| {
        let folder = site.publish(version, "format = 1", "format = 1");
        change(&folder);
        let (folder, key) = (folder.to_str().unwrap(), site.key.to_str().unwrap());
        let output = site.familiar(&["model", "sign", folder, "--key", key]);
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        assert!(said(&output).contains(why), "{}", said(&output));
    };
    let manifest = |from: &'static str, to: &'static str| {
        move |folder: &Path| edit(&folder.join("bundle.toml"), from, to)
    };
    refused("7.1.0", "bundle.toml needs it", &|folder| {
        std::fs::remove_file(folder.join(FILE)).unwrap();
    });
    refused("7.1.1", "mapping.reserve", &manifest("reserve = 0.0", "reserve = -0.1"));
    refused("7.1.2", "mapping.file", &manifest(FILE, "selftest.bin"));
    refused("7.1.3", "mapping.from", &manifest("from = \"sha256:", "from = \"sha512:"));
    refused("7.1.4", "mapping.pairs", &|folder| {
        // The last table of the manifest.
        let path = folder.join("bundle.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        let at = text.rfind("pairs = ").unwrap();
        std::fs::write(path, format!("{}pairs = 0 # {}", &text[..at], &text[at..])).unwrap();
    });
}
