//! From format 1, whose looks are embeddings as the network gave them, to templates that are protected.

use rusqlite::params;
use zeroize::Zeroizing;

use super::GalleryError;
use super::record::LookRecord;
use super::seal::Place;
use super::store::Tables;

/// The format that is migrated.
pub(super) const BEFORE: i64 = 1;
/// Migrated, but the file may still hold deleted records of before. No format: only this passes over it.
pub(super) const WIPE_DUE: i64 = -2;

/// Seals every record anew for this format, the looks turned by the gallery's transform; all in the caller's transaction.
pub(super) fn protect_templates(tables: &Tables<'_>) -> Result<(), GalleryError> {
    tables.check_census_as(BEFORE)?;
    let open = |place, sealed: &[u8], what| {
        tables.key.open_as(BEFORE, place, sealed).ok_or(GalleryError::Damaged { what })
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
        let (embedder, added, embedding) = LookRecord::parse(&open(place, &sealed, "a template")?)
            .ok_or(GalleryError::Damaged { what: "a template" })?;
        let template = tables.key.transform().protect(&embedding)?;
        let record = LookRecord { embedder, added, template }.encode();
        let sealed = tables.key.seal(place, &record)?;
        tables
            .connection
            .execute("UPDATE look SET sealed = ?2 WHERE row = ?1", params![row, sealed])?;
        looks += 1;
    }
    tables.take_census()?;
    log::info!("the gallery's {looks} templates are protected by this device's own transform now");
    Ok(())
}

type Row = (i64, i64, Zeroizing<Vec<u8>>);

fn rows(tables: &Tables<'_>, query: &str) -> Result<Vec<Row>, GalleryError> {
    let mut statement = tables.connection.prepare(query)?;
    let rows = statement.query_map([], |row| {
        Ok((row.get(0)?, row.get(1)?, Zeroizing::new(row.get::<_, Vec<u8>>(2)?)))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
