//! Clock, permissions, and what this process may do.

use std::os::unix::fs::MetadataExt;

use super::Report;
use crate::cli::Failure;
use crate::config::Located;
use crate::system::clock::{self, ClockState};
use crate::system::landlock::Enforcement;
use crate::system::state::StateDirectory;

pub fn clock(report: &mut Report) {
    match clock::state() {
        ClockState::Synchronized => report.ok("clock", "synchronized"),
        ClockState::Unsynchronized => report
            .warn("clock", "not synchronized; events say so (install chrony or systemd-timesyncd)"),
    }
}

/// Who else could change what this program believes.
pub fn permissions(located: &Located, report: &mut Report) {
    let directory = located.directory();
    let trust = directory.join("trust.d");
    let mut files = vec![located.path.clone(), directory.to_owned(), trust.clone()];
    let anchors = std::fs::read_dir(&trust).into_iter().flatten().flatten();
    files.extend(anchors.map(|entry| entry.path()));
    let user = rustix::process::geteuid().as_raw();
    let mut sound = true;
    for path in files {
        let Ok(metadata) = std::fs::metadata(&path) else { continue };
        let (mode, owner) = (metadata.mode() & 0o7777, metadata.uid());
        let shown = path.display();
        // In a folder like /tmp others may add names, but not replace ours.
        let anybody = mode & 0o002 != 0 && (mode & 0o1000 == 0 || path == trust);
        if anybody {
            sound = false;
            let why = format!("{shown}: mode {mode:04o} lets anybody change it; chmod o-w");
            report.fail("permissions", Failure::refused(why));
        } else if mode & 0o020 != 0 {
            sound = false;
            report.warn(
                "permissions",
                format!("{shown}: mode {mode:04o} lets a group change it; chmod g-w"),
            );
        } else if owner != 0 && owner != user {
            sound = false;
            let why = "who is neither root nor the one who runs this; chown root";
            report.warn("permissions", format!("{shown} belongs to user {owner}, {why}"));
        }
    }
    if sound {
        report.ok(
            "permissions",
            "configuration and trust anchors can be changed by their owner alone",
        );
    }
}

/// What the daemon confines itself to when it starts, tried out in a thread of its own: this process stays as it is.
pub fn landlock(located: &Located, state: &StateDirectory, report: &mut Report) {
    let confined = std::thread::scope(|scope| {
        scope.spawn(|| crate::system::landlock::confine(located, state).state).join()
    });
    match confined {
        Ok(Enforcement::None) | Err(_) => {
            report.warn("landlock", format!("`run` confines {}", Enforcement::None));
        }
        Ok(state) => report.ok("landlock", format!("`run` confines {state}")),
    }
}

/// What the kernel says of this very process; the daemon's own is as its unit makes it.
pub fn sandbox(report: &mut Report) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let Process { said, missing, root } = Process::of(&status, &limits);
    if root {
        report.warn(
            "sandbox",
            format!("{said}; runs as root: use the user of systemd/familiar.service, with the group `video`"),
        );
    } else if missing.is_empty() {
        report.ok("sandbox", said);
    } else {
        report.warn(
            "sandbox",
            format!(
                "{said}; without {} here: start it by systemd/familiar.service, or look from within by \
                 systemd-run with its settings",
                missing.join(", ")
            ),
        );
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Process {
    said: String,
    missing: Vec<&'static str>,
    root: bool,
}

impl Process {
    fn of(status: &str, limits: &str) -> Self {
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap_or_default().trim().to_owned()
        };
        let effective = field("Uid").split_whitespace().nth(1).unwrap_or_default().to_owned();
        let capabilities = u64::from_str_radix(&field("CapEff"), 16).unwrap_or(u64::MAX);
        let core = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max core file size"))
            .and_then(|rest| rest.split_whitespace().next().map(str::to_owned))
            .unwrap_or_default();
        let dumpable = rustix::process::dumpable_behavior()
            .is_ok_and(|it| it == rustix::process::DumpableBehavior::Dumpable);
        let filter = match field("Seccomp").as_str() {
            "2" => "filtered",
            "1" => "strict",
            _ => "not filtered",
        };
        let privileges = field("NoNewPrivs") == "1";
        let mut missing = Vec::new();
        if !privileges {
            missing.push("NoNewPrivileges");
        }
        if filter == "not filtered" {
            missing.push("a system call filter");
        }
        if capabilities != 0 {
            missing.push("an empty set of capabilities");
        }
        // Whoever reads a dump reads keys and templates.
        if core != "0" && dumpable {
            missing.push("a core limit of 0");
        }
        let said = format!(
            "user {effective}, system calls {filter}, capabilities {capabilities:x}, no new privileges: {}, \
             core limit {core}, dumpable: {}",
            if privileges { "yes" } else { "no" },
            if dumpable { "yes" } else { "no" },
        );
        Self { said, missing, root: effective == "0" }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const CONFINED: &str = "Name:\tfamiliar\nUid:\t990\t990\t990\t990\nCapEff:\t0000000000000000\n\
                            NoNewPrivs:\t1\nSeccomp:\t2\n";
    const LIMITS: &str =
        "Limit  Soft Limit  Hard Limit  Units\nMax core file size        0   0   bytes\n";

    #[test]
    fn what_a_process_lacks_is_named() {
        assert_eq!(Process::of(CONFINED, LIMITS).missing, [] as [&str; 0]);
        let lacks = |from: &str, to: &str| Process::of(&CONFINED.replace(from, to), LIMITS).missing;
        assert_eq!(lacks("NoNewPrivs:\t1", "NoNewPrivs:\t0"), ["NoNewPrivileges"]);
        assert_eq!(lacks("Seccomp:\t2", "Seccomp:\t0"), ["a system call filter"]);
        assert_eq!(lacks("0000000000000000", "00000000a80425fb"), ["an empty set of capabilities"]);
        assert!(Process::of(&CONFINED.replace("990", "0"), LIMITS).root);
        // What cannot be read is not taken for safe.
        assert_eq!(Process::of("", LIMITS).missing.len(), 3);
    }
}
