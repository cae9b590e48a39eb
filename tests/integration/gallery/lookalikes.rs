//! Generated people whom the network takes for each other.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::verbs::{Home, secret_file, text};

/// Two of the generated people who are alike, with pictures of each.
const ALIKE: [&str; 2] = ["P004", "P006"];
const PICTURES: [&str; 3] = ["studio_portrait.jpg", "amateur_selfie.jpg", "studio_posture.jpg"];

fn pictures(people: &Path, person: &str) -> Vec<PathBuf> {
    PICTURES.iter().map(|name| people.join(person).join("assets").join(name)).collect()
}

fn enrol(home: &Home, name: &str, pictures: &[PathBuf], more: &[&str]) -> (i32, Value, String) {
    let pictures: Vec<&str> = pictures.iter().map(|path| text(path)).collect();
    let (code, stdout, stderr) =
        home.run(&[&["enroll", name], &pictures[..], more, &["--json"]].concat());
    (code, serde_json::from_str(&stdout).unwrap_or_default(), stderr)
}

/// Holds GAL-15.
#[test]
fn lookalikes_enrolled_and_never_confused() {
    let Some((home, people)) = Home::with_default_models() else { return };
    let [ada, bea] = ALIKE.map(|person| pictures(&people, person));
    assert_eq!(enrol(&home, "Ada", &ada, &[]).0, 0);

    // Refused, with how alike they are, and the two ways on.
    let (code, report, stderr) = enrol(&home, "Bea", &bea, &[]);
    assert_eq!(code, 6, "{report}");
    for picture in report["pictures"].as_array().unwrap() {
        assert_eq!(picture["reason"], "somebody-else", "{report}");
        let detail = picture["detail"].as_str().unwrap();
        assert!(detail.contains("similarity 0.") && detail.contains("lookalikes need"), "{detail}");
    }
    assert!(stderr.contains("`familiar enroll ada PHOTO…` adds"), "{stderr}");
    assert!(stderr.contains("--similar-to ada"), "{stderr}");
    let (code, _, stderr) = enrol(&home, "Bea", &bea, &["--similar-to", "adda"]);
    assert!(code == 1 && stderr.contains("did you mean ada?"), "{stderr}");

    // Both wanted.
    let (code, report, _) = enrol(&home, "Bea", &bea, &["--similar-to", "ada"]);
    assert_eq!(code, 0, "{report}");
    let pair = &report["lookalikes"][0];
    let ids = [&pair["people"][0]["id"], &pair["people"][1]["id"]];
    assert_eq!(ids, ["ada", "bea"], "{report}");
    assert!(pair["similarity"].as_f64().unwrap() > 0.6, "{report}");
    assert_eq!(home.json(&["people", "show", "ada"]).1["lookalikes"], json!(["bea"]));

    // Nobody is taken for the other, by the enrolled pictures or by others.
    for (person, other) in [(ALIKE[0], "bea"), (ALIKE[1], "ada")] {
        let probes = pictures(&people, person);
        let more = people.join(person).join("assets/amateur_posture.jpg");
        let probes: Vec<&str> = probes.iter().chain([&more]).map(|path| text(path)).collect();
        let (_, photos) = home.json(&[&["identify"], &probes[..]].concat());
        for face in photos.as_array().unwrap().iter().flat_map(|p| p["faces"].as_array().unwrap()) {
            assert_ne!(face["person"]["id"], *other, "{person}: {photos}");
        }
    }

    // Said of both, wherever somebody looks.
    let (_, found) = home.json(&["people", "check"]);
    assert_eq!(found["lookalikes"][0]["looks"], json!([3, 3]), "{found}");
    assert_eq!(found["alike"], json!([]), "{found}");
    let (_, lines) = home.json(&["check"]);
    let lines = lines.as_array().unwrap();
    let line = lines.iter().find(|line| line["check"] == "lookalikes").expect("a line");
    assert_eq!(line["state"], "warn");
    assert!(line["message"].as_str().unwrap().contains("would get no name"), "{line}");
}

#[test]
fn pair_survives_backup_and_ends_with_forget() {
    let (Some((old, people)), Some((new, _))) =
        (Home::with_default_models(), Home::with_default_models())
    else {
        return;
    };
    let [ada, bea] = ALIKE.map(|person| pictures(&people, person));
    assert_eq!(enrol(&old, "Ada", &ada[..1], &[]).0, 0);
    assert_eq!(enrol(&old, "Bea", &bea[..1], &["--similar-to", "ada"]).0, 0);
    let (file, words) = (old.path("people.backup"), old.path("words"));
    secret_file(&words, "six words that nobody guesses\n", 0o600);
    let end = ["--passphrase-file", text(&words)];
    assert_eq!(old.run(&[&["people", "backup", text(&file)], &end[..]].concat()).0, 0);
    assert_eq!(new.run(&[&["people", "restore", text(&file)], &end[..]].concat()).0, 0);
    let lookalikes = || new.json(&["people", "show", "ada"]).1["lookalikes"].clone();
    assert_eq!(lookalikes(), json!(["bea"]));
    assert_eq!(new.run(&["forget", "bea"]).0, 0);
    assert_eq!(lookalikes(), json!([]));
}

#[test]
fn name_or_id_that_is_enrolled_adds_to_that_person() {
    let Some((home, people)) = Home::with_default_models() else { return };
    let pictures = pictures(&people, "P001");
    assert_eq!(enrol(&home, "Ada Lovelace", &pictures[..1], &["--id", "ada"]).0, 0);
    for (name, picture, looks) in [("ada", 1, 2), ("ada lovelace", 2, 3)] {
        let (code, report, stderr) = enrol(&home, name, &pictures[picture..=picture], &[]);
        assert_eq!((code, &report["looks"]), (0, &json!(looks)), "{name}: {report} {stderr}");
        assert!(stderr.contains("adding to Ada Lovelace (ada)"), "{stderr}");
    }
    assert_eq!(home.json(&["people"]).1.as_array().unwrap().len(), 1);
    // Of a name that two have, the ids are told, and nothing is added.
    let other = people.join("P002/assets/studio_portrait.jpg");
    assert_eq!(enrol(&home, "Ada Lovelace", &[other], &["--id", "ada-2"]).0, 0);
    let (code, _, stderr) = enrol(&home, "Ada Lovelace", &pictures[..1], &[]);
    assert!(code == 2 && stderr.contains("(ada), Ada Lovelace (ada-2)"), "{stderr}");
}

/// What a margin between lookalikes costs and saves, on people of `FAMILIAR_LFW` (folders of pictures, as in Labeled
/// Faces in the Wild) whose means are nearly one. Each is enrolled by three pictures, the others are probes.
#[test]
#[ignore = "measures"]
fn margin_between_lookalikes() {
    use familiar::evaluate::{People, all_cores, embed_all};
    use familiar::model::{Engine, TrustAnchors, VerifiedBundle};
    use familiar::recognition::Embedding;

    const ENROLLED: usize = 3;
    const MOST: usize = 9;
    let folder = |name: &str| PathBuf::from(std::env::var_os(name).expect(name));
    let anchors = TrustAnchors::load(&folder("FAMILIAR_TEST_TRUST")).unwrap();
    let bundle = VerifiedBundle::open(&folder("FAMILIAR_TEST_BUNDLE"), &anchors).unwrap();
    let engine = Engine::start(bundle).unwrap();
    let mut people = People::read(&folder("FAMILIAR_LFW")).unwrap().0;
    people.retain(|_, pictures| {
        pictures.truncate(MOST);
        pictures.len() > ENROLLED + 1
    });
    let pictures: Vec<PathBuf> = people.values().flatten().cloned().collect();
    let looks = embed_all(&engine, &pictures, all_cores(), || ()).unwrap();
    let mut looks = looks.into_iter();
    let people: Vec<Vec<Embedding>> = people
        .values()
        .map(|pictures| looks.by_ref().take(pictures.len()).flatten().collect())
        .filter(|looks: &Vec<Embedding>| looks.len() > ENROLLED + 1)
        .collect();
    let means: Vec<Embedding> =
        people.iter().map(|looks| Embedding::pooled(&looks[..ENROLLED]).unwrap()).collect();
    let threshold = engine.threshold(1e-4, 1).unwrap();
    let pooled_threshold = engine.threshold(1e-4, ENROLLED).unwrap();
    // By how much a probe is nearer to its own than to the lookalike, where the nearer one of the two passes.
    let (mut single, mut pooled) = (Vec::new(), Vec::new());
    let mut pairs = 0;
    for (a, own) in means.iter().enumerate() {
        for (b, other) in means.iter().enumerate() {
            if a == b || own.similarity(other) < threshold {
                continue;
            }
            pairs += 1;
            let take = |probe: &Embedding, threshold: f32, leads: &mut Vec<f32>| {
                let (near, far) = (probe.similarity(own), probe.similarity(other));
                if near.max(far) >= threshold {
                    leads.push(near - far);
                }
            };
            let probes = &people[a][ENROLLED..];
            for probe in probes {
                take(probe, threshold, &mut single);
            }
            for three in probes.windows(3) {
                take(&Embedding::pooled(three).unwrap(), pooled_threshold, &mut pooled);
            }
        }
    }
    println!("{} people, {} lookalikes by {threshold:.3}", people.len(), pairs / 2);
    for (what, leads) in [("one look", single), ("three looks", pooled)] {
        println!("{what}: {} probes", leads.len());
        for margin in [0.0, 0.03, 0.05, 0.07, 0.1, 0.12, 0.15, 0.2_f32] {
            let wrong = leads.iter().filter(|lead| -**lead >= margin).count();
            let nobody = leads.iter().filter(|lead| lead.abs() < margin).count();
            println!("margin {margin:.2}: wrong {wrong}, nobody {nobody}");
        }
    }
}
