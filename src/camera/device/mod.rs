//! A V4L2 device behind a narrow seam, and the loop that keeps it running.

mod capture;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod fake;
mod list;
mod negotiate;
mod retry;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests;
mod v4l2;

use std::io;
use std::path::Path;
use std::time::Duration;

use super::pixels::Matrix;
use super::{CameraError, Feed};
use capture::Settings;
pub use list::list;
pub use retry::Pacer;

/// Opens the camera at `path`, starts it and waits for its first frame.
pub fn open(path: &Path, wish: Wish) -> Result<Feed, CameraError> {
    let opener = {
        let path = path.to_owned();
        move || v4l2::Camera::open(&path).map(|camera| Box::new(camera) as Box<dyn Device>)
    };
    capture::open(path, Box::new(opener), Settings::for_rate(wish))
}

/// What the configuration asks for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wish {
    pub width: u32,
    pub height: u32,
    pub fps: f64,
}

/// Four characters that name a pixel format, as `linux/videodev2.h` has them.
pub type FourCc = [u8; 4];

/// One open camera. Everything that only real hardware can show lies below this line; dropping it stops
/// the stream and closes the device, and never panics.
pub trait Device: Send {
    /// Name and driver.
    fn name(&self) -> String;

    /// The pixel formats it has; known ones with their sizes.
    fn offers(&mut self) -> io::Result<Vec<Offer>>;

    /// Frames a second it can give of one format and size; empty if it does not tell.
    fn rates(&mut self, fourcc: FourCc, width: u32, height: u32) -> Vec<Rates>;

    /// Sets format, size and rate; the driver may give something else than it was asked for.
    fn configure(&mut self, fourcc: FourCc, width: u32, height: u32, fps: f64)
    -> io::Result<Given>;

    /// Starts the stream and waits at most `patience` for its first frame, which is thrown away.
    fn start(&mut self, patience: Duration) -> io::Result<()>;

    /// The next buffer, if one comes within `patience`.
    fn dequeue(&mut self, patience: Duration) -> io::Result<Option<Buffer<'_>>>;
}

/// A pixel format and its sizes; none if the driver cannot list them, and any may be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    pub fourcc: FourCc,
    pub sizes: Vec<Sizes>,
}

/// One size (`least` = `most`) or a grid of them: width and height in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    pub least: (u32, u32),
    pub most: (u32, u32),
    pub step: (u32, u32),
}

/// One rate (`least` = `most`) or a range of them, in frames a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    pub least: f64,
    pub most: f64,
}

/// What the driver set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Given {
    pub fourcc: FourCc,
    pub width: u32,
    pub height: u32,
    /// Bytes from row to row; 0 if the driver does not tell.
    pub stride: u32,
    /// `None` if the driver does not tell.
    pub fps: Option<f64>,
    pub matrix: Matrix,
    /// `None` if the driver leaves it to what is usual.
    pub full_range: Option<bool>,
}

/// A buffer of the driver, valid until the next call.
#[derive(Debug)]
pub struct Buffer<'a> {
    /// All of it; what lies beyond `used` is left from older frames.
    pub bytes: &'a [u8],
    pub used: usize,
    /// The driver says that data were lost (`V4L2_BUF_FLAG_ERROR`).
    pub damaged: bool,
}

fn name_of(fourcc: FourCc) -> String {
    fourcc.escape_ascii().to_string()
}
