//! The properties of 5.0 (§2.2.2): one table of identifier, name, type and the packets that take it.
use super::primitives::{
    Reader, Sink, Size, write_binary, write_string, write_u8, write_u16, write_u32, write_varint,
};
use super::{DecodeError, PacketType};

/// The type of a property's value, with its range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// One byte, 0 or 1 (every one-byte property is).
    Bit,
    /// Two bytes.
    Word,
    /// Two bytes, not 0.
    NonZeroWord,
    /// Four bytes.
    Long,
    /// Four bytes, not 0.
    NonZeroLong,
    /// A variable byte integer, not 0.
    NonZeroVariable,
    /// A string.
    Text,
    /// Binary data.
    Data,
    /// Two strings.
    Pair,
}

/// Where a section of properties stands: a packet, or the will inside CONNECT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    Packet(PacketType),
    Will,
}

impl Place {
    const fn bit(self) -> u16 {
        match self {
            Place::Packet(packet) => packet.bit(),
            // Packet type 0 does not exist, so its bit is free.
            Place::Will => 1,
        }
    }
}

macro_rules! places {
    () => { 0 };
    (Will $($more:ident)*) => { Place::Will.bit() | places!($($more)*) };
    ($packet:ident $($more:ident)*) => { PacketType::$packet.bit() | places!($($more)*) };
}

macro_rules! properties {
    ($($id:literal $name:ident: $kind:ident in [$($place:ident)*], repeats in [$($repeat:ident)*];)*) => {
        /// A property.
        #[repr(u8)]
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(super) enum Property {
            $($name = $id,)*
        }

        impl Property {
            #[cfg(test)]
            pub(super) const ALL: &'static [Property] = &[$(Property::$name),*];

            fn from_id(id: u8) -> Option<Property> {
                match id {
                    $($id => Some(Property::$name),)*
                    _ => None,
                }
            }
            pub(super) fn kind(self) -> Kind {
                match self {
                    $(Property::$name => Kind::$kind,)*
                }
            }
            /// Where it may stand.
            fn places(self) -> u16 {
                match self {
                    $(Property::$name => places!($($place)*),)*
                }
            }
            /// Where it may stand more than once.
            fn repeats(self) -> u16 {
                match self {
                    $(Property::$name => places!($($repeat)*),)*
                }
            }
        }
    };
}

properties! {
    0x01 PayloadFormatIndicator: Bit in [Publish Will], repeats in [];
    0x02 MessageExpiryInterval: Long in [Publish Will], repeats in [];
    0x03 ContentType: Text in [Publish Will], repeats in [];
    0x08 ResponseTopic: Text in [Publish Will], repeats in [];
    0x09 CorrelationData: Data in [Publish Will], repeats in [];
    0x0B SubscriptionIdentifier: NonZeroVariable in [Publish Subscribe], repeats in [Publish];
    0x11 SessionExpiryInterval: Long in [Connect ConnAck Disconnect], repeats in [];
    0x12 AssignedClientIdentifier: Text in [ConnAck], repeats in [];
    0x13 ServerKeepAlive: Word in [ConnAck], repeats in [];
    0x15 AuthenticationMethod: Text in [Connect ConnAck Auth], repeats in [];
    0x16 AuthenticationData: Data in [Connect ConnAck Auth], repeats in [];
    0x17 RequestProblemInformation: Bit in [Connect], repeats in [];
    0x18 WillDelayInterval: Long in [Will], repeats in [];
    0x19 RequestResponseInformation: Bit in [Connect], repeats in [];
    0x1A ResponseInformation: Text in [ConnAck], repeats in [];
    0x1C ServerReference: Text in [ConnAck Disconnect], repeats in [];
    0x1F ReasonString: Text in [ConnAck PubAck PubRec PubRel PubComp SubAck UnsubAck Disconnect Auth], repeats in [];
    0x21 ReceiveMaximum: NonZeroWord in [Connect ConnAck], repeats in [];
    0x22 TopicAliasMaximum: Word in [Connect ConnAck], repeats in [];
    0x23 TopicAlias: Word in [Publish], repeats in [];
    0x24 MaximumQoS: Bit in [ConnAck], repeats in [];
    0x25 RetainAvailable: Bit in [ConnAck], repeats in [];
    0x26 User: Pair in [Connect ConnAck Publish Will PubAck PubRec PubRel PubComp Subscribe SubAck Unsubscribe UnsubAck Disconnect Auth],
        repeats in [Connect ConnAck Publish Will PubAck PubRec PubRel PubComp Subscribe SubAck Unsubscribe UnsubAck Disconnect Auth];
    0x27 MaximumPacketSize: NonZeroLong in [Connect ConnAck], repeats in [];
    0x28 WildcardSubscriptionAvailable: Bit in [ConnAck], repeats in [];
    0x29 SubscriptionIdentifiersAvailable: Bit in [ConnAck], repeats in [];
    0x2A SharedSubscriptionAvailable: Bit in [ConnAck], repeats in [];
}

/// A property's value. Only the field of the property's type is filled; of a pair, none.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Value<'a> {
    /// The number of all integer types.
    pub(super) number: u32,
    /// [`Kind::Text`].
    pub(super) text: &'a str,
    /// [`Kind::Data`].
    pub(super) data: &'a [u8],
}

impl Value<'_> {
    /// The number of a [`Kind::Word`].
    pub(super) fn word(&self) -> u16 {
        self.number as u16
    }
    /// The number of a [`Kind::Bit`].
    pub(super) fn flag(&self) -> bool {
        self.number == 1
    }
}

/// A section of properties with its length in front, being read.
pub(super) struct Section<'a> {
    raw: &'a [u8],
    reader: Reader<'a>,
    place: u16,
    /// One bit per property that was read.
    seen: u64,
}

impl<'a> Section<'a> {
    /// Takes the section off `reader`.
    #[inline]
    pub(super) fn decode(reader: &mut Reader<'a>, place: Place) -> Result<Section<'a>, DecodeError> {
        let length = reader.varint()?;
        let raw = reader.slice(length as usize)?;
        Ok(Section { raw, reader: Reader::new(raw), place: place.bit(), seen: 0 })
    }

    /// Whether there are no properties (left to read).
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.reader.is_empty()
    }

    /// The next property, checked against the table; `None` at the end. User properties are checked and passed over: they
    /// are taken together at the end ([`Section::user_properties`]).
    pub(super) fn next(&mut self) -> Result<Option<(Property, Value<'a>)>, DecodeError> {
        while !self.reader.is_empty() {
            // Identifiers are variable byte integers, but none of more than one byte exists.
            let id = self.reader.u8()?;
            let property = Property::from_id(id).ok_or(DecodeError::UnknownProperty { id })?;
            if property.places() & self.place == 0 {
                return Err(DecodeError::PropertyNotAllowed { id });
            }
            let bit = 1 << id;
            if self.seen & bit != 0 && property.repeats() & self.place == 0 {
                return Err(DecodeError::DuplicateProperty { id });
            }
            self.seen |= bit;
            if property != Property::User {
                return Ok(Some((property, read_value(&mut self.reader, property)?)));
            }
            self.reader.string()?;
            self.reader.string()?;
        }
        Ok(None)
    }

    /// The section's bytes, if `property` was read at least once; else nothing.
    pub(super) fn raw_with(&self, property: Property) -> &'a [u8] {
        if self.seen & (1 << property as u8) != 0 { self.raw } else { &[] }
    }

    /// The user properties, once everything was read.
    pub(super) fn user_properties(&self) -> UserProperties<'a> {
        UserProperties { raw: self.raw_with(Property::User) }
    }
}

fn read_value<'a>(reader: &mut Reader<'a>, property: Property) -> Result<Value<'a>, DecodeError> {
    let mut value = Value::default();
    let valid = match property.kind() {
        Kind::Bit => {
            value.number = u32::from(reader.u8()?);
            value.number <= 1
        }
        kind @ (Kind::Word | Kind::NonZeroWord) => {
            value.number = u32::from(reader.u16()?);
            kind == Kind::Word || value.number != 0
        }
        kind @ (Kind::Long | Kind::NonZeroLong) => {
            value.number = reader.u32()?;
            kind == Kind::Long || value.number != 0
        }
        Kind::NonZeroVariable => {
            value.number = reader.varint()?;
            value.number != 0
        }
        Kind::Text => {
            value.text = reader.string()?;
            true
        }
        Kind::Data => {
            value.data = reader.binary()?;
            true
        }
        Kind::Pair => {
            reader.string()?;
            reader.string()?;
            true
        }
    };
    if valid { Ok(value) } else { Err(DecodeError::PropertyValue { id: property as u8 }) }
}

/// Goes over a value that was already checked; its number, if it is one.
fn skip_value(reader: &mut Reader<'_>, property: Property) -> Result<u32, DecodeError> {
    match property.kind() {
        Kind::Text | Kind::Data => reader.binary().map(|_| 0),
        Kind::Pair => reader.binary().and_then(|_| reader.binary()).map(|_| 0),
        _ => read_value(reader, property).map(|value| value.number),
    }
}

/// Walks over properties that were already checked: property, its number if it has one, and all its bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk<'a> {
    reader: Reader<'a>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(raw: &'a [u8]) -> Walk<'a> {
        Walk { reader: Reader::new(raw) }
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = (Property, u32, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.is_empty() {
            return None;
        }
        let before = self.reader.rest();
        let property = Property::from_id(self.reader.u8().expect(CHECKED)).expect(CHECKED);
        let number = skip_value(&mut self.reader, property).expect(CHECKED);
        Some((property, number, &before[..before.len() - self.reader.rest().len()]))
    }
}

const CHECKED: &str = "properties are checked before they are walked over";

/// User properties as they stand in a packet, checked. Two are equal if they hold the same pairs in the same order.
#[derive(Clone, Copy, Default)]
pub struct UserProperties<'a> {
    /// A sequence of encoded properties, maybe others among them; empty if there is no user property.
    raw: &'a [u8],
}

impl<'a> UserProperties<'a> {
    /// What [`UserPropertiesBuf`] wrote and somebody kept. Panics on other bytes: they must never be a peer's.
    pub fn from_encoded(encoded: &'a [u8]) -> UserProperties<'a> {
        assert!(
            Walk::new(encoded).all(|(property, ..)| property == Property::User),
            "only user properties are expected"
        );
        UserProperties { raw: encoded }
    }
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }
    /// Name and value, in the order of the packet.
    pub fn iter(&self) -> UserPropertiesIter<'a> {
        UserPropertiesIter { walk: Walk::new(self.raw) }
    }
    /// Appends them, in order, without a length.
    pub(super) fn write(&self, out: &mut dyn Sink) {
        // Where one stands behind the other they are written together.
        let (mut from, mut to) = (0, 0);
        let mut at = 0;
        for (property, _, bytes) in Walk::new(self.raw) {
            let is_next = at == to;
            if property == Property::User {
                if !is_next {
                    out.put(&self.raw[from..to]);
                    from = at;
                }
                to = at + bytes.len();
            }
            at += bytes.len();
        }
        out.put(&self.raw[from..to]);
    }
}

impl PartialEq for UserProperties<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(*other)
    }
}

impl Eq for UserProperties<'_> {}

impl std::fmt::Debug for UserProperties<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for UserProperties<'a> {
    type Item = (&'a str, &'a str);
    type IntoIter = UserPropertiesIter<'a>;

    fn into_iter(self) -> UserPropertiesIter<'a> {
        self.iter()
    }
}

/// Iterates over the pairs of [`UserProperties`].
#[derive(Clone, Debug)]
pub struct UserPropertiesIter<'a> {
    walk: Walk<'a>,
}

impl<'a> Iterator for UserPropertiesIter<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<(&'a str, &'a str)> {
        let (_, _, bytes) = self.walk.find(|(property, ..)| *property == Property::User)?;
        let mut reader = Reader::new(&bytes[1..]);
        Some((reader.string().expect(CHECKED), reader.string().expect(CHECKED)))
    }
}

/// User properties being put together.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub struct UserPropertiesBuf {
    encoded: Vec<u8>,
}

impl UserPropertiesBuf {
    /// Without any.
    pub fn new() -> UserPropertiesBuf {
        UserPropertiesBuf::default()
    }
    /// Appends one. Panics if one of them is longer than 65,535 bytes or holds U+0000.
    pub fn push(&mut self, name: &str, value: &str) {
        assert!(!name.contains('\0') && !value.contains('\0'), "no U+0000 in strings");
        write_u8(Property::User as u8, &mut self.encoded);
        write_string(name, &mut self.encoded);
        write_string(value, &mut self.encoded);
    }
    /// For a packet.
    pub fn as_ref(&self) -> UserProperties<'_> {
        UserProperties { raw: &self.encoded }
    }
    /// The encoded pairs, for [`UserProperties::from_encoded`].
    pub fn as_bytes(&self) -> &[u8] {
        &self.encoded
    }
}

/// Appends a section of properties: the length of what `list` writes, and that. `list` runs twice.
pub(super) fn write_section(out: &mut dyn Sink, list: impl Fn(&mut dyn Sink)) {
    let mut size = Size::default();
    list(&mut size);
    let length = u32::try_from(size.0).expect("properties longer than MQTT can say");
    write_varint(length, out);
    list(out);
}

/// Appends one integer property, of the width the table gives it.
pub(super) fn write_number(property: Property, value: u32, out: &mut dyn Sink) {
    write_u8(property as u8, out);
    match property.kind() {
        Kind::Bit => write_u8(value as u8, out),
        Kind::Word | Kind::NonZeroWord => write_u16(value as u16, out),
        Kind::Long | Kind::NonZeroLong => write_u32(value, out),
        Kind::NonZeroVariable => write_varint(value, out),
        Kind::Text | Kind::Data | Kind::Pair => unreachable!("not an integer property"),
    }
}

/// Appends one integer property if it is there.
pub(super) fn write_optional<T: Into<u32> + Copy>(property: Property, value: Option<T>, out: &mut dyn Sink) {
    if let Some(value) = value {
        write_number(property, value.into(), out);
    }
}

/// Appends one string or binary property if it is there.
pub(super) fn write_bytes(property: Property, value: Option<impl AsRef<[u8]>>, out: &mut dyn Sink) {
    if let Some(value) = value {
        write_u8(property as u8, out);
        write_binary(value.as_ref(), out);
    }
}

/// For the `match` over the properties of a section: what the table lets through is matched above.
#[track_caller]
pub(super) fn not_in_table(property: Property) -> ! {
    unreachable!("{property:?} is allowed here by the table but not taken")
}
