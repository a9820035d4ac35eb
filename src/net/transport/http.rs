//! The HTTP request that opens a WebSocket, and the answers to it (RFC 6455, section 4).
use ipnet::IpNet;
use std::net::IpAddr;
use tungstenite::handshake::derive_accept_key;

/// Bytes of a request with all its headers; a longer one is refused.
pub const MAX_REQUEST: usize = 8 << 10;
/// Headers of a request; one with more is refused.
const MAX_HEADERS: usize = 64;
/// The subprotocols that are MQTT: that of the standard ([MQTT-6.0.0-3]), and the one of MQTT 3.1.
const SUBPROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];
/// Characters of `Sec-WebSocket-Key`: 16 bytes in base64.
const KEY_LENGTH: usize = 24;

/// What a WebSocket listener wants of a request.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WebSocketSettings {
    /// Paths that are served; all when there is none.
    pub paths: Vec<String>,
    /// Origins a page may be from besides the listener's own; `*` for all.
    pub origins: Vec<String>,
    /// Payload bytes of one frame; the connection ends at a larger one.
    pub max_frame: u64,
    /// Networks of proxies whose `X-Forwarded-For` is believed.
    pub forwarded_from: Vec<IpNet>,
}

/// A request that is answered with a WebSocket.
#[derive(PartialEq, Eq, Debug)]
pub struct Accepted {
    /// The answer.
    pub response: String,
    /// The client's address, if a proxy that is believed has told it.
    pub client: Option<IpAddr>,
}

/// A request that is not: the answer, and what was wrong.
#[derive(PartialEq, Eq, Debug)]
pub struct Refused {
    /// The answer.
    pub response: String,
    /// What was wrong.
    pub why: &'static str,
}

fn refused(status: &str, why: &'static str) -> Refused {
    let extra =
        if status.starts_with("426") { "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" } else { "" };
    let length = why.len() + 1;
    let response = format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\n{extra}Content-Type: text/plain\r\n\
         Content-Length: {length}\r\n\r\n{why}\n"
    );
    Refused { response, why }
}

/// Answers a whole request. `peer`: who sent it, where that is known.
pub fn answer(
    request: &[u8],
    settings: &WebSocketSettings,
    peer: Option<IpAddr>,
) -> Result<Accepted, Refused> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    match parsed.parse(request) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) | Err(_) => {
            return Err(refused(
                "400 Bad Request",
                "this is no HTTP request; MQTT over WebSocket is served here",
            ));
        }
    }
    let all = |name: &'static str| {
        let named = parsed.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
        named.filter_map(|header| std::str::from_utf8(header.value).ok())
    };
    let list = |name| all(name).flat_map(|value| value.split(',')).map(str::trim);
    let one = |name| all(name).next();
    if parsed.method != Some("GET") || parsed.version != Some(1) {
        return Err(refused("405 Method Not Allowed", "a WebSocket is opened with GET and HTTP/1.1"));
    }
    let path = parsed.path.unwrap_or("/").split('?').next().unwrap_or("/");
    if !settings.paths.is_empty() && !settings.paths.iter().any(|known| known == path) {
        return Err(refused("404 Not Found", "no MQTT is served at this path"));
    }
    let upgrades = list("upgrade").any(|value| value.eq_ignore_ascii_case("websocket"))
        && list("connection").any(|value| value.eq_ignore_ascii_case("upgrade"));
    if !upgrades || one("sec-websocket-version") != Some("13") {
        return Err(refused("426 Upgrade Required", "MQTT over WebSocket (version 13) is served here"));
    }
    let Some(key) = one("sec-websocket-key").filter(|key| key.len() == KEY_LENGTH) else {
        return Err(refused("400 Bad Request", "Sec-WebSocket-Key is missing or wrong"));
    };
    if let Some(origin) = one("origin")
        && !is_allowed(origin, one("host"), &settings.origins)
    {
        return Err(refused("403 Forbidden", "pages of this origin may not connect; see websocket-origin"));
    }
    let wanted = list("sec-websocket-protocol").find(|wanted| SUBPROTOCOLS.contains(wanted));
    let Some(subprotocol) = wanted else {
        return Err(refused("400 Bad Request", "the subprotocol mqtt is missing"));
    };
    let accept = derive_accept_key(key.as_bytes());
    let response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: {subprotocol}\r\n\r\n"
    );
    let is_believed =
        |address: IpAddr| settings.forwarded_from.iter().any(|net| net.contains(&address.to_canonical()));
    let client = match peer.is_some_and(is_believed) {
        // The nearest address that is not one of our own proxies; further ones are claims of the client.
        true => list("x-forwarded-for")
            .filter_map(|address| address.parse::<IpAddr>().ok())
            .rfind(|address| !is_believed(*address)),
        false => None,
    };
    Ok(Accepted { response, client })
}

/// Whether a page of this origin may connect: the listener's own, whatever the scheme, or one that is named.
fn is_allowed(origin: &str, host: Option<&str>, allowed: &[String]) -> bool {
    let authority = origin.split_once("://").map_or(origin, |(_, authority)| authority);
    allowed.iter().any(|known| known == "*" || known.eq_ignore_ascii_case(origin))
        || host.is_some_and(|host| host.eq_ignore_ascii_case(authority))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "GET /mqtt HTTP/1.1\r\nHost: b:1\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Protocol: other, mqtt\r\n\r\n";

    fn status(request: &str, settings: &WebSocketSettings) -> String {
        let response = match answer(request.as_bytes(), settings, None) {
            Ok(accepted) => accepted.response,
            Err(refused) => refused.response,
        };
        response.split_whitespace().nth(1).unwrap().to_string()
    }

    #[test]
    fn the_example_of_the_standard_is_accepted() {
        let accepted = answer(GOOD.as_bytes(), &WebSocketSettings::default(), None).unwrap();
        assert!(accepted.response.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
        assert!(accepted.response.contains("Sec-WebSocket-Protocol: mqtt\r\n"));
    }

    #[test]
    fn each_condition_is_checked() {
        let any = WebSocketSettings::default();
        for (from, to, code) in [
            ("GET", "POST", "405"),
            ("HTTP/1.1", "HTTP/1.0", "405"),
            ("Upgrade: WebSocket", "Upgrade: h2c", "426"),
            ("keep-alive, Upgrade", "close", "426"),
            ("Version: 13", "Version: 8", "426"),
            ("dGhlIHNhbXBsZSBub25jZQ==", "short", "400"),
            ("other, mqtt", "other", "400"),
            ("Sec-WebSocket-Protocol: other, mqtt\r\n", "", "400"),
            ("GET /mqtt", "\u{1}", "400"),
        ] {
            assert!(GOOD.contains(from));
            assert_eq!(status(&GOOD.replace(from, to), &any), code, "{from} -> {to}");
        }
        assert_eq!(status(&GOOD.replace("other, mqtt", "mqttv3.1"), &any), "101");
    }

    #[test]
    fn only_named_paths_are_served() {
        let settings = WebSocketSettings { paths: vec!["/mqtt".to_string()], ..Default::default() };
        assert_eq!(status(GOOD, &settings), "101");
        assert_eq!(status(&GOOD.replace("/mqtt", "/mqtt?token=1"), &settings), "101");
        assert_eq!(status(&GOOD.replace("/mqtt", "/"), &settings), "404");
        assert_eq!(status(&GOOD.replace("/mqtt", "/mqtt/"), &settings), "404");
    }

    #[test]
    fn pages_of_other_origins_need_to_be_named() {
        let from = |origin: &str| GOOD.replace("Host: b:1", &format!("Host: b:1\r\nOrigin: {origin}"));
        let settings = |origins: &[&str]| WebSocketSettings {
            origins: origins.iter().map(|origin| origin.to_string()).collect(),
            ..Default::default()
        };
        assert_eq!(status(&from("https://b:1"), &settings(&[])), "101");
        assert_eq!(status(&from("https://b"), &settings(&[])), "403");
        assert_eq!(status(&from("https://evil.example"), &settings(&["https://good.example"])), "403");
        assert_eq!(status(&from("https://good.example"), &settings(&["https://good.example"])), "101");
        assert_eq!(status(&from("http://good.example"), &settings(&["https://good.example"])), "403");
        assert_eq!(status(&from("null"), &settings(&["*"])), "101");
        assert_eq!(status(&from("null"), &settings(&[])), "403");
    }

    #[test]
    fn a_forwarded_address_is_believed_from_known_proxies_only() {
        let settings =
            WebSocketSettings { forwarded_from: vec!["10.0.0.0/8".parse().unwrap()], ..Default::default() };
        let request =
            GOOD.replace("Host", "X-Forwarded-For: 6.6.6.6, 192.0.2.7\r\nX-Forwarded-For: 10.1.1.1\r\nHost");
        let client =
            |peer: &str| answer(request.as_bytes(), &settings, Some(peer.parse().unwrap())).unwrap().client;
        assert_eq!(client("10.9.9.9"), Some("192.0.2.7".parse().unwrap()));
        assert_eq!(client("::ffff:10.9.9.9"), Some("192.0.2.7".parse().unwrap()));
        assert_eq!(client("11.9.9.9"), None);
    }
}
