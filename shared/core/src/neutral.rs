//! Makes foreign text harmless for what reads it: a terminal, a spreadsheet, a line of a message or of the log. Slack's
//! markup is escaped where messages are made.
//!
//! What is replaced stays visible, in the notation of JSON (`\u001b`): inside a JSON string it is still the same
//! text.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Text of several lines: line ends and tabs stay.
pub fn lines(text: &str) -> Cow<'_, str> {
    replaced(text, |c| is_active(c) && c != '\n' && c != '\t', escape)
}

/// Text within one line: line ends and tabs become spaces.
pub fn line(text: &str) -> Cow<'_, str> {
    replaced(text, is_active, |c, out| match c {
        '\n' | '\r' | '\t' => out.push(' '),
        c => escape(c, out),
    })
}

/// A cell of a spreadsheet: one line, and never a formula. Source: <https://owasp.org/www-community/attacks/CSV_Injection>.
pub fn cell(text: &str) -> Cow<'_, str> {
    let begins_formula = |c: char| "=+-@＝＋－＠\t\r\n".contains(c);
    let shown = line(text);
    if text.starts_with(begins_formula) && !is_negative(text) {
        Cow::Owned(format!("'{shown}"))
    } else {
        shown
    }
}

/// Whether a character acts on what shows it: it controls a terminal, ends a line, changes the direction of what is
/// written, or is invisible.
fn is_active(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{061c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
                | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        )
}

/// An amount, which a spreadsheet must take for a number.
fn is_negative(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or_default();
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    match digits.split_once('.') {
        Some((whole, rest)) => is_number(whole) && is_number(rest),
        None => is_number(digits),
    }
}

fn escape(c: char, out: &mut String) {
    for unit in c.encode_utf16(&mut [0; 2]) {
        // Writing to a string does not fail.
        let _ = write!(out, "\\u{unit:04x}");
    }
}

fn replaced(
    text: &str,
    is_replaced: impl Fn(char) -> bool,
    replace: impl Fn(char, &mut String),
) -> Cow<'_, str> {
    if !text.contains(&is_replaced) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len().saturating_add(16));
    for c in text.chars() {
        match is_replaced(c) {
            true => replace(c, &mut out),
            false => out.push(c),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hostile() -> Vec<String> {
        let texts = include_str!("../../../tests/fixtures/hostile_texts.json");
        serde_json::from_str(texts).expect("a list of texts")
    }

    #[test]
    fn nothing_active_is_left_and_nothing_is_lost() {
        for text in hostile() {
            for shown in [line(&text), cell(&text)] {
                assert!(!shown.contains(is_active), "{shown:?}");
            }
            assert!(!lines(&text).replace(['\n', '\t'], "").contains(is_active));
            // In JSON it is the same text.
            let json = serde_json::to_string(&text).expect("a string");
            let read: String = serde_json::from_str(&lines(&json)).expect("JSON");
            assert_eq!(read, text);
        }
        assert_eq!(line("a\u{1b}[2J\r\nb\u{202e}"), "a\\u001b[2J  b\\u202e");
        assert_eq!(lines("a\n\tb\r"), "a\n\tb\\u000d");
    }

    #[test]
    fn no_cell_is_a_formula_and_numbers_stay_numbers() {
        for text in hostile() {
            let shown = cell(&text);
            assert!(
                !shown.starts_with(|c: char| "=+-@＝＋－＠\t\r\n".contains(c)),
                "{shown}"
            );
        }
        for text in [
            "-5",
            "-12.50",
            "5",
            "sub_1",
            "",
            "Straße · 3 €",
            "a=b",
            "👩‍💻",
        ] {
            assert_eq!(cell(text), text);
        }
        for text in ["-", "-inf", "-1e9", "-.5", "+5"] {
            assert_eq!(cell(text), format!("'{text}"));
        }
    }
}
