//! `familiar enroll`: add a person, or looks to one enrolled before; or a face that is nobody.

mod live;
mod negative;
mod photos;
mod report;
mod whom;

use std::path::PathBuf;

use super::people::open;
use super::{Failure, Global, engine};
use crate::config::Span;
use crate::model::Engine;
use crate::recognition::gallery::{
    Admission, Admitted, Expiry, Gallery, Limits, MAXIMUM_LOOKS, NewPerson, Person, PersonName,
    Refusal, lookalikes,
};
use crate::recognition::matcher::LOOKALIKE;
use crate::recognition::{Embedding, PersonId, PersonRef};
use crate::system::clock::{ClockState, Date, Uptime};
use crate::system::owner;
use report::{Enrolled, Outcome, Picture, Report};

/// A picture of a person belongs with the others when its similarity to their mean is reached by this share of
/// pairs of different people at most. Looser than the rate for naming: it only has to find pictures of
/// somebody else, and must not turn away a person's more different ones.
const SAME_PERSON_RATE: f64 = 1e-2;

/// Longest `--consent`, in characters.
const CONSENT_LIMIT: usize = 500;

/// Add a person, or pictures to somebody enrolled, from pictures or from the camera
///
/// NAME or its id may be enrolled already: then the pictures are added to that person. Only
/// embeddings are kept, never a picture.
///
/// A picture is refused, with the reason, that
///   - cannot be read, or is no JPEG, PNG or WebP
///   - shows no face, or several (a second one counts from a quarter of the largest one's area on)
///   - shows a poor face: too small, cut off, turned away, looking up or down, tilted, too dark,
///     too bright, badly exposed, without contrast, blurred, or not clearly a face
///   - looks like somebody else who is enrolled
///   - does not fit the person's other pictures
///   - was enrolled before, or is one too many (64 are kept)
///
/// Exit code 6: no picture was accepted. What each reason means, what to do, and what --json
/// prints: docs/people.md.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    override_usage = "familiar enroll [OPTIONS] <NAME> <PHOTO>...\n       \
                      familiar enroll [OPTIONS] <NAME> --live\n       \
                      familiar enroll [OPTIONS] --negative <PHOTO>...",
    after_help = "Examples:\n  \
                  familiar enroll Ada ada-1.jpg ada-2.jpg --consent 'in writing, 3 May'\n  \
                  familiar enroll Bea bea.jpg --similar-to ada\n  \
                  familiar enroll Cleo --live --expires 90d\n  \
                  familiar enroll --negative portrait-on-the-wall.jpg"
)]
pub struct Args {
    /// What the person is called, 1 to 64 characters; or the id of somebody enrolled
    #[arg(required = true, conflicts_with = "negative")]
    name: Option<PersonName>,
    /// JPEG, PNG or WebP pictures of the person
    #[arg(value_name = "PHOTO", required = true, conflicts_with_all = ["live", "negative"])]
    photos: Vec<PathBuf>,
    /// Take the looks from the configured camera
    #[arg(long)]
    live: bool,
    /// Keep a face that must never be named (a portrait on the wall, a doll, a neighbour who agreed), from these
    /// pictures or --live: whoever is as near to it as to the nearest person is a stranger
    #[arg(long, alias = "not", value_name = "PHOTO", num_args = 0..)]
    negative: Option<Vec<PathBuf>>,
    /// Somebody enrolled who looks alike: both are wanted, and a face that could be either is named as neither; may
    /// be given more than once
    #[arg(long, value_name = "ID", conflicts_with = "negative")]
    similar_to: Vec<PersonId>,
    /// Id in messages and topics, a-z 0-9 _ - [default: made from the name]
    #[arg(long)]
    id: Option<PersonId>,
    /// What the person agreed to, kept with the templates
    #[arg(long, value_name = "TEXT", value_parser = consent)]
    consent: Option<String>,
    /// Erased by the daemon after this time, such as 90d or 8h; with a clock that is not synchronised it becomes a
    /// date later, and counts while the machine runs until then
    #[arg(long, value_name = "DURATION")]
    expires: Option<Span>,
}

pub fn run(global: &Global, args: Args) -> Result<(), Failure> {
    let Args { name, photos, live, negative, similar_to: similar, id, consent, expires } = args;
    match (name, negative) {
        (_, Some(photos)) => {
            negative::run(global, negative::New { photos, live, id, consent, expires })
        }
        (Some(name), None) => {
            person(global, Wanted { name, photos, live, similar, id, consent, expires })
        }
        (None, None) => Err(Failure::usage("whom? `familiar enroll NAME PHOTO…`")), // clap refuses it
    }
}

/// What is asked for of a person.
struct Wanted {
    name: PersonName,
    photos: Vec<PathBuf>,
    live: bool,
    similar: Vec<PersonId>,
    id: Option<PersonId>,
    consent: Option<String>,
    expires: Option<Span>,
}

fn person(global: &Global, args: Wanted) -> Result<(), Failure> {
    let config = global.located()?.config;
    let expires = args.expires.map(expiry).transpose()?;
    let mut gallery = open()?;
    let people = gallery.people()?;
    let enrolled = whom::enrolled_before(&people, &args.name, args.id.as_ref())?;
    for id in &args.similar {
        gallery.person(id)?; // before any model is loaded and any picture looked at
    }
    let engine = engine::open(global)?;
    let limits = limits(&engine, config.recognition.false_match_rate)?;
    if let Some(person) = &enrolled {
        let (looks, PersonRef { id, name }) = (person.total_looks(), person.reference());
        eprintln!("familiar: adding to {name} ({id}), who has {looks} looks");
    }

    let mut pictures = if args.live {
        // The camera is read without root's rights; pictures may be root's own files.
        owner::for_good();
        live::take(&config.camera, &engine)?
    } else {
        photos::take(&args.photos, &engine)
    };
    owner::for_good();
    let digest = engine.embedder_digest();
    // Mapped ones as well: nobody shall be enrolled a second time under another name.
    let space = engine.space().mapped_if(config.models.mapping);
    let mut others = gallery.candidates(&space)?;
    others.retain(|other| !args.similar.contains(&other.person.id));
    let mut looks = Vec::new();
    if let Some(person) = &enrolled {
        let known = &person.lookalikes;
        others.retain(|o| o.person.id != person.id && !known.contains(&o.person.id));
        looks = gallery.looks(&person.id, digest)?;
    }
    let room = MAXIMUM_LOOKS.saturating_sub(enrolled.as_ref().map_or(0, Person::total_looks));
    let admission = Admission { limits, others: &others, enrolled: &looks };
    let resembled = judge(&mut pictures, &gallery, &admission, room)?;

    let looks: Vec<Embedding> = pictures.iter().filter_map(Picture::look).cloned().collect();
    let similar = &args.similar[..];
    let person = match (&enrolled, looks.is_empty()) {
        (_, true) => None,
        (Some(person), _) => Some(gallery.add_looks_similar(
            &person.id,
            similar,
            &looks,
            digest,
            args.consent,
            expires,
        )?),
        (None, _) => {
            let name = args.name.clone();
            let new = NewPerson { name, id: args.id, consent: args.consent, expires };
            Some(gallery.add_similar(new, similar, &looks, digest)?)
        }
    };
    let total = match &person {
        Some(PersonRef { id, .. }) => gallery.person(id)?.total_looks(),
        None => enrolled.as_ref().map_or(0, Person::total_looks),
    };
    let mut pairs = lookalikes(&gallery.enrolments(digest)?);
    pairs.retain(|pair| person.as_ref().is_some_and(|person| pair.people.contains(person)));
    let enrolled = Enrolled::Person(person);
    Report { enrolled, looks: total, pictures, lookalikes: pairs }.print(global.json)?;
    for PersonRef { id, name } in &resembled {
        eprintln!(
            "familiar: is it {name}? `familiar enroll {id} PHOTO…` adds to that person. Are they two people who look \
             alike, both wanted? --similar-to {id} enrols this one as well; then a face is named as either only where \
             it is ahead of the other by {LOOKALIKE:.2}"
        );
    }
    if looks.is_empty() {
        return Err(Failure::NoUsableFace(format!("nothing of {} was accepted", args.name)));
    }
    Ok(())
}

fn limits(engine: &Engine, false_match_rate: f64) -> Result<Limits, Failure> {
    let another = engine.threshold(false_match_rate, 1).map_err(Failure::usage)?;
    let same = engine.threshold(SAME_PERSON_RATE, 1).map_err(Failure::usage)?;
    Ok(Limits { another, same: same.min(another) })
}

/// Refuses, of the pictures that gave a look, those that may not be enrolled. Gives those whom refused ones look like.
fn judge(
    pictures: &mut [Picture],
    gallery: &Gallery,
    admission: &Admission<'_>,
    mut room: usize,
) -> Result<Vec<PersonRef>, Failure> {
    let mut offered: Vec<(&mut Picture, Embedding)> = pictures
        .iter_mut()
        .filter_map(|picture| picture.look().cloned().map(|look| (picture, look)))
        .collect();
    let looks: Vec<Embedding> =
        offered.iter().map(|(_, look)| gallery.probe(look)).collect::<Result<_, _>>()?;
    let sources: Vec<Option<String>> =
        offered.iter().map(|(picture, _)| picture.photo.clone()).collect();
    let outcomes = admission.judge(&looks);
    let mut resembled = Vec::new();
    for ((picture, _), admitted) in offered.iter_mut().zip(outcomes) {
        match admitted {
            Admitted::No(refusal) => {
                picture.outcome = Outcome::refused_admission(&refusal, admission.limits, &sources);
                if let Refusal::LooksLike { person, .. } = refusal
                    && !resembled.contains(&person)
                {
                    resembled.push(person);
                }
            }
            Admitted::Yes if room == 0 => {
                picture.outcome = Outcome::refused(
                    "enough",
                    format!("{MAXIMUM_LOOKS} looks are kept of one face at most"),
                );
            }
            Admitted::Yes => room -= 1,
        }
    }
    Ok(resembled)
}

fn expiry(after: Span) -> Result<Expiry, Failure> {
    let date = Date::now();
    if date.state == ClockState::Unsynchronized {
        eprintln!(
            "familiar: the clock is not synchronised: --expires counts from now while the machine runs, and becomes a \
             date once the clock is right"
        );
    }
    Expiry::after(after.get(), &date, &Uptime::now())
        .ok_or_else(|| Failure::usage("--expires is too far in the future; leave it out for never"))
}

fn consent(text: &str) -> Result<String, String> {
    if text.chars().any(char::is_control) || text.chars().count() > CONSENT_LIMIT {
        return Err(format!("at most {CONSENT_LIMIT} characters and no control characters"));
    }
    Ok(text.to_owned())
}
