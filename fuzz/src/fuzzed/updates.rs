//! What a repository of updates gives.

use familiar::untrusted;

/// An archive, before anything in it is believed: plain names, and no more than went in.
pub fn archive(bytes: &[u8]) {
    let Ok(files) = untrusted::archive(bytes) else { return };
    assert!(files.values().map(Vec::len).sum::<usize>() <= bytes.len());
    for name in files.keys() {
        assert!(!name.contains('/') && !["", ".", ".."].contains(&name.as_str()), "{name:?}");
    }
}

/// Metadata: what is signed is canonical, so that it has one form alone.
pub fn metadata(bytes: &[u8]) {
    let Ok(message) = untrusted::metadata(bytes) else { return };
    assert!(!message.is_empty() && message.starts_with(b"{"));
    // Itself the content of a file of the same kind, it comes out as it went in; but control characters, which stand
    // there as they are, are no JSON.
    if message.iter().any(|byte| *byte < b' ') {
        return;
    }
    let again = [b"{\"signatures\":[],\"signed\":".as_slice(), &message, b"}"].concat();
    assert_eq!(untrusted::metadata(&again), Ok(message));
}
