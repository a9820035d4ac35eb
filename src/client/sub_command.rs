//! `ringmq sub`.
use super::options::{CommonArgs, Target, topic_filter};
use super::output::OutputArgs;
use super::property::Place;
use super::signals::Signals;
use super::{Client, ClientError, Event, Message, SubArgs, arguments, connection, error};
use crate::codec::{
    FilterList, Publish, QoS, ReasonCode, SubscribeOptions, SubscriptionIds, UnsubscribeList, Version,
};
use crate::topic::matches;
use std::hash::{BuildHasher, RandomState};
use std::os::fd::BorrowedFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const NAME: &str = "ringmq sub";
/// Pause before a lost connection is tried again.
const RECONNECT_DELAY: Duration = Duration::from_secs(1);

/// Subscribes and prints messages, with the flags of `mosquitto_sub`
#[derive(clap::Parser, Debug)]
pub(super) struct SubOptions {
    /// Topic filter to subscribe to; may be repeated
    #[arg(short = 't', long = "topic", value_name = "FILTER", action = clap::ArgAction::Append, value_parser = topic_filter)]
    topic: Vec<String>,
    /// Topic filter to unsubscribe from; may be repeated
    #[arg(short = 'U', long = "unsubscribe", value_name = "FILTER", action = clap::ArgAction::Append, value_parser = topic_filter)]
    unsubscribe: Vec<String>,
    /// Print no messages that match this filter; may be repeated
    #[arg(short = 'T', long = "filter-out", value_name = "FILTER", action = clap::ArgAction::Append, value_parser = topic_filter)]
    filter_out: Vec<String>,
    /// End after so many messages
    #[arg(short = 'C', value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after so many seconds, with exit code 27
    #[arg(short = 'W', value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    timeout: Option<u32>,
    /// End when the broker has acknowledged the subscriptions
    #[arg(short = 'E')]
    exit_when_subscribed: bool,
    /// Print no retained messages
    #[arg(short = 'R', conflicts_with = "retained_only")]
    no_retained: bool,
    /// Print retained messages only, and end with the first other one
    #[arg(long = "retained-only")]
    retained_only: bool,
    /// Clear every retained message that comes
    #[arg(long = "remove-retained")]
    remove_retained: bool,
    /// See the retain flag as it was published (MQTT 5)
    #[arg(long = "retain-as-published")]
    retain_as_published: bool,
    /// When retained messages are sent (MQTT 5): always, new (if the subscription is new) or never
    #[arg(long = "retain-handling", value_name = "WHEN", value_parser = retain_handling)]
    retain_handling: Option<u8>,
    /// Print this percentage of the messages only
    #[arg(long = "random-filter", value_name = "PERCENT", value_parser = percent)]
    random_filter: Option<f64>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    common: CommonArgs,
}

/// `ringmq sub`.
pub fn subscribe(args: SubArgs) -> ExitCode {
    let mut options: SubOptions = match arguments::parse(NAME, args.words) {
        Ok(options) => options,
        Err(code) => return code,
    };
    let target = match prepare(&mut options) {
        Ok(target) => target,
        Err(sentence) => return arguments::wrong_use(NAME, &sentence),
    };
    let end = Signals::install().map_err(ClientError::System).and_then(|signals| {
        Subscriber {
            options: &options,
            target: &target,
            printed: 0,
            deadline: None,
            dice: RandomState::new(),
        }
        .run(&signals)
    });
    match end {
        Ok(End::Done) => ExitCode::SUCCESS,
        Ok(End::Code(code)) => ExitCode::from(code),
        Ok(End::TimedOut) => {
            target.complain("Timed out");
            ExitCode::from(error::TIMED_OUT)
        }
        Err(ClientError::Interrupted) => ExitCode::SUCCESS,
        Err(error) => ExitCode::from(target.report(&error)),
    }
}

fn prepare(options: &mut SubOptions) -> Result<Target, String> {
    let target = options.common.target(Version::V311)?;
    if let Some(topic) = &target.url_topic {
        options.topic.push(topic_filter(topic).map_err(|error| format!("topic filter '{topic}': {error}"))?);
    }
    if options.topic.is_empty() && options.unsubscribe.is_empty() {
        return Err("a topic filter (-t) is needed".to_owned());
    }
    if options.retain_handling.is_some() && !target.version.is_v5() {
        return Err("--retain-handling needs MQTT 5 (-V 5)".to_owned());
    }
    Ok(target)
}

/// How it ends when nothing goes wrong.
enum End {
    Done,
    TimedOut,
    Code(u8),
}

struct Subscriber<'a> {
    options: &'a SubOptions,
    target: &'a Target,
    printed: u64,
    deadline: Option<Instant>,
    dice: RandomState,
}

impl Subscriber<'_> {
    /// Connects, and again when the connection was lost after it was there once.
    fn run(mut self, signals: &Signals) -> Result<End, ClientError> {
        let watch = [signals.as_fd()];
        let mut client = self.target.connect(&watch)?;
        self.deadline =
            self.options.timeout.map(|seconds| Instant::now() + Duration::from_secs(seconds.into()));
        loop {
            let error = match self.session(&mut client, &watch) {
                Ok(end) => {
                    self.target.disconnect(client);
                    return Ok(end);
                }
                Err(error @ ClientError::Interrupted) => {
                    self.target.disconnect(client);
                    return Err(error);
                }
                Err(error) => error,
            };
            drop(client);
            client = match self.reconnect(error, &watch)? {
                Some(client) => client,
                None => return Ok(End::TimedOut),
            };
        }
    }

    /// Tries until it works or it makes no sense; `None` if the time of `-W` is over.
    fn reconnect(
        &self,
        mut error: ClientError,
        watch: &[BorrowedFd<'_>],
    ) -> Result<Option<Client>, ClientError> {
        if error.is_passing() {
            self.target.complain(&format!("Warning: {error} Connecting again."));
        }
        loop {
            if !error.is_passing() {
                return Err(error);
            }
            let next = Instant::now() + RECONNECT_DELAY;
            let until = self.deadline.map_or(next, |deadline| deadline.min(next));
            if connection::pause(until, watch)? {
                return Err(ClientError::Interrupted);
            }
            if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(None);
            }
            match self.target.connect(watch) {
                Ok(client) => return Ok(Some(client)),
                Err(next) => error = next,
            }
        }
    }

    /// One connection: subscribes and prints.
    fn session(&mut self, client: &mut Client, watch: &[BorrowedFd<'_>]) -> Result<End, ClientError> {
        self.ask(client)?;
        loop {
            match client.next(self.deadline, watch)? {
                Event::Ready(_) => return Err(ClientError::Interrupted),
                Event::Deadline => return Ok(End::TimedOut),
                Event::Message(message) => {
                    if let Some(end) = self.take(client, &message)? {
                        client.settle()?;
                        return Ok(end);
                    }
                }
                Event::Subscribed { reasons, .. } => {
                    if let Some(code) = self.refused(&reasons) {
                        return Ok(End::Code(code));
                    }
                    if self.options.exit_when_subscribed && client.is_settled() {
                        return Ok(End::Done);
                    }
                }
                Event::Unsubscribed { reasons, .. } => {
                    self.not_unsubscribed(&reasons);
                    if self.options.exit_when_subscribed && client.is_settled() {
                        return Ok(End::Done);
                    }
                }
                Event::Published { .. } => {}
            }
        }
    }

    fn ask(&self, client: &mut Client) -> Result<(), ClientError> {
        let (options, properties) = (self.options, &self.target.properties);
        let subscribe = SubscribeOptions {
            qos: options.common.qos,
            no_local: false,
            retain_as_published: options.retain_as_published,
            retain_handling: options.retain_handling.unwrap_or(0),
        };
        if !options.topic.is_empty() {
            let mut filters = FilterList::new();
            options.topic.iter().for_each(|filter| filters.push(filter, subscribe));
            let id = properties.number(Place::Subscribe, "subscription-identifier");
            client.subscribe(&filters, id, properties.user(Place::Subscribe))?;
        }
        if !options.unsubscribe.is_empty() {
            let mut filters = UnsubscribeList::new();
            options.unsubscribe.iter().for_each(|filter| filters.push(filter));
            client.unsubscribe(&filters, properties.user(Place::Unsubscribe))?;
        }
        Ok(())
    }

    /// Says which subscriptions were refused; the code to end with if all were.
    fn refused(&self, reasons: &[u8]) -> Option<u8> {
        let refused = |code: &u8| *code >= ReasonCode::UnspecifiedError.code();
        for (filter, code) in self.options.topic.iter().zip(reasons).filter(|(_, code)| refused(code)) {
            let reason = ReasonCode::from_code(*code).map_or("unknown reason", ReasonCode::text);
            self.target.complain(&format!("Warning: Subscription to '{filter}' was refused: {reason}."));
        }
        if reasons.iter().all(refused) {
            self.target.complain("Error: All subscription requests were denied.");
            return reasons.first().copied();
        }
        None
    }

    fn not_unsubscribed(&self, reasons: &[u8]) {
        for (filter, code) in self.options.unsubscribe.iter().zip(reasons) {
            match ReasonCode::from_code(*code) {
                Some(ReasonCode::Success) => {}
                reason => {
                    let reason = reason.map_or("unknown reason", ReasonCode::text);
                    self.target.complain(&format!("Warning: Unsubscribing from '{filter}': {reason}."));
                }
            }
        }
    }

    /// Prints the message if it is wanted, and acknowledges it; whether that was the last one.
    fn take(&mut self, client: &mut Client, message: &Message) -> Result<Option<End>, ClientError> {
        let publish = message.publish();
        if self.options.retained_only && !publish.retain {
            return Ok(Some(End::Done));
        }
        let mut end = None;
        if !self.options.filter_out.iter().any(|filter| matches(filter, publish.topic)) {
            if self.options.remove_retained && publish.retain {
                client.publish(&clearing(publish.topic))?;
            }
            if self.is_wanted(&publish) {
                if self.options.output.print(&publish, self.target).is_err() {
                    // Nobody reads any more: the message counts as not taken.
                    return Ok(Some(End::Done));
                }
                self.printed += 1;
                end = self.options.count.is_some_and(|count| self.printed >= count).then_some(End::Done);
            }
        }
        client.acknowledge(message);
        Ok(end)
    }

    fn is_wanted(&self, publish: &Publish<'_>) -> bool {
        if self.options.no_retained && publish.retain {
            return false;
        }
        let Some(percent) = self.options.random_filter else { return true };
        // A hash of the time with a random key is as random as this needs.
        let roll = self.dice.hash_one(Instant::now()) as f64 / u64::MAX as f64;
        roll * 100.0 < percent
    }
}

/// What removes the retained message of a topic.
fn clearing(topic: &str) -> Publish<'_> {
    Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: true,
        topic,
        packet_id: 0,
        topic_alias: None,
        subscription_ids: SubscriptionIds::default(),
        properties: Default::default(),
        payload: b"",
    }
}

fn retain_handling(value: &str) -> Result<u8, String> {
    match value {
        "always" | "0" => Ok(0),
        "new" | "1" => Ok(1),
        "never" | "2" => Ok(2),
        _ => Err("it must be always, new or never".to_owned()),
    }
}

fn percent(value: &str) -> Result<f64, String> {
    let percent = value.parse().ok().filter(|percent| (0.1..=100.0).contains(percent));
    percent.ok_or_else(|| "it must be a number from 0.1 to 100".to_owned())
}
