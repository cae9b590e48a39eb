//! How long detection, embedding and liveness take, measured around the networks as they run.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use image::RgbImage;
use serde::Serialize;

use crate::face::DetectedFace;
use crate::model::Engine;
use crate::model::network::NetworkError;
use crate::recognition::Embedding;
use crate::recognition::gallery::Transform;
use crate::recognition::watch::Eyes;

/// Runs that are remembered of each stage.
const REMEMBERED: usize = 128;

/// The last runs of each stage.
#[derive(Debug, Default)]
pub struct Latency {
    detect: RefCell<VecDeque<Duration>>,
    embed: RefCell<VecDeque<Duration>>,
    liveness: RefCell<VecDeque<Duration>>,
}

/// Of the last runs, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Quantiles {
    pub p50: f64,
    pub p95: f64,
}

/// The engine with a watch on its time; its looks are turned as the gallery's templates are.
pub struct Timed<'a> {
    pub engine: &'a Engine,
    pub transform: &'a Transform,
    pub latency: &'a Latency,
}

impl Eyes for Timed<'_> {
    type Error = NetworkError;

    fn detect(&self, image: &RgbImage) -> Result<Vec<DetectedFace>, NetworkError> {
        timed(&self.latency.detect, || self.engine.detect(image))
    }

    fn embed(&self, image: &RgbImage, face: &DetectedFace) -> Result<Embedding, NetworkError> {
        timed(&self.latency.embed, || {
            let look = self.engine.embed(image, face)?;
            self.transform.probe(&look).map_err(|error| NetworkError::Output {
                wanted: "an embedding that can be turned".to_owned(),
                found: error.to_string(),
            })
        })
    }

    fn liveness(&self, image: &RgbImage, face: &DetectedFace) -> Result<Option<f32>, NetworkError> {
        timed(&self.latency.liveness, || Eyes::liveness(self.engine, image, face))
    }
}

impl Latency {
    pub fn detect(&self) -> Option<Quantiles> {
        quantiles(&self.detect.borrow())
    }

    pub fn embed(&self) -> Option<Quantiles> {
        quantiles(&self.embed.borrow())
    }

    pub fn liveness(&self) -> Option<Quantiles> {
        quantiles(&self.liveness.borrow())
    }
}

fn timed<T>(runs: &RefCell<VecDeque<Duration>>, work: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let result = work();
    let mut runs = runs.borrow_mut();
    if runs.len() == REMEMBERED {
        runs.pop_front();
    }
    runs.push_back(began.elapsed());
    result
}

/// By nearest rank.
pub(super) fn quantiles(runs: &VecDeque<Duration>) -> Option<Quantiles> {
    let mut sorted: Vec<Duration> = runs.iter().copied().collect();
    sorted.sort_unstable();
    let last = sorted.len().checked_sub(1)?;
    let at = |share: f64| {
        let milliseconds = sorted[(share * last as f64).round() as usize].as_secs_f64() * 1e3;
        (milliseconds * 10.0).round() / 10.0
    };
    Some(Quantiles { p50: at(0.5), p95: at(0.95) })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_the_last_runs() {
        assert_eq!(quantiles(&VecDeque::new()), None);
        let runs: VecDeque<_> = (1..=101).rev().map(Duration::from_millis).collect();
        assert_eq!(quantiles(&runs).unwrap(), Quantiles { p50: 51.0, p95: 96.0 });
    }
}
