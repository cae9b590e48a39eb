//! What is fuzzed: one function for each input that others make. It takes any bytes and panics where the code breaks a
//! promise. libFuzzer runs them (`make fuzz`), and `tests/integration/corpora.rs` replays the corpora through the same.

mod keys;
mod messages;
mod pictures;
mod texts;
mod updates;

pub use messages::{command, envelope, model_statement, order, packets, signed_messages};
pub use pictures::{frame, photo, raw, recording};
pub use texts::{backup, boxes, configuration, key_set, manifest, model_signature, pairs, pins};
pub use updates::{archive, metadata};

/// Name, function, and the longest input that is worth trying, in bytes.
pub type Target = (&'static str, fn(&[u8]), usize);

pub const TARGETS: [Target; 20] = [
    ("archive", archive, 4096),
    ("backup", backup, 4096),
    ("boxes", boxes, 2048),
    ("command", command, 2048),
    ("configuration", configuration, 2048),
    ("envelope", envelope, 5000),
    ("frame", frame, 4096),
    ("key_set", key_set, 2048),
    ("manifest", manifest, 4096),
    ("metadata", metadata, 4096),
    ("model_signature", model_signature, 4096),
    ("model_statement", model_statement, 3000),
    ("order", order, 1024),
    ("packets", packets, 2048),
    ("pairs", pairs, 1024),
    ("photo", photo, 4096),
    ("pins", pins, 2048),
    ("raw", raw, 4096),
    ("recording", recording, 4096),
    ("signed_messages", signed_messages, 4096),
];
