//! `familiar evaluate` on small folders of painted people, as the outside sees it. What is wrong with a folder is said
//! before a model is loaded.

use std::path::Path;
use std::process::{Command, Output};

use image::{Rgb, RgbImage};
use serde_json::Value;

use super::support::home::Home;
use super::support::program;

fn empty_home() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let text = "device = \"porch\"\n[camera]\nsource = \"replay:frames\"\n[models]\nbundle = \"/nonexistent\"\n";
    std::fs::write(home.path().join("familiar.toml"), text).unwrap();
    home
}

fn touch(root: &Path, files: &[&str]) {
    for file in files {
        let path = root.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    }
}

fn evaluate(home: &Path, arguments: &[&str]) -> Output {
    Command::new(program::familiar())
        .arg("evaluate")
        .args(arguments)
        .arg("--config")
        .arg(home.join("familiar.toml"))
        .current_dir(home)
        .output()
        .unwrap()
}

/// Holds REC-18.
#[test]
fn malformed_folders_are_a_usage_error_that_names_the_folder() {
    let home = empty_home();
    let root = home.path();
    touch(root, &["empty/.hidden", "good/a/1.jpg", "good/a/2.jpg", "good/a/3.jpg", "good/a/4.jpg"]);
    touch(root, &["stray/a/1.jpg", "stray/face.jpg", "few/a/1.jpg", "few/b/1.jpg"]);
    touch(
        root,
        &[
            "blank/a/notes.txt",
            "kindless/0.jpg",
            "tracks/t/0.jpg",
            "mixed/t/0.jpg",
            "mixed/t/u/0.jpg",
        ],
    );
    for (arguments, told) in [
        (&["--people", "missing", "--strangers", "good"][..], "missing"),
        (&["--people", "empty", "--strangers", "good"], "empty"),
        (&["--people", "stray", "--strangers", "good"], "face.jpg"),
        (&["--people", "blank", "--strangers", "good"], "blank/a"),
        (&["--people", "few", "--strangers", "good"], "--enroll"),
        (&["--people", "good", "--strangers", "empty"], "empty"),
        (&["--people", "good"], "--strangers"),
        (&["--strangers", "good"], "--people"),
        (&["--genuine", "tracks"], "--attacks"),
        (&["--genuine", "kindless", "--attacks", "good"], "kindless"),
        (&["--genuine", "mixed", "--attacks", "good"], "mixed/t"),
        (&["--genuine", "tracks", "--attacks", "tracks"], "tracks/t"),
        (&["--genuine", "tracks", "--attacks", "kindless"], "kindless"),
        (&["--genuine", "tracks", "--attacks", "good", "--liveness-threshold", "2"], "0 to 1"),
        (
            &[
                "--genuine",
                "tracks",
                "--attacks",
                "good",
                "--people",
                "good",
                "--strangers",
                "good",
            ],
            "--",
        ),
    ] {
        let output = evaluate(root, arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(told), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

fn blank(path: &Path) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    RgbImage::from_pixel(640, 480, Rgb([90, 90, 90])).save(path).unwrap();
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Holds REC-16, REC-17.
#[test]
fn open_set_of_generated_people() {
    let home = Home::small();
    let root = home.folder.path();
    for person in ["P001", "P002"] {
        home.looks(person, &root.join("enrolled").join(person), 4);
    }
    for person in ["P003", "P004", "P005"] {
        home.looks(person, &root.join("strangers").join(person), 2);
    }
    // A probe and a stranger without a face.
    blank(&root.join("enrolled/P002/9999.jpg"));
    blank(&root.join("strangers/nobody.jpg"));
    let asked =
        ["--people", "enrolled", "--strangers", "strangers", "--enroll", "2", "--plot", "det.svg"];
    let output = evaluate(
        root,
        &[&asked[..], &["--json", "--jobs", "2", "--false-match-rate", "1e-2"]].concat(),
    );
    let report = json(&output);
    let number = |key: &str| report[key].as_u64().unwrap();
    assert_eq!((number("gallery"), number("probes"), number("strangers")), (2, 5, 4));
    assert_eq!((number("undetected"), number("not_enrolled")), (2, 0));
    let points = report["points"].as_array().unwrap();
    let single = &points[0];
    assert_eq!((single["looks"].as_u64(), single["fpir"].as_f64()), (Some(1), Some(0.1)));
    // Four of five probes are found: near copies of what was enrolled. The one without a face is a miss.
    assert!((single["fnir"].as_f64().unwrap() - 0.2).abs() < 1e-9, "{single}");
    assert_eq!(single["misses"]["count"], 1);
    // Six looks at three strangers; none may pass. The picture without a face is not counted as a success.
    assert_eq!(
        (single["false_positives"]["count"].as_u64(), single["false_positives"]["of"].as_u64()),
        (Some(0), Some(6))
    );
    assert_eq!(single["false_positives"]["interval"][1], 0.5);
    let pooled = points.iter().find(|point| point["looks"] == 2).unwrap();
    assert_eq!(pooled["strangers"], 3);
    let configured: Vec<_> =
        points.iter().filter(|point| point.get("configured").is_some()).collect();
    assert_eq!(configured.len(), 4); // one and two looks, without and with the reserve
    assert_eq!(configured[0]["configured"]["false_matches"]["of"], 12);
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let svg = std::fs::read_to_string(root.join("det.svg")).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("mean of 2 looks"));
    // And in words.
    let words = evaluate(root, &asked);
    let words = String::from_utf8(words.stdout).unwrap();
    assert!(words.contains("gallery     2 people") && words.contains("FNIR"), "{words}");
}

/// Holds REC-17.
#[test]
fn nobody_with_a_face_is_no_usable_face() {
    let home = Home::small();
    let root = home.folder.path();
    for number in 0..2 {
        blank(&root.join(format!("people/a/{number}.jpg")));
        blank(&root.join(format!("attacks/wall/t/{number}.jpg")));
    }
    blank(&root.join("strangers/b.jpg"));
    let asked = ["--people", "people", "--strangers", "strangers", "--enroll", "1"];
    assert_eq!(evaluate(root, &asked).status.code(), Some(6));
    let asked = ["--genuine", "people", "--attacks", "attacks"];
    assert_eq!(evaluate(root, &asked).status.code(), Some(6));
}

/// Holds REC-16, REC-17.
#[test]
fn liveness_of_generated_tracks() {
    let home = Home::small();
    let root = home.folder.path();
    home.looks("P001", &root.join("live/P001/first"), 3);
    home.looks("P002", &root.join("live/P002/first"), 3);
    blank(&root.join("live/P002/first/9999.jpg"));
    blank(&root.join("live/P002/blank/0000.jpg"));
    home.looks("P001", &root.join("attacks/copy/P001/first"), 2);
    home.looks("P003", &root.join("attacks/copy/P003/first"), 2);
    blank(&root.join("attacks/wall/P003/first/0000.jpg"));
    let asked = ["--genuine", "live", "--attacks", "attacks", "--json", "--plot", "det.svg"];
    let report = json(&evaluate(root, &asked));
    // The same pictures as live ones and as attacks cannot be told apart, so some are told wrong at any threshold.
    let bpcer = report["bpcer"].as_f64().unwrap();
    let apcer = report["apcer"].as_object().unwrap();
    assert_eq!(apcer.keys().collect::<Vec<_>>(), ["copy", "wall"]);
    assert!(bpcer + apcer["copy"].as_f64().unwrap() > 0.0, "{report}");
    assert_eq!(apcer["wall"], 0.0);
    let counts = |of: &Value| {
        ["tracks_without_a_face", "frames_without_a_face"].map(|key| of[key].as_u64().unwrap())
    };
    assert_eq!(counts(&report["genuine"]), [1, 2]);
    assert_eq!(counts(&report["attacks"]["wall"]), [1, 1]);
    assert_eq!(report["genuine"]["tracks"]["of"], 3);
    assert_eq!(report["choice"], "equal-error-on-these-tracks");
    assert!(report["curve"].as_array().unwrap().len() > 2);
    assert!(report["held_out"]["subjects"].as_array().unwrap().len() == 3);
    // A threshold that nothing reaches refuses every live track and lets no attack in.
    let strict = json(&evaluate(root, &[&asked[..], &["--liveness-threshold", "1"]].concat()));
    assert_eq!((strict["bpcer"].as_f64(), strict["threshold"].as_f64()), (Some(1.0), Some(1.0)));
    assert!(std::fs::read_to_string(root.join("det.svg")).unwrap().contains("copy, frames"));
    // A verdict of `run` takes five frames; no track here has as many.
    assert_eq!(strict["bundle"]["genuine"]["verdicts"]["of"], 0);
    assert!(strict["bundle"]["threshold"].as_f64().unwrap() < 0.5);
    // The JSON says what a score is worth: the same file, the same score, whatever its label.
    assert_eq!(strict["choice"], "given");
}
