//! MQTT in WebSocket frames (RFC 6455, MQTT 5 section 6) as a stream of bytes.
//!
//! The opening handshake and the form of frame headers are tungstenite's. Its message layer is not
//! used: it gathers a whole frame before it gives any of it away, which every connection could make us
//! hold, and keeps a buffer for each that says nothing. Here a frame's payload is unmasked where it
//! was read to and goes on at once: what is kept of a client is a frame header and a control frame.
//!
//! Never done: a text frame is never taken [MQTT-6.0.0-1], and where frames begin and end never
//! matters to MQTT [MQTT-6.0.0-2].

use std::io::{self, Cursor};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::accept_hdr_async_with_config;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

use super::Stream;
use super::origin::Origins;

/// Read and write buffer of the handshake; they are gone when it is over.
const HANDSHAKE_BUFFER: usize = 1024;

/// The longest payload of a control frame [RFC 6455, 5.5].
const MAX_CONTROL: usize = 125;

/// The longest header of a frame: two bytes, eight of length, four of mask.
const MAX_HEADER: usize = 14;

/// Payload of one frame that we send at most, and what waits to be written before more is taken.
const MAX_SENT: usize = 16 * 1024;

/// The sub-protocol, of both versions of MQTT [MQTT-6.0.0-3].
const SUB_PROTOCOL: &str = "mqtt";

/// Why a WebSocket did not come about.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) struct HandshakeError(#[from] tungstenite::Error);

/// See the module.
#[derive(Debug)]
pub(crate) struct WebSocket<S> {
    stream: S,
    max_frame: u64,
    /// The beginning of a frame header.
    header: [u8; MAX_HEADER],
    header_len: usize,
    /// The frame whose payload is being read.
    frame: Option<Frame>,
    /// A message began and its last frame has not come.
    fragmented: bool,
    /// The payload of the control frame that is being read.
    control: Vec<u8>,
    /// Bytes read that were no payload of MQTT and that nobody has asked for.
    overhead: usize,
    /// Frames that wait to be written.
    out: BytesMut,
    /// A close frame was sent: nothing may follow it.
    closed: bool,
    /// Nothing more is to be read: the client said so, or broke the protocol.
    ended: Option<Ended>,
}

#[derive(Debug)]
struct Frame {
    kind: Kind,
    left: u64,
    mask: [u8; 4],
    /// Which of the mask's bytes is next.
    turn: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Data,
    Ping,
    Pong,
    Close,
}

#[derive(Debug, Clone, Copy)]
enum Ended {
    Closed,
    Broken(&'static str),
}

/// What a client did that ends its WebSocket.
struct Broken {
    code: CloseCode,
    what: &'static str,
}

impl Broken {
    const fn protocol(what: &'static str) -> Self {
        Self { code: CloseCode::Protocol, what }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// The server's side of the opening handshake. Has no deadline of its own.
    pub(super) async fn accept(
        stream: S,
        origins: &Origins,
        max_frame: usize,
    ) -> Result<Self, HandshakeError> {
        // The type is the callback's.
        #[allow(clippy::result_large_err)]
        let callback = |request: &Request, response| answer(request, response, origins);
        let config = WebSocketConfig::default()
            .read_buffer_size(HANDSHAKE_BUFFER)
            .write_buffer_size(HANDSHAKE_BUFFER);
        let accepted = accept_hdr_async_with_config(stream, callback, Some(config)).await?;
        // Bytes that came behind the request are an error of the handshake: there are none to take over.
        Ok(Self::new(accepted.into_inner(), max_frame))
    }

    fn new(stream: S, max_frame: usize) -> Self {
        Self {
            stream,
            max_frame: max_frame as u64,
            header: [0; MAX_HEADER],
            header_len: 0,
            frame: None,
            fragmented: false,
            control: Vec::new(),
            overhead: 0,
            out: BytesMut::new(),
            closed: false,
            ended: None,
        }
    }

    /// Takes what was read, moving payload to its beginning. Returns how much payload there is.
    fn take(&mut self, bytes: &mut [u8]) -> usize {
        let (mut at, mut kept) = (0, 0);
        while at < bytes.len() && self.ended.is_none() {
            let taken = match self.frame.take() {
                None => self.take_header(bytes.get(at..).unwrap_or_default()).map(|n| (n, 0)),
                Some(frame) => Ok(self.take_payload(frame, bytes, at, kept)),
            };
            match taken {
                Ok((read, payload)) => (at, kept) = (at + read, kept + payload),
                Err(broken) => self.broken(&broken),
            }
            self.end_frame();
        }
        kept
    }

    /// Takes what there is of a frame header. Returns how many bytes it took.
    fn take_header(&mut self, bytes: &[u8]) -> Result<usize, Broken> {
        let before = self.header_len;
        loop {
            let needed = header_len(self.header, self.header_len);
            if self.header_len == needed {
                break;
            }
            let next = bytes.get(self.header_len - before);
            let (Some(next), Some(place)) = (next, self.header.get_mut(self.header_len)) else {
                return Ok(bytes.len());
            };
            *place = *next;
            self.header_len += 1;
        }
        let taken = self.header_len - before;
        let whole = self.header.get(..self.header_len).unwrap_or_default();
        self.header_len = 0;
        let parsed = FrameHeader::parse(&mut Cursor::new(whole));
        let Ok(Some((header, len))) = parsed else {
            return Err(Broken::protocol("a frame of no known kind"));
        };
        self.frame = Some(self.begin(&header, len)?);
        Ok(taken)
    }

    fn begin(&mut self, header: &FrameHeader, len: u64) -> Result<Frame, Broken> {
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(Broken::protocol("a reserved bit of a frame"));
        }
        let Some(mask) = header.mask else {
            return Err(Broken::protocol("a frame that is not masked"));
        };
        let kind = match header.opcode {
            OpCode::Data(Data::Binary) if !self.fragmented => Kind::Data,
            OpCode::Data(Data::Continue) if self.fragmented => Kind::Data,
            OpCode::Data(Data::Text) => {
                return Err(Broken { code: CloseCode::Unsupported, what: "a text frame" });
            }
            OpCode::Control(Control::Ping) => Kind::Ping,
            OpCode::Control(Control::Pong) => Kind::Pong,
            OpCode::Control(Control::Close) => Kind::Close,
            _ => return Err(Broken::protocol("a frame out of place")),
        };
        if kind == Kind::Data {
            if len > self.max_frame {
                return Err(Broken {
                    code: CloseCode::Size,
                    what: "a frame longer than max_packet_bytes",
                });
            }
            self.fragmented = !header.is_final;
        } else if !header.is_final || len > MAX_CONTROL as u64 {
            return Err(Broken::protocol("a control frame that is too long or in pieces"));
        }
        Ok(Frame { kind, left: len, mask, turn: 0 })
    }

    /// Takes what there is of a frame's payload. Returns how many bytes it took, and how many of them
    /// are for MQTT.
    fn take_payload(
        &mut self,
        mut frame: Frame,
        bytes: &mut [u8],
        at: usize,
        kept: usize,
    ) -> (usize, usize) {
        let there = bytes.len() - at;
        let len = usize::try_from(frame.left).map_or(there, |left| left.min(there));
        let payload = bytes.get_mut(at..at + len).unwrap_or_default();
        let mut mask = frame.mask;
        mask.rotate_left(frame.turn);
        for piece in payload.chunks_mut(4) {
            piece.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
        }
        frame.turn = (frame.turn + len) % 4;
        frame.left -= len as u64;
        let for_mqtt = if frame.kind == Kind::Data {
            bytes.copy_within(at..at + len, kept);
            len
        } else {
            self.control.extend_from_slice(payload);
            0
        };
        self.frame = Some(frame);
        (len, for_mqtt)
    }

    /// Sees to a frame whose payload has come, if there is one.
    fn end_frame(&mut self) {
        let Some(frame) = self.frame.take_if(|frame| frame.left == 0) else { return };
        let payload = std::mem::take(&mut self.control);
        match frame.kind {
            Kind::Data | Kind::Pong => {}
            // Who asks without listening is answered to some of it only [RFC 6455, 5.5.3].
            Kind::Ping if self.out.len() >= MAX_SENT => {}
            Kind::Ping => self.send(OpCode::Control(Control::Pong), &payload),
            Kind::Close => {
                self.close(&payload);
                self.ended = Some(Ended::Closed);
            }
        }
    }

    fn broken(&mut self, broken: &Broken) {
        self.close(&u16::from(broken.code).to_be_bytes());
        self.ended = Some(Ended::Broken(broken.what));
    }

    fn close(&mut self, payload: &[u8]) {
        self.send(OpCode::Control(Control::Close), payload);
        self.closed = true;
    }

    /// Appends a frame to what waits to be written.
    fn send(&mut self, opcode: OpCode, payload: &[u8]) {
        if self.closed {
            return;
        }
        let header = FrameHeader { opcode, ..FrameHeader::default() };
        let mut head = Vec::with_capacity(MAX_HEADER);
        // Writing to a Vec cannot fail.
        let _written = header.format(payload.len() as u64, &mut head);
        self.out.reserve(head.len() + payload.len());
        self.out.extend_from_slice(&head);
        self.out.extend_from_slice(payload);
    }

    /// Writes what waits to be written.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.out))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out.advance(written);
        }
        // Nothing is kept of a connection on which nothing moves.
        self.out = BytesMut::new();
        Poll::Ready(Ok(()))
    }
}

/// The length of the frame header that begins with `len` bytes of `header`, as far as they tell.
fn header_len(header: [u8; MAX_HEADER], len: usize) -> usize {
    let [_, second, ..] = header;
    if len < 2 {
        return 2;
    }
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    let length = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    2 + length + mask
}

/// Answers a request that is an opening handshake.
#[allow(clippy::result_large_err)]
fn answer(
    request: &Request,
    mut response: Response,
    origins: &Origins,
) -> Result<Response, ErrorResponse> {
    let refuse = |status, why: &str| {
        let mut refused = ErrorResponse::new(Some(format!("{why}\n")));
        *refused.status_mut() = status;
        let length = HeaderValue::from(why.len() + 1);
        refused.headers_mut().insert(header::CONTENT_LENGTH, length);
        refused
    };
    origins.check(request.headers()).map_err(|why| refuse(StatusCode::FORBIDDEN, why))?;
    let wanted = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let wanted = wanted.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    if !wanted.map(str::trim).any(|name| name == SUB_PROTOCOL) {
        let why = "the request does not name the sub-protocol mqtt";
        return Err(refuse(StatusCode::BAD_REQUEST, why));
    }
    let name = HeaderValue::from_static(SUB_PROTOCOL);
    response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, name);
    Ok(response)
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocket<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if !this.out.is_empty() {
                // Pongs and the last word, as far as there is room for them.
                let _later = this.poll_drain(cx)?;
            }
            match this.ended {
                Some(Ended::Closed) => return Poll::Ready(Ok(())),
                Some(Ended::Broken(what)) => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, what)));
                }
                None => {}
            }
            let start = buf.filled().len();
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
            let read = buf.filled_mut().get_mut(start..).unwrap_or_default();
            if read.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let read_len = read.len();
            let kept = this.take(read);
            this.overhead += read_len - kept;
            buf.set_filled(start + kept);
            if kept > 0 {
                return Poll::Ready(Ok(()));
            }
            if this.ended.is_none() {
                // Whoever sends nothing but control frames must not keep others waiting, and is paced.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocket<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if this.out.len() >= MAX_SENT {
            ready!(this.poll_drain(cx))?;
        }
        let piece = bytes.get(..MAX_SENT).unwrap_or(bytes);
        this.send(OpCode::Data(Data::Binary), piece);
        let _later = this.poll_drain(cx)?;
        Poll::Ready(Ok(piece.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.closed {
            this.close(&u16::from(CloseCode::Normal).to_be_bytes());
        }
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

impl<S: Stream> Stream for WebSocket<S> {
    fn buffered(&self) -> usize {
        self.out.len() + self.stream.buffered()
    }

    fn take_overhead(&mut self) -> usize {
        std::mem::take(&mut self.overhead)
    }
}

#[cfg(test)]
mod tests;
