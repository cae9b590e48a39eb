//! One connection to a broker, MQTT 5, QoS 1.
//!
//! What is sent goes into a buffer at once and never waits; [`Connection::next`] moves bytes both
//! ways. It may be dropped at any moment (`select!`) and loses nothing. The one who publishes bounds
//! what is in flight, so the buffer stays small. Nothing is remembered between connections: the
//! outbox is the memory.
//!
//! The broker is not trusted. What it sends is read only as fast as it is handed out, one packet of
//! bounded size at a time; while it does not take our answers, nothing more is read; each wait has an
//! end; and what MQTT 5 forbids ends the connection.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, Connect, ConnectProperties, ConnectReturnCode, Disconnect, DisconnectReasonCode,
    Filter, LastWill, Login, Packet, PingReq, PubAck, Publish, Subscribe,
};
use rumqttc::v5::mqttbytes::{Error as CodecError, QoS};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep_until, timeout};

use super::broker::Broker;
use super::packets::{self, Received};
use super::reason::{Reason, SESSION_TAKEN_OVER};
use super::stream::{self, Stream};
use crate::system::dial::{self, DialError, Miss};
use crate::system::tls;

/// Messages that the broker may send before we acknowledge the first; it is told so.
const RECEIVE_MAXIMUM: u16 = 16;
/// While so many bytes wait to be sent, nothing is read: a broker that sends and never takes our
/// acknowledgements must not fill the memory. More than all that one publishes at once.
const OUTGOING_LIMIT: usize = 128 * 1024;
/// From the first byte to the broker's answer to the login.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// For what a broker said before it hung up.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How often to ask a silent broker whether it is there; it has as long to answer.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Codes of answers that are no refusals.
const SUCCESS: u8 = 0x00;
const NO_SUBSCRIBERS: u8 = 0x10;
const HIGHEST_QOS: u8 = 2;

/// Who connects.
#[derive(Debug, Clone)]
pub struct Session {
    pub client_id: String,
    /// Topic and text that the broker publishes, retained, when the connection breaks.
    pub will: Option<(String, &'static str)>,
    /// How long the broker keeps subscriptions and messages for us while we are away, in seconds.
    pub expiry: u32,
    /// Forget what an earlier connection left.
    pub clean: bool,
}

/// What came from the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    Message {
        topic: String,
        payload: Bytes,
        retained: bool,
    },
    /// The broker has taken the message with this packet id, or says why not.
    Acknowledged {
        id: u16,
        refusal: Option<Reason>,
    },
    /// The answer to the subscription with this packet id.
    Subscribed {
        id: u16,
        refusal: Option<Reason>,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("{}", dial::words(.0))]
    Io(std::io::Error),
    #[error("{0}")]
    Tls(String),
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("{host} is not an address of this machine: {address}; plain text stays here")]
    NotLoopback { host: String, address: SocketAddr },
    #[error("no answer in time")]
    Timeout,
    #[error("the broker refused the login: {0}")]
    Refused(Reason),
    #[error("the broker did not answer as one of MQTT 5 does; it must speak version 5")]
    NotVersion5,
    #[error("the broker takes no messages with QoS 1")]
    NoQos1,
    #[error("the broker keeps no retained messages; consumers need them")]
    NoRetain,
    #[error("the broker closed the connection")]
    Closed,
    #[error("the broker ended the connection: {0}")]
    Ended(Reason),
    #[error(
        "another client logged in with this device's client id, and the broker threw this one off"
    )]
    TakenOver,
    #[error("the broker broke the protocol: {0}")]
    Protocol(String),
    #[error("the broker takes packets of {limit} bytes at most, this one has {size}")]
    PacketTooLarge { size: usize, limit: u32 },
}

impl From<std::io::Error> for ClientError {
    fn from(error: std::io::Error) -> Self {
        // A broker that minds the client's certificate says so after the handshake (TLS 1.3).
        match tls::explain_io(&error, tls::BROKER) {
            Some(words) => Self::Tls(words),
            None => Self::Io(error),
        }
    }
}

impl ClientError {
    /// Whether another address of the broker's may do better: nobody has spoken for the broker yet.
    fn is_of_the_address(&self) -> bool {
        matches!(
            self,
            Self::Io(_)
                | Self::Tls(_)
                | Self::Timeout
                | Self::NotVersion5
                | Self::Closed
                | Self::Protocol(_)
        )
    }
}

/// A connection that the broker has accepted.
#[allow(clippy::struct_excessive_bools)] // none of them says anything about another
pub struct Connection {
    stream: Box<dyn Stream>,
    incoming: BytesMut,
    outgoing: BytesMut,
    unflushed: bool,
    packet_limit: Option<u32>,
    receive_maximum: u16,
    session_present: bool,
    keep_alive: Duration,
    /// When to ask whether the broker is there, or, having asked, to give up.
    timer: Instant,
    awaits_pong: bool,
    last_id: u16,
    by_hand: bool,
    received: Option<Receipt>,
    /// Why nothing more goes either way: said once all that had come in is handed out.
    broken: Option<ClientError>,
}

/// The broker's right to an acknowledgement for a message.
#[derive(Debug)]
pub struct Receipt(u16);

impl Connection {
    /// Connects and logs in: at whichever of the broker's addresses does both.
    pub async fn open(broker: &Broker, session: &Session) -> Result<Self, ClientError> {
        let mut addresses = stream::addresses(broker).await?;
        let mut misses: Vec<Miss> = Vec::new();
        let error = loop {
            let (address, stream) = match stream::open(broker, &addresses).await {
                Ok(opened) => opened,
                Err(more) => {
                    misses.extend(more);
                    break None;
                }
            };
            let login = timeout(CONNECT_TIMEOUT, Self::log_in(broker, session, stream)).await;
            match login.unwrap_or(Err(ClientError::Timeout)) {
                Err(error) if error.is_of_the_address() => {
                    misses.push(Miss::new(address, error.to_string()));
                    addresses.retain(|other| *other != address);
                    if addresses.is_empty() {
                        break (misses.len() == 1).then_some(error);
                    }
                }
                settled => return settled,
            }
        };
        let unreachable = || DialError::Unreachable { host: broker.host.clone(), misses };
        Err(error.unwrap_or_else(|| unreachable().into()))
    }

    async fn log_in(
        broker: &Broker,
        session: &Session,
        stream: Box<dyn Stream>,
    ) -> Result<Self, ClientError> {
        let mut connection = Self {
            stream,
            incoming: BytesMut::new(),
            outgoing: BytesMut::new(),
            unflushed: false,
            packet_limit: None,
            receive_maximum: u16::MAX,
            session_present: false,
            keep_alive: KEEP_ALIVE,
            timer: Instant::now() + CONNECT_TIMEOUT,
            awaits_pong: true,
            last_id: 0,
            by_hand: false,
            received: None,
            broken: None,
        };
        connection.send(&connect_packet(broker, session))?;
        let answer = loop {
            match packets::next(&mut connection.incoming) {
                Ok(Some(Received::Other(Packet::ConnAck(answer)))) => break answer,
                Ok(Some(Received::Ended(reason))) => return Err(ClientError::Ended(reason)),
                Ok(None) => connection.transfer().await?,
                Ok(Some(_)) | Err(_) => return Err(ClientError::NotVersion5),
            }
        };
        connection.accept(&answer, session)?;
        Ok(connection)
    }

    fn accept(&mut self, answer: &ConnAck, session: &Session) -> Result<(), ClientError> {
        let protocol = |what: &str| Err(ClientError::Protocol(what.to_owned()));
        if answer.code != ConnectReturnCode::Success {
            let text = answer.properties.as_ref().and_then(|p| p.reason_string.as_deref());
            return Err(ClientError::Refused(Reason::with(packets::code(answer.code), text)));
        }
        if session.clean && answer.session_present {
            return protocol("it knows a session that it was asked to forget");
        }
        self.session_present = answer.session_present;
        if let Some(properties) = &answer.properties {
            if properties.max_qos == Some(0) {
                return Err(ClientError::NoQos1);
            }
            if properties.retain_available == Some(0) {
                return Err(ClientError::NoRetain);
            }
            if properties.receive_max == Some(0) || properties.max_packet_size == Some(0) {
                return protocol("it takes no message at all");
            }
            self.packet_limit = properties.max_packet_size;
            self.receive_maximum = properties.receive_max.unwrap_or(u16::MAX);
            if let Some(seconds @ 1..) = properties.server_keep_alive {
                self.keep_alive = self.keep_alive.min(Duration::from_secs(seconds.into()));
            }
        }
        self.awaits_pong = false;
        self.timer = Instant::now() + self.keep_alive;
        Ok(())
    }

    /// Whether the broker still knew this client's subscriptions.
    pub fn session_present(&self) -> bool {
        self.session_present
    }

    /// How many messages the broker lets us send before it acknowledges the first.
    pub fn receive_maximum(&self) -> u16 {
        self.receive_maximum
    }

    /// The largest packet that the broker takes, in bytes, if it says so.
    pub fn packet_limit(&self) -> Option<u32> {
        self.packet_limit
    }

    /// Puts a message with QoS 1 on its way and gives the packet id of its acknowledgement.
    pub fn publish(&mut self, topic: &str, text: &str, retain: bool) -> Result<u16, ClientError> {
        let id = self.next_id();
        let payload = Bytes::copy_from_slice(text.as_bytes());
        let mut publish = Publish::new(topic, QoS::AtLeastOnce, payload, None);
        publish.pkid = id;
        publish.retain = retain;
        self.send(&Packet::Publish(publish))?;
        Ok(id)
    }

    /// Asks for a subscription and gives the packet id of its answer.
    pub fn subscribe(&mut self, filter: &str) -> Result<u16, ClientError> {
        let mut subscribe = Subscribe::new(Filter::new(filter, QoS::AtLeastOnce), None);
        let id = self.next_id();
        subscribe.pkid = id;
        self.send(&Packet::Subscribe(subscribe))?;
        Ok(id)
    }

    /// From now on a message is acknowledged by [`Connection::acknowledge`] alone, so that the broker
    /// keeps it for our session until we are done with it.
    pub fn acknowledge_by_hand(&mut self) {
        self.by_hand = true;
    }

    /// For the message given out last; `None` if there is nothing to acknowledge, or it was done.
    pub fn take_receipt(&mut self) -> Option<Receipt> {
        self.received.take()
    }

    pub fn acknowledge(&mut self, Receipt(id): Receipt) -> Result<(), ClientError> {
        self.send(&Packet::PubAck(PubAck::new(id, None)))
    }

    /// Waits for what comes next, sending and answering meanwhile. Messages are acknowledged when
    /// they are given out, unless that is done by hand.
    pub async fn next(&mut self) -> Result<Incoming, ClientError> {
        loop {
            if let Some(packet) = packets::next(&mut self.incoming)? {
                if let Some(incoming) = self.handle(packet)? {
                    return Ok(incoming);
                }
            } else if let Some(error) = self.broken.take() {
                return Err(error);
            } else if let Err(error) = self.transfer().await {
                if matches!(error, ClientError::Io(_)) {
                    self.hear_last_words().await;
                }
                self.broken = Some(error);
            }
        }
    }

    /// A broker that hangs up says why just before; while one writes, the broken connection is noticed first.
    async fn hear_last_words(&mut self) {
        let Self { stream, incoming, .. } = self;
        let hear = async {
            while incoming.len() < OUTGOING_LIMIT {
                incoming.reserve(1024);
                if !stream.read_buf(incoming).await.is_ok_and(|count| count > 0) {
                    break;
                }
            }
        };
        let _ = timeout(LAST_WORDS, hear).await;
    }

    /// Says goodbye, so that the broker drops the will.
    pub async fn close(mut self) -> Result<(), ClientError> {
        let goodbye = Disconnect::new(DisconnectReasonCode::NormalDisconnection);
        self.send(&Packet::Disconnect(goodbye))?;
        let Self { mut stream, mut outgoing, .. } = self;
        let send = async {
            stream.write_all_buf(&mut outgoing).await?;
            stream.flush().await?;
            stream.shutdown().await
        };
        Ok(timeout(CONNECT_TIMEOUT, send).await.map_err(|_| ClientError::Timeout)??)
    }

    fn handle(&mut self, packet: Received) -> Result<Option<Incoming>, ClientError> {
        match packet {
            Received::Acknowledged(id, reason) => {
                let taken = [SUCCESS, NO_SUBSCRIBERS].contains(&reason.code);
                Ok(Some(Incoming::Acknowledged { id, refusal: (!taken).then_some(reason) }))
            }
            Received::Subscribed(id, reason) => {
                let granted = reason.code <= HIGHEST_QOS;
                Ok(Some(Incoming::Subscribed { id, refusal: (!granted).then_some(reason) }))
            }
            Received::Ended(reason) if reason.code == SESSION_TAKEN_OVER => {
                Err(ClientError::TakenOver)
            }
            Received::Ended(reason) => Err(ClientError::Ended(reason)),
            Received::Other(Packet::Publish(publish)) => self.message(publish).map(Some),
            Received::Other(Packet::PingResp(_)) => {
                self.awaits_pong = false;
                self.timer = Instant::now() + self.keep_alive;
                Ok(None)
            }
            Received::Other(other) => {
                Err(ClientError::Protocol(format!("sent an unexpected {}", kind(&other))))
            }
        }
    }

    fn message(&mut self, publish: Publish) -> Result<Incoming, ClientError> {
        let Publish { qos, topic, pkid, payload, retain, properties, .. } = publish;
        self.received = None;
        match qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce if pkid == 0 => {
                return Err(ClientError::Protocol("sent QoS 1 without a packet id".to_owned()));
            }
            QoS::AtLeastOnce if self.by_hand => self.received = Some(Receipt(pkid)),
            QoS::AtLeastOnce => self.acknowledge(Receipt(pkid))?,
            // Never subscribed to.
            QoS::ExactlyOnce => return Err(ClientError::Protocol("sent QoS 2".to_owned())),
        }
        if properties.is_some_and(|properties| properties.topic_alias.is_some()) {
            return Err(ClientError::Protocol("used a topic alias; none was allowed".to_owned()));
        }
        let topic = String::from_utf8(topic.to_vec())
            .map_err(|_| ClientError::Protocol("sent a topic that is not UTF-8".to_owned()))?;
        if topic.is_empty() || topic.contains(['+', '#', '\0']) {
            return Err(ClientError::Protocol("sent a message on no topic".to_owned()));
        }
        // A copy: a slice of what was read would keep all of that in memory.
        let payload = Bytes::copy_from_slice(&payload);
        Ok(Incoming::Message { topic, payload, retained: retain })
    }

    fn send(&mut self, packet: &Packet) -> Result<(), ClientError> {
        match packet.write(&mut self.outgoing, self.packet_limit) {
            Ok(_) => Ok(()),
            Err(CodecError::OutgoingPacketTooLarge { pkt_size, max }) => {
                Err(ClientError::PacketTooLarge { size: pkt_size as usize, limit: max })
            }
            Err(error) => Err(ClientError::Protocol(error.to_string())),
        }
    }

    fn next_id(&mut self) -> u16 {
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        self.last_id
    }

    /// Reads or writes some bytes, or notices that the broker is silent.
    async fn transfer(&mut self) -> Result<(), ClientError> {
        self.incoming.reserve(8 * 1024);
        let (mut reader, mut writer) = tokio::io::split(&mut self.stream);
        let unsent = !self.outgoing.is_empty();
        // The timer still runs: a broker that takes nothing is given up.
        let may_read = self.outgoing.len() < OUTGOING_LIMIT;
        let write = async {
            if unsent {
                writer.write_buf(&mut self.outgoing).await.map(|_| true)
            } else {
                writer.flush().await.map(|()| false)
            }
        };
        tokio::select! {
            read = reader.read_buf(&mut self.incoming), if may_read => if read? == 0 {
                return Err(ClientError::Closed);
            },
            unflushed = write, if unsent || self.unflushed => self.unflushed = unflushed?,
            () = sleep_until(self.timer) => {
                if self.awaits_pong {
                    return Err(ClientError::Timeout);
                }
                self.send(&Packet::PingReq(PingReq))?;
                self.awaits_pong = true;
                self.timer = Instant::now() + self.keep_alive;
            }
        }
        Ok(())
    }
}

fn connect_packet(broker: &Broker, session: &Session) -> Packet {
    let mut properties = ConnectProperties::new();
    properties.session_expiry_interval = Some(session.expiry);
    properties.max_packet_size = Some(packets::LIMIT);
    properties.receive_maximum = Some(RECEIVE_MAXIMUM);
    let connect = Connect {
        // The broker waits half as long again; we ask in good time.
        keep_alive: KEEP_ALIVE.as_secs() as u16 * 2,
        client_id: session.client_id.clone(),
        clean_start: session.clean,
        properties: Some(properties),
    };
    let will = session
        .will
        .as_ref()
        .map(|(topic, text)| LastWill::new(topic, *text, QoS::AtLeastOnce, true, None));
    let login = broker
        .login
        .as_ref()
        .map(|login| Login::new(login.username.clone(), login.password.to_string()));
    Packet::Connect(connect, will, login)
}

fn kind(packet: &Packet) -> &'static str {
    match packet {
        Packet::Connect(..) => "CONNECT",
        Packet::ConnAck(_) => "CONNACK",
        Packet::PubRec(_) => "PUBREC",
        Packet::PubRel(_) => "PUBREL",
        Packet::PubComp(_) => "PUBCOMP",
        Packet::Subscribe(_) => "SUBSCRIBE",
        Packet::Unsubscribe(_) => "UNSUBSCRIBE",
        Packet::UnsubAck(_) => "UNSUBACK",
        Packet::PingReq(_) => "PINGREQ",
        Packet::Auth(_) => "AUTH",
        _ => "packet",
    }
}
