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
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, Connect, ConnectProperties, ConnectReturnCode, Disconnect, DisconnectReasonCode,
    Filter, LastWill, Login, Packet, PingReq, PubAck, PubAckReason, Publish, Subscribe,
    SubscribeReasonCode, check,
};
use rumqttc::v5::mqttbytes::{Error as CodecError, QoS};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsConnector;

use super::broker::{Broker, Security};

/// Largest packet that is taken from a broker, in bytes; it is told so.
const PACKET_LIMIT: u32 = 64 * 1024;
/// Messages that the broker may send before we acknowledge the first; it is told so.
const RECEIVE_MAXIMUM: u16 = 16;
/// While so many bytes wait to be sent, nothing is read: a broker that sends and never takes our
/// acknowledgements must not fill the memory. More than all that one publishes at once.
const OUTGOING_LIMIT: usize = 128 * 1024;
/// From the first step of connecting to the broker's answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// How often to ask a silent broker whether it is there; it has as long to answer.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// `DISCONNECT` packets have this first byte.
const DISCONNECT: u8 = 0xe0;

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
        refusal: Option<PubAckReason>,
    },
    /// The answer to a subscription.
    Subscribed {
        id: u16,
        refusal: Option<SubscribeReasonCode>,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{host} is not an address of this machine: {address}; plain text stays here")]
    NotLoopback { host: String, address: SocketAddr },
    #[error("no address found for {host}")]
    NoAddress { host: String },
    #[error("no answer in time")]
    Timeout,
    #[error("the broker refused the login: {0:?}")]
    Refused(ConnectReturnCode),
    #[error("the broker did not answer as one of MQTT 5 does; it must speak version 5")]
    NotVersion5,
    #[error("the broker takes no messages with QoS 1")]
    NoQos1,
    #[error("the broker keeps no retained messages; consumers need them")]
    NoRetain,
    #[error("the broker closed the connection")]
    Closed,
    #[error("the broker ended the connection: {0}")]
    Ended(String),
    #[error(
        "another client logged in with this device's client id, and the broker threw this one off"
    )]
    TakenOver,
    #[error("the broker broke the protocol: {0}")]
    Protocol(String),
    #[error("the broker takes packets of {limit} bytes, this one has more")]
    PacketTooLarge { limit: u32 },
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

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
}

/// The broker's right to an acknowledgement for a message.
#[derive(Debug)]
pub struct Receipt(u16);

impl Connection {
    /// Connects and logs in.
    pub async fn open(broker: &Broker, session: &Session) -> Result<Self, ClientError> {
        timeout(CONNECT_TIMEOUT, Self::log_in(broker, session))
            .await
            .map_err(|_| ClientError::Timeout)?
    }

    async fn log_in(broker: &Broker, session: &Session) -> Result<Self, ClientError> {
        let mut connection = Self {
            stream: open_stream(broker).await?,
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
        };
        connection.send(&connect_packet(broker, session))?;
        let answer = loop {
            match connection.take_packet() {
                Ok(Some(Packet::ConnAck(answer))) => break answer,
                Ok(None) => connection.transfer().await?,
                Err(error @ ClientError::Ended(_)) => return Err(error),
                Ok(Some(_)) | Err(_) => return Err(ClientError::NotVersion5),
            }
        };
        connection.accept(&answer, session)?;
        Ok(connection)
    }

    fn accept(&mut self, answer: &ConnAck, session: &Session) -> Result<(), ClientError> {
        let protocol = |what: &str| Err(ClientError::Protocol(what.to_owned()));
        if answer.code != ConnectReturnCode::Success {
            return Err(ClientError::Refused(answer.code));
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

    /// Asks for messages and gives the packet id of the answer.
    pub fn subscribe(&mut self, filter: &str) -> Result<u16, ClientError> {
        let id = self.next_id();
        let mut subscribe = Subscribe::new(Filter::new(filter, QoS::AtLeastOnce), None);
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
            if let Some(packet) = self.take_packet()? {
                if let Some(incoming) = self.handle(packet)? {
                    return Ok(incoming);
                }
            } else {
                self.transfer().await?;
            }
        }
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

    fn handle(&mut self, packet: Packet) -> Result<Option<Incoming>, ClientError> {
        match packet {
            Packet::Publish(publish) => self.message(publish).map(Some),
            Packet::PubAck(PubAck { pkid: id, reason, .. }) => {
                let taken =
                    matches!(reason, PubAckReason::Success | PubAckReason::NoMatchingSubscribers);
                Ok(Some(Incoming::Acknowledged { id, refusal: (!taken).then_some(reason) }))
            }
            Packet::SubAck(answer) => {
                let granted =
                    |code: &&SubscribeReasonCode| !matches!(code, SubscribeReasonCode::Success(_));
                let refusal = answer.return_codes.iter().find(granted).copied();
                Ok(Some(Incoming::Subscribed { id: answer.pkid, refusal }))
            }
            Packet::PingResp(_) => {
                self.awaits_pong = false;
                self.timer = Instant::now() + self.keep_alive;
                Ok(None)
            }
            other => Err(ClientError::Protocol(format!("sent an unexpected {}", kind(&other)))),
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
            Err(CodecError::OutgoingPacketTooLarge { max, .. }) => {
                Err(ClientError::PacketTooLarge { limit: max })
            }
            Err(error) => Err(ClientError::Protocol(error.to_string())),
        }
    }

    fn next_id(&mut self) -> u16 {
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        self.last_id
    }

    /// The next whole packet that was read.
    fn take_packet(&mut self) -> Result<Option<Packet>, ClientError> {
        next_packet(&mut self.incoming)
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

async fn open_stream(broker: &Broker) -> Result<Box<dyn Stream>, ClientError> {
    let addresses: Vec<SocketAddr> =
        tokio::net::lookup_host((broker.host.as_str(), broker.port)).await?.collect();
    if matches!(broker.security, Security::Loopback)
        && let Some(address) = addresses.iter().find(|address| !address.ip().is_loopback())
    {
        return Err(ClientError::NotLoopback { host: broker.host.clone(), address: *address });
    }
    if addresses.is_empty() {
        return Err(ClientError::NoAddress { host: broker.host.clone() });
    }
    let stream = TcpStream::connect(addresses.as_slice()).await?;
    stream.set_nodelay(true)?;
    Ok(match &broker.security {
        Security::Loopback | Security::Plaintext => Box::new(stream),
        Security::Tls(config, name) => {
            let connector = TlsConnector::from(config.clone());
            Box::new(connector.connect(name.clone(), stream).await?)
        }
    })
}

fn connect_packet(broker: &Broker, session: &Session) -> Packet {
    let mut properties = ConnectProperties::new();
    properties.session_expiry_interval = Some(session.expiry);
    properties.max_packet_size = Some(PACKET_LIMIT);
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

/// The next whole packet of what a broker sent.
pub(crate) fn next_packet(incoming: &mut BytesMut) -> Result<Option<Packet>, ClientError> {
    let protocol = |e: CodecError| ClientError::Protocol(e.to_string());
    let length = match check(incoming.iter(), Some(PACKET_LIMIT)) {
        Ok(header) => header.frame_length(),
        Err(CodecError::InsufficientBytes(_)) => return Ok(None),
        Err(error) => return Err(protocol(error)),
    };
    if incoming[0] == DISCONNECT {
        // rumqttc cannot read one without properties, and that is how Mosquitto sends them.
        let reason = (length > 2).then(|| DisconnectReasonCode::try_from(incoming[2]));
        return Err(match reason {
            Some(Ok(DisconnectReasonCode::SessionTakenOver)) => ClientError::TakenOver,
            Some(Ok(reason)) => ClientError::Ended(format!("{reason:?}")),
            _ => ClientError::Ended("no reason given".to_owned()),
        });
    }
    let mut frame = incoming.split_to(length);
    // A parser of foreign bytes that is not ours: should it ever panic, only this connection ends.
    catch_unwind(AssertUnwindSafe(|| Packet::read(&mut frame, None)))
        .unwrap_or(Err(CodecError::MalformedPacket))
        .map(Some)
        .map_err(protocol)
}
