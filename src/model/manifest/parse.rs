//! From bytes to a manifest in which every figure makes sense.

use std::collections::BTreeSet;
use std::path::Path;

use super::super::excerpt::excerpt;
use super::{Calibration, Crop, Input, Manifest, Mapping, Version};

/// Longest side of a network's input, in pixels.
const SIDE_LIMIT: u32 = 4096;
/// Longest embedding.
const DIMENSIONS_LIMIT: usize = 8192;
/// Most spaces a bundle may map from.
const MAPPINGS_LIMIT: usize = 8;
/// Most looks a calibration table may be for; as many as the configuration allows to pool.
const LOOKS_LIMIT: usize = 16;

/// What is wrong with a `bundle.toml`.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("it is not UTF-8")]
    Encoding,
    #[error("line {line}: {message}")]
    Toml { line: usize, message: String },
    #[error("its format is {0}; this version reads format 1")]
    Format(u32),
    #[error("`{key}` {why}")]
    Value { key: &'static str, why: String },
    #[error("it needs familiar {needed} or newer; this is {ours}")]
    TooOld { needed: String, ours: &'static str },
}

impl Manifest {
    /// Parses and checks a `bundle.toml`.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let text = std::str::from_utf8(bytes).map_err(|_| ManifestError::Encoding)?;
        let manifest: Self = toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            ManifestError::Toml {
                line: before.matches('\n').count() + 1,
                message: excerpt(error.message()),
            }
        })?;
        manifest.check()?;
        Ok(manifest)
    }

    /// The files of all networks.
    pub fn models(&self) -> impl Iterator<Item = &str> {
        [&self.embedder.file, &self.detector.file]
            .into_iter()
            .chain(self.liveness.iter().map(|liveness| &liveness.file))
            .map(String::as_str)
    }

    /// All files that the manifest names.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.models().chain(self.mapping.iter().map(|mapping| mapping.file.as_str()))
    }

    fn check(&self) -> Result<(), ManifestError> {
        if self.format != 1 {
            return Err(ManifestError::Format(self.format));
        }
        ensure(is_name(&self.name), "name", || {
            format!("{:?} is not 1 to 64 of a-z, 0-9, _ and -", self.name)
        })?;
        parse_version("version", &self.version)?;
        let ours = env!("CARGO_PKG_VERSION");
        if parse_version("minimum_daemon", &self.minimum_daemon)? > parse_version("version", ours)?
        {
            return Err(ManifestError::TooOld { needed: self.minimum_daemon.clone(), ours });
        }
        ensure((1..=1024).contains(&self.licence.len()), "licence", || {
            "is not 1 to 1024 bytes long".to_owned()
        })?;
        let mut seen = BTreeSet::new();
        for file in self.models() {
            let onnx = Path::new(file).extension().is_some_and(|extension| extension == "onnx");
            ensure(onnx && !file.contains('/'), "file", || {
                format!("{file:?} is not the name of an .onnx file in the bundle")
            })?;
            ensure(seen.insert(file), "file", || format!("{file:?} stands for two networks"))?;
        }
        self.check_networks()?;
        self.check_mappings()?;
        self.check_calibration()
    }

    fn check_networks(&self) -> Result<(), ManifestError> {
        let embedder = &self.embedder;
        embedder.input.check("embedder.input")?;
        embedder.crop.check()?;
        ensure(
            (1..=DIMENSIONS_LIMIT).contains(&embedder.dimensions),
            "embedder.dimensions",
            || format!("is {}, not within 1 to {DIMENSIONS_LIMIT}", embedder.dimensions),
        )?;
        if let Some(space) = &embedder.space {
            ensure(is_name(space), "embedder.space", || {
                format!("{space:?} is not 1 to 64 of a-z, 0-9, _ and -")
            })?;
        }
        let detector = &self.detector;
        detector.input.check("detector.input")?;
        within("detector.score_threshold", detector.score_threshold, 0.0, 1.0)?;
        within("detector.overlap_threshold", detector.overlap_threshold, 0.0, 1.0)?;
        ensure(self.liveness.len() <= 8, "liveness", || {
            format!("has {} networks, more than 8", self.liveness.len())
        })?;
        for liveness in &self.liveness {
            liveness.input.check("liveness.input")?;
            within("liveness.crop_scale", liveness.crop_scale, 0.1, 10.0)?;
            ensure(liveness.live_class < 1000, "liveness.live_class", || {
                format!("is {}, not below 1000", liveness.live_class)
            })?;
        }
        if let Some(decision) = self.liveness_decision {
            // At 0 every picture would pass, beyond 1 nobody.
            let threshold = decision.threshold;
            ensure(threshold > 0.0 && threshold <= 1.0, "liveness_decision.threshold", || {
                format!("is {threshold}, not above 0 and up to 1")
            })?;
            ensure(!self.liveness.is_empty(), "liveness_decision", || {
                "is given, but no liveness network".to_owned()
            })?;
        }
        Ok(())
    }

    fn check_mappings(&self) -> Result<(), ManifestError> {
        ensure(self.mapping.len() <= MAPPINGS_LIMIT, "mapping", || {
            format!("is given {} times, more than {MAPPINGS_LIMIT}", self.mapping.len())
        })?;
        let (mut spaces, mut files) = <(BTreeSet<&str>, BTreeSet<&str>)>::default();
        for mapping in &self.mapping {
            let Mapping { from, file, dimensions, reserve, pairs } = mapping;
            ensure(is_name(from) || is_digest(from), "mapping.from", || {
                format!(
                    "{from:?} is neither the name of a space nor sha256: and 64 hexadecimal digits"
                )
            })?;
            ensure(spaces.insert(from), "mapping.from", || format!("{from:?} stands twice"))?;
            let own = file.strip_suffix(".bin").is_some_and(is_name);
            ensure(own && file != "selftest.bin", "mapping.file", || {
                format!("{file:?} is not the name of a .bin file of its own in the bundle")
            })?;
            ensure(files.insert(file), "mapping.file", || format!("{file:?} stands twice"))?;
            ensure((1..=DIMENSIONS_LIMIT).contains(dimensions), "mapping.dimensions", || {
                format!("is {dimensions}, not within 1 to {DIMENSIONS_LIMIT}")
            })?;
            within("mapping.reserve", *reserve, 0.0, 2.0)?;
            ensure(*pairs > 0, "mapping.pairs", || "is 0".to_owned())?;
        }
        Ok(())
    }

    fn check_calibration(&self) -> Result<(), ManifestError> {
        ensure(!self.calibration.is_empty(), "calibration", || "has no table".to_owned())?;
        let mut seen = BTreeSet::new();
        for table in &self.calibration {
            table.check()?;
            ensure(seen.insert(table.looks), "calibration.looks", || {
                format!("= {} has two tables", table.looks)
            })?;
        }
        ensure(seen.contains(&1), "calibration.looks", || {
            "= 1 has no table; single looks are compared at enrolment".to_owned()
        })
    }
}

impl Input {
    fn check(&self, key: &'static str) -> Result<(), ManifestError> {
        let side = 1..=SIDE_LIMIT;
        ensure(side.contains(&self.width) && side.contains(&self.height), key, || {
            format!("is {} x {}, not within 1 to {SIDE_LIMIT}", self.width, self.height)
        })?;
        ensure(self.mean.iter().all(|mean| (-1e6..=1e6).contains(mean)), key, || {
            format!("has a mean of {:?}", self.mean)
        })?;
        ensure(self.scale.iter().all(|scale| scale.is_normal() && scale.abs() <= 1e6), key, || {
            format!("has a scale of {:?}", self.scale)
        })
    }
}

impl Crop {
    fn check(&self) -> Result<(), ManifestError> {
        match self {
            Self::Box { margin } => within("embedder.crop.margin", *margin, 0.0, 4.0),
            Self::Square { scale } => within("embedder.crop.scale", *scale, 0.1, 10.0),
            Self::FivePoint { template } => {
                let inside = template.iter().flatten().all(|point| (-1.0..=2.0).contains(point));
                let apart = |[x, y]: [f32; 2], [u, v]: [f32; 2]| (x - u).hypot(y - v) > 0.01;
                let spread = template.iter().any(|point| apart(*point, template[0]));
                ensure(inside && spread, "embedder.crop.template", || {
                    "does not place five points on the input".to_owned()
                })
            }
        }
    }
}

impl Calibration {
    fn check(&self) -> Result<(), ManifestError> {
        ensure((1..=LOOKS_LIMIT).contains(&self.looks), "calibration.looks", || {
            format!("is {}, not within 1 to {LOOKS_LIMIT}", self.looks)
        })?;
        ensure(self.pairs > 0, "calibration.pairs", || "is 0".to_owned())?;
        ensure(!self.points.is_empty(), "calibration.points", || {
            format!("is empty for {} looks", self.looks)
        })?;
        for point in &self.points {
            let rate = point.false_match_rate;
            ensure(rate > 0.0 && rate < 1.0, "calibration.points.false_match_rate", || {
                format!("is {rate}, not between 0 and 1")
            })?;
            within("calibration.points.similarity", point.similarity, -1.0, 1.0)?;
        }
        let ordered = self.points.is_sorted_by(|a, b| {
            a.false_match_rate > b.false_match_rate && a.similarity < b.similarity
        });
        ensure(ordered, "calibration.points", || {
            format!(
                "for {} looks do not run from often and unlike to seldom and alike: each rate below \
                 the one before, each similarity above it",
                self.looks
            )
        })
    }
}

fn parse_version(key: &'static str, text: &str) -> Result<Version, ManifestError> {
    text.parse().map_err(|why| ManifestError::Value { key, why })
}

fn is_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    (1..=64).contains(&text.len()) && text.chars().all(allowed)
}

fn is_digest(text: &str) -> bool {
    let hexadecimal = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    text.strip_prefix("sha256:")
        .is_some_and(|digits| digits.len() == 64 && digits.chars().all(hexadecimal))
}

fn within(key: &'static str, value: f32, low: f32, high: f32) -> Result<(), ManifestError> {
    ensure((low..=high).contains(&value), key, || format!("is {value}, not within {low} to {high}"))
}

fn ensure(
    holds: bool,
    key: &'static str,
    why: impl FnOnce() -> String,
) -> Result<(), ManifestError> {
    if holds { Ok(()) } else { Err(ManifestError::Value { key, why: why() }) }
}
