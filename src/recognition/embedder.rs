//! A face in a frame becomes an embedding.

use image::RgbImage;

use super::Embedding;
use crate::face::{DetectedFace, crop};
use crate::model::bundle::VerifiedModel;
use crate::model::manifest;
use crate::model::network::{Network, NetworkError};
use crate::system::confine;

/// An embedding network with the crop it was calibrated for.
pub struct Embedder {
    network: Network,
    crop: manifest::Crop,
    dimensions: usize,
}

impl Embedder {
    pub fn load(model: VerifiedModel, manifest: &manifest::Embedder) -> Result<Self, NetworkError> {
        let manifest::Distance::Cosine = manifest.distance;
        Ok(Self {
            network: Network::load(model, &manifest.input)?,
            crop: manifest.crop.clone(),
            dimensions: manifest.dimensions,
        })
    }

    /// The embedding of one face of a frame.
    pub fn embed(&self, frame: &RgbImage, face: &DetectedFace) -> Result<Embedding, NetworkError> {
        let mut cut = self.cut(frame, face);
        let look = self.embed_crop(&cut);
        confine::wipe(&mut cut);
        look
    }

    /// The face as the network will see it.
    pub fn cut(&self, frame: &RgbImage, face: &DetectedFace) -> RgbImage {
        let input = self.network.input();
        crop(frame, face, &self.crop, input.width, input.height)
    }

    /// The embedding of a picture of exactly the network's input size.
    pub fn embed_crop(&self, picture: &RgbImage) -> Result<Embedding, NetworkError> {
        let mut outputs = self.network.run(picture)?;
        let values = outputs.iter_mut().next().map(|output| std::mem::take(&mut output.values));
        let values = values.unwrap_or_default();
        let found = values.len();
        if found == self.dimensions
            && let Some(embedding) = Embedding::normalized(values)
        {
            return Ok(embedding);
        }
        Err(NetworkError::Output {
            wanted: format!("{} finite values, not all 0", self.dimensions),
            found: format!("{found} values"),
        })
    }

    /// Another crop than the bundle's, to measure it; thresholds then do not hold.
    #[must_use]
    pub fn with_crop(mut self, crop: manifest::Crop) -> Self {
        self.crop = crop;
        self
    }
}
