//! Soak: the real daemon, a real Mosquitto and the real `verify`, while both are killed, stopped and
//! frozen, sessions wiped, access refused and connections cut, at random but seeded moments. At the
//! end every event that the device ever recorded has arrived, as signed, in order, the chain whole.
//!
//! ```text
//! familiar run ──▶ relay ──▶ Mosquitto ──▶ mosquitto_sub (persistent session)
//!                    ▲                          │
//!                    └── has it arrived? ◀──────┘
//! ```
//!
//! What is judged is everything that `mosquitto_sub` printed, in its order. A Mosquitto that is killed
//! forgets messages that it had acknowledged; that is the broker's loss, and no device can mend it. A
//! soak that excused every gap of that kind would excuse the device's own. So the relay keeps each
//! acknowledgement of an event back until the subscriber has printed the very message; if it does not
//! within a moment, the connection is cut and the acknowledgement never arrives. Together, relay,
//! broker and subscriber are a broker whose word holds; MQTT knows no upper bound on an
//! acknowledgement's delay, so all that the device sees is what a broker may do. Then nothing is
//! excused: each number from 1 to the last in the device's chain must have come.
//!
//! Beside the daemon, which recognises people who come and go, this program records with the device's
//! key as `familiar forget` does, up to some hundred events a second: so there are always some on their
//! way when a fault strikes.
//!
//! The seed fixes faults, their order and the pauses between them; when exactly a signal strikes the
//! other processes, it does not. `FAMILIAR_SOAK_SEED` and `FAMILIAR_SOAK_ROUNDS` choose.

pub mod home;
pub mod judge;
mod memory;
mod recorder;
mod relay;

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use familiar::event::{DeviceKey, Limits};

use crate::support::device::{Device, bounded, recognized};
use crate::support::mosquitto::{Mosquitto, signal};
use home::Home;
use judge::{judge, last_recorded};
use recorder::{Heard, Recorder};
use relay::Relay;

const ROUNDS: u64 = 3;
/// For what must come; no measure of speed but the end of patience. The publisher may have been told
/// to wait, and the machine may be busy.
const PATIENT: Duration = Duration::from_mins(3);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    DaemonKilled,
    DaemonKilledWhileStarting,
    DaemonStopped,
    DaemonFrozen,
    BrokerKilled,
    BrokerStopped,
    BrokerFrozen,
    SessionsWiped,
    ConnectionCut,
    ConnectionsRefused,
    AnswersLost,
    AnswersLate,
    EventsRefused,
    WindowChanged,
}

const FAULTS: [Fault; 14] = [
    Fault::DaemonKilled,
    Fault::DaemonKilledWhileStarting,
    Fault::DaemonStopped,
    Fault::DaemonFrozen,
    Fault::BrokerKilled,
    Fault::BrokerStopped,
    Fault::BrokerFrozen,
    Fault::SessionsWiped,
    Fault::ConnectionCut,
    Fault::ConnectionsRefused,
    Fault::AnswersLost,
    Fault::AnswersLate,
    Fault::EventsRefused,
    Fault::WindowChanged,
];

struct World {
    home: Home,
    broker: Mosquitto,
    relay: Relay,
    heard: Arc<Heard>,
    _recorder: Recorder,
    random: fastrand::Rng,
    window: u16,
    refusing: bool,
    frozen: bool,
    /// Events that another process recorded.
    beside: u64,
    done: BTreeMap<Fault, u64>,
}

impl World {
    fn new(test: &str, seed: u64) -> Option<Self> {
        let mut home = Home::new(test)?;
        let broker = Mosquitto::start(test, "")?;
        let heard = Arc::new(Heard::default());
        let relay = Relay::start(broker.port, &heard);
        home.configure(Some(relay.port), true);
        std::fs::create_dir(home.path("broker")).unwrap();
        // Before the daemon does, so that there is something to record with from the first moment.
        DeviceKey::open_or_create(&home.state()).unwrap();
        home.start_daemon();
        let mut world = Self {
            _recorder: Recorder::start(broker.port, &heard),
            home,
            broker,
            relay,
            heard,
            random: fastrand::Rng::with_seed(seed),
            window: 20,
            refusing: false,
            frozen: false,
            beside: 0,
            done: BTreeMap::new(),
        };
        world.configure_broker();
        world.broker.kill();
        world.broker.start_again();
        Some(world)
    }

    fn configure_broker(&self) {
        let rules = self.home.path("broker/acl");
        let write = if self.refusing { "" } else { "topic write familiar/porch/event\n" };
        let rest = "topic read #\ntopic write familiar/porch/availability\n\
                    topic write familiar/porch/identity\ntopic write familiar/porch/health\n\
                    topic write familiar/porch/person/#\ntopic write homeassistant/#\n";
        std::fs::write(&rules, format!("{rest}{write}")).unwrap();
        self.broker.configure(&format!(
            "acl_file {}\npersistence true\npersistence_location {}/\nautosave_on_changes true\n\
             autosave_interval 20\nmax_inflight_messages {}",
            rules.display(),
            self.home.path("broker").display(),
            self.window,
        ));
    }

    fn pause(&mut self, milliseconds: u64) {
        let pause = self.random.u64(0..=milliseconds);
        std::thread::sleep(Duration::from_millis(pause));
    }

    fn do_harm(&mut self, fault: Fault) {
        *self.done.entry(fault).or_default() += 1;
        match fault {
            Fault::DaemonKilled => self.home.kill_daemon(),
            Fault::DaemonKilledWhileStarting => {
                self.home.kill_daemon();
                self.home.start_daemon();
                self.pause(2500);
                self.home.kill_daemon();
            }
            Fault::DaemonStopped => {
                self.unfreeze();
                if let Some(status) = self.home.stop_daemon() {
                    // By the signal itself only before it has learnt to heed it.
                    let early = status.signal() == Some(15);
                    assert!(status.success() || early, "{status}\n{}", self.home.log_tail());
                }
            }
            Fault::DaemonFrozen => {
                if let Some(daemon) = self.home.daemon() {
                    signal(daemon, "STOP");
                    self.frozen = true;
                }
            }
            Fault::BrokerKilled => self.broker.kill(),
            Fault::BrokerStopped => {
                if self.broker.is_running() {
                    self.broker.signal("CONT");
                    self.broker.stop();
                }
            }
            Fault::BrokerFrozen => {
                if self.broker.is_running() {
                    self.broker.signal("STOP");
                }
            }
            Fault::SessionsWiped => {
                self.broker.kill();
                let _ = std::fs::remove_file(self.home.path("broker/mosquitto.db"));
                self.broker.start_again();
            }
            Fault::ConnectionCut => self.relay.cut(),
            Fault::ConnectionsRefused => {
                self.relay.close(true);
                self.relay.cut();
            }
            Fault::AnswersLost => self.relay.deafen(true),
            Fault::AnswersLate => self.relay.slow(self.random.u64(5..200)),
            Fault::EventsRefused => {
                self.refusing = true;
                self.reconfigure();
            }
            Fault::WindowChanged => {
                self.window = self.random.u16(1..=20);
                self.reconfigure();
            }
        }
    }

    fn reconfigure(&self) {
        self.configure_broker();
        if self.broker.is_running() {
            self.broker.reload();
        }
    }

    fn unfreeze(&mut self) {
        if std::mem::take(&mut self.frozen)
            && let Some(daemon) = self.home.daemon()
        {
            signal(daemon, "CONT");
        }
    }

    /// Ends all harm.
    fn heal(&mut self) {
        self.unfreeze();
        if self.broker.is_running() {
            self.broker.signal("CONT");
        } else {
            self.broker.start_again();
        }
        self.refusing = false;
        self.reconfigure();
        self.relay.close(false);
        self.relay.slow(0);
        // What was not answered never will be.
        self.relay.deafen(false);
        self.relay.cut();
        if self.home.daemon().is_none() {
            self.home.start_daemon();
        }
    }

    /// A few faults on top of each other, while events are recorded; then none, and all that was
    /// recorded until then arrives.
    fn round(&mut self) {
        // Half of the rounds strike a daemon that runs, the others one that may be starting.
        if self.random.bool() {
            self.heard.wait_for_all(self.heard.whole() + 1, Duration::from_secs(20));
        }
        let beside = (self.random.u8(0..4) > 0).then(|| self.record_beside());
        for _ in 0..self.random.u8(1..=4) {
            self.pause(900);
            if let Some(status) = self.home.ended() {
                panic!("the daemon ended by itself: {status}\n{}", self.home.log_tail());
            }
            let fault = FAULTS[self.random.usize(..FAULTS.len())];
            self.do_harm(fault);
        }
        self.pause(900);
        self.heal();
        if let Some(thread) = beside {
            self.beside += thread.join().expect("it records");
        }
        self.settle();
    }

    /// Another process that records with the device's key, as `forget` does, but many: so there are
    /// events on their way whenever a fault strikes.
    fn record_beside(&mut self) -> JoinHandle<u64> {
        let (state, mut random) = (self.home.state(), self.random.fork());
        std::thread::spawn(move || {
            let key = Arc::new(DeviceKey::open(&state).unwrap());
            let ledger = bounded(&state, &key, Limits::default());
            let number = random.u64(20..=300);
            for n in 0..number {
                while let Err(error) = ledger.record(&recognized(n)) {
                    // A daemon that was frozen within a transaction keeps others waiting.
                    assert!(error.to_string().contains("locked"), "{error}");
                }
                std::thread::sleep(Duration::from_millis(random.u64(0..=10)));
            }
            number
        })
    }

    fn settle(&self) {
        // A daemon that was killed early may not have recorded anything yet.
        let due = if self.home.path("state/outbox.db").exists() {
            last_recorded(&self.home.path("state"))
        } else {
            0
        };
        assert!(
            self.heard.wait_for_all(due, PATIENT),
            "event {} of {due} that were recorded never came; {}\n{}",
            self.heard.whole() + 1,
            self.relay.traffic(),
            self.home.log_tail()
        );
    }

    /// The recording ends, the daemon flushes its outbox and ends; then all is judged.
    fn end(mut self) -> (judge::Figures, Self) {
        let stopped = self.home.stop_daemon().unwrap();
        assert!(stopped.success() || stopped.signal() == Some(15), "{stopped}");
        self.home.configure(Some(self.relay.port), false);
        self.home.start_daemon();
        let ended = self.home.wait_for_daemon("ends");
        assert!(ended.success(), "{ended}\n{}", self.home.log_tail());
        self.settle();
        let outbox = familiar::event::Outbox::open(&self.home.state()).unwrap();
        assert_eq!(outbox.depth().unwrap(), 0, "acknowledged and still there");
        let last = last_recorded(&self.home.path("state"));
        match judge(&self.heard.all(), &self.home.jwk(), last) {
            Ok(figures) => (figures, self),
            Err(fault) => panic!("{fault}\n{}", self.home.log_tail()),
        }
    }
}

/// Holds EVT-06.
#[test]
fn nothing_lost_forged_or_out_of_order() {
    let number = |name| std::env::var(name).ok().and_then(|text: String| text.parse().ok());
    let seed = number("FAMILIAR_SOAK_SEED").unwrap_or(3);
    let rounds = number("FAMILIAR_SOAK_ROUNDS").unwrap_or(ROUNDS);
    let test = "nothing_lost_forged_or_out_of_order";
    println!("soak: seed {seed}, {rounds} rounds");
    let began = Instant::now();
    let Some(mut world) = World::new(test, seed) else { return };
    for round in 1..=rounds {
        world.round();
        if rounds < 20 || round % 10 == 0 {
            let (all, different) = world.heard.counts();
            println!(
                "soak: round {round} after {} s: {different} events arrived, {} again",
                began.elapsed().as_secs(),
                all - different,
            );
        }
    }
    let (figures, world) = world.end();
    println!(
        "soak: seed {seed}, {rounds} rounds in {} s: {} events ({} of them recorded by another process), each as signed, the \
         chain whole, 0 lost, 0 out of order, 0 unverifiable; {} duplicates; {}; faults {:?}",
        began.elapsed().as_secs(),
        figures.events,
        world.beside,
        figures.duplicates,
        world.relay.traffic(),
        world.done,
    );
    assert!(figures.events > rounds, "hardly anything happened");
}

/// Holds EVT-07.
#[test]
fn judge_finds_what_is_dropped_swapped_or_altered() {
    let device = Device::new();
    let all: Vec<String> = device.tell(30).iter().map(|m| m.as_str().to_owned()).collect();
    let jwk = device.key.public().to_jwk();
    let judged = |messages: &[String]| judge(messages, &jwk, 30);
    let mut again = all.clone();
    again.extend_from_slice(&all[20..]);
    assert_eq!(judged(&again).unwrap(), judge::Figures { events: 30, duplicates: 10 });

    for place in [0, 13, 29] {
        let mut dropped = all.clone();
        dropped.remove(place);
        judged(&dropped).unwrap_err();
    }
    for place in [0, 13, 28] {
        let mut swapped = all.clone();
        swapped.swap(place, place + 1);
        judged(&swapped).unwrap_err();
    }
    let mut altered = all.clone();
    altered[13] = altered[13].replace("0.7123", "0.9999");
    assert_ne!(altered, all);
    judged(&altered).unwrap_err();
    // Signed, but by somebody else; and an event that nobody recorded.
    let stranger = Device::new();
    let mut foreign = all.clone();
    foreign[29] = stranger.tell(30).pop().unwrap().as_str().to_owned();
    judged(&foreign).unwrap_err();
    judged(&[all.clone(), vec![device.tell(1).remove(0).as_str().to_owned()]].concat())
        .unwrap_err();
    judged(&[]).unwrap_err();
}
