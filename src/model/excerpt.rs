//! Words of an untrusted file in an error message: short, and without control characters.

/// Longest excerpt, in characters.
const LIMIT: usize = 160;

pub(super) fn excerpt(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let mut short: String = text.chars().take(LIMIT).map(plain).collect();
    if text.chars().nth(LIMIT).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::excerpt;

    #[test]
    fn a_message_keeps_to_its_line() {
        assert_eq!(excerpt("a\n\x1b[2Jb"), "a  [2Jb");
        assert_eq!(excerpt(&"x".repeat(100_000)).chars().count(), 161);
    }
}
