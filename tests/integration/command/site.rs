//! A device with a gate, and an operator with a key.

use std::time::Duration;

use familiar::command::{
    Accepted, Gate, Judgement, Moment, OperatorKey, Order, Refusal, Refused, Reported,
};
use familiar::config::{self, Located};
use familiar::event::jws::Envelope;
use familiar::event::{DeviceKey, Typ};
use familiar::system::clock::ClockState;
use familiar::system::state::StateDirectory;
use jiff::{SignedDuration, Timestamp};
use tempfile::TempDir;

pub struct Site {
    pub folder: TempDir,
    pub state: StateDirectory,
    pub device: DeviceKey,
    pub operator: OperatorKey,
    pub gate: Gate,
    pub at: Moment,
}

impl Site {
    /// One operator may command.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("familiar.toml"), "device = \"porch\"\n").unwrap();
        let operator = OperatorKey::create(&folder.path().join("operator.pem")).unwrap();
        allow(folder.path(), &[&operator]);
        let state = StateDirectory::at(folder.path().join("state")).unwrap();
        let device = DeviceKey::open_or_create(&state).unwrap();
        let gate = Gate::open(&located(folder.path()), &state).unwrap();
        Self { folder, state, device, operator, gate, at: Moment::now() }
    }

    pub fn located(&self) -> Located {
        located(self.folder.path())
    }

    pub fn another_operator(&self, name: &str) -> OperatorKey {
        OperatorKey::create(&self.folder.path().join(name)).unwrap()
    }

    /// As after a restart of the daemon.
    pub fn restart(&mut self) {
        self.gate = Gate::open(&self.located(), &self.state).unwrap();
    }

    /// An order for this device, valid for a minute from now on.
    pub fn order(&self, id: &str, command: &str) -> Order {
        Order {
            id: id.to_owned().try_into().unwrap(),
            device: "porch".to_owned(),
            issued: self.at.time,
            expires: self.at.time + SignedDuration::from_secs(60),
            command: command.to_owned(),
            args: serde_json::Map::new(),
        }
    }

    pub fn sign(&self, id: &str, command: &str) -> String {
        self.operator.sign(&self.order(id, command))
    }

    /// Any text, signed by the operator's key as anything.
    pub fn sign_text(&self, typ: Typ, text: &str) -> String {
        // Only a device signs so freely; so the key becomes a device's.
        let state = StateDirectory::at(self.folder.path().join("signer")).unwrap();
        std::fs::copy(self.folder.path().join("operator.pem"), state.file("device-key")).unwrap();
        DeviceKey::open(&state).unwrap().sign(typ, text).unwrap().as_str().to_owned()
    }

    pub fn judge(&mut self, text: &str) -> Judgement {
        self.gate.judge(text.as_bytes(), false, &self.at)
    }

    pub fn accepted(&mut self, text: &str) -> Accepted {
        match self.judge(text) {
            Judgement::Accepted(accepted) => accepted,
            Judgement::Refused(refused) => panic!("{text}: {:?}", refused.reason()),
        }
    }

    /// Why the message is refused; the refusal is answered by a signed result that says the same.
    pub fn refused(&mut self, text: &str) -> Refusal {
        let refused = self.refusal(text.as_bytes());
        let reported = self.result(&refused);
        assert_eq!(reported.outcome, "refused");
        assert_eq!(reported.reason.as_deref(), Some(refused.reason().code()));
        refused.reason()
    }

    pub fn refusal(&mut self, bytes: &[u8]) -> Refused {
        match self.gate.judge(bytes, false, &self.at) {
            Judgement::Refused(refused) => refused,
            Judgement::Accepted(accepted) => panic!("took {:?}", accepted.command()),
        }
    }

    /// The result as an operator reads it, signature and all.
    pub fn result(&self, refused: &Refused) -> Reported {
        Reported::parse(&self.signed(&refused.answer().expect("an answer"))).unwrap()
    }

    /// The payload of the answer, signed by the device and verified.
    pub fn signed(&self, answer: &familiar::command::Answer) -> String {
        let payload = answer.to_json(&self.located().config.device, &self.at);
        let message = self.device.sign(Typ::Result, &payload).unwrap();
        let ring = self.device.public().clone().into();
        let envelope = Envelope::parse(message.as_str()).unwrap();
        envelope.verify(&ring, Some(Typ::Result)).unwrap().payload
    }

    /// Lets time pass, on the wall and in truth.
    pub fn pass(&mut self, seconds: u64) {
        self.at.time += SignedDuration::from_secs(seconds as i64);
        self.at.monotonic += Duration::from_secs(seconds);
    }

    /// Sets the clock, while in truth no time passes.
    pub fn set_clock(&mut self, time: Timestamp) {
        self.at.time = time;
        self.at.clock = ClockState::Unsynchronized;
    }
}

pub fn allow(folder: &std::path::Path, operators: &[&OperatorKey]) {
    let keys: Vec<String> = operators.iter().map(|key| key.public().to_jwk()).collect();
    std::fs::write(folder.join("operators.jwks"), format!("{{\"keys\":[{}]}}", keys.join(",")))
        .unwrap();
}

fn located(folder: &std::path::Path) -> Located {
    config::find(Some(&folder.join("familiar.toml"))).unwrap()
}
