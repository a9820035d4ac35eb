//! `-D command name value`: the properties of MQTT 5, as Mosquitto's clients spell them.
use crate::codec::{MessageProperties, UserProperties, UserPropertiesBuf};
use crate::topic::check_name;

/// Longest string and binary data, bytes.
pub(super) const MAX_TEXT: usize = 65_535;
/// What stands between the words of one `-D`; no argument of a process can hold it.
pub(super) const SEPARATOR: char = '\0';
/// The property that takes a name and a value.
pub(super) const PAIR: &str = "user-property";

/// The packet that carries the property.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    Connect,
    Publish,
    Subscribe,
    Unsubscribe,
    Disconnect,
    Will,
}

/// Names as they are given.
const PLACES: [(&str, Place); 6] = [
    ("connect", Place::Connect),
    ("publish", Place::Publish),
    ("subscribe", Place::Subscribe),
    ("unsubscribe", Place::Unsubscribe),
    ("disconnect", Place::Disconnect),
    ("will", Place::Will),
];

/// What a property holds.
#[derive(Clone, Copy)]
enum Kind {
    /// An integer between two bounds.
    Number(u32, u32),
    Text,
    TopicName,
    Data,
    Pair,
}

use Place::{Connect, Disconnect, Publish, Subscribe, Unsubscribe, Will};

/// Name, kind, and where a client may send it.
const TABLE: [(&str, Kind, &[Place]); 18] = [
    ("payload-format-indicator", Kind::Number(0, 1), &[Publish, Will]),
    ("message-expiry-interval", Kind::Number(0, u32::MAX), &[Publish, Will]),
    ("content-type", Kind::Text, &[Publish, Will]),
    ("response-topic", Kind::TopicName, &[Publish, Will]),
    ("correlation-data", Kind::Data, &[Publish, Will]),
    ("topic-alias", Kind::Number(1, 65_535), &[Publish]),
    ("subscription-identifier", Kind::Number(1, 268_435_455), &[Subscribe]),
    ("session-expiry-interval", Kind::Number(0, u32::MAX), &[Connect, Disconnect]),
    ("receive-maximum", Kind::Number(1, 65_535), &[Connect]),
    ("maximum-packet-size", Kind::Number(1, u32::MAX), &[Connect]),
    ("topic-alias-maximum", Kind::Number(0, 65_535), &[Connect]),
    ("request-response-information", Kind::Number(0, 1), &[Connect]),
    ("request-problem-information", Kind::Number(0, 1), &[Connect]),
    ("authentication-method", Kind::Text, &[Connect]),
    ("authentication-data", Kind::Data, &[Connect]),
    ("will-delay-interval", Kind::Number(0, u32::MAX), &[Will]),
    ("reason-string", Kind::Text, &[Disconnect]),
    (PAIR, Kind::Pair, &[Connect, Publish, Subscribe, Unsubscribe, Disconnect, Will]),
];

/// One `-D`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Property {
    place: Place,
    name: &'static str,
    value: Value,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Value {
    Number(u32),
    Text(String),
    Pair(String, String),
}

impl Property {
    /// Reads the words of one `-D`, which [`super::arguments`] put together.
    pub(super) fn parse(joined: &str) -> Result<Property, String> {
        let words: Vec<&str> = joined.split(SEPARATOR).collect();
        let [command, name, values @ ..] = words.as_slice() else {
            return Err("a command, a name and a value are needed".to_owned());
        };
        let Some(&(_, place)) = PLACES.iter().find(|(place, _)| command.eq_ignore_ascii_case(place)) else {
            return Err(format!("there are no properties for '{command}'"));
        };
        let Some(&(name, kind, places)) = TABLE.iter().find(|(known, ..)| known == name) else {
            return Err(format!("there is no property '{name}'"));
        };
        if !places.contains(&place) {
            return Err(format!("{name} is not allowed for {command}"));
        }
        let value = match (kind, values) {
            (Kind::Pair, [name, value]) => Value::Pair(text(name)?, text(value)?),
            (Kind::Number(least, most), [value]) => Value::Number(number(name, value, least, most)?),
            (Kind::Text | Kind::Data, [value]) => Value::Text(text(value)?),
            (Kind::TopicName, [value]) => {
                check_name(value, usize::MAX).map_err(|error| format!("{name} '{value}': {error}"))?;
                Value::Text((*value).to_owned())
            }
            (Kind::Pair, _) => return Err(format!("{name} needs a name and a value")),
            _ => return Err(format!("{name} needs one value")),
        };
        Ok(Property { place, name, value })
    }
}

/// A string that a packet can carry.
pub(super) fn text(value: &str) -> Result<String, String> {
    if value.len() > MAX_TEXT {
        return Err(format!("longer than {MAX_TEXT} bytes"));
    }
    Ok(value.to_owned())
}

fn number(name: &str, value: &str, least: u32, most: u32) -> Result<u32, String> {
    match value.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("{name} must be a number from {least} to {most}, not '{value}'")),
    }
}

/// All of the properties, by packet.
#[derive(Clone, Default, Debug)]
pub(super) struct Properties {
    list: Vec<Property>,
    pairs: Vec<(Place, UserPropertiesBuf)>,
}

impl Properties {
    /// Takes what was given; only user properties may be given twice.
    pub(super) fn new(list: &[Property]) -> Result<Properties, String> {
        let mut properties = Properties::default();
        for property in list {
            match &property.value {
                Value::Pair(name, value) => properties.pairs_mut(property.place).push(name, value),
                _ if properties.find(property.place, property.name).is_some() => {
                    return Err(format!("-D: {} is given twice", property.name));
                }
                _ => properties.list.push(property.clone()),
            }
        }
        let has = |name| properties.find(Connect, name).is_some();
        if has("authentication-data") && !has("authentication-method") {
            return Err("-D: authentication-data needs authentication-method".to_owned());
        }
        Ok(properties)
    }

    fn pairs_mut(&mut self, place: Place) -> &mut UserPropertiesBuf {
        let at = self.pairs.iter().position(|(of, _)| *of == place).unwrap_or_else(|| {
            self.pairs.push((place, UserPropertiesBuf::new()));
            self.pairs.len() - 1
        });
        &mut self.pairs[at].1
    }

    fn find(&self, place: Place, name: &str) -> Option<&Value> {
        self.list.iter().find(|property| property.place == place && property.name == name).map(|p| &p.value)
    }

    /// The value of an integer property.
    pub(super) fn number(&self, place: Place, name: &str) -> Option<u32> {
        match self.find(place, name) {
            Some(Value::Number(number)) => Some(*number),
            _ => None,
        }
    }

    /// The value of an integer property of two bytes.
    pub(super) fn word(&self, place: Place, name: &str) -> Option<u16> {
        self.number(place, name).map(|number| u16::try_from(number).expect("checked against the table"))
    }

    /// The value of a string or binary property.
    pub(super) fn text(&self, place: Place, name: &str) -> Option<&str> {
        match self.find(place, name) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// The user properties, in the order given.
    pub(super) fn user(&self, place: Place) -> UserProperties<'_> {
        let found = self.pairs.iter().find(|(of, _)| *of == place);
        found.map(|(_, pairs)| pairs.as_ref()).unwrap_or_default()
    }

    /// The properties of a message: PUBLISH or will.
    pub(super) fn message(&self, place: Place) -> MessageProperties<'_> {
        MessageProperties {
            payload_format: self.number(place, "payload-format-indicator").map(|number| number as u8),
            message_expiry: self.number(place, "message-expiry-interval"),
            content_type: self.text(place, "content-type"),
            response_topic: self.text(place, "response-topic"),
            correlation_data: self.text(place, "correlation-data").map(str::as_bytes),
            user_properties: self.user(place),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Property, String> {
        Property::parse(&words.join("\0"))
    }

    #[test]
    fn each_kind_of_value_is_read() {
        let list: Vec<Property> = [
            &["publish", "message-expiry-interval", "4294967295"][..],
            &["PUBLISH", "content-type", "text/plain"],
            &["publish", "correlation-data", ""],
            &["publish", "user-property", "k", "1"],
            &["publish", "user-property", "k", "-2"],
            &["will", "response-topic", "a/b"],
            &["connect", "receive-maximum", "7"],
        ]
        .iter()
        .map(|words| parse(words).unwrap())
        .collect();
        let properties = Properties::new(&list).unwrap();
        let message = properties.message(Publish);
        assert_eq!(message.message_expiry, Some(u32::MAX));
        assert_eq!(message.content_type, Some("text/plain"));
        assert_eq!(message.correlation_data, Some(&b""[..]));
        assert_eq!(message.response_topic, None);
        assert_eq!(message.user_properties.iter().collect::<Vec<_>>(), [("k", "1"), ("k", "-2")]);
        assert_eq!(properties.message(Will).response_topic, Some("a/b"));
        assert_eq!(properties.word(Connect, "receive-maximum"), Some(7));
        assert!(properties.user(Will).is_empty());
    }

    #[test]
    fn every_mistake_has_its_own_sentence() {
        for (words, says) in [
            (&["publish", "content-type"][..], "content-type needs one value"),
            (&["publish"], "a command, a name and a value are needed"),
            (&["sub", "user-property", "a", "b"], "there are no properties for 'sub'"),
            (&["publish", "foo", "a"], "there is no property 'foo'"),
            (&["connect", "content-type", "a"], "content-type is not allowed for connect"),
            (
                &["publish", "subscription-identifier", "1"],
                "subscription-identifier is not allowed for publish",
            ),
            (&["publish", "user-property", "a"], "user-property needs a name and a value"),
            (
                &["publish", "topic-alias", "70000"],
                "topic-alias must be a number from 1 to 65535, not '70000'",
            ),
            (&["publish", "topic-alias", "0"], "topic-alias must be a number from 1 to 65535, not '0'"),
            (
                &["will", "payload-format-indicator", "x"],
                "payload-format-indicator must be a number from 0 to 1, not 'x'",
            ),
            (
                &["publish", "response-topic", "a/+"],
                "response-topic 'a/+': a topic name cannot contain wildcards",
            ),
        ] {
            assert_eq!(parse(words).unwrap_err(), says);
        }
        assert!(parse(&["publish", "content-type", &"x".repeat(65_536)]).is_err());
    }

    #[test]
    fn only_user_properties_may_be_repeated() {
        let one = parse(&["publish", "content-type", "a"]).unwrap();
        let two = parse(&["will", "content-type", "a"]).unwrap();
        assert!(Properties::new(&[one.clone(), two]).is_ok());
        assert_eq!(Properties::new(&[one.clone(), one]).unwrap_err(), "-D: content-type is given twice");
        let data = parse(&["connect", "authentication-data", "a"]).unwrap();
        assert!(Properties::new(&[data]).is_err());
    }
}
