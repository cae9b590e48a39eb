//! A device with models and a recording of somebody, for `familiar` as the outside sees it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};

use image::imageops::{FilterType, overlay, resize};
use image::{Rgb, RgbImage};

use super::bundle::TestBundle;
use super::mosquitto::signal;
use super::painted::{self, Face};
use super::{judge, program, small};

/// A device: configuration, anchors, state and a recording, in a folder of its own.
pub struct Home {
    pub folder: tempfile::TempDir,
    pub bundle: PathBuf,
    people: PathBuf,
    /// The bundle of a device with small networks.
    pub small: Option<TestBundle>,
}

impl Home {
    /// With the small networks of [`super::small`] and painted people, which need nothing from outside and load at once.
    /// What is not about FaceNet itself is tested so.
    pub fn small() -> Self {
        Self::with_small(small::bundle())
    }

    /// The same with another bundle made by [`super::small`].
    pub fn with_small(bundle: TestBundle) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let people = folder.path().join("people");
        let home = Self { folder, bundle: bundle.path(), people, small: Some(bundle) };
        copy(&home.small.as_ref().unwrap().trust(), &home.path("trust.d"));
        home.configure("");
        home
    }

    /// With the default bundle and generated people, whose pictures look like photographs; `None` where they are not given.
    pub fn new(test: &str) -> Option<Self> {
        let bundle = PathBuf::from(judge::named(test, "FAMILIAR_TEST_BUNDLE")?);
        let trust = PathBuf::from(judge::named(test, "FAMILIAR_TEST_TRUST")?);
        let people = PathBuf::from(judge::named(test, "FAMILIAR_OPENPEOPLE")?);
        let home = Self { folder: tempfile::tempdir().unwrap(), bundle, people, small: None };
        copy(&trust, &home.path("trust.d"));
        home.configure("");
        Some(home)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn configure(&self, more: &str) {
        self.configure_with(
            &self.bundle,
            &format!("replay:{}", self.path("frames").display()),
            more,
        );
    }

    /// Recordings of a home replay a still picture of a generated person. That is no live face, and the
    /// bundle's liveness networks say so of most: liveness is off unless `more` says something of it.
    pub fn configure_with(&self, bundle: &Path, source: &str, more: &str) {
        let liveness =
            if more.contains("[liveness]") { "" } else { "[liveness]\nmode = \"off\"\n" };
        let bundle = bundle.to_str().unwrap();
        let text = format!(
            "device = \"porch\"\n[camera]\nsource = {source:?}\nfps = 10\nspeed = \"max\"\n\
             [models]\nbundle = {bundle:?}\n{liveness}{more}"
        );
        std::fs::write(self.path("familiar.toml"), text).unwrap();
    }

    /// The recording at its own pace, for ever; after [`Self::configure`].
    pub fn loop_frames(&self) {
        let path = self.path("familiar.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        let looped = text.replace("speed = \"max\"", "speed = \"pace\"\nloop = true");
        assert_ne!(looped, text, "no `speed = \"max\"` to replace");
        std::fs::write(path, looped).unwrap();
    }

    pub fn familiar(&self, arguments: &[&str]) -> Output {
        familiar(self.folder.path(), arguments)
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        command(self.folder.path(), arguments)
    }

    /// Starts `familiar run` and lets it run; what it says goes to the file `said`.
    pub fn start(&self, environment: &[(&str, &str)]) -> Running {
        let said = std::fs::File::create(self.path("said")).unwrap();
        let child = command(self.folder.path(), &["run"])
            .envs(environment.iter().copied())
            .stderr(said)
            .spawn()
            .unwrap();
        Running(child)
    }

    /// `studio_portrait.jpg` or `amateur_selfie.jpg` of that person, `P001` and on.
    pub fn picture(&self, person: &str, picture: &str) -> PathBuf {
        let path = self.people.join(person).join("assets").join(picture);
        if self.small.is_some() && !path.exists() {
            let face = Face::named(person);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let paint =
                if picture.contains("portrait") { painted::portrait } else { painted::selfie };
            paint(&face).save(&path).unwrap();
        }
        path
    }

    pub fn enroll(&self, name: &str, person: &str) {
        let picture = self.picture(person, "studio_portrait.jpg");
        let output = self.familiar(&["enroll", name, picture.to_str().unwrap()]);
        assert!(output.status.success(), "{output:?}");
    }

    /// A recording of a painted face.
    pub fn record_face(&self, face: &Face, frames: u32) {
        painted::record(face, &self.path("frames"), frames);
    }

    /// A recording of a person who moves a little before a grey wall.
    pub fn record(&self, person: &str, frames: u32) {
        let picture = self.picture(person, "amateur_selfie.jpg");
        move_a_little(&picture, 40, &self.path("frames"), frames);
    }

    /// Looks of a person by one portrait that moves a little, in a folder.
    pub fn looks(&self, person: &str, folder: &Path, count: u32) {
        move_a_little(&self.picture(person, "studio_portrait.jpg"), 100, folder, count);
    }
}

/// Frames of 640 by 480 pixels with one picture, 440 pixels high, that moves to the right from `left`.
fn move_a_little(picture: &Path, left: u32, folder: &Path, frames: u32) {
    let picture = image::open(picture).unwrap().into_rgb8();
    let width = picture.width() * 440 / picture.height();
    let picture = resize(&picture, width, 440, FilterType::Triangle);
    std::fs::create_dir_all(folder).unwrap();
    for number in 0..frames {
        let mut frame = RgbImage::from_pixel(640, 480, Rgb([128, 128, 128]));
        overlay(&mut frame, &picture, i64::from(left + 4 * number), 20);
        frame.save(folder.join(format!("{number:04}.jpg"))).unwrap();
    }
}

/// A running daemon; killed when dropped.
pub struct Running(Child);

impl Running {
    /// Sends a signal by its name, `TERM` or `HUP`.
    pub fn signal(&self, name: &str) {
        signal(&self.0, name);
    }

    /// Asks it to stop and waits until it has.
    pub fn stop(mut self) {
        self.signal("TERM");
        let status = self.0.wait().unwrap();
        assert!(status.success(), "{status}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn familiar(home: &Path, arguments: &[&str]) -> Output {
    command(home, arguments).output().unwrap()
}

/// `familiar` with the configuration and the state in that folder.
pub fn command(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program::familiar());
    command
        .arg("--config")
        .arg(home.join("familiar.toml"))
        .args(arguments)
        .env("STATE_DIRECTORY", home.join("state"))
        .env_remove("CREDENTIALS_DIRECTORY")
        .env_remove("NOTIFY_SOCKET");
    command
}

pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}
