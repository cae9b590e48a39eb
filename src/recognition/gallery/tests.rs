#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::system::clock::ClockState;

const MODEL: &str = "sha256:aa";

fn space() -> Space {
    Space::new(MODEL)
}

struct Home {
    folder: tempfile::TempDir,
    state: StateDirectory,
}

impl Home {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDirectory::at(folder.path().to_owned()).unwrap();
        Self { folder, state }
    }

    fn open(&self) -> Gallery {
        Gallery::open(&self.state).unwrap()
    }

    /// Every byte of the store: file, log and index.
    fn raw(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for entry in std::fs::read_dir(self.folder.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_string_lossy().starts_with(store::FILE) {
                bytes.extend(std::fs::read(path).unwrap());
            }
        }
        bytes
    }

    fn sql(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.state.file(store::FILE)).unwrap()
    }
}

mod anchors;
mod lookalikes;
mod mapped;

fn look(seed: u64) -> Embedding {
    let mut random = fastrand::Rng::with_seed(seed);
    Embedding::normalized((0..512).map(|_| random.f32() - 0.5).collect()).unwrap()
}

fn named(name: &str) -> NewPerson {
    NewPerson { name: name.parse().unwrap(), id: None, consent: None, expires: None }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

#[test]
fn people_come_back() {
    let home = Home::new();
    let mut gallery = home.open();
    let zoe = gallery.add(named("Zoë Müller"), &[look(1), look(2)], MODEL).unwrap();
    let other = gallery.add(named("Zoe Muller"), &[look(3)], MODEL).unwrap();
    assert_eq!((zoe.id.as_str(), other.id.as_str()), ("zoe-muller", "zoe-muller-2"));
    let taken = NewPerson { id: Some(zoe.id.clone()), ..named("Z") };
    assert!(matches!(gallery.add(taken, &[look(4)], MODEL), Err(GalleryError::IdTaken(_))));
    gallery.add_looks(&zoe.id, &[look(5)], MODEL, Some("in writing".to_owned()), None).unwrap();
    gallery.rename(&other.id, "Zora".parse().unwrap()).unwrap();
    drop(gallery);

    let gallery = home.open();
    let people = gallery.people().unwrap();
    assert_eq!(people.len(), 2);
    let zoe = gallery.person(&zoe.id).unwrap();
    assert_eq!((zoe.name.as_str(), zoe.total_looks()), ("Zoë Müller", 3));
    assert_eq!(zoe.consent.as_deref(), Some("in writing"));
    let candidates = gallery.candidates(&space()).unwrap();
    assert_eq!(candidates[0].looks, 3);
    let probe = |seed| gallery.probe(&look(seed)).unwrap();
    let expected = Embedding::pooled(&[probe(1), probe(2), probe(5)]).unwrap();
    assert!(candidates[0].template.similarity(&expected) > 0.99999);
    assert_eq!(candidates[1].person.name, "Zora");
    assert!(candidates[1].template.similarity(&probe(3)) > 0.99999);
}

#[test]
fn unknown_id_suggests_the_nearest() {
    let home = Home::new();
    let mut gallery = home.open();
    for name in ["Ann", "Berta"] {
        gallery.add(named(name), &[look(1)], MODEL).unwrap();
    }
    let error = gallery.person(&"brta".parse().unwrap()).unwrap_err().to_string();
    assert!(error.ends_with("did you mean berta?"), "{error}");
    let error = gallery.begin_erasure(&"qqq".parse().unwrap()).unwrap_err().to_string();
    assert_eq!(error, "nobody is enrolled as qqq");
    assert_eq!(gallery.people().unwrap().len(), 2);
}

#[test]
fn templates_of_another_model_are_not_matched() {
    let home = Home::new();
    let mut gallery = home.open();
    let ann = gallery.add(named("Ann"), &[look(1), look(2)], MODEL).unwrap();
    let other = Space::new("sha256:bb");
    assert!(gallery.candidates(&other).unwrap().is_empty());
    assert_eq!(gallery.person(&ann.id).unwrap().looks_by("sha256:bb"), 0);
    gallery.add_looks(&ann.id, &[look(7)], "sha256:bb", None, None).unwrap();
    let candidates = gallery.candidates(&other).unwrap();
    assert_eq!(candidates[0].looks, 1);
    assert!(candidates[0].template.similarity(&gallery.probe(&look(7)).unwrap()) > 0.99999);
}

#[test]
fn expired_person_is_not_matched() {
    let home = Home::new();
    let mut gallery = home.open();
    let now = Timestamp::now();
    let end = now + SignedDuration::from_hours(1);
    gallery
        .add(NewPerson { expires: Some(end.into()), ..named("Ann") }, &[look(1)], MODEL)
        .unwrap();
    gallery.add(named("Bob"), &[look(2)], MODEL).unwrap();
    assert_eq!(gallery.candidates_at(&space(), now).unwrap().len(), 2);
    assert_eq!(gallery.expiries().unwrap(), [Expiry::At(end)]);
    let left = gallery.candidates_at(&space(), end).unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].person.name, "Bob");
}

#[test]
fn span_is_noted_and_becomes_a_date_when_the_clock_is_right() {
    let home = Home::new();
    let mut gallery = home.open();
    let unknown = Date { time: Timestamp::UNIX_EPOCH, state: ClockState::Unsynchronized };
    let hour = std::time::Duration::from_hours(1);
    let span = Expiry::after(hour, &unknown, &Uptime::now());
    let ann = gallery
        .add(NewPerson { expires: span.clone(), ..named("Ann") }, &[look(1)], MODEL)
        .unwrap();
    // By whatever clock, nobody is lost.
    for now in [Timestamp::UNIX_EPOCH, Timestamp::now(), Timestamp::MAX] {
        assert_eq!(gallery.candidates_at(&space(), now).unwrap().len(), 1);
    }
    gallery.renew_expiries(&unknown).unwrap();
    assert_eq!(gallery.person(&ann.id).unwrap().expires, span);
    let date = Date { time: Timestamp::now(), state: ClockState::Synchronized };
    gallery.renew_expiries(&date).unwrap();
    let end = home.open().person(&ann.id).unwrap().expires.and_then(|end| end.date()).unwrap();
    let left = end.duration_since(date.time);
    assert!((3590..=3600).contains(&left.as_secs()), "{left}");
    assert!(gallery.candidates_at(&space(), end).unwrap().is_empty());
}

#[test]
fn reading_an_empty_directory_makes_nothing() {
    let home = Home::new();
    let mut gallery = Gallery::look(&home.state).unwrap();
    assert!(gallery.people().unwrap().is_empty() && gallery.anchors().unwrap().is_empty());
    assert!(gallery.candidates(&space()).unwrap().is_empty());
    gallery.probe(&look(1)).unwrap();
    assert!(matches!(
        gallery.rename(&"ann".parse().unwrap(), "Ann".parse().unwrap()),
        Err(GalleryError::Unknown { .. })
    ));
    assert_eq!(std::fs::read_dir(home.state.path()).unwrap().count(), 0);
    // One that is there is the one that is read.
    home.open().add(named("Ann"), &[look(1)], MODEL).unwrap();
    assert_eq!(Gallery::look(&home.state).unwrap().people().unwrap().len(), 1);
}

/// Holds GAL-03.
#[test]
fn missing_key_refuses() {
    let home = Home::new();
    home.open().add(named("Ann"), &[look(1)], MODEL).unwrap();
    std::fs::remove_file(home.state.file(store::KEY)).unwrap();
    let error = Gallery::open(&home.state).unwrap_err();
    assert!(matches!(error, GalleryError::KeyMissing { .. }) && error.is_refusal(), "{error}");
    assert!(!home.state.file(store::KEY).exists(), "a new key was made");
}

/// Holds GAL-03.
#[test]
fn wrong_key_refuses() {
    let home = Home::new();
    home.open().add(named("Ann"), &[look(1)], MODEL).unwrap();
    let key = home.state.file(store::KEY);
    let right = std::fs::read(&key).unwrap();
    std::fs::write(&key, seal::SealingKey::generate().unwrap().as_bytes()).unwrap();
    let error = Gallery::open(&home.state).unwrap_err();
    assert!(matches!(error, GalleryError::WrongKey { .. }) && error.is_refusal(), "{error}");
    std::fs::write(&key, right).unwrap();
    assert_eq!(home.open().people().unwrap().len(), 1);
}

#[test]
fn wide_mode_key_refused() {
    let home = Home::new();
    home.open();
    let key = home.state.file(store::KEY);
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    let error = Gallery::open(&home.state).unwrap_err();
    assert!(matches!(error, GalleryError::Secret(_)) && error.is_refusal(), "{error}");
}

#[test]
fn files_are_the_owners_only() {
    let home = Home::new();
    let mut gallery = home.open();
    gallery.add(named("Ann"), &[look(1)], MODEL).unwrap();
    let mode =
        |name: &str| std::fs::metadata(home.state.file(name)).unwrap().permissions().mode() & 0o777;
    for name in ["gallery.db", "gallery.db-wal", "gallery.db-shm"] {
        assert_eq!(mode(name), 0o600, "{name}");
    }
    drop(gallery);
    let file = home.state.file("gallery.db");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    home.open();
    assert_eq!(mode("gallery.db"), 0o600);
}

/// Holds GAL-01.
#[test]
fn raw_store_holds_no_template_bytes() {
    let home = Home::new();
    let mut gallery = home.open();
    let consent = "written consent of 3 May".to_owned();
    let person = NewPerson { consent: Some(consent.clone()), ..named("Annabella Quux") };
    gallery.add(person, &[look(1), look(2)], MODEL).unwrap();
    let raw = home.raw(); // while the log is still there
    assert!(raw.len() > 8 * 512 * 2, "the records are in there");
    let plain = [look(1), look(2)];
    let turned = plain.each_ref().map(|look| gallery.probe(look).unwrap());
    for look in plain.iter().chain(&turned) {
        let bytes: Vec<u8> = look.values().iter().flat_map(|v| v.to_le_bytes()).collect();
        for four_values in bytes.chunks_exact(16) {
            assert!(!contains(&raw, four_values));
        }
    }
    for text in ["Annabella", "annabella", "Quux", &consent, MODEL] {
        assert!(!contains(&raw, text.as_bytes()), "{text}");
    }
}

/// Holds GAL-04.
#[test]
fn forgotten_leaves_no_bytes() {
    let home = Home::new();
    let mut gallery = home.open();
    let mut people = Vec::new();
    for seed in 0..40 {
        let looks: Vec<Embedding> = (0..=seed % 5).map(|n| look(seed * 10 + n)).collect();
        let consent = Some("c".repeat(12 * seed as usize));
        let person = NewPerson { consent, ..named(&format!("P {seed}")) };
        people.push(gallery.add(person, &looks, MODEL).unwrap().id);
    }
    // What the file holds is sealed: the sealed bytes are what must go.
    let sealed = |sql: &rusqlite::Connection, table: &str| -> Vec<Vec<u8>> {
        let mut rows = sql.prepare(&format!("SELECT sealed FROM {table}")).unwrap();
        rows.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    let sql = home.sql();
    let before = [sealed(&sql, "person"), sealed(&sql, "look")].concat();
    for id in people.iter().step_by(2) {
        let erasure = gallery.begin_erasure(id).unwrap();
        gallery.finish_erasure(erasure).unwrap();
    }
    let after = [sealed(&sql, "person"), sealed(&sql, "look")].concat();
    let raw = home.raw();
    let gone: Vec<_> = before.iter().filter(|record| !after.contains(record)).collect();
    assert_eq!(gone.len(), 20 + 60);
    for record in gone {
        for piece in record.chunks_exact(16) {
            assert!(!contains(&raw, piece), "a piece of a forgotten record is left");
        }
    }
    assert_eq!(gallery.people().unwrap().len(), 20);
    assert_eq!(gallery.candidates(&space()).unwrap().len(), 20);
}

/// Holds GAL-04.
#[test]
fn erasure_cut_short_is_finished() {
    let home = Home::new();
    let mut gallery = home.open();
    let ann = gallery.add(named("Ann"), &[look(1)], MODEL).unwrap().id;
    gallery.add(named("Bob"), &[look(2)], MODEL).unwrap();
    drop(gallery.begin_erasure(&ann).unwrap());
    drop(gallery); // crash before the event

    let mut gallery = home.open();
    assert_eq!(gallery.candidates(&space()).unwrap().len(), 1);
    assert_eq!(gallery.people().unwrap().len(), 1);
    // The id is not given to anybody else before its erasure was told.
    assert_eq!(gallery.add(named("Ann"), &[look(3)], MODEL).unwrap().id.as_str(), "ann-2");
    let mut told = Vec::new();
    let failed = gallery.settle_erasures(|id| {
        told.push(id.clone());
        Err(GalleryError::Random)
    });
    assert!(failed.is_err());
    drop(gallery); // the event could not be recorded

    let mut gallery = home.open();
    let again = gallery.begin_erasure(&ann).unwrap();
    assert_eq!(again.person(), &ann);
    let settled = gallery
        .settle_erasures(|id| {
            told.push(id.clone());
            Ok::<_, GalleryError>(())
        })
        .unwrap();
    assert_eq!((settled, told), (vec![ann.clone()], vec![ann.clone(), ann.clone()]));
    gallery.finish_erasure(again).unwrap(); // twice is no error
    assert!(gallery.unfinished_erasures().unwrap().is_empty());
    assert!(matches!(gallery.begin_erasure(&ann), Err(GalleryError::Unknown { .. })));
}

/// Runs `change` on a copy of the raw tables and tells whether the gallery still opens and reads.
fn altered(home: &Home, change: &str) -> Result<(), GalleryError> {
    let copy = Home::new();
    home.sql().query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    for name in [store::FILE, store::KEY] {
        std::fs::copy(home.state.file(name), copy.state.file(name)).unwrap();
    }
    copy.sql().execute_batch(change).unwrap();
    let gallery = Gallery::open(&copy.state)?;
    gallery.candidates(&space()).map(drop)
}

#[test]
fn swapped_rows() {
    let home = Home::new();
    let mut gallery = home.open();
    gallery.add(named("Ann"), &[look(1)], MODEL).unwrap();
    gallery.add(named("Bob"), &[look(2)], MODEL).unwrap();
    altered(&home, "").unwrap();
    for change in [
        // templates of one under the other's row, and the other way round
        "UPDATE look SET person = (SELECT p.row FROM person p WHERE p.row <> look.person)",
        "UPDATE look SET sealed = (SELECT o.sealed FROM look o WHERE o.row <> look.row)",
        "UPDATE person SET sealed = (SELECT o.sealed FROM person o WHERE o.row <> person.row)",
        "UPDATE person SET row = row + 1",
        "UPDATE look SET sealed = (SELECT sealed FROM person LIMIT 1)",
        // rows added and taken away
        "INSERT INTO look SELECT row + 1, person, sealed FROM look",
        "DELETE FROM look WHERE row = (SELECT max(row) FROM look)",
        "DELETE FROM person WHERE row = (SELECT max(row) FROM person); \
         DELETE FROM look WHERE person NOT IN (SELECT row FROM person)",
        "UPDATE person SET sealed = x''",
    ] {
        let error = altered(&home, change).unwrap_err();
        assert!(error.is_refusal(), "{change}: {error}");
    }
    let error = altered(&home, "PRAGMA user_version = 5").unwrap_err();
    assert!(matches!(error, GalleryError::Format { found: 5, .. }), "{error}");
}

/// The census alone would show a swap; the records refuse it by themselves, too.
#[test]
fn swapped_rows_do_not_open() {
    let home = Home::new();
    let mut gallery = home.open();
    gallery.add(named("Ann"), &[look(1)], MODEL).unwrap();
    gallery.add(named("Bob"), &[look(2)], MODEL).unwrap();
    let sql = home.sql();
    for change in [
        "UPDATE look SET person = (SELECT p.row FROM person p WHERE p.row <> look.person)",
        "UPDATE look SET sealed = (SELECT o.sealed FROM look o WHERE o.row <> look.row)",
        "UPDATE person SET sealed = (SELECT o.sealed FROM person o WHERE o.row <> person.row)",
    ] {
        sql.execute_batch(&format!("BEGIN; {change};")).unwrap();
        let key = crate::system::secret::read(&home.state, store::KEY).unwrap().unwrap();
        let key = seal::SealingKey::parse(&key).unwrap();
        let path = home.state.file(store::FILE);
        let tables = Tables { connection: &sql, key: &key, path: &path };
        let outcome = enrolled(&tables)
            .and_then(|people| people.iter().try_for_each(|(row, _)| tables.looks(*row).map(drop)));
        assert!(matches!(outcome, Err(GalleryError::Damaged { .. })), "{change}");
        sql.execute_batch("ROLLBACK").unwrap();
    }
    gallery.candidates(&space()).unwrap();
}

#[test]
fn flipped_bits_refused() {
    let home = Home::new();
    let mut gallery = home.open();
    for seed in 0..3 {
        gallery.add(named(&format!("P {seed}")), &[look(seed), look(seed + 9)], MODEL).unwrap();
    }
    let people = gallery.people().unwrap();
    drop(gallery);
    let file = home.state.file(store::FILE);
    let sound = std::fs::read(&file).unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    let mut refused = 0;
    for _ in 0..400 {
        let mut bytes = sound.clone();
        let at = random.usize(..bytes.len());
        bytes[at] ^= 1 << random.u8(..8);
        std::fs::write(&file, &bytes).unwrap();
        let outcome = Gallery::open(&home.state).and_then(|gallery| {
            gallery.candidates(&space())?;
            gallery.people()
        });
        match outcome {
            Ok(read) => assert_eq!(read, people, "byte {at}"), // where nothing is stored
            Err(_) => refused += 1,
        }
        for log in ["gallery.db-wal", "gallery.db-shm"] {
            let _ = std::fs::remove_file(home.state.file(log));
        }
    }
    assert!(refused > 50, "{refused} of 400"); // most of a small file is free space
    std::fs::write(&file, &sound).unwrap();
    assert_eq!(home.open().people().unwrap(), people);
}

#[test]
fn changes_of_another_process_are_noticed() {
    let home = Home::new();
    let (mut one, two) = (home.open(), home.open());
    let (before_one, before_two) = (one.generation().unwrap(), two.generation().unwrap());
    assert_eq!(two.generation().unwrap(), before_two);
    one.add(named("Ann"), &[look(1)], MODEL).unwrap();
    assert_ne!(one.generation().unwrap(), before_one);
    assert_ne!(two.generation().unwrap(), before_two);
    assert_eq!(two.candidates(&space()).unwrap().len(), 1);
}

#[test]
fn failed_enrolment_leaves_nothing() {
    let home = Home::new();
    let mut gallery = home.open();
    let many = vec![look(1); MAXIMUM_LOOKS + 1];
    assert!(matches!(gallery.add(named("A"), &many, MODEL), Err(GalleryError::TooManyLooks)));
    assert!(matches!(gallery.add(named("A"), &[], MODEL), Err(GalleryError::NoLooks)));
    assert!(gallery.people().unwrap().is_empty());
    gallery.add(named("A"), &many[1..], MODEL).unwrap();
}

/// A store as version 0.1.0 wrote it: format 1, looks not turned.
fn in_format_1(home: &Home, people: &[(&str, &[Embedding])]) {
    in_format(migrate::PLAIN, home, people);
}

/// A store as an older version wrote it.
fn in_format(format: i64, home: &Home, people: &[(&str, &[Embedding])]) {
    drop(home.open());
    let key = crate::system::secret::read(&home.state, store::KEY).unwrap().unwrap();
    let key = seal::SealingKey::parse(&key).unwrap();
    let seal = |place, plain: &[u8]| key.seal_as(format, place, plain).unwrap();
    let sql = home.sql();
    for (row, (name, looks)) in (1_i64..).zip(people) {
        let id = name.to_lowercase().parse().unwrap();
        let record = if looks.is_empty() {
            PersonRecord::Erasing { id }
        } else {
            let (name, enrolled) = ((*name).to_owned(), Timestamp::now());
            let (consent, expires, similar) = (None, None, Vec::new());
            PersonRecord::Enrolled(Profile { id, name, consent, enrolled, expires, similar })
        };
        let sealed = seal(seal::Place::Person { row }, &record.encode().unwrap());
        sql.execute("INSERT INTO person VALUES (?1, ?2)", (row, sealed)).unwrap();
        for (number, look) in (0_i64..).zip(*looks) {
            let place = seal::Place::Look { row: row * 100 + number, person: row };
            let mut plain = Timestamp::now().as_millisecond().to_le_bytes().to_vec();
            plain.extend((MODEL.len() as u16).to_le_bytes());
            plain.extend(MODEL.as_bytes());
            let turned = key.transform().probe(look).unwrap();
            let look = if format == migrate::PLAIN { look } else { &turned };
            plain.extend(look.values().iter().flat_map(|value| value.to_le_bytes()));
            sql.execute(
                "INSERT INTO look VALUES (?1, ?2, ?3)",
                (row * 100 + number, row, seal(place, &plain)),
            )
            .unwrap();
        }
    }
    let path = home.state.file(store::FILE);
    let census = Tables { connection: &sql, key: &key, path: &path }.census().unwrap();
    let sealed = seal(seal::Place::Census, census.as_ref());
    sql.execute("INSERT OR REPLACE INTO census VALUES (0, ?1)", [sealed]).unwrap();
    sql.pragma_update(None, "user_version", format).unwrap();
}

fn sealed_looks(home: &Home) -> Vec<Vec<u8>> {
    let sql = home.sql();
    let mut rows = sql.prepare("SELECT sealed FROM look").unwrap();
    rows.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

/// Holds GAL-20.
#[test]
fn gallery_of_before_is_protected_on_opening() {
    let home = Home::new();
    in_format_1(&home, &[("Ann", &[look(1), look(2)]), ("Bob", &[look(3)]), ("Gone", &[])]);
    let before = sealed_looks(&home);
    let mut gallery = home.open();
    assert_eq!(gallery.people().unwrap().len(), 2);
    let candidates = gallery.candidates(&space()).unwrap();
    let expected = Embedding::pooled(&[look(1), look(2)]).unwrap();
    let stored = &candidates[0].template;
    assert!(stored.similarity(&gallery.probe(&expected).unwrap()) > 0.99999);
    assert!(stored.similarity(&expected).abs() < 0.25, "the template was not turned");
    assert_eq!(gallery.unfinished_erasures().unwrap().len(), 1);
    // Nothing of the records of before is left in any file.
    let raw = home.raw();
    for record in &before {
        assert!(record.chunks_exact(16).all(|piece| !contains(&raw, piece)));
    }
    drop(gallery);
    assert_eq!(home.open().candidates(&space()).unwrap()[0].template, candidates[0].template);
}

/// Stopped after the transaction and before the file was written anew: whoever opens it next wipes it.
/// Holds GAL-20.
#[test]
fn migration_cut_short() {
    let home = Home::new();
    in_format_1(&home, &[("Ann", &[look(1)])]);
    let before = sealed_looks(&home);
    {
        let key = crate::system::secret::read(&home.state, store::KEY).unwrap().unwrap();
        let key = seal::SealingKey::parse(&key).unwrap();
        let (mut sql, path) = (home.sql(), home.state.file(store::FILE));
        let tx = sql.transaction().unwrap();
        migrate::to_this_format(
            &Tables { connection: &tx, key: &key, path: &path },
            migrate::PLAIN,
        )
        .unwrap();
        tx.pragma_update(None, "user_version", migrate::WIPE_DUE).unwrap();
        tx.commit().unwrap();
    }
    let gallery = home.open();
    let raw = home.raw();
    assert!(before[0].chunks_exact(16).all(|piece| !contains(&raw, piece)));
    assert_eq!(gallery.candidates(&space()).unwrap().len(), 1);
    let format: i64 =
        home.sql().pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(format, seal::FORMAT);
}

/// A record of one format does not open as one of the other, wherever somebody puts it.
/// Holds GAL-20.
#[test]
fn formats_never_mix() {
    let home = Home::new();
    home.open().add(named("Ann"), &[look(1)], MODEL).unwrap();
    for format in [1, 2, -2, 3, -3] {
        let error = altered(&home, &format!("PRAGMA user_version = {format}")).unwrap_err();
        assert!(error.is_refusal(), "{error}");
    }
    let old = Home::new();
    in_format_1(&old, &[("Ann", &[look(1)])]);
    let error = altered(&old, "PRAGMA user_version = 2").unwrap_err();
    assert!(error.is_refusal(), "{error}");
    let error = altered(&old, "UPDATE look SET row = row + 1").unwrap_err();
    assert!(error.is_refusal(), "{error}");
}

/// Two devices, one person: what leaks from one is nothing to the other.
/// Holds GAL-19.
#[test]
fn leaked_template_matches_on_no_other_device() {
    let (here, there) = (Home::new(), Home::new());
    let mut galleries = [here.open(), there.open()];
    for gallery in &mut galleries {
        for seed in 0..20 {
            gallery.add(named(&format!("P{seed}")), &[look(seed)], MODEL).unwrap();
        }
    }
    let [here, there] = galleries.map(|gallery| gallery.candidates(&space()).unwrap());
    for leaked in &here {
        for other in &there {
            let similarity = leaked.template.similarity(&other.template);
            assert!(similarity.abs() < 0.3, "{similarity}");
        }
    }
}
