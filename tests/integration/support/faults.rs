//! A clock and a disk that misbehave: a small library, made by the system's C compiler, that is preloaded into the
//! program under test (`faults.c`). What it does can be changed while the program runs.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// As `struct control` in `faults.c` has them.
const CLOCK_OFFSET: u64 = 0;
const CLOCK: u64 = 8;
const FSYNC_ERRNO: u64 = 12;
const FILE: u64 = 16;
const FILE_LENGTH: usize = 48;
const FAILED: u64 = 64;
const LENGTH: u64 = 72;

pub struct Faults {
    path: PathBuf,
    control: File,
    _folder: tempfile::TempDir,
}

impl Faults {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        let control = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        control.set_len(LENGTH).unwrap();
        Self { path, control, _folder: folder }
    }

    /// Has a command do as this says.
    pub fn rule<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.envs(self.environment())
    }

    pub fn environment(&self) -> [(&'static str, String); 2] {
        let text = |path: &PathBuf| path.to_str().unwrap().to_owned();
        [("LD_PRELOAD", text(library())), ("FAMILIAR_TEST_FAULTS", text(&self.path))]
    }

    /// Seconds that are added to the date, and whether the kernel says that the clock is synchronised.
    pub fn clock(&self, offset: i64, synchronised: bool) {
        self.control.write_all_at(&offset.to_ne_bytes(), CLOCK_OFFSET).unwrap();
        let state: i32 = if synchronised { 1 } else { 2 };
        self.control.write_all_at(&state.to_ne_bytes(), CLOCK).unwrap();
    }

    /// A date that is so many seconds after 1970, or before.
    pub fn date(&self, seconds: i64, synchronised: bool) {
        self.clock(seconds - jiff::Timestamp::now().as_second(), synchronised);
    }

    /// Has the disk fail to confirm files whose path contains this: EIO.
    pub fn break_disk(&self, file: &str) {
        let mut name = [0; FILE_LENGTH];
        name[..file.len()].copy_from_slice(file.as_bytes());
        self.control.write_all_at(&name, FILE).unwrap();
        self.control.write_all_at(&5_i32.to_ne_bytes(), FSYNC_ERRNO).unwrap();
    }

    pub fn mend_disk(&self) {
        self.control.write_all_at(&0_i32.to_ne_bytes(), FSYNC_ERRNO).unwrap();
    }

    /// How often it has failed so far: a test that broke nothing proves nothing.
    pub fn failed(&self) -> i32 {
        let mut count = [0; 4];
        self.control.read_exact_at(&mut count, FAILED).unwrap();
        i32::from_ne_bytes(count)
    }
}

/// Made once for all tests.
fn library() -> &'static PathBuf {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        std::fs::create_dir_all(&folder).unwrap();
        let source =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/integration/support/faults.c");
        let (made, library) =
            (folder.join(format!("faults-{}.so", std::process::id())), folder.join("faults.so"));
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
            .args([&made, &source])
            .output()
            .expect("a C compiler (build-essential)");
        assert!(compiled.status.success(), "{compiled:?}");
        // Another process may do so at once.
        std::fs::rename(&made, &library).unwrap();
        library
    })
}
