//! The bytes of each record: a version, then fixed fields, then texts with their lengths. Times are milliseconds of
//! the wall clock (since 1970), because the broker's own time ends with its process.
use crate::codec::{QoS, SubscribeOptions, Version};
use crate::session::message::{Message, SessionKey};
use crate::session::outgoing::SubscriptionIds;
use crate::session::subscriptions::Subscription;
use crate::session::{Owner, Will};
use crate::time::Time;
use bytes::Bytes;
use std::sync::Arc;

/// Version of the records written now.
const VERSION: u8 = 1;
/// A time that never comes.
const NEVER: u64 = u64::MAX;

/// The wall clock, milliseconds since 1970, at [`Time`] 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wall(pub u64);

impl Wall {
    /// As it is stored.
    fn stored(self, time: Time) -> u64 {
        if time == Time::NEVER { NEVER } else { self.0.saturating_add(time.0) }
    }
    /// As the core knows it; [`Time`] 0 for what lies before the start.
    fn time(self, stored: u64) -> Time {
        if stored == NEVER { Time::NEVER } else { Time(stored.saturating_sub(self.0)) }
    }
}

/// Bytes that are no record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Corrupt {
    /// It ends too early.
    #[error("it ends too early")]
    Short,
    /// It goes on after its end.
    #[error("it goes on after its end")]
    Long,
    /// A version this broker does not know.
    #[error("its version is {0}, which this broker does not know")]
    UnknownVersion(u8),
    /// A field has a value that it cannot have.
    #[error("its {0} is impossible")]
    Field(&'static str),
    /// It belongs to something that is not there.
    #[error("its {0} is missing")]
    Missing(&'static str),
}

/// A session as it is stored.
#[derive(Debug)]
pub struct SessionRecord {
    /// The client id.
    pub client_id: Box<str>,
    /// Session Expiry Interval, seconds.
    pub expiry_interval: u32,
    /// When it ends; `None` while its client is connected.
    pub expires: Option<Time>,
    /// When its will is due; [`Time::NEVER`] without one or while connected.
    pub will_due: Time,
    /// Its will.
    pub will: Option<Box<Will>>,
    /// Whose it is, where that is known.
    pub owner: Option<Box<Owner>>,
}

/// Where the message of a queue entry is.
#[derive(Clone, Debug)]
pub enum Body {
    /// In the entry.
    Inline(Message),
    /// In [`super::Space::Message`].
    Shared(u64),
}

/// A shared-subscription group by its name: its key is another one after each start.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct GroupName {
    /// Share name.
    pub share: Box<str>,
    /// Filter.
    pub filter: Box<str>,
}

/// A message towards a session as it is stored.
#[derive(Clone, Debug)]
pub struct EntryRecord {
    /// QoS of the delivery.
    pub qos: QoS,
    /// RETAIN of the delivery.
    pub retain: bool,
    /// Packet id if it went out at once, 0 if it was queued.
    pub packet_id: u16,
    /// Subscription identifiers.
    pub ids: SubscriptionIds,
    /// The group it came through.
    pub group: Option<GroupName>,
    /// The message.
    pub body: Body,
}

/// How far a message towards a session has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flight {
    /// It was sent with this packet id.
    Sent(u16),
    /// PUBREC came; PUBREL is out.
    Released(u16),
}

struct Writer(Vec<u8>);

impl Writer {
    fn new(capacity: usize) -> Writer {
        let mut writer = Writer(Vec::with_capacity(capacity + 8));
        writer.u8(VERSION);
        writer
    }
    fn u8(&mut self, value: u8) {
        self.0.push(value);
    }
    fn u16(&mut self, value: u16) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }
    fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }
    fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }
    /// Texts of MQTT have 65,535 bytes at most.
    fn text(&mut self, text: &str) {
        self.u16(text.len() as u16);
        self.0.extend_from_slice(text.as_bytes());
    }
    fn long(&mut self, bytes: &[u8]) {
        self.u32(bytes.len() as u32);
        self.0.extend_from_slice(bytes);
    }
    fn message(&mut self, wall: Wall, message: &Message) {
        self.u8(message.qos as u8 | u8::from(message.retain) << 2);
        self.u64(wall.stored(message.expires));
        self.u64(message.publisher.0);
        self.text(message.topic());
        self.long(message.forwarded());
        self.long(message.payload());
    }
    fn finish(self) -> Bytes {
        self.0.into()
    }
}

/// Bytes of a message beside its texts, about.
const MESSAGE_MARGIN: usize = 40;

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Result<Reader<'a>, Corrupt> {
        let mut reader = Reader(bytes);
        match reader.u8()? {
            VERSION => Ok(reader),
            other => Err(Corrupt::UnknownVersion(other)),
        }
    }
    fn take(&mut self, count: usize) -> Result<&'a [u8], Corrupt> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Corrupt::Short)?;
        self.0 = rest;
        Ok(taken)
    }
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Corrupt> {
        self.take(N)?.try_into().map_err(|_| Corrupt::Short)
    }
    fn u8(&mut self) -> Result<u8, Corrupt> {
        Ok(self.array::<1>()?[0])
    }
    fn u16(&mut self) -> Result<u16, Corrupt> {
        Ok(u16::from_be_bytes(self.array()?))
    }
    fn u32(&mut self) -> Result<u32, Corrupt> {
        Ok(u32::from_be_bytes(self.array()?))
    }
    fn u64(&mut self) -> Result<u64, Corrupt> {
        Ok(u64::from_be_bytes(self.array()?))
    }
    fn text(&mut self) -> Result<&'a str, Corrupt> {
        let length = self.u16()?;
        std::str::from_utf8(self.take(length.into())?).map_err(|_| Corrupt::Field("text"))
    }
    fn long(&mut self) -> Result<&'a [u8], Corrupt> {
        let length = self.u32()?;
        self.take(length as usize)
    }
    fn qos(bits: u8) -> Result<QoS, Corrupt> {
        QoS::from_bits(bits & 3).ok_or(Corrupt::Field("QoS"))
    }
    fn message(&mut self, wall: Wall) -> Result<Message, Corrupt> {
        let flags = self.u8()?;
        let expires = wall.time(self.u64()?);
        let publisher = SessionKey(self.u64()?);
        let (topic, forwarded, payload) = (self.text()?, self.long()?, self.long()?);
        let (qos, retain) = (Reader::qos(flags)?, flags & 4 != 0);
        Ok(Message::new(topic, forwarded, payload, qos, retain, expires, publisher))
    }
    fn finish<T>(self, value: T) -> Result<T, Corrupt> {
        if self.0.is_empty() { Ok(value) } else { Err(Corrupt::Long) }
    }
}

/// Encodes a message by itself: a shared payload, or a retained message.
pub fn encode_message(wall: Wall, message: &Message) -> Bytes {
    let mut writer = Writer::new(message.size() + MESSAGE_MARGIN);
    writer.message(wall, message);
    writer.finish()
}

/// Decodes what [`encode_message`] wrote.
pub fn decode_message(wall: Wall, bytes: &[u8]) -> Result<Message, Corrupt> {
    let mut reader = Reader::new(bytes)?;
    let message = reader.message(wall)?;
    reader.finish(message)
}

/// Encodes the record of a session.
pub fn encode_session(
    wall: Wall,
    client_id: &str,
    expiry_interval: u32,
    expires: Option<Time>,
    will_due: Time,
    will: Option<&Will>,
    owner: Option<&Owner>,
) -> Bytes {
    let mut writer = Writer::new(client_id.len() + 32 + will.map_or(0, |will| will.message.size() + 64));
    writer.u32(expiry_interval);
    let user = owner.and_then(|owner| owner.as_deref());
    let flags = [expires.is_none(), will.is_some(), owner.is_some(), user.is_some()];
    writer.u8(flags.iter().rev().fold(0, |bits, flag| bits << 1 | u8::from(*flag)));
    writer.u64(wall.stored(expires.unwrap_or(Time::NEVER)));
    writer.u64(wall.stored(will_due));
    writer.text(client_id);
    if let Some(will) = will {
        writer.u32(will.delay);
        writer.u8(u8::from(will.expiry.is_some()));
        writer.u32(will.expiry.unwrap_or(0));
        writer.message(wall, &will.message);
    }
    if let Some(user) = user {
        writer.text(user);
    }
    writer.finish()
}

/// Decodes the record of a session.
pub fn decode_session(wall: Wall, bytes: &[u8]) -> Result<SessionRecord, Corrupt> {
    let mut reader = Reader::new(bytes)?;
    let expiry_interval = reader.u32()?;
    let flags = reader.u8()?;
    let expires = wall.time(reader.u64()?);
    let will_due = wall.time(reader.u64()?);
    let client_id = reader.text()?.into();
    let mut will = None;
    if flags & 2 != 0 {
        let delay = reader.u32()?;
        let has_expiry = reader.u8()? != 0;
        let expiry = Some(reader.u32()?).filter(|_| has_expiry);
        will = Some(Box::new(Will { message: reader.message(wall)?, expiry, delay }));
    }
    let expires = (flags & 1 == 0).then_some(expires);
    let user = if flags & 8 != 0 { Some(Arc::from(reader.text()?)) } else { None };
    let owner = (flags & 4 != 0).then(|| Box::new(user));
    reader.finish(SessionRecord { client_id, expiry_interval, expires, will_due, will, owner })
}

/// Encodes a subscription.
pub fn encode_subscription(filter: &str, subscription: &Subscription) -> Bytes {
    let mut writer = Writer::new(filter.len() + 8);
    writer.u8(subscription.options.to_bits(Version::V5));
    writer.u32(subscription.id);
    writer.text(filter);
    writer.finish()
}

/// Decodes a subscription.
pub fn decode_subscription(bytes: &[u8]) -> Result<(Box<str>, Subscription), Corrupt> {
    let mut reader = Reader::new(bytes)?;
    let options = SubscribeOptions::from_bits(reader.u8()?, Version::V5);
    let options = options.map_err(|_| Corrupt::Field("options"))?;
    let id = reader.u32()?;
    let filter = reader.text()?.into();
    reader.finish((filter, Subscription { options, id }))
}

/// Encodes a queue entry.
pub fn encode_entry(wall: Wall, entry: &EntryRecord) -> Bytes {
    let inline = match &entry.body {
        Body::Inline(message) => message.size() + MESSAGE_MARGIN,
        Body::Shared(_) => 8,
    };
    let mut writer = Writer::new(8 + 4 * entry.ids.len() + inline);
    let is_shared = matches!(entry.body, Body::Shared(_));
    writer.u8(entry.qos as u8
        | u8::from(entry.retain) << 2
        | u8::from(entry.group.is_some()) << 3
        | u8::from(is_shared) << 4);
    writer.u16(entry.packet_id);
    writer.u32(entry.ids.len() as u32);
    entry.ids.iter().for_each(|id| writer.u32(*id));
    if let Some(group) = &entry.group {
        writer.text(&group.share);
        writer.text(&group.filter);
    }
    match &entry.body {
        Body::Inline(message) => writer.message(wall, message),
        Body::Shared(number) => writer.u64(*number),
    }
    writer.finish()
}

/// Decodes a queue entry.
pub fn decode_entry(wall: Wall, bytes: &[u8]) -> Result<EntryRecord, Corrupt> {
    let mut reader = Reader::new(bytes)?;
    let flags = reader.u8()?;
    let (qos, retain) = (Reader::qos(flags)?, flags & 4 != 0);
    if qos == QoS::AtMostOnce {
        return Err(Corrupt::Field("QoS"));
    }
    let packet_id = reader.u16()?;
    let count = reader.u32()?;
    let mut ids = SubscriptionIds::new();
    for _ in 0..count {
        ids.push(reader.u32()?);
    }
    let mut group = None;
    if flags & 8 != 0 {
        group = Some(GroupName { share: reader.text()?.into(), filter: reader.text()?.into() });
    }
    let body = match flags & 16 != 0 {
        true => Body::Shared(reader.u64()?),
        false => Body::Inline(reader.message(wall)?),
    };
    reader.finish(EntryRecord { qos, retain, packet_id, ids, group, body })
}

/// The shared payload that a queue entry holds, 0 if none.
pub fn holds(entry: &[u8]) -> u64 {
    match decode_entry(Wall(0), entry).map(|entry| entry.body) {
        Ok(Body::Shared(number)) => number,
        _ => 0,
    }
}

/// Encodes how far an entry has come.
pub fn encode_flight(flight: Flight) -> Bytes {
    let (state, packet_id) = match flight {
        Flight::Sent(packet_id) => (1, packet_id),
        Flight::Released(packet_id) => (2, packet_id),
    };
    let mut writer = Writer::new(4);
    writer.u8(state);
    writer.u16(packet_id);
    writer.finish()
}

/// Decodes how far an entry has come.
pub fn decode_flight(bytes: &[u8]) -> Result<Flight, Corrupt> {
    let mut reader = Reader::new(bytes)?;
    let (state, packet_id) = (reader.u8()?, reader.u16()?);
    if packet_id == 0 {
        return Err(Corrupt::Field("packet id"));
    }
    let flight = match state {
        1 => Flight::Sent(packet_id),
        2 => Flight::Released(packet_id),
        _ => return Err(Corrupt::Field("state")),
    };
    reader.finish(flight)
}

/// Encodes a record that only has to be there.
pub fn encode_mark() -> Bytes {
    Writer::new(0).finish()
}

/// Decodes a record that only has to be there.
pub fn decode_mark(bytes: &[u8]) -> Result<(), Corrupt> {
    Reader::new(bytes)?.finish(())
}

/// Encodes a message that waits for a member of a group.
pub fn encode_group(wall: Wall, group: &GroupName, message: &Message) -> Bytes {
    let mut writer =
        Writer::new(message.size() + MESSAGE_MARGIN + group.share.len() + group.filter.len() + 4);
    writer.text(&group.share);
    writer.text(&group.filter);
    writer.message(wall, message);
    writer.finish()
}

/// Decodes a message that waits for a member of a group.
pub fn decode_group(wall: Wall, bytes: &[u8]) -> Result<(GroupName, Message), Corrupt> {
    let mut reader = Reader::new(bytes)?;
    let group = GroupName { share: reader.text()?.into(), filter: reader.text()?.into() };
    let message = reader.message(wall)?;
    reader.finish((group, message))
}

/// Encodes a number that the store keeps about itself.
pub fn encode_number(number: u32) -> Bytes {
    let mut writer = Writer::new(4);
    writer.u32(number);
    writer.finish()
}

/// Decodes a number that the store keeps about itself.
pub fn decode_number(bytes: &[u8]) -> Result<u32, Corrupt> {
    let mut reader = Reader::new(bytes)?;
    let number = reader.u32()?;
    reader.finish(number)
}
