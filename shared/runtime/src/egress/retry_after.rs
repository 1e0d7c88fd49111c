//! The header `Retry-After` of an answer.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{HeaderMap, RETRY_AFTER};

use super::http_date::http_date;

/// The longest wait. A mistake in a server's clock does not stop requests for days.
const MAX: Duration = Duration::from_secs(3600);
/// The shortest wait, also if the date has passed.
const MIN: Duration = Duration::from_secs(1);

/// How long to wait before the next request: seconds, or the time from `now` to a date, within
/// bounds. `None` if the header is absent or not valid. Source:
/// <https://www.rfc-editor.org/rfc/rfc9110#field.retry-after>.
pub fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = if is_number {
        // Only a number that is too large does not parse.
        text.parse().unwrap_or(u64::MAX)
    } else {
        let until = http_date(text)?;
        u64::try_from(until.as_second().saturating_sub(now.as_second())).unwrap_or(0)
    };
    Some(Duration::from_secs(seconds).clamp(MIN, MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_is_given_in_seconds_or_as_a_date_and_is_bounded() {
        let now: Timestamp = "2026-11-20T10:00:00Z".parse().expect("a time");
        let table = [
            (None, None),
            (Some(""), None),
            (Some("soon"), None),
            (Some("-5"), None),
            (Some("1.5"), None),
            (Some("7"), Some(7)),
            (Some(" 30 "), Some(30)),
            (Some("0"), Some(1)),
            (Some("999999"), Some(3600)),
            (Some("99999999999999999999999"), Some(3600)),
            (Some("Fri, 20 Nov 2026 10:02:00 GMT"), Some(120)),
            (Some("Fri, 20 Nov 2026 09:00:00 GMT"), Some(1)),
            (Some("Mon, 20 Nov 2090 10:00:00 GMT"), Some(3600)),
        ];
        for (value, expected) in table {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(RETRY_AFTER, value.parse().expect("a value"));
            }
            assert_eq!(
                retry_after(&headers, now),
                expected.map(Duration::from_secs),
                "{value:?}"
            );
        }
    }
}
