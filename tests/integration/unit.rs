//! The unit that the daemon runs in, as systemd's own analysis sees it. That it boots is shown by `make vm`.

use crate::support::judge;

/// Tenths. What is left, and why, stands in docs/operations.md.
const EXPOSURE: &str = "10";

/// Holds STA-23.
#[test]
fn sandbox_that_opens_is_noticed() {
    let Some(_) = judge::systemd("sandbox_that_opens_is_noticed") else { return };
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/familiar.service");
    assert!(holds(unit), "more is open than docs/operations.md says");
    // It would be noticed.
    let folder = tempfile::tempdir().unwrap();
    let open = folder.path().join("familiar.service");
    for line in ["NoNewPrivileges=yes", "ProtectSystem=strict", "RestrictNamespaces=yes"] {
        let text = std::fs::read_to_string(unit).unwrap();
        assert!(text.contains(line));
        std::fs::write(&open, text.replace(line, "")).unwrap();
        assert!(!holds(open.to_str().unwrap()), "{line}");
    }
}

/// A second camera's daemon is confined as the first one's is: nothing differs but where its files are.
/// Holds DEV-10.
#[test]
fn second_camera_is_confined_as_the_first() {
    let read = |name: &str| {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/").to_owned() + name;
        std::fs::read_to_string(path).unwrap()
    };
    let (one, more) = (read("familiar.service"), read("familiar@.service"));
    let section = more.find("[Unit]").unwrap();
    let as_one = more[section..]
        .replace("familiar, %i:", "familiar:")
        .replace("Directory=familiar/%i", "Directory=familiar")
        .replace("StateDirectory=familiar-%i", "StateDirectory=familiar");
    assert_eq!(as_one, one);
}

/// Within the sandbox nothing but the daemon may be run, so what reloads it must run outside.
/// Holds STA-24.
#[test]
fn reload_is_not_forbidden_by_the_sandbox() {
    for name in ["familiar.service", "familiar@.service"] {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/").to_owned() + name;
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.contains("\nNoExecPaths=/\n"));
        for line in text.lines().filter(|line| line.starts_with("Exec") && line.contains('/')) {
            let (setting, command) = line.split_once('=').unwrap();
            let outside = command.starts_with('+') || command.starts_with("/usr/bin/familiar ");
            assert!(outside || setting == "ExecPaths", "{line}");
        }
    }
}

/// With the drop-in for chrony the kernel's clock may be asked, and still not set.
/// Holds DEV-11.
#[test]
fn chrony_drop_in_opens_one_call() {
    let Some(mut analyze) = judge::systemd("chrony_drop_in_opens_one_call") else { return };
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd");
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("familiar.service");
    std::fs::copy(source.join("familiar.service"), &unit).unwrap();
    let text = std::fs::read_to_string(source.join("chrony.conf")).unwrap();
    let settings: Vec<&str> = text.lines().filter(|line| line.contains('=')).collect();
    assert_eq!(settings, ["ProtectClock=no", "SystemCallFilter=adjtimex"]);
    let joined = std::fs::read_to_string(&unit)
        .unwrap()
        .replace("[Install]", &format!("{}\n[Install]", settings.join("\n")));
    std::fs::write(&unit, joined).unwrap();
    let output =
        analyze.args(["security", "--offline=true", "--no-pager"]).arg(&unit).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    // The filter names one call of the group @clock, and the process has no capability to set the clock.
    assert!(said.contains("✓ CapabilityBoundingSet=~CAP_SYS_TIME"), "{said}");
}

/// What decodes an IP camera's stream is confined as the daemon is, and gets nothing of it but the group of its pipe.
#[test]
fn bridge_of_an_ip_camera_is_confined_and_hides_its_address() {
    let test = "bridge_of_an_ip_camera_is_confined_and_hides_its_address";
    let Some(mut analyze) = judge::systemd(test) else { return };
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/familiar-ip-camera@.service");
    let text = std::fs::read_to_string(source).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("familiar-ip-camera@porch.service");
    // Where ffmpeg is not installed, its name alone would be what is wrong.
    std::fs::write(&unit, text.replace("/usr/bin/ffmpeg", "/bin/true")).unwrap();
    assert!(holds(unit.to_str().unwrap()), "more is open than of the daemon");
    let verified = analyze.args(["verify", "--man=no"]).arg(&unit).output().unwrap();
    assert!(verified.status.success(), "{verified:?}");
    let started = text.lines().find(|line| line.starts_with("ExecStart=")).unwrap();
    assert!(started.contains("-i ${CREDENTIALS_DIRECTORY}/camera"), "{started}");
    assert!(
        text.contains("\nInaccessiblePaths=-/var/lib/familiar\n")
            && text.contains("\nDynamicUser=yes\n")
    );
    // The documents' other way, into a loopback device, differs in its output alone.
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/camera.md");
    let document = std::fs::read_to_string(document).unwrap();
    let drop_in =
        document.lines().find(|line| line.starts_with("ExecStart=/usr/bin/ffmpeg")).unwrap();
    let input = |line: &str| line.split(",scale=").next().unwrap().to_owned();
    assert_eq!(input(drop_in), input(started));
    assert!(drop_in.ends_with("format=yuv420p -f v4l2 /dev/video42"), "{drop_in}");
}

fn holds(unit: &str) -> bool {
    let threshold = format!("--threshold={EXPOSURE}");
    let output = judge::systemd("exposure")
        .unwrap()
        .args(["security", "--offline=true", "--no-pager", &threshold, unit])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("exposure level"), "{output:?}");
    output.status.success()
}
