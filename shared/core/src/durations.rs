//! Durations in settings and rules: `30s`, `15m`, `24h`, `7d`; durations as people read them.

use serde::{Deserialize, Serialize};

/// A duration in seconds.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Span(pub i64);

const UNITS: [(char, i64); 4] = [('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)];

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl std::str::FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let in_unit = |(unit, seconds): (char, i64)| {
            let number: u32 = text.strip_suffix(unit)?.parse().ok()?;
            i64::from(number).checked_mul(seconds)
        };
        let seconds = UNITS.into_iter().find_map(in_unit);
        seconds.map(Self).ok_or_else(|| {
            format!("{text:?} is not a duration: write it like \"30s\", \"15m\", \"24h\" or \"7d\"")
        })
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

/// In the largest unit that divides it.
impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let in_unit = |(unit, seconds): (char, i64)| {
            let divides = self.0 != 0 && self.0.checked_rem(seconds) == Some(0);
            let number = self.0.checked_div(seconds).filter(|_| divides)?;
            Some((number, unit))
        };
        let (number, unit) = UNITS.into_iter().find_map(in_unit).unwrap_or((self.0, 's'));
        write!(f, "{number}{unit}")
    }
}

/// For example `3 h 20 min`: the two largest units.
pub fn duration(seconds: i64) -> String {
    let s = seconds.max(0);
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        3600..86_400 => format!("{} h {} min", s / 3600, s % 3600 / 60),
        _ => format!("{} d {} h", s / 86_400, s % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_shown_in_its_two_largest_units() {
        for (seconds, expected) in [
            (-1, "0 s"),
            (59, "59 s"),
            (61, "1 min 1 s"),
            (12_000, "3 h 20 min"),
            (90_000, "1 d 1 h"),
        ] {
            assert_eq!(duration(seconds), expected);
        }
    }

    #[test]
    fn durations_are_parsed_and_formatted() {
        for (text, seconds) in [
            ("30s", 30),
            ("15m", 900),
            ("24h", 86_400),
            ("7d", 604_800),
            ("0s", 0),
        ] {
            assert_eq!(text.parse(), Ok(Span(seconds)));
            assert_eq!(Span(seconds).to_string().parse(), Ok(Span(seconds)));
        }
        assert_eq!(Span(5400).to_string(), "90m");
        for text in ["", "5", "m", "-1h", "1.5h", "soon", "5 m", "1é"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}
