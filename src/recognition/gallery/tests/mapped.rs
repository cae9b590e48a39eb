//! Templates of another model, mapped into the space that is compared in.

use super::*;
use crate::recognition::Mapping;

/// Out of the space `from`: every axis moved on by one, and none added.
fn shift(from: &str, size: usize, reserve: f32) -> Mapping {
    let mut values = vec![0.0_f32; size * (size + 1)];
    for row in 0..size {
        values[row * size + (row + 1) % size] = 1.0;
    }
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Mapping::parse(&bytes, from, size, size, reserve).unwrap()
}

fn shifted(look: &Embedding) -> Embedding {
    let mut values = look.values().to_vec();
    values.rotate_left(1);
    Embedding::normalized(values).unwrap()
}

#[test]
fn templates_of_another_model_are_matched_by_way_of_the_mapping() {
    let home = Home::new();
    let mut gallery = home.open();
    let ann = gallery.add(named("Ann"), &[look(1), look(2)], MODEL).unwrap();
    let anchor = NewAnchor { id: Some("not-1".parse().unwrap()), ..NewAnchor::default() };
    gallery.add_anchor(anchor, &[look(9)], MODEL).unwrap();
    let size = look(1).values().len();
    let space = Space::new("sha256:bb").with_mappings(vec![shift(MODEL, size, 0.05)]);

    let candidates = gallery.candidates(&space).unwrap();
    assert_eq!((candidates[0].looks, candidates[0].reserve), (2, 0.05));
    let expected = Embedding::pooled(&[shifted(&look(1)), shifted(&look(2))]).unwrap();
    let similarity = candidates[0].template.similarity(&gallery.probe(&expected).unwrap());
    assert!(similarity > 0.99999, "{similarity}");
    let anchors = gallery.anchor_templates(&space).unwrap();
    assert!(anchors[0].template.similarity(&gallery.probe(&shifted(&look(9))).unwrap()) > 0.99999);
    // What is stored is what was enrolled: the model before finds its own after a rollback.
    assert_eq!(gallery.person(&ann.id).unwrap().looks_by(MODEL), 2);
    assert_eq!(gallery.candidates(&Space::new(MODEL)).unwrap()[0].looks, 2);
    // The operator declined, or the mapping is from somewhere else: nobody is compared.
    assert!(gallery.candidates(&space.clone().mapped_if(false)).unwrap().is_empty());
    let elsewhere = Space::new("sha256:bb").with_mappings(vec![shift("sha256:cc", size, 0.05)]);
    assert!(gallery.candidates(&elsewhere).unwrap().is_empty());
    assert!(gallery.anchor_templates(&elsewhere).unwrap().is_empty());
}

/// One native look is worth more than two that were mapped, and a mean of both would be of neither space.
#[test]
fn mapped_and_native_looks_are_not_mixed() {
    let home = Home::new();
    let mut gallery = home.open();
    let ann = gallery.add(named("Ann"), &[look(1), look(2)], MODEL).unwrap();
    gallery.add_looks(&ann.id, &[look(7)], "sha256:bb", None, None).unwrap();
    let mapping = shift(MODEL, look(1).values().len(), 0.05);
    let space = Space::new("sha256:bb").with_mappings(vec![mapping]);
    let candidates = gallery.candidates(&space).unwrap();
    assert_eq!((candidates[0].looks, candidates[0].reserve), (1, 0.0));
    assert!(candidates[0].template.similarity(&gallery.probe(&look(7)).unwrap()) > 0.99999);
}

#[test]
fn mapping_of_another_size_compares_nobody() {
    let home = Home::new();
    let mut gallery = home.open();
    gallery.add(named("Ann"), &[look(1)], MODEL).unwrap();
    let mapping = shift(MODEL, look(1).values().len() - 1, 0.0);
    let space = Space::new("sha256:bb").with_mappings(vec![mapping]);
    assert!(gallery.candidates(&space).unwrap().is_empty());
}
