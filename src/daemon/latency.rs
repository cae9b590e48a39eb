//! How long detection, embedding and liveness take, measured around the networks as they run.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use image::RgbImage;
use serde::Serialize;

use super::rate::SPAN;
use crate::face::DetectedFace;
use crate::model::Engine;
use crate::model::network::NetworkError;
use crate::recognition::Embedding;
use crate::recognition::gallery::Transform;
use crate::recognition::watch::Eyes;

/// Runs that are remembered of each stage, at most: more than a minute has at 60 frames a second.
const REMEMBERED: usize = 4096;

/// The runs of each stage in the last minute.
#[derive(Debug, Default)]
pub struct Latency {
    detect: RefCell<Runs>,
    embed: RefCell<Runs>,
    liveness: RefCell<Runs>,
}

/// When each ended, and how long it took; oldest first.
#[derive(Debug, Default)]
struct Runs(VecDeque<(Instant, Duration)>);

/// Of the runs of the last minute, in milliseconds; absent where there was none.
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
        self.detect.borrow().quantiles(Instant::now())
    }

    pub fn embed(&self) -> Option<Quantiles> {
        self.embed.borrow().quantiles(Instant::now())
    }

    pub fn liveness(&self) -> Option<Quantiles> {
        self.liveness.borrow().quantiles(Instant::now())
    }
}

impl Runs {
    fn note(&mut self, now: Instant, took: Duration) {
        let old = |(at, _): &(Instant, Duration)| now.saturating_duration_since(*at) >= SPAN;
        while self.0.len() >= REMEMBERED || self.0.front().is_some_and(old) {
            self.0.pop_front();
        }
        self.0.push_back((now, took));
    }

    fn quantiles(&self, now: Instant) -> Option<Quantiles> {
        let recent = |(at, _): &&(Instant, Duration)| now.saturating_duration_since(*at) < SPAN;
        quantiles(&self.0.iter().filter(recent).map(|(_, took)| *took).collect())
    }
}

fn timed<T>(runs: &RefCell<Runs>, work: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let result = work();
    let now = Instant::now();
    runs.borrow_mut().note(now, now.saturating_duration_since(began));
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

    /// Holds STA-07.
    #[test]
    fn stage_that_did_not_run_for_a_minute_has_no_latency() {
        let (mut runs, start) = (Runs::default(), Instant::now());
        runs.note(start, Duration::from_millis(900));
        assert_eq!(runs.quantiles(start).unwrap(), Quantiles { p50: 900.0, p95: 900.0 });
        runs.note(start + SPAN / 2, Duration::from_millis(10));
        assert_eq!(runs.quantiles(start + SPAN).unwrap(), Quantiles { p50: 10.0, p95: 10.0 });
        assert_eq!(runs.quantiles(start + 2 * SPAN), None);
        for run in 0..2 * REMEMBERED as u32 {
            runs.note(start + Duration::from_millis(run.into()), Duration::ZERO);
        }
        assert_eq!(runs.0.len(), REMEMBERED);
    }

    #[test]
    fn quantiles_of_the_last_runs() {
        assert_eq!(quantiles(&VecDeque::new()), None);
        let runs: VecDeque<_> = (1..=101).rev().map(Duration::from_millis).collect();
        assert_eq!(quantiles(&runs).unwrap(), Quantiles { p50: 51.0, p95: 96.0 });
    }
}
