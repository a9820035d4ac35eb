//! `ringmq rr`: a request and its response.
use super::input::PayloadArgs;
use super::options::{CommonArgs, Target, topic_name};
use super::output::OutputArgs;
use super::property::Place;
use super::signals::Signals;
use super::{Client, ClientError, Event, RrArgs, arguments, error};
use crate::codec::{
    FilterList, MessageProperties, Publish, ReasonCode, SubscribeOptions, SubscriptionIds, Version,
};
use std::hash::{BuildHasher, RandomState};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const NAME: &str = "ringmq rr";

/// Sends a request and prints the response, with the flags of `mosquitto_rr`
#[derive(clap::Parser, Debug)]
pub(super) struct RrOptions {
    /// Topic of the request
    #[arg(short = 't', long = "topic", value_name = "TOPIC", value_parser = topic_name)]
    topic: Option<String>,
    /// Topic of the response
    #[arg(short = 'e', value_name = "TOPIC", value_parser = topic_name)]
    response_topic: Option<String>,
    #[command(flatten)]
    payload: PayloadArgs,
    /// End after so many seconds without a response, with exit code 27
    #[arg(short = 'W', value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    timeout: Option<u32>,
    /// A retained message is no response
    #[arg(short = 'R')]
    no_retained: bool,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    common: CommonArgs,
}

/// `ringmq rr`.
pub fn request(args: RrArgs) -> ExitCode {
    let options: RrOptions = match arguments::parse(NAME, args.words) {
        Ok(options) => options,
        Err(code) => return code,
    };
    let (topic, response_topic, target) = match prepare(&options) {
        Ok(prepared) => prepared,
        Err(sentence) => return arguments::wrong_use(NAME, &sentence),
    };
    let payload = match options.payload.read() {
        Ok(payload) => payload.unwrap_or_default(),
        Err(sentence) => {
            target.complain(&format!("Error: {sentence}"));
            return ExitCode::from(error::FAILED);
        }
    };
    let random = RandomState::new().hash_one((std::process::id(), Instant::now()));
    let requester = Requester {
        options: &options,
        target: &target,
        topic: &topic,
        response_topic: &response_topic,
        correlation: format!("{random:016x}"),
    };
    match requester.run(&payload) {
        Ok(code) => ExitCode::from(code),
        Err(error) => ExitCode::from(target.report(&error)),
    }
}

fn prepare(options: &RrOptions) -> Result<(String, String, Target), String> {
    let target = options.common.target(Version::V5)?;
    let topic = options.topic.clone().or_else(|| target.url_topic.clone());
    let (Some(topic), Some(response), true) = (topic, &options.response_topic, options.payload.is_given())
    else {
        let sentence = "a topic (-t), a response topic (-e) and a message (-m, -f, -n or -s) are needed";
        return Err(sentence.to_owned());
    };
    if target.properties.text(Place::Publish, "response-topic").is_some() {
        return Err("the response topic is given with -e, not with -D".to_owned());
    }
    Ok((topic_name(&topic)?, response.clone(), target))
}

struct Requester<'a> {
    options: &'a RrOptions,
    target: &'a Target,
    topic: &'a str,
    response_topic: &'a str,
    /// What the response repeats, if `-D` names nothing else.
    correlation: String,
}

impl Requester<'_> {
    fn run(&self, payload: &[u8]) -> Result<u8, ClientError> {
        let signals = Signals::install().map_err(ClientError::System)?;
        let mut client = self.target.connect(&[signals.as_fd()])?;
        let deadline =
            self.options.timeout.map(|seconds| Instant::now() + Duration::from_secs(seconds.into()));
        let ended = self.exchange(&mut client, &signals, deadline, payload);
        if matches!(ended, Ok(_) | Err(ClientError::Interrupted)) {
            self.target.disconnect(client);
        }
        ended
    }

    /// Subscribes, asks when the subscription stands, and waits for the response; the exit code.
    fn exchange(
        &self,
        client: &mut Client,
        signals: &Signals,
        deadline: Option<Instant>,
        payload: &[u8],
    ) -> Result<u8, ClientError> {
        let mut filters = FilterList::new();
        filters.push(self.response_topic, SubscribeOptions::new(self.options.common.qos));
        client.subscribe(&filters, None, self.target.properties.user(Place::Subscribe))?;
        let mut asked = false;
        loop {
            match client.next(deadline, &[signals.as_fd()])? {
                Event::Ready(_) => return Err(ClientError::Interrupted),
                Event::Deadline => {
                    self.target.complain("Timed out");
                    return Ok(error::TIMED_OUT);
                }
                Event::Subscribed { reasons, .. } => {
                    match reasons.first().copied().and_then(ReasonCode::from_code) {
                        Some(reason) if reason.is_error() => {
                            let topic = self.response_topic;
                            self.target.complain(&format!(
                                "Error: Subscription to '{topic}' was refused: {}.",
                                reason.text()
                            ));
                            return Ok(reason.code());
                        }
                        _ => {
                            client.publish(&self.question(payload))?;
                            asked = true;
                        }
                    }
                }
                Event::Message(message) => {
                    let is_response = asked && self.is_response(&message.publish());
                    if is_response {
                        // Nobody reads any more if this fails; it ends in any case.
                        let _ = self.options.output.print(&message.publish(), self.target);
                    }
                    client.acknowledge(&message);
                    if is_response {
                        client.settle()?;
                        return Ok(0);
                    }
                }
                Event::Published { packet_id, reason } if reason.is_error() => {
                    self.target.complain(&format!("Warning: Publish {packet_id} failed: {}.", reason.text()));
                }
                Event::Published { .. } | Event::Unsubscribed { .. } => {}
            }
        }
    }

    fn question<'q>(&'q self, payload: &'q [u8]) -> Publish<'q> {
        let properties = &self.target.properties;
        Publish {
            dup: false,
            qos: self.options.common.qos,
            retain: false,
            topic: self.topic,
            packet_id: 0,
            topic_alias: properties.word(Place::Publish, "topic-alias"),
            subscription_ids: SubscriptionIds::default(),
            properties: MessageProperties {
                response_topic: Some(self.response_topic),
                correlation_data: Some(self.correlation_data()),
                ..properties.message(Place::Publish)
            },
            payload,
        }
    }

    fn correlation_data(&self) -> &[u8] {
        self.target
            .properties
            .text(Place::Publish, "correlation-data")
            .unwrap_or(&self.correlation)
            .as_bytes()
    }

    /// Whether the message answers this request: a responder that knows no correlation data leaves it out.
    fn is_response(&self, publish: &Publish<'_>) -> bool {
        let ours = publish.properties.correlation_data.is_none_or(|data| data == self.correlation_data());
        ours && !(self.options.no_retained && publish.retain)
    }
}
