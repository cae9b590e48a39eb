use std::io;
use std::path::PathBuf;

/// Why there are no frames at all; the program ends with exit code 4.
#[derive(Debug, thiserror::Error)]
pub enum CameraError {
    #[error("camera: {what} is {value}; it must be from {least} to {most}")]
    Wish { what: &'static str, value: f64, least: f64, most: f64 },
    #[error("replay {}: {source}", .path.display())]
    Replay { path: PathBuf, source: io::Error },
    #[error("replay {}: no .jpg or .jpeg file in it", .path.display())]
    EmptyReplay { path: PathBuf },
    #[error("camera {}: {source}{}", .path.display(), hint(.source))]
    Open { path: PathBuf, source: io::Error },
    #[error("camera {}: {reason}", .path.display())]
    NotACamera { path: PathBuf, reason: String },
    #[error("camera {}: offers {offered}, and none of MJPG, YUYV, NV12, RGB3, GREY; a CSI camera needs a libcamera bridge (docs/camera.md)", .path.display())]
    NoUsableFormat { path: PathBuf, offered: String },
    #[error("camera {}: {doing}: {source}", .path.display())]
    Device { path: PathBuf, doing: &'static str, source: io::Error },
    #[error("cannot start the capture thread: {0}")]
    Thread(io::Error),
}

/// What to do about the usual reasons.
fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "; is it plugged in? `v4l2-ctl --list-devices` shows cameras",
        io::ErrorKind::PermissionDenied => "; this user must be in the group `video`",
        io::ErrorKind::ResourceBusy => "; another program uses it",
        _ => "",
    }
}
