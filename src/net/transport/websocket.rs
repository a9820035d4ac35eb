//! WebSocket as a filter of bytes (RFC 6455): frames come in and their payload goes up as it comes, whatever the frames'
//! borders; what comes down goes out in binary frames.
//!
//! Nothing of a message is kept: MQTT cuts the stream itself ([MQTT-6.0.0-2]). The frames' headers are read and written
//! by the `tungstenite` crate, whose own stream would keep whole messages.
use super::http::{self, MAX_REQUEST, WebSocketSettings};
use crate::net::door::contains;
use std::io::Cursor;
use std::net::IpAddr;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// Bytes of a frame's header, at most.
const MAX_HEADER: usize = 14;
/// Payload bytes of a control frame, at most.
const MAX_CONTROL: usize = 125;
/// The status codes of a close that we begin.
const PROTOCOL_ERROR: u16 = 1002;
const UNSUPPORTED_DATA: u16 = 1003;
const MESSAGE_TOO_BIG: u16 = 1009;
const GOING_AWAY: u16 = 1001;

/// How a WebSocket goes on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WebSocketFlow {
    /// It is open, or will be.
    Open,
    /// The client closed it.
    Ended,
    /// It broke the rules; the client is told in what is to be sent.
    Failed(&'static str),
}

/// What stands above a WebSocket.
pub trait Above {
    /// A proxy that is believed told the client's address. Comes before any payload.
    fn client_address(&mut self, address: IpAddr);
    /// Payload.
    fn take(&mut self, payload: &[u8]);
}

/// One server-side WebSocket.
pub struct WebSocket {
    state: State,
}

enum State {
    /// The request has not come whole.
    Request(Vec<u8>),
    Frames(Frames),
    /// A close was sent: nothing is to be read or written any more.
    Closed,
}

#[derive(Default)]
struct Frames {
    /// A header that has not come whole.
    header: [u8; MAX_HEADER],
    header_bytes: usize,
    /// The frame whose payload is being read.
    frame: Option<Frame>,
    /// The payload of a control frame that has not come whole.
    control: Vec<u8>,
    /// A message's last frame has not come.
    is_fragmented: bool,
}

struct Frame {
    opcode: OpCode,
    mask: [u8; 4],
    left: u64,
}

impl Default for WebSocket {
    fn default() -> WebSocket {
        WebSocket { state: State::Request(Vec::new()) }
    }
}

impl WebSocket {
    /// Whether frames may be sent: after the request, before the close.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Frames(_))
    }

    /// Bytes came. Payload goes to `above`; answers are appended to `out`. `scratch` is used while this runs.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        settings: &WebSocketSettings,
        peer: Option<IpAddr>,
        scratch: &mut Vec<u8>,
        out: &mut Vec<u8>,
        above: &mut impl Above,
    ) -> WebSocketFlow {
        let mut behind = None;
        if let State::Request(request) = &mut self.state {
            let searched = request.len().saturating_sub(3);
            request.extend_from_slice(bytes);
            let end = memchr::memmem::find(&request[searched..], b"\r\n\r\n").map(|at| searched + at + 4);
            let Some(end) = end.filter(|end| *end <= MAX_REQUEST) else {
                if request.len() <= MAX_REQUEST {
                    return WebSocketFlow::Open;
                }
                out.extend_from_slice(
                    b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\n\r\n",
                );
                self.state = State::Closed;
                return WebSocketFlow::Failed("a request that is too long");
            };
            match http::answer(&request[..end], settings, peer) {
                Ok(accepted) => {
                    out.extend_from_slice(accepted.response.as_bytes());
                    // A proxy that tells nobody's address connects for itself.
                    let proxy = peer.filter(|peer| contains(&settings.forwarded_from, *peer));
                    accepted.client.or(proxy).into_iter().for_each(|address| above.client_address(address));
                    behind = Some(request.split_off(end));
                    self.state = State::Frames(Frames::default());
                }
                Err(refused) => {
                    out.extend_from_slice(refused.response.as_bytes());
                    self.state = State::Closed;
                    return WebSocketFlow::Failed(refused.why);
                }
            }
        }
        let State::Frames(frames) = &mut self.state else { return WebSocketFlow::Ended };
        let bytes = behind.as_deref().unwrap_or(bytes);
        let outcome = frames.receive(bytes, settings.max_frame, scratch, out, above);
        match outcome {
            Ok(false) => WebSocketFlow::Open,
            Ok(true) => {
                self.state = State::Closed;
                WebSocketFlow::Ended
            }
            Err((code, why)) => {
                push_frame(OpCode::Control(Control::Close), &code.to_be_bytes(), out);
                self.state = State::Closed;
                WebSocketFlow::Failed(why)
            }
        }
    }

    /// Ends it from our side.
    pub fn say_goodbye(&mut self, out: &mut Vec<u8>) {
        if self.is_open() {
            push_frame(OpCode::Control(Control::Close), &GOING_AWAY.to_be_bytes(), out);
            self.state = State::Closed;
        }
    }
}

/// Appends the header of a binary frame with `length` bytes of payload, which the caller appends.
pub fn push_header(length: usize, out: &mut Vec<u8>) {
    push_header_of(OpCode::Data(Data::Binary), length, out);
}

fn push_header_of(opcode: OpCode, length: usize, out: &mut Vec<u8>) {
    let header = FrameHeader { opcode, ..FrameHeader::default() };
    header.format(length as u64, out).expect("a vector takes what is written");
}

fn push_frame(opcode: OpCode, payload: &[u8], out: &mut Vec<u8>) {
    push_header_of(opcode, payload.len(), out);
    out.extend_from_slice(payload);
}

type Wrong = (u16, &'static str);

impl Frames {
    /// True when the client closed.
    fn receive(
        &mut self,
        mut bytes: &[u8],
        max_frame: u64,
        scratch: &mut Vec<u8>,
        out: &mut Vec<u8>,
        above: &mut impl Above,
    ) -> Result<bool, Wrong> {
        loop {
            let Some(frame) = &mut self.frame else {
                if !self.read_header(&mut bytes, max_frame)? {
                    return Ok(false);
                }
                continue;
            };
            let count = usize::try_from(frame.left).unwrap_or(usize::MAX).min(bytes.len());
            if count == 0 && frame.left > 0 {
                return Ok(false);
            }
            let (payload, rest) = bytes.split_at(count);
            bytes = rest;
            let plain = unmask(payload, &mut frame.mask, scratch);
            frame.left -= count as u64;
            let (opcode, is_whole) = (frame.opcode, frame.left == 0);
            if is_whole {
                self.frame = None;
            }
            match opcode {
                OpCode::Data(_) if plain.is_empty() => {}
                OpCode::Data(_) => above.take(plain),
                OpCode::Control(kind) => {
                    self.control.extend_from_slice(plain);
                    if is_whole {
                        let payload = std::mem::take(&mut self.control);
                        if answer_control(kind, &payload, out) {
                            return Ok(true);
                        }
                    }
                }
            }
        }
    }

    /// Reads a header; false when it has not come whole.
    fn read_header(&mut self, bytes: &mut &[u8], max_frame: u64) -> Result<bool, Wrong> {
        let known = self.header_bytes;
        let taken = bytes.len().min(MAX_HEADER - known);
        self.header[known..known + taken].copy_from_slice(&bytes[..taken]);
        let mut cursor = Cursor::new(&self.header[..known + taken]);
        let parsed =
            FrameHeader::parse(&mut cursor).map_err(|_| (PROTOCOL_ERROR, "a frame of no known kind"))?;
        let Some((header, length)) = parsed else {
            self.header_bytes = known + taken;
            *bytes = &bytes[taken..];
            return Ok(false);
        };
        *bytes = &bytes[cursor.position() as usize - known..];
        self.header_bytes = 0;
        self.check(&header, length, max_frame)?;
        let mask = header.mask.ok_or((PROTOCOL_ERROR, "a frame without a mask"))?;
        self.frame = Some(Frame { opcode: header.opcode, mask, left: length });
        Ok(true)
    }

    fn check(&mut self, header: &FrameHeader, length: u64, max_frame: u64) -> Result<(), Wrong> {
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err((PROTOCOL_ERROR, "an extension that was not agreed on"));
        }
        match header.opcode {
            OpCode::Control(_) if !header.is_final || length > MAX_CONTROL as u64 => {
                Err((PROTOCOL_ERROR, "a control frame that is too long or in pieces"))
            }
            OpCode::Control(_) => Ok(()),
            OpCode::Data(_) if length > max_frame => Err((MESSAGE_TOO_BIG, "a frame that is too large")),
            // [MQTT-6.0.0-1]
            OpCode::Data(Data::Text) => Err((UNSUPPORTED_DATA, "text where MQTT is binary")),
            OpCode::Data(kind) if (kind == Data::Continue) != self.is_fragmented => {
                Err((PROTOCOL_ERROR, "a frame that does not go on with its message"))
            }
            OpCode::Data(_) => {
                self.is_fragmented = !header.is_final;
                Ok(())
            }
        }
    }
}

/// Bytes that are unmasked at a time.
const WIDE: usize = 64;

/// Puts the unmasked payload into the beginning of `into`, which is as long as it has ever been, and turns the mask to
/// where the next payload goes on. One pass, so that it costs hardly more than a copy.
fn unmask<'a>(payload: &[u8], mask: &mut [u8; 4], into: &'a mut Vec<u8>) -> &'a [u8] {
    if into.len() < payload.len() {
        into.resize(payload.len(), 0);
    }
    let wide: [u8; WIDE] = std::array::from_fn(|at| mask[at % mask.len()]);
    let plain = &mut into[..payload.len()];
    for (from, to) in payload.chunks(WIDE).zip(plain.chunks_mut(WIDE)) {
        from.iter().zip(to.iter_mut()).zip(&wide).for_each(|((from, to), mask)| *to = from ^ mask);
    }
    mask.rotate_left(payload.len() % 4);
    plain
}

/// Answers a control frame; true when it closes.
fn answer_control(kind: Control, payload: &[u8], out: &mut Vec<u8>) -> bool {
    match kind {
        Control::Ping => push_frame(OpCode::Control(Control::Pong), payload, out),
        Control::Close => {
            let code = payload.get(..2).unwrap_or_default();
            push_frame(OpCode::Control(Control::Close), code, out);
            return true;
        }
        Control::Pong | Control::Reserved(_) => {}
    }
    false
}
