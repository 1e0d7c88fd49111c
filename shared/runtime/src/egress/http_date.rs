//! Dates in the headers of HTTP.

use jiff::Timestamp;
use jiff::fmt::rfc2822;

/// For example `Wed, 30 Sep 2026 10:00:00 GMT`. They have the form of dates in e-mails. Source:
/// <https://www.rfc-editor.org/rfc/rfc9110#field.date>.
pub fn http_date(text: &str) -> Option<Timestamp> {
    Some(rfc2822::parse(text.trim()).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read() {
        let date = http_date(" Wed, 30 Sep 2026 10:00:00 GMT ").expect("a date");
        assert_eq!(date.as_second(), 1_790_762_400);
        assert_eq!(http_date("today"), None);
    }
}
