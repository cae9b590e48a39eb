//! The enrolled people in one file for another device, sealed under a recovery passphrase.
//!
//! ```text
//! magic       16 bytes   "familiar people\0"
//! version      u16       1; 2 where there are negative anchors, 3 where there are lookalikes, so that a program that
//!                        knows none refuses it
//! iterations   u32       of PBKDF2-HMAC-SHA-256 (RFC 8018), 600,000 as OWASP's Password Storage Cheat Sheet asks
//! salt        16 bytes   random
//! nonce       12 bytes   random; the key seals this file alone
//! sealed                 AES-256-GCM, all of the above being associated data; ends with the tag
//! ```
//!
//! Sealed are: the time (i64, milliseconds since 1970), how many people and anchors (u32), and of each the length of a
//! JSON record (u32), the record, how many looks (u16), and of each the length (u32) of a record as in the
//! gallery, whose values are the embedding itself. Numbers are little-endian.
//!
//! The looks lose this device's transform, for the other device has its own. So the file is as secret as the
//! passphrase is good. Its length tells about how many looks it holds.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use jiff::Timestamp;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::pbkdf2;
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::lookalike::pairs;
use super::record::{self, LookRecord, PersonRecord, Profile};
use super::{Gallery, GalleryError, MAXIMUM_LOOKS, MAXIMUM_PEOPLE, PersonName, enrolled};
use crate::recognition::{Embedding, PersonId, PersonRef, Space};
use crate::system::clock::{Date, Uptime};

const MAGIC: &[u8; 16] = b"familiar people\0";
const VERSION: u16 = 1;
const WITH_ANCHORS: u16 = 2;
const NEWEST: u16 = 3;
const ITERATIONS: u32 = 600_000;
/// A file may ask for as much work as this, some seconds of it.
const MOST_ITERATIONS: u32 = 10_000_000;
const SALT: usize = 16;
const HEADER: usize = MAGIC.len() + 2 + 4 + SALT + NONCE_LEN;
/// Largest file that is written or read, in bytes: about 120,000 looks of 512 numbers.
pub const BACKUP_LIMIT: usize = 256 << 20;
/// Shortest passphrase, in characters; six words of a Diceware list have more.
const SHORTEST: usize = 12;
/// Longest `consent` and digest that are believed, in characters.
const LONGEST: usize = 500;

/// What a backup is sealed with.
pub struct Passphrase(Zeroizing<Vec<u8>>);

/// Why a backup was not made or not restored; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error(
        "the passphrase is not UTF-8 text of at least {SHORTEST} characters; take six random words"
    )]
    Passphrase,
    #[error("not a backup of people")]
    NotABackup,
    #[error("a backup of version {found}; this program knows versions {VERSION} to {NEWEST}")]
    Version { found: u16 },
    #[error(
        "the backup asks for {0} iterations, which is not within {ITERATIONS} to {MOST_ITERATIONS}"
    )]
    Iterations(u32),
    #[error("larger than {} MiB", BACKUP_LIMIT >> 20)]
    TooLarge,
    #[error("it does not open: another passphrase, or the file is cut or altered")]
    Sealed,
    #[error("its content is not sound: {0}")]
    Content(&'static str),
    #[error(
        "{looks} templates of {people} people are of another model ({embedder}) than this device's and would match \
         nothing; take the same bundle, enrol anew, or leave them out (--usable-only)"
    )]
    Foreign { looks: usize, people: usize, embedder: String },
    #[error("enrolled here already, or still being erased: {}; leave them as they are by --skip-existing, or forget them first", list(.0))]
    Exists(Vec<PersonId>),
    #[error(transparent)]
    Gallery(#[from] GalleryError),
}

impl BackupError {
    /// A seal or a policy did not hold (exit code 3).
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Gallery(error) => error.is_refusal(),
            Self::Passphrase => false,
            _ => true,
        }
    }
}

/// People out of a file whose seal held and whose content was checked. Only [`Backup::open`] makes one.
pub struct Backup {
    pub made: Timestamp,
    pub(super) people: Vec<Saved>,
}

pub(super) struct Saved {
    /// Of a person or an anchor.
    pub(super) record: PersonRecord,
    looks: Vec<Look>,
}

impl Saved {
    fn profile(&self) -> Option<&Profile> {
        match &self.record {
            PersonRecord::Enrolled(profile) => Some(profile),
            _ => None,
        }
    }
}

/// The content of a backup before it is sealed.
struct Plain {
    text: Zeroizing<Vec<u8>>,
    /// How many people, anchors not counted.
    people: usize,
    version: u16,
}

struct Look {
    embedder: String,
    added: Timestamp,
    embedding: Embedding,
}

/// How to restore.
#[derive(Debug, Clone)]
pub struct Restore<'a> {
    /// This device's: templates that are neither of it nor can be mapped into it are refused.
    pub space: &'a Space,
    /// Leave people alone who are enrolled here already, instead of refusing the file.
    pub skip_existing: bool,
    /// Leave templates of other embedders out, and people who have no other, instead of refusing the file.
    pub usable_only: bool,
}

/// What became of the people of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Restored {
    pub people: Vec<PersonRef>,
    /// Negative anchors that were restored; of those left out the ids are among the following.
    pub anchors: Vec<PersonId>,
    /// Enrolled here already, and left as they are.
    pub existing: Vec<PersonId>,
    /// Whose time is over.
    pub expired: Vec<PersonId>,
    /// With templates of other embedders only.
    pub unusable: Vec<PersonId>,
}

impl Passphrase {
    /// Text; the line's end does not count.
    pub fn new(text: &[u8]) -> Result<Self, BackupError> {
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let long = str::from_utf8(text).is_ok_and(|text| text.chars().count() >= SHORTEST);
        if !long {
            return Err(BackupError::Passphrase);
        }
        Ok(Self(Zeroizing::new(text.to_vec())))
    }

    fn key(&self, iterations: NonZeroU32, salt: &[u8]) -> Result<LessSafeKey, BackupError> {
        let mut key = Zeroizing::new([0_u8; 32]);
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, &self.0, key.as_mut());
        let key = UnboundKey::new(&AES_256_GCM, key.as_ref()).map_err(|_| BackupError::Sealed)?;
        Ok(LessSafeKey::new(key))
    }
}

impl Gallery {
    /// Everybody enrolled and all anchors, as the bytes of a backup file, and how many people they are.
    pub fn backup(&self, passphrase: &Passphrase) -> Result<(Vec<u8>, usize), BackupError> {
        let Plain { text, people, version } = self.plain()?;
        let length = HEADER + text.len() + AES_256_GCM.tag_len();
        if length > BACKUP_LIMIT {
            return Err(BackupError::TooLarge);
        }
        let mut random = [0; SALT + NONCE_LEN];
        SystemRandom::new().fill(&mut random).map_err(|_| GalleryError::Random)?;
        let (salt, nonce) = random.split_at(SALT);
        let mut file = Vec::with_capacity(length);
        file.extend_from_slice(MAGIC);
        file.extend_from_slice(&version.to_le_bytes());
        file.extend_from_slice(&ITERATIONS.to_le_bytes());
        file.extend_from_slice(&random);
        let header = file.clone();
        file.extend_from_slice(&text);
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| GalleryError::Random)?;
        let iterations = NonZeroU32::new(ITERATIONS).ok_or(BackupError::Iterations(0))?;
        let tag = passphrase
            .key(iterations, salt)?
            .seal_in_place_separate_tag(nonce, Aad::from(header), &mut file[HEADER..])
            .map_err(|_| BackupError::TooLarge)?;
        file.extend_from_slice(tag.as_ref());
        Ok((file, people))
    }

    fn plain(&self) -> Result<Plain, GalleryError> {
        let uptime = Uptime::now();
        let (pieces, people, anchors, version) = self.store.read(|tables| {
            let mut pieces: Vec<Zeroizing<Vec<u8>>> = Vec::new();
            let (mut people, mut anchors, mut version) = (0, 0, VERSION);
            let mut all_looks = tables.all_looks()?;
            for (row, record) in tables.people()? {
                match record {
                    PersonRecord::Enrolled(_) => people += 1,
                    PersonRecord::Anchor(_) => anchors += 1,
                    PersonRecord::Erasing { .. } => continue,
                }
                version = version.max(version_for(&record));
                let looks = all_looks.remove(&row).unwrap_or_default();
                let record = record
                    .expiring(|end| end.noted(&uptime))
                    .encode()
                    .map_err(|_| GalleryError::Damaged { what: "a person's record" })?;
                pieces.push(Zeroizing::new((record.len() as u32).to_le_bytes().to_vec()));
                pieces.push(record);
                pieces.push(Zeroizing::new((looks.len() as u16).to_le_bytes().to_vec()));
                for look in looks {
                    let embedding = tables.key.transform().reveal(&look.template)?;
                    let look = record::encode_look(&look.embedder, look.added, embedding.values());
                    pieces.push(Zeroizing::new((look.len() as u32).to_le_bytes().to_vec()));
                    pieces.push(look);
                }
            }
            Ok((pieces, people, anchors, version))
        })?;
        // Room for the whole from the start: growing would leave copies behind that nothing wipes.
        let length = 12 + pieces.iter().map(|piece| piece.len()).sum::<usize>();
        let mut text = Zeroizing::new(Vec::with_capacity(length));
        text.extend_from_slice(&Timestamp::now().as_millisecond().to_le_bytes());
        text.extend_from_slice(&((people + anchors) as u32).to_le_bytes());
        for piece in &pieces {
            text.extend_from_slice(piece);
        }
        Ok(Plain { text, people, version })
    }

    /// Enrols the people of a backup, their looks under this gallery's own transform: all that are to be, in one
    /// transaction, or none.
    pub fn restore(&mut self, backup: Backup, how: &Restore<'_>) -> Result<Restored, BackupError> {
        let (date, uptime) = (Date::now(), Uptime::now());
        refuse_foreign(&backup, how)?;
        let mut existing = Vec::new();
        let restored = self.store.write(|tables| {
            let mut taken: BTreeSet<PersonId> =
                tables.people()?.iter().map(|(_, record)| record.id().clone()).collect();
            let mut restored = Restored::default();
            let mut rows = BTreeSet::new();
            let mut pairs = pairs(backup.people.iter().filter_map(Saved::profile));
            for Saved { record, looks } in backup.people {
                let id = record.id().clone();
                let record = record.expiring(|end| end.carried_over(&date, &uptime));
                let looks: Vec<Look> =
                    looks.into_iter().filter(|look| !is_foreign(look, how)).collect();
                if record.expires().is_some_and(|end| end.is_over(date.time, &uptime)) {
                    restored.expired.push(id);
                } else if taken.contains(&id) {
                    restored.existing.push(id);
                } else if looks.is_empty() {
                    restored.unusable.push(id);
                } else {
                    if taken.len() >= MAXIMUM_PEOPLE {
                        return Err(GalleryError::Full);
                    }
                    taken.insert(id.clone());
                    match &record {
                        PersonRecord::Enrolled(profile) => {
                            restored.people.push(PersonRef { id, name: profile.name.clone() });
                        }
                        _ => restored.anchors.push(id),
                    }
                    let row = tables.insert_person(&record)?;
                    rows.insert(row);
                    for Look { embedder, added, embedding } in looks {
                        let template = tables.key.transform().protect(&embedding)?;
                        tables.insert_look(row, &LookRecord { embedder, added, template })?;
                    }
                }
            }
            // Whichever record of the pair said so: the other person may have been enrolled here already, or not at all.
            let enrolled = enrolled(tables)?;
            let known: BTreeSet<PersonId> = enrolled.iter().map(|(_, p)| p.id.clone()).collect();
            for (row, mut profile) in enrolled.into_iter().filter(|(row, _)| rows.contains(row)) {
                let mut similar = pairs.remove(&profile.id).unwrap_or_default();
                similar.retain(|other| known.contains(other));
                if similar != profile.similar {
                    profile.similar = similar;
                    tables.replace_person(row, &PersonRecord::Enrolled(profile))?;
                }
            }
            if !restored.existing.is_empty() && !how.skip_existing {
                // Undoes the transaction; the error that is told is made of the ids.
                existing.clone_from(&restored.existing);
                return Err(GalleryError::NoLooks);
            }
            Ok(restored)
        });
        if !existing.is_empty() {
            return Err(BackupError::Exists(existing));
        }
        Ok(restored?)
    }
}

/// The first version that knows what this record holds.
fn version_for(record: &PersonRecord) -> u16 {
    let paired = matches!(record, PersonRecord::Enrolled(profile) if !profile.similar.is_empty());
    if paired || record.expires().is_some_and(|end| end.date().is_none()) {
        NEWEST
    } else if matches!(record, PersonRecord::Anchor(_)) {
        WITH_ANCHORS
    } else {
        VERSION
    }
}

fn is_foreign(look: &Look, how: &Restore<'_>) -> bool {
    !how.space.takes(&look.embedder)
}

fn refuse_foreign(backup: &Backup, how: &Restore<'_>) -> Result<(), BackupError> {
    let foreign = |person: &&Saved| person.looks.iter().any(|look| is_foreign(look, how));
    let people = backup.people.iter().filter(foreign).count();
    let looks = backup.people.iter().flat_map(|person| &person.looks);
    let mut looks = looks.filter(|look| is_foreign(look, how)).peekable();
    match looks.peek() {
        Some(first) if !how.usable_only => {
            let embedder = first.embedder.clone();
            Err(BackupError::Foreign { looks: looks.count(), people, embedder })
        }
        _ => Ok(()),
    }
}

impl Backup {
    /// Opens the bytes of a file and checks all that is in them. Nothing of them is parsed before their seal
    /// held but the header.
    pub fn open(file: &[u8], passphrase: &Passphrase) -> Result<Self, BackupError> {
        if file.len() > BACKUP_LIMIT {
            return Err(BackupError::TooLarge);
        }
        let Some((header, sealed)) = file.split_at_checked(HEADER) else {
            return Err(BackupError::NotABackup);
        };
        let mut reader = Reader(header);
        if reader.take(MAGIC.len()) != Some(MAGIC) {
            return Err(BackupError::NotABackup);
        }
        let version = reader.number().map(u16::from_le_bytes).ok_or(BackupError::NotABackup)?;
        if !(VERSION..=NEWEST).contains(&version) {
            return Err(BackupError::Version { found: version });
        }
        let iterations = reader.number().map(u32::from_le_bytes).ok_or(BackupError::NotABackup)?;
        let allowed = NonZeroU32::new(iterations)
            .filter(|number| (ITERATIONS..=MOST_ITERATIONS).contains(&number.get()))
            .ok_or(BackupError::Iterations(iterations))?;
        let (salt, nonce) = reader.0.split_at(SALT); // HEADER counts them
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| BackupError::NotABackup)?;
        let mut plain = Zeroizing::new(sealed.to_vec());
        let length = passphrase
            .key(allowed, salt)?
            .open_in_place(nonce, Aad::from(header), &mut plain)
            .map_err(|_| BackupError::Sealed)?
            .len();
        Self::parse(&plain[..length]).and_then(Self::check)
    }

    /// People and anchors.
    pub fn len(&self) -> usize {
        self.people.len()
    }

    pub fn is_empty(&self) -> bool {
        self.people.is_empty()
    }

    pub(crate) fn parse(plain: &[u8]) -> Result<Self, BackupError> {
        let cut = || BackupError::Content("it ends early");
        let mut reader = Reader(plain);
        let made = reader.number().map(i64::from_le_bytes).ok_or_else(cut)?;
        let made =
            Timestamp::from_millisecond(made).map_err(|_| BackupError::Content("its time"))?;
        let count = reader.number().map(u32::from_le_bytes).ok_or_else(cut)?;
        if count as usize > MAXIMUM_PEOPLE {
            return Err(BackupError::Content("too many people"));
        }
        let mut people = Vec::new();
        for _ in 0..count {
            let record = reader.piece().and_then(PersonRecord::decode);
            let Some(record @ (PersonRecord::Enrolled(_) | PersonRecord::Anchor(_))) = record
            else {
                return Err(BackupError::Content("a person's profile"));
            };
            let looks = reader.number().map(u16::from_le_bytes).ok_or_else(cut)?;
            if !(1..=MAXIMUM_LOOKS).contains(&usize::from(looks)) {
                return Err(BackupError::Content("the number of a person's looks"));
            }
            let looks = (0..looks)
                .map(|_| {
                    let (embedder, added, embedding) = LookRecord::parse(reader.piece()?)?;
                    Some(Look { embedder, added, embedding })
                })
                .collect::<Option<_>>()
                .ok_or(BackupError::Content("a look"))?;
            people.push(Saved { record, looks });
        }
        if !reader.0.is_empty() {
            return Err(BackupError::Content("something after its end"));
        }
        Ok(Self { made, people })
    }

    /// What enrolling would not have let in does not come in by this door.
    pub(crate) fn check(self) -> Result<Self, BackupError> {
        let text =
            |text: &str| !text.chars().any(char::is_control) && text.chars().count() <= LONGEST;
        let mut ids = BTreeSet::new();
        for Saved { record, looks } in &self.people {
            if !ids.insert(record.id()) {
                return Err(BackupError::Content("a person twice"));
            }
            if let PersonRecord::Enrolled(profile) = record {
                if profile.name.parse::<PersonName>().is_err() {
                    return Err(BackupError::Content("a name"));
                }
                if profile.similar.len() > MAXIMUM_PEOPLE || profile.similar.contains(&profile.id) {
                    return Err(BackupError::Content("a lookalike"));
                }
            }
            if !record.consent().is_none_or(text) {
                return Err(BackupError::Content("a consent"));
            }
            if !looks.iter().all(|look| text(&look.embedder)) {
                return Err(BackupError::Content("the digest of a model"));
            }
        }
        Ok(self)
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn piece(&mut self) -> Option<&'a [u8]> {
        let length = u32::from_le_bytes(self.number()?);
        self.take(length as usize)
    }
}

fn list(ids: &[PersonId]) -> String {
    let shown: Vec<&str> = ids.iter().take(5).map(PersonId::as_str).collect();
    let more = ids.len() - shown.len();
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{rest}", shown.join(", "))
}

#[cfg(test)]
mod tests;
