//! The camera as its owner sees it: sources that are none, recordings that cannot be read, how the picture is turned and
//! masked, and what `check --preview` shows.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use image::{Rgb, RgbImage};
use serde_json::Value;

use super::support::bundle::TestBundle;
use super::support::home::Home;
use super::support::program;

/// A device that needs no models: `check` and what comes before them.
struct Site {
    bundle: TestBundle,
}

impl Site {
    fn new() -> Self {
        let site = Self { bundle: TestBundle::new() };
        std::fs::create_dir(site.path("frames")).unwrap();
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.bundle.root().join(name)
    }

    /// `camera`: lines below `[camera]`.
    fn configure(&self, camera: &str) {
        let text = format!(
            "device = \"porch\"\n[camera]\n{camera}\n[models]\nbundle = {:?}\n[recognition]\nfalse_match_rate = 0.01\n",
            self.bundle.path().to_str().unwrap()
        );
        std::fs::write(self.path("familiar.toml"), text).unwrap();
    }

    fn replay(&self, name: &str, more: &str) {
        self.configure(&format!("source = \"replay:{}\"\n{more}", self.path(name).display()));
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program::familiar());
        command
            .args(arguments)
            .arg("--config")
            .arg(self.path("familiar.toml"))
            .env("STATE_DIRECTORY", self.path("state"))
            .env_remove("CREDENTIALS_DIRECTORY");
        command
    }

    /// What `check` says of frames, and its exit code.
    fn frames(&self) -> (Option<i32>, String) {
        let output = self.command(&["check", "--json"]).output().unwrap();
        let lines: Value = serde_json::from_slice(&output.stdout).unwrap();
        let of = |name| lines.as_array().unwrap().iter().find(move |line| line["check"] == name);
        let line = of("frame rate").or_else(|| of("camera")).unwrap();
        (output.status.code(), format!("{} {}", line["state"], line["message"]))
    }
}

fn complaint(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Light at the top left, dark elsewhere.
fn corner() -> RgbImage {
    RgbImage::from_fn(64, 48, |x, y| Rgb([if x < 32 && y < 24 { 255 } else { 0 }; 3]))
}

/// Holds CAM-09.
#[test]
fn source_that_is_none_is_a_usage_error_that_says_what_would_do() {
    let site = Site::new();
    for (source, says) in [
        ("rtsp://viewer:word@10.0.0.9/1", "docs/camera.md, \"IP cameras\""),
        ("http://10.0.0.9/video.mjpg", "docs/camera.md, \"IP cameras\""),
        ("0", "/dev/video0"),
        ("", "is empty"),
        ("replay:clip.mp4", "ffmpeg"),
    ] {
        site.configure(&format!("source = {source:?}"));
        let output = site.command(&["run"]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{source}: {output:?}");
        let said = complaint(&output);
        assert!(said.contains(says) && said.contains("line 3"), "{said}");
        assert!(said.contains("replay:") && !said.contains("viewer:word"), "{said}");
    }
}

/// Holds CAM-07, CAM-08.
#[test]
fn recording_that_cannot_be_read_is_exit_4_with_the_reason() {
    let site = Site::new();
    for number in 0..80 {
        std::fs::write(site.path("frames").join(format!("{number:02}.jpg")), b"HEIC").unwrap();
    }
    std::fs::write(site.path("video.mjpeg"), b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2").unwrap();
    std::fs::write(site.path("empty.mjpeg"), b"").unwrap();
    std::fs::create_dir(site.path("nothing")).unwrap();
    std::fs::create_dir(site.path("links")).unwrap();
    std::os::unix::fs::symlink("/root/nowhere.jpg", site.path("links/0.jpg")).unwrap();
    for (name, says) in [
        ("frames", "80 were skipped; the first: frame 0: broken: not a JPEG"),
        ("video.mjpeg", "MP4"),
        ("empty.mjpeg", "is empty"),
        ("nothing", "no .jpg or .jpeg file in it"),
        ("links", "put the files there, not links to them"),
    ] {
        site.replay(name, "speed = \"max\"");
        let (code, said) = site.frames();
        assert_eq!(code, Some(4), "{name}: {said}");
        assert!(said.contains(says), "{name}: {said}");
    }
}

/// Holds CAM-07.
#[test]
fn daemon_on_a_recording_that_cannot_be_read_ends_with_4() {
    let Some(home) = Home::new("daemon_on_a_recording_that_cannot_be_read_ends_with_4") else {
        return;
    };
    std::fs::create_dir(home.path("frames")).unwrap();
    for number in 0..3 {
        std::fs::write(home.path("frames").join(format!("{number}.jpg")), b"HEIC").unwrap();
    }
    home.configure("");
    let run = home.familiar(&["run"]);
    assert_eq!(run.status.code(), Some(4), "{run:?}");
    assert!(complaint(&run).contains("3 were skipped"), "{run:?}");
    // One that can be read in part is shown in part, and the rest counted.
    corner().save(home.path("frames").join("9.jpg")).unwrap();
    let run = home.familiar(&["run"]);
    assert_eq!(run.status.code(), Some(0), "{run:?}");
    assert!(complaint(&run).contains("3 pictures in it could not be shown"), "{run:?}");
}

/// Holds CAM-11, CAM-12.
#[test]
fn picture_turned_mirrored_masked_before_detection() {
    let Some(home) = Home::new("picture_is_turned_mirrored_masked_and_bounded") else { return };
    home.record("P001", 30);
    home.configure("");
    home.enroll("Ada", "P001");
    let camera = |lines: &str| {
        home.configure("");
        let path = home.path("familiar.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("speed = ", &format!("{lines}\nspeed = "))).unwrap();
    };
    let events = || {
        let run = home.familiar(&["run", "--stdout"]);
        assert!(run.status.success(), "{run:?}");
        String::from_utf8(run.stdout).unwrap().lines().count()
    };
    camera("masks = [[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]]");
    assert_eq!(events(), 0, "all of it is masked");
    camera("smallest_face = 400");
    assert_eq!(events(), 0, "the face is smaller");
    camera("masks = [[[0.9, 0.0], [1.0, 0.0], [1.0, 1.0]]]\nsmallest_face = 48");
    assert_eq!(events(), 1, "neither concerns her");
    // The camera hangs upside down, and looks at her by way of a mirror.
    for entry in std::fs::read_dir(home.path("frames")).unwrap() {
        let path = entry.unwrap().path();
        let frame = image::open(&path).unwrap().into_rgb8();
        image::imageops::flip_horizontal(&image::imageops::rotate90(&frame)).save(&path).unwrap();
    }
    camera("");
    assert_eq!(events(), 0, "a face on its side is nobody's");
    // Undone in the other order: the turned picture is mirrored last.
    camera("rotate = 90\nflip = \"horizontal\"");
    assert_eq!(events(), 1);
}

/// Holds CAM-14.
#[test]
fn live_pictures_come_through_a_named_pipe() {
    let Some(home) = Home::new("live_pictures_come_through_a_named_pipe") else { return };
    home.record("P001", 30);
    let path = home.path("porch.mjpeg");
    let made = Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    home.configure_with(&home.bundle, &format!("replay:{}", path.display()), "");
    home.enroll("Ada", "P001");
    let mut daemon = home.command(&["run", "--stdout"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut frames: Vec<PathBuf> =
        std::fs::read_dir(home.path("frames")).unwrap().map(|it| it.unwrap().path()).collect();
    frames.sort();
    // As ffmpeg does, until an event is published; a writer that ends is followed by another.
    let (published, stop) = std::sync::mpsc::channel();
    let writer = std::thread::spawn(move || {
        while stop.try_recv().is_err() {
            let mut pipe = File::options().write(true).open(&path).unwrap();
            for frame in &frames {
                if pipe.write_all(&std::fs::read(frame).unwrap()).is_err() {
                    return;
                }
                std::thread::sleep(std::time::Duration::from_millis(100)); // the pace of a camera
            }
        }
    });
    let mut line = String::new();
    std::io::BufRead::read_line(
        &mut std::io::BufReader::new(daemon.stdout.take().unwrap()),
        &mut line,
    )
    .unwrap();
    published.send(()).unwrap();
    writer.join().unwrap();
    super::support::mosquitto::signal(&daemon, "TERM");
    assert!(daemon.wait().unwrap().success(), "it ends when it is told to, not with a writer");
    assert!(line.contains("recognized"), "{line}");
}

/// On a terminal of so many columns and rows, by way of script(1) and stty(1); the exit code, and what was written to it.
fn on_a_terminal(command: &Command, columns: u16, rows: u16) -> (Option<i32>, String) {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    let quoted: Vec<String> = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
    let line = format!("stty cols {columns} rows {rows}; exec {} 2>/dev/null", quoted.join(" "));
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).env("SHELL", "/bin/sh").stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => script.env(name, value),
            None => script.env_remove(name),
        };
    }
    let output = script.output().unwrap();
    // Where its input ends it says so to the terminal, which shows it.
    let seen =
        String::from_utf8(output.stdout).unwrap().replace("\r\n", "\n").replace("^D\u{8}\u{8}", "");
    (output.status.code(), seen)
}

/// Holds CAM-13.
#[test]
fn preview_fits_the_terminal() {
    let site = Site::new();
    corner().save(site.path("frames/0.jpg")).unwrap();
    let preview = |camera: &str, locale: &str| {
        site.replay("frames", &format!("fps = 50\nloop = true\n{camera}"));
        let mut command = site.command(&["check", "--preview"]);
        command.env("LC_ALL", locale).env("TERM", "xterm-256color").env_remove("COLORTERM");
        command.env_remove("NO_COLOR");
        on_a_terminal(&command, 16, 24)
    };
    let (code, seen) = preview("", "C");
    assert_eq!(code, Some(0), "{seen}");
    let row = |light: usize, dark: usize| format!("{}{}\n", "@".repeat(light), " ".repeat(dark));
    assert_eq!(seen, row(8, 8).repeat(3) + &row(0, 16).repeat(3));
    // Turned by 90 degrees clockwise the light corner is at the top right.
    let (_, seen) = preview("rotate = 90", "C");
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!((lines.len(), lines[0]), (11, "        @@@@@@@@"), "{seen}");
    let (_, seen) = preview("masks = [[[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]]]", "C");
    assert_eq!(seen, format!("{}{}\n", "x".repeat(8), " ".repeat(8)).repeat(6));
    let (_, seen) = preview("", "C.UTF-8");
    assert!(seen.starts_with("\x1b[38;5;231;48;5;231m▀"), "{seen:?}");
    // Nothing is left behind.
    assert!(!site.path("state").exists());
}

/// Holds CAM-13.
#[test]
fn preview_goes_to_a_terminal_and_nowhere_else() {
    let site = Site::new();
    corner().save(site.path("frames/0.jpg")).unwrap();
    site.replay("frames", "");
    let output = site.command(&["check", "--preview"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty() && complaint(&output).contains("on a terminal"), "{output:?}");
    let (code, seen) = on_a_terminal(&site.command(&["check", "--preview", "--json"]), 80, 24);
    assert_eq!((code, seen.as_str()), (Some(2), ""));
}
