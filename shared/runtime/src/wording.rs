//! Says in the user's words what the TOML parser says in those of its types. Pure.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::config::closest_match;

/// What is wrong with the value that `name` stands for, from the parser's `message`.
pub fn complaint(name: &str, message: &str) -> String {
    match requirement(message) {
        Some(must) => format!("{name} {must}"),
        None => format!("{name}: {}", plain(message)),
    }
}

/// The same without the name, for a fault whose place shows the value.
pub fn plain(message: &str) -> String {
    if let Some(must) = requirement(message) {
        return must;
    }
    match message.strip_prefix("missing field ") {
        Some(field) => format!("{field} is missing"),
        None => message.to_owned(),
    }
}

/// The name in the parser's `missing field`.
pub(crate) fn missing_field(message: &str) -> Option<&str> {
    let field = message.strip_prefix("missing field ")?;
    Some(field.trim_matches('`'))
}

/// What is wrong with the syntax of a file.
pub fn syntax(message: &str) -> String {
    const TABLE: [(&str, &str); 7] = [
        (
            "string values must be quoted",
            "text must be in straight quotes, such as \"text\"",
        ),
        (
            "invalid unquoted key",
            "a key may have letters, digits, - and _ only; a line is `key = value` or `[section]`",
        ),
        (
            "duplicate key",
            "this key or section is in the file twice: keep one",
        ),
        (
            "carriage return must be followed by newline",
            "a line ends with a carriage return alone: save the file with the line ends of Unix or Windows",
        ),
        (
            "key with no value",
            "this key has no value: write `key = value`",
        ),
        (
            "invalid key-value pair",
            "a line is `key = value` or `[section]`: the file is TOML, not JSON or YAML",
        ),
        (
            "invalid basic string",
            "this text has no end, or a character that must be written with a backslash",
        ),
    ];
    let mut known = TABLE.into_iter();
    let plain = known.find_map(|(starts, plain)| message.starts_with(starts).then_some(plain));
    plain.map_or_else(
        || {
            message
                .split(", expected ")
                .next()
                .unwrap_or_default()
                .to_owned()
        },
        str::to_owned,
    )
}

/// [`complaint`] about `text`, which is not secret, where the parser does not quote it: it is shown, and what was probably
/// meant.
pub fn complaint_about(name: &str, message: &str, text: &str) -> String {
    let said = complaint(name, message);
    // A date or a time without quotes is a kind of its own, which the parser calls a map.
    if let Some(must) = said.strip_suffix(", but is a table")
        && text.starts_with(|c: char| c.is_ascii_digit())
    {
        return format!("{must}: write \"{text}\"");
    }
    if message != NO_ADDRESS {
        return said;
    }
    let hint = probable_address(text);
    let hint = hint.map_or_else(String::new, |near| format!("; did you mean {near}?"));
    format!("{said}, but is {text:?}{hint}")
}

/// The listener's address that was probably meant: `localhost`, `:8080`, `8080`, `*:8080`, `::1:8080` and URLs are what
/// other programs take.
fn probable_address(text: &str) -> Option<SocketAddr> {
    let text = text.split_once("://").map_or(text, |(_, rest)| rest);
    let text = text.trim_end_matches('/');
    let (host, port) = text.rsplit_once(':').unwrap_or(("localhost", text));
    let port: u16 = port.parse().ok()?;
    let ip = match host {
        "localhost" => IpAddr::from(Ipv4Addr::LOCALHOST),
        "" | "*" => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        host => host.trim_matches(['[', ']']).parse().ok()?,
    };
    Some(SocketAddr::new(ip, port))
}

/// What the parser says of a text that is no address with a port.
const NO_ADDRESS: &str = "invalid socket address syntax";

/// `must be …`, if the parser expected something else.
fn requirement(message: &str) -> Option<String> {
    if message == NO_ADDRESS {
        return Some("must be an IP address and a port, such as 127.0.0.1:8080".to_owned());
    }
    if message == "integer number overflowed" {
        return Some("must be a whole number with fewer digits".to_owned());
    }
    if let Some(rest) = message.strip_prefix("unknown variant ") {
        // From the end: the value may hold backticks.
        let (found, known) = rest.strip_prefix('`')?.rsplit_once("`, expected ")?;
        let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
        return Some(one_of(&known, found));
    }
    let rest = message
        .strip_prefix("invalid type: ")
        .or_else(|| message.strip_prefix("invalid value: "))?;
    let (found, expected) = rest.rsplit_once(", expected ")?;
    let wanted = match found.strip_suffix(BEYOND_64_BITS) {
        Some(_) => range(expected),
        None => kind(expected),
    };
    Some(format!("must be {wanted}, but is {}", value(found)))
}

/// The requirement that a name is one of those `known`, with the one that was probably meant.
pub fn one_of(known: &[&str], found: &str) -> String {
    let hint = closest_match(found, known.iter().copied());
    let hint = hint.map_or_else(String::new, |near| format!("; did you mean {near:?}?"));
    let known = known.join(", ");
    format!("must be one of: {known}; but is {found:?}{hint}")
}

/// How the parser ends a whole number that no setting can hold.
const BEYOND_64_BITS: &str = " as i128";

/// What is meant by a number that is too large or too small for every kind: the range matters.
fn range(expected: &str) -> &str {
    match expected {
        "usize" | "u64" => "a whole number from 0 to 18446744073709551615",
        "i64" | "isize" => "a whole number from -9223372036854775808 to 9223372036854775807",
        expected => kind(expected),
    }
}

fn kind(expected: &str) -> &str {
    match expected {
        "usize" | "u64" => "a whole number, 0 or more",
        "u32" => "a whole number from 0 to 4294967295",
        "u16" => "a whole number from 0 to 65535",
        "u8" => "a whole number from 0 to 255",
        "i32" => "a whole number from -2147483648 to 2147483647",
        "i64" | "isize" => "a whole number",
        "f64" | "f32" => "a number",
        "a boolean" => "true or false",
        "a string" | "string" | "path string" => "text in quotes",
        "socket address" => "an IP address and a port in quotes, such as \"127.0.0.1:8080\"",
        "a sequence" => "a list in [ ]",
        "a map" => "a table",
        expected if expected.starts_with("struct ") => "a table",
        expected => expected,
    }
}

/// A value as it was written.
fn value(found: &str) -> &str {
    match found {
        "map" => "a table",
        "sequence" => "a list",
        found => match found.strip_prefix("string ") {
            Some(text) => text,
            // integer `7`
            None => found
                .trim_end_matches(BEYOND_64_BITS)
                .split_once('`')
                .map_or(found, |(_, rest)| rest.trim_end_matches('`')),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::SocketAddr;

    use serde::Deserialize;
    use serde::de::DeserializeOwned;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Size {
        Small,
        VeryLarge,
    }

    #[test]
    fn an_address_of_another_form_is_shown_with_what_was_meant() {
        let table = [
            ("localhost:8080", "; did you mean 127.0.0.1:8080?"),
            (":8080", "; did you mean 0.0.0.0:8080?"),
            ("*:8080", "; did you mean 0.0.0.0:8080?"),
            ("8080", "; did you mean 127.0.0.1:8080?"),
            ("http://0.0.0.0:8080/", "; did you mean 0.0.0.0:8080?"),
            (":::8080", "; did you mean [::]:8080?"),
            ("::1:8080", "; did you mean [::1]:8080?"),
            ("127.0.0.1:99999", ""),
            ("127.0.0.1:", ""),
            ("0.0.0.0", ""),
            ("revwatch\r:80", ""),
        ];
        for (text, hint) in table {
            assert_eq!(
                complaint_about("X", NO_ADDRESS, text),
                format!(
                    "X must be an IP address and a port, such as 127.0.0.1:8080, but is {text:?}{hint}"
                )
            );
        }
        let date = "invalid type: map, expected a string";
        assert_eq!(
            complaint_about("X", date, "2026-12-25"),
            "X must be text in quotes: write \"2026-12-25\""
        );
        let other = complaint_about("X", "missing field `a`", "secret");
        assert_eq!(other, "X: `a` is missing");
    }

    #[derive(Debug, Deserialize)]
    struct Table {
        _name: String,
    }

    /// What is said about `text` as the value of a key.
    fn said<T: DeserializeOwned + std::fmt::Debug>(text: &str) -> String {
        let read = toml::from_str::<BTreeMap<String, T>>(&format!("x = {text}"));
        complaint("`x`", read.expect_err("refused").message())
    }

    #[test]
    fn no_word_of_the_parser_reaches_the_user() {
        let table = [
            (
                said::<usize>("-1"),
                "`x` must be a whole number, 0 or more, but is -1",
            ),
            (
                said::<u32>("\"many\""),
                "`x` must be a whole number from 0 to 4294967295, but is \"many\"",
            ),
            (
                said::<u32>("\"a`7`b\""),
                "`x` must be a whole number from 0 to 4294967295, but is \"a`7`b\"",
            ),
            (
                said::<usize>("99999999999999999999"),
                "`x` must be a whole number from 0 to 18446744073709551615, but is 99999999999999999999",
            ),
            (
                said::<u32>("99999999999999999999"),
                "`x` must be a whole number from 0 to 4294967295, but is 99999999999999999999",
            ),
            (
                said::<u16>("65536"),
                "`x` must be a whole number from 0 to 65535, but is 65536",
            ),
            (
                said::<i64>("-99999999999999999999"),
                "`x` must be a whole number from -9223372036854775808 to 9223372036854775807, \
                 but is -99999999999999999999",
            ),
            (
                said::<u32>("9999999999999999999999999999999999999999999"),
                "`x` must be a whole number with fewer digits",
            ),
            (said::<i64>("1.5"), "`x` must be a whole number, but is 1.5"),
            (said::<f64>("true"), "`x` must be a number, but is true"),
            (said::<bool>("1"), "`x` must be true or false, but is 1"),
            (
                said::<String>("[7]"),
                "`x` must be text in quotes, but is a list",
            ),
            (
                said::<std::path::PathBuf>("7"),
                "`x` must be text in quotes, but is 7",
            ),
            (
                said::<Vec<String>>("\"a\""),
                "`x` must be a list in [ ], but is \"a\"",
            ),
            (
                said::<BTreeMap<String, String>>("7"),
                "`x` must be a table, but is 7",
            ),
            (said::<Table>("\"a\""), "`x` must be a table, but is \"a\""),
            (said::<Table>("{}"), "`x`: `_name` is missing"),
            (
                said::<SocketAddr>("\"here\""),
                "`x` must be an IP address and a port, such as 127.0.0.1:8080",
            ),
            (
                said::<SocketAddr>("7"),
                "`x` must be an IP address and a port in quotes, such as \"127.0.0.1:8080\", but is 7",
            ),
            (
                said::<Size>("\"big\""),
                "`x` must be one of: small, very_large; but is \"big\"",
            ),
            (
                said::<Size>("\"smal\""),
                "`x` must be one of: small, very_large; but is \"smal\"; did you mean \"small\"?",
            ),
            (
                said::<Size>("\"a`big`b\""),
                "`x` must be one of: small, very_large; but is \"a`big`b\"",
            ),
        ];
        for (said, expected) in table {
            assert_eq!(said, expected);
        }
    }
}
