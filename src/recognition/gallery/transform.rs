//! A secret rotation of the embedding space, another one for each gallery key.
//!
//! What is stored of a face, and every probe it is compared with, is first turned by an orthogonal matrix Q
//! that only this gallery's key gives. Similarities stay what they are, ⟨Qx, Qy⟩ = ⟨x, y⟩, and with them
//! thresholds and calibration. But a template that leaks out of the process without the key matches nobody on
//! another device, and is no input for a model that draws faces from embeddings of the public network: to
//! whoever does not know Q it is a random direction. ISO/IEC 24745 calls this renewable and unlinkable
//! references: a new key makes new ones. It is no second lock: who has the key has Q, and some hundred
//! embeddings of one network known in both forms would give Q away.
//!
//! Q is drawn evenly from all rotations and reflections (the Haar measure) as a product of n Householder
//! reflections of growing size along Gaussian vectors: G. W. Stewart, "The Efficient Generation of Random
//! Orthogonal Matrices with an Application to Condition Estimators", SIAM J. Numer. Anal. 17(3), 1980. The
//! randomness is the ChaCha20 key stream (RFC 8439) under a key that HKDF-SHA-256 (RFC 5869) derives from
//! the gallery's. Devices whose mathematical library rounds otherwise get the same Q to about 1e-15.

use std::collections::BTreeMap;
use std::f64::consts::TAU;
use std::sync::{Arc, Mutex, PoisonError};

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf;
use zeroize::{Zeroize, Zeroizing};

use super::GalleryError;
use crate::recognition::Embedding;
use crate::system::confine::Locked;

/// Longer embeddings are turned in pieces of this length: a rotation takes n²/2 numbers.
const BLOCK: usize = 1024;

/// A template as it is stored: turned. Only a [`Transform`] makes one of an embedding; the store takes
/// nothing else.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Protected(Embedding);

impl Protected {
    /// From a sealed record of the present format, which holds nothing else.
    pub(super) fn stored(embedding: Embedding) -> Self {
        Self(embedding)
    }

    pub(super) fn values(&self) -> &[f32] {
        self.0.values()
    }

    /// To be compared with others of this gallery and with its probes.
    pub(super) fn into_template(self) -> Embedding {
        self.0
    }
}

/// The rotation of one gallery.
pub struct Transform {
    secret: Locked<hkdf::Prk>,
    /// By size; made when first needed.
    rotations: Mutex<BTreeMap<usize, Arc<Rotation>>>,
}

impl std::fmt::Debug for Transform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Transform")
    }
}

impl Transform {
    /// That of the gallery with this key, 32 bytes.
    pub(super) fn of(gallery_key: &[u8]) -> Self {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"familiar gallery: template transform 1");
        Self { secret: Locked::new(salt.extract(gallery_key)), rotations: Mutex::default() }
    }

    /// A look as the gallery's templates can be compared with it: same length, other axes.
    pub fn probe(&self, look: &Embedding) -> Result<Embedding, GalleryError> {
        self.turn(look, Rotation::apply)
    }

    pub(super) fn protect(&self, look: &Embedding) -> Result<Protected, GalleryError> {
        self.probe(look).map(Protected)
    }

    /// The embedding that was protected: for a backup that another device can protect anew, and for a mapping into
    /// another model's space.
    pub(super) fn reveal(&self, template: &Protected) -> Result<Embedding, GalleryError> {
        self.turn(&template.0, Rotation::undo)
    }

    fn turn(
        &self,
        look: &Embedding,
        by: impl Fn(&Rotation, &mut [f64]),
    ) -> Result<Embedding, GalleryError> {
        let mut values: Zeroizing<Vec<f64>> =
            Zeroizing::new(look.values().iter().map(|value| f64::from(*value)).collect());
        for block in values.chunks_mut(BLOCK) {
            by(&*self.rotation(block.len())?, block);
        }
        // Of length 1 as before: it cannot fail.
        Embedding::normalized(values.iter().map(|value| *value as f32).collect())
            .ok_or(GalleryError::Damaged { what: "an embedding" })
    }

    fn rotation(&self, size: usize) -> Result<Arc<Rotation>, GalleryError> {
        let mut rotations = self.rotations.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rotation) = rotations.get(&size) {
            return Ok(rotation.clone());
        }
        let rotation = Arc::new(self.draw(size).map_err(|_| GalleryError::KeyMalformed)?);
        rotations.insert(size, rotation.clone());
        Ok(rotation)
    }

    fn draw(&self, size: usize) -> Result<Rotation, ring::error::Unspecified> {
        let mut key = Zeroizing::new([0_u8; 32]);
        let size_bytes = (size as u64).to_le_bytes();
        self.secret.expand(&[b"rotation", &size_bytes], hkdf::HKDF_SHA256)?.fill(key.as_mut())?;
        let stream = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key.as_ref())?);
        // Two numbers at a time; one may be left over.
        let count = size * (size + 1) / 2;
        let mut bytes = Zeroizing::new(vec![0; count.next_multiple_of(2) * 8]);
        // Zeros sealed are the key stream. This key seals this once.
        let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
        stream.seal_in_place_separate_tag(nonce, Aad::empty(), &mut bytes).map(drop)?;
        Ok(Rotation::of(size, &bytes))
    }
}

/// Reflections of the last 1, 2, … n axes, each along a unit vector; one after the other in one list.
struct Rotation {
    axes: Vec<f64>,
    size: usize,
}

impl Rotation {
    fn of(size: usize, random: &[u8]) -> Self {
        let mut axes = Vec::with_capacity(size * (size + 1) / 2 + 1);
        for bytes in random.as_chunks::<16>().0 {
            axes.extend(gaussian_pair(*bytes));
        }
        axes.truncate(size * (size + 1) / 2);
        let mut rest = axes.as_mut_slice();
        for length in 1..=size {
            let (axis, longer) = rest.split_at_mut(length);
            // The reflection along x/|x| - e₁ takes e₁ to x/|x|, which is evenly distributed on the sphere.
            scale(axis);
            axis[0] -= 1.0;
            scale(axis);
            rest = longer;
        }
        Self { axes, size }
    }

    fn apply(&self, values: &mut [f64]) {
        let mut rest = self.axes.as_slice();
        for length in 1..=self.size {
            let (axis, longer) = rest.split_at(length);
            reflect(&mut values[self.size - length..], axis);
            rest = longer;
        }
    }

    fn undo(&self, values: &mut [f64]) {
        let mut rest = self.axes.as_slice();
        for length in (1..=self.size).rev() {
            let (shorter, axis) = rest.split_at(rest.len() - length);
            reflect(&mut values[self.size - length..], axis);
            rest = shorter;
        }
    }
}

impl Drop for Rotation {
    fn drop(&mut self) {
        self.axes.zeroize();
    }
}

/// x - 2⟨a, x⟩a; nothing for a of length 0.
fn reflect(values: &mut [f64], axis: &[f64]) {
    let along: f64 = 2.0 * values.iter().zip(axis).map(|(value, a)| value * a).sum::<f64>();
    for (value, a) in values.iter_mut().zip(axis) {
        *value -= along * a;
    }
}

/// To length 1; to 0 what has none, as when x is e₁ already.
fn scale(axis: &mut [f64]) {
    let length = axis.iter().map(|a| a * a).sum::<f64>().sqrt();
    let factor = if length > 1e-9 { 1.0 / length } else { 0.0 };
    for a in axis {
        *a *= factor;
    }
}

/// Box and Muller's transform of two numbers evenly distributed in (0, 1).
fn gaussian_pair(bytes: [u8; 16]) -> [f64; 2] {
    let random = u128::from_le_bytes(bytes);
    let even = |bits: u64| ((bits >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    let radius = (-2.0 * even(random as u64).ln()).sqrt();
    let (sin, cos) = (TAU * even((random >> 64) as u64)).sin_cos();
    [radius * cos, radius * sin]
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn look(random: &mut fastrand::Rng, size: usize) -> Embedding {
        Embedding::normalized((0..size).map(|_| random.f32() - 0.5).collect()).unwrap()
    }

    /// A look of the same person.
    fn alike(random: &mut fastrand::Rng, look: &Embedding) -> Embedding {
        let noisy = look.values().iter().map(|v| v + 0.06 * (random.f32() - 0.5)).collect();
        Embedding::normalized(noisy).unwrap()
    }

    fn exact(a: &[f32], b: &[f32]) -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    }

    /// Of the matrix itself, before anything is rounded to what is stored.
    /// Holds GAL-17.
    #[test]
    fn rotation_is_orthogonal() {
        let transform = Transform::of(&[7; 32]);
        for size in [1, 2, 3, 128, 512] {
            let rotation = transform.rotation(size).unwrap();
            let columns: Vec<Vec<f64>> = (0..size)
                .map(|axis| {
                    let mut column = vec![0.0; size];
                    column[axis] = 1.0;
                    rotation.apply(&mut column);
                    column
                })
                .collect();
            let mut worst = 0.0_f64;
            for (i, a) in columns.iter().enumerate() {
                for (j, b) in columns.iter().enumerate().skip(i) {
                    let product: f64 = a.iter().zip(b).map(|(a, b)| a * b).sum();
                    worst = worst.max((product - f64::from(u8::from(i == j))).abs());
                }
            }
            assert!(worst < 1e-12, "{size}: {worst}");
            let mut back = columns[0].clone();
            rotation.undo(&mut back);
            assert!((back[0] - 1.0).abs() < 1e-12);
        }
    }

    /// Entries of an evenly drawn orthogonal matrix have mean 0 and variance 1/n; its diagonal betrays nothing.
    #[test]
    fn rotation_leaves_no_axis_where_it_was() {
        let size = 512;
        let rotation = Transform::of(&[9; 32]).rotation(size).unwrap();
        let (mut trace, mut largest) = (0.0_f64, 0.0_f64);
        for axis in 0..size {
            let mut column = vec![0.0; size];
            column[axis] = 1.0;
            rotation.apply(&mut column);
            trace += column[axis];
            largest = column.iter().fold(largest, |most, value| most.max(value.abs()));
        }
        // The trace of such a matrix is a standard normal number (Diaconis and Mallows).
        assert!(trace.abs() < 5.0, "{trace}");
        assert!(largest < 0.3, "{largest}"); // 6.8 standard deviations
    }

    /// Holds GAL-18.
    #[test]
    fn similarities_stay_to_1e_6() {
        let transform = Transform::of(&[1; 32]);
        let mut random = fastrand::Rng::with_seed(3);
        let (mut stored, mut computed) = (0.0_f64, 0.0_f64);
        for size in [2, 128, 512, 1500] {
            for _ in 0..if size == 512 { 500 } else { 20 } {
                let a = look(&mut random, size);
                for b in [alike(&mut random, &a), look(&mut random, size)] {
                    let (pa, pb) = (transform.probe(&a).unwrap(), transform.protect(&b).unwrap());
                    let truth = exact(a.values(), b.values());
                    stored = stored.max((exact(pa.values(), pb.values()) - truth).abs());
                    let similarity = f64::from(pa.similarity(&pb.into_template()));
                    computed = computed.max((similarity - f64::from(a.similarity(&b))).abs());
                }
            }
        }
        println!("largest difference: {stored:.2e} of what is stored, {computed:.2e} as compared");
        assert!(stored < 1e-6 && computed < 1e-6, "{stored} {computed}");
    }

    /// The same person on two devices: as far from each other as strangers are, by the theory of two random
    /// directions in 512 dimensions (standard deviation of the cosine 1/√512 = 0.0442).
    /// Holds GAL-19.
    #[test]
    fn templates_of_two_devices_do_not_correlate() {
        let (here, there) = (Transform::of(&[1; 32]), Transform::of(&[2; 32]));
        let mut random = fastrand::Rng::with_seed(4);
        let count = 2000;
        let (mut sum, mut squares, mut most, mut with_public) = (0.0, 0.0, 0.0_f64, 0.0);
        for _ in 0..count {
            let a = look(&mut random, 512);
            let b = alike(&mut random, &a);
            assert!(a.similarity(&b) > 0.7);
            let a_here = here.protect(&a).unwrap();
            let cosine = exact(a_here.values(), there.protect(&b).unwrap().values());
            sum += cosine;
            squares += cosine * cosine;
            most = most.max(cosine.abs());
            with_public += exact(a_here.values(), b.values()).powi(2);
        }
        let mean = sum / f64::from(count);
        let root = |squares: f64| (squares / f64::from(count)).sqrt();
        println!(
            "mean {mean:.5}, root mean square {:.4}, most {most:.3}; against the public space {:.4}",
            root(squares),
            root(with_public)
        );
        assert!(mean.abs() < 0.005, "{mean}");
        for spread in [root(squares), root(with_public)] {
            assert!((spread - 512_f64.sqrt().recip()).abs() < 0.004, "{spread}");
        }
        assert!(most < 0.3, "{most}");
    }

    #[test]
    fn same_key_same_rotation_and_back() {
        let mut random = fastrand::Rng::with_seed(5);
        for size in [1, 3, 512, 1025] {
            let look = look(&mut random, size);
            let once = Transform::of(&[3; 32]).protect(&look).unwrap();
            let again = Transform::of(&[3; 32]);
            assert_eq!(again.protect(&look).unwrap(), once);
            let back = again.reveal(&once).unwrap();
            let differ = |(a, b): (&f32, &f32)| (a - b).abs() > 1e-6;
            assert!(!back.values().iter().zip(look.values()).any(differ), "{size}");
        }
    }

    /// A device that changed its mind would recognise nobody: this key gives these numbers for ever. They were
    /// computed by an implementation of its own in Python, from RFC 5869, RFC 8439 and the description above.
    /// Holds GAL-17.
    #[test]
    #[allow(clippy::unreadable_literal, clippy::excessive_precision)] // as they were computed elsewhere
    fn rotation_never_changes() {
        let axis = Embedding::normalized([vec![1.0], vec![0.0; 7]].concat()).unwrap();
        let turned = Transform::of(&[5; 32]).probe(&axis).unwrap();
        let expected: [f32; 8] = [
            0.7331425, 0.2049265, 0.4064317, -0.0800293, -0.4596507, -0.1586210, 0.1099970,
            0.0194170,
        ];
        for (value, expected) in turned.values().iter().zip(expected) {
            assert!((value - expected).abs() < 1e-6, "{turned:?} {:?}", turned.values());
        }
    }
}
