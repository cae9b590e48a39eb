//! What became of each picture.

use serde::Serialize;
use serde_json::json;

use crate::cli::Failure;
use crate::cli::people::lookalikes::{Pair, describe};
use crate::cli::people::print_json;
use crate::recognition::gallery::{Limits, LookRefusal, Lookalikes, Refusal};
use crate::recognition::matcher::LOOKALIKE;
use crate::recognition::{Embedding, PersonId, PersonRef};
use crate::system::plain;

pub struct Picture {
    /// As it was given; `None` for a look from the camera.
    pub photo: Option<String>,
    pub outcome: Outcome,
}

impl Picture {
    pub fn look(&self) -> Option<&Embedding> {
        match &self.outcome {
            Outcome::Look(look) => Some(look),
            Outcome::Refused { .. } => None,
        }
    }
}

pub enum Outcome {
    Look(Embedding),
    Refused { reason: &'static str, detail: String },
}

impl Outcome {
    pub fn refused(reason: &'static str, detail: String) -> Self {
        Self::Refused { reason, detail: plain::message(&detail) }
    }

    pub fn refused_look(refusal: &LookRefusal) -> Self {
        let reason = match refusal {
            LookRefusal::NoFace => "no-face",
            LookRefusal::SeveralFaces(_) => "several-faces",
            LookRefusal::Poor(_) => "poor-face",
            LookRefusal::Network(_) => "failed",
        };
        Self::refused(reason, refusal.to_string())
    }

    /// `sources` are the pictures of the looks that were judged.
    pub fn refused_admission(
        refusal: &Refusal,
        limits: Limits,
        sources: &[Option<String>],
    ) -> Self {
        let Limits { another, same } = limits;
        match refusal {
            Refusal::Repeats(None) => {
                Self::refused("repeated", "this look is enrolled already".to_owned())
            }
            Refusal::Repeats(Some(first)) => {
                let first =
                    sources.get(*first).and_then(Option::as_deref).unwrap_or("another look");
                Self::refused("repeated", format!("the same look as {first}"))
            }
            Refusal::LooksLike { person: PersonRef { id, name }, similarity, ahead } => {
                let ahead = ahead.map_or(String::new(), |ahead| {
                    format!(
                        "; nearer to this person's other pictures by {ahead:.3}, and lookalikes need {LOOKALIKE:.3}"
                    )
                });
                let like = format!("looks like {name} ({id}), who is enrolled: similarity");
                Self::refused(
                    "somebody-else",
                    format!("{like} {similarity:.3}, limit {another:.3}{ahead}"),
                )
            }
            Refusal::Outlier { similarity } => Self::refused(
                "does-not-fit",
                format!(
                    "does not fit the person's other looks: similarity {similarity:.3}, {same:.3} needed; is it somebody else?"
                ),
            ),
        }
    }
}

#[derive(Serialize)]
struct Line<'a> {
    photo: Option<&'a str>,
    accepted: bool,
    reason: Option<&'static str>,
    detail: Option<&'a str>,
}

/// What it became, if any picture was accepted.
pub enum Enrolled {
    Person(Option<PersonRef>),
    Anchor(Option<PersonId>),
}

pub struct Report {
    pub enrolled: Enrolled,
    pub looks: usize,
    pub pictures: Vec<Picture>,
    /// Pairs that the person is one of.
    pub lookalikes: Vec<Lookalikes>,
}

impl Report {
    pub fn print(&self, as_json: bool) -> Result<(), Failure> {
        let lines = self.pictures.iter().map(|picture| {
            let (reason, detail) = match &picture.outcome {
                Outcome::Look(_) => (None, None),
                Outcome::Refused { reason, detail } => (Some(*reason), Some(detail.as_str())),
            };
            Line { photo: picture.photo.as_deref(), accepted: reason.is_none(), reason, detail }
        });
        if as_json {
            let pictures: Vec<Line<'_>> = lines.collect();
            let looks = self.looks;
            return print_json(&match &self.enrolled {
                Enrolled::Person(person) => {
                    let lookalikes: Vec<Pair<'_>> =
                        self.lookalikes.iter().map(Pair::from).collect();
                    json!({ "person": person, "looks": looks, "pictures": pictures,
                            "lookalikes": lookalikes })
                }
                Enrolled::Anchor(id) => {
                    json!({ "person": null, "anchor": id, "looks": looks, "pictures": pictures })
                }
            });
        }
        for (number, line) in lines.enumerate() {
            let source = line.photo.map_or(format!("look {}", number + 1), str::to_owned);
            let source = plain::line(&source);
            match line.detail {
                None => println!("{source}: accepted"),
                Some(detail) => println!("{source}: refused: {detail}"),
            }
        }
        match &self.enrolled {
            Enrolled::Person(Some(PersonRef { id, name })) => {
                println!("{name} ({id}): {} looks", self.looks);
            }
            Enrolled::Anchor(Some(id)) => {
                println!("{id}: {} looks, not to be named", self.looks);
            }
            Enrolled::Person(None) | Enrolled::Anchor(None) => {}
        }
        for pair in &self.lookalikes {
            println!("{}", describe(pair));
        }
        Ok(())
    }
}
