//! Pairs of lookalikes: kept, carried by backups, and gone with the first of the two.

use super::*;
use crate::recognition::gallery::backup::Saved;

fn id(text: &str) -> PersonId {
    text.parse().unwrap()
}

/// Ann, and Bea who looks like her.
fn with_a_pair(home: &Home) -> Gallery {
    let mut gallery = home.open();
    gallery.add(named("Ann"), &[look(1)], MODEL).unwrap();
    gallery.add_similar(named("Bea"), &[id("ann")], &[look(2)], MODEL).unwrap();
    gallery
}

/// Who looks like whom, by what is matched and by what is listed.
fn lookalikes_of(gallery: &Gallery, who: &str) -> Vec<String> {
    let candidates = gallery.candidates(&space()).unwrap();
    let candidate = candidates.into_iter().find(|c| c.person.id.as_str() == who).unwrap();
    assert_eq!(gallery.person(&id(who)).unwrap().lookalikes, candidate.lookalikes);
    candidate.lookalikes.into_iter().map(String::from).collect()
}

#[test]
fn pair_holds_for_both_and_stays() {
    let home = Home::new();
    let mut gallery = with_a_pair(&home);
    gallery.add(named("Cat"), &[look(3)], MODEL).unwrap();
    gallery.add_looks_similar(&id("cat"), &[id("ann")], &[look(4)], MODEL, None, None).unwrap();
    gallery.rename(&id("bea"), "Beatrix".parse().unwrap()).unwrap();
    drop(gallery);
    let gallery = home.open();
    assert_eq!(lookalikes_of(&gallery, "ann"), ["bea", "cat"]);
    assert_eq!(lookalikes_of(&gallery, "bea"), ["ann"]);
    assert_eq!(lookalikes_of(&gallery, "cat"), ["ann"]);
}

#[test]
fn lookalike_who_is_not_enrolled_is_refused_and_nobody_enrolled() {
    let home = Home::new();
    let mut gallery = with_a_pair(&home);
    let error = gallery.add_similar(named("Cat"), &[id("anne")], &[look(3)], MODEL).unwrap_err();
    assert!(error.to_string().ends_with("did you mean ann?"), "{error}");
    let own = gallery.add_looks_similar(&id("ann"), &[id("ann")], &[look(3)], MODEL, None, None);
    assert!(matches!(own, Err(GalleryError::OwnLookalike(_))), "{own:?}");
    assert_eq!(gallery.people().unwrap().len(), 2);
    assert_eq!(gallery.person(&id("ann")).unwrap().total_looks(), 1);
}

/// Whoever is enrolled under that id next is no lookalike.
/// Holds GAL-16.
#[test]
fn pair_goes_with_the_first_of_the_two_who_is_forgotten() {
    for (gone, other) in [("ann", "bea"), ("bea", "ann")] {
        let home = Home::new();
        let mut gallery = with_a_pair(&home);
        let erasure = gallery.begin_erasure(&id(gone)).unwrap();
        gallery.finish_erasure(erasure).unwrap();
        assert_eq!(lookalikes_of(&gallery, other), Vec::<String>::new());
        let new = NewPerson { id: Some(id(gone)), ..named("New") };
        gallery.add(new, &[look(5)], MODEL).unwrap();
        assert_eq!(lookalikes_of(&gallery, other), Vec::<String>::new());
    }
}

/// Holds GAL-16.
#[test]
fn backup_carries_pairs() {
    let (here, there) = (Home::new(), Home::new());
    let words = Passphrase::new(b"six words that nobody guesses").unwrap();
    let (file, _) = with_a_pair(&here).backup(&words).unwrap();
    // A version that knows no lookalikes refuses it.
    assert_eq!(u16::from_le_bytes([file[16], file[17]]), 3);
    let here = space();
    let how = Restore { space: &here, skip_existing: true, usable_only: false };
    let mut other = there.open();
    other.restore(Backup::open(&file, &words).unwrap(), &how).unwrap();
    assert_eq!(lookalikes_of(&other, "ann"), ["bea"]);

    // Without Ann, Bea has no lookalike.
    let third = Home::new();
    let mut third = third.open();
    let mut backup = Backup::open(&file, &words).unwrap();
    backup.people.retain(|Saved { record, .. }| record.id().as_str() == "bea");
    third.restore(backup, &how).unwrap();
    assert_eq!(lookalikes_of(&third, "bea"), Vec::<String>::new());
}

/// Whichever of the two records holds the pair.
#[test]
fn restored_person_is_paired_with_a_lookalike_who_stayed() {
    for (gone, stayed) in [("ann", "bea"), ("bea", "ann")] {
        let home = Home::new();
        let mut gallery = with_a_pair(&home);
        let words = Passphrase::new(b"six words that nobody guesses").unwrap();
        let (file, _) = gallery.backup(&words).unwrap();
        let erasure = gallery.begin_erasure(&id(gone)).unwrap();
        gallery.finish_erasure(erasure).unwrap();
        let space = space();
        let how = Restore { space: &space, skip_existing: true, usable_only: false };
        let restored = gallery.restore(Backup::open(&file, &words).unwrap(), &how).unwrap();
        assert_eq!(restored.existing, [id(stayed)]);
        assert_eq!(lookalikes_of(&gallery, gone), [stayed]);
        assert_eq!(lookalikes_of(&gallery, stayed), [gone]);
    }
}

#[test]
fn restored_person_is_not_paired_with_one_who_is_being_erased() {
    let home = Home::new();
    let mut gallery = with_a_pair(&home);
    let words = Passphrase::new(b"six words that nobody guesses").unwrap();
    let (file, _) = gallery.backup(&words).unwrap();
    let erasure = gallery.begin_erasure(&id("bea")).unwrap();
    gallery.finish_erasure(erasure).unwrap();
    let erasure = gallery.begin_erasure(&id("ann")).unwrap();
    let space = space();
    let how = Restore { space: &space, skip_existing: true, usable_only: false };
    gallery.restore(Backup::open(&file, &words).unwrap(), &how).unwrap();
    gallery.finish_erasure(erasure).unwrap();
    let ann = NewPerson { id: Some(id("ann")), ..named("Another") };
    gallery.add(ann, &[look(5)], MODEL).unwrap();
    assert_eq!(lookalikes_of(&gallery, "bea"), Vec::<String>::new());
}

/// A store as the version before lookalikes wrote it, also one that it left unwiped.
#[test]
fn gallery_from_before_lookalikes_opens() {
    for format in [migrate::WITHOUT_LOOKALIKES, migrate::WITHOUT_LOOKALIKES_WIPE_DUE] {
        let home = Home::new();
        in_format(migrate::WITHOUT_LOOKALIKES, &home, &[("Ann", &[look(1)])]);
        home.sql().pragma_update(None, "user_version", format).unwrap();
        let mut gallery = home.open();
        gallery.add_similar(named("Bea"), &[id("ann")], &[look(2)], MODEL).unwrap();
        drop(gallery);
        assert_eq!(lookalikes_of(&home.open(), "ann"), ["bea"]);
        let number: i64 =
            home.sql().pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        assert_eq!(number, seal::FORMAT);
    }
}
