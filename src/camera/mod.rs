//! Frames, from a V4L2 device or a recording.
//!
//! A capture thread leaves the newest frame in a one-place slot; [`Feed::next`] takes and decodes it. A
//! slow pipeline therefore loses frames and never builds a queue, and a frame that nobody takes is
//! never decoded. Only a recording at full speed waits for the pipeline instead.

mod device;
mod error;
mod feed;
mod foreign;
mod frame;
pub(crate) mod jpeg;
mod live;
pub(crate) mod mjpeg;
pub(crate) mod photo;
pub(crate) mod pixels;
mod replay;
mod slot;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod testing;
mod view;

use crate::config::{Camera, CameraSource};
use device::Wish;
use view::View;

pub use device::list as cameras;
pub use error::CameraError;
pub use feed::{Feed, Next};
pub use frame::Frame;
pub use jpeg::{FRAME_PIXELS, JPEG_BYTES, Skipped, decode as decode_frame};
pub use photo::{PHOTO_BYTES, PHOTO_PIXELS, PhotoError, decode_photo};
pub use slot::Counters;
pub use view::Mask;

/// Opens the configured camera or recording and starts reading it.
///
/// A device must be there, and give a frame, now; what happens to it later the feed lives through (see
/// [`Next::Lost`]).
pub fn open(camera: &Camera) -> Result<Feed, CameraError> {
    let wish = |what, value: f64, least, most| {
        // `contains` is false for NaN too.
        if (least..=most).contains(&value) {
            Ok(())
        } else {
            Err(CameraError::Wish { what, value, least, most })
        }
    };
    wish("width", f64::from(camera.width), 16.0, 16384.0)?;
    wish("height", f64::from(camera.height), 16.0, 16384.0)?;
    wish("fps", camera.fps, 0.1, 1000.0)?;
    let feed = match &camera.source {
        CameraSource::Replay(path) => replay::open(path, camera.fps, camera.repeat, camera.speed),
        CameraSource::Device(path) => {
            let Camera { width, height, fps, .. } = *camera;
            device::open(path, Wish { width, height, fps })
        }
    }?;
    Ok(feed.seen_through(View::new(camera)))
}

/// Whether [`open`] would give a feed that [`Feed::is_live`], by what the source is now.
pub fn is_live(camera: &Camera) -> bool {
    match &camera.source {
        CameraSource::Device(_) => true,
        CameraSource::Replay(path) => live::is_pipe(path),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use std::path::Path;

    use super::*;

    fn device(path: &Path) -> CameraError {
        let source = CameraSource::Device(path.to_owned());
        match open(&Camera { source, ..Camera::default() }) {
            Err(error) => error,
            Ok(_) => panic!("{} opened", path.display()),
        }
    }

    #[test]
    fn what_is_no_camera_is_refused_with_a_reason() {
        let folder = tempfile::tempdir().unwrap();
        let error = device(&folder.path().join("video0"));
        assert!(matches!(error, CameraError::Open { .. }), "{error}");
        assert!(error.to_string().contains("plugged in"), "{error}");
        let error = device(Path::new("/dev/null"));
        assert!(matches!(error, CameraError::NotACamera { .. }), "{error}");
        let file = folder.path().join("file");
        std::fs::write(&file, b"no camera").unwrap();
        assert!(matches!(device(&file), CameraError::NotACamera { .. }));
        assert!(matches!(device(folder.path()), CameraError::Open { .. }));
        // The v4l crate panics on this one.
        assert!(matches!(device(Path::new("/dev/video\0")), CameraError::Open { .. }));
    }

    #[test]
    fn senseless_wishes_are_refused() {
        for (width, height, fps) in [
            (0, 480, 15.0),
            (640, 0, 15.0),
            (640, 480, 0.0),
            (640, 480, -1.0),
            (640, 480, f64::NAN),
        ] {
            let camera = Camera { width, height, fps, ..Camera::default() };
            assert!(matches!(open(&camera), Err(CameraError::Wish { .. })), "{camera:?}");
        }
    }
}
