//! Negative anchors, and looks that are dropped.

use super::*;
use crate::recognition::gallery::LookKey;

fn sealed(home: &Home) -> Vec<Vec<u8>> {
    let sql = home.sql();
    let query = "SELECT sealed FROM person UNION ALL SELECT sealed FROM look";
    let mut rows = sql.prepare(query).unwrap();
    rows.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

/// Of the records of before, those that are in the tables no more, and of which no piece may be in any file.
fn gone_without_a_trace(home: &Home, before: &[Vec<u8>]) -> usize {
    let (after, raw) = (sealed(home), home.raw());
    let gone: Vec<_> = before.iter().filter(|record| !after.contains(record)).collect();
    for record in &gone {
        assert!(record.chunks_exact(16).all(|piece| !contains(&raw, piece)), "a piece is left");
    }
    gone.len()
}

fn keys(gallery: &Gallery, person: usize) -> Vec<LookKey> {
    gallery.enrolments(MODEL).unwrap()[person].looks.iter().map(|look| look.key).collect()
}

/// Holds GAL-13.
#[test]
fn anchor_is_no_person() {
    let home = Home::new();
    let mut gallery = home.open();
    gallery.add(named("Ann"), &[look(1)], MODEL).unwrap();
    let consent = Some("the portrait in the hall".to_owned());
    let new = NewAnchor { consent: consent.clone(), ..NewAnchor::default() };
    let first = gallery.add_anchor(new, &[look(2), look(3)], MODEL).unwrap();
    let second = gallery.add_anchor(NewAnchor::default(), &[look(4)], "sha256:bb").unwrap();
    assert_eq!((first.as_str(), second.as_str()), ("not-1", "not-2"));
    let taken = NewAnchor { id: Some("ann".parse().unwrap()), ..NewAnchor::default() };
    let taken = gallery.add_anchor(taken, &[look(5)], MODEL);
    assert!(matches!(taken, Err(GalleryError::IdTaken(_))));
    drop(gallery);

    let gallery = home.open();
    assert_eq!(gallery.people().unwrap().len(), 1);
    assert_eq!(gallery.candidates(&space()).unwrap().len(), 1);
    assert!(matches!(gallery.person(&first), Err(GalleryError::Unknown { .. })));
    let anchors = gallery.anchors().unwrap();
    assert_eq!((anchors.len(), anchors[0].total_looks()), (2, 2));
    assert_eq!(anchors[0].consent, consent);
    // Turned as the people's templates are; that of another model is not compared with.
    let templates = gallery.anchor_templates(&space()).unwrap();
    let expected = Embedding::pooled(&[look(2), look(3)]).unwrap();
    assert_eq!((templates.len(), &templates[0].id), (1, &first));
    assert!(templates[0].template.similarity(&gallery.probe(&expected).unwrap()) > 0.99999);
    assert!(templates[0].template.similarity(&expected).abs() < 0.25, "not turned");
}

/// Holds GAL-13.
#[test]
fn erased_anchor_leaves_no_bytes() {
    let home = Home::new();
    let mut gallery = home.open();
    gallery.add(named("Ann"), &[look(1)], MODEL).unwrap();
    let anchors: Vec<PersonId> = (0..12)
        .map(|n| gallery.add_anchor(NewAnchor::default(), &[look(n), look(n + 50)], MODEL).unwrap())
        .collect();
    let before = sealed(&home);
    for id in anchors.iter().step_by(2) {
        assert!(gallery.erase_anchor(id).unwrap());
    }
    assert_eq!(gone_without_a_trace(&home, &before), 6 * 3);
    assert!(!gallery.erase_anchor(&anchors[0]).unwrap(), "twice");
    assert!(!gallery.erase_anchor(&"ann".parse().unwrap()).unwrap(), "a person");
    assert_eq!((gallery.people().unwrap().len(), gallery.anchors().unwrap().len()), (1, 6));
    // No event is owed for any of them.
    assert!(gallery.unfinished_erasures().unwrap().is_empty());
}

/// Holds GAL-13.
#[test]
fn expired_anchor_is_compared_with_no_more() {
    let home = Home::new();
    let mut gallery = home.open();
    let now = Timestamp::now();
    let end = now + SignedDuration::from_hours(1);
    let new = NewAnchor { expires: Some(end.into()), ..NewAnchor::default() };
    gallery.add_anchor(new, &[look(1)], MODEL).unwrap();
    gallery.add_anchor(NewAnchor::default(), &[look(2)], MODEL).unwrap();
    assert_eq!(gallery.expiries().unwrap(), [Expiry::At(end)]);
    assert_eq!(gallery.anchor_templates_at(&space(), now).unwrap().len(), 2);
    assert_eq!(gallery.anchor_templates_at(&space(), end).unwrap().len(), 1);
    let before = sealed(&home);
    let by = |time, state| Date { time, state };
    assert!(!gallery.erase_expired_anchors(&by(now, ClockState::Synchronized)).unwrap());
    assert!(!gallery.erase_expired_anchors(&by(end, ClockState::Unsynchronized)).unwrap());
    assert!(gallery.erase_expired_anchors(&by(end, ClockState::Synchronized)).unwrap());
    assert_eq!((gone_without_a_trace(&home, &before), gallery.anchors().unwrap().len()), (2, 1));
}

#[test]
fn dropped_look_leaves_no_bytes_and_the_last_one_stays() {
    let home = Home::new();
    let mut gallery = home.open();
    let looks: Vec<Embedding> = (0..20).map(look).collect();
    let ann = gallery.add(named("Ann"), &looks, MODEL).unwrap().id;
    let bob = gallery.add(named("Bob"), &looks[..2], MODEL).unwrap().id;
    gallery.add_looks(&bob, &[look(30)], "sha256:bb", None, None).unwrap();
    let before = sealed(&home);
    let mut dropped = 0;
    for key in keys(&gallery, 0).into_iter().step_by(2) {
        assert!(gallery.drop_look(&ann, key).unwrap());
        assert!(!gallery.drop_look(&ann, key).unwrap(), "twice");
        dropped += 1;
    }
    assert_eq!(gone_without_a_trace(&home, &before), dropped);
    assert_eq!(gallery.person(&ann).unwrap().total_looks(), 10);
    // Not somebody else's, and not the last one that the same model made.
    let bobs = keys(&gallery, 1);
    assert!(!gallery.drop_look(&ann, bobs[0]).unwrap());
    assert!(gallery.drop_look(&bob, bobs[0]).unwrap());
    assert!(matches!(gallery.drop_look(&bob, bobs[1]), Err(GalleryError::NoLooks)));
    assert_eq!(gallery.person(&bob).unwrap().total_looks(), 2);
}

/// Stopped between the transaction and the wipe: whoever opens the store next wipes it.
#[test]
fn wipe_cut_short_is_made_up_for() {
    let home = Home::new();
    let mut gallery = home.open();
    let ann = gallery.add(named("Ann"), &[look(1), look(2)], MODEL).unwrap().id;
    let before = sealed(&home);
    let key = keys(&gallery, 0)[0];
    let store = &mut gallery.store;
    store
        .write(|tables| {
            let (row, _) = find(tables, &ann)?;
            let number = tables.numbered_looks(row)?[0].0;
            tables.delete_look(number, row)?;
            tables.connection.pragma_update(None, "user_version", migrate::WIPE_DUE)?;
            Ok(())
        })
        .unwrap();
    drop(gallery);
    let mut gallery = home.open();
    assert_eq!(gone_without_a_trace(&home, &before), 1);
    assert!(!gallery.drop_look(&ann, key).unwrap());
    let format: i64 =
        home.sql().pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(format, seal::FORMAT);
}

/// A store as the version before anchors wrote it.
#[test]
fn gallery_from_before_anchors_opens() {
    let home = Home::new();
    in_format(migrate::TURNED, &home, &[("Ann", &[look(1), look(2)]), ("Gone", &[])]);
    let mut gallery = home.open();
    let expected = gallery.probe(&Embedding::pooled(&[look(1), look(2)]).unwrap()).unwrap();
    let candidates = gallery.candidates(&space()).unwrap();
    assert_eq!(candidates.len(), 1);
    assert!(candidates[0].template.similarity(&expected) > 0.99999, "turned twice");
    assert_eq!(gallery.unfinished_erasures().unwrap().len(), 1);
    gallery.add_anchor(NewAnchor::default(), &[look(3)], MODEL).unwrap();
    drop(gallery);
    assert_eq!(home.open().anchors().unwrap().len(), 1);
    // And one that was left between format 1 and 2.
    let home = Home::new();
    in_format(migrate::TURNED, &home, &[("Ann", &[look(1)])]);
    home.sql().pragma_update(None, "user_version", migrate::TURNED_WIPE_DUE).unwrap();
    assert_eq!(home.open().candidates(&space()).unwrap().len(), 1);
}

/// What an older version says: it knows formats 1 and 2, and the store's number is neither.
/// Holds GAL-14.
#[test]
fn store_with_anchors_is_of_a_format_older_versions_refuse() {
    let home = Home::new();
    home.open().add_anchor(NewAnchor::default(), &[look(3)], MODEL).unwrap();
    let format: i64 =
        home.sql().pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert!(format > 2);
    let key = crate::system::secret::read(&home.state, store::KEY).unwrap().unwrap();
    let key = seal::SealingKey::parse(&key).unwrap();
    let (sql, path) = (home.sql(), home.state.file(store::FILE));
    let tables = Tables { connection: &sql, key: &key, path: &path };
    // Even past its number no record opens as one of those.
    for older in [1, 2] {
        let refused = tables.check_census_as(older);
        assert!(matches!(refused, Err(GalleryError::WrongKey { .. })));
    }
}

#[test]
fn backup_carries_anchors() {
    let (here, there) = (Home::new(), Home::new());
    let mut gallery = here.open();
    gallery.add(named("Ann"), &[look(1)], MODEL).unwrap();
    let words = Passphrase::new(b"six words that nobody guesses").unwrap();
    let version = |file: &[u8]| u16::from_le_bytes([file[16], file[17]]);
    let (without, _) = gallery.backup(&words).unwrap();
    gallery.add_anchor(NewAnchor::default(), &[look(2)], MODEL).unwrap();
    let (file, people) = gallery.backup(&words).unwrap();
    // A version that knows no anchors refuses the second, and only that.
    assert_eq!((version(&without), version(&file), people), (1, 2, 1));

    let here = space();
    let how = Restore { space: &here, skip_existing: false, usable_only: false };
    let mut other = there.open();
    let restored = other.restore(Backup::open(&file, &words).unwrap(), &how).unwrap();
    assert_eq!((restored.people.len(), restored.anchors.len()), (1, 1));
    let template = &other.anchor_templates(&space()).unwrap()[0].template;
    assert!(template.similarity(&other.probe(&look(2)).unwrap()) > 0.99999);
    assert!(other.erase_anchor(&"not-1".parse().unwrap()).unwrap());
}
