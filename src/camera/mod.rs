//! Frames, from a V4L2 device or a recording.

mod frame;

pub use frame::Frame;
