use std::io;
use std::path::PathBuf;

use super::pixels::Pixels;

/// Why there are no frames at all; the program ends with exit code 4.
#[derive(Debug, thiserror::Error)]
pub enum CameraError {
    #[error("camera: {what} is {value}; it must be from {least} to {most}")]
    Wish { what: &'static str, value: f64, least: f64, most: f64 },
    #[error("replay {}: {source}", .path.display())]
    Replay { path: PathBuf, source: io::Error },
    #[error("replay {}: no .jpg or .jpeg file in it", .path.display())]
    EmptyReplay { path: PathBuf },
    #[error("replay {}: {reason}", .path.display())]
    NotARecording { path: PathBuf, reason: String },
    #[error("replay {}: not one picture in it can be shown{}", .path.display(), skipped_summary(*.skipped, .first))]
    Unreadable { path: PathBuf, skipped: u64, first: String },
    #[error("camera {}: {source}{}", .path.display(), hint(.source))]
    Open { path: PathBuf, source: io::Error },
    #[error("camera {}: {reason}", .path.display())]
    NotACamera { path: PathBuf, reason: String },
    #[error("camera {}: offers {offered}; usable are {}: {advice}", .path.display(), usable())]
    NoUsableFormat { path: PathBuf, offered: String, advice: &'static str },
    #[error("camera {}: {doing}: {source}", .path.display())]
    Device { path: PathBuf, doing: &'static str, source: io::Error },
    #[error("cannot start the capture thread: {0}")]
    Thread(io::Error),
}

fn skipped_summary(skipped: u64, first: &str) -> String {
    match skipped {
        0 => "; it holds no JPEG".to_owned(),
        _ => format!("; {skipped} were skipped; the first: {first}"),
    }
}

/// The formats that can be read.
fn usable() -> String {
    let raw = Pixels::ALL.iter().map(|(_, fourcc)| fourcc.escape_ascii().to_string());
    ["MJPG".to_owned(), "JPEG".to_owned()].into_iter().chain(raw).collect::<Vec<_>>().join(", ")
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
