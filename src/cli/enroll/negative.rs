//! `familiar enroll --negative`: a face that must never be taken for a person.

use std::path::PathBuf;

use super::report::{Enrolled, Picture, Report};
use super::{expiry, judge, limits, live, photos};
use crate::cli::people::open;
use crate::cli::{Failure, Global, engine};
use crate::config::Span;
use crate::recognition::gallery::{Admission, Gallery, MAXIMUM_LOOKS, NewAnchor};
use crate::recognition::{Embedding, PersonId, Space};
use crate::system::owner;

pub struct New {
    pub photos: Vec<PathBuf>,
    pub live: bool,
    pub id: Option<PersonId>,
    pub consent: Option<String>,
    pub expires: Option<Span>,
}

pub fn run(global: &Global, new: New) -> Result<(), Failure> {
    if new.live != new.photos.is_empty() {
        return Err(Failure::usage("--negative takes either pictures or --live"));
    }
    let config = global.located()?.config;
    let expires = new.expires.map(expiry).transpose()?;
    let mut gallery = open()?;
    let engine = engine::open(global)?;
    let digest = engine.embedder_digest();
    let limits = limits(&engine, config.recognition.false_match_rate)?;
    let mut pictures = if new.live {
        owner::for_good();
        live::take(&config.camera, &engine)?
    } else {
        photos::take(&new.photos, &engine)
    };
    owner::for_good();
    // That it looks like somebody enrolled is what it is for; but the pictures are of one face.
    let admission = Admission { limits, others: &[], enrolled: &[] };
    judge(&mut pictures, &gallery, &admission, MAXIMUM_LOOKS)?;
    let looks: Vec<Embedding> = pictures.iter().filter_map(Picture::look).cloned().collect();
    let id = if looks.is_empty() {
        None
    } else {
        let space = engine.space().mapped_if(config.models.mapping);
        warn_of_hidden(&gallery, &looks, &space, limits.another)?;
        let anchor = NewAnchor { id: new.id, consent: new.consent, expires };
        Some(gallery.add_anchor(anchor, &looks, digest)?)
    };
    let accepted = looks.len();
    let enrolled = Enrolled::Anchor(id);
    Report { enrolled, looks: accepted, pictures, lookalikes: Vec::new() }.print(global.json)?;
    if accepted == 0 {
        return Err(Failure::NoUsableFace("no picture was accepted".to_owned()));
    }
    Ok(())
}

/// Somebody enrolled who is this near may not be named any more where the anchor is nearer.
fn warn_of_hidden(
    gallery: &Gallery,
    looks: &[Embedding],
    space: &Space,
    threshold: f32,
) -> Result<(), Failure> {
    let Some(anchor) = Embedding::pooled(looks) else { return Ok(()) };
    let anchor = gallery.probe(&anchor)?;
    for other in gallery.candidates(space)? {
        let similarity = anchor.similarity(&other.template);
        if similarity >= threshold + other.reserve {
            eprintln!(
                "familiar: it looks like {} ({}), similarity {similarity:.3}: who is as near to this face is no \
                 longer named, which can be {} too; `familiar people check` tells",
                other.person.name, other.person.id, other.person.name
            );
        }
    }
    Ok(())
}
