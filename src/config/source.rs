//! `[camera] source`: one of three forms; what people try instead gets an answer that helps.

use std::path::PathBuf;

use serde::Deserialize;

/// Where frames come from: a V4L2 device below `/dev`, or `replay:` a directory of JPEG files or an `.mjpeg` file,
/// which may be a named pipe.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum CameraSource {
    Device(PathBuf),
    Replay(PathBuf),
}

/// What would do.
const FORMS: &str =
    "give a device such as \"/dev/video0\", \"replay:DIR\" (JPEG files) or \"replay:FILE.mjpeg\"";
/// Files of these kinds are no recordings, however they are named.
const OTHER_FILES: [&str; 24] = [
    "mp4", "m4v", "mov", "mkv", "webm", "avi", "ts", "m2ts", "mpg", "mpeg", "flv", "wmv", "3gp",
    "h264", "264", "h265", "265", "hevc", "yuv", "gif", "png", "webp", "jpg", "jpeg",
];

impl TryFrom<String> for CameraSource {
    type Error = String;

    fn try_from(source: String) -> Result<Self, String> {
        let Some(path) = source.strip_prefix("replay:") else { return device(source) };
        if path.is_empty() {
            return Err(format!("source {source:?} names no recording; {FORMS}"));
        }
        if path.contains("://") {
            return Err(no_stream(path));
        }
        let path = PathBuf::from(path);
        let extension =
            path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if OTHER_FILES.contains(&extension.to_ascii_lowercase().as_str()) {
            return Err(format!("source {source:?}: {}", no_recording(extension)));
        }
        Ok(Self::Replay(path))
    }
}

fn device(source: String) -> Result<CameraSource, String> {
    if source.strip_prefix("/dev/").is_some_and(|name| !name.is_empty()) {
        return Ok(CameraSource::Device(PathBuf::from(source)));
    }
    if source.contains("://") {
        return Err(no_stream(&source));
    }
    let number = source.parse::<u8>().is_ok();
    let node = source.strip_prefix("video").is_some_and(|rest| rest.parse::<u8>().is_ok());
    let what = match source.as_str() {
        "" => "is empty".to_owned(),
        _ if number => format!("is a number; the camera of that number is \"/dev/video{source}\""),
        _ if node => format!("lacks its folder; the device is \"/dev/{source}\""),
        _ if source.starts_with('/') || source.contains('.') => {
            "is no device below /dev; a recording has \"replay:\" before its path".to_owned()
        }
        _ => "is no camera".to_owned(),
    };
    Err(format!("source {source:?} {what}; {FORMS}"))
}

/// Without what may be a password in it.
fn no_stream(url: &str) -> String {
    let scheme = url.split("://").next().unwrap_or_default();
    format!(
        "source: streams (\"{}://…\") are not read directly; docs/camera.md, \"IP cameras\", has a service that lets ffmpeg \
         bring the camera's pictures to a loopback device or a named pipe; then {FORMS}",
        scheme.escape_debug()
    )
}

fn no_recording(extension: &str) -> String {
    match extension.to_ascii_lowercase().as_str() {
        "jpg" | "jpeg" | "png" | "webp" => {
            "one picture is no recording; put JPEG files into a folder and name that: \"replay:DIR\"".to_owned()
        }
        _ => format!(
            ".{extension} files are not read; make a recording of it by `ffmpeg -i VIDEO -c:v mjpeg -q:v 3 -an \
             RECORDING.mjpeg` and give \"replay:RECORDING.mjpeg\""
        ),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(source: &str) -> Result<CameraSource, String> {
        CameraSource::try_from(source.to_owned())
    }

    /// Holds CAM-09.
    #[test]
    fn three_forms_are_sources() {
        let device = |path: &str| CameraSource::Device(path.into());
        let replay = |path: &str| CameraSource::Replay(path.into());
        assert_eq!(read("/dev/video0").unwrap(), device("/dev/video0"));
        assert_eq!(read("/dev/v4l/by-id/usb-x").unwrap(), device("/dev/v4l/by-id/usb-x"));
        assert_eq!(read("replay:frames").unwrap(), replay("frames"));
        assert_eq!(read("replay:/srv/2026.11.28").unwrap(), replay("/srv/2026.11.28"));
        assert_eq!(read("replay:day.mjpeg").unwrap(), replay("day.mjpeg"));
    }

    /// Holds CAM-09.
    #[test]
    fn anything_else_is_refused_and_told_what_would_do() {
        for (source, says) in [
            ("", "is empty"),
            ("0", "\"/dev/video0\""),
            ("video2", "\"/dev/video2\""),
            ("/dev/", "no device below /dev"),
            ("/srv/frames", "\"replay:\" before its path"),
            ("clip.mp4", "\"replay:\" before its path"),
            ("webcam", "is no camera"),
            ("replay:", "names no recording"),
            ("replay:clip.MP4", "ffmpeg -i VIDEO"),
            ("replay:one.jpg", "one picture is no recording"),
        ] {
            let error = read(source).unwrap_err();
            assert!(error.contains(says), "{source}: {error}");
        }
        assert!(read("webcam").unwrap_err().contains(FORMS));
    }

    /// Holds CAM-10.
    #[test]
    fn ip_camera_address_names_recipe_hides_password() {
        for source in [
            "rtsp://admin:secret@10.0.0.9:554/stream1",
            "http://cam/video.mjpg",
            "replay:rtsp://a:secret@b",
        ] {
            let error = read(source).unwrap_err();
            assert!(error.contains("docs/camera.md, \"IP cameras\""), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
