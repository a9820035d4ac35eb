//! What is particular to one listener: its transport and its bounds, shared by all shards.
use super::transport::Transport;
use super::transport::certificate::{self, TlsSettings};
use super::transport::http::WebSocketSettings;
use crate::auth::Origin;
use crate::time::Time;
use ipnet::IpNet;
use rustls::ServerConfig;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// The settings of one listener beside its address.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DoorSettings {
    /// TLS, if it is spoken.
    pub tls: Option<TlsSettings>,
    /// It is a Unix socket.
    pub is_unix: bool,
    /// WebSocket, if it is spoken; above TLS if both are.
    pub websocket: Option<WebSocketSettings>,
    /// Networks of proxies, from which every connection begins with a header of the PROXY protocol.
    pub proxies: Vec<IpNet>,
    /// Connections at a time; one more is closed at accept.
    pub max_connections: Option<usize>,
    /// Connections accepted in one second; further ones are closed at accept.
    pub max_connection_rate: Option<u32>,
}

/// One listener as the shards see it.
#[derive(Debug)]
pub struct Door {
    /// What holds for new connections.
    state: RwLock<Arc<DoorState>>,
    is_unix: bool,
    open: AtomicUsize,
    /// The second that is counted, and how many were accepted in it.
    accepted: AtomicU64,
}

/// The settings of a listener with what their files hold.
#[derive(Debug)]
pub struct DoorState {
    /// The settings.
    pub settings: DoorSettings,
    /// For new TLS connections, if TLS is spoken.
    pub tls: Option<Arc<ServerConfig>>,
}

impl DoorState {
    /// Reads what files the settings name. The error is one sentence; the answer comes with warnings.
    pub fn load(settings: DoorSettings) -> Result<(DoorState, Vec<String>), String> {
        let loaded = settings.tls.as_ref().map(certificate::load).transpose()?;
        let (tls, warnings) = loaded.map(|loaded| (loaded.config, loaded.warnings)).unzip();
        Ok((DoorState { settings, tls }, warnings.unwrap_or_default()))
    }

    /// Whether a proxy is to tell where a connection comes from.
    pub fn awaits_address(&self, origin: &Origin) -> bool {
        let forwarded = self.settings.websocket.as_ref().map(|settings| &settings.forwarded_from[..]);
        origin.peer.is_some_and(|peer| {
            contains(&self.settings.proxies, peer.ip()) || contains(forwarded.unwrap_or_default(), peer.ip())
        })
    }

    /// What stands between a new connection and the core; `None` for plain TCP. The error is one of our own.
    pub fn transport(self: &Arc<DoorState>, origin: &Origin) -> Result<Option<Box<Transport>>, String> {
        let is_proxy = origin.peer.is_some_and(|peer| contains(&self.settings.proxies, peer.ip()));
        if self.tls.is_none() && self.settings.websocket.is_none() && !is_proxy {
            return Ok(None);
        }
        Transport::new(self.clone(), is_proxy, origin.clone()).map(|transport| Some(Box::new(transport)))
    }
}

impl Door {
    /// Opens with this.
    pub fn new(state: DoorState) -> Door {
        Door {
            is_unix: state.settings.is_unix,
            state: RwLock::new(Arc::new(state)),
            open: AtomicUsize::new(0),
            accepted: AtomicU64::new(0),
        }
    }

    /// It is a Unix socket.
    pub fn is_unix(&self) -> bool {
        self.is_unix
    }

    /// From now on new connections see this; those that are open go on as they are.
    pub fn replace(&self, state: DoorState) {
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(state);
    }

    /// What holds for new connections. Asked once for each connection, so that a lock does no harm.
    pub fn state(&self) -> Arc<DoorState> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts a new connection; false if it is one too many.
    pub fn admit(&self, now: Time) -> bool {
        let settings = &self.state().settings;
        if let Some(most) = settings.max_connection_rate {
            let second = now.0 / 1000;
            let count = |counted: u64| {
                let in_this_second =
                    if counted >> 32 == second & u64::from(u32::MAX) { counted as u32 } else { 0 };
                (in_this_second < most).then_some((second << 32) | u64::from(in_this_second + 1))
            };
            if self.accepted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count).is_err() {
                return false;
            }
        }
        let most = settings.max_connections.unwrap_or(usize::MAX);
        let admitted = self
            .open
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| (open < most).then_some(open + 1));
        admitted.is_ok()
    }

    /// A connection that was counted is closed.
    pub fn leave(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether an address is in one of the networks; an IPv4 address is one in its IPv6 form, too.
pub fn contains(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door(settings: DoorSettings) -> Arc<Door> {
        Arc::new(Door::new(DoorState::load(settings).unwrap().0))
    }

    #[test]
    fn connections_beyond_the_bounds_are_not_admitted() {
        let few = door(DoorSettings { max_connections: Some(2), ..Default::default() });
        assert_eq!([few.admit(Time(0)), few.admit(Time(0)), few.admit(Time(0))], [true, true, false]);
        few.leave();
        assert!(few.admit(Time(0)));
        let slow = door(DoorSettings { max_connection_rate: Some(2), ..Default::default() });
        assert_eq!(
            [slow.admit(Time(999)), slow.admit(Time(999)), slow.admit(Time(999))],
            [true, true, false]
        );
        assert_eq!(
            [slow.admit(Time(1000)), slow.admit(Time(1999)), slow.admit(Time(1999))],
            [true, true, false]
        );
    }

    #[test]
    fn a_plain_connection_has_nothing_between() {
        let from = |peer: &str| Origin { peer: Some(peer.parse().unwrap()), ..Default::default() };
        let near = from("10.0.0.1:1");
        assert!(door(DoorSettings::default()).state().transport(&near).unwrap().is_none());
        let proxied =
            door(DoorSettings { proxies: vec!["10.0.0.0/8".parse().unwrap()], ..Default::default() });
        assert!(proxied.state().transport(&near).unwrap().is_some());
        assert!(proxied.state().transport(&from("[::ffff:10.0.0.1]:1")).unwrap().is_some());
        assert!(proxied.state().transport(&from("11.0.0.1:1")).unwrap().is_none());
    }
}
