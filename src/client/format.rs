//! `-F`: the output format language of `mosquitto_sub`.
//!
//! `%` sequences name parts of the message, with optional `-` (left aligned), `0` (padded with zeros), width and
//! `.maximum`; `@` sequences are those of `strftime`; `\` sequences are characters that are hard to type.
use super::calendar::{Calendar, SPECIFIERS};
use super::json;
use crate::codec::Publish;
use std::fmt::Write;
use std::iter::Peekable;
use std::str::Chars;

/// Widest field, characters.
const MAX_WIDTH: usize = 100_000;
/// The parts of a message that have a letter.
const FIELDS: &str = "ACDEFIJPRSUXjlmpqrtx";
/// Those that can be padded.
const PADDED: &str = "ACEFIRSXlmptx";
/// Those that can be cut.
const CUT: &str = "CIRt";

/// A format string, checked and taken apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Format {
    pieces: Vec<Piece>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Piece {
    Literal(String),
    Time(char),
    Field { letter: char, layout: Layout },
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Layout {
    left: bool,
    zeros: bool,
    width: usize,
    most: Option<usize>,
}

/// The payload is no JSON, but `%J` wants it to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct NotJson;

impl Format {
    /// Reads a format string; a sentence about what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Format, String> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text.chars().peekable();
        while let Some(next) = rest.next() {
            let piece = match next {
                '%' if rest.next_if_eq(&'%').is_none() => field(&mut rest)?,
                '@' if rest.next_if_eq(&'@').is_none() => match rest.next() {
                    Some(specifier) if SPECIFIERS.contains(specifier) => Piece::Time(specifier),
                    Some(other) => return Err(format!("'@{other}' is no part of a date or time")),
                    None => return Err("the sequence behind the last '@' is missing".to_owned()),
                },
                '\\' => {
                    literal.push(escape(rest.next())?);
                    continue;
                }
                other => {
                    literal.push(other);
                    continue;
                }
            };
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal)));
            }
            pieces.push(piece);
        }
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(Format { pieces })
    }

    /// The message in this format.
    pub(super) fn render(
        &self,
        publish: &Publish<'_>,
        time: &Calendar,
        pretty: bool,
    ) -> Result<Vec<u8>, NotJson> {
        let mut out = Vec::new();
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Time(specifier) => {
                    let mut text = String::new();
                    time.write(*specifier, &mut text);
                    out.extend_from_slice(text.as_bytes());
                }
                Piece::Field { letter: letter @ ('j' | 'J'), .. } => {
                    let text = json::message(publish, time, *letter == 'J', pretty).ok_or(NotJson)?;
                    out.extend_from_slice(text.as_bytes());
                }
                Piece::Field { letter, layout } => {
                    layout.write(&value(*letter, publish, time), *letter, &mut out)
                }
            }
        }
        Ok(out)
    }
}

impl Layout {
    fn write(self, value: &[u8], letter: char, out: &mut Vec<u8>) {
        let value = match self.most {
            Some(most) if CUT.contains(letter) => &value[..value.len().min(most)],
            _ => value,
        };
        let missing = if PADDED.contains(letter) { self.width.saturating_sub(value.len()) } else { 0 };
        let zeros = self.zeros && !self.left && !CUT.contains(letter);
        let padding = std::iter::repeat_n(if zeros { b'0' } else { b' ' }, missing);
        if self.left {
            out.extend_from_slice(value);
            out.extend(padding);
        } else {
            out.extend(padding);
            out.extend_from_slice(value);
        }
    }
}

fn field(rest: &mut Peekable<Chars<'_>>) -> Result<Piece, String> {
    let left = rest.next_if_eq(&'-').is_some();
    let zeros = rest.next_if_eq(&'0').is_some();
    let width = width(rest)?.unwrap_or(0);
    let most = if rest.next_if_eq(&'.').is_some() { Some(self::width(rest)?.unwrap_or(0)) } else { None };
    match rest.next() {
        Some('%') => Ok(Piece::Literal("%".to_owned())),
        Some(letter) if FIELDS.contains(letter) => {
            Ok(Piece::Field { letter, layout: Layout { left, zeros, width, most } })
        }
        Some(other) => Err(format!("'%{other}' is no part of a message")),
        None => Err("the sequence behind the last '%' is incomplete".to_owned()),
    }
}

fn width(rest: &mut Peekable<Chars<'_>>) -> Result<Option<usize>, String> {
    let mut width = None;
    while let Some(digit) = rest.peek().and_then(|next| next.to_digit(10)) {
        rest.next();
        let wider = width.unwrap_or(0) * 10 + digit as usize;
        if wider > MAX_WIDTH {
            return Err(format!("a field has at most {MAX_WIDTH} characters"));
        }
        width = Some(wider);
    }
    Ok(width)
}

fn escape(letter: Option<char>) -> Result<char, String> {
    Ok(match letter {
        Some('\\') => '\\',
        Some('0') => '\0',
        Some('a') => '\x07',
        Some('e') => '\x1b',
        Some('n') => '\n',
        Some('r') => '\r',
        Some('t') => '\t',
        Some('v') => '\x0b',
        Some(other) => return Err(format!("'\\{other}' stands for no character")),
        None => return Err("the character behind the last '\\' is missing".to_owned()),
    })
}

/// The part of the message; empty if it does not have it.
fn value(letter: char, publish: &Publish<'_>, time: &Calendar) -> Vec<u8> {
    let properties = &publish.properties;
    let number =
        |number: Option<u32>| number.map(|number| number.to_string()).unwrap_or_default().into_bytes();
    let text = |text: Option<&str>| text.unwrap_or_default().as_bytes().to_vec();
    match letter {
        'A' => number(publish.topic_alias.map(u32::from)),
        'C' => text(properties.content_type),
        'D' => properties.correlation_data.unwrap_or_default().to_vec(),
        'E' => number(properties.message_expiry),
        'F' => number(properties.payload_format.map(u32::from)),
        'I' => time.iso(false).into_bytes(),
        'P' => {
            let pairs = properties.user_properties.iter().map(|(name, value)| format!("{name}:{value}"));
            pairs.collect::<Vec<_>>().join(" ").into_bytes()
        }
        'R' => text(properties.response_topic),
        'S' => {
            let ids = publish.subscription_ids.map(|id| id.to_string());
            ids.collect::<Vec<_>>().join(" ").into_bytes()
        }
        'U' => format!("{}.{:09}", time.unix, time.nanos).into_bytes(),
        'X' => hex(publish.payload, |byte, out| write!(out, "{byte:02X}")),
        'l' => publish.payload.len().to_string().into_bytes(),
        'm' => publish.packet_id.to_string().into_bytes(),
        'p' => publish.payload.to_vec(),
        'q' => (publish.qos as u8).to_string().into_bytes(),
        'r' => u8::from(publish.retain).to_string().into_bytes(),
        't' => text(Some(publish.topic)),
        'x' => hex(publish.payload, |byte, out| write!(out, "{byte:02x}")),
        other => unreachable!("'{other}' was checked when the format was read"),
    }
}

fn hex(payload: &[u8], digits: impl Fn(u8, &mut String) -> std::fmt::Result) -> Vec<u8> {
    let mut out = String::with_capacity(2 * payload.len());
    for byte in payload {
        digits(*byte, &mut out).expect("a String takes everything");
    }
    out.into_bytes()
}

#[cfg(test)]
#[path = "format_tests.rs"]
mod tests;
