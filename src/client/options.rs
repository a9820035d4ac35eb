//! The flags that the three commands share, and the connection they describe.
use super::property::{MAX_TEXT, Place, Properties, Property, text};
use super::stream::{Dial, TlsArgs};
use super::url::Url;
use super::{Client, ClientError, Endpoint};
use crate::codec::{Connect, ConnectProperties, Disconnect, QoS, ReasonCode, Version, Will};
use crate::topic::{check_filter, check_name, parse_shared};
use std::ffi::OsString;
use std::io::Write;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStringExt;

const DEFAULT_PORT: u16 = 1883;
const DEFAULT_TLS_PORT: u16 = 8883;
const DEFAULT_WEBSOCKET_PORT: u16 = 8080;
const DEFAULT_WEBSOCKET_TLS_PORT: u16 = 8081;
/// A session that does not expire.
const FOR_EVER: u32 = u32::MAX;

/// The flags of all three commands.
#[derive(clap::Args, Debug)]
pub(super) struct CommonArgs {
    /// Host to connect to [default: localhost]
    #[arg(short = 'h', long = "host", value_name = "HOST")]
    host: Option<String>,
    /// TCP port to connect to [default: 1883; TLS: 8883; WebSocket: 8080, with TLS 8081]
    #[arg(short = 'p', long = "port", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Host and more at once: `mqtt://[user[:password]@]host[:port]/topic`; mqtts:// turns TLS on, ws:// and wss:// WebSocket
    #[arg(short = 'L', long = "url", value_name = "URL", value_parser = Url::parse)]
    url: Option<Url>,
    #[command(flatten)]
    tls: TlsArgs,
    /// Speak WebSocket
    #[arg(long = "ws")]
    websocket: bool,
    /// Path of the WebSocket; turns it on [default: /mqtt]
    #[arg(long = "ws-path", value_name = "PATH")]
    websocket_path: Option<String>,
    /// Local address to connect from
    #[arg(short = 'A', value_name = "ADDRESS")]
    bind: Option<String>,
    /// Accepted; packets are never held back
    #[arg(long = "nodelay")]
    nodelay: bool,
    /// Client id [default: given by the broker]
    #[arg(short = 'i', long = "id", value_name = "ID", value_parser = text)]
    id: Option<String>,
    /// Client id made of this and the process id
    #[arg(short = 'I', long = "id-prefix", value_name = "PREFIX", value_parser = text, conflicts_with = "id")]
    id_prefix: Option<String>,
    /// User name
    #[arg(short = 'u', long = "username", value_name = "NAME", value_parser = text)]
    username: Option<String>,
    /// Password
    #[arg(short = 'P', long = "pw", value_name = "PASSWORD")]
    password: Option<OsString>,
    /// MQTT version: 5, 311 or 31, with or without 'mqttv'
    #[arg(short = 'V', long = "protocol-version", value_name = "VERSION", value_parser = version)]
    version: Option<Version>,
    /// Seconds of silence after which a sign of life is sent; 0 for never
    #[arg(short = 'k', long = "keepalive", value_name = "SECONDS", default_value_t = 60)]
    keep_alive: u16,
    /// Keep the session of client id -i, now and afterwards
    #[arg(short = 'c', long = "disable-clean-session")]
    keep_session: bool,
    /// Seconds the session is kept after the connection, -1 for ever (MQTT 5) [default: -1 with -c, else 0]
    #[arg(short = 'x', long = "session-expiry-interval", value_name = "SECONDS", value_parser = expiry)]
    session_expiry: Option<u32>,
    /// Quality of service: 0, 1 or 2
    #[arg(short = 'q', long = "qos", value_name = "QOS", default_value = "0", value_parser = qos)]
    pub(super) qos: QoS,
    /// Add a property (MQTT 5): COMMAND NAME VALUE, or COMMAND user-property NAME VALUE; COMMAND is connect, publish, subscribe, unsubscribe, disconnect or will
    #[arg(short = 'D', long = "property", value_name = "PROPERTY", action = clap::ArgAction::Append, value_parser = Property::parse)]
    property: Vec<Property>,
    /// Topic of the will
    #[arg(long = "will-topic", value_name = "TOPIC", value_parser = topic_name)]
    will_topic: Option<String>,
    /// Payload of the will
    #[arg(long = "will-payload", value_name = "PAYLOAD", requires = "will_topic")]
    will_payload: Option<OsString>,
    /// QoS of the will
    #[arg(long = "will-qos", value_name = "QOS", requires = "will_topic", value_parser = qos)]
    will_qos: Option<QoS>,
    /// Keep the will as a retained message
    #[arg(long = "will-retain", requires = "will_topic")]
    will_retain: bool,
    /// Print every packet
    #[arg(short = 'd', long = "debug")]
    debug: bool,
    /// Print no errors of the connection
    #[arg(long = "quiet")]
    pub(super) quiet: bool,
    /// Print this help
    #[arg(long = "help", action = clap::ArgAction::HelpShort)]
    help: Option<bool>,
    /// Print the version
    #[arg(long = "version", action = clap::ArgAction::Version)]
    version_of_ringmq: Option<bool>,
}

/// A checked description of the connection.
#[derive(Debug)]
pub(super) struct Target {
    endpoint: Endpoint,
    pub(super) version: Version,
    client_id: String,
    username: Option<String>,
    password: Option<Vec<u8>>,
    keep_alive: u16,
    clean: bool,
    session_expiry: u32,
    will: Option<OwnedWill>,
    pub(super) properties: Properties,
    debug: bool,
    pub(super) quiet: bool,
    /// What `-L` names behind the host.
    pub(super) url_topic: Option<String>,
}

#[derive(Debug)]
struct OwnedWill {
    topic: String,
    payload: Vec<u8>,
    qos: QoS,
    retain: bool,
}

impl CommonArgs {
    /// Checks what concerns more than one flag. `default_version` is taken without `-V` and `-D`; `-D` means 5.
    pub(super) fn target(&self, default_version: Version) -> Result<Target, String> {
        let properties = Properties::new(&self.property)?;
        let version = match self.version {
            _ if !self.property.is_empty() => Version::V5,
            Some(version) => version,
            None => default_version,
        };
        let url = self.url.as_ref();
        let client_id = match (&self.id, &self.id_prefix) {
            (Some(id), _) => id.clone(),
            (None, Some(prefix)) => text(&format!("{prefix}{}", std::process::id()))?,
            // MQTT 3.1 has no broker that gives one.
            (None, None) if version == Version::V31 => format!("ringmq_{}", std::process::id()),
            (None, None) => String::new(),
        };
        if self.keep_session && client_id.is_empty() {
            return Err("-c needs a client id (-i)".to_owned());
        }
        let session_expiry = self
            .session_expiry
            .or_else(|| properties.number(Place::Connect, "session-expiry-interval"))
            .unwrap_or(if self.keep_session { FOR_EVER } else { 0 });
        if session_expiry == FOR_EVER && client_id.is_empty() {
            return Err("a session that does not expire needs a client id (-i)".to_owned());
        }
        let username = self.username.clone().or_else(|| url.and_then(|url| url.username.clone()));
        let password = self.password.clone().map(OsString::into_vec);
        let password = password.or_else(|| url.and_then(|url| url.password.clone()).map(String::into_bytes));
        if password.is_some() && username.is_none() && !version.is_v5() {
            return Err("a password needs a user name (-u) before MQTT 5".to_owned());
        }
        let will = self.will_topic.as_ref().map(|topic| OwnedWill {
            topic: topic.clone(),
            payload: self.will_payload.clone().map(OsString::into_vec).unwrap_or_default(),
            qos: self.will_qos.unwrap_or(QoS::AtMostOnce),
            retain: self.will_retain,
        });
        let texts = [username.as_ref().map(|name| name.as_bytes()), password.as_deref()];
        let longest = texts.into_iter().flatten().chain(will.as_ref().map(|will| will.payload.as_slice()));
        if longest.map(<[u8]>::len).max().unwrap_or(0) > MAX_TEXT {
            return Err(format!("user name, password and will have at most {MAX_TEXT} bytes each"));
        }
        let host = self.host.clone().or_else(|| url.map(|url| url.host.clone()));
        let host = host.unwrap_or_else(|| "localhost".to_owned());
        let by_websocket =
            self.websocket || self.websocket_path.is_some() || url.is_some_and(|url| url.websocket);
        let by_tls = self.tls.is_wanted() || url.is_some_and(|url| url.tls);
        let port = self.port.or(url.and_then(|url| url.port)).unwrap_or(match (by_tls, by_websocket) {
            (false, false) => DEFAULT_PORT,
            (true, false) => DEFAULT_TLS_PORT,
            (false, true) => DEFAULT_WEBSOCKET_PORT,
            (true, true) => DEFAULT_WEBSOCKET_TLS_PORT,
        });
        let mut dial = Dial::default();
        if by_websocket {
            dial = dial.with_websocket(&host, port, self.websocket_path.as_deref().unwrap_or("/mqtt"));
        }
        if by_tls {
            dial = dial.with_tls(&self.tls.trust()?, &host)?;
        }
        Ok(Target {
            endpoint: Endpoint { host, port, bind: self.bind.clone(), dial },
            version,
            client_id,
            username,
            password,
            keep_alive: self.keep_alive,
            clean: !self.keep_session,
            session_expiry,
            will,
            properties,
            debug: self.debug,
            quiet: self.quiet,
            url_topic: url.and_then(|url| url.topic.clone()),
        })
    }
}

impl Target {
    /// Connects; see [`Client::connect`].
    pub(super) fn connect(&self, watch: &[BorrowedFd<'_>]) -> Result<Client, ClientError> {
        let properties = &self.properties;
        let number = |name| properties.number(Place::Connect, name);
        let flag = |name, default| number(name).map_or(default, |value| value == 1);
        let connect = Connect {
            version: self.version,
            clean_start: self.clean,
            keep_alive: self.keep_alive,
            client_id: &self.client_id,
            will: self.will.as_ref().map(|will| Will {
                qos: will.qos,
                retain: will.retain,
                topic: &will.topic,
                payload: &will.payload,
                delay: properties.number(Place::Will, "will-delay-interval").unwrap_or(0),
                properties: properties.message(Place::Will),
            }),
            username: self.username.as_deref(),
            password: self.password.as_deref(),
            properties: ConnectProperties {
                session_expiry: self.session_expiry,
                receive_maximum: properties.word(Place::Connect, "receive-maximum").unwrap_or(u16::MAX),
                maximum_packet_size: number("maximum-packet-size"),
                topic_alias_maximum: properties.word(Place::Connect, "topic-alias-maximum").unwrap_or(0),
                request_response_information: flag("request-response-information", false),
                request_problem_information: flag("request-problem-information", true),
                user_properties: properties.user(Place::Connect),
                authentication_method: properties.text(Place::Connect, "authentication-method"),
                authentication_data: properties
                    .text(Place::Connect, "authentication-data")
                    .map(str::as_bytes),
            },
        };
        Client::connect(&self.endpoint, &connect, self.debug, watch)
    }

    /// Ends the connection with what `-D disconnect` asks for.
    pub(super) fn disconnect(&self, client: Client) {
        client.disconnect(&Disconnect {
            session_expiry: self.properties.number(Place::Disconnect, "session-expiry-interval"),
            reason_string: self.properties.text(Place::Disconnect, "reason-string"),
            user_properties: self.properties.user(Place::Disconnect),
            ..Disconnect::new(ReasonCode::Success)
        });
    }

    /// A line on standard error, unless `--quiet`.
    pub(super) fn complain(&self, line: &str) {
        if !self.quiet {
            // Nobody reads it if this fails.
            let _ = writeln!(std::io::stderr(), "{line}");
        }
    }

    /// Says what went wrong, in the broker's words, too; the exit code.
    pub(super) fn report(&self, error: &ClientError) -> u8 {
        if !matches!(error, ClientError::Interrupted) {
            self.complain(&match error.broker_text() {
                Some(text) => format!("Error: {error} ({text})"),
                None => format!("Error: {error}"),
            });
        }
        error.exit_code()
    }
}

/// A topic to publish to.
pub(super) fn topic_name(name: &str) -> Result<String, String> {
    match check_name(name, usize::MAX) {
        Ok(()) => Ok(name.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// A topic filter, maybe a shared one.
pub(super) fn topic_filter(filter: &str) -> Result<String, String> {
    let checked = match parse_shared(filter, usize::MAX) {
        Ok(Some(_)) => check_name_length(filter),
        Ok(None) => check_filter(filter, usize::MAX).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    checked.map(|()| filter.to_owned())
}

fn check_name_length(filter: &str) -> Result<(), String> {
    text(filter).map(|_| ())
}

fn qos(value: &str) -> Result<QoS, String> {
    value.parse().ok().and_then(QoS::from_bits).ok_or_else(|| "it must be 0, 1 or 2".to_owned())
}

fn version(value: &str) -> Result<Version, String> {
    match value.strip_prefix("mqttv").unwrap_or(value) {
        "31" => Ok(Version::V31),
        "311" => Ok(Version::V311),
        "5" => Ok(Version::V5),
        _ => Err("it must be 5, 311 or 31, with or without 'mqttv'".to_owned()),
    }
}

fn expiry(value: &str) -> Result<u32, String> {
    match value {
        "-1" | "∞" => Ok(FOR_EVER),
        _ => value.parse().map_err(|_| format!("it must be a number from 0 to {FOR_EVER}, or -1 for ever")),
    }
}
