use std::sync::Arc;
use std::time::Duration;

use super::Mask;
use crate::face::DetectedFace;
use crate::system::confine;

/// One decoded picture of a camera or a recording.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Counts the frames that the source has given, skipped ones included.
    pub number: u64,
    /// 8-bit RGB.
    pub image: image::RgbImage,
    /// When the frame was taken or read.
    pub time: jiff::Timestamp,
    /// Place on the source's own time line; never goes back. A camera's is a monotonic clock; a
    /// recording's is frame number / fps, so that intervals mean the same at any speed.
    pub media: Duration,
    /// What is blacked out in it.
    pub mask: Option<Arc<Mask>>,
}

impl Frame {
    /// Whether a face lies where nobody is looked at.
    pub fn hides(&self, face: &DetectedFace) -> bool {
        self.mask.as_ref().is_some_and(|mask| mask.hides(&face.bounds))
    }
}

/// Nothing of what was seen stays in memory that is given away.
impl Drop for Frame {
    fn drop(&mut self) {
        confine::wipe(&mut self.image);
    }
}
