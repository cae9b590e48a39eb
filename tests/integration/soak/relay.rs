//! The relay between device and broker: it reads along, does harm when told to, and keeps an
//! acknowledgement back until the recorder has what was acknowledged.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::recorder::Heard;

/// How long an acknowledged message may take from the broker to the recorder.
const HEARING: Duration = Duration::from_millis(1500);

#[derive(Default)]
struct State {
    closed: AtomicBool,
    deaf: AtomicBool,
    /// Milliseconds that each piece of what the broker says is late.
    slow: AtomicU64,
    streams: Mutex<Vec<TcpStream>>,
    acknowledged: AtomicU64,
    refused: AtomicU64,
    unheard: AtomicU64,
}

pub struct Relay {
    pub port: u16,
    state: Arc<State>,
}

impl Relay {
    pub fn start(broker: u16, heard: &Arc<Heard>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State::default());
        let (shared, heard) = (state.clone(), heard.clone());
        std::thread::spawn(move || {
            for device in listener.incoming().map_while(Result::ok) {
                if shared.closed.load(SeqCst) {
                    continue;
                }
                // A broker that is away: the device sees its connection end.
                let Ok(broker) = TcpStream::connect(("127.0.0.1", broker)) else { continue };
                let _ = (device.set_nodelay(true), broker.set_nodelay(true));
                let clone = |stream: &TcpStream| stream.try_clone().unwrap();
                shared.streams.lock().unwrap().extend([clone(&device), clone(&broker)]);
                let events = Arc::new(Mutex::new(HashMap::new()));
                let (from, to, told) = (clone(&device), clone(&broker), events.clone());
                std::thread::spawn(move || upstream(from, to, &told));
                let (state, heard) = (shared.clone(), heard.clone());
                std::thread::spawn(move || downstream(broker, device, &state, &heard, &events));
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

    /// Whether new connections are turned away.
    pub fn close(&self, closed: bool) {
        self.state.closed.store(closed, SeqCst);
    }

    /// Whether the broker's answers are lost on the way.
    pub fn deafen(&self, deaf: bool) {
        self.state.deaf.store(deaf, SeqCst);
    }

    /// How late each piece of the broker's answers is.
    pub fn slow(&self, milliseconds: u64) {
        self.state.slow.store(milliseconds, SeqCst);
    }

    /// What went by: acknowledgements and refusals of events that the device got, and
    /// acknowledgements that it did not get, for the recorder had not got the event.
    pub fn traffic(&self) -> String {
        format!(
            "{} acknowledged, {} refused, {} acknowledged in vain",
            self.state.acknowledged.load(SeqCst),
            self.state.refused.load(SeqCst),
            self.state.unheard.load(SeqCst)
        )
    }
}

/// Packet ids of the events on one connection, with what they carry.
type Events = Mutex<HashMap<u16, String>>;

fn upstream(mut from: TcpStream, mut to: TcpStream, events: &Events) {
    let mut packets = Packets::default();
    while let Some(chunk) = read(&mut from) {
        packets.push(&chunk);
        while let Some(packet) = packets.next() {
            if let Some((id, text)) = event(&packet) {
                events.lock().unwrap().insert(id, text);
            }
        }
        // Known before it is sent on: the answer cannot come first.
        if to.write_all(&chunk).is_err() {
            break;
        }
    }
    let _ = (to.shutdown(Shutdown::Both), from.shutdown(Shutdown::Both));
}

fn downstream(
    mut from: TcpStream,
    mut to: TcpStream,
    state: &State,
    heard: &Heard,
    events: &Events,
) {
    let mut packets = Packets::default();
    'connected: while let Some(chunk) = read(&mut from) {
        packets.push(&chunk);
        std::thread::sleep(Duration::from_millis(state.slow.load(SeqCst)));
        while let Some(packet) = packets.next() {
            let about = puback(&packet)
                .and_then(|(id, reason)| Some((events.lock().unwrap().remove(&id)?, reason)));
            if let Some((text, reason)) = about {
                if reason >= 0x80 {
                    state.refused.fetch_add(1, SeqCst);
                } else if heard.wait_for(&text, HEARING) {
                    state.acknowledged.fetch_add(1, SeqCst);
                } else {
                    state.unheard.fetch_add(1, SeqCst);
                    break 'connected;
                }
            }
            // Judged where it leaves: what was kept back is lost as well.
            if !state.deaf.load(SeqCst) && to.write_all(&packet).is_err() {
                break 'connected;
            }
        }
    }
    let _ = (to.shutdown(Shutdown::Both), from.shutdown(Shutdown::Both));
}

fn read(from: &mut TcpStream) -> Option<Vec<u8>> {
    let mut buffer = [0; 8192];
    match from.read(&mut buffer) {
        Ok(count @ 1..) => Some(buffer[..count].to_vec()),
        _ => None,
    }
}

/// Cuts a stream into whole MQTT packets (MQTT 5 §2.1.4).
#[derive(Default)]
struct Packets(Vec<u8>);

impl Packets {
    fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn next(&mut self) -> Option<Vec<u8>> {
        let (length, digits) = variable(self.0.get(1..)?)?;
        let end = 1 + digits + length;
        (self.0.len() >= end).then(|| self.0.drain(..end).collect())
    }
}

/// A variable byte integer and its number of bytes (MQTT 5 §1.5.5).
fn variable(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (place, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some((value, place + 1));
        }
    }
    None
}

/// Id and payload of a PUBLISH on the topic of events (MQTT 5 §3.3).
fn event(packet: &[u8]) -> Option<(u16, String)> {
    if packet[0] >> 4 != 3 || packet[0] & 0b110 != 0b010 {
        return None;
    }
    let rest = &packet[1 + variable(&packet[1..])?.1..];
    let topic = 2 + usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?]));
    if !rest.get(2..topic)?.ends_with(b"/event") {
        return None;
    }
    let id = u16::from_be_bytes([*rest.get(topic)?, *rest.get(topic + 1)?]);
    let (properties, digits) = variable(rest.get(topic + 2..)?)?;
    let payload = rest.get(topic + 2 + digits + properties..)?;
    Some((id, String::from_utf8(payload.to_vec()).ok()?))
}

/// Id and reason of a PUBACK (MQTT 5 §3.4).
fn puback(packet: &[u8]) -> Option<(u16, u8)> {
    if packet[0] >> 4 != 4 {
        return None;
    }
    let id = u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]);
    Some((id, packet.get(4).copied().unwrap_or(0)))
}
