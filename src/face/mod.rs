//! From a frame to faces: is there motion, where are faces, which is which from frame to frame, are
//! they good enough to look at, and the crop a network wants.

mod geometry;

pub use geometry::{BoundingBox, DetectedFace, Point};
