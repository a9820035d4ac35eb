//! The ban file: `client ID`, `user NAME` or `network ADDRESS/BITS` a line, with `until SECONDS` (of the Unix clock) in
//! front if the ban ends.
use crate::auth::bans::{Banned, Bans};
use crate::time::Time;
use ipnet::IpNet;
use std::net::IpAddr;
use std::time::SystemTime;

/// Longest ban file in bytes.
pub const MAX_BAN_FILE: u64 = 16 * 1024 * 1024;

/// The Unix clock, whole seconds.
pub fn unix_seconds() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// What is wrong with a line that is no ban.
pub fn sentence(line: &str) -> String {
    match line.split_once(' ') {
        Some(("network", name)) if !name.is_empty() => {
            format!("{name:?} is no network, like 192.0.2.0/24 or 2001:db8::/32")
        }
        _ => "a ban is: client ID, user NAME or network ADDRESS/BITS".to_string(),
    }
}

/// Reads the text of a file. `now`: the present on the broker's clock and on the Unix clock. Bans that are over are left
/// out.
pub fn parse(text: &str, now: (Time, u64)) -> Result<Bans, String> {
    let mut bans = Bans::default();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let fail = |problem: &str| format!("line {number}: {problem}");
        let (until, rest) = match line.strip_prefix("until ") {
            None => (Time::NEVER, line),
            Some(rest) => {
                let (seconds, rest) = rest.trim_start().split_once(' ').unwrap_or((rest, ""));
                let seconds: u64 =
                    seconds.parse().map_err(|_| fail("until needs seconds of the Unix clock"))?;
                match seconds.checked_sub(now.1) {
                    None | Some(0) => continue,
                    Some(left) => (now.0 + left.saturating_mul(1000), rest.trim_start()),
                }
            }
        };
        let (kind, name) = rest.split_once(' ').unwrap_or((rest, ""));
        let name = name.trim();
        let banned = match kind {
            _ if name.is_empty() => {
                return Err(fail(&sentence(rest)));
            }
            "client" => Banned::Client(name.into()),
            "user" => Banned::User(name.into()),
            "network" => {
                let alone = || name.parse::<IpAddr>().map(IpNet::from);
                let network = name.parse().or_else(|_| alone());
                Banned::Network(network.map_err(|_| fail(&sentence(rest)))?)
            }
            _ => return Err(fail(&sentence(rest))),
        };
        bans.insert(banned, until);
    }
    Ok(bans)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: (Time, u64) = (Time(5_000), 1_000_000);

    #[test]
    fn bans_hold_until_their_end() {
        let text = "# nobody likes them\nclient a b\nuntil 1000010 user ann\nnetwork 192.0.2.0/24\n\
                    network 2001:db8::1\nuntil 999999 client old\n";
        let bans = parse(text, NOW).unwrap();
        assert!(bans.bans(Time(u64::MAX - 1), "a b", None, None));
        assert!(bans.bans(Time(14_999), "x", Some("ann"), None));
        assert!(!bans.bans(Time(15_000), "x", Some("ann"), None));
        assert!(!bans.bans(Time(5_000), "old", None, None));
        assert!(bans.bans(NOW.0, "x", None, Some("192.0.2.200".parse().unwrap())));
        assert!(bans.bans(NOW.0, "x", None, Some("2001:db8::1".parse().unwrap())));
        assert!(!bans.bans(NOW.0, "x", None, Some("2001:db8::2".parse().unwrap())));
    }

    #[test]
    fn what_is_no_ban_is_told_with_its_line() {
        for text in
            ["client", "\nfoo x", "until x client a", "until 1000010", "network 192.0.2.0/33", "network x"]
        {
            let error = parse(text, NOW).unwrap_err();
            assert!(error.starts_with("line "), "{text}: {error}");
        }
    }
}
