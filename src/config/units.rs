//! Values with a unit, as an operator writes them.
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;

/// A number of bytes: `512`, `64K`, `2M`, `1G` (powers of 1024).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Size(pub u64);

const SIZES: [(char, u64); 3] = [('G', 1 << 30), ('M', 1 << 20), ('K', 1 << 10)];

impl FromStr for Size {
    type Err = String;
    fn from_str(text: &str) -> Result<Size, String> {
        let wrong = || format!("{text:?} is not a size; write bytes, or a number with K, M or G, like 64K");
        let upper = text.to_ascii_uppercase();
        let unit = SIZES.iter().find(|(letter, _)| upper.ends_with(*letter));
        let (digits, factor) = unit.map_or((text, 1), |&(_, factor)| (&text[..text.len() - 1], factor));
        let number: u64 = digits.parse().map_err(|_| wrong())?;
        number.checked_mul(factor).map(Size).ok_or_else(wrong)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match SIZES.iter().find(|(_, factor)| self.0 != 0 && self.0.is_multiple_of(*factor)) {
            Some((letter, factor)) => write!(f, "{}{letter}", self.0 / factor),
            None => write!(f, "{}", self.0),
        }
    }
}

/// A span of time: `500ms`, `10s`, `5m`, `12h`, `7d`; a number alone is seconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Span {
    /// Milliseconds.
    pub millis: u64,
}

const SPANS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

impl Span {
    /// So many milliseconds.
    pub const fn millis(millis: u64) -> Span {
        Span { millis }
    }
    /// So many seconds.
    pub const fn secs(secs: u64) -> Span {
        Span { millis: secs * 1000 }
    }
}

impl FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Span, String> {
        let wrong = || {
            format!("{text:?} is not a span of time; write a number with ms, s, m, h or d, like 500ms or 10s")
        };
        let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
        let factor = match &text[digits.len()..] {
            "" => 1000,
            unit => SPANS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?.1,
        };
        let number: u64 = digits.parse().map_err(|_| wrong())?;
        number.checked_mul(factor).map(Span::millis).ok_or_else(wrong)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match SPANS.iter().find(|(_, factor)| self.millis != 0 && self.millis.is_multiple_of(*factor)) {
            Some((name, factor)) => write!(f, "{}{name}", self.millis / factor),
            None => write!(f, "0s"),
        }
    }
}

/// Where to listen: `127.0.0.1:1883`, `[::1]:1883`, or a port alone for loopback.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListenAddress(pub SocketAddr);

impl FromStr for ListenAddress {
    type Err = String;
    fn from_str(text: &str) -> Result<ListenAddress, String> {
        if let Ok(port) = text.parse::<u16>() {
            return Ok(ListenAddress(SocketAddr::from((Ipv4Addr::LOCALHOST, port))));
        }
        text.parse().map(ListenAddress).map_err(|_| {
            format!("{text:?} is not an address and port; write one like 127.0.0.1:1883, 0.0.0.0:1883 or [::1]:1883")
        })
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Owner of a file: `user`, `user:group` or `:group`, by name or number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Owner {
    /// The user's number.
    pub user: Option<u32>,
    /// The group's number.
    pub group: Option<u32>,
}

impl FromStr for Owner {
    type Err = String;
    fn from_str(text: &str) -> Result<Owner, String> {
        let (user, group) = text.split_once(':').unwrap_or((text, ""));
        let find = |name: &str, file, what| match name {
            "" => Ok(None),
            _ => number_of(name, file).map(Some).ok_or_else(|| format!("there is no {what} {name:?} here")),
        };
        let (user, group) = (find(user, "/etc/passwd", "user")?, find(group, "/etc/group", "group")?);
        Ok(Owner { user, group })
    }
}

/// The number of a user or group: a number, or the third field of the line that begins with the name.
fn number_of(name: &str, file: &str) -> Option<u32> {
    if let Ok(number) = name.parse() {
        return Some(number);
    }
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.split(':').next() == Some(name))?;
    line.split(':').nth(2)?.parse().ok()
}

/// Cores by number: `0,2-5`. In ascending order, each once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cores(pub Vec<usize>);

/// The highest core number that is understood.
const MAX_CORE: usize = 4095;

impl FromStr for Cores {
    type Err = String;
    fn from_str(text: &str) -> Result<Cores, String> {
        let wrong = || format!("{text:?} is not a list of cores; write numbers and ranges like 0,2-5");
        let mut cores = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let first: usize = first.trim().parse().map_err(|_| wrong())?;
            let last: usize = last.trim().parse().map_err(|_| wrong())?;
            if first > last || last > MAX_CORE {
                return Err(wrong());
            }
            cores.extend(first..=last);
        }
        cores.sort_unstable();
        cores.dedup();
        Ok(Cores(cores))
    }
}

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = &self.0[..];
        let mut comma = "";
        while let Some((&first, _)) = rest.split_first() {
            let run = rest.iter().enumerate().take_while(|&(index, &core)| core == first + index).count();
            match run {
                1 => write!(f, "{comma}{first}")?,
                _ => write!(f, "{comma}{first}-{}", first + run - 1)?,
            }
            comma = ",";
            rest = &rest[run..];
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_found_by_name_and_number() {
        let owner = |text: &str| text.parse::<Owner>().map(|owner| (owner.user, owner.group));
        assert_eq!(owner("root"), Ok((Some(0), None)));
        assert_eq!(owner("root:root"), Ok((Some(0), Some(0))));
        assert_eq!(owner(":7"), Ok((None, Some(7))));
        assert!(owner("no such user").unwrap_err().contains("no such user"));
    }

    #[test]
    fn sizes_are_read_and_shown_in_the_largest_whole_unit() {
        for (text, bytes, shown) in [
            ("0", 0, "0"),
            ("1000", 1000, "1000"),
            ("64K", 64 << 10, "64K"),
            ("2m", 2 << 20, "2M"),
            ("2048K", 2 << 20, "2M"),
            ("1G", 1 << 30, "1G"),
        ] {
            let size: Size = text.parse().unwrap();
            assert_eq!((size.0, size.to_string().as_str()), (bytes, shown));
        }
        for wrong in ["", "K", "-1", "1.5M", "1T", "99999999999G", "5 K"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn spans_are_read_and_shown_in_the_largest_whole_unit() {
        for (text, millis, shown) in [
            ("0", 0, "0s"),
            ("10", 10_000, "10s"),
            ("500ms", 500, "500ms"),
            ("90s", 90_000, "90s"),
            ("60m", 3_600_000, "1h"),
            ("7d", 7 * 86_400_000, "7d"),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!((span.millis, span.to_string().as_str()), (millis, shown));
        }
        for wrong in ["", "s", "-1s", "1.5s", "1y", "99999999999999999d"] {
            assert!(wrong.parse::<Span>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn cores_are_lists_of_numbers_and_ranges() {
        for (text, cores, shown) in [
            ("0", vec![0], "0"),
            ("0,2-5", vec![0, 2, 3, 4, 5], "0,2-5"),
            ("3,1,2,2", vec![1, 2, 3], "1-3"),
            ("7,0-1", vec![0, 1, 7], "0-1,7"),
        ] {
            let parsed: Cores = text.parse().unwrap();
            assert_eq!(parsed.to_string(), shown);
            assert_eq!(parsed.0, cores);
        }
        for wrong in ["", "a", "1-", "-1", "3-1", "0,,1", "0-99999999"] {
            assert!(wrong.parse::<Cores>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_port_alone_is_a_listener_on_loopback() {
        assert_eq!("1884".parse::<ListenAddress>().unwrap().to_string(), "127.0.0.1:1884");
        assert_eq!("[::1]:0".parse::<ListenAddress>().unwrap().to_string(), "[::1]:0");
        for wrong in ["", "localhost:1883", "127.0.0.1", "::1", "70000", "127.0.0.1:70000"] {
            assert!(wrong.parse::<ListenAddress>().is_err(), "{wrong}");
        }
    }
}
