//! A broker that does what a test wants, and not what MQTT says.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

pub struct FakeBroker {
    pub port: u16,
    connections: Arc<AtomicUsize>,
}

/// Nothing to say.
pub const CONNACK: [u8; 5] = [0x20, 3, 0, 0, 0];

impl FakeBroker {
    /// Serves each connection on a thread of its own, with the number of those before it.
    pub fn start(serve: impl Fn(usize, TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let (serve, count) = (Arc::new(serve), connections.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let number = count.fetch_add(1, Ordering::SeqCst);
                let serve = serve.clone();
                std::thread::spawn(move || serve(number, stream));
            }
        });
        Self { port, connections }
    }

    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// A CONNACK with these bytes of properties.
pub fn connack(properties: &[u8]) -> Vec<u8> {
    let length = properties.len() as u8;
    [&[0x20, 3 + length, 0, 0, length], properties].concat()
}

/// A PUBLISH with QoS 1, retained.
pub fn retained(topic: &str, id: u16, payload: &[u8]) -> Vec<u8> {
    let mut body = (topic.len() as u16).to_be_bytes().to_vec();
    body.extend_from_slice(topic.as_bytes());
    body.extend_from_slice(&id.to_be_bytes());
    body.push(0);
    body.extend_from_slice(payload);
    let mut packet = vec![0x33];
    let mut length = body.len();
    loop {
        let more = length >= 128;
        packet.push((length % 128) as u8 | if more { 0x80 } else { 0 });
        length /= 128;
        if !more {
            break;
        }
    }
    packet.extend(body);
    packet
}

/// The next packet: its first byte and what follows the length.
pub fn packet(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut byte = [0];
    stream.read_exact(&mut byte).ok()?;
    let first = byte[0];
    let (mut length, mut shift) = (0usize, 0);
    loop {
        stream.read_exact(&mut byte).ok()?;
        length |= usize::from(byte[0] & 0x7f) << shift;
        shift += 7;
        if byte[0] < 128 {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((first, body))
}

/// What an honest broker answers to a packet.
pub fn answer(first: u8, body: &[u8]) -> Option<Vec<u8>> {
    Some(match first >> 4 {
        1 => CONNACK.to_vec(),
        3 => {
            let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
            vec![0x40, 2, body[2 + topic], body[3 + topic]]
        }
        8 => vec![0x90, 4, body[0], body[1], 0, 1],
        12 => vec![0xd0, 0],
        _ => return None,
    })
}

/// Answers as it should until the connection ends or `until` packets came.
pub fn honest(stream: &mut TcpStream, until: usize) {
    for _ in 0..until {
        let Some((first, body)) = packet(stream) else { return };
        if let Some(answer) = answer(first, &body)
            && stream.write_all(&answer).is_err()
        {
            return;
        }
    }
}
