//! Date and time in UTC, as the `@` sequences of `-F` spell them.
use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const DAY: i64 = 86_400;

/// What [`Calendar::write`] knows: those of `strftime` in the C locale, and `N` for nanoseconds.
pub(super) const SPECIFIERS: &str = "aAbBcCdDeFgGhHIjklmMnNpPrRsStTuUVwWxXyYzZ";

/// A moment, taken apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Calendar {
    /// Seconds since 1970.
    pub(super) unix: i64,
    pub(super) nanos: u32,
    year: i64,
    /// 1 to 12.
    month: i64,
    /// 1 to 31.
    day: i64,
    /// Since midnight.
    second: i64,
    /// 0 for Sunday.
    weekday: i64,
    /// 0 for the first of January.
    yearday: i64,
}

impl Calendar {
    /// Moments before 1970 count as 1970.
    pub(super) fn new(time: SystemTime) -> Calendar {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Calendar::at(i64::try_from(since.as_secs()).unwrap_or(0), since.subsec_nanos())
    }

    fn at(unix: i64, nanos: u32) -> Calendar {
        let days = unix.div_euclid(DAY);
        // A year that begins in March has its leap day at the end: 400 years are 146,097 days.
        let shifted = days + 719_468;
        let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * of_year + 2) / 153;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        let year = era * 400 + year_of_era + i64::from(month <= 2);
        let before_march = 59 + i64::from(is_leap(year));
        Calendar {
            unix,
            nanos,
            year,
            month,
            day: of_year - (153 * march_month + 2) / 5 + 1,
            second: unix.rem_euclid(DAY),
            weekday: (days + 4).rem_euclid(7),
            yearday: if month <= 2 { of_year - 306 } else { of_year + before_march },
        }
    }

    /// Appends what `specifier` stands for, one of [`SPECIFIERS`].
    pub(super) fn write(&self, specifier: char, out: &mut String) {
        let (hour, minute, second) = (self.second / 3600, self.second / 60 % 60, self.second % 60);
        let twelve = if hour % 12 == 0 { 12 } else { hour % 12 };
        let weekday = DAYS[self.weekday as usize];
        let month = MONTHS[self.month as usize - 1];
        let monday_based = (self.weekday + 6) % 7;
        let written = match specifier {
            'a' => write!(out, "{}", &weekday[..3]),
            'A' => write!(out, "{weekday}"),
            'b' | 'h' => write!(out, "{}", &month[..3]),
            'B' => write!(out, "{month}"),
            'c' => return self.write_all("a b e T Y", out),
            'C' => write!(out, "{:02}", self.year / 100),
            'd' => write!(out, "{:02}", self.day),
            'D' | 'x' => write!(out, "{:02}/{:02}/{:02}", self.month, self.day, self.year % 100),
            'e' => write!(out, "{:2}", self.day),
            'F' => write!(out, "{}-{:02}-{:02}", self.year, self.month, self.day),
            'g' => write!(out, "{:02}", self.iso_week().0 % 100),
            'G' => write!(out, "{}", self.iso_week().0),
            'H' => write!(out, "{hour:02}"),
            'I' => write!(out, "{twelve:02}"),
            'j' => write!(out, "{:03}", self.yearday + 1),
            'k' => write!(out, "{hour:2}"),
            'l' => write!(out, "{twelve:2}"),
            'm' => write!(out, "{:02}", self.month),
            'M' => write!(out, "{minute:02}"),
            'n' => writeln!(out),
            'N' => write!(out, "{:09}", self.nanos),
            'p' => write!(out, "{}", if hour < 12 { "AM" } else { "PM" }),
            'P' => write!(out, "{}", if hour < 12 { "am" } else { "pm" }),
            'r' => write!(out, "{twelve:02}:{minute:02}:{second:02} {}", if hour < 12 { "AM" } else { "PM" }),
            'R' => write!(out, "{hour:02}:{minute:02}"),
            's' => write!(out, "{}", self.unix),
            'S' => write!(out, "{second:02}"),
            't' => write!(out, "\t"),
            'T' | 'X' => write!(out, "{hour:02}:{minute:02}:{second:02}"),
            'u' => write!(out, "{}", monday_based + 1),
            'U' => write!(out, "{:02}", (self.yearday + 7 - self.weekday) / 7),
            'V' => write!(out, "{:02}", self.iso_week().1),
            'w' => write!(out, "{}", self.weekday),
            'W' => write!(out, "{:02}", (self.yearday + 7 - monday_based) / 7),
            'y' => write!(out, "{:02}", self.year % 100),
            'Y' => write!(out, "{}", self.year),
            'z' => write!(out, "+0000"),
            'Z' => write!(out, "UTC"),
            other => unreachable!("'{other}' was checked when the format was read"),
        };
        written.expect("a String takes everything");
    }

    fn write_all(&self, specifiers: &str, out: &mut String) {
        for specifier in specifiers.chars() {
            if specifier == ' ' { out.push(' ') } else { self.write(specifier, out) }
        }
    }

    /// `2016-08-10T09:47:38+0000`, with microseconds behind the second if asked for.
    pub(super) fn iso(&self, with_fraction: bool) -> String {
        let mut text = String::with_capacity(32);
        self.write('F', &mut text);
        text.push('T');
        self.write('T', &mut text);
        if with_fraction {
            write!(text, ".{:06}", self.nanos / 1000).expect("a String takes everything");
        }
        text.push_str("+0000");
        text
    }

    /// Year and week as ISO 8601 counts them: the week of a Thursday belongs to the Thursday's year.
    fn iso_week(&self) -> (i64, i64) {
        let week = (self.yearday - (self.weekday + 6) % 7 + 10) / 7;
        if week < 1 {
            (self.year - 1, weeks_in(self.year - 1))
        } else if week > weeks_in(self.year) {
            (self.year + 1, 1)
        } else {
            (self.year, week)
        }
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// ISO weeks: 53 if the year ends on a Thursday, or the one before ended on a Wednesday.
fn weeks_in(year: i64) -> i64 {
    let last_weekday = |year: i64| (year + year / 4 - year / 100 + year / 400) % 7;
    if last_weekday(year) == 4 || last_weekday(year - 1) == 3 { 53 } else { 52 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(unix: i64, specifiers: &str) -> String {
        let mut out = String::new();
        Calendar::at(unix, 7_008_009).write_all(specifiers, &mut out);
        out
    }

    // What `date -u -d @SECONDS` says.
    #[test]
    fn known_moments_are_spelled_right() {
        assert_eq!(show(0, "F T a j u w"), "1970-01-01 00:00:00 Thu 001 4 4");
        assert_eq!(show(951_782_399, "F T"), "2000-02-28 23:59:59");
        assert_eq!(show(951_782_400, "F A j"), "2000-02-29 Tuesday 060");
        assert_eq!(show(951_868_800, "F j"), "2000-03-01 061");
        assert_eq!(show(1_795_344_890, "F T A j"), "2026-11-22 10:54:50 Sunday 326");
        assert_eq!(show(1_795_345_640, "c"), "Sun Nov 22 11:07:20 2026");
        assert_eq!(show(1_795_345_640, "r x k l P p"), "11:07:20 AM 11/22/26 11 11 am AM");
        assert_eq!(show(1_795_345_640, "y g G V U W u w C"), "26 26 2026 47 47 46 7 0 20");
        assert_eq!(show(4_107_542_400, "F j"), "2100-03-01 060");
        assert_eq!(show(46_800, "I p N z Z"), "01 PM 007008009 +0000 UTC");
    }

    #[test]
    fn iso_weeks_cross_the_year() {
        // 2021-01-03 is Sunday of week 53 of 2020; 2018-12-31 Monday of week 1 of 2019.
        assert_eq!(show(1_609_632_000, "F G V"), "2021-01-03 2020 53");
        assert_eq!(show(1_546_214_400, "F G V"), "2018-12-31 2019 01");
    }

    #[test]
    fn every_specifier_that_is_announced_is_known() {
        for specifier in SPECIFIERS.chars() {
            assert!(!show(1_000_000_000, &specifier.to_string()).is_empty());
        }
    }

    #[test]
    fn iso_has_microseconds_if_asked_for() {
        let time = Calendar::at(1_470_822_458, 7_008_009);
        assert_eq!(time.iso(false), "2016-08-10T09:47:38+0000");
        assert_eq!(time.iso(true), "2016-08-10T09:47:38.007008+0000");
    }
}
