#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::LazyLock;

use super::*;
use crate::recognition::Mapping;
use crate::recognition::gallery::NewPerson;
use crate::system::state::StateDirectory;

const MODEL: &str = "sha256:aa";

fn space() -> Space {
    Space::new(MODEL)
}

struct Device(tempfile::TempDir);

impl Device {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn gallery(&self) -> Gallery {
        Gallery::open(&StateDirectory::at(self.0.path().to_owned()).unwrap()).unwrap()
    }

    /// With Ann (two looks), Bob (one), and Cat, whose time is soon over.
    fn household() -> Self {
        let device = Self::new();
        let mut gallery = device.gallery();
        let consent = Some("in writing, 3 May".to_owned());
        gallery.add(NewPerson { consent, ..named("Ann") }, &[look(1), look(2)], MODEL).unwrap();
        gallery.add(named("Bob"), &[look(3)], MODEL).unwrap();
        let expires = Some((Timestamp::now() + jiff::SignedDuration::from_hours(1)).into());
        gallery.add(NewPerson { expires, ..named("Cat") }, &[look(4)], MODEL).unwrap();
        device
    }
}

fn look(seed: u64) -> Embedding {
    let mut random = fastrand::Rng::with_seed(seed);
    Embedding::normalized((0..512).map(|_| random.f32() - 0.5).collect()).unwrap()
}

fn named(name: &str) -> NewPerson {
    NewPerson { name: name.parse().unwrap(), id: None, consent: None, expires: None }
}

fn passphrase() -> Passphrase {
    Passphrase::new(b"correct horse battery staple\n").unwrap()
}

static HERE: LazyLock<Space> = LazyLock::new(space);

fn strict() -> Restore<'static> {
    Restore { space: &HERE, skip_existing: false, usable_only: false }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// Holds GAL-22.
#[test]
fn people_move_to_a_device_with_its_own_transform() {
    let old = Device::household().gallery();
    let (file, count) = old.backup(&passphrase()).unwrap();
    assert_eq!(count, 3);
    let new = Device::new();
    let mut gallery = new.gallery();
    let backup = Backup::open(&file, &passphrase()).unwrap();
    let restored = gallery.restore(backup, &strict()).unwrap();
    assert_eq!(restored.people.len(), 3);
    let mut people = gallery.people().unwrap();
    people.sort_by(|a, b| a.id.cmp(&b.id));
    let mut before = old.people().unwrap();
    before.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(people, before);
    for (here, there) in
        gallery.candidates(&space()).unwrap().iter().zip(old.candidates(&space()).unwrap())
    {
        assert_eq!((&here.person, here.looks), (&there.person, there.looks));
        assert!(here.template.similarity(&there.template).abs() < 0.3, "not turned anew");
        for seed in 1..5 {
            let similarity = |gallery: &Gallery, template: &Embedding| {
                gallery.probe(&look(seed)).unwrap().similarity(template)
            };
            let (a, b) = (similarity(&gallery, &here.template), similarity(&old, &there.template));
            assert!((a - b).abs() < 1e-6, "{a} {b}");
        }
    }
}

/// Holds GAL-21.
#[test]
fn backup_shows_nothing_without_the_passphrase() {
    let device = Device::household();
    let (file, _) = device.gallery().backup(&passphrase()).unwrap();
    for text in ["Ann", "Bob", "ann", "in writing", MODEL, "correct horse"] {
        assert!(!contains(&file, text.as_bytes()), "{text}");
    }
    for seed in 1..5 {
        let bytes: Vec<u8> = look(seed).values().iter().flat_map(|v| v.to_le_bytes()).collect();
        assert!(bytes.chunks_exact(8).all(|piece| !contains(&file, piece)));
    }
    // Salt, nonce and with them everything differ each time.
    let (again, _) = device.gallery().backup(&passphrase()).unwrap();
    assert_ne!(file[22..38], again[22..38]);
    assert_ne!(file[HEADER..HEADER + 64], again[HEADER..HEADER + 64]);
}

/// Holds GAL-23.
#[test]
fn wrong_passphrase() {
    let (file, _) = Device::household().gallery().backup(&passphrase()).unwrap();
    let other = Passphrase::new(b"correct horse battery stable").unwrap();
    let error = Backup::open(&file, &other).map(drop).unwrap_err();
    assert!(matches!(error, BackupError::Sealed) && error.is_refusal(), "{error}");
}

#[test]
fn short_passphrase() {
    for short in ["", "\n", "hunter2", "eleven char\n"] {
        assert!(matches!(Passphrase::new(short.as_bytes()), Err(BackupError::Passphrase)));
    }
    assert!(Passphrase::new(&[0xff; 20]).is_err());
    assert!(Passphrase::new("zwölf Zeich!".as_bytes()).is_ok());
}

/// Holds GAL-23.
#[test]
fn cut_backup() {
    let (file, _) = Device::household().gallery().backup(&passphrase()).unwrap();
    for length in 0..=HEADER {
        assert!(Backup::open(&file[..length], &passphrase()).is_err(), "{length}");
    }
    for length in [HEADER + 16, file.len() / 2, file.len() - 16, file.len() - 1] {
        let error = Backup::open(&file[..length], &passphrase()).map(drop).unwrap_err();
        assert!(matches!(error, BackupError::Sealed), "{length}: {error}");
    }
}

/// Holds GAL-23.
#[test]
fn altered_backup() {
    let (file, _) = Device::household().gallery().backup(&passphrase()).unwrap();
    // Each part of the header, the first and last sealed byte, the tag, and some between.
    let mut places = vec![0, 16, 18, 21, 22, 37, 38, 49, HEADER, file.len() - 17, file.len() - 1];
    let mut random = fastrand::Rng::with_seed(1);
    places.extend((0..5).map(|_| random.usize(HEADER..file.len())));
    for at in places {
        let mut altered = file.clone();
        altered[at] ^= 1;
        let error = Backup::open(&altered, &passphrase()).map(drop).unwrap_err();
        assert!(error.is_refusal(), "{at}: {error}");
    }
    let longer = [file.as_slice(), b"\0"].concat();
    assert!(Backup::open(&longer, &passphrase()).is_err());
}

/// Holds GAL-23, ROB-15.
#[test]
fn oversized_backup() {
    let error = Backup::open(&vec![0; BACKUP_LIMIT + 1], &passphrase()).map(drop).unwrap_err();
    assert!(matches!(error, BackupError::TooLarge), "{error}");
}

/// A file that would keep the device busy for an hour, or that spares an attacker the work.
/// Holds GAL-23.
#[test]
fn backup_that_chooses_its_own_iterations() {
    let (file, _) = Device::household().gallery().backup(&passphrase()).unwrap();
    for iterations in [0, 1, ITERATIONS - 1, MOST_ITERATIONS + 1, u32::MAX] {
        let mut altered = file.clone();
        altered[18..22].copy_from_slice(&iterations.to_le_bytes());
        let error = Backup::open(&altered, &passphrase()).map(drop).unwrap_err();
        assert!(matches!(error, BackupError::Iterations(found) if found == iterations), "{error}");
    }
}

/// Sealed by somebody who knows the passphrase, and still not taken as it is.
/// Holds GAL-23.
#[test]
fn sound_seal_over_unsound_content() {
    let plain = Device::household().gallery().plain().unwrap().text;
    let parse = |plain: &[u8]| Backup::parse(plain).and_then(Backup::check).map(drop);
    parse(&plain).unwrap();
    for length in 0..plain.len() {
        assert!(parse(&plain[..length]).is_err(), "{length}");
    }
    assert!(parse(&[plain.as_slice(), b"x"].concat()).is_err());
    let swap = |from: &str, to: &str| {
        let at = plain.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        let mut altered = plain.to_vec();
        altered[at..at + to.len()].copy_from_slice(to.as_bytes());
        altered
    };
    for (from, to) in [
        ("\"name\":\"Bob\"", "\"name\":\"B\x01b\""),
        ("\"id\":\"bob\"", "\"id\":\"B/#\""),
        ("\"id\":\"bob\"", "\"id\":\"ann\""), // twice
        ("\"enrolled\":", "\"enrollee\":"),
        ("sha256:aa", "sha256:\n\n"),
    ] {
        assert!(parse(&swap(from, to)).is_err(), "{to:?}");
    }
    let many = [&plain[..8], &u32::MAX.to_le_bytes(), &plain[12..]].concat();
    assert!(matches!(parse(&many), Err(BackupError::Content("too many people"))));
}

/// Holds GAL-24.
#[test]
fn templates_of_another_model_are_refused() {
    let device = Device::household();
    device
        .gallery()
        .add_looks(&"ann".parse().unwrap(), &[look(7)], "sha256:bb", None, None)
        .unwrap();
    let (file, _) = device.gallery().backup(&passphrase()).unwrap();
    let mut gallery = Device::new().gallery();
    let open = || Backup::open(&file, &passphrase()).unwrap();
    let error = gallery.restore(open(), &strict()).unwrap_err();
    assert!(matches!(error, BackupError::Foreign { looks: 1, people: 1, .. }), "{error}");
    assert!(error.to_string().contains("sha256:bb") && gallery.people().unwrap().is_empty());
    let usable = Restore { usable_only: true, ..strict() };
    assert_eq!(gallery.restore(open(), &usable).unwrap().people.len(), 3);
    assert_eq!(gallery.person(&"ann".parse().unwrap()).unwrap().total_looks(), 2);
    // For another model still: Ann alone has a look.
    let mut gallery = Device::new().gallery();
    let elsewhere = Space::new("sha256:bb");
    let other = Restore { space: &elsewhere, ..usable };
    let restored = gallery.restore(open(), &other).unwrap();
    assert_eq!((restored.people.len(), restored.unusable.len()), (1, 2));
}

/// A device with a newer model takes the people of an older one over, if its bundle has a way.
#[test]
fn templates_that_can_be_mapped_are_restored_as_they_are() {
    let (file, _) = Device::household().gallery().backup(&passphrase()).unwrap();
    let size = look(1).values().len();
    let bytes: Vec<u8> =
        [1.0_f32].repeat(size * (size + 1)).iter().flat_map(|v| v.to_le_bytes()).collect();
    let mapping = Mapping::parse(&bytes, MODEL, size, size, 0.0).unwrap();
    let newer = Space::new("sha256:bb").with_mappings(vec![mapping]);
    let mut gallery = Device::new().gallery();
    let backup = Backup::open(&file, &passphrase()).unwrap();
    let restored = gallery.restore(backup, &Restore { space: &newer, ..strict() }).unwrap();
    assert_eq!(restored.people.len(), 3);
    assert_eq!(gallery.person(&"ann".parse().unwrap()).unwrap().looks_by(MODEL), 2);
}

/// Holds GAL-24.
#[test]
fn enrolled_already_refuses_all_or_is_left_alone() {
    let (file, _) = Device::household().gallery().backup(&passphrase()).unwrap();
    let device = Device::new();
    let mut gallery = device.gallery();
    gallery.add(named("Bob"), &[look(50)], MODEL).unwrap();
    drop(gallery.add(named("Cat"), &[look(51)], MODEL).unwrap());
    drop(gallery.begin_erasure(&"cat".parse().unwrap()).unwrap());
    let open = || Backup::open(&file, &passphrase()).unwrap();
    let error = gallery.restore(open(), &strict()).unwrap_err();
    assert!(matches!(&error, BackupError::Exists(ids) if ids.len() == 2), "{error}");
    assert_eq!(gallery.people().unwrap().len(), 1, "half of it was restored");
    let skip = Restore { skip_existing: true, ..strict() };
    let restored = gallery.restore(open(), &skip).unwrap();
    assert_eq!((restored.people.len(), restored.existing.len()), (1, 2));
    let bob = gallery.candidates(&space()).unwrap().into_iter().find(|c| c.person.name == "Bob");
    let probe = gallery.probe(&look(50)).unwrap();
    assert!(bob.unwrap().template.similarity(&probe) > 0.999);
}

/// Holds GAL-25.
#[test]
fn expired_people_do_not_come_back() {
    let device = Device::new();
    let expires = Some((Timestamp::now() - jiff::SignedDuration::from_hours(1)).into());
    device.gallery().add(NewPerson { expires, ..named("Ann") }, &[look(1)], MODEL).unwrap();
    let (file, _) = device.gallery().backup(&passphrase()).unwrap();
    let mut gallery = Device::new().gallery();
    let restored = gallery.restore(Backup::open(&file, &passphrase()).unwrap(), &strict()).unwrap();
    assert_eq!((restored.people.len(), restored.expired.len()), (0, 1));
    assert!(gallery.people().unwrap().is_empty());
}
