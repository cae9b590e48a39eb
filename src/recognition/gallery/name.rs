//! What people are called, and the ids made from it.

use unicode_normalization::UnicodeNormalization;

use super::GalleryError;
use crate::recognition::PersonId;
use crate::system::plain::is_layout;

const LONGEST: usize = 64;

/// A person's name: 1 to 64 characters, none of them a control character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersonName(String);

impl PersonName {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id made from the name, in Latin letters: `Zoë Müller` → `zoe-muller`, `王小明` → `wang-xiao-ming`; `person`
    /// for a name that has no letters, such as one of dashes.
    fn slug(&self) -> String {
        let mut slug = String::new();
        for c in deunicode::deunicode_with_tofu(&self.0, "-").chars() {
            match c.to_ascii_lowercase() {
                c if c.is_ascii_alphanumeric() || c == '_' => slug.push(c),
                '\'' | '.' => {}
                _ if slug.is_empty() || slug.ends_with('-') => {}
                _ => slug.push('-'),
            }
        }
        slug.truncate(LONGEST);
        match slug.trim_end_matches('-') {
            "" => "person".to_owned(),
            slug => slug.to_owned(),
        }
    }

    /// The first of `slug`, `slug-2`, `slug-3`, … that is not taken.
    pub(super) fn free_id(&self, taken: impl Fn(&PersonId) -> bool) -> PersonId {
        let slug = self.slug();
        let mut number = 1_u64;
        loop {
            let suffix = if number == 1 { String::new() } else { format!("-{number}") };
            let stem = &slug[..slug.len().min(LONGEST - suffix.len())]; // ASCII
            if let Ok(id) = PersonId::try_from(format!("{stem}{suffix}"))
                && !taken(&id)
            {
                return id;
            }
            number += 1;
        }
    }
}

impl std::str::FromStr for PersonName {
    type Err = GalleryError;

    fn from_str(name: &str) -> Result<Self, GalleryError> {
        let name: String = name.trim().nfc().collect();
        let length = name.chars().count();
        // A name must not alter the text about it.
        if name.chars().any(|c| c.is_control() || is_layout(c)) {
            Err(GalleryError::Name(format!("name {name:?} holds a control character")))
        } else if (1..=LONGEST).contains(&length) {
            Ok(Self(name))
        } else {
            Err(GalleryError::Name(format!(
                "a name has 1 to {LONGEST} characters, this one has {length}"
            )))
        }
    }
}

impl From<PersonName> for String {
    fn from(name: PersonName) -> Self {
        name.0
    }
}

impl std::fmt::Display for PersonName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn slug(name: &str) -> String {
        name.parse::<PersonName>().unwrap().slug()
    }

    #[test]
    fn ids_from_names() {
        assert_eq!(slug("Ann"), "ann");
        assert_eq!(slug("  Zoë  Müller "), "zoe-muller");
        assert_eq!(slug("Łukasz Strauß-Søndergård"), "lukasz-strauss-sondergard");
        assert_eq!(slug("Miles O'Brien Jr."), "miles-obrien-jr");
        assert_eq!(slug("e\u{301}va"), "eva");
        assert_eq!(slug("Ægir Þór Đặng"), "aegir-thor-dang");
        assert_eq!(slug("Ann\u{2019}s Björk"), "anns-bjork");
        assert_eq!(slug("-- +/# --"), "person");
        assert_eq!(slug(&"w".repeat(64)).len(), 64);
    }

    /// Holds HAS-07.
    #[test]
    fn names_in_other_scripts_get_latin_ids() {
        for (name, id) in [
            ("王小明", "wang-xiao-ming"),
            ("さくら", "sakura"),
            ("김민준", "gimminjun"),
            ("Юлия Иванова", "iuliia-ivanova"),
            ("Γιώργος", "giorgos"),
            ("محمد", "mhmd"),
            ("דוד", "dvd"),
            ("राम", "raam"),
            ("Ａｎｎ", "ann"),
            ("🦉", "owl"),
        ] {
            assert_eq!(slug(name), id, "{name}");
        }
        // Whatever a name is made of, its id is one.
        for first in (0x21..0x2_0000).step_by(7).filter_map(char::from_u32) {
            let Ok(name) = format!("{first}").parse::<PersonName>() else { continue };
            let id = name.free_id(|_| false);
            assert!(
                !id.as_str().starts_with('-') && !id.as_str().ends_with('-'),
                "{first:?}: {id}"
            );
        }
    }

    #[test]
    fn two_names_of_one_spelling_get_a_number() {
        let mut taken: Vec<PersonId> = Vec::new();
        for name in ["Zoë", "Zoe", "Зое", "ζοε"] {
            let id = name.parse::<PersonName>().unwrap().free_id(|id| taken.contains(id));
            taken.push(id);
        }
        let taken: Vec<&str> = taken.iter().map(PersonId::as_str).collect();
        assert_eq!(taken, ["zoe", "zoe-2", "zoe-3", "zoe-4"]);
    }

    #[test]
    fn ids_are_unique() {
        let name: PersonName = "w".repeat(64).parse().unwrap();
        let mut taken: Vec<PersonId> = Vec::new();
        for _ in 0..12 {
            let id = name.free_id(|id| taken.contains(id));
            assert!(!taken.contains(&id));
            taken.push(id);
        }
        assert!(taken[11].as_str().ends_with("w-12"), "{}", taken[11]);
        assert_eq!(taken[11].as_str().len(), 64);
    }

    #[test]
    fn unfit_names_refused() {
        for name in ["", "  ", "a\nb", "a\u{1b}[31mb", "a\u{202e}b", "a\u{85}b", &"w".repeat(65)] {
            assert!(name.parse::<PersonName>().is_err(), "{name:?}");
        }
    }
}
