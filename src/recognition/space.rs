//! Embedding spaces: what a network's embeddings may be compared with, and ways from one space into another.
//!
//! A look belongs to the space of the network that made it, and is compared within that alone. A bundle may bring
//! mappings into its own space, so that people need not be enrolled again when a model takes over. What is stored
//! stays what it was: a look is mapped each time the gallery is read, so the model before still finds its own
//! templates after a rollback, and nothing is ever mapped twice.

use std::sync::Arc;

use super::Embedding;

/// The embedding space of a model, and the spaces whose templates it can take over.
#[derive(Debug, Clone)]
pub struct Space {
    digest: String,
    mappings: Vec<Arc<Mapping>>,
}

/// How many looks of somebody a model can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usable {
    Native(usize),
    /// None of its own, but so many that are mapped into its space.
    Mapped(usize),
    /// All are of spaces it knows nothing of: enrol again.
    None,
}

impl Usable {
    /// How many can be compared.
    pub fn looks(self) -> usize {
        match self {
            Self::Native(looks) | Self::Mapped(looks) => looks,
            Self::None => 0,
        }
    }
}

impl Space {
    /// `digest`: what the gallery binds looks to, see [`crate::model::Engine::embedder_digest`].
    pub fn new(digest: impl Into<String>) -> Self {
        Self { digest: digest.into(), mappings: Vec::new() }
    }

    /// The first of two mappings from one space counts.
    #[must_use]
    pub fn with_mappings(mut self, mappings: Vec<Mapping>) -> Self {
        self.mappings = mappings.into_iter().map(Arc::new).collect();
        self
    }

    /// As the operator wants it: with the bundle's mappings or without.
    #[must_use]
    pub fn mapped_if(&self, wanted: bool) -> Self {
        if wanted { self.clone() } else { Self::new(&*self.digest) }
    }

    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Whether looks of the space with this digest can be compared in this one, as they are or mapped.
    pub fn takes(&self, digest: &str) -> bool {
        digest == self.digest || self.mappings.iter().any(|mapping| mapping.from == digest)
    }

    /// Which of somebody's looks are compared: those of this space, else those of the one space that the bundle
    /// maps first. Means of mapped and native looks would be neither. `looks_of`: how many there are by the digest
    /// of their space. Gives that digest, and the mapping where it is another's.
    pub fn source(&self, looks_of: impl Fn(&str) -> usize) -> Option<(&str, Option<&Mapping>)> {
        if looks_of(&self.digest) > 0 {
            return Some((&self.digest, None));
        }
        let mapping = self.mappings.iter().find(|mapping| looks_of(&mapping.from) > 0)?;
        Some((&mapping.from, Some(mapping)))
    }

    pub fn usable(&self, looks_of: impl Fn(&str) -> usize) -> Usable {
        match self.source(&looks_of) {
            Some((digest, None)) => Usable::Native(looks_of(digest)),
            Some((digest, Some(_))) => Usable::Mapped(looks_of(digest)),
            None => Usable::None,
        }
    }
}

/// An affine way from one embedding space into another: the direction of A x + b, x being a unit vector.
///
/// Networks trained apart for the same task differ by little more than a linear map (McNeely-White et al., "Canonical
/// Face Embeddings", IEEE T-BIOM 4(2), 2022, fit a rotation); the offset serves networks that differ by their centre.
#[derive(Clone)]
pub struct Mapping {
    from: String,
    /// Row by row: one row for each dimension of the target.
    matrix: Vec<f32>,
    offset: Vec<f32>,
    reserve: f32,
}

#[derive(Debug, PartialEq, thiserror::Error)]
pub enum MappingError {
    #[error("has {found} bytes; a mapping of {from} to {to} dimensions has {expected}")]
    Length { found: usize, expected: usize, from: usize, to: usize },
    #[error("holds a number that is none")]
    NotFinite,
}

impl Mapping {
    /// `bytes`: the matrix row by row (`to` rows of `columns` numbers), then the offset (`to` numbers), float32,
    /// little-endian. `from`: the digest of the space it leads out of. `reserve`: cosine, at least 0; what a mapped
    /// template must be nearer than a native one, so that the false match rate stays what the bundle says.
    pub fn parse(
        bytes: &[u8],
        from: impl Into<String>,
        columns: usize,
        to: usize,
        reserve: f32,
    ) -> Result<Self, MappingError> {
        let expected = columns.saturating_add(1).saturating_mul(to).saturating_mul(4);
        if bytes.len() != expected {
            let found = bytes.len();
            return Err(MappingError::Length { found, expected, from: columns, to });
        }
        let (words, _) = bytes.as_chunks::<4>();
        let mut matrix: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
        if !matrix.iter().all(|value| value.is_finite()) {
            return Err(MappingError::NotFinite);
        }
        let offset = matrix.split_off(columns * to);
        Ok(Self { from: from.into(), matrix, offset, reserve })
    }

    /// Cosine to add to the threshold of a mapped template.
    pub fn reserve(&self) -> f32 {
        self.reserve
    }

    /// A look in the target space; `None` if it is of another length than the mapping's, or leads nowhere.
    pub fn map(&self, look: &Embedding) -> Option<Embedding> {
        let columns = look.values().len();
        if columns == 0 || columns * self.offset.len() != self.matrix.len() {
            return None;
        }
        let rows = self.matrix.chunks_exact(columns).zip(&self.offset).map(|(row, offset)| {
            let product = row.iter().zip(look.values()).map(|(a, x)| f64::from(*a) * f64::from(*x));
            (product.sum::<f64>() + f64::from(*offset)) as f32
        });
        Embedding::normalized(rows.collect())
    }
}

impl std::fmt::Debug for Mapping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mapping(from {}, to {}-D)", self.from, self.offset.len())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn bytes(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    /// x, y to -y, x, 0 and then away by 1 along the third axis.
    fn quarter_turn() -> Mapping {
        let values = [0.0, -1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0];
        Mapping::parse(&bytes(&values), "old", 2, 3, 0.1).unwrap()
    }

    #[test]
    fn looks_are_turned_moved_and_made_unit_vectors() {
        let look = Embedding::normalized(vec![1.0, 0.0]).unwrap();
        let mapped = quarter_turn().map(&look).unwrap();
        let half = 0.5_f32.sqrt();
        let expected = Embedding::normalized(vec![0.0, half, half]).unwrap();
        assert!(mapped.similarity(&expected) > 0.999_999, "{:?}", mapped.values());
    }

    #[test]
    fn mapping_of_another_size_maps_nothing() {
        let look = Embedding::normalized(vec![1.0, 0.0, 0.0]).unwrap();
        assert_eq!(quarter_turn().map(&look), None);
    }

    #[test]
    fn look_that_is_mapped_to_nothing_is_left_out() {
        let projection = Mapping::parse(&bytes(&[1.0, 0.0, 0.0]), "old", 2, 1, 0.0).unwrap();
        let look = Embedding::normalized(vec![0.0, 1.0]).unwrap();
        assert_eq!(projection.map(&look), None);
    }

    #[test]
    fn file_of_the_wrong_length_or_without_numbers_is_refused() {
        let parse = |values: &[f32]| Mapping::parse(&bytes(values), "old", 2, 1, 0.0).err();
        let length = MappingError::Length { found: 8, expected: 12, from: 2, to: 1 };
        assert_eq!(parse(&[1.0, 0.0]), Some(length));
        assert!(parse(&[1.0; 4]).is_some());
        assert_eq!(parse(&[1.0, f32::NAN, 0.0]), Some(MappingError::NotFinite));
        assert_eq!(parse(&[1.0, 0.0, f32::INFINITY]), Some(MappingError::NotFinite));
        let beyond = Mapping::parse(&[], "old", usize::MAX, usize::MAX, 0.0);
        assert!(matches!(beyond, Err(MappingError::Length { .. })));
    }

    #[test]
    fn native_looks_go_before_mapped_ones_and_others_are_never_used() {
        let space = Space::new("new").with_mappings(vec![quarter_turn()]);
        let looks = |native: usize, old: usize, other: usize| {
            move |digest: &str| match digest {
                "new" => native,
                "old" => old,
                _ => other,
            }
        };
        assert_eq!(space.usable(looks(1, 3, 5)), Usable::Native(1));
        assert_eq!(space.usable(looks(0, 3, 5)), Usable::Mapped(3));
        assert_eq!(space.usable(looks(0, 0, 5)), Usable::None);
        assert_eq!(space.mapped_if(false).usable(looks(0, 3, 5)), Usable::None);
    }
}
