//! Stored looks as templates of the space that is compared in, mapped where they are of another.

use super::GalleryError;
use super::record::LookRecord;
use super::store::Tables;
use crate::recognition::{Embedding, Space};

/// Somebody's looks as templates of one space.
pub(super) struct Comparable {
    pub looks: Vec<Embedding>,
    /// Cosine that their threshold is higher by.
    pub reserve: f32,
}

/// Those of the space itself, else those that its first mapping knows: never of two spaces together.
pub(super) fn comparable(
    tables: &Tables<'_>,
    space: &Space,
    looks: Vec<LookRecord>,
) -> Result<Comparable, GalleryError> {
    let count = |digest: &str| looks.iter().filter(|look| look.embedder == digest).count();
    let (source, mapping) = match space.source(count) {
        None => return Ok(Comparable { looks: Vec::new(), reserve: 0.0 }),
        Some((source, None)) => {
            return Ok(Comparable { looks: made_by(source, looks), reserve: 0.0 });
        }
        Some((source, Some(mapping))) => (source, mapping),
    };
    let mut mapped = Vec::new();
    for look in looks.iter().filter(|look| look.embedder == source) {
        // The mapping knows nothing of this gallery's rotation: out of it, across, and into it again.
        let transform = tables.key.transform();
        if let Some(look) = mapping.map(&transform.reveal(&look.template)?) {
            mapped.push(transform.probe(&look)?);
        }
    }
    Ok(Comparable { looks: mapped, reserve: mapping.reserve() })
}

pub(super) fn made_by(embedder: &str, looks: Vec<LookRecord>) -> Vec<Embedding> {
    looks
        .into_iter()
        .filter(|look| look.embedder == embedder)
        .map(|look| look.template.into_template())
        .collect()
}
