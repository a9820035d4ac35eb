//! Enhanced authentication (4.12): an exchange of AUTH packets before CONNACK, and again later if the client asks.
use super::Core;
use super::connection::{Authentication, Pending, Phase};
use super::input::Flow;
use crate::auth::decision::Grant;
use crate::auth::{Exchange, Step};
use crate::codec::{Auth, Packet, PacketType, ReasonCode};
use crate::time::Time;
use std::sync::Arc;

impl Core {
    /// CONNECT named a method, which is known.
    pub(super) fn begin_authentication(
        &mut self,
        now: Time,
        slot: u32,
        method: &str,
        data: Option<&[u8]>,
        pending: Pending,
    ) -> Flow {
        let (exchange, generation) = (self.new_exchange(method), self.policy.generation);
        let connection = &mut self.connections[slot as usize];
        let extras = connection.extras();
        extras.pending = Some(pending);
        let Some(exchange) = exchange else {
            // Taken away since the first look at CONNECT.
            self.refuse(slot, ReasonCode::BadAuthenticationMethod);
            return Flow::Stop;
        };
        connection.phase = Phase::Authenticating;
        let extras = connection.extras();
        let exchange = Some(exchange);
        extras.authentication = Some(Authentication { method: method.into(), exchange, generation });
        self.advance_authentication(now, slot, data)
    }

    /// `None`: there is no such method, any more.
    fn new_exchange(&self, method: &str) -> Option<Box<dyn Exchange>> {
        self.policy.methods.iter().find(|known| known.name() == method).map(|known| known.begin())
    }

    /// A packet before CONNACK: AUTH or DISCONNECT only ([MQTT-3.1.2-30]).
    pub(super) fn handle_during_authentication(&mut self, now: Time, slot: u32, packet: &Packet<'_>) -> Flow {
        match packet {
            Packet::Auth(auth) if auth.reason == ReasonCode::ContinueAuthentication => {
                if !self.is_same_method(slot, auth) {
                    self.refuse(slot, ReasonCode::ProtocolError);
                    return Flow::Stop;
                }
                self.advance_authentication(now, slot, auth.data)
            }
            Packet::Disconnect(_) => {
                self.drop_connection(slot);
                Flow::Stop
            }
            _ => {
                self.counters.protocol_errors += 1;
                self.refuse(slot, ReasonCode::ProtocolError);
                Flow::Stop
            }
        }
    }

    /// AUTH on a connected client: it authenticates again, or answers while it does.
    pub(super) fn handle_auth(&mut self, now: Time, slot: u32, auth: &Auth<'_>) -> Flow {
        let authentication =
            self.connections[slot as usize].extras.as_ref().and_then(|e| e.authentication.as_ref());
        let is_legal = match authentication {
            // [MQTT-4.12.0-7]
            None => false,
            Some(authentication) => match auth.reason {
                ReasonCode::ReAuthenticate => authentication.exchange.is_none(),
                ReasonCode::ContinueAuthentication => authentication.exchange.is_some(),
                _ => false,
            },
        };
        if !is_legal || !self.is_same_method(slot, auth) {
            self.disconnect(now, slot, ReasonCode::ProtocolError);
            return Flow::Stop;
        }
        if auth.reason == ReasonCode::ReAuthenticate {
            let Some(exchange) = self.new_exchange(auth.method.unwrap_or_default()) else {
                self.disconnect(now, slot, ReasonCode::NotAuthorized);
                return Flow::Stop;
            };
            let generation = self.policy.generation;
            let authentication = self.authentication(slot);
            (authentication.exchange, authentication.generation) = (Some(exchange), generation);
        }
        self.advance_authentication(now, slot, auth.data)
    }

    fn authentication(&mut self, slot: u32) -> &mut Authentication {
        let extras = self.connections[slot as usize].extras();
        extras.authentication.as_mut().expect("an exchange belongs to a method")
    }

    /// [MQTT-4.12.0-5], [MQTT-4.12.1-1].
    fn is_same_method(&mut self, slot: u32, auth: &Auth<'_>) -> bool {
        auth.method == Some(&*self.authentication(slot).method)
    }

    /// Asks the method what comes next and says it.
    fn advance_authentication(&mut self, now: Time, slot: u32, data: Option<&[u8]>) -> Flow {
        let connected = self.connections[slot as usize].phase == Phase::Connected;
        let generation = self.policy.generation;
        let authentication = self.authentication(slot);
        let exchange = authentication.exchange.as_mut().expect("the exchange is under way");
        let step = exchange.handle_data(data);
        match step {
            // Who may come in has changed meanwhile, and what was proved may no longer count: once more from the beginning.
            Step::Success { .. } if authentication.generation < generation => {
                self.refuse_exchange(now, slot, connected, ReasonCode::ServerBusy);
                return Flow::Stop;
            }
            Step::Continue(data) => self.write_auth(slot, ReasonCode::ContinueAuthentication, &data),
            Step::Success { data, user } => {
                authentication.exchange = None;
                if !connected {
                    let extras = self.connections[slot as usize].extras();
                    let pending = extras.pending.take().expect("CONNECT waits for its authentication");
                    let grant = Grant { user: user.map(Arc::from), ..Grant::default() };
                    let Pending { bytes, assigned, .. } = pending;
                    return self.accept_pending(now, slot, &bytes, assigned, Some(data), grant).1;
                }
                if !self.is_same_user(slot, user.as_deref()) {
                    self.disconnect(now, slot, ReasonCode::NotAuthorized);
                    return Flow::Stop;
                }
                self.write_auth(slot, ReasonCode::Success, &data);
            }
            Step::Refuse(reason) => {
                self.refuse_exchange(now, slot, connected, reason);
                return Flow::Stop;
            }
        }
        Flow::Continue
    }

    /// [MQTT-4.12.0-4], [MQTT-4.12.1-2]
    fn refuse_exchange(&mut self, now: Time, slot: u32, connected: bool, reason: ReasonCode) {
        if connected {
            self.disconnect(now, slot, reason);
        } else {
            self.refuse(slot, reason);
        }
    }

    /// Who authenticates again must be who it was: what it may do and what is queued for it is that user's.
    fn is_same_user(&self, slot: u32, user: Option<&str>) -> bool {
        let session = &self.sessions[self.connections[slot as usize].session as usize];
        session.access.as_ref().and_then(|access| access.user.as_deref()) == user
    }

    fn write_auth(&mut self, slot: u32, reason: ReasonCode, data: &[u8]) {
        let method = self.authentication(slot).method.clone();
        let auth = Auth::new(reason, &method, (!data.is_empty()).then_some(data));
        self.write(slot, PacketType::Auth, |version, out| auth.encode(version, out));
    }
}
