//! A device with a recording of people who come and go, and its daemon.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use familiar::system::state::StateDirectory;
use image::imageops::{FilterType, overlay, resize};
use image::{Rgb, RgbImage};

use crate::support::home::{command, copy};
use crate::support::judge::named;
use crate::support::mosquitto::signal;

/// Who comes and goes; the last one is a stranger.
const PEOPLE: [&str; 4] = ["P001", "P002", "P003", "P004"];
/// Frames with somebody, and frames of the empty room, for each of them.
const SEEN: u32 = 4;
const EMPTY: u32 = 3;
/// By the recording's own time: three empty frames are long enough to have departed.
const FPS: u32 = 4;

pub struct Home {
    folder: tempfile::TempDir,
    bundle: PathBuf,
    daemon: Option<Child>,
}

impl Home {
    /// `None`, said loudly, where no models or pictures are given.
    pub fn new(test: &str) -> Option<Self> {
        let bundle = PathBuf::from(named(test, "FAMILIAR_TEST_BUNDLE")?);
        let trust = PathBuf::from(named(test, "FAMILIAR_TEST_TRUST")?);
        let pictures = PathBuf::from(named(test, "FAMILIAR_OPENPEOPLE")?);
        let home = Self { folder: tempfile::tempdir().unwrap(), bundle, daemon: None };
        copy(&trust, &home.path("trust.d"));
        home.configure(None, true);
        home.record(&pictures);
        for (person, name) in PEOPLE.iter().zip(["Ada", "Bob", "Cleo"]) {
            let portrait = pictures.join(person).join("assets/studio_portrait.jpg");
            let enrolled = home.command(&["enroll", name, portrait.to_str().unwrap()]).output();
            assert!(enrolled.unwrap().status.success());
        }
        Some(home)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn state(&self) -> StateDirectory {
        StateDirectory::at(self.path("state")).unwrap()
    }

    /// With a broker on this port; the recording once or again and again.
    pub fn configure(&self, broker: Option<u16>, again: bool) {
        let bundle = self.bundle.to_str().unwrap();
        let frames = self.path("frames").display().to_string();
        let mqtt = broker
            .map(|port| format!("[mqtt]\nurl = \"mqtt://127.0.0.1:{port}\"\n"))
            .unwrap_or_default();
        let text = format!(
            "device = \"porch\"\n[camera]\nsource = \"replay:{frames}\"\nfps = {FPS}\n\
             speed = \"max\"\nloop = {again}\n[models]\nbundle = {bundle:?}\n[events]\n\
             unknown = true\ndeparted_after = \"500ms\"\nlimit = 10000\nlimit_per_person = 10000\n\
             [liveness]\nmode = \"off\"\n\
             {mqtt}"
        );
        std::fs::write(self.path("familiar.toml"), text).unwrap();
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        command(self.folder.path(), arguments)
    }

    /// The device's public key, as it shows it.
    pub fn jwk(&self) -> String {
        String::from_utf8(self.command(&["key", "show"]).output().unwrap().stdout).unwrap()
    }

    pub fn start_daemon(&mut self) {
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = self.command(&["run"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        self.daemon = Some(child.unwrap());
    }

    pub fn daemon(&self) -> Option<&Child> {
        self.daemon.as_ref()
    }

    /// What it ended with, if it has ended by itself.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.daemon.as_mut()?.try_wait().unwrap()
    }

    /// As a power cut would, but for what the kernel keeps.
    pub fn kill_daemon(&mut self) {
        if let Some(mut child) = self.daemon.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// As its service does.
    pub fn stop_daemon(&mut self) -> Option<ExitStatus> {
        signal(self.daemon.as_ref()?, "TERM");
        Some(self.wait_for_daemon("stops"))
    }

    pub fn wait_for_daemon(&mut self, what: &str) -> ExitStatus {
        let mut child = self.daemon.take().unwrap();
        let deadline = Instant::now() + Duration::from_mins(2);
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            if Instant::now() > deadline {
                let _ = child.kill();
                panic!("the daemon never {what}\n{}", self.log_tail());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(self.path("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// Each of them moves a little before a grey wall, and is gone again.
    fn record(&self, pictures: &Path) {
        std::fs::create_dir(self.path("frames")).unwrap();
        let wall = RgbImage::from_pixel(640, 480, Rgb([128, 128, 128]));
        let mut number = 0;
        for person in PEOPLE {
            let picture = pictures.join(person).join("assets/amateur_selfie.jpg");
            let picture = image::open(picture).unwrap().into_rgb8();
            let picture = resize(
                &picture,
                picture.width() * 440 / picture.height(),
                440,
                FilterType::Triangle,
            );
            for step in 0..SEEN + EMPTY {
                let mut frame = wall.clone();
                if step < SEEN {
                    overlay(&mut frame, &picture, i64::from(40 + 4 * step), 20);
                }
                frame.save(self.path("frames").join(format!("{number:05}.jpg"))).unwrap();
                number += 1;
            }
        }
    }

    /// Makes the recording so many frames long, by links to those that are there.
    pub fn lengthen(&self, frames: usize) {
        let folder = self.path("frames");
        let length = std::fs::read_dir(&folder).unwrap().count();
        for number in length..frames {
            let name = |number: usize| folder.join(format!("{number:05}.jpg"));
            std::fs::hard_link(name(number % length), name(number)).unwrap();
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.kill_daemon();
    }
}
