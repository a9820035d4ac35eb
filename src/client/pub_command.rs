//! `ringmq pub`.
use super::input::{Lines, PayloadArgs};
use super::options::{CommonArgs, Target, topic_name};
use super::property::Place;
use super::signals::Signals;
use super::{Client, ClientError, Event, PubArgs, arguments};
use crate::codec::{Publish, QoS, SubscriptionIds, Version};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const NAME: &str = "ringmq pub";

/// Publishes messages, with the flags of `mosquitto_pub`
#[derive(clap::Parser, Debug)]
pub(super) struct PubOptions {
    /// Topic to publish to
    #[arg(short = 't', long = "topic", value_name = "TOPIC", value_parser = topic_name)]
    topic: Option<String>,
    #[command(flatten)]
    payload: PayloadArgs,
    /// Send each line of standard input as a message
    #[arg(short = 'l', long = "stdin-line", conflicts_with_all = ["message", "file", "stdin", "null"])]
    lines: bool,
    /// Ask the broker to keep the message
    #[arg(short = 'r', long = "retain")]
    retain: bool,
    /// Send the message so many times
    #[arg(long = "repeat", value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// Seconds between the delivery of one repetition and the next
    #[arg(long = "repeat-delay", value_name = "SECONDS", default_value = "0", value_parser = seconds)]
    repeat_delay: Duration,
    /// Unfinished QoS 1 and 2 messages at most, if the broker allows that many; 0 for its Receive Maximum
    #[arg(short = 'M', value_name = "COUNT", default_value_t = 20)]
    max_in_flight: u16,
    #[command(flatten)]
    common: CommonArgs,
}

/// `ringmq pub`.
pub fn publish(args: PubArgs) -> ExitCode {
    let options: PubOptions = match arguments::parse(NAME, args.words) {
        Ok(options) => options,
        Err(code) => return code,
    };
    let prepared = options.common.target(Version::V311).and_then(|target| {
        let topic =
            options.topic.clone().or_else(|| target.url_topic.clone()).map(|topic| topic_name(&topic));
        let (Some(topic), true) = (topic, options.lines || options.payload.is_given()) else {
            return Err("both a topic (-t) and a message (-m, -f, -l, -n or -s) are needed".to_owned());
        };
        Ok((topic?, target))
    });
    let (topic, target) = match prepared {
        Ok(prepared) => prepared,
        Err(sentence) => return arguments::wrong_use(NAME, &sentence),
    };
    let payload = match options.payload.read() {
        Ok(payload) => payload,
        Err(sentence) => {
            target.complain(&format!("Error: {sentence}"));
            return ExitCode::from(super::error::FAILED);
        }
    };
    let publisher = Publisher { options: &options, target: &target, topic: &topic, alias_known: false };
    match publisher.run(payload) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => ExitCode::from(target.report(&error)),
    }
}

struct Publisher<'a> {
    options: &'a PubOptions,
    target: &'a Target,
    topic: &'a str,
    /// The broker has the topic's alias, which replaces it from now on.
    alias_known: bool,
}

impl Publisher<'_> {
    fn run(mut self, payload: Option<Vec<u8>>) -> Result<(), ClientError> {
        let signals = Signals::install().map_err(ClientError::System)?;
        let mut client = self.target.connect(&[signals.as_fd()])?;
        if self.options.max_in_flight > 0 {
            client.limit_in_flight(self.options.max_in_flight);
        }
        let sent = match payload {
            Some(payload) => self.repeat(&mut client, &signals, &payload),
            None => self.lines(&mut client, &signals),
        };
        // What was published before a signal or an unreadable input is still orderly ended.
        if matches!(sent, Ok(()) | Err(ClientError::Interrupted | ClientError::System(_))) {
            self.target.disconnect(client);
        }
        sent
    }

    /// One message, as often as asked for, each when the one before is through.
    fn repeat(&mut self, client: &mut Client, signals: &Signals, payload: &[u8]) -> Result<(), ClientError> {
        for round in 0..self.options.repeat {
            if round > 0 && !self.options.repeat_delay.is_zero() {
                self.rest(client, signals)?;
            }
            self.send(client, payload)?;
            while !client.is_settled() {
                self.take(client.next(None, &[signals.as_fd()])?)?;
            }
        }
        Ok(())
    }

    fn rest(&mut self, client: &mut Client, signals: &Signals) -> Result<(), ClientError> {
        let until = Instant::now() + self.options.repeat_delay;
        loop {
            match client.next(Some(until), &[signals.as_fd()])? {
                Event::Deadline => return Ok(()),
                event => self.take(event)?,
            }
        }
    }

    /// Each line of standard input, as many at a time as the broker takes.
    fn lines(&mut self, client: &mut Client, signals: &Signals) -> Result<(), ClientError> {
        let mut lines = Lines::new();
        loop {
            while self.options.common.qos == QoS::AtMostOnce || client.has_room() {
                let Some(line) = lines.next_line() else { break };
                self.send(client, &line)?;
            }
            if lines.is_ended() && lines.is_empty() && client.is_settled() {
                return Ok(());
            }
            let reading = lines.is_empty() && !lines.is_ended();
            let event = if reading {
                client.next(None, &[signals.as_fd(), lines.as_fd()])?
            } else {
                client.next(None, &[signals.as_fd()])?
            };
            match event {
                Event::Ready(1) => lines.fill().map_err(ClientError::System)?,
                event => self.take(event)?,
            }
        }
    }

    fn send(&mut self, client: &mut Client, payload: &[u8]) -> Result<(), ClientError> {
        let properties = &self.target.properties;
        let topic_alias = properties.word(Place::Publish, "topic-alias");
        let publish = Publish {
            dup: false,
            qos: self.options.common.qos,
            retain: self.options.retain,
            topic: if self.alias_known { "" } else { self.topic },
            packet_id: 0,
            topic_alias,
            subscription_ids: SubscriptionIds::default(),
            properties: properties.message(Place::Publish),
            payload,
        };
        client.publish(&publish)?;
        self.alias_known = topic_alias.is_some();
        Ok(())
    }

    /// Whatever else happens while something is waited for.
    fn take(&self, event: Event) -> Result<(), ClientError> {
        match event {
            Event::Ready(_) => return Err(ClientError::Interrupted),
            Event::Published { packet_id, reason } if reason.is_error() => {
                self.target.complain(&format!("Warning: Publish {packet_id} failed: {}.", reason.text()));
            }
            _ => {}
        }
        Ok(())
    }
}

fn seconds(value: &str) -> Result<Duration, String> {
    let seconds = value.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds
        .filter(|seconds| seconds.as_secs() < 1 << 32)
        .ok_or_else(|| "it must be a number of seconds".to_owned())
}
