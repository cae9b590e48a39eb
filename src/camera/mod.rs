//! Frames, from a V4L2 device or a recording.

mod frame;
mod photo;

pub use frame::Frame;
pub use photo::{PHOTO_BYTES, PHOTO_PIXELS, PhotoError, decode_photo};
