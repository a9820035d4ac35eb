//! An application message: borrowed on its way through the router, owned where it must wait.
use crate::codec::QoS;
use crate::time::Time;
use bytes::{BufMut, Bytes, BytesMut};
use std::cell::{Cell, OnceCell};

/// Payloads of at least this many bytes are shared by reference instead of being copied to each subscriber.
/// Below it a copy is cheaper than counting references and gathering the write.
pub const SHARE_FROM: usize = 2048;

/// Names one session for as long as the broker runs: shard in the upper eight bits, a counter below.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct SessionKey(pub u64);

impl SessionKey {
    /// The broker itself, as the publisher of `$SYS`.
    pub const BROKER: SessionKey = SessionKey(u64::MAX);

    /// The `count`-th session of a shard.
    pub fn new(shard: u8, count: u64) -> SessionKey {
        SessionKey(u64::from(shard) << 56 | count)
    }
}

/// An application message that waits somewhere. Cloning shares the bytes.
#[derive(Clone, Debug)]
pub struct Message {
    /// Holds topic, forwarded properties and payload at the places below.
    body: Bytes,
    topic_at: u32,
    forwarded_at: u32,
    forwarded_len: u32,
    payload_at: u32,
    topic_len: u16,
    /// QoS it was published with.
    pub qos: QoS,
    /// RETAIN as it was published.
    pub retain: bool,
    /// When it expires; [`Time::NEVER`] without Message Expiry Interval.
    pub expires: Time,
    /// Who published it (for No Local).
    pub publisher: SessionKey,
}

impl Message {
    /// A message that owns a copy of its parts.
    pub fn new(
        topic: &str,
        forwarded: &[u8],
        payload: &[u8],
        qos: QoS,
        retain: bool,
        expires: Time,
        publisher: SessionKey,
    ) -> Message {
        let mut body = BytesMut::with_capacity(topic.len() + forwarded.len() + payload.len());
        body.put_slice(topic.as_bytes());
        body.put_slice(forwarded);
        body.put_slice(payload);
        Message {
            body: body.freeze(),
            topic_at: 0,
            forwarded_at: topic.len() as u32,
            forwarded_len: forwarded.len() as u32,
            payload_at: (topic.len() + forwarded.len()) as u32,
            topic_len: topic.len() as u16,
            qos,
            retain,
            expires,
            publisher,
        }
    }

    /// The topic name.
    pub fn topic(&self) -> &str {
        let at = self.topic_at as usize;
        std::str::from_utf8(&self.body[at..at + usize::from(self.topic_len)])
            .expect("topics are checked when decoded")
    }
    /// Properties that are passed on unchanged, encoded without their length.
    pub fn forwarded(&self) -> &[u8] {
        let at = self.forwarded_at as usize;
        &self.body[at..at + self.forwarded_len as usize]
    }
    /// The payload.
    pub fn payload(&self) -> &[u8] {
        &self.body[self.payload_at as usize..]
    }
    /// Bytes this message is accounted for in queues.
    pub fn size(&self) -> usize {
        usize::from(self.topic_len) + self.forwarded_len as usize + self.payload().len()
    }
    /// Whether its expiry has passed.
    pub fn is_expired(&self, now: Time) -> bool {
        self.expires <= now
    }
    /// The message on its way through the router.
    pub fn publication(&self) -> Publication<'_> {
        Publication {
            topic: self.topic(),
            forwarded: self.forwarded(),
            payload: self.payload(),
            qos: self.qos,
            retain: self.retain,
            expires: self.expires,
            publisher: self.publisher,
            stored_as: Cell::new(0),
            source: Source::Message(self),
            made: OnceCell::new(),
        }
    }
}

/// Where a publication's bytes lie.
#[derive(Clone, Copy)]
enum Source<'a> {
    /// In a receive buffer, gone after this turn.
    Borrowed,
    /// The payload is the end of an allocation of its own.
    Frame(&'a Bytes),
    /// In a message.
    Message(&'a Message),
}

/// A message on its way from its publisher to its subscribers. It becomes a [`Message`] only if someone must keep it.
pub struct Publication<'a> {
    /// Topic name.
    pub topic: &'a str,
    /// Properties that are passed on unchanged, encoded without their length.
    pub forwarded: &'a [u8],
    /// The payload.
    pub payload: &'a [u8],
    /// QoS it was published with.
    pub qos: QoS,
    /// RETAIN as it was published.
    pub retain: bool,
    /// When it expires.
    pub expires: Time,
    /// Who published it.
    pub publisher: SessionKey,
    /// Number under which it is stored by itself, 0 if it is not.
    pub stored_as: Cell<u64>,
    source: Source<'a>,
    made: OnceCell<Message>,
}

impl<'a> Publication<'a> {
    /// A message whose parts lie in a buffer that is gone after this turn; `frame` is the whole packet if that
    /// is an allocation of its own, which may then be shared.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        topic: &'a str,
        forwarded: &'a [u8],
        payload: &'a [u8],
        qos: QoS,
        retain: bool,
        expires: Time,
        publisher: SessionKey,
        frame: Option<&'a Bytes>,
    ) -> Publication<'a> {
        let source = frame.map_or(Source::Borrowed, Source::Frame);
        Publication {
            topic,
            forwarded,
            payload,
            qos,
            retain,
            expires,
            publisher,
            stored_as: Cell::new(0),
            source,
            made: OnceCell::new(),
        }
    }

    /// The message as something that can wait; made at most once, shared from then on.
    pub fn message(&self) -> Message {
        match self.source {
            Source::Message(message) => message.clone(),
            Source::Borrowed => self.made.get_or_init(|| self.copied()).clone(),
            Source::Frame(frame) => self.made.get_or_init(|| self.framed(frame)).clone(),
        }
    }

    /// The payload by reference.
    pub fn shared_payload(&self) -> Bytes {
        let message = match self.source {
            Source::Message(message) => message,
            Source::Borrowed => self.made.get_or_init(|| self.copied()),
            Source::Frame(frame) => self.made.get_or_init(|| self.framed(frame)),
        };
        message.body.slice(message.payload_at as usize..)
    }

    /// Its bytes are in memory that can be kept, so that [`Publication::shared_payload`] copies nothing.
    pub fn is_kept(&self) -> bool {
        !matches!(self.source, Source::Borrowed) || self.made.get().is_some()
    }

    fn copied(&self) -> Message {
        Message::new(
            self.topic,
            self.forwarded,
            self.payload,
            self.qos,
            self.retain,
            self.expires,
            self.publisher,
        )
    }

    /// Shares `frame`, unless a part lies elsewhere (an aliased topic, properties that were encoded anew).
    fn framed(&self, frame: &Bytes) -> Message {
        let place = |part: &[u8]| {
            let at = (part.as_ptr() as usize).wrapping_sub(frame.as_ptr() as usize);
            (at <= frame.len() && part.len() <= frame.len() - at).then_some(at as u32)
        };
        let forwarded_at = if self.forwarded.is_empty() { Some(0) } else { place(self.forwarded) };
        match (place(self.topic.as_bytes()), forwarded_at, place(self.payload)) {
            (Some(topic_at), Some(forwarded_at), Some(payload_at)) => Message {
                body: frame.slice(..payload_at as usize + self.payload.len()),
                topic_at,
                forwarded_at,
                forwarded_len: self.forwarded.len() as u32,
                payload_at,
                topic_len: self.topic.len() as u16,
                qos: self.qos,
                retain: self.retain,
                expires: self.expires,
                publisher: self.publisher,
            },
            _ => self.copied(),
        }
    }

    /// Whether its expiry has passed.
    pub fn is_expired(&self, now: Time) -> bool {
        self.expires <= now
    }
}

/// Message Expiry Interval to send for a message that expires at `expires`: what came minus the whole seconds
/// it waited ([MQTT-3.3.2-6]).
pub fn remaining_expiry(expires: Time, now: Time) -> Option<u32> {
    (expires != Time::NEVER).then(|| expires.since(now).div_ceil(1000).min(u64::from(u32::MAX)) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publication<'a>(frame: Option<&'a Bytes>, bytes: &'a [u8]) -> Publication<'a> {
        let topic = std::str::from_utf8(&bytes[2..5]).expect("ascii");
        Publication::new(topic, &[], &bytes[5..], QoS::AtLeastOnce, false, Time::NEVER, SessionKey(1), frame)
    }

    #[test]
    fn a_message_keeps_its_parts_whether_copied_or_shared() {
        let frame = Bytes::from_static(b"xxa/bpayload");
        for frame_source in [None, Some(&frame)] {
            let message = publication(frame_source, &frame).message();
            assert_eq!(
                (message.topic(), message.payload(), message.forwarded()),
                ("a/b", &b"payload"[..], &b""[..])
            );
        }
    }

    #[test]
    fn a_shared_frame_is_not_copied() {
        let frame = Bytes::from(b"xxa/bpayload".to_vec());
        let message = publication(Some(&frame), &frame).message();
        assert_eq!(message.payload().as_ptr(), frame[5..].as_ptr());
    }

    #[test]
    fn the_expiry_left_counts_whole_seconds_of_waiting() {
        assert_eq!(remaining_expiry(Time(10_000), Time(0)), Some(10));
        assert_eq!(remaining_expiry(Time(10_000), Time(999)), Some(10));
        assert_eq!(remaining_expiry(Time(10_000), Time(1_000)), Some(9));
        assert_eq!(remaining_expiry(Time::NEVER, Time(1_000)), None);
    }
}
