//! `familiar enroll`: add a person, or looks to one enrolled before; or a face that is nobody.

mod live;
mod not;
mod photos;
mod report;

use std::path::PathBuf;

use super::people::open;
use super::{Failure, Global, engine};
use crate::config::Span;
use crate::model::Engine;
use crate::recognition::gallery::{
    Admission, Admitted, Expiry, Gallery, Limits, MAXIMUM_LOOKS, NewPerson, Person, PersonName,
};
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

/// Refused is a picture that cannot be read, shows no face, a poor one or several (a second face counts from a
/// quarter of the largest one's area on), looks like somebody else already enrolled, does not fit the
/// person's other pictures, or was enrolled before. Only embeddings are kept, never a picture.
///
/// With --json: {"person":{"id","name"}|null,"looks","pictures":[{"photo","accepted","reason","detail"}]};
/// `looks` counts all the person has, `photo` is null with --live, `reason` one of unreadable, no-face,
/// several-faces, poor-face, somebody-else, does-not-fit, repeated, enough, failed, or null.
///
/// --not keeps a face that must never be taken for a person: a portrait on the wall, a doll, a neighbour who looks
/// like somebody enrolled (whose consent you need as anybody's). Whoever is as near to it as to the nearest person
/// is a stranger. It has an id (`not-1`, …) and no name; `familiar people` lists it apart from people, `familiar
/// forget ID` erases it. All its pictures must be of one face. With --json: {"person":null,"anchor":ID|null,
/// "looks","pictures"}.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What the person is called, 1 to 64 characters
    #[arg(required_unless_present = "not", conflicts_with = "not")]
    name: Option<PersonName>,
    /// JPEG, PNG or WebP pictures of the person
    #[arg(value_name = "PHOTO", required_unless_present_any = ["live", "not"], conflicts_with = "live")]
    photos: Vec<PathBuf>,
    /// Take the looks from the configured camera
    #[arg(long)]
    live: bool,
    /// Keep a face that must never be taken for a person, from these pictures or --live
    #[arg(long, value_name = "PHOTO", num_args = 0..)]
    not: Option<Vec<PathBuf>>,
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
    let Args { name, photos, live, not, id, consent, expires } = args;
    match (name, not) {
        (_, Some(photos)) => not::run(global, not::New { photos, live, id, consent, expires }),
        (Some(name), None) => person(global, Wanted { name, photos, live, id, consent, expires }),
        (None, None) => Err(Failure::usage("whom? `familiar enroll NAME PHOTO…`")), // clap refuses it
    }
}

/// What is asked for of a person.
struct Wanted {
    name: PersonName,
    photos: Vec<PathBuf>,
    live: bool,
    id: Option<PersonId>,
    consent: Option<String>,
    expires: Option<Span>,
}

fn person(global: &Global, args: Wanted) -> Result<(), Failure> {
    let config = global.located()?.config;
    let expires = args.expires.map(expiry).transpose()?;
    let mut gallery = open()?;
    let enrolled = enrolled_before(&gallery, &args)?;
    let engine = engine::open(global)?;
    let limits = limits(&engine, config.recognition.false_match_rate)?;

    let mut pictures = if args.live {
        live::take(&config.camera, &engine)?
    } else {
        photos::take(&args.photos, &engine)
    };
    owner::for_good();
    let digest = engine.embedder_digest();
    // Mapped ones as well: nobody shall be enrolled a second time under another name.
    let space = engine.space().mapped_if(config.models.mapping);
    let mut others = gallery.candidates(&space)?;
    let mut looks = Vec::new();
    if let Some(person) = &enrolled {
        others.retain(|other| other.person.id != person.id);
        looks = gallery.looks(&person.id, digest)?;
    }
    let room = MAXIMUM_LOOKS.saturating_sub(enrolled.as_ref().map_or(0, Person::total_looks));
    let admission = Admission { limits, others: &others, enrolled: &looks };
    judge(&mut pictures, &gallery, &admission, room)?;

    let looks: Vec<Embedding> = pictures.iter().filter_map(Picture::look).cloned().collect();
    let person = match (&enrolled, looks.is_empty()) {
        (_, true) => None,
        (Some(person), _) => {
            Some(gallery.add_looks(&person.id, &looks, digest, args.consent, expires)?)
        }
        (None, _) => {
            let name = args.name.clone();
            let new = NewPerson { name, id: args.id, consent: args.consent, expires };
            Some(gallery.add(new, &looks, digest)?)
        }
    };
    let total = match &person {
        Some(PersonRef { id, .. }) => gallery.person(id)?.total_looks(),
        None => enrolled.as_ref().map_or(0, Person::total_looks),
    };
    Report { enrolled: Enrolled::Person(person), looks: total, pictures }.print(global.json)?;
    if looks.is_empty() {
        return Err(Failure::NoUsableFace(format!("nothing of {} was accepted", args.name)));
    }
    Ok(())
}

/// Whom to add the looks to: the person of this id, else the only one of this name.
fn enrolled_before(gallery: &Gallery, args: &Wanted) -> Result<Option<Person>, Failure> {
    let people = gallery.people()?;
    let named = |person: &&Person| person.name == args.name.as_str();
    if let Some(id) = &args.id {
        let found = people.into_iter().find(|person| &person.id == id);
        return match found {
            Some(person) if !named(&&person) => Err(Failure::failed(format!(
                "{id} is enrolled as {}, not as {}; `familiar people rename` gives another name",
                person.name, args.name
            ))),
            found => Ok(found),
        };
    }
    let mut found = people.iter().filter(named);
    match (found.next(), found.next()) {
        (first, None) => Ok(first.cloned()),
        (_, Some(_)) => Err(Failure::usage(format!(
            "several people are called {}; say which with --id (`familiar people` lists them)",
            args.name
        ))),
    }
}

fn limits(engine: &Engine, false_match_rate: f64) -> Result<Limits, Failure> {
    let another = engine.threshold(false_match_rate, 1).map_err(Failure::usage)?;
    let same = engine.threshold(SAME_PERSON_RATE, 1).map_err(Failure::usage)?;
    Ok(Limits { another, same: same.min(another) })
}

/// Refuses, of the pictures that gave a look, those that may not be enrolled.
fn judge(
    pictures: &mut [Picture],
    gallery: &Gallery,
    admission: &Admission<'_>,
    mut room: usize,
) -> Result<(), Failure> {
    let mut offered: Vec<(&mut Picture, Embedding)> = pictures
        .iter_mut()
        .filter_map(|picture| picture.look().cloned().map(|look| (picture, look)))
        .collect();
    let looks: Vec<Embedding> =
        offered.iter().map(|(_, look)| gallery.probe(look)).collect::<Result<_, _>>()?;
    let sources: Vec<Option<String>> =
        offered.iter().map(|(picture, _)| picture.photo.clone()).collect();
    let outcomes = admission.judge(&looks);
    for ((picture, _), admitted) in offered.iter_mut().zip(outcomes) {
        match admitted {
            Admitted::No(refusal) => {
                picture.outcome = Outcome::refused_admission(&refusal, admission.limits, &sources);
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
    Ok(())
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
