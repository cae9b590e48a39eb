//! Lookalikes in words and in JSON.

use serde::Serialize;

use crate::recognition::PersonRef;
use crate::recognition::gallery::{Cost, Lookalikes};
use crate::recognition::matcher::LOOKALIKE;

#[derive(Serialize)]
pub struct Pair<'a> {
    people: &'a [PersonRef; 2],
    similarity: f64,
    /// How far ahead of the other a face must be to be named.
    margin: f64,
    /// Own looks of each that could be judged, and those of them that would not be named.
    looks: [usize; 2],
    within: [usize; 2],
}

impl<'a> From<&'a Lookalikes> for Pair<'a> {
    fn from(pair: &'a Lookalikes) -> Self {
        Self {
            people: &pair.people,
            similarity: super::rounded(pair.similarity),
            margin: super::rounded(LOOKALIKE),
            looks: pair.cost.map(|cost| cost.looks),
            within: pair.cost.map(|cost| cost.within),
        }
    }
}

pub fn describe(pair: &Lookalikes) -> String {
    let Lookalikes { people: [one, other], similarity, cost } = pair;
    let [first, second] =
        [(one, cost[0]), (other, cost[1])].map(|(person, cost)| costs(person, cost));
    format!(
        "{} ({}) and {} ({}) look alike: similarity {similarity:.3} of their means; a face is named as either only \
         where it is ahead of the other by {LOOKALIKE:.2}: {first}, {second}",
        one.name, one.id, other.name, other.id
    )
}

fn costs(person: &PersonRef, cost: Cost) -> String {
    let Cost { looks, within } = cost;
    let name = &person.name;
    match looks {
        0 => format!("{name} has one look, which tells nothing of it"),
        _ => format!("of {name}'s own {looks} looks {within} would get no name"),
    }
}
