//! SUBSCRIBE: topic filters, each with its options.
use super::packet::encode_packet;
use super::primitives::{Reader, write_string, write_u8, write_u16};
use super::properties::{Place, Property, Section, not_in_table, write_optional, write_section};
use super::{DecodeError, Frame, PacketType, QoS, UserProperties, Version};

/// SUBSCRIBE. Whether the filters are well formed is left to whoever subscribes: that is answered filter by filter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subscribe<'a> {
    /// Packet identifier.
    pub packet_id: u16,
    /// What deliveries for these subscriptions are marked with; not 0.
    pub subscription_id: Option<u32>,
    /// The application's own.
    pub user_properties: UserProperties<'a>,
    /// Filters and options as they stand in the packet, checked.
    filters: &'a [u8],
}

/// One of the filters of SUBSCRIBE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SubscribeFilter<'a> {
    /// The topic filter, not checked beyond being a string.
    pub filter: &'a str,
    /// Its options.
    pub options: SubscribeOptions,
}

/// The options of a subscription. Before 5.0 all but the QoS are false and 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SubscribeOptions {
    /// The highest QoS to deliver with.
    pub qos: QoS,
    /// Not what this client publishes itself.
    pub no_local: bool,
    /// Deliver with the RETAIN flag as it was published.
    pub retain_as_published: bool,
    /// Retained messages are sent: 0 always, 1 if the subscription is new, 2 never.
    pub retain_handling: u8,
}

impl SubscribeOptions {
    /// Only a QoS.
    pub fn new(qos: QoS) -> SubscribeOptions {
        SubscribeOptions { qos, no_local: false, retain_as_published: false, retain_handling: 0 }
    }

    /// From the byte of a packet. [`DecodeError::SubscribeReserved`], [`DecodeError::SubscribeQoS`],
    /// [`DecodeError::RetainHandling`].
    pub fn from_bits(bits: u8, version: Version) -> Result<SubscribeOptions, DecodeError> {
        let reserved = if version.is_v5() { 0b1100_0000 } else { 0b1111_1100 };
        if bits & reserved != 0 {
            return Err(DecodeError::SubscribeReserved);
        }
        let qos = QoS::from_bits(bits & 3).ok_or(DecodeError::SubscribeQoS)?;
        let retain_handling = bits >> 4 & 3;
        if retain_handling == 3 {
            return Err(DecodeError::RetainHandling);
        }
        Ok(SubscribeOptions {
            qos,
            no_local: bits & 4 != 0,
            retain_as_published: bits & 8 != 0,
            retain_handling,
        })
    }

    /// The byte of a packet; before 5.0 only the QoS.
    pub fn to_bits(self, version: Version) -> u8 {
        let qos = self.qos as u8;
        if version.is_v5() {
            qos | u8::from(self.no_local) << 2
                | u8::from(self.retain_as_published) << 3
                | (self.retain_handling & 3) << 4
        } else {
            qos
        }
    }
}

impl<'a> Subscribe<'a> {
    /// For encoding, without user properties.
    pub fn new(packet_id: u16, subscription_id: Option<u32>, filters: &'a FilterList) -> Subscribe<'a> {
        Subscribe {
            packet_id,
            subscription_id,
            user_properties: UserProperties::default(),
            filters: &filters.encoded,
        }
    }

    /// Decodes SUBSCRIBE. [`DecodeError::PacketIdentifierZero`], [`DecodeError::NoFilters`],
    /// those of [`SubscribeOptions::from_bits`], of strings and of properties.
    pub fn decode(frame: Frame<'a>, version: Version) -> Result<Subscribe<'a>, DecodeError> {
        let mut reader = Reader::new(frame.body);
        let packet_id = reader.packet_id()?;
        let mut subscription_id = None;
        let mut user_properties = UserProperties::default();
        if version.is_v5() {
            let mut section = Section::decode(&mut reader, Place::Packet(PacketType::Subscribe))?;
            while let Some((property, value)) = section.next()? {
                match property {
                    Property::SubscriptionIdentifier => subscription_id = Some(value.number),
                    _ => not_in_table(property),
                }
            }
            user_properties = section.user_properties();
        }
        let filters = reader.rest();
        if filters.is_empty() {
            return Err(DecodeError::NoFilters);
        }
        while !reader.is_empty() {
            reader.string()?;
            SubscribeOptions::from_bits(reader.u8()?, version)?;
        }
        Ok(Subscribe { packet_id, subscription_id, user_properties, filters })
    }

    /// The filters with their options, in order.
    pub fn filters(&self) -> SubscribeFilters<'a> {
        SubscribeFilters::over(self.filters)
    }

    /// Appends the whole packet.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        encode_packet(PacketType::Subscribe.first(), out, |out| {
            write_u16(self.packet_id, out);
            if version.is_v5() {
                write_section(out, |out| {
                    write_optional(Property::SubscriptionIdentifier, self.subscription_id, out);
                    self.user_properties.write(out);
                });
            }
            for SubscribeFilter { filter, options } in self.filters() {
                write_string(filter, out);
                write_u8(options.to_bits(version), out);
            }
        });
    }
}

/// Iterates over the filters of a [`Subscribe`].
#[derive(Clone, Debug)]
pub struct SubscribeFilters<'a> {
    reader: Reader<'a>,
}

impl<'a> SubscribeFilters<'a> {
    /// Over what [`SubscribeFilters::rest`] returned.
    pub fn over(rest: &'a [u8]) -> SubscribeFilters<'a> {
        SubscribeFilters { reader: Reader::new(rest) }
    }
    /// The filters that were not walked over yet, as they stand in the packet.
    pub fn rest(&self) -> &'a [u8] {
        self.reader.rest()
    }
}

impl<'a> Iterator for SubscribeFilters<'a> {
    type Item = SubscribeFilter<'a>;

    fn next(&mut self) -> Option<SubscribeFilter<'a>> {
        if self.reader.is_empty() {
            return None;
        }
        let filter = self.reader.string().expect(CHECKED);
        let bits = self.reader.u8().expect(CHECKED);
        // Every byte that passed the check of an older version means the same in 5.0.
        let options = SubscribeOptions::from_bits(bits, Version::V5).expect(CHECKED);
        Some(SubscribeFilter { filter, options })
    }
}

const CHECKED: &str = "filters are checked before they are walked over";

/// The filters of a SUBSCRIBE being put together.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub struct FilterList {
    encoded: Vec<u8>,
}

impl FilterList {
    /// Without any.
    pub fn new() -> FilterList {
        FilterList::default()
    }
    /// Appends one. Panics if it is longer than 65,535 bytes or holds U+0000, or on retain handling above 2.
    pub fn push(&mut self, filter: &str, options: SubscribeOptions) {
        assert!(!filter.contains('\0'), "no U+0000 in strings");
        assert!(options.retain_handling <= 2, "retain handling is 0, 1 or 2");
        write_string(filter, &mut self.encoded);
        write_u8(options.to_bits(Version::V5), &mut self.encoded);
    }
}
