//! What a watch has done, for the health report.

use serde::Serialize;

use crate::face::quality::Refusal;

/// Counts since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    pub frames: u64,
    /// Frames with motion.
    pub moving: u64,
    pub detections: u64,
    /// Faces detected that are neither masked nor too small.
    pub faces: u64,
    /// Faces in a mask of the camera.
    pub masked: u64,
    /// Tracks started, broken because people crossed, split because another face was on them.
    pub tracks: u64,
    pub broken_tracks: u64,
    pub split_tracks: u64,
    /// Faces without room among the tracks.
    pub crowded_out: u64,
    pub refusals: Refusals,
    pub embeddings: u64,
    /// Looks that had to wait because another face had the frame's only one.
    pub put_off: u64,
    /// Detections or embeddings that failed.
    pub failures: u64,
    /// Frames in which something panicked.
    pub panics: u64,
    /// People recognized and strangers told of.
    pub named: u64,
    pub unknown: u64,
    /// Faces asked whether they are live, and tracks held to be attacks.
    pub liveness: u64,
    pub spoofs: u64,
}

/// Faces not looked at, by reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Refusals {
    pub doubtful: u64,
    pub small: u64,
    pub cut: u64,
    pub turned: u64,
    pub nodding: u64,
    pub tilted: u64,
    pub dark: u64,
    pub bright: u64,
    pub clipped: u64,
    pub flat: u64,
    pub blurred: u64,
}

impl Refusals {
    /// Of every reason.
    pub fn total(&self) -> u64 {
        let Self {
            doubtful,
            small,
            cut,
            turned,
            nodding,
            tilted,
            dark,
            bright,
            clipped,
            flat,
            blurred,
        } = *self;
        doubtful
            + small
            + cut
            + turned
            + nodding
            + tilted
            + dark
            + bright
            + clipped
            + flat
            + blurred
    }

    pub fn count(&mut self, refusal: &Refusal) {
        let counter = match refusal {
            Refusal::Doubtful { .. } => &mut self.doubtful,
            Refusal::Small { .. } => &mut self.small,
            Refusal::Cut { .. } => &mut self.cut,
            Refusal::Turned { .. } => &mut self.turned,
            Refusal::Nodding { .. } => &mut self.nodding,
            Refusal::Tilted { .. } => &mut self.tilted,
            Refusal::Dark { .. } => &mut self.dark,
            Refusal::Bright { .. } => &mut self.bright,
            Refusal::Clipped { .. } => &mut self.clipped,
            Refusal::Flat { .. } => &mut self.flat,
            Refusal::Blurred { .. } => &mut self.blurred,
        };
        *counter += 1;
    }
}
