//! What others tell the device, in a queue that cannot grow.

use std::collections::VecDeque;

use bytes::Bytes;

/// Messages that wait for the daemon; what comes on top is dropped and counted.
const ROOM: usize = 64;
/// A message that nobody could want is not kept: a command has at most 16 KiB (contract §4).
const LONGEST: usize = 16 * 1024;

/// Where a message to the device came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inbound {
    /// A signed command.
    Command,
    /// An unsigned command, by its name.
    Set(String),
}

/// A message to the device: not yet believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    pub inbound: Inbound,
    /// At most one byte more than 16 KiB: enough to see that it is too long.
    pub payload: Bytes,
    pub retained: bool,
}

#[derive(Debug, Default)]
pub(super) struct Inbox {
    waiting: VecDeque<Received>,
    dropped: u64,
    /// Home Assistant has started; not in the queue, where it would take the place of commands.
    birth: bool,
}

impl Inbox {
    pub fn put(&mut self, mut received: Received) {
        if self.waiting.len() >= ROOM {
            self.dropped += 1;
            return;
        }
        if received.payload.len() > LONGEST {
            // A copy: a slice would keep the whole.
            received.payload = Bytes::copy_from_slice(&received.payload[..=LONGEST]);
        }
        self.waiting.push_back(received);
    }

    pub fn note_birth(&mut self) {
        self.birth = true;
    }

    pub fn take_birth(&mut self) -> bool {
        std::mem::take(&mut self.birth)
    }

    pub fn take(&mut self) -> Option<Received> {
        self.waiting.pop_front()
    }

    /// Messages dropped since the start.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Holds MQT-22.
    #[test]
    fn endless_messages_fill_no_memory() {
        let mut inbox = Inbox::default();
        for _ in 0..1000 {
            let payload = Bytes::from(vec![b'x'; 60_000]);
            inbox.put(Received { inbound: Inbound::Command, payload, retained: true });
        }
        assert_eq!(inbox.dropped(), 1000 - ROOM as u64);
        let mut taken = 0;
        while let Some(received) = inbox.take() {
            assert_eq!(received.payload.len(), LONGEST + 1, "still recognisable as too long");
            taken += 1;
        }
        assert_eq!(taken, ROOM);
    }
}
