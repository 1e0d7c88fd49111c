//! Times and ages on the command line.

use anyhow::{Context as _, ensure};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp, Unit};
use revwatch_core::view::rfc3339;

/// The time, in Unix seconds.
pub fn now_s() -> i64 {
    Timestamp::now().as_second()
}

/// A day (its start, in UTC), a time, or an age. The error names `option`.
pub fn time(option: &str, text: &str, now: Timestamp) -> anyhow::Result<Timestamp> {
    if let Ok(at) = text.parse() {
        return Ok(at);
    }
    // jiff also parses `2026-03-01T12:00:00` as a date. Without a zone it is refused here.
    if let Some(date) = text
        .parse::<Date>()
        .ok()
        .filter(|date| date.to_string() == text)
    {
        return Ok(date.to_zoned(TimeZone::UTC)?.timestamp());
    }
    let ago: Span = text.parse().ok().with_context(|| {
        format!(
            "{option} {text:?} is not a valid time: write it like 2026-03-01 or 2026-03-01T00:00:00Z, or like 36h or 7d for \
             an age"
        )
    })?;
    let seconds = ago.total((Unit::Second, SpanRelativeTo::days_are_24_hours()))?;
    ensure!(seconds >= 0.0, "{option} {text:?} is in the future");
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a fraction of a second does not matter"
    )]
    Ok(now.checked_sub(SignedDuration::from_secs(seconds as i64))?)
}

/// The same, but not after now.
pub fn past(option: &str, text: &str, now: Timestamp) -> anyhow::Result<Timestamp> {
    let at = time(option, text, now)?;
    ensure!(at <= now, "{option} {text:?} is in the future");
    Ok(at)
}

/// Unix milliseconds as a time to the second.
pub fn iso_ms(ms: i64) -> String {
    rfc3339(Some(ms.div_euclid(1000)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_times_and_ages_are_accepted() {
        let now: Timestamp = "2026-11-20T12:00:00Z".parse().expect("a time");
        let table = [
            ("2026-03-01", "2026-03-01T00:00:00Z"),
            ("2026-03-01T05:06:07Z", "2026-03-01T05:06:07Z"),
            ("2026-03-01T05:06:07+01:00", "2026-03-01T04:06:07Z"),
            ("36h", "2026-11-19T00:00:00Z"),
            ("7d", "2026-11-13T12:00:00Z"),
            ("1d 12h", "2026-11-19T00:00:00Z"),
        ];
        for (text, expected) in table {
            assert_eq!(
                time("--since", text, now).expect(text).to_string(),
                expected,
                "{text}"
            );
        }
        for text in ["", "soon", "7", "2026-13-01", "2026-03-01T05:06:07", "-7d"] {
            let error = time("--since", text, now).expect_err(text).to_string();
            assert!(error.contains("--since"), "{error}");
        }
        assert_eq!(past("--from", "0s", now).expect("now"), now);
        let error = past("--from", "2026-11-21", now).expect_err("later");
        assert!(error.to_string().contains("--from"), "{error}");
    }
}
