//! A TCP relay between device and broker that records, cuts and swallows.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

#[derive(Default)]
struct State {
    /// New connections are let through.
    open: AtomicBool,
    /// What the broker says does not arrive.
    deaf: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
    /// What the device sent, one buffer for each connection.
    sent: Mutex<Vec<Vec<u8>>>,
}

pub struct Proxy {
    pub port: u16,
    state: Arc<State>,
}

impl Proxy {
    pub fn start(broker: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State::default());
        state.open.store(true, Ordering::SeqCst);
        let shared = state.clone();
        std::thread::spawn(move || {
            for device in listener.incoming().map_while(Result::ok) {
                if !shared.open.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(broker) = TcpStream::connect(("127.0.0.1", broker)) else { continue };
                let index = {
                    let mut sent = shared.sent.lock().unwrap();
                    sent.push(Vec::new());
                    sent.len() - 1
                };
                shared
                    .streams
                    .lock()
                    .unwrap()
                    .extend([device.try_clone().unwrap(), broker.try_clone().unwrap()]);
                let (from, to) = (device.try_clone().unwrap(), broker.try_clone().unwrap());
                let state = shared.clone();
                std::thread::spawn(move || relay(from, to, &state, Some(index)));
                let state = shared.clone();
                std::thread::spawn(move || relay(broker, device, &state, None));
            }
        });
        Self { port, state }
    }

    /// Breaks every connection.
    pub fn cut(&self) {
        for stream in self.state.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Whether new connections reach the broker.
    pub fn open(&self, open: bool) {
        self.state.open.store(open, Ordering::SeqCst);
    }

    /// Whether the broker's answers are lost on the way.
    pub fn deaf(&self, deaf: bool) {
        self.state.deaf.store(deaf, Ordering::SeqCst);
    }

    pub fn sent(&self) -> Vec<Vec<u8>> {
        self.state.sent.lock().unwrap().clone()
    }
}

fn relay(mut from: TcpStream, mut to: TcpStream, state: &State, record: Option<usize>) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        match record {
            Some(index) => {
                state.sent.lock().unwrap()[index].extend_from_slice(&buffer[..count]);
            }
            None if state.deaf.load(Ordering::SeqCst) => continue,
            None => {}
        }
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
