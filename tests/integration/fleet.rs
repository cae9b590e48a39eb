//! A rehearsal with a fleet: many devices, one Mosquitto, one file server. `FAMILIAR_FLEET` says how many; `make fleet` takes a
//! thousand and prints what docs/fleet.md quotes.
//!
//! Real are the client of the repository (metadata, waves, download, the bundle's own signature), keys, ledgers, outboxes, every
//! message and every connection, each device's state in a folder of its own. Not there are cameras, networks and slots: what a
//! device saw is made up, and its bundle is a few kilobytes that are verified and not loaded.

mod member;
mod meter;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use familiar::model::VerifiedBundle;
use familiar::model::update::fetch::Source;

use crate::support::bundle::TestBundle;
use crate::support::files::FileServer;
use crate::support::judge;
use crate::support::mosquitto::{Mosquitto, Subscriber};
use member::Member;
use meter::{Meter, figure, spread};

/// In `make test`.
const FEW: usize = 40;
/// Devices that ask at the same time. Each would come at its own moment of the interval.
const AT_ONCE: usize = 8;
/// The end of patience, no measure of speed.
const PATIENT: Duration = Duration::from_mins(10);

struct Fleet {
    test: &'static str,
    folder: tempfile::TempDir,
    bundle: TestBundle,
    server: FileServer,
    members: Vec<Mutex<Member>>,
}

impl Fleet {
    fn new(test: &'static str) -> Option<Self> {
        judge::python(test)?;
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("repository")).unwrap();
        let count = std::env::var("FAMILIAR_FLEET").map_or(FEW, |text| text.parse().unwrap());
        let members = (0..count).map(|n| Mutex::new(Member::new(n, folder.path()))).collect();
        let server = FileServer::start(&folder.path().join("repository"));
        let fleet = Self { test, bundle: TestBundle::new(), server, members, folder };
        fleet.tool(&["create"]);
        let root = fleet.folder.path().join("repository/metadata/1.root.json");
        let root = std::fs::read(root).unwrap();
        fleet.each(|member| member.trust(&root));
        Some(fleet)
    }

    /// The publisher's program.
    fn tool(&self, arguments: &[&str]) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/repository.py");
        let mut python = judge::python(self.test).unwrap();
        python.args(["-B", script]).arg(self.folder.path().join("repository"));
        let output = python.arg(self.folder.path().join("keys")).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }

    /// Its digest.
    fn publish(&self, version: &str, percent: &str) -> String {
        let manifest = String::from_utf8(self.bundle.read("bundle.toml")).unwrap();
        let (head, rest) = manifest.split_once("\nversion = \"").unwrap();
        let rest = rest.split_once('"').unwrap().1;
        self.bundle
            .write("bundle.toml", format!("{head}\nversion = \"{version}\"{rest}").as_bytes());
        self.bundle.sign();
        let folder = self.folder.path().join(version);
        crate::support::home::copy(&self.bundle.path(), &folder);
        self.tool(&["add", folder.to_str().unwrap(), "--percent", percent]);
        let opened = VerifiedBundle::open(&self.bundle.path(), &self.bundle.anchors()).unwrap();
        opened.identity().digest
    }

    fn each(&self, work: impl Fn(&mut Member) + Sync) {
        let next = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    loop {
                        let n = next.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        let Some(member) = self.members.get(n) else { return };
                        work(&mut member.lock().unwrap());
                    }
                });
            }
        });
    }

    /// Who is of a wave.
    fn due(&self, digest: &str, percent: f64) -> BTreeSet<usize> {
        let members = self.members.iter().map(|member| member.lock().unwrap());
        members
            .filter(|member| member.is_due(digest, percent))
            .map(|member| member.number)
            .collect()
    }

    fn count(&self, wanted: impl Fn(&Member) -> bool) -> usize {
        self.members.iter().filter(|member| wanted(&member.lock().unwrap())).count()
    }

    /// Everybody looks once. Who took something, by number.
    fn poll(&self, what: &str) -> BTreeSet<usize> {
        let source = Source::new(&self.server.address()).unwrap();
        let anchors = self.bundle.anchors();
        let (requests, bytes) = self.server.traffic();
        let began = Instant::now();
        let took = Mutex::new(BTreeSet::new());
        self.each(|member| {
            if member.poll(&source, &anchors) {
                took.lock().unwrap().insert(member.number);
            }
        });
        let seconds = began.elapsed().as_secs_f64();
        let (now, sent) = self.server.traffic();
        let devices = self.members.len() as f64;
        figure(&format!("{what}: requests a device"), (now - requests) as f64 / devices);
        figure(
            &format!("{what}: bytes a device, both ways, without TLS"),
            (sent - bytes) as f64 / devices,
        );
        figure(&format!("{what}: devices a second"), devices / seconds);
        took.into_inner().unwrap()
    }

    /// Waits until all are so; when each was, from `began` on.
    fn settled(
        &self,
        what: &str,
        began: Instant,
        wanted: impl Fn(&Member) -> bool,
    ) -> Vec<Duration> {
        let mut when = vec![None; self.members.len()];
        while when.iter().any(Option::is_none) {
            for (when, member) in when.iter_mut().zip(&self.members) {
                if when.is_none() && wanted(&member.lock().unwrap()) {
                    *when = Some(began.elapsed());
                }
            }
            let missing = when.iter().filter(|it| it.is_none()).count();
            assert!(began.elapsed() < PATIENT, "{what}: {missing} devices never came to it");
            std::thread::sleep(Duration::from_millis(50));
        }
        when.into_iter().flatten().collect()
    }
}

/// Holds UPD-15, UPD-16.
#[test]
fn waves_reach_whom_they_name_and_a_restart_loses_nothing() {
    let test = "waves_reach_whom_they_name_and_a_restart_loses_nothing";
    let Some(fleet) = Fleet::new(test) else { return };
    // It keeps what the recorder has not had when it is stopped.
    let folder = fleet.folder.path().join("broker");
    std::fs::create_dir(&folder).unwrap();
    let options = format!(
        "persistence true\npersistence_location {}/\nautosave_interval 0\nmax_inflight_messages 1000",
        folder.display()
    );
    let Some(mut broker) = Mosquitto::start(test, &options) else { return };
    figure("devices", fleet.members.len() as f64);
    waves(&fleet);
    storm(&fleet, &mut broker);
}

fn waves(fleet: &Fleet) {
    let all = fleet.members.len();
    let digest = fleet.publish("1.0.0", "0");
    assert_eq!(fleet.poll("first poll").len(), 0, "a wave of nobody");
    assert_eq!(fleet.poll("poll, nothing new").len(), 0);

    // Each takes it once, when its turn has come, and nobody before.
    fleet.tool(&["rollout", "tiny-1.0.0.tar", "--percent", "1"]);
    let mut have = fleet.poll("wave of 1 %");
    figure("wave of 1 %: devices", have.len() as f64);
    assert_eq!(have, fleet.due(&digest, 1.0));
    for (percent, share) in [("10", 10.0), ("50", 50.0), ("100", 100.0)] {
        assert_eq!(fleet.poll(&format!("after the wave before {percent} %")).len(), 0);
        fleet.tool(&["rollout", "tiny-1.0.0.tar", "--percent", percent]);
        let more = fleet.poll(&format!("wave of {percent} %"));
        assert!(have.is_disjoint(&more), "nobody twice");
        have.extend(more);
        figure(&format!("wave of {percent} %: devices"), have.len() as f64);
        assert_eq!(have, fleet.due(&digest, share), "{percent} %");
    }
    assert_eq!(have.len(), all);
    assert_eq!(fleet.server.sent(".tar").len(), all, "each archive was fetched once a device");
    assert_eq!(fleet.count(|member| member.runs("1.0.0")), all);

    // A wave that goes wrong is halted by metadata alone; who has it has it, and nobody else takes it.
    let digest = fleet.publish("1.1.0", "10");
    let struck = fleet.poll("next wave of 10 %");
    assert_eq!(struck, fleet.due(&digest, 10.0));
    fleet.tool(&["rollout", "tiny-1.1.0.tar", "--percent", "0"]);
    assert_eq!(fleet.poll("halted wave").len(), 0);
    assert_eq!(fleet.count(|member| member.runs("1.1.0")), struck.len());
    // Another release reaches those who have the bad one, too.
    fleet.publish("1.2.0", "100");
    assert_eq!(fleet.poll("mended release").len(), all);
    assert_eq!(fleet.count(|member| member.runs("1.2.0")), all);
}

fn storm(fleet: &Fleet, broker: &mut Mosquitto) {
    const EVENTS: usize = 3;
    const REPORTS: usize = 20;
    let all = fleet.members.len();
    let (url, before) =
        (format!("mqtt://127.0.0.1:{}", broker.port), Meter::of(std::process::id()));
    let recorder = Subscriber::start(broker.port, "familiar/#", &["-c", "-i", "recorder"]);

    // All at once, as after a power cut of a whole town.
    let (empty, began) = (Meter::of(broker.pid()), Instant::now());
    fleet.each(|member| member.connect(&url));
    spread("connected, s", &fleet.settled("connected", began, Member::is_connected));
    let us = Meter::of(std::process::id());
    figure("memory a device in this process, KiB", us.kibibytes_since(&before) / all as f64);
    let began = Instant::now();
    fleet.each(|member| member.tell(EVENTS));
    fleet.settled("events taken", began, Member::is_empty);
    figure(
        "events a second, recorded, signed, delivered",
        (EVENTS * all) as f64 / began.elapsed().as_secs_f64(),
    );
    let (sent, meter, began) = (recorder.messages().len(), Meter::of(broker.pid()), Instant::now());
    for _ in 0..REPORTS {
        fleet.each(Member::report);
        fleet.settled("reports taken", began, Member::is_settled);
    }
    let reports = (REPORTS * all) as f64;
    let seconds = began.elapsed().as_secs_f64();
    wait_for(|| recorder.messages().len() >= sent + REPORTS * all, "every report came");
    let after = Meter::of(broker.pid());
    figure("reports a second, signed, delivered, retained", reports / seconds);
    figure("Mosquitto's processor time a report, ms", after.milliseconds_since(&meter) / reports);
    figure("memory of Mosquitto a device, KiB", after.kibibytes_since(&empty) / all as f64);
    let reports: Vec<String> = recorder.on("/health");
    figure(
        "bytes of a report",
        reports.iter().map(String::len).sum::<usize>() as f64 / reports.len() as f64,
    );
    let events: Vec<String> = recorder.on("/event");
    figure(
        "bytes of an event",
        events.iter().map(String::len).sum::<usize>() as f64 / events.len() as f64,
    );

    // The broker dies, with what its recorder is to have on its disk; meanwhile things happen.
    broker.signal("USR1");
    std::thread::sleep(Duration::from_secs(2));
    broker.kill();
    fleet.settled("noticed", Instant::now(), |member| !member.is_connected());
    fleet.each(|member| member.tell(EVENTS));
    let meter = Meter::none();
    broker.start_again();
    let began = Instant::now();
    spread(
        "connected again after its death, s",
        &fleet.settled("connected again", began, Member::is_connected),
    );
    fleet.settled("events of the meantime taken", began, Member::is_empty);
    figure("all events of the meantime delivered after, s", began.elapsed().as_secs_f64());
    figure(
        "Mosquitto's processor time for its start, s",
        Meter::of(broker.pid()).milliseconds_since(&meter) / 1e3,
    );

    // Nothing was lost, forged or out of order, of anybody.
    wait_for(|| recorder.on("/event").len() >= 2 * EVENTS * all, "every event came");
    let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (topic, text) in recorder.messages() {
        told.entry(topic).or_default().push(text);
    }
    assert_eq!(fleet.count(|member| member.is_whole(&told, 2 * EVENTS)), all, "whole chains");
    fleet.each(Member::leave);
    let gone = |text: &String| text == "offline";
    wait_for(
        || recorder.on("/availability").iter().filter(|text| gone(text)).count() >= all,
        "each said offline",
    );
}

fn wait_for(come: impl Fn() -> bool, what: &str) {
    let began = Instant::now();
    while !come() {
        assert!(began.elapsed() < PATIENT, "this never came: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
