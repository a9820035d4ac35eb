//! The client's side of a WebSocket, as a stream of bytes.
use super::must_wait;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Cursor, ErrorKind, Read, Write};
use tungstenite::handshake::client::generate_key;
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// Payload bytes of one frame that is sent.
const FRAME: usize = 64 << 10;
/// Bytes asked for with one read.
const READ: usize = 64 << 10;
/// Bytes of the answer to the request.
const MAX_RESPONSE: usize = 16 << 10;
/// Payload bytes of a control frame.
const MAX_CONTROL: u64 = 125;

/// One WebSocket.
pub(super) struct WebSocket {
    /// What the answer must contain; `None` once it came.
    accept: Option<String>,
    /// What is to be sent, and how much of it is.
    output: Vec<u8>,
    sent: usize,
    /// What was received, and how much of it is taken.
    input: Vec<u8>,
    taken: usize,
    /// Payload bytes of the frame that is being read.
    left: u64,
    masks: RandomState,
    frames: u64,
}

impl WebSocket {
    pub(super) fn new(host: &str, path: &str) -> WebSocket {
        let key = generate_key();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
        );
        WebSocket {
            accept: Some(derive_accept_key(key.as_bytes())),
            output: request.into_bytes(),
            sent: 0,
            input: Vec::new(),
            taken: 0,
            left: 0,
            masks: RandomState::new(),
            frames: 0,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.accept.is_none()
    }

    pub(super) fn wants_write(&self) -> bool {
        self.sent < self.output.len()
    }

    pub(super) fn flush(&mut self, below: &mut impl Write) -> io::Result<()> {
        while self.sent < self.output.len() {
            self.sent += below.write(&self.output[self.sent..])?;
        }
        self.output.clear();
        self.sent = 0;
        Ok(())
    }

    pub(super) fn write(&mut self, below: &mut impl Write, bytes: &[u8]) -> io::Result<usize> {
        self.flush(below)?;
        if !self.is_open() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let count = bytes.len().min(FRAME);
        self.push_frame(OpCode::Data(Data::Binary), &bytes[..count]);
        // Whatever goes wrong now is told by the next call: these bytes are ours.
        let _ = self.flush(below);
        Ok(count)
    }

    pub(super) fn say_goodbye(&mut self) {
        if self.is_open() {
            self.push_frame(OpCode::Control(Control::Close), &[]);
        }
    }

    fn push_frame(&mut self, opcode: OpCode, payload: &[u8]) {
        self.frames += 1;
        let mask = (self.masks.hash_one(self.frames) as u32).to_ne_bytes();
        let header = FrameHeader { opcode, mask: Some(mask), ..FrameHeader::default() };
        header.format(payload.len() as u64, &mut self.output).expect("a vector takes what is written");
        let wide = u64::from_ne_bytes([mask, mask].concat().try_into().expect("eight bytes"));
        let mut words = payload.chunks_exact(8);
        for word in &mut words {
            let word = u64::from_ne_bytes(word.try_into().expect("eight bytes")) ^ wide;
            self.output.extend_from_slice(&word.to_ne_bytes());
        }
        self.output.extend(words.remainder().iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    }

    pub(super) fn read(&mut self, below: &mut (impl Read + Write), buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.flush(below) {
                Err(error) if !must_wait(&error) => return Err(error),
                _ => {}
            }
            while self.accept.is_none() {
                let here = &self.input[self.taken..];
                if self.left > 0 && !here.is_empty() {
                    let count =
                        here.len().min(buffer.len()).min(usize::try_from(self.left).unwrap_or(usize::MAX));
                    buffer[..count].copy_from_slice(&here[..count]);
                    self.taken += count;
                    self.left -= count as u64;
                    return Ok(count);
                }
                if self.left > 0 {
                    break;
                }
                match self.next_header()? {
                    None => break,
                    Some(true) => {}
                    Some(false) => return Ok(0),
                }
            }
            self.input.drain(..self.taken);
            self.taken = 0;
            let length = self.input.len();
            self.input.resize(length + READ, 0);
            let outcome = below.read(&mut self.input[length..]);
            self.input.truncate(length + *outcome.as_ref().unwrap_or(&0));
            if outcome? == 0 {
                return Ok(0);
            }
            if self.accept.is_some() {
                self.read_response()?;
            }
        }
    }

    /// Takes the next frame's header, and answers it if it is a control frame. `None`: it has not come whole;
    /// `Some(false)`: the broker closed.
    fn next_header(&mut self) -> io::Result<Option<bool>> {
        let mut cursor = Cursor::new(&self.input[self.taken..]);
        let parsed = FrameHeader::parse(&mut cursor).map_err(io::Error::other)?;
        let start = self.taken + cursor.position() as usize;
        let Some((header, length)) = parsed else { return Ok(None) };
        let OpCode::Control(kind) = header.opcode else {
            self.taken = start;
            self.left = length;
            return Ok(Some(true));
        };
        if length > MAX_CONTROL {
            return Err(io::Error::other("the broker sent a control frame that is too long"));
        }
        let Some(payload) = self.input.get(start..start + length as usize).map(<[u8]>::to_vec) else {
            return Ok(None);
        };
        self.taken = start + payload.len();
        match kind {
            Control::Ping => self.push_frame(OpCode::Control(Control::Pong), &payload),
            Control::Close => return Ok(Some(false)),
            _ => {}
        }
        Ok(Some(true))
    }

    fn read_response(&mut self) -> io::Result<()> {
        let Some(end) = memchr::memmem::find(&self.input, b"\r\n\r\n").map(|at| at + 4) else {
            return match self.input.len() > MAX_RESPONSE {
                true => Err(io::Error::other("the broker's answer is no HTTP")),
                false => Ok(()),
            };
        };
        let head = String::from_utf8_lossy(&self.input[..end]).into_owned();
        let wanted = self.accept.take().expect("asked only while it is awaited");
        let first = head.lines().next().unwrap_or_default();
        if !first.starts_with("HTTP/1.1 101") {
            return Err(io::Error::other(format!("no WebSocket there; the answer is {first:?}")));
        }
        if !head.contains(&wanted) {
            return Err(io::Error::other("the answer is not one to this request"));
        }
        self.taken = end;
        Ok(())
    }
}
