//! Embeddings: a face as a point on the unit sphere.

use zeroize::Zeroize;

/// A unit vector (512-D for FaceNet). Wiped from memory when dropped; never logged.
#[derive(Clone, PartialEq)]
pub struct Embedding(Vec<f32>);

impl Embedding {
    /// Scales `values` to length 1; `None` if it is empty, of length zero or not finite.
    pub fn normalized(mut values: Vec<f32>) -> Option<Self> {
        let length = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        if !(length.is_finite() && length > 1e-12) {
            values.zeroize();
            return None;
        }
        for value in &mut values {
            *value = (f64::from(*value) / length) as f32;
        }
        Some(Self(values))
    }

    /// The normalised mean of some embeddings of one size ("pooled look"); `None` if there is none.
    pub fn pooled<'a>(looks: impl IntoIterator<Item = &'a Self>) -> Option<Self> {
        let mut looks = looks.into_iter();
        let mut sum = looks.next()?.0.clone();
        for look in looks {
            if look.0.len() != sum.len() {
                return None;
            }
            for (total, value) in sum.iter_mut().zip(&look.0) {
                *total += value;
            }
        }
        Self::normalized(sum)
    }

    /// Cosine similarity, -1 to 1; 0 between embeddings of different sizes. Summed up in f64, so that turning both
    /// changes it by less than 1e-6.
    pub fn similarity(&self, other: &Self) -> f32 {
        if self.0.len() != other.0.len() {
            return 0.0;
        }
        self.0.iter().zip(&other.0).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() as f32
    }

    pub fn values(&self) -> &[f32] {
        &self.0
    }
}

impl Drop for Embedding {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl std::fmt::Debug for Embedding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Embedding({}-D)", self.0.len())
    }
}
