//! A device with its own state directory, and decisions for it to tell.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use familiar::config::{CameraSource, DeviceName};
use familiar::event::chain::{Chain, Report};
use familiar::event::jws::{Envelope, Verified, VerifyError};
use familiar::event::payload::Link;
use familiar::event::{Context, DeviceKey, Fact, Ledger, Limits, SignedMessage};
use familiar::model::ModelIdentity;
use familiar::mqtt::{Broker, Ears, Publisher};
use familiar::recognition::{Decision, Evidence, PersonRef, Verdict};
use familiar::system::state::StateDirectory;
use tempfile::TempDir;

pub struct Device {
    _folder: Option<TempDir>,
    pub state: StateDirectory,
    pub key: Arc<DeviceKey>,
    pub ledger: Ledger,
    told: AtomicUsize,
}

impl Device {
    pub fn new() -> Self {
        Self::at(tempfile::tempdir().unwrap())
    }

    /// With its state in the folder `state` there.
    pub fn at(folder: TempDir) -> Self {
        let device = Self::within(folder.path());
        Self { _folder: Some(folder), ..device }
    }

    /// The same in a folder of somebody else's.
    pub fn within(folder: &std::path::Path) -> Self {
        // RUST_LOG=debug shows what happened.
        let _ = env_logger::Builder::from_default_env().is_test(true).try_init();
        let state = StateDirectory::at(folder.join("state")).unwrap();
        let (key, ledger) = open(&state);
        Self { _folder: None, state, key, ledger, told: AtomicUsize::new(0) }
    }

    /// Records so many events.
    pub fn tell(&self, events: usize) -> Vec<SignedMessage> {
        let first = self.told.fetch_add(events, Ordering::SeqCst);
        (first..first + events)
            .map(|n| self.ledger.record(&recognized(n as u64)).unwrap())
            .collect()
    }

    pub fn publisher(&self, url: &str, extra: &str) -> Publisher {
        let mqtt = toml::from_str(&format!("url = {url:?}\n{extra}")).unwrap();
        let broker = Broker::new(&mqtt, &self.state).unwrap();
        let identity = self.key.identity(&name()).unwrap();
        Publisher::start(broker, &name(), identity, Ears::default(), &self.state).unwrap()
    }

    pub fn verify(&self, text: &str) -> Result<Verified, VerifyError> {
        Envelope::parse(text)?.verify(&self.key.public().clone().into(), None)
    }

    /// What the chain check says of these events; each must verify.
    pub fn chain<'a>(&self, texts: impl IntoIterator<Item = &'a String>) -> Report {
        let mut chain = Chain::default();
        for text in texts {
            let event = self.verify(text).unwrap();
            chain.add(&event, &Link::of(&event.payload).unwrap());
        }
        chain.report()
    }
}

pub fn open(state: &StateDirectory) -> (Arc<DeviceKey>, Ledger) {
    let key = Arc::new(DeviceKey::open_or_create(state).unwrap());
    let ledger = bounded(state, &key, Limits::default());
    (key, ledger)
}

pub fn bounded(state: &StateDirectory, key: &Arc<DeviceKey>, limits: Limits) -> Ledger {
    Ledger::open(state, key.clone(), context(), limits).unwrap()
}

pub fn name() -> DeviceName {
    DeviceName::try_from("porch".to_owned()).unwrap()
}

pub fn context() -> Context {
    let model = ModelIdentity {
        name: "facenet".to_owned(),
        version: "1.0.0".to_owned(),
        digest: format!("sha256:{}", "5a".repeat(32)),
    };
    Context::new(name(), &CameraSource::Device("/dev/video0".into()), Some(model))
}

pub fn evidence() -> Evidence {
    Evidence {
        similarity: 0.712_345_6,
        threshold: 0.598_7,
        false_match_rate: 1e-4,
        frames: 3,
        liveness: None,
    }
}

pub fn person() -> PersonRef {
    PersonRef { id: "zoe".parse().unwrap(), name: "Zoë \"Z\" O'Neil".to_owned() }
}

pub fn decision(track: u64, verdict: Verdict) -> Fact {
    Fact::Decision(Decision { time: jiff::Timestamp::now(), track, verdict })
}

pub fn recognized(track: u64) -> Fact {
    decision(track, Verdict::Recognized { person: person(), evidence: evidence() })
}
