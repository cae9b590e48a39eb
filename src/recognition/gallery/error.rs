use std::path::PathBuf;

use crate::recognition::PersonId;
use crate::system::disk;
use crate::system::nearest::nearest;
use crate::system::secret::SecretError;
use crate::system::state::StateDirectory;

/// Why the gallery could not be opened, read or changed. Nothing was lost by it: every change is one
/// transaction.
#[derive(Debug, thiserror::Error)]
pub enum GalleryError {
    #[error("gallery {}: its key is missing; put the secret `gallery-key` back (a systemd credential, or a 0600 file in the state directory). Without it the people must be enrolled anew: move the store away first", .store.display())]
    KeyMissing { store: PathBuf },
    #[error("secret gallery-key: not 32 bytes in base64")]
    KeyMalformed,
    #[error("gallery {}: the secret `gallery-key` is not the key it was made with, or the store is damaged", .store.display())]
    WrongKey { store: PathBuf },
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("gallery {}: {}", .path.display(), disk::told(.path, .source))]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{}", told(.0))]
    Database(#[from] rusqlite::Error),
    #[error("gallery {}: not a gallery, or one of format {found}; this version knows format {known}", .store.display())]
    Format { store: PathBuf, found: i64, known: i64 },
    #[error(
        "gallery.db in the state directory: {what} does not hold: damaged or altered; restore the file from a backup, or move it away and enrol anew"
    )]
    Damaged { what: &'static str },
    #[error("gallery {}: another process keeps it open too long for what was deleted to be wiped; it is repeated at the next start of the daemon, or now by calling `forget` again", .store.display())]
    Busy { store: PathBuf },
    #[error("the system gives no random numbers")]
    Random,
    #[error("nobody is enrolled as {id}{}", suggestion(.nearest.as_ref()))]
    Unknown { id: PersonId, nearest: Option<PersonId> },
    #[error("{0} is enrolled already, or still being erased; choose another --id")]
    IdTaken(PersonId),
    #[error("{0}")]
    Name(String),
    #[error("{0} cannot be their own lookalike; --similar-to names another person")]
    OwnLookalike(PersonId),
    #[error("a person needs at least one look")]
    NoLooks,
    #[error(
        "a person has at most {} looks; forget and enrol anew to replace them",
        super::MAXIMUM_LOOKS
    )]
    TooManyLooks,
    #[error("the gallery holds {} people; no more can be enrolled", super::MAXIMUM_PEOPLE)]
    Full,
}

impl GalleryError {
    /// Nobody has this id; suggests the most similar one there is.
    pub(super) fn unknown(id: &PersonId, known: &[PersonId]) -> Self {
        let nearest = nearest(id.as_str(), known.iter().map(PersonId::as_str));
        let nearest = nearest.and_then(|id| PersonId::try_from(id.to_owned()).ok());
        Self::Unknown { id: id.clone(), nearest }
    }

    /// A key, digest or mode did not hold (exit code 3), as opposed to a failure of the machine.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::KeyMissing { .. }
                | Self::KeyMalformed
                | Self::WrongKey { .. }
                | Self::Damaged { .. }
                | Self::Secret(SecretError::TooOpen { .. })
        )
    }
}

/// With the file's name, by the state directory: most errors of SQLite's do not know theirs.
fn told(error: &rusqlite::Error) -> String {
    let path = StateDirectory::locate().join(super::store::FILE);
    format!("gallery {}: {}", path.display(), disk::told_by_sqlite(&path, error))
}

fn suggestion(nearest: Option<&PersonId>) -> String {
    nearest.map_or_else(String::new, |id| format!("; did you mean {id}?"))
}
