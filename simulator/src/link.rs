//! One MQTT connection, 3.1.1 and 5 behind one face.
//!
//! rumqttc reads and writes the packets: another implementation than the broker's. The connection itself
//! is this module's, as rumqttc's event loop (0.25) takes no socket of ours, so that there is no choosing a
//! source address; hands every publish to the operating system alone, which bounds a core to some ten
//! thousand a second; and never gives back the place of a publish at QoS 2 that was refused.
//!
//! A link lives for one connection, in a session that begins clean. After an error it is thrown away, and
//! whoever remembers what was not acknowledged opens a new one.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use crate::access::Access;
use crate::options::{MqttVersion, Qos};

mod flow;
mod socket;
mod wire;

use flow::Flow;
use socket::Stream;
use wire::{Heard, Wire};

/// Clients ping this often.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// For a connect, for a write that the server does not take, and for the answer to a ping: it may be
/// holding us back for a while, which is its right.
const PATIENCE: Duration = Duration::from_secs(15);
/// Requests that are written together.
const TOGETHER: usize = 64;
/// Bytes that wait for the socket; beyond them no request is taken.
const OUT_BYTES: usize = 256 * 1024;
/// Room for what is read at once: a thousand acknowledgements. There may be many connections.
const IN_BYTES: usize = 4 * 1024;

/// What a connection is opened with.
#[derive(Debug, Clone)]
pub(crate) struct LinkOptions {
    pub(crate) version: MqttVersion,
    pub(crate) access: Access,
    /// The address to connect from; the kernel's choice if there is none.
    pub(crate) source: Option<IpAddr>,
    pub(crate) client_id: String,
    /// Topic and payload of the retained message that the server publishes for us if we vanish.
    pub(crate) will: Option<(String, Bytes)>,
    /// Publishes that may be unacknowledged.
    pub(crate) window: u16,
    /// The largest packet that is taken.
    pub(crate) most_bytes: usize,
}

/// A publish, either way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) topic: Bytes,
    pub(crate) payload: Bytes,
    pub(crate) qos: Qos,
    pub(crate) retain: bool,
}

/// What happened on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LinkEvent {
    Connected,
    /// The next publish, in the order they were handed over, has this packet id: 0 at QoS 0, of which no
    /// more is heard.
    Sent(u16),
    /// The server has it: PUBACK, or PUBREC at QoS 2.
    Acknowledged {
        pkid: u16,
        /// With a reason code of 0x80 or above, which says this.
        refused: Option<&'static str>,
    },
    /// A subscription is there, but for so many of its filters.
    Subscribed {
        refused: usize,
    },
    /// The server published something that was subscribed to. It is acknowledged already.
    Heard(Message),
    /// Our DISCONNECT has left.
    Disconnected,
}

/// A connection that ended, or never began.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub(crate) struct LinkError(String);

impl From<io::Error> for LinkError {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

#[derive(Debug)]
enum Request {
    Publish(Message),
    Subscribe { filters: Vec<String>, qos: Qos },
    Disconnect,
}

/// The half that asks.
#[derive(Debug, Clone)]
pub(crate) struct LinkSender(mpsc::Sender<Request>);

/// The half that must be polled for anything to happen.
pub(crate) struct LinkDriver {
    options: LinkOptions,
    wire: Wire,
    requests: mpsc::Receiver<Request>,
    taken: Vec<Request>,
    connection: Option<Connection>,
    events: VecDeque<LinkEvent>,
    /// Told when all events are.
    broken: Option<LinkError>,
}

struct Connection {
    reader: ReadHalf<Box<dyn Stream>>,
    writer: WriteHalf<Box<dyn Stream>>,
    input: BytesMut,
    out: BytesMut,
    /// Something was written that may not have left.
    dirty: bool,
    /// When something left last, or nothing waited.
    left: Instant,
    flow: Flow,
    /// Ids of the server's publishes at QoS 2 that it has not released.
    received: HashSet<u16>,
    ping_at: Instant,
    pinged: bool,
    ending: bool,
}

/// Opens a link; its first poll connects.
pub(crate) fn open(options: &LinkOptions) -> (LinkSender, LinkDriver) {
    let (sender, requests) = mpsc::channel(usize::from(options.window) + 4);
    let driver = LinkDriver {
        options: options.clone(),
        wire: Wire(options.version),
        requests,
        taken: Vec::new(),
        connection: None,
        events: VecDeque::new(),
        broken: None,
    };
    (LinkSender(sender), driver)
}

impl LinkSender {
    async fn ask(&self, request: Request) -> Result<(), LinkError> {
        let gone = |_| LinkError("the connection is gone".to_owned());
        self.0.send(request).await.map_err(gone)
    }

    /// Hands over a publish.
    pub(crate) async fn publish(&self, message: Message) -> Result<(), LinkError> {
        self.ask(Request::Publish(message)).await
    }

    /// Subscribes.
    pub(crate) async fn subscribe(&self, filters: Vec<String>, qos: Qos) -> Result<(), LinkError> {
        self.ask(Request::Subscribe { filters, qos }).await
    }

    /// Asks for a DISCONNECT behind everything handed over so far.
    pub(crate) async fn disconnect(&self) -> Result<(), LinkError> {
        self.ask(Request::Disconnect).await
    }
}

impl LinkDriver {
    /// The next event. Cancel-safe, but for the connect.
    pub(crate) async fn poll(&mut self) -> Result<LinkEvent, LinkError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            if let Some(error) = self.broken.take() {
                return Err(error);
            }
            let Some(connection) = &mut self.connection else {
                let opened = timeout(PATIENCE, connect(&self.options, self.wire)).await;
                let late = |_| LinkError("the server did not answer in time".to_owned());
                self.connection = Some(opened.map_err(late)??);
                return Ok(LinkEvent::Connected);
            };
            if let Err(error) = connection.wait(&mut self.requests, &mut self.taken).await {
                self.broken = Some(error);
                continue;
            }
            let turn = connection.turn(self.wire, &self.options, &mut self.taken, &mut self.events);
            self.broken = turn.err();
        }
    }

    /// Events that nobody polled for before the link was given up.
    pub(crate) fn rest(&mut self) -> impl Iterator<Item = LinkEvent> {
        self.events.drain(..)
    }
}

async fn connect(options: &LinkOptions, wire: Wire) -> Result<Connection, LinkError> {
    let (mut reader, mut writer) = tokio::io::split(socket::open(options).await?);
    let (mut input, mut out) = (BytesMut::new(), BytesMut::new());
    wire.connect(options, KEEP_ALIVE, &mut out)?;
    writer.write_all(&out).await?;
    writer.flush().await?;
    out.clear();
    let heard = loop {
        if reader.read_buf(&mut input).await? == 0 {
            return Err(LinkError("the server closed the connection".to_owned()));
        }
        if let Some(heard) = wire.read(&mut input, options.most_bytes)? {
            break heard;
        }
    };
    let receive_maximum = match heard {
        Heard::Accepted { receive_maximum } => receive_maximum,
        Heard::Refused(why) | Heard::Ended(why) => return Err(LinkError(why)),
        other => return Err(LinkError(format!("the server began with {other:?}"))),
    };
    // One for a subscription beside the publishes.
    let mut flow = Flow::new(options.window.saturating_add(1));
    flow.at_most(receive_maximum);
    let now = Instant::now();
    Ok(Connection {
        reader,
        writer,
        input,
        out,
        dirty: false,
        left: now,
        flow,
        received: HashSet::new(),
        ping_at: now + KEEP_ALIVE,
        pinged: false,
        ending: false,
    })
}

impl Connection {
    /// Waits for the socket, a request or the clock. Cancel-safe.
    async fn wait(
        &mut self,
        requests: &mut mpsc::Receiver<Request>,
        taken: &mut Vec<Request>,
    ) -> Result<(), LinkError> {
        if self.ending && !self.dirty {
            return Ok(());
        }
        let room = self.flow.room().min(TOGETHER);
        let takes = room > 0 && self.out.len() < OUT_BYTES && !self.ending;
        let (stuck, ping_at) = (self.left + PATIENCE, self.ping_at);
        if self.input.capacity() - self.input.len() < IN_BYTES / 4 {
            self.input.reserve(IN_BYTES);
        }
        let (reader, writer) = (&mut self.reader, &mut self.writer);
        let (input, out) = (&mut self.input, &mut self.out);
        let waits = self.dirty;
        let (dirty, left) = (&mut self.dirty, &mut self.left);
        let moves = async {
            tokio::select! {
                read = reader.read_buf(input) => {
                    if read? == 0 {
                        return Err(LinkError("the server closed the connection".to_owned()));
                    }
                }
                pushed = push(writer, out), if waits => {
                    *dirty = pushed?;
                    *left = Instant::now();
                }
                count = requests.recv_many(taken, room), if takes => {
                    if count == 0 {
                        return Err(LinkError("nobody uses the connection any more".to_owned()));
                    }
                }
            }
            Ok(())
        };
        tokio::select! {
            // Whoever was not polled for a while looks at the socket first.
            biased;
            moved = moves => moved,
            () = sleep_until(stuck), if waits => {
                Err(LinkError("the server takes nothing".to_owned()))
            }
            () = sleep_until(ping_at) => {
                if self.pinged {
                    return Err(LinkError("the server does not answer pings".to_owned()));
                }
                self.pinged = true;
                self.ping_at = Instant::now() + KEEP_ALIVE;
                // The same bytes in both versions.
                self.out.extend_from_slice(&[0xc0, 0]);
                self.wrote();
                Ok(())
            }
        }
    }

    /// Does what the wait was for.
    fn turn(
        &mut self,
        wire: Wire,
        options: &LinkOptions,
        taken: &mut Vec<Request>,
        events: &mut VecDeque<LinkEvent>,
    ) -> Result<(), LinkError> {
        for request in taken.drain(..) {
            self.write(wire, request, events)?;
        }
        self.hear(wire, options.most_bytes, events)?;
        if self.ending && !self.dirty {
            events.push_back(LinkEvent::Disconnected);
        }
        Ok(())
    }

    /// Something waits to leave.
    fn wrote(&mut self) {
        if !self.dirty {
            self.dirty = true;
            self.left = Instant::now();
        }
    }

    fn write(
        &mut self,
        wire: Wire,
        request: Request,
        events: &mut VecDeque<LinkEvent>,
    ) -> Result<(), LinkError> {
        let full = || LinkError("more was handed over than there are packet ids".to_owned());
        match request {
            Request::Publish(message) => {
                let pkid = self.flow.publish(message.qos).ok_or_else(full)?;
                wire.publish(pkid, message, &mut self.out)?;
                // From here on it may have left.
                events.push_back(LinkEvent::Sent(pkid));
            }
            Request::Subscribe { filters, qos } => {
                let pkid = self.flow.subscribe().ok_or_else(full)?;
                wire.subscribe(pkid, &filters, qos, &mut self.out)?;
            }
            Request::Disconnect => {
                // The same bytes in both versions: a normal end.
                self.out.extend_from_slice(&[0xe0, 0]);
                self.ending = true;
            }
        }
        self.wrote();
        Ok(())
    }

    /// All packets that are there as a whole.
    fn hear(
        &mut self,
        wire: Wire,
        most: usize,
        events: &mut VecDeque<LinkEvent>,
    ) -> Result<(), LinkError> {
        let waiting = self.out.len();
        while let Some(heard) = wire.read(&mut self.input, most)? {
            match heard {
                Heard::Acknowledged { pkid, refused } => {
                    self.flow.puback(pkid)?;
                    events.push_back(LinkEvent::Acknowledged { pkid, refused });
                }
                Heard::Received { pkid, refused } => {
                    if self.flow.pubrec(pkid, refused.is_some())? {
                        wire.pubrel(pkid, &mut self.out)?;
                    }
                    events.push_back(LinkEvent::Acknowledged { pkid, refused });
                }
                Heard::Completed(pkid) => self.flow.pubcomp(pkid)?,
                Heard::Subscribed { pkid, refused } => {
                    self.flow.suback(pkid)?;
                    events.push_back(LinkEvent::Subscribed { refused });
                }
                Heard::Published { pkid, message } => {
                    let qos = message.qos;
                    let first = match qos {
                        Qos::AtMostOnce => true,
                        Qos::AtLeastOnce => {
                            wire.puback(pkid, &mut self.out)?;
                            true
                        }
                        Qos::ExactlyOnce => {
                            wire.pubrec(pkid, &mut self.out)?;
                            self.received.insert(pkid)
                        }
                    };
                    if first {
                        events.push_back(LinkEvent::Heard(message));
                    }
                }
                Heard::Released(pkid) => {
                    self.received.remove(&pkid);
                    wire.pubcomp(pkid, &mut self.out)?;
                }
                Heard::Pong => {
                    self.pinged = false;
                    self.ping_at = Instant::now() + KEEP_ALIVE;
                }
                Heard::Refused(why) | Heard::Ended(why) => return Err(LinkError(why)),
                Heard::Accepted { .. } | Heard::Other => {
                    return Err(LinkError("the server sent what only clients send".to_owned()));
                }
            }
        }
        if self.out.len() > waiting {
            self.wrote();
        }
        Ok(())
    }
}

/// Writes what it can; whether something is left. Cancel-safe.
async fn push(writer: &mut WriteHalf<Box<dyn Stream>>, out: &mut BytesMut) -> io::Result<bool> {
    if out.is_empty() {
        writer.flush().await?;
        return Ok(false);
    }
    if writer.write_buf(out).await? == 0 {
        return Err(io::ErrorKind::WriteZero.into());
    }
    if out.is_empty() {
        // Of TLS some may be left; then this is tried again.
        writer.flush().await?;
    }
    Ok(!out.is_empty())
}
