//! From a frame to faces: is there motion, where are faces, which is which from frame to frame, are
//! they good enough to look at, and the crop a network wants.

mod geometry;
pub mod motion;
pub mod quality;
pub mod track;

pub use geometry::{BoundingBox, DetectedFace, Point};
