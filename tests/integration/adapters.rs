//! The adapters for engines that a fleet has already (`packaging/fleet`): each leads to `familiar model install`, whose word counts.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::slots::{Site, said};
use crate::support::bundle::hex;

/// A device with the adapters, as its engine calls them.
struct Engine {
    site: Site,
    work: tempfile::TempDir,
}

impl Engine {
    fn new() -> Self {
        let engine = Self { site: Site::new(), work: tempfile::tempdir().unwrap() };
        engine.site.home.enroll("Ada", "P001");
        // The program with this device's configuration, by whatever environment the engine leaves it.
        let command = engine.site.home.command(&[]);
        let mut lines = vec!["#!/bin/sh".to_owned()];
        lines.extend(command.get_envs().map(|(name, value)| {
            let name = name.to_str().unwrap();
            value.map_or_else(
                || format!("unset {name}"),
                |value| format!("export {name}='{}'", value.to_str().unwrap()),
            )
        }));
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words: Vec<String> =
            words.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
        lines.push(format!("exec {} \"$@\"\n", words.join(" ")));
        executable(&engine.path("familiar"), &lines.join("\n"));
        let model = format!(
            "#!/bin/sh\nexport FAMILIAR='{}' FAMILIAR_USER=\nexec '{}' \"$@\"\n",
            engine.path("familiar").display(),
            adapter("familiar-model").display()
        );
        executable(&engine.path("familiar-model"), &model);
        std::fs::create_dir_all(engine.path("mender/files")).unwrap();
        std::fs::create_dir_all(engine.path("mender/tmp")).unwrap();
        engine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    /// An archive of a signed bundle, as its publisher packs it.
    fn archive(&self, version: &str, into: &str) -> PathBuf {
        let folder = self.site.publish(version, "format = 1", "format = 1");
        let archive = self.path(into);
        let mut tar = Command::new("tar");
        tar.args(["--format=ustar", "-cf"]).arg(&archive).arg("-C").arg(folder).arg(".");
        assert!(tar.status().unwrap().success());
        archive
    }

    fn run(&self, program: &Path, arguments: &[&str]) -> Output {
        let mut command = Command::new(program);
        command.args(arguments).env("FAMILIAR_MODEL", self.path("familiar-model"));
        command.env("SYSTEMCTL", self.path("systemctl"));
        command.env("RAUC_BUNDLE_MOUNT_POINT", self.path("bundle"));
        command.env("FAMILIAR_ARCHIVE", self.path("archive.tar")).output().unwrap()
    }

    fn mender(&self, state: &str) -> Output {
        self.run(&adapter("mender-module"), &[state, self.path("mender").to_str().unwrap()])
    }

    fn boots(&self) -> String {
        self.site.boots().0
    }
}

fn adapter(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/fleet")).join(name)
}

fn executable(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

/// In the order in which Mender calls a module.
/// Holds UPD-17.
#[test]
fn mender_installs_and_goes_back() {
    let engine = Engine::new();
    let factory = engine.boots();
    assert_eq!(String::from_utf8_lossy(&engine.mender("SupportsRollback").stdout), "Yes\n");
    assert_eq!(String::from_utf8_lossy(&engine.mender("NeedsArtifactReboot").stdout), "No\n");
    // Altered on its way: refused by familiar's own check, and nothing is gone back from.
    let archive = engine.archive("7.1.0", "mender/files/facenet.tar");
    flip(&archive);
    for state in ["Download", "DownloadWithFileSizes"] {
        assert!(engine.mender(state).status.success());
    }
    let refused = engine.mender("ArtifactInstall");
    assert_eq!(refused.status.code(), Some(3), "{}", said(&refused));
    assert!(engine.mender("ArtifactRollback").status.success());
    assert_eq!(engine.boots(), factory);

    flip(&archive);
    let installed = engine.mender("ArtifactInstall");
    assert!(installed.status.success(), "{}", said(&installed));
    assert_eq!(engine.boots(), "7.1.0");
    // Something else of the deployment failed. The running daemon cannot be told, which undoes nothing.
    executable(&engine.path("systemctl"), "#!/bin/sh\n[ \"$1\" = --quiet ]\n");
    let back = engine.mender("ArtifactRollback");
    assert!(back.status.success(), "{}", said(&back));
    for state in ["ArtifactFailure", "Cleanup"] {
        assert!(engine.mender(state).status.success());
    }
    assert_eq!(engine.boots(), factory);
    // Called once more, as after a power cut, it goes back no further; and installed so, it is installed.
    assert!(engine.mender("ArtifactRollback").status.success());
    assert_eq!(engine.boots(), factory);
    let installed = engine.mender("ArtifactInstall");
    assert!(installed.status.success(), "{}", said(&installed));
    assert!(said(&installed).contains("could not be told"), "{}", said(&installed));
    assert_eq!(engine.boots(), "7.1.0");
}

/// Holds UPD-17.
#[test]
fn rauc_and_swupdate_hand_the_archive_over() {
    let engine = Engine::new();
    std::fs::create_dir(engine.path("bundle")).unwrap();
    let handler = adapter("rauc-handler");
    assert_eq!(engine.run(&handler, &[]).status.code(), Some(1), "a bundle without a model");
    let archive = engine.archive("7.1.0", "bundle/facenet.tar");
    flip(&archive);
    assert_eq!(engine.run(&handler, &[]).status.code(), Some(3));
    flip(&archive);
    let installed = engine.run(&handler, &[]);
    assert!(installed.status.success(), "{}", said(&installed));
    assert_eq!((engine.boots().as_str(), engine.site.run().0.as_str()), ("7.1.0", "7.1.0"));

    let archive = engine.archive("7.2.0", "archive.tar");
    let installed = engine.run(&adapter("swupdate-script"), &["postinst"]);
    assert!(installed.status.success(), "{}", said(&installed));
    assert_eq!(engine.boots(), "7.2.0");
    assert!(!archive.exists(), "nothing is left lying about");
}

/// The engines themselves, from Debian's packages, which `make adapters` lays ready below `FAMILIAR_ENGINES`.
/// Holds UPD-18.
#[test]
#[ignore = "Mender, SWUpdate and RAUC themselves: make adapters"]
fn engines_of_others_install_a_model() {
    let root = PathBuf::from(std::env::var_os("FAMILIAR_ENGINES").expect("FAMILIAR_ENGINES"));
    let engine = Engine::new();
    mender(&engine, &root);
    swupdate(&engine, &root);
    rauc(&engine, &root);
}

fn of(root: &Path, program: &str) -> Command {
    let mut command = Command::new(root.join("usr/bin").join(program));
    command.env("LD_LIBRARY_PATH", root.join("usr/lib/x86_64-linux-gnu"));
    command
}

fn mender(engine: &Engine, root: &Path) {
    let path = |name: &str| engine.path(name).to_str().unwrap().to_owned();
    // Where Mender looks for them, and nowhere else: laid over /usr/share and /etc, for Mender alone.
    let modules = engine.path("share/mender/modules/v3");
    std::fs::create_dir_all(&modules).unwrap();
    std::fs::create_dir_all(engine.path("etc/mender")).unwrap();
    std::fs::write(engine.path("etc/mender/artifact_info"), "artifact_name=factory\n").unwrap();
    std::fs::create_dir_all(engine.path("data")).unwrap();
    std::fs::write(engine.path("data/device_type"), "device_type=pi\n").unwrap();
    let module = format!(
        "#!/bin/sh\nexport FAMILIAR_MODEL='{}'\nexec '{}' \"$@\"\n",
        path("familiar-model"),
        adapter("mender-module").display()
    );
    executable(&modules.join("familiar-model"), &module);
    let settings = serde_json::json!({ "DeviceTypeFile": path("data/device_type") });
    std::fs::write(engine.path("mender.conf"), settings.to_string()).unwrap();
    let mender = |arguments: &[&str]| {
        let lay = "mount -t overlay overlay -o lowerdir=\"$0/share\":/usr/share /usr/share && \
                   mount -t overlay overlay -o lowerdir=\"$0/etc\":/etc /etc && exec \"$@\"";
        let program = of(root, "mender");
        let mut command = Command::new("unshare");
        command.args(["--mount", "--map-root-user", "sh", "-c", lay]);
        command.arg(engine.work.path()).arg(program.get_program()).args([
            "--no-syslog",
            "--config",
            &path("mender.conf"),
        ]);
        command.args(["--data", &path("data")]).args(arguments).output().unwrap()
    };
    let (good, bad) = (engine.archive("7.1.0", "good.tar"), engine.archive("7.2.0", "bad.tar"));
    flip(&bad);
    let install = |archive: &Path| {
        let written = of(root, "mender-artifact")
            .args(["write", "module-image", "-T", "familiar-model", "-t", "pi", "-n", "facenet"])
            .args(["-o", &path("facenet.mender"), "-f"])
            .arg(archive)
            .output()
            .unwrap();
        assert!(written.status.success(), "{written:?}");
        mender(&["install", &path("facenet.mender")])
    };
    let factory = engine.boots();
    let refused = install(&bad);
    assert!(!refused.status.success(), "{refused:?}");
    assert!(said(&refused).contains("was changed after signing"), "{refused:?}");
    let installed = install(&good);
    assert!(installed.status.success(), "{installed:?}");
    assert_eq!(engine.boots(), "7.1.0");
    let back = mender(&["rollback"]);
    assert!(back.status.success(), "{back:?}");
    assert_eq!(engine.boots(), factory);
}

fn swupdate(engine: &Engine, root: &Path) {
    let folder = engine.path("swu");
    std::fs::create_dir(&folder).unwrap();
    engine.archive("7.3.0", "swu/facenet-1.2.0.tar");
    let archive = engine.path("archive.tar");
    let script = format!(
        "#!/bin/sh\nexport FAMILIAR_MODEL='{}' FAMILIAR_ARCHIVE='{}'\nexec '{}' \"$@\"\n",
        engine.path("familiar-model").display(),
        archive.display(),
        adapter("swupdate-script").display()
    );
    executable(&folder.join("swupdate-script"), &script);
    let text = std::fs::read_to_string(adapter("sw-description")).unwrap();
    let mut text = text.replace("/run/familiar-model.tar", archive.to_str().unwrap());
    for name in ["facenet-1.2.0.tar", "swupdate-script"] {
        let bytes = std::fs::read(folder.join(name)).unwrap();
        let sum = hex(ring::digest::digest(&ring::digest::SHA256, &bytes).as_ref());
        text = text.replace(&format!("SUM OF {name}"), &sum);
    }
    std::fs::write(folder.join("sw-description"), text).unwrap();
    let sign = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=publisher -addext extendedKeyUsage=emailProtection \
                -keyout ../swu.key -out ../swu.crt && \
                openssl cms -sign -binary -nosmimecap -in sw-description -out sw-description.sig -outform DER \
                -signer ../swu.crt -inkey ../swu.key";
    let signed = Command::new("sh").args(["-c", sign]).current_dir(&folder).output().unwrap();
    assert!(signed.status.success(), "{signed:?}");
    let pack = "printf '%s\\n' sw-description sw-description.sig facenet-1.2.0.tar swupdate-script | cpio --quiet -o -H crc >../facenet.swu";
    let packed = Command::new("sh").args(["-c", pack]).current_dir(&folder).status().unwrap();
    assert!(packed.success());
    let mut swupdate = of(root, "swupdate");
    swupdate.env("TMPDIR", engine.work.path()).arg("-k").arg(engine.path("swu.crt"));
    swupdate.args(["-H", "familiar:1.0", "-l", "3", "-i"]);
    let output = swupdate.arg(engine.path("facenet.swu")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(engine.boots(), "7.3.0");
    // Another one is taken when this has proved itself.
    assert_eq!(engine.site.run().0, "7.3.0");
    assert!(!archive.exists());
}

/// RAUC makes the bundle and takes it apart again; installing needs its service, a bus and a boot loader.
fn rauc(engine: &Engine, root: &Path) {
    let folder = engine.path("rauc");
    std::fs::create_dir(&folder).unwrap();
    engine.archive("7.4.0", "rauc/facenet.tar");
    std::fs::copy(adapter("rauc-handler"), folder.join("rauc-handler")).unwrap();
    let manifest = "[update]\ncompatible=pi\nversion=7.4.0\n[bundle]\nformat=plain\n[handler]\nfilename=rauc-handler\n";
    std::fs::write(folder.join("manifest.raucm"), manifest).unwrap();
    let path = |name: &str| engine.path(name).to_str().unwrap().to_owned();
    let (key, certificate) = (path("rauc.key"), path("rauc.crt"));
    let mut openssl = Command::new("openssl");
    openssl.args([
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=publisher",
    ]);
    let made = openssl.args(["-keyout", &key, "-out", &certificate]).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let run = |arguments: &[&str]| {
        let output = of(root, "rauc").args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?} {output:?}");
    };
    run(&["--cert", &certificate, "--key", &key, "bundle", &path("rauc"), &path("facenet.raucb")]);
    run(&["--keyring", &certificate, "extract", &path("facenet.raucb"), &path("bundle")]);
    let installed = engine.run(&engine.path("bundle/rauc-handler"), &[]);
    assert!(installed.status.success(), "{}", said(&installed));
    assert_eq!(engine.boots(), "7.4.0");
}
