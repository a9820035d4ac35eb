//! `-L mqtt://[user[:password]@]host[:port]/topic`, and the same with `mqtts`, `ws` and `wss`.

/// The parts of the URL; what it does not have is `None`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Url {
    pub(super) tls: bool,
    pub(super) websocket: bool,
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
    pub(super) host: String,
    pub(super) port: Option<u16>,
    pub(super) topic: Option<String>,
}

impl Url {
    /// User name and password may have `%40` for `@`, `%3A` for `:`, `%2F` for `/` and so on; the topic is taken as it
    /// stands. An IPv6 address stands in brackets.
    pub(super) fn parse(url: &str) -> Result<Url, String> {
        let (tls, websocket, rest) = match url.split_once("://") {
            Some(("mqtt", rest)) => (false, false, rest),
            Some(("mqtts", rest)) => (true, false, rest),
            Some(("ws", rest)) => (false, true, rest),
            Some(("wss", rest)) => (true, true, rest),
            _ => return Err("it must begin with mqtt://, mqtts://, ws:// or wss://".to_owned()),
        };
        let (authority, topic) = match rest.split_once('/') {
            Some((authority, topic)) => (authority, Some(topic).filter(|topic| !topic.is_empty())),
            None => (rest, None),
        };
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, authority),
        };
        let (username, password) = match user.map(|user| user.split_once(':').unwrap_or((user, "\0"))) {
            Some((username, "\0")) => (Some(decode(username)?), None),
            Some((username, password)) => (Some(decode(username)?), Some(decode(password)?)),
            None => (None, None),
        };
        let (host, port) = split_port(place)?;
        if host.is_empty() {
            return Err("the host is missing".to_owned());
        }
        let (host, topic) = (host.to_owned(), topic.map(str::to_owned));
        Ok(Url { tls, websocket, username, password, host, port, topic })
    }
}

fn split_port(place: &str) -> Result<(&str, Option<u16>), String> {
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or("']' is missing")?;
            (host, after)
        }
        None => place.split_at(place.find(':').unwrap_or(place.len())),
    };
    let port = match port.strip_prefix(':') {
        Some(digits) => Some(
            digits.parse().ok().filter(|port| *port != 0).ok_or("the port is no number from 1 to 65535")?,
        ),
        None if port.is_empty() => None,
        None => return Err("something else than a port follows the address".to_owned()),
    };
    Ok((host, port))
}

fn decode(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let digits = after.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|byte| *byte != 0);
        bytes.push(byte.ok_or("'%' must be followed by two hexadecimal digits, not 00")?);
        rest = &after[2..];
    }
    String::from_utf8(bytes).map_err(|_| "user name and password must be UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(url: &str) -> (Option<String>, Option<String>, String, Option<u16>, Option<String>) {
        let Url { username, password, host, port, topic, .. } = Url::parse(url).unwrap();
        (username, password, host, port, topic)
    }

    #[test]
    fn all_parts_and_any_subset_are_read() {
        let some = |text: &str| Some(text.to_owned());
        let host = || "h".to_owned();
        assert_eq!(parts("mqtt://u:p@h:1/a/b"), (some("u"), some("p"), host(), Some(1), some("a/b")));
        assert_eq!(parts("mqtt://u@h/a"), (some("u"), None, host(), None, some("a")));
        assert_eq!(parts("mqtt://u:@h/a%2f"), (some("u"), some(""), host(), None, some("a%2f")));
        assert_eq!(parts("mqtt://h//a"), (None, None, host(), None, some("/a")));
        assert_eq!(parts("mqtt://h:65535"), (None, None, host(), Some(65_535), None));
        assert_eq!(parts("mqtt://h/"), (None, None, host(), None, None));
        assert_eq!(parts("mqtt://[::1]:7/x"), (None, None, "::1".to_owned(), Some(7), some("x")));
        assert_eq!(parts("mqtt://a%40b:c%3A@d@h/x").1, some("c:@d"));
        assert_eq!(parts("mqtt://a%40b:c@h/x").0, some("a@b"));
    }

    #[test]
    fn the_scheme_says_what_is_spoken() {
        let spoken = |url| Url::parse(url).map(|url| (url.tls, url.websocket)).unwrap();
        assert_eq!(spoken("mqtt://h"), (false, false));
        assert_eq!(spoken("mqtts://h"), (true, false));
        assert_eq!(spoken("ws://h"), (false, true));
        assert_eq!(spoken("wss://h"), (true, true));
    }

    #[test]
    fn what_is_no_url_of_a_broker_is_refused() {
        for url in [
            "h/x",
            "http://h/x",
            "mqttx://h/x",
            "mqtt:///x",
            "mqtt://:1/x",
            "mqtt://h:0/x",
            "mqtt://h:70000/x",
            "mqtt://h:/x",
            "mqtt://h:y/x",
            "mqtt://[::1/x",
            "mqtt://[::1]2/x",
            "mqtt://%4:p@h/x",
            "mqtt://%zz@h/x",
            "mqtt://%00@h/x",
            "mqtt://%ff@h/x",
            "mqtt://%+1@h/x",
        ] {
            assert!(Url::parse(url).is_err(), "{url}");
        }
    }
}
