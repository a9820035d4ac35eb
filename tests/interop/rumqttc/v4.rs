//! rumqttc as a client of 3.1.1.
use super::peer::{Event, Message, REQUESTS, Requests, Setup, spawn};
use rumqttc::v5::mqttbytes::v5::PublishProperties;
use rumqttc::{AsyncClient, Event as Raw, LastWill, MqttOptions, Packet, qos};
use std::sync::mpsc::Sender;
use tokio::task::JoinHandle;

pub fn connect(port: u16, setup: Setup, sender: Sender<Event>) -> (Box<dyn Requests>, JoinHandle<()>) {
    let mut options = MqttOptions::new(setup.client_id, "127.0.0.1", port);
    options.set_clean_session(setup.clean);
    if let Some((topic, payload)) = setup.will {
        options.set_last_will(LastWill::new(topic, payload, level(1), false));
    }
    let (client, mut event_loop) = AsyncClient::new(options, REQUESTS);
    let task = spawn(async move {
        loop {
            let event = match event_loop.poll().await {
                Ok(Raw::Incoming(packet)) => event(packet),
                Ok(Raw::Outgoing(_)) => None,
                Err(error) => {
                    sender.send(Event::Closed(error.to_string())).ok();
                    return;
                }
            };
            if event.is_some_and(|event| sender.send(event).is_err()) {
                return;
            }
        }
    });
    (Box::new(client), task)
}

fn event(packet: Packet) -> Option<Event> {
    Some(match packet {
        Packet::ConnAck(ack) => Event::Connected { session_present: ack.session_present },
        Packet::SubAck(_) => Event::Subscribed,
        Packet::UnsubAck(_) => Event::Unsubscribed,
        Packet::PubAck(_) | Packet::PubComp(_) => Event::Acknowledged("Success".to_owned()),
        Packet::Publish(publish) => Event::Message(Message {
            topic: publish.topic,
            payload: publish.payload.to_vec(),
            qos: publish.qos as u8,
            retain: publish.retain,
            properties: PublishProperties::default(),
        }),
        _ => return None,
    })
}

fn level(number: u8) -> rumqttc::QoS {
    qos(number).expect("a QoS")
}

impl Requests for AsyncClient {
    fn subscribe(&self, filter: &str, qos: u8) {
        self.try_subscribe(filter, level(qos)).unwrap();
    }

    fn unsubscribe(&self, filter: &str) {
        self.try_unsubscribe(filter).unwrap();
    }

    fn publish(&self, topic: &str, qos: u8, retain: bool, payload: Vec<u8>, _properties: PublishProperties) {
        self.try_publish(topic, level(qos), retain, payload).unwrap();
    }

    fn disconnect(&self) {
        self.try_disconnect().unwrap();
    }
}
