//! Whom the pictures are added to.

use crate::cli::Failure;
use crate::recognition::PersonId;
use crate::recognition::gallery::{Person, PersonName};

/// The person of this id; without one, the only person who is called so or has the name as an id, else the only one
/// whose name differs in capitals alone. `None`: somebody new.
pub fn enrolled_before(
    people: &[Person],
    name: &PersonName,
    id: Option<&PersonId>,
) -> Result<Option<Person>, Failure> {
    if let Some(id) = id {
        let found = people.iter().find(|person| &person.id == id);
        return match found {
            Some(person) if person.name != name.as_str() => Err(Failure::failed(format!(
                "{id} is enrolled as {}, not as {name}; `familiar people rename` gives another name",
                person.name
            ))),
            found => Ok(found.cloned()),
        };
    }
    let folded = name.as_str().to_lowercase();
    let exactly = |p: &&Person| p.name == name.as_str() || p.id.as_str() == name.as_str();
    let roughly = |p: &&Person| p.name.to_lowercase() == folded || p.id.as_str() == folded;
    let mut found: Vec<&Person> = people.iter().filter(exactly).collect();
    if found.is_empty() {
        found = people.iter().filter(roughly).collect();
    }
    match found[..] {
        [] => Ok(None),
        [person] => Ok(Some(person.clone())),
        _ => {
            let them: Vec<String> =
                found.iter().map(|p| format!("{} ({})", p.name, p.id)).collect();
            Err(Failure::usage(format!(
                "{name} may be any of {}: --id says which, and a new --id is somebody new",
                them.join(", ")
            )))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn people(them: &[(&str, &str)]) -> Vec<Person> {
        let person = |(id, name): &(&str, &str)| Person {
            id: id.parse().unwrap(),
            name: (*name).to_owned(),
            consent: None,
            enrolled: jiff::Timestamp::UNIX_EPOCH,
            expires: None,
            looks: std::collections::BTreeMap::new(),
            lookalikes: Vec::new(),
        };
        them.iter().map(person).collect()
    }

    fn found(people: &[Person], name: &str, id: Option<&str>) -> Result<Option<String>, String> {
        let id = id.map(|id| id.parse().unwrap());
        enrolled_before(people, &name.parse().unwrap(), id.as_ref())
            .map(|person| person.map(|person| person.id.to_string()))
            .map_err(|failure| failure.to_string())
    }

    #[test]
    fn name_or_id_that_is_enrolled_adds_to_that_person() {
        let people = people(&[("ada", "Ada"), ("person-2", "Zoë Ädel"), ("bob", "Bob")]);
        for name in ["Ada", "ada", "ADA"] {
            assert_eq!(found(&people, name, None), Ok(Some("ada".to_owned())), "{name}");
        }
        for name in ["person-2", "zoë ädel"] {
            assert_eq!(found(&people, name, None), Ok(Some("person-2".to_owned())), "{name}");
        }
        assert_eq!(found(&people, "Adam", None), Ok(None));
        assert_eq!(found(&people, "Ada", Some("ada-2")), Ok(None));
    }

    #[test]
    fn name_of_several_people_is_told_with_their_ids() {
        let them = people(&[("ann", "Ann"), ("ann-2", "Ann"), ("bob", "Cat"), ("cat", "Dan")]);
        let error = found(&them, "Ann", None).unwrap_err();
        assert!(error.starts_with("Ann may be any of Ann (ann), Ann (ann-2): --id"), "{error}");
        assert_eq!(found(&them, "Ann", Some("ann-2")), Ok(Some("ann-2".to_owned())));
        // An id is as good as a name.
        assert_eq!(found(&them, "ann-2", None), Ok(Some("ann-2".to_owned())));
        let error = found(&them, "Cat", None);
        assert_eq!(error, Ok(Some("bob".to_owned())));
        let error = found(&them, "cat", Some("bob")).unwrap_err();
        assert!(error.contains("bob is enrolled as Cat"), "{error}");
        let error = found(&people(&[("a", "ANN"), ("b", "Ann")]), "ann", None).unwrap_err();
        assert!(error.contains("ANN (a), Ann (b)"), "{error}");
    }
}
