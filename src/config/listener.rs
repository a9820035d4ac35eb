//! A `[[listener]]` table of the configuration file.
use super::units::{ListenAddress, Owner, Size};
use crate::net::door::DoorSettings;
use crate::net::listener::{Place, UnixPlace};
use crate::net::transport::certificate::{Identity, TlsSettings};
use crate::net::transport::http::WebSocketSettings;
use ipnet::IpNet;
use std::path::PathBuf;

/// Payload bytes of the largest WebSocket frame when nothing is said.
const WEBSOCKET_FRAME: u64 = 16 << 20;

/// The keys of a `[[listener]]` table. They are clap arguments, so that values are read and described like those of the
/// flags, but no command line has them.
#[derive(clap::Args, Clone, Debug)]
pub struct ListenerArgs {
    /// Address and port to listen on, as with listen, or the path of a Unix socket
    #[arg(long, value_name = "ADDR:PORT", required = true, value_parser = place)]
    pub address: Where,
    /// What is spoken below MQTT
    #[arg(long, value_name = "NAME", default_value = "tcp", value_enum)]
    pub transport: TransportName,
    /// Let everybody in here without a password; needed to listen on anything but loopback
    #[arg(long)]
    pub allow_anonymous: bool,
    /// Connections at a time on this listener; one more is closed at once [default: no bound but the broker's]
    #[arg(long, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    pub max_connections: Option<usize>,
    /// Connections accepted in one second; further ones are closed at once [default: no bound]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connection_rate: Option<u32>,
    /// Networks of proxies, like 10.0.0.0/8: from there every connection must begin with a header of the PROXY protocol (version 1 or 2), and from elsewhere none may
    #[arg(long, value_name = "NET")]
    pub proxy_protocol_from: Vec<IpNet>,

    /// Permissions of the Unix socket, octal; to connect is to write
    #[arg(long, value_name = "OCTAL", default_value = "0660", value_parser = mode, help_heading = "Unix socket (transport unix)")]
    pub mode: u32,
    /// Owner of the Unix socket: user, user:group or :group, by name or number [default: who runs the broker]
    #[arg(long, value_name = "USER:GROUP", help_heading = "Unix socket (transport unix)")]
    pub owner: Option<Owner>,

    /// PEM files with certificates, each with the chain up to its authority; a client that asks for a name (SNI) gets the one that has it, else the first
    #[arg(long, value_name = "FILE", help_heading = "TLS (transports tls and wss)")]
    pub certificate: Vec<PathBuf>,
    /// PEM files with the private keys, in the same order
    #[arg(long, value_name = "FILE", help_heading = "TLS (transports tls and wss)")]
    pub key: Vec<PathBuf>,
    /// PEM file with the authorities of client certificates; clients are asked for one [default: they are not asked]
    #[arg(long, value_name = "FILE", help_heading = "TLS (transports tls and wss)")]
    pub client_ca: Option<PathBuf>,
    /// PEM files with lists of revoked client certificates; one that is out of date refuses everybody
    #[arg(long, value_name = "FILE", help_heading = "TLS (transports tls and wss)")]
    pub crl: Vec<PathBuf>,
    /// Refuse clients without a certificate of client-ca
    #[arg(long, help_heading = "TLS (transports tls and wss)")]
    pub require_certificate: bool,
    /// What of a client's certificate is its user name; none: it only lets in
    #[arg(
        long,
        value_name = "PART",
        default_value = "none",
        value_enum,
        help_heading = "TLS (transports tls and wss)"
    )]
    pub identity: Identity,
    /// Oldest version of TLS
    #[arg(
        long,
        value_name = "VERSION",
        default_value = "1.2",
        value_enum,
        help_heading = "TLS (transports tls and wss)"
    )]
    pub tls_min: TlsVersion,

    /// Paths that are served [default: all]
    #[arg(long, value_name = "PATH", help_heading = "WebSocket (transports websocket and wss)")]
    pub websocket_path: Vec<String>,
    /// Origins of web pages that may connect, like `https://example.org`, or * for all; a page of this very host and port always may
    #[arg(long, value_name = "ORIGIN", help_heading = "WebSocket (transports websocket and wss)")]
    pub websocket_origin: Vec<String>,
    /// Largest frame a client may send
    #[arg(long, value_name = "SIZE", default_value_t = Size(WEBSOCKET_FRAME), help_heading = "WebSocket (transports websocket and wss)")]
    pub websocket_max_frame: Size,
    /// Networks of proxies whose X-Forwarded-For is believed, like 10.0.0.0/8
    #[arg(long, value_name = "NET", help_heading = "WebSocket (transports websocket and wss)")]
    pub forwarded_for_from: Vec<IpNet>,
}

/// What is spoken below MQTT.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum TransportName {
    /// Nothing.
    Tcp,
    /// TLS.
    Tls,
    /// WebSocket.
    Websocket,
    /// WebSocket over TLS.
    Wss,
    /// Nothing, on a Unix socket.
    Unix,
}

/// An address or a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Where {
    /// An address of the network.
    Network(ListenAddress),
    /// A path in the file system.
    Path(PathBuf),
}

fn place(text: &str) -> Result<Where, String> {
    match text.starts_with('/') {
        true => Ok(Where::Path(text.into())),
        false => text.parse().map(Where::Network),
    }
}

fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| format!("{text:?} is no octal number up to 777, like 0660"))
}

/// A version of TLS.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[value(name = "1.2")]
    V12,
    /// TLS 1.3.
    #[value(name = "1.3")]
    V13,
}

/// A listener whose settings fit together.
#[derive(Clone, Debug)]
pub struct ListenerSettings {
    /// Where to listen.
    pub place: Place,
    /// What is spoken below MQTT.
    pub transport: TransportName,
    /// Clients that do not say who they are are let in.
    pub anonymous: bool,
    /// The user name is that of the client certificate.
    pub identity: bool,
    /// Everything else.
    pub door: DoorSettings,
    /// Limits that are other than those of the whole broker.
    pub own: Vec<super::keys::Setting>,
}

impl TransportName {
    fn has_tls(self) -> bool {
        matches!(self, TransportName::Tls | TransportName::Wss)
    }
    fn has_websocket(self) -> bool {
        matches!(self, TransportName::Websocket | TransportName::Wss)
    }
}

impl ListenerArgs {
    /// What `--listen ADDRESS` means.
    pub fn plain(address: ListenAddress) -> ListenerArgs {
        let settings = [super::keys::Setting {
            key: "address".to_string(),
            values: vec![address.to_string()],
            origin: super::keys::Origin::Default,
        }];
        super::keys::Keys::of::<ListenerArgs>().parse(&settings).expect("an address alone is a listener")
    }

    /// Checks what concerns more than one key. `open`: everybody may connect everywhere. `authenticates`: clients can
    /// say who they are, and who does not is let in only where that is wanted.
    pub fn check(&self, open: bool, authenticates: bool) -> Result<ListenerSettings, String> {
        let place = self.place()?;
        let is_allowed = self.allow_anonymous || open;
        let identity = self.identity != Identity::None;
        let authenticates = authenticates || identity;
        if let Place::Tcp(address) = place
            && !address.ip().to_canonical().is_loopback()
            && !is_allowed
            && !authenticates
        {
            return Err(format!(
                "listening on {address} would let everybody in who can reach this machine; \
                 add --password-file (or another way to say who they are), --allow-anonymous if that is meant, \
                 or listen on 127.0.0.1"
            ));
        }
        let door = DoorSettings {
            tls: self.tls()?,
            is_unix: self.transport == TransportName::Unix,
            websocket: self.websocket()?,
            proxies: self.proxy_protocol_from.clone(),
            max_connections: self.max_connections,
            max_connection_rate: self.max_connection_rate,
        };
        let anonymous = is_allowed || !authenticates;
        Ok(ListenerSettings { place, transport: self.transport, anonymous, identity, door, own: Vec::new() })
    }

    fn place(&self) -> Result<Place, String> {
        match (&self.address, self.transport) {
            (Where::Path(path), TransportName::Unix) => {
                let owner = self.owner.as_ref().map_or((None, None), |owner| (owner.user, owner.group));
                Ok(Place::Unix(UnixPlace { path: path.clone(), mode: self.mode, owner }))
            }
            (Where::Path(path), _) => {
                Err(format!("address {} is a path; set transport to unix for it", path.display()))
            }
            (Where::Network(address), TransportName::Unix) => Err(format!(
                "address {address} is no path, which transport unix wants, like /run/ringmq/mqtt.sock"
            )),
            (Where::Network(address), _) => Ok(Place::Tcp(address.0)),
        }
    }

    fn tls(&self) -> Result<Option<TlsSettings>, String> {
        let is_asked_for_certificates = self.client_ca.is_some();
        let for_tls = [
            ("certificate", !self.certificate.is_empty()),
            ("key", !self.key.is_empty()),
            ("client-ca", is_asked_for_certificates),
            ("crl", !self.crl.is_empty()),
            ("require-certificate", self.require_certificate),
            ("identity", self.identity != Identity::None),
        ];
        if !self.transport.has_tls() {
            return match for_tls.iter().find(|(_, is_set)| *is_set) {
                Some((key, _)) => {
                    Err(format!("{key} is for TLS; set transport to tls or wss, or take {key} out"))
                }
                None => Ok(None),
            };
        }
        if self.certificate.is_empty() || self.certificate.len() != self.key.len() {
            return Err(format!(
                "TLS needs certificate and key, one key for each certificate; here are {} and {}",
                self.certificate.len(),
                self.key.len()
            ));
        }
        if let Some((key, _)) = for_tls[3..].iter().find(|(_, is_set)| *is_set && !is_asked_for_certificates)
        {
            return Err(format!("{key} is about client certificates; say with client-ca whose are believed"));
        }
        let protocol = if self.transport.has_websocket() { "http/1.1" } else { "mqtt" };
        Ok(Some(TlsSettings {
            certificates: self.certificate.iter().cloned().zip(self.key.iter().cloned()).collect(),
            client_authority: self.client_ca.clone(),
            revoked: self.crl.clone(),
            certificate_required: self.require_certificate,
            identity: self.identity,
            with_1_2: self.tls_min == TlsVersion::V12,
            protocols: vec![protocol],
        }))
    }

    fn websocket(&self) -> Result<Option<WebSocketSettings>, String> {
        if self.transport.has_websocket() {
            if let Some(path) = self.websocket_path.iter().find(|path| !path.starts_with('/')) {
                return Err(format!("websocket-path {path:?} must begin with /"));
            }
            return Ok(Some(WebSocketSettings {
                paths: self.websocket_path.clone(),
                origins: self.websocket_origin.clone(),
                max_frame: self.websocket_max_frame.0,
                forwarded_from: self.forwarded_for_from.clone(),
            }));
        }
        let for_websocket = [
            ("websocket-path", !self.websocket_path.is_empty()),
            ("websocket-origin", !self.websocket_origin.is_empty()),
            ("forwarded-for-from", !self.forwarded_for_from.is_empty()),
        ];
        match for_websocket.iter().find(|(_, is_set)| *is_set) {
            Some((key, _)) => {
                Err(format!("{key} is for WebSocket; set transport to websocket or wss, or take {key} out"))
            }
            None => Ok(None),
        }
    }
}
