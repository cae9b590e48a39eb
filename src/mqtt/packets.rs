//! The packets of a broker, one at a time and of bounded size.
//!
//! `rumqttc` reads them, but for those that say no: it refuses reason codes that MQTT 5 does not list for a
//! packet (Mosquitto acknowledges a message beyond `message_size_limit` with "packet too large"), and cannot
//! read a DISCONNECT without properties, as Mosquitto sends it. What the broker minds must not be lost.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::BytesMut;
use rumqttc::v5::mqttbytes::Error as CodecError;
use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, Packet, check};

use super::client::ClientError;
use super::reason::Reason;

/// Largest packet that is taken from a broker, in bytes; it is told so.
pub const LIMIT: u32 = 64 * 1024;

/// A packet that came from the broker.
#[allow(clippy::large_enum_variant)] // one at a time, and taken apart at once
#[derive(Debug)]
pub(crate) enum Received {
    /// The answer to a message, by its packet id.
    Acknowledged(u16, Reason),
    /// The answer to a subscription of one filter.
    Subscribed(u16, Reason),
    Ended(Reason),
    Other(Packet),
}

/// The next whole packet of what a broker sent.
pub(crate) fn next(incoming: &mut BytesMut) -> Result<Option<Received>, ClientError> {
    let protocol = |e: CodecError| ClientError::Protocol(e.to_string());
    let length = match check(incoming.iter(), Some(LIMIT)) {
        Ok(header) => header.frame_length(),
        Err(CodecError::InsufficientBytes(_)) => return Ok(None),
        Err(error) => return Err(protocol(error)),
    };
    let mut frame = incoming.split_to(length);
    if let Some(read) = answer(&frame) {
        return read
            .map(Some)
            .ok_or_else(|| ClientError::Protocol("sent an answer that cannot be read".to_owned()));
    }
    // A parser of foreign bytes that is not ours: should it ever panic, only this connection ends.
    catch_unwind(AssertUnwindSafe(|| Packet::read(&mut frame, None)))
        .unwrap_or(Err(CodecError::MalformedPacket))
        .map(|packet| Some(Received::Other(packet)))
        .map_err(protocol)
}

/// PUBACK, SUBACK and DISCONNECT; `None` for any other packet, `Some(None)` for one that is broken.
#[allow(clippy::option_option)]
fn answer(frame: &[u8]) -> Option<Option<Received>> {
    let mut rest = Bytes(frame);
    let first = rest.byte()?;
    rest.number()?;
    match first {
        0x40 => Some(rest.puback()),
        0x90 => Some(rest.suback()),
        0xe0 => Some(rest.reason().map(Received::Ended)),
        _ => None,
    }
}

/// What is left to read.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn short(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes([self.byte()?, self.byte()?]))
    }

    /// A number of up to four bytes of seven bits (section 1.5.5).
    fn number(&mut self) -> Option<usize> {
        let mut number = 0;
        for place in 0..4 {
            let byte = self.byte()?;
            number |= usize::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn puback(&mut self) -> Option<Received> {
        Some(Received::Acknowledged(self.short()?, self.reason()?))
    }

    fn suback(&mut self) -> Option<Received> {
        let id = self.short()?;
        let text = self.reason_string()?;
        // One filter was asked for at a time.
        Some(Received::Subscribed(id, Reason::with(self.byte()?, text)))
    }

    /// A code and properties, both of which may be absent (section 3.4.2.1).
    fn reason(&mut self) -> Option<Reason> {
        if self.0.is_empty() {
            return Some(Reason::new(0));
        }
        let code = self.byte()?;
        if self.0.is_empty() {
            return Some(Reason::new(code));
        }
        Some(Reason::with(code, self.reason_string()?))
    }

    /// The reason string among the properties that follow; `Some(None)` if there is none.
    #[allow(clippy::option_option)]
    fn reason_string(&mut self) -> Option<Option<&'a str>> {
        let length = self.number()?;
        let mut properties = Bytes(self.take(length)?);
        let mut found = None;
        while let Some(kind) = properties.byte() {
            match kind {
                // Session expiry.
                0x11 => drop(properties.take(4)?),
                // Server reference.
                0x1c => drop(properties.text()?),
                0x1f => found = std::str::from_utf8(properties.text()?).ok(),
                // A user property: name and value.
                0x26 => {
                    properties.text()?;
                    properties.text()?;
                }
                _ => return None,
            }
        }
        Some(found)
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.short()?;
        self.take(length.into())
    }
}

/// The number of a CONNACK's code.
pub(crate) fn code(code: ConnectReturnCode) -> u8 {
    use ConnectReturnCode as C;
    match code {
        C::Success => 0x00,
        // Three codes of MQTT 3.1.1, which a broker of version 5 does not send.
        C::RefusedProtocolVersion | C::UnsupportedProtocolVersion => 0x84,
        C::BadClientId | C::ClientIdentifierNotValid => 0x85,
        C::ServiceUnavailable | C::ServerUnavailable => 0x88,
        C::UnspecifiedError => 0x80,
        C::MalformedPacket => 0x81,
        C::ProtocolError => 0x82,
        C::ImplementationSpecificError => 0x83,
        C::BadUserNamePassword => 0x86,
        C::NotAuthorized => 0x87,
        C::ServerBusy => 0x89,
        C::Banned => 0x8a,
        C::BadAuthenticationMethod => 0x8c,
        C::TopicNameInvalid => 0x90,
        C::PacketTooLarge => 0x95,
        C::QuotaExceeded => 0x97,
        C::PayloadFormatInvalid => 0x99,
        C::RetainNotSupported => 0x9a,
        C::QoSNotSupported => 0x9b,
        C::UseAnotherServer => 0x9c,
        C::ServerMoved => 0x9d,
        C::ConnectionRateExceeded => 0x9f,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Received {
        next(&mut BytesMut::from(bytes)).unwrap().unwrap()
    }

    #[test]
    fn reasons_keep_their_code_whatever_packet_they_come_in() {
        let mut told = vec![0x40, 11, 0, 7, 0x95, 7, 0x1f, 0, 4];
        told.extend(b"big!");
        let Received::Acknowledged(7, reason) = read(&told) else { panic!("{told:?}") };
        assert_eq!(reason.to_string(), "packet too large (0x95), \"big!\"");
        assert!(
            matches!(read(&[0x40, 2, 0, 7]), Received::Acknowledged(7, reason) if reason.code == 0)
        );
        assert!(
            matches!(read(&[0x90, 4, 0, 9, 0, 0x87]), Received::Subscribed(9, reason) if reason.code == 0x87)
        );
        assert!(matches!(read(&[0xe0, 1, 0x8e]), Received::Ended(reason) if reason.code == 0x8e));
        assert!(matches!(read(&[0xe0, 0]), Received::Ended(reason) if reason.code == 0));
    }

    #[test]
    fn answers_that_are_cut_off_break_the_protocol() {
        for bytes in [&[0x40, 1, 0][..], &[0x90, 3, 0, 9, 0], &[0x40, 5, 0, 7, 0x87, 9, 0x1f]] {
            assert!(next(&mut BytesMut::from(bytes)).is_err(), "{bytes:?}");
        }
    }
}
