//! What somebody may have meant who wrote a name that there is not.

/// The candidate that differs by so few letters that it is a likely slip, or that goes on where the name ends;
/// none where that would be a guess.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .filter_map(|candidate| Some((distance(name, candidate)?, candidate)))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// In letters changed, left out, added or swapped; `None` if the two are not alike.
fn distance(name: &str, candidate: &str) -> Option<usize> {
    let distance = strsim::damerau_levenshtein(name, candidate);
    let longer = name.chars().count().max(candidate.chars().count());
    if distance * 3 <= longer {
        return Some(distance);
    }
    // `user` for `username`; two letters begin too many words.
    let begins = |whole: &str, part: &str| part.chars().count() >= 4 && whole.starts_with(part);
    (begins(candidate, name) || begins(name, candidate)).then_some(distance)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    /// Holds CLI-02.
    #[test]
    fn slips_are_found_and_nothing_is_guessed() {
        let keys = ["url", "allow_plaintext", "username", "ca", "cert", "key", "prefix"];
        for (written, meant) in [
            ("usernme", Some("username")),
            ("user", Some("username")),
            ("perfix", Some("prefix")),
            ("certs", Some("cert")),
            ("allow-plaintext", Some("allow_plaintext")),
            ("password", None),
            ("port", None),
            ("host", None),
            ("x", None),
        ] {
            assert_eq!(nearest(written, keys), meant, "{written}");
        }
    }
}
