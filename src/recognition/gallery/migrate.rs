//! From the formats before to this one: templates that are protected, and records that an older version refuses.

use rusqlite::params;
use zeroize::Zeroizing;

use super::GalleryError;
use super::record::LookRecord;
use super::seal::Place;
use super::store::Tables;

/// Format 1, whose looks are embeddings as the network gave them.
pub(super) const PLAIN: i64 = 1;
/// Format 2: looks are turned, and there are no anchors.
pub(super) const TURNED: i64 = 2;
/// A store that was made format 2 of format 1, and whose file may still hold deleted records of that.
pub(super) const TURNED_WIPE_DUE: i64 = -2;
/// Format 3: there are no lookalikes.
pub(super) const WITHOUT_LOOKALIKES: i64 = 3;
/// A store of format 3 whose file may still hold deleted records.
pub(super) const WITHOUT_LOOKALIKES_WIPE_DUE: i64 = -3;
/// Of this format, but the file may still hold deleted records. No format: only this version passes over it.
pub(super) const WIPE_DUE: i64 = -4;

/// Seals every record anew for this format, looks turned by the gallery's transform; all in the caller's
/// transaction. `found` is the file's `user_version`.
pub(super) fn to_this_format(tables: &Tables<'_>, found: i64) -> Result<(), GalleryError> {
    let before = found.abs();
    tables.check_census_as(before)?;
    let open = |place, sealed: &[u8], what| {
        tables.key.open_as(before, place, sealed).ok_or(GalleryError::Damaged { what })
    };
    for (row, _, sealed) in rows(tables, "SELECT row, row, sealed FROM person")? {
        let place = Place::Person { row };
        let record = open(place, &sealed, "a person's record")?;
        let sealed = tables.key.seal(place, &record)?;
        tables
            .connection
            .execute("UPDATE person SET sealed = ?2 WHERE row = ?1", params![row, sealed])?;
    }
    let mut looks = 0;
    for (row, person, sealed) in rows(tables, "SELECT row, person, sealed FROM look")? {
        let place = Place::Look { row, person };
        let record = open(place, &sealed, "a template")?;
        let record = if before == PLAIN { protected(tables, &record)? } else { record };
        let sealed = tables.key.seal(place, &record)?;
        tables
            .connection
            .execute("UPDATE look SET sealed = ?2 WHERE row = ?1", params![row, sealed])?;
        looks += 1;
    }
    tables.take_census()?;
    if before == PLAIN {
        log::info!(
            "the gallery's {looks} templates are protected by this device's own transform now"
        );
    }
    Ok(())
}

fn protected(tables: &Tables<'_>, record: &[u8]) -> Result<Zeroizing<Vec<u8>>, GalleryError> {
    let (embedder, added, embedding) =
        LookRecord::parse(record).ok_or(GalleryError::Damaged { what: "a template" })?;
    let template = tables.key.transform().protect(&embedding)?;
    Ok(LookRecord { embedder, added, template }.encode())
}

type Row = (i64, i64, Zeroizing<Vec<u8>>);

fn rows(tables: &Tables<'_>, query: &str) -> Result<Vec<Row>, GalleryError> {
    let mut statement = tables.connection.prepare(query)?;
    let rows = statement.query_map([], |row| {
        Ok((row.get(0)?, row.get(1)?, Zeroizing::new(row.get::<_, Vec<u8>>(2)?)))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
