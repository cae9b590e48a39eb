//! The seam's other side: the `v4l` crate, with its traps walked around.
//!
//! - Its stream panics when it is dropped and `STREAMOFF` fails with anything but `ENODEV`, and again,
//!   which would abort, when the buffers cannot be freed. [`discard`] stops it first and looks.
//! - Its `next` hands the last buffer back to the driver before it waits, so after a timeout it would hand
//!   it back twice (`EINVAL`). We wait outside of it, and after any error of it use the stream no more.
//! - Its conversions panic on names that are not UTF-8 and on colour codes it does not know: [`guard`].

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use v4l::buffer::{Flags, Type};
use v4l::capability::Flags as Capability;
use v4l::format::{Colorspace, Quantization};
use v4l::frameinterval::FrameIntervalEnum;
use v4l::framesize::FrameSizeEnum;
use v4l::io::mmap::Stream;
use v4l::io::traits::{CaptureStream, Stream as _};
use v4l::video::Capture;
use v4l::video::capture::Parameters;
use v4l::{Format, FourCC, Fraction};

use super::super::CameraError;
use super::super::pixels::Matrix;
use super::{Buffer, Device, FourCc, Given, Offer, Rates, Sizes};

/// Buffers asked of the driver: one it fills, one that waits, one we copy, one to spare.
const BUFFERS: u32 = 4;

pub struct Camera {
    name: String,
    // The stream first: it is dropped before the device that it uses.
    stream: Option<Stream<'static>>,
    device: Option<v4l::Device>,
}

impl Camera {
    pub fn open(path: &Path) -> Result<Self, CameraError> {
        let wrong = |source| CameraError::Open { path: path.to_owned(), source };
        let device = guard(|| v4l::Device::with_path(path)).map_err(wrong)?;
        let mut camera = Self { name: String::new(), stream: None, device: Some(device) };
        let refuse = |reason: &str| {
            Err(CameraError::NotACamera { path: path.to_owned(), reason: reason.to_owned() })
        };
        match guard(|| camera.device()?.query_caps()) {
            Ok(found) => {
                camera.name = format!("{} ({})", found.card, found.driver);
                let can = found.capabilities;
                // Old drivers leave the field empty; theirs are tried.
                if !can.is_empty() && !can.contains(Capability::VIDEO_CAPTURE) {
                    return refuse(if can.contains(Capability::VIDEO_CAPTURE_MPLANE) {
                        "it gives pictures in several planes only, as CSI receivers do; it needs a libcamera bridge (docs/camera.md)"
                    } else {
                        "it gives no video; the camera's other node may (`v4l2-ctl --list-devices`)"
                    });
                }
                if !can.is_empty() && !can.contains(Capability::STREAMING) {
                    return refuse("it cannot stream");
                }
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOTTY) => {
                return refuse("it is no video device");
            }
            // A name that is not UTF-8 is no reason to refuse a camera.
            Err(error) if error.raw_os_error().is_none() => {
                path.display().to_string().clone_into(&mut camera.name)
            }
            Err(error) => return Err(wrong(error)),
        }
        Ok(camera)
    }

    fn device(&self) -> io::Result<&v4l::Device> {
        self.device.as_ref().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))
    }
}

impl Device for Camera {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn offers(&mut self) -> io::Result<Vec<Offer>> {
        let device = self.device()?;
        let formats = guard(|| device.enum_formats())?;
        Ok(formats
            .iter()
            .map(|format| {
                let sizes = guard(|| device.enum_framesizes(format.fourcc)).unwrap_or_default();
                let sizes = sizes.into_iter().map(|size| sizes_of(&size.size)).collect();
                Offer { fourcc: format.fourcc.repr, sizes }
            })
            .collect())
    }

    fn rates(&mut self, fourcc: FourCc, width: u32, height: u32) -> Vec<Rates> {
        let fourcc = FourCC::new(&fourcc);
        guard(|| self.device()?.enum_frameintervals(fourcc, width, height))
            .unwrap_or_default()
            .into_iter()
            .map(|interval| match interval.interval {
                FrameIntervalEnum::Discrete(interval) => {
                    Rates { least: rate(interval), most: rate(interval) }
                }
                // The longest interval is the slowest rate.
                FrameIntervalEnum::Stepwise(range) => {
                    Rates { least: rate(range.max), most: rate(range.min) }
                }
            })
            .collect()
    }

    fn configure(
        &mut self,
        fourcc: FourCc,
        width: u32,
        height: u32,
        fps: f64,
    ) -> io::Result<Given> {
        let device = self.device()?;
        let wanted = Format::new(width, height, FourCC::new(&fourcc));
        let format = guard(|| device.set_format(&wanted))?;
        let interval = Fraction::new(1000, (fps * 1000.0).round() as u32);
        // Not every driver can set its rate; it then runs at its own.
        let fps = guard(|| device.set_params(&Parameters::new(interval)))
            .or_else(|_| guard(|| device.params()))
            .map(|parameters| rate(parameters.interval))
            .ok()
            .filter(|fps| fps.is_finite() && *fps > 0.0);
        Ok(Given {
            fourcc: format.fourcc.repr,
            width: format.width,
            height: format.height,
            stride: format.stride,
            fps,
            matrix: match format.colorspace {
                Colorspace::Rec709 | Colorspace::DCIP3 => Matrix::Bt709,
                _ => Matrix::Bt601,
            },
            full_range: match (format.quantization, format.colorspace) {
                (Quantization::FullRange, _) | (Quantization::Default, Colorspace::JPEG) => {
                    Some(true)
                }
                (Quantization::LimitedRange, _) => Some(false),
                (Quantization::Default, _) => None,
            },
        })
    }

    fn start(&mut self, patience: Duration) -> io::Result<()> {
        let device = self.device()?;
        let mut stream = guard(|| Stream::with_buffers(device, Type::VideoCapture, BUFFERS))?;
        stream.set_timeout(patience);
        let first = guard(|| stream.next().map(|_| ()));
        // From here on `poll` has said that a frame is there; `next` never waits.
        stream.set_timeout(Duration::ZERO);
        match first {
            Ok(()) => self.stream = Some(stream),
            Err(_) => discard(stream),
        }
        first
    }

    fn dequeue(&mut self, patience: Duration) -> io::Result<Option<Buffer<'_>>> {
        let Some(stream) = &mut self.stream else {
            return Err(io::Error::from(io::ErrorKind::NotConnected));
        };
        match stream.handle().poll(libc::POLLIN, patience.as_millis() as i32) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(None),
            Err(error) => return Err(error),
        }
        let (bytes, metadata) = stream.next()?;
        Ok(Some(Buffer {
            bytes,
            used: metadata.bytesused as usize,
            damaged: metadata.flags.contains(Flags::ERROR),
        }))
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take() {
            discard(stream);
        }
        let device = self.device.take();
        // Closing panics if the kernel reports an error; the descriptor is gone all the same.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(device)));
    }
}

/// Stops and frees a stream without a panic.
fn discard(mut stream: Stream<'static>) {
    match stream.stop() {
        Err(error) if error.raw_os_error() != Some(libc::ENODEV) => {
            // Freeing would panic. Leaking costs a few buffers and keeps the device busy, which is
            // told with every attempt to open it; a restart of the service mends it.
            log::error!("the camera's stream cannot be stopped: {error}");
            std::mem::forget(stream);
        }
        _ => {
            let _ = catch_unwind(AssertUnwindSafe(|| drop(stream)));
        }
    }
}

/// Makes a panic of the v4l crate an error.
fn guard<T>(f: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    catch_unwind(AssertUnwindSafe(f))
        .unwrap_or_else(|_| Err(io::Error::other("the driver gave an answer that cannot be read")))
}

fn sizes_of(size: &FrameSizeEnum) -> Sizes {
    match size {
        FrameSizeEnum::Discrete(size) => {
            let size = (size.width, size.height);
            Sizes { least: size, most: size, step: (1, 1) }
        }
        FrameSizeEnum::Stepwise(range) => Sizes {
            least: (range.min_width, range.min_height),
            most: (range.max_width, range.max_height),
            step: (range.step_width, range.step_height),
        },
    }
}

/// Frames a second of an interval in seconds.
fn rate(interval: Fraction) -> f64 {
    f64::from(interval.denominator) / f64::from(interval.numerator)
}
