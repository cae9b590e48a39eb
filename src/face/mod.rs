//! From a frame to faces: is there motion, where are faces, which is which from frame to frame, are
//! they good enough to look at, and the crop a network wants.

mod crop;
mod detector;
mod geometry;
mod liveness;
mod resize;

pub use crop::crop;
pub use detector::{Detector, MAXIMUM_FACES};
pub use geometry::{BoundingBox, DetectedFace, Point};
pub use liveness::LivenessNetwork;
