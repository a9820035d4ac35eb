//! CONNECT with every field open to the test.
use super::property::{Properties, Value, prop};
use super::wire::{Version, binary, packet, text};

/// The will of a [`Connect`].
#[derive(Clone, Debug)]
pub struct Will {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    pub properties: Properties,
}

impl Will {
    /// A QoS 0 will that is not retained.
    pub fn new(topic: &str, payload: impl AsRef<[u8]>) -> Will {
        Will {
            topic: topic.into(),
            payload: payload.as_ref().into(),
            qos: 0,
            retain: false,
            properties: Properties::new(),
        }
    }

    pub fn qos(self, qos: u8) -> Will {
        Will { qos, ..self }
    }

    pub fn retain(self) -> Will {
        Will { retain: true, ..self }
    }

    /// Version 5 only.
    pub fn property(mut self, id: u8, value: impl Into<Value>) -> Will {
        self.properties = self.properties.with(id, value);
        self
    }

    /// Will Delay Interval in seconds; version 5 only.
    pub fn delay(self, seconds: u32) -> Will {
        self.property(prop::WILL_DELAY, seconds)
    }
}

/// A CONNECT packet in the making: clean start, no keep alive, no will unless said otherwise.
#[derive(Clone, Debug)]
pub struct Connect {
    pub version: Version,
    pub client_id: String,
    pub clean: bool,
    pub keep_alive: u16,
    pub properties: Properties,
    pub will: Option<Will>,
    pub user: Option<String>,
    pub password: Option<Vec<u8>>,
    /// Instead of the name that goes with the version.
    pub name: Option<Vec<u8>>,
    /// Instead of the level that goes with the version.
    pub level: Option<u8>,
    /// Exclusive-or'ed into the connect flags.
    pub flip_flags: u8,
    /// Instead of the (valid UTF-8) client id.
    pub raw_client_id: Option<Vec<u8>>,
    /// Behind the last field, within the packet.
    pub trailing: Vec<u8>,
}

impl Connect {
    pub fn new(version: Version, client_id: &str) -> Connect {
        Connect {
            version,
            client_id: client_id.into(),
            clean: true,
            keep_alive: 0,
            properties: Properties::new(),
            will: None,
            user: None,
            password: None,
            name: None,
            level: None,
            flip_flags: 0,
            raw_client_id: None,
            trailing: Vec::new(),
        }
    }

    /// Clean Start 0 (3.1.1: CleanSession 0) and nothing else.
    pub fn resume(self) -> Connect {
        Connect { clean: false, ..self }
    }

    /// A session that outlives its connection by an hour, whatever the version: CleanSession 0, or Clean Start 0
    /// with a Session Expiry Interval.
    pub fn persistent(self) -> Connect {
        if self.version.is_5() { self.resume().expiry(3600) } else { self.resume() }
    }

    /// Session Expiry Interval in seconds.
    pub fn expiry(self, seconds: u32) -> Connect {
        self.property(prop::SESSION_EXPIRY, seconds)
    }

    /// In seconds.
    pub fn keep_alive(self, seconds: u16) -> Connect {
        Connect { keep_alive: seconds, ..self }
    }

    pub fn property(mut self, id: u8, value: impl Into<Value>) -> Connect {
        self.properties = self.properties.with(id, value);
        self
    }

    pub fn will(self, will: Will) -> Connect {
        Connect { will: Some(will), ..self }
    }

    pub fn user(self, user: &str) -> Connect {
        Connect { user: Some(user.into()), ..self }
    }

    pub fn password(self, password: impl AsRef<[u8]>) -> Connect {
        Connect { password: Some(password.as_ref().into()), ..self }
    }

    pub fn flip_flags(self, bits: u8) -> Connect {
        Connect { flip_flags: bits, ..self }
    }

    /// The fixed header and everything behind it.
    pub fn encode(&self) -> Vec<u8> {
        packet(0x10, &self.body())
    }

    /// Everything behind the fixed header.
    pub fn body(&self) -> Vec<u8> {
        let mut flags = u8::from(self.clean) << 1;
        if let Some(will) = &self.will {
            flags |= 0x04 | will.qos << 3 | u8::from(will.retain) << 5;
        }
        flags |= u8::from(self.password.is_some()) << 6 | u8::from(self.user.is_some()) << 7;
        let name: &[u8] = if self.version == Version::V3 { b"MQIsdp" } else { b"MQTT" };
        let mut out = binary(self.name.as_deref().unwrap_or(name));
        out.push(self.level.unwrap_or(self.version as u8));
        out.push(flags ^ self.flip_flags);
        out.extend(self.keep_alive.to_be_bytes());
        if self.version.is_5() {
            out.extend(self.properties.encode());
        }
        out.extend(binary(self.raw_client_id.as_deref().unwrap_or(self.client_id.as_bytes())));
        if let Some(will) = &self.will {
            if self.version.is_5() {
                out.extend(will.properties.encode());
            }
            out.extend(text(&will.topic));
            out.extend(binary(&will.payload));
        }
        if let Some(user) = &self.user {
            out.extend(text(user));
        }
        if let Some(password) = &self.password {
            out.extend(binary(password));
        }
        out.extend(&self.trailing);
        out
    }
}
