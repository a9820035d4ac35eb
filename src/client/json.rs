//! `%j` and `%J`: a message as JSON.
use super::calendar::Calendar;
use crate::codec::{Publish, QoS};
use serde::de::IgnoredAny;

/// A string literal; what is not UTF-8 becomes U+FFFD, as JSON has nothing else for it.
fn quote(bytes: &[u8]) -> String {
    serde_json::to_string(&String::from_utf8_lossy(bytes)).expect("a string is always JSON")
}

/// The message as one JSON object. With `payload_is_json` the payload stands in it as it is; `None` if it is no JSON.
/// `pretty` spreads it over lines.
pub(super) fn message(
    publish: &Publish<'_>,
    time: &Calendar,
    payload_is_json: bool,
    pretty: bool,
) -> Option<String> {
    let payload = if publish.payload.is_empty() {
        "null".to_owned()
    } else if payload_is_json {
        let text = std::str::from_utf8(publish.payload).ok()?;
        serde_json::from_str::<IgnoredAny>(text).ok()?;
        text.to_owned()
    } else {
        quote(publish.payload)
    };
    let mut members = vec![
        ("tst", quote(time.iso(true).as_bytes())),
        ("topic", quote(publish.topic.as_bytes())),
        ("qos", (publish.qos as u8).to_string()),
        ("retain", u8::from(publish.retain).to_string()),
        ("payloadlen", publish.payload.len().to_string()),
    ];
    if publish.qos != QoS::AtMostOnce {
        members.push(("mid", publish.packet_id.to_string()));
    }
    let properties = properties(publish);
    if !properties.is_empty() {
        members.push(("properties", object(properties)));
    }
    members.push(("payload", payload));
    Some(layout(&object(members), pretty))
}

fn properties(publish: &Publish<'_>) -> Vec<(&'static str, String)> {
    let properties = &publish.properties;
    let text = |text: Option<&str>| text.map(|text| quote(text.as_bytes()));
    let user = (!properties.user_properties.is_empty()).then(|| {
        let pairs = properties.user_properties.iter();
        object(pairs.map(|(name, value)| (name, quote(value.as_bytes()))).collect())
    });
    let ids: Vec<String> = publish.subscription_ids.map(|id| id.to_string()).collect();
    let ids = match ids.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        several => Some(format!("[{}]", several.join(","))),
    };
    [
        ("content-type", text(properties.content_type)),
        ("response-topic", text(properties.response_topic)),
        ("correlation-data", properties.correlation_data.map(quote)),
        ("user-properties", user),
        ("payload-format-indicator", properties.payload_format.map(|number| number.to_string())),
        ("message-expiry-interval", properties.message_expiry.map(|number| number.to_string())),
        ("topic-alias", publish.topic_alias.map(|number| number.to_string())),
        ("subscription-identifier", ids),
    ]
    .into_iter()
    .filter_map(|(name, value)| value.map(|value| (name, value)))
    .collect()
}

fn object(members: Vec<(&str, String)>) -> String {
    let members: Vec<String> =
        members.iter().map(|(name, value)| format!("{}:{value}", quote(name.as_bytes()))).collect();
    format!("{{{}}}", members.join(","))
}

/// Valid JSON without white space, or, if `pretty`, with one member of an object on a line, indented by tabs.
/// Numbers and strings stay as they are spelled.
fn layout(json: &str, pretty: bool) -> String {
    let mut out = String::with_capacity(json.len());
    let mut open = Vec::new();
    let mut in_string = Strings::default();
    let mut chars = json.chars().filter(not_between_tokens()).peekable();
    while let Some(next) = chars.next() {
        if in_string.covers(next) || !pretty {
            out.push(next);
            continue;
        }
        match next {
            '}' | ']' => {
                open.pop();
                if next == '}' && !out.ends_with('{') {
                    indent(&mut out, open.len());
                }
                out.push(next);
            }
            '{' | '[' => {
                out.push(next);
                open.push(next);
                if next == '{' && chars.peek() != Some(&'}') {
                    indent(&mut out, open.len());
                }
            }
            ',' if open.last() == Some(&'{') => {
                out.push(next);
                indent(&mut out, open.len());
            }
            ',' => out.push_str(", "),
            ':' => out.push_str(":\t"),
            _ => out.push(next),
        }
    }
    out
}

fn indent(out: &mut String, depth: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n('\t', depth));
}

/// Drops white space outside of strings.
fn not_between_tokens() -> impl FnMut(&char) -> bool {
    let mut strings = Strings::default();
    move |next| strings.covers(*next) || !matches!(next, ' ' | '\t' | '\n' | '\r')
}

/// Follows where strings begin and end.
#[derive(Default)]
struct Strings {
    inside: bool,
    escaped: bool,
}

impl Strings {
    /// Whether the next character is part of a string, its quotes included.
    fn covers(&mut self, next: char) -> bool {
        if !self.inside {
            self.inside = next == '"';
            return self.inside;
        }
        match next {
            _ if self.escaped => self.escaped = false,
            '\\' => self.escaped = true,
            '"' => self.inside = false,
            _ => {}
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_goes_but_not_from_strings() {
        assert_eq!(
            layout("{ \"a b\" : [1 , 2.50,\n{}], \"c\\\" \": \" \" }", false),
            "{\"a b\":[1,2.50,{}],\"c\\\" \":\" \"}"
        );
    }

    #[test]
    fn pretty_is_what_users_of_mosquitto_know() {
        let json = "{\"a\":1,\"b\":[1,2,{\"z\":null}],\"e\":{},\"f\":[],\"s\":\"{},\"}";
        let pretty = "{\n\t\"a\":\t1,\n\t\"b\":\t[1, 2, {\n\t\t\t\"z\":\tnull\n\t\t}],\n\t\"e\":\t{},\n\t\"f\":\t[],\n\t\"s\":\t\"{},\"\n}";
        assert_eq!(layout(json, true), pretty);
    }
}
