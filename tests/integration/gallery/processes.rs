//! Real processes on one gallery, killed at any moment.
//!
//! A child is this test program again, running only [`child`] with its part in the environment.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use familiar::recognition::gallery::{Gallery, GalleryError, NewPerson};
use familiar::recognition::{Embedding, PersonId, Space};
use familiar::system::state::StateDirectory;

const MODEL: &str = "sha256:aa";
const LOOKS: usize = 5;

fn open(folder: &Path) -> Gallery {
    Gallery::open(&StateDirectory::at(folder.to_owned()).unwrap()).unwrap()
}

fn looks(random: &mut fastrand::Rng) -> Vec<Embedding> {
    let mut look = || (0..512).map(|_| random.f32() - 0.5).collect();
    (0..LOOKS).map(|_| Embedding::normalized(look()).unwrap()).collect()
}

fn person(name: &str) -> NewPerson {
    NewPerson { name: name.parse().unwrap(), id: None, consent: None, expires: None }
}

fn say(word: &str) {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "child: {word}").unwrap();
    stdout.flush().unwrap();
}

#[test]
#[ignore = "a part of other tests, in a process of its own"]
fn child() {
    let part = std::env::var("FAMILIAR_GALLERY_CHILD").expect("is started by other tests alone");
    let folder = std::env::var_os("FAMILIAR_GALLERY_FOLDER").unwrap();
    let mut gallery = open(Path::new(&folder));
    let mut random = fastrand::Rng::new();
    match part.as_str() {
        "enrol" => loop {
            let added = gallery.add(person("P"), &looks(&mut random), MODEL).unwrap();
            say(added.id.as_str());
        },
        "forget" => {
            for person in gallery.people().unwrap() {
                say(person.id.as_str());
                let erasure = gallery.begin_erasure(&person.id).unwrap();
                gallery.finish_erasure(erasure).unwrap();
            }
        }
        "some" => {
            for _ in 0..12 {
                gallery.add(person("P"), &looks(&mut random), MODEL).unwrap();
            }
        }
        other => panic!("no part {other}"),
    }
}

fn start(part: &str, folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "gallery::processes::child", "--ignored", "--nocapture"])
        .env("FAMILIAR_GALLERY_CHILD", part)
        .env("FAMILIAR_GALLERY_FOLDER", folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Kills the child after it said so many words; gives all it said.
fn kill_after(mut child: Child, words: usize) -> Vec<String> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut said = Vec::new();
    for line in lines {
        let Ok(line) = line else { break };
        if let Some((_, word)) = line.split_once("child: ") {
            said.push(word.to_owned());
        }
        if said.len() == words {
            // Somewhere within what it does next.
            std::thread::sleep(std::time::Duration::from_micros(fastrand::u64(..4000)));
            child.kill().unwrap(); // SIGKILL; what it said until then is still read
        }
    }
    child.wait().unwrap();
    said
}

#[test]
fn killed_while_enrolling() {
    let folder = tempfile::tempdir().unwrap();
    for round in 1..=8 {
        let before = open(folder.path()).people().unwrap().len();
        let told = kill_after(start("enrol", folder.path()), round);
        let people = open(folder.path()).people().unwrap();
        for id in &told {
            assert!(people.iter().any(|p| p.id.as_str() == id), "{id} was enrolled and is lost");
        }
        // Whole people only; at most one that was not told any more.
        assert!(people.iter().all(|p| p.total_looks() == LOOKS));
        let more = people.len() - before - told.len();
        assert!(more <= 1, "{more} people nobody was told of");
    }
}

#[test]
fn killed_while_forgetting() {
    for round in 1..=8 {
        let folder = tempfile::tempdir().unwrap();
        let mut gallery = open(folder.path());
        let mut random = fastrand::Rng::new();
        for _ in 0..12 {
            gallery.add(person("P"), &looks(&mut random), MODEL).unwrap();
        }
        drop(gallery);
        let begun = kill_after(start("forget", folder.path()), round);

        let mut gallery = open(folder.path());
        let enrolled = |gallery: &Gallery, id: &str| {
            gallery.people().unwrap().iter().any(|person| person.id.as_str() == id)
        };
        // All but the last are gone for good; the last is there whole, or gone with its event due or told.
        let (last, gone) = begun.split_last().unwrap();
        assert!(gone.iter().all(|id| !enrolled(&gallery, id)));
        let due: Vec<PersonId> = gallery.settle_erasures(|_| Ok::<_, GalleryError>(())).unwrap();
        assert!(due.iter().all(|id| id.as_str() == last), "{due:?} of {begun:?}");
        assert!(due.is_empty() || !enrolled(&gallery, last));
        let people = gallery.people().unwrap();
        assert!(people.iter().all(|person| person.total_looks() == LOOKS));
        assert!(people.len() == 12 - begun.len() || people.len() == 13 - begun.len());
        assert!(gallery.unfinished_erasures().unwrap().is_empty());
    }
}

#[test]
fn several_processes_at_once() {
    let folder = tempfile::tempdir().unwrap();
    // The first of them to come makes key and store.
    let children: Vec<Child> = (0..4).map(|_| start("some", folder.path())).collect();
    for child in children {
        assert!(child.wait_with_output().unwrap().status.success());
    }
    let gallery = open(folder.path());
    let mut ids: Vec<String> =
        gallery.people().unwrap().iter().map(|person| person.id.to_string()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 48);
    assert_eq!(gallery.candidates(&Space::new(MODEL)).unwrap().len(), 48);
}
