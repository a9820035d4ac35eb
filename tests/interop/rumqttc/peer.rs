//! One rumqttc client of either version: its event loop runs beside the test, its events can be awaited.
use super::{v4, v5};
use crate::support::{Broker, PATIENCE};
use rumqttc::v5::mqttbytes::v5::{ConnectProperties, LastWillProperties, PublishProperties};
use std::collections::VecDeque;
use std::future::Future;
use std::sync::LazyLock;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Instant;
use tokio::runtime::{Builder, Handle};
use tokio::task::JoinHandle;

/// Requests that may wait for the event loop.
pub const REQUESTS: usize = 1000;

/// The version of the protocol a peer speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    V3_1_1,
    V5_0,
}

/// How to connect.
pub struct Setup {
    pub client_id: String,
    pub clean: bool,
    /// Topic and payload; QoS 1.
    pub will: Option<(String, &'static str)>,
    /// Properties of version 5.
    pub properties: ConnectProperties,
    /// Properties of the will of version 5.
    pub will_properties: Option<LastWillProperties>,
}

impl Setup {
    pub fn new(client_id: &str) -> Setup {
        let properties = ConnectProperties::new();
        Setup { client_id: client_id.to_owned(), clean: true, will: None, properties, will_properties: None }
    }

    /// A session that is kept for five minutes.
    pub fn keeping(client_id: &str) -> Setup {
        let mut setup = Setup::new(client_id);
        setup.clean = false;
        setup.properties.session_expiry_interval = Some(300);
        setup
    }

    pub fn with_will(mut self, topic: &str, payload: &'static str) -> Setup {
        self.will = Some((topic.to_owned(), payload));
        self
    }
}

/// A message that arrived.
#[derive(Clone, Debug)]
pub struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    /// Empty in 3.1.1.
    pub properties: PublishProperties,
}

/// What happened on a connection.
#[derive(Clone, Debug)]
pub enum Event {
    Connected {
        session_present: bool,
    },
    Message(Message),
    Subscribed,
    Unsubscribed,
    /// PUBACK or PUBCOMP, with the words of its reason code.
    Acknowledged(String),
    /// The connection is gone, with the error's words.
    Closed(String),
}

/// What a client can be asked; both versions of rumqttc can.
pub trait Requests: Send {
    fn subscribe(&self, filter: &str, qos: u8);
    fn unsubscribe(&self, filter: &str);
    fn publish(&self, topic: &str, qos: u8, retain: bool, payload: Vec<u8>, properties: PublishProperties);
    fn disconnect(&self);
}

pub struct Peer {
    requests: Box<dyn Requests>,
    event_loop: JoinHandle<()>,
    events: Receiver<Event>,
    /// Messages that came while something else was awaited.
    early: VecDeque<Message>,
    pub session_present: bool,
}

impl Peer {
    #[track_caller]
    pub fn connect(broker: &Broker, version: Version, setup: Setup) -> Peer {
        let (sender, events) = std::sync::mpsc::channel();
        let port = broker.address.port();
        let (requests, event_loop) = match version {
            Version::V3_1_1 => v4::connect(port, setup, sender),
            Version::V5_0 => v5::connect(port, setup, sender),
        };
        let mut peer = Peer { requests, event_loop, events, early: VecDeque::new(), session_present: false };
        peer.session_present = peer.wait("CONNACK", |event| match event {
            Event::Connected { session_present } => Some(session_present),
            _ => None,
        });
        peer
    }

    /// Waits for the first event that `wanted` takes; messages before it are kept, a close fails the test.
    #[track_caller]
    fn wait<T>(&mut self, what: &str, mut wanted: impl FnMut(Event) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(event) = self.events.recv_timeout(left) else {
                panic!("no {what} within {PATIENCE:?}; messages until then: {:?}", self.early);
            };
            if let Some(found) = wanted(event.clone()) {
                return found;
            }
            match event {
                Event::Message(message) => self.early.push_back(message),
                Event::Closed(why) => panic!("no {what}, the connection was closed: {why}"),
                _ => {}
            }
        }
    }

    #[track_caller]
    pub fn subscribe(&mut self, filter: &str, qos: u8) {
        self.requests.subscribe(filter, qos);
        self.wait("SUBACK", |event| matches!(event, Event::Subscribed).then_some(()));
    }

    #[track_caller]
    pub fn unsubscribe(&mut self, filter: &str) {
        self.requests.unsubscribe(filter);
        self.wait("UNSUBACK", |event| matches!(event, Event::Unsubscribed).then_some(()));
    }

    /// Publishes; waits for the acknowledgement and returns the words of its reason code (none at QoS 0).
    #[track_caller]
    pub fn publish(&mut self, topic: &str, qos: u8, payload: &str) -> String {
        self.publish_with(topic, qos, false, payload, PublishProperties::default())
    }

    #[track_caller]
    pub fn retain(&mut self, topic: &str, payload: &str) {
        self.publish_with(topic, 1, true, payload, PublishProperties::default());
    }

    #[track_caller]
    pub fn publish_with(
        &mut self,
        topic: &str,
        qos: u8,
        retain: bool,
        payload: &str,
        properties: PublishProperties,
    ) -> String {
        self.requests.publish(topic, qos, retain, payload.into(), properties);
        if qos == 0 {
            return String::new();
        }
        self.wait("acknowledgement", |event| match event {
            Event::Acknowledged(reason) => Some(reason),
            _ => None,
        })
    }

    #[track_caller]
    pub fn message(&mut self) -> Message {
        if let Some(message) = self.early.pop_front() {
            return message;
        }
        self.wait("message", |event| match event {
            Event::Message(message) => Some(message),
            _ => None,
        })
    }

    #[track_caller]
    pub fn payloads(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| String::from_utf8(self.message().payload).unwrap()).collect()
    }

    /// Messages that are here already, without waiting.
    pub fn arrived(&mut self) -> Vec<Message> {
        let new = self.events.try_iter().filter_map(|event| match event {
            Event::Message(message) => Some(message),
            _ => None,
        });
        self.early.drain(..).chain(new).collect()
    }

    /// Waits until the broker has closed the connection; the error's words.
    #[track_caller]
    pub fn closed(&mut self) -> String {
        self.wait("close", |event| match event {
            Event::Closed(why) => Some(why),
            _ => None,
        })
    }

    /// DISCONNECT, and the end of the connection.
    #[track_caller]
    pub fn disconnect(mut self) {
        self.requests.disconnect();
        self.closed();
    }
}

impl Drop for Peer {
    /// Cuts the connection as a crash would: no DISCONNECT.
    fn drop(&mut self) {
        self.event_loop.abort();
    }
}

/// Where all event loops of this test program run.
static RUNTIME: LazyLock<Handle> = LazyLock::new(|| {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let handle = runtime.handle().clone();
    thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    handle
});

/// Runs an event loop beside the tests.
pub fn spawn(event_loop: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    RUNTIME.spawn(event_loop)
}
