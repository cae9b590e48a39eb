//! The unit that the daemon runs in, as systemd's own analysis sees it. That it boots is shown by `make vm`.

use crate::support::judge;

/// Tenths. What is left, and why, stands in docs/operations.md.
const EXPOSURE: &str = "12";

#[test]
fn sandbox_that_opens_is_noticed() {
    if judge::systemd("sandbox_that_opens_is_noticed").is_none() {
        return;
    }
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
