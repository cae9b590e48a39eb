//! A scripted device, for what no test machine has: cameras that fail in every way they can.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::super::CameraError;
use super::super::pixels::Matrix;
use super::capture::Opener;
use super::{Buffer, Device, FourCc, Given, Offer, Rates, Sizes};

/// One step of an open device.
pub enum Step {
    Frame(Vec<u8>),
    /// A buffer, how much of it the frame uses, and whether the driver calls it damaged.
    Buffer(Vec<u8>, usize, bool),
    /// Nothing came for a while.
    Silence,
    /// This system error.
    Fails(i32),
    /// As the v4l crate does.
    Panics,
    /// This frame, again and again.
    Endless(Vec<u8>),
}

/// What one attempt to open finds.
pub enum Plug {
    Missing,
    /// There, but its stream does not start.
    Dead,
    /// There, and gives this; afterwards it is silent.
    Gives(Vec<Step>),
}

/// The machine's only socket. Attempts beyond the script find nothing.
#[derive(Clone, Default)]
pub struct Socket {
    plugs: Arc<Mutex<VecDeque<Plug>>>,
    log: Arc<Mutex<Vec<&'static str>>>,
    given: Option<Given>,
}

impl Socket {
    pub fn new(plugs: impl IntoIterator<Item = Plug>) -> Self {
        Self { plugs: Arc::new(Mutex::new(plugs.into_iter().collect())), ..Self::default() }
    }

    /// The driver sets this, whatever it is asked for.
    pub fn giving(self, given: Given) -> Self {
        Self { given: Some(given), ..self }
    }

    /// What happened so far: `opened`, `closed`, `missing`, `dead`.
    pub fn log(&self) -> Vec<&'static str> {
        self.log.lock().unwrap().clone()
    }

    pub fn opener(&self) -> Opener {
        let socket = self.clone();
        Box::new(move || {
            let tell = |what| socket.log.lock().unwrap().push(what);
            let (steps, dead) = match socket.plugs.lock().unwrap().pop_front() {
                None | Some(Plug::Missing) => {
                    tell("missing");
                    let source = io::Error::from_raw_os_error(libc::ENOENT);
                    return Err(CameraError::Open { path: PathBuf::from("/dev/fake"), source });
                }
                Some(Plug::Dead) => (VecDeque::new(), true),
                Some(Plug::Gives(steps)) => (VecDeque::from(steps), false),
            };
            tell(if dead { "dead" } else { "opened" });
            Ok(Box::new(Camera { steps, dead, now: Vec::new(), socket: socket.clone() }))
        })
    }
}

pub fn mjpg(width: u32, height: u32) -> Given {
    Given {
        fourcc: *b"MJPG",
        width,
        height,
        stride: 0,
        fps: Some(30.0),
        matrix: Matrix::Bt601,
        full_range: None,
    }
}

pub fn size(width: u32, height: u32) -> Sizes {
    Sizes { least: (width, height), most: (width, height), step: (1, 1) }
}

struct Camera {
    steps: VecDeque<Step>,
    dead: bool,
    now: Vec<u8>,
    socket: Socket,
}

impl Device for Camera {
    fn name(&self) -> String {
        "Fake (script)".to_owned()
    }

    fn offers(&mut self) -> io::Result<Vec<Offer>> {
        Ok(vec![Offer { fourcc: *b"MJPG", sizes: vec![size(64, 48)] }])
    }

    fn rates(&mut self, _: FourCc, _: u32, _: u32) -> Vec<Rates> {
        vec![Rates { least: 30.0, most: 30.0 }]
    }

    fn configure(&mut self, _: FourCc, width: u32, height: u32, _: f64) -> io::Result<Given> {
        Ok(self.socket.given.unwrap_or_else(|| mjpg(width, height)))
    }

    fn start(&mut self, _: Duration) -> io::Result<()> {
        if self.dead { Err(io::Error::from(io::ErrorKind::TimedOut)) } else { Ok(()) }
    }

    fn dequeue(&mut self, patience: Duration) -> io::Result<Option<Buffer<'_>>> {
        let (used, damaged) = match self.steps.pop_front() {
            Some(Step::Frame(bytes)) => {
                self.now = bytes;
                (self.now.len(), false)
            }
            Some(Step::Buffer(bytes, used, damaged)) => {
                self.now = bytes;
                (used, damaged)
            }
            Some(Step::Fails(code)) => return Err(io::Error::from_raw_os_error(code)),
            Some(Step::Endless(bytes)) => {
                std::thread::sleep(patience);
                self.now.clone_from(&bytes);
                self.steps.push_front(Step::Endless(bytes));
                (self.now.len(), false)
            }
            Some(Step::Panics) => panic!("Invalid colorspace"),
            Some(Step::Silence) | None => {
                std::thread::sleep(patience);
                return Ok(None);
            }
        };
        Ok(Some(Buffer { bytes: &self.now, used, damaged }))
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        self.socket.log.lock().unwrap().push("closed");
    }
}
