//! What a new model may differ by from the one that runs (docs/updates.md, "Beside the running model").

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use super::beside::Compared;
use super::{Agreement, Figures, Names};
use crate::daemon::latency::quantiles;
use crate::model::slots::{Cost, Costs};

/// Fewer faces than that prove nothing of detection, fewer looks nothing of names.
const FACES: u64 = 10;
const LOOKS: u64 = 5;
/// A stage may take so many times the processor time that it takes in the running model, and that much in any case.
const SLOWER: f64 = 2.0;
const UNNOTICED: f64 = 5.0;
/// Share of the memory that the service manager allows, for both engines at once.
const FILLED: f64 = 0.95;
/// Runs that are remembered of each stage.
const REMEMBERED: usize = 1024;

/// Resident set before the second engine, now, and what is allowed; bytes.
pub(super) type Memory = (Option<u64>, Option<u64>, Option<u64>);
type Times = (VecDeque<Duration>, VecDeque<Duration>);

/// What was counted so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    counts: Figures,
    detect: Times,
    embed: Times,
    liveness: Times,
    failure: Option<String>,
}

impl Tally {
    /// `names`: whether names are compared.
    pub(super) fn new(names: bool) -> Self {
        let names = names.then(Names::default);
        Self { counts: Figures { names, ..Figures::default() }, ..Self::default() }
    }

    pub(super) fn compares_names(&self) -> bool {
        self.counts.names.is_some()
    }

    /// One frame; `thresholds` are those of liveness, of the running and of the new model.
    pub(super) fn add(&mut self, compared: Compared, thresholds: (f32, f32)) {
        if let Some(failure) = compared.failure {
            self.failure.get_or_insert(failure);
        }
        let counts = &mut self.counts;
        counts.frames += u64::from(compared.detect.is_some());
        counts.faces += compared.faces;
        counts.found += compared.found;
        counts.usable += compared.usable;
        counts.extra += compared.extra;
        counts.looks += u64::from(compared.embed.is_some());
        if let Some((old, new)) = compared.liveness {
            let agreement = counts.liveness.get_or_insert_default();
            agreement.scored += 1;
            agreement.same += u64::from((old >= thresholds.0) == (new >= thresholds.1));
        }
        keep(&mut self.detect, compared.detect);
        keep(&mut self.embed, compared.embed);
        keep(&mut self.liveness, compared.live);
    }

    /// Whom one look was taken for, by the running and by the new model.
    pub(super) fn name<T: PartialEq>(&mut self, old: Option<T>, new: Option<T>) {
        let names = self.counts.names.get_or_insert_default();
        match (old, new) {
            (old, new) if old == new => names.same += 1,
            (Some(_), None) => names.lost += 1,
            (None, _) => names.gained += 1,
            (Some(_), Some(_)) => names.other += 1,
        }
    }

    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    pub(super) fn frames(&self) -> u64 {
        self.counts.frames
    }

    pub(super) fn figures(&self, watched: Duration, (before, now, _): Memory) -> Figures {
        let added = before.zip(now).map(|(before, now)| now.saturating_sub(before) >> 20);
        let cpu_ms = Costs {
            detect: cost(&self.detect),
            embed: cost(&self.embed),
            liveness: cost(&self.liveness),
        };
        let seconds = watched.as_secs();
        Figures { seconds, cpu_ms, memory_mib: added, ..self.counts.clone() }
    }
}

fn keep((old, new): &mut Times, times: Option<(Duration, Duration)>) {
    let Some((old_time, new_time)) = times else { return };
    for (runs, time) in [(old, old_time), (new, new_time)] {
        if runs.len() == REMEMBERED {
            runs.pop_front();
        }
        runs.push_back(time);
    }
}

fn cost((old, new): &Times) -> Option<Cost> {
    let (old, new) = (quantiles(old)?, quantiles(new)?);
    Some(Cost { running: [old.p50, old.p95], new: [new.p50, new.p95] })
}

/// Whether a new model may take over; the error says what forbids it.
pub(super) fn judge(figures: &Figures, memory: Memory) -> Result<(), String> {
    let Figures { frames, faces, found, usable, extra, names, liveness, cpu_ms, .. } = figures;
    if *faces >= FACES && found * 5 < faces * 4 {
        return Err(format!("it found {found} of the {faces} faces that the running model found"));
    }
    if *found >= FACES && usable * 2 < *found {
        return Err(format!("of {found} faces it would look at {usable}"));
    }
    if *extra >= FACES && extra * 2 > *frames {
        return Err(format!(
            "it found {extra} faces in {frames} frames that the running model did not"
        ));
    }
    if let Some(names) = names {
        judge_names(*names)?;
    }
    if let Some(Agreement { scored, same }) = liveness
        && *scored >= FACES
        && same * 2 < *scored
    {
        return Err(format!("of {scored} faces it judged the liveness of {same} alike"));
    }
    for (stage, cost) in
        [("detection", cpu_ms.detect), ("embedding", cpu_ms.embed), ("liveness", cpu_ms.liveness)]
    {
        if let Some(Cost { running: [running, _], new: [new, _] }) = cost
            && new > (running * SLOWER).max(UNNOTICED)
        {
            return Err(format!("{stage} takes {new} ms, and {running} ms in the running model"));
        }
    }
    judge_memory(memory)
}

fn judge_names(names: Names) -> Result<(), String> {
    let Names { same, lost, gained, other } = names;
    let all = same + lost + gained + other;
    if all < LOOKS {
        return Ok(());
    }
    if other > 1 {
        return Err(format!("it took {other} of {all} looks for somebody else"));
    }
    if lost * 5 > all {
        return Err(format!("it knew {lost} of {all} looks no more"));
    }
    if gained * 2 > all {
        return Err(format!("it named {gained} of {all} looks that the running model did not"));
    }
    Ok(())
}

fn judge_memory((before, now, limit): Memory) -> Result<(), String> {
    let (Some(before), Some(now)) = (before, now) else { return Ok(()) };
    let mebibytes = |bytes: u64| bytes >> 20;
    if let Some(limit) = limit
        && now as f64 > limit as f64 * FILLED
    {
        let (now, limit) = (mebibytes(now), mebibytes(limit));
        return Err(format!("both engines take {now} MiB, and {limit} are allowed"));
    }
    let added = now.saturating_sub(before);
    if added > before {
        let (added, before) = (mebibytes(added), mebibytes(before));
        return Err(format!("it takes {added} MiB, more than all had before ({before})"));
    }
    Ok(())
}

/// What the service manager allows this process and its like: the lower of `memory.high` and `memory.max` of its
/// control group (cgroup v2), in bytes; `None` where there is no limit, or none to be seen.
pub(super) fn memory_limit() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    limit_of(&Path::new("/sys/fs/cgroup").join(group))
}

fn limit_of(group: &Path) -> Option<u64> {
    let read = |name: &str| {
        // "max" is no limit.
        std::fs::read_to_string(group.join(name)).ok()?.trim().parse::<u64>().ok()
    };
    [read("memory.high"), read("memory.max")].into_iter().flatten().min()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const ROOM: Memory = (Some(150 * MIB), Some(260 * MIB), Some(384 * MIB));

    fn sound() -> Figures {
        let cost = Some(Cost { running: [70.0, 80.0], new: [75.0, 90.0] });
        Figures {
            seconds: 60,
            frames: 60,
            faces: 60,
            found: 58,
            usable: 57,
            extra: 1,
            looks: 57,
            names: Some(Names { same: 55, lost: 1, gained: 1, other: 0 }),
            liveness: Some(Agreement { scored: 57, same: 50 }),
            cpu_ms: Costs { detect: None, embed: cost, liveness: None },
            memory_mib: Some(110),
        }
    }

    fn refused(change: impl FnOnce(&mut Figures)) -> String {
        let mut figures = sound();
        change(&mut figures);
        judge(&figures, ROOM).unwrap_err()
    }

    #[test]
    fn model_that_agrees_passes() {
        assert_eq!(judge(&sound(), ROOM), Ok(()));
        // Nobody came by: the trial follows.
        let empty = Figures { frames: 60, ..Figures::default() };
        assert_eq!(judge(&empty, ROOM), Ok(()));
        assert_eq!(judge(&empty, (None, None, None)), Ok(()));
        // Too few to tell.
        let few = Figures { faces: 9, found: 0, ..empty };
        assert_eq!(judge(&few, ROOM), Ok(()));
    }

    /// Holds UPD-09.
    #[test]
    fn model_that_disagrees_is_refused() {
        assert_eq!(
            refused(|f| f.found = 40),
            "it found 40 of the 60 faces that the running model found"
        );
        assert!(refused(|f| f.usable = 20).contains("would look at 20"));
        assert!(refused(|f| f.extra = 31).contains("31 faces in 60 frames"));
        let names =
            |lost, gained, other| Some(Names { same: 60 - lost - gained, lost, gained, other });
        assert!(refused(|f| f.names = names(13, 0, 0)).contains("no more"));
        assert!(refused(|f| f.names = names(0, 31, 0)).contains("named 31"));
        assert!(refused(|f| f.names = names(0, 0, 2)).contains("somebody else"));
        assert!(
            refused(|f| f.liveness = Some(Agreement { scored: 57, same: 20 })).contains("liveness")
        );
    }

    /// Holds UPD-10.
    #[test]
    fn model_that_is_slow_is_refused() {
        let slow = |running, new| {
            let cost = Some(Cost { running: [running, running], new: [new, new] });
            let costs = Costs { detect: cost, ..Costs::default() };
            judge(&Figures { cpu_ms: costs, ..sound() }, ROOM)
        };
        assert!(slow(13.0, 26.5).unwrap_err().contains("detection takes 26.5 ms"));
        assert_eq!(slow(13.0, 25.5), Ok(()));
        assert_eq!(slow(1.0, 4.9), Ok(()));
    }

    /// Holds UPD-11.
    #[test]
    fn model_that_is_too_large_is_refused() {
        let judge = |before: u64, now: u64, limit: Option<u64>| {
            judge(&sound(), (Some(before * MIB), Some(now * MIB), limit.map(|limit| limit * MIB)))
        };
        assert!(judge(150, 370, Some(384)).unwrap_err().contains("384 are allowed"));
        assert!(judge(100, 201, None).unwrap_err().contains("more than all had before"));
        assert_eq!(judge(150, 260, None), Ok(()));
    }

    #[test]
    fn limit_of_a_control_group() {
        let group = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(group.path().join(name), text).unwrap();
        assert_eq!(limit_of(group.path()), None);
        write("memory.high", "max\n");
        write("memory.max", "536870912\n");
        assert_eq!(limit_of(group.path()), Some(512 * MIB));
        write("memory.high", "402653184\n");
        assert_eq!(limit_of(group.path()), Some(384 * MIB));
    }

    #[test]
    fn what_is_counted() {
        let mut tally = Tally::new(true);
        let time = Some((Duration::from_millis(10), Duration::from_millis(12)));
        for score in [0.2, 0.5] {
            let compared = Compared {
                faces: 2,
                found: 1,
                usable: 1,
                liveness: Some((0.3, score)),
                detect: time,
                ..Compared::default()
            };
            tally.add(compared, (0.35, 0.4));
        }
        for (old, new) in [(Some(1), Some(1)), (None, None), (Some(1), None), (Some(1), Some(2))] {
            tally.name(old, new);
        }
        tally.name(None, Some(1));
        tally.add(Compared { failure: Some("first".into()), ..Compared::default() }, (0.0, 0.0));
        tally.add(Compared { failure: Some("second".into()), ..Compared::default() }, (0.0, 0.0));
        assert_eq!(tally.failure(), Some("first"));
        let figures = tally.figures(Duration::from_secs(7), ROOM);
        assert_eq!((figures.frames, figures.faces, figures.found, figures.seconds), (2, 4, 2, 7));
        assert_eq!(figures.names, Some(Names { same: 2, lost: 1, gained: 1, other: 1 }));
        assert_eq!(figures.liveness, Some(Agreement { scored: 2, same: 1 }));
        assert!((figures.cpu_ms.detect.unwrap().new[0] - 12.0).abs() < 1e-6);
        assert_eq!(figures.memory_mib, Some(110));
    }
}
