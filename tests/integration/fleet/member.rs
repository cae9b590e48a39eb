//! One device of the fleet.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use familiar::config::{CameraSource, DeviceName};
use familiar::event::chain::Chain;
use familiar::event::jws::Envelope;
use familiar::event::payload::Link;
use familiar::event::{Context, DeviceKey, Ledger, Limits, Typ};
use familiar::model::manifest::Version;
use familiar::model::update::archive::unpack;
use familiar::model::update::client::Client;
use familiar::model::update::download::download;
use familiar::model::update::fetch::Source;
use familiar::model::update::store::Store;
use familiar::model::{TrustAnchors, VerifiedBundle};
use familiar::mqtt::topics::Topics;
use familiar::mqtt::{Broker, Ears, Publisher, Statement};
use familiar::system::clock::Date;
use familiar::system::state::StateDirectory;

use crate::support::device::recognized;

pub struct Member {
    pub number: usize,
    name: DeviceName,
    state: StateDirectory,
    key: Arc<DeviceKey>,
    ledger: Ledger,
    publisher: Option<Publisher>,
    topics: Option<Topics>,
    /// Version of its bundle; none from the factory.
    runs: Option<Version>,
    polled: u64,
}

impl Member {
    pub fn new(number: usize, folder: &Path) -> Self {
        let name = DeviceName::try_from(format!("device-{number}")).unwrap();
        let state = StateDirectory::at(folder.join("devices").join(name.as_str())).unwrap();
        let key = Arc::new(DeviceKey::open_or_create(&state).unwrap());
        let context = Context::new(name.clone(), &CameraSource::Device("/dev/video0".into()), None);
        let ledger = Ledger::open(&state, key.clone(), context, Limits::default()).unwrap();
        let (publisher, topics, runs) = (None, None, None);
        Self { number, name, state, key, ledger, publisher, topics, runs, polled: 0 }
    }

    /// The root that it leaves the factory with.
    pub fn trust(&mut self, root: &[u8]) {
        self.store().write("root", root).unwrap();
    }

    fn store(&self) -> Store {
        Store::open(&self.state.file("update")).unwrap()
    }

    /// What the daemon's updater does, but for self-test, shadow run and slots: refresh, choose the newest that is for this
    /// device, download, verify the bundle's own signature. Whether it took one.
    pub fn poll(&mut self, source: &Source, anchors: &TrustAnchors) -> bool {
        self.polled += 1;
        let mut client =
            Client::refresh(self.store(), source.below("metadata"), Date::now()).unwrap();
        let now = client.now().time;
        let mut releases = client.releases().unwrap();
        releases.sort_by_key(|release| release.bundle.version);
        let newer = |version| self.runs.is_none_or(|runs| version > runs);
        let chosen = releases.iter().rev().find(|release| {
            newer(release.bundle.version) && release.is_for(self.key.kid(), &[], now)
        });
        let Some(release) = chosen else { return false };
        let archive = self.state.file("archive.tar");
        let location = client.location(&release.path, &release.target);
        download(
            &source.below("targets"),
            &location,
            &release.target,
            1 << 30,
            &archive,
            &mut |_| (),
        )
        .unwrap();
        let files = unpack(std::fs::File::open(&archive).unwrap()).unwrap();
        let bundle = VerifiedBundle::from_memory(&archive, files, anchors).unwrap();
        assert_eq!(bundle.identity().digest, release.bundle.digest);
        std::fs::remove_file(archive).unwrap();
        self.runs = Some(release.bundle.version);
        true
    }

    /// Whether the wave of that share, of the bundle with that digest, is for it: reckoned anew from what docs/updates.md says.
    pub fn is_due(&self, digest: &str, percent: f64) -> bool {
        use ring::digest::{SHA256, digest as sum};
        let hash = sum(&SHA256, format!("{}\n{digest}", self.key.kid()).as_bytes());
        let first = u32::from_be_bytes(hash.as_ref()[..4].try_into().unwrap());
        f64::from(first) * 100.0 < percent * 4_294_967_296.0
    }

    pub fn runs(&self, version: &str) -> bool {
        self.runs == Some(version.parse().unwrap())
    }

    pub fn connect(&mut self, url: &str) {
        let mqtt = toml::from_str(&format!("url = {url:?}\n")).unwrap();
        let broker = Broker::new(&mqtt, &self.state).unwrap();
        self.topics = Some(Topics::new(broker.prefix(), &self.name));
        let identity = self.key.identity(&self.name).unwrap();
        let started =
            Publisher::start(broker, &self.name, identity, Ears::default(), &self.state).unwrap();
        self.publisher = Some(started);
    }

    pub fn is_connected(&self) -> bool {
        self.publisher.as_ref().is_some_and(|publisher| publisher.status().connected)
    }

    /// Somebody made up is recognised so many times.
    pub fn tell(&mut self, events: usize) {
        for track in 0..events {
            self.ledger.record(&recognized(track as u64)).unwrap();
        }
        self.publisher.as_ref().unwrap().notify();
    }

    /// Nothing waits in its outbox.
    pub fn is_empty(&self) -> bool {
        self.ledger.depth().unwrap() == 0
    }

    /// A report of the size of a real one; its figures are made up.
    pub fn report(&mut self) {
        let quantiles = serde_json::json!({ "p50": 57.1, "p95": 61.2 });
        let report = serde_json::json!({
            "v": 1, "device": self.name.as_str(), "time": "2026-11-23T21:00:00.000Z", "clock": "synchronized",
            "boot": "00000000-0000-4000-8000-000000000000", "uptime": 86_400, "state": "watching", "version": "0.1.0",
            "key": self.key.kid(), "polled": self.polled,
            "model": { "name": "tiny", "version": "1.2.0", "digest": format!("sha256:{}", "5a".repeat(32)),
                       "verified": "2026-11-23T21:00:00.000Z", "origin": "a" },
            "camera": { "state": "ok", "name": "video0", "format": "YUYV 640x480 at 15 frames a second",
                        "frames_per_second": 15.0, "broken": 0, "heavy": 0 },
            "latency_ms": { "detect": quantiles, "embed": quantiles, "liveness": quantiles },
            "people": 4, "present": 1, "recognized": 12, "unknown": 3, "spoof": 0, "limited": 0,
            "refusals": { "quality": 120, "failures": 0, "panics": 0, "crowded": 0, "put_off": 4, "messages": 0 },
            "commands": { "accepted": 1, "refused": 0 }, "memory_mib": { "now": 150, "peak": 262 },
            "outbox": { "depth": 0, "capacity": 10_000, "storing": true, "waiting": 0, "lost": 0 },
            "broker": { "connections": 1, "acknowledged": 15 },
            "update": { "time": "2026-11-23T21:00:00.000Z", "outcome": "confirmed", "version": "1.2.0",
                        "model": { "name": "tiny", "version": "1.2.0", "digest": format!("sha256:{}", "5a".repeat(32)) } },
        });
        let message = self.key.sign(Typ::Health, &report.to_string()).unwrap();
        let topic = self.topics.as_ref().unwrap().health();
        self.publisher.as_ref().unwrap().retain(Statement::Signed { topic, message });
    }

    /// The broker keeps what was reported.
    pub fn is_settled(&self) -> bool {
        let topic = self.topics.as_ref().unwrap().health();
        self.publisher.as_ref().unwrap().is_settled(&topic)
    }

    /// Whether so many events of this device came (`told`: by topic), each by its key, and they are one chain.
    pub fn is_whole(&self, told: &BTreeMap<String, Vec<String>>, events: usize) -> bool {
        let ring = self.key.public().clone().into();
        let mut chain = Chain::default();
        let topic = self.topics.as_ref().unwrap().event();
        for text in told.get(&topic).into_iter().flatten() {
            let event = Envelope::parse(text).unwrap().verify(&ring, Some(Typ::Event)).unwrap();
            chain.add(&event, &Link::of(&event.payload).unwrap());
        }
        let report = chain.report();
        report.ok && report.events == events as u64
    }

    pub fn leave(&mut self) {
        self.publisher.take().unwrap().stop();
    }
}
