//! What the state directory holds: keys, people, events.

use std::os::unix::fs::MetadataExt;

use super::Report;
use crate::cli::Failure;
use crate::cli::people::lookalikes::describe;
use crate::config::Located;
use crate::event::store::{self, StoreError};
use crate::event::{DeviceKey, KeyError, Outbox};
use crate::recognition::Space;
use crate::recognition::gallery::{self, Gallery};
use crate::system::disk;
use crate::system::state::StateDirectory;

pub fn check(
    located: &Located,
    state: &StateDirectory,
    space: Option<&Space>,
    report: &mut Report,
) {
    directory(state, report);
    key(state, report);
    people(located, state, space, report);
    outbox(located, state, report);
}

fn directory(state: &StateDirectory, report: &mut Report) {
    let path = state.path().display();
    let metadata = match std::fs::metadata(state.path()) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return report.ok(
                "state",
                format!("{path} is not there yet; the first `familiar run` makes it"),
            );
        }
        Err(error) => {
            let why = format!("{path}: {}", disk::told(state.path(), &error));
            return report.fail("state", Failure::failed(why));
        }
    };
    let mode = metadata.mode() & 0o777;
    let user = rustix::process::geteuid().as_raw();
    if mode & 0o022 != 0 {
        let why =
            format!("{path}: mode {mode:04o} lets others replace keys and events; chmod 0700");
        report.fail("state", Failure::refused(why));
    } else if metadata.uid() != user {
        let owner = metadata.uid();
        let why = format!(
            "{path} belongs to user {owner}, this is user {user}; run this as the daemon's user, or files \
             made now will be in its way"
        );
        report.warn("state", why);
    } else if let Some((name, owner)) = strange(state.path(), user) {
        let file = state.file(&name);
        let why = format!(
            "{} belongs to user {owner}, so the daemon cannot use it: `sudo chown -R {user} {path}`",
            file.display()
        );
        report.fail("state", Failure::failed(why));
    } else if mode & 0o077 != 0 {
        report.warn("state", format!("{path}: mode {mode:04o}; 0700 is enough"));
    } else {
        report.ok("state", path.to_string());
    }
}

/// A file in there that is somebody else's: root's, by a version before.
fn strange(folder: &std::path::Path, user: u32) -> Option<(String, u32)> {
    std::fs::read_dir(folder).ok()?.flatten().find_map(|entry| {
        let owner = entry.metadata().ok()?.uid();
        (owner != user).then(|| (entry.file_name().to_string_lossy().into_owned(), owner))
    })
}

fn key(state: &StateDirectory, report: &mut Report) {
    match DeviceKey::look(state) {
        Ok(key) => {
            let from = if key.is_credential() { ", a systemd credential" } else { "" };
            report.ok("device key", format!("{}{from}", key.kid()));
        }
        Err(KeyError::Missing) => {
            report.ok("device key", "none yet; the first `familiar run` makes it");
        }
        Err(error) => report.fail("device key", crate::cli::key::failure(error)),
    }
}

/// Strangers a day that the line on false alarms assumes.
const PASSERS_BY: f64 = 100.0;
/// False alarms a day from which on the line is a warning: one a week.
const A_WEEK: f64 = 1.0 / 7.0;

fn people(located: &Located, state: &StateDirectory, space: Option<&Space>, report: &mut Report) {
    // Opening a gallery would make one.
    if !state.file("gallery.db").exists() {
        return report.warn("people", "nobody is enrolled; `familiar enroll NAME PHOTO…`");
    }
    let held = Gallery::open(state)
        .and_then(|gallery| Ok((gallery.people()?, gallery.anchors()?.len(), gallery)))
        .map_err(Failure::from);
    let Some((people, anchors, gallery)) = report.take("people", held) else { return };
    let looks: usize = people.iter().map(gallery::Person::total_looks).sum();
    let mut enrolled = format!("{} enrolled, {looks} looks", people.len());
    if anchors > 0 {
        enrolled = format!("{enrolled}; {anchors} faces that are not to be named");
    }
    let now = jiff::Timestamp::now();
    let fit = space.map(|space| gallery::Fit::of(&people, space)).unwrap_or_default();
    let current: Vec<_> = people.iter().filter(|person| !person.expired(now)).collect();
    let unmatched =
        space.map_or(0, |space| gallery::Fit::of(current.iter().copied(), space).foreign.len());
    let matched = current.len() - unmatched;
    let expired = people.len() - current.len();
    let (mapped, foreign) = (fit.mapped.len(), fit.foreign.len());
    if people.is_empty() {
        report.warn("people", "nobody is enrolled; `familiar enroll NAME PHOTO…`");
    } else if foreign > 0 {
        let why = format!("{enrolled}; {foreign} have no look by this model: enroll them again");
        report.warn("people", why);
    } else if mapped > 0 {
        let why = format!(
            "{enrolled}; {mapped} are compared by templates mapped from another model: better enroll them again"
        );
        report.warn("people", why);
    } else if expired > 0 {
        report.warn("people", format!("{enrolled}; {expired} expired; the running daemon erases them, by a clock that is synchronized"));
    } else {
        report.ok("people", enrolled);
    }
    if let Some(space) = space
        && let Ok(enrolments) = gallery.enrolments(space.digest())
    {
        for pair in gallery::lookalikes(&enrolments) {
            report.warn("lookalikes", describe(&pair));
        }
    }
    if matched > 0 {
        let rate = located.config.recognition.false_match_rate;
        let said = false_alarms(matched, rate);
        // Rates this low add up: strangers x people x rate is an upper bound, and all but exact.
        let bearable = A_WEEK / (PASSERS_BY * matched as f64);
        if rate > bearable {
            let why = format!(
                "{said}; that is more than one a week, for which false_match_rate would be {bearable:.1e}"
            );
            report.warn("false alarms", why);
        } else {
            report.ok("false alarms", said);
        }
    }
}

/// What a false match rate means before a gallery. One stranger is compared with everybody in it: named with a
/// probability of 1 - (1 - rate)^people, if comparisons are taken as independent (ISO/IEC 19795-1).
fn false_alarms(people: usize, rate: f64) -> String {
    let each_day = PASSERS_BY * -(people as f64 * (-rate).ln_1p()).exp_m1();
    let often = if each_day >= 0.75 {
        format!("{each_day:.0} a day")
    } else {
        format!("one in {:.0} days", 1.0 / each_day)
    };
    format!(
        "of {PASSERS_BY:.0} strangers a day before {people} enrolled, a rate of {rate} names about {often}, if they \
         are no more alike than those it was calibrated on; before one camera they are (docs/evaluation.md)"
    )
}

fn outbox(located: &Located, state: &StateDirectory, report: &mut Report) {
    let path = state.file(store::NAME);
    if !path.exists() {
        return match DeviceKey::look(state) {
            Ok(key) if !key.is_credential() => report.warn(
                "outbox",
                "outbox.db is not there, but a device key is: the next start begins a new chain, with a new \
                 key where the old one had signed",
            ),
            _ => report.ok("outbox", "none yet"),
        };
    }
    let depth = store::verify(state).and_then(|()| Outbox::open(state)?.depth());
    let failure = |error: StoreError| match error {
        StoreError::Io { ref source, .. }
            if source.kind() == std::io::ErrorKind::PermissionDenied =>
        {
            Failure::refused(error)
        }
        other => Failure::failed(other),
    };
    let Some(depth) = report.take("outbox", depth.map_err(failure)) else { return };
    let capacity = located.config.outbox.events;
    let said = format!("sound; {depth} of {capacity} events wait");
    if depth > capacity / 2 {
        report.warn("outbox", format!("{said}: the broker has not taken events for long"));
    } else {
        report.ok("outbox", said);
    }
}

#[cfg(test)]
mod tests {
    use super::false_alarms;

    /// Holds REC-09.
    #[test]
    fn false_alarms_grow_with_people_and_rate() {
        for (people, rate, often) in [
            (1, 1e-4, "about one in 100 days,"),
            (10, 1e-4, "about one in 10 days,"),
            (100, 1e-4, "about 1 a day,"),
            (200, 1e-4, "about 2 a day,"),
            (4, 1e-2, "about 4 a day,"),
            (16_384, 1e-2, "about 100 a day,"), // everybody, not more
        ] {
            let said = false_alarms(people, rate);
            assert!(said.contains(often), "{people} at {rate}: {said}");
        }
    }
}
