//! Values that cannot be meant as they stand: with quotes, the name of a variable, a template that nothing has replaced,
//! characters that cannot be seen, or a placeholder instead of a secret. Pure.
//!
//! Invariant: no fault quotes a secret.

use std::borrow::Cow;

use revwatch_core::neutral;

use super::effective::{MASK, visit};
use super::error::Fault;
use super::file::KeyPath;
use super::right_values::right_value;
use super::variables::{definitions, is_private, is_secret};
use super::written::{items, lines, trimmed};

/// Why a value cannot be meant as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Flaw {
    #[error("must have no character that cannot be seen")]
    Unseen,
    #[error(
        "must not be in quotes, which would be part of it (`docker run --env-file` keeps them)"
    )]
    Quoted,
    #[error("must not begin with the name of a variable and `=`")]
    Named,
    #[error("must not have a `${{…}}`, which nothing has replaced")]
    Unreplaced,
    #[error("is only a comment, because it begins with #, and counts as not set")]
    Comment,
    #[error("must have one line")]
    SeveralLines,
    #[error("holds {MASK}, which is only a placeholder")]
    Masked,
    #[error("holds a placeholder, which anyone can know")]
    Placeholder,
}

/// The secrets that may be several.
const LISTS: [&[&str]; 7] = [
    &["stripe_webhook_secret"],
    &["stripe_kernel_webhook_secret"],
    &["app_webhook_secret"],
    &["slack", "signing_secret"],
    &["webhook", "secret"],
    HEADERS,
    &["endpoints", "secrets"],
];

/// These are `name=value`.
const HEADERS: &[&str] = &["traces", "headers"];

/// All such values among the settings.
pub(super) fn faults(settings: &toml::Table) -> Vec<Fault> {
    let mut faults = Vec::new();
    visit(settings, &mut Vec::new(), &mut |path, value| {
        judge_value(&mut path.to_vec(), value, &mut faults);
    });
    faults
}

/// Why a signing secret, a key, a token or a password cannot be meant as it stands.
pub(super) fn flaw_of_secret(text: &str) -> Option<Flaw> {
    flaw(text).or_else(|| match text {
        text if is_masked(text) => Some(Flaw::Masked),
        text if is_placeholder(text) => Some(Flaw::Placeholder),
        _ => None,
    })
}

fn judge_value(path: &mut KeyPath, value: &toml::Value, faults: &mut Vec<Fault>) {
    match value {
        toml::Value::String(text) => {
            if let Some(flaw) = flaw_at(path, text) {
                faults.push(fault(path, text, flaw));
            }
        }
        // Their places have positions; what is known of keys has none.
        toml::Value::Array(list) => {
            for (number, item) in list.iter().enumerate() {
                path.push(number.to_string());
                judge_value(path, item, faults);
                path.pop();
            }
        }
        toml::Value::Table(table) => {
            for (key, value) in table {
                path.push(key.clone());
                judge_value(path, value, faults);
                path.pop();
            }
        }
        _ => {}
    }
}

fn flaw_at(path: &[String], text: &str) -> Option<Flaw> {
    let keys = without_positions(path);
    if !is_secret(&keys) {
        let has_variable = definitions().any(|(_, known, _)| keys == *known);
        return match has_variable {
            true => flaw(text),
            false => is_unseen(text).then_some(Flaw::Unseen),
        };
    }
    if lines(text).next().is_none() && !trimmed(text).is_empty() {
        return Some(Flaw::Comment);
    }
    if LISTS.iter().any(|list| keys == *list) {
        let is_pair = keys == HEADERS;
        let mut flaws = items(text).filter_map(flaw_of_secret);
        return flaws.find(|flaw| !is_pair || *flaw != Flaw::Named);
    }
    let mut lines = lines(text);
    let found = lines.next().and_then(flaw_of_secret);
    found.or_else(|| lines.next().map(|_| Flaw::SeveralLines))
}

fn fault(path: &[String], text: &str, flaw: Flaw) -> Fault {
    let key = without_positions(path).join(".");
    let example = right_value(&key).map_or_else(String::new, |value| format!("; give {value}"));
    let what = match is_private(&without_positions(path)) {
        true => format!("`{key}` {flaw}{example}"),
        false => format!("`{key}` {flaw}, but is {text:?}{example}"),
    };
    Fault::from(what).about([path.join(".").as_str()])
}

fn without_positions(path: &[String]) -> KeyPath {
    let names = path.iter().filter(|part| part.parse::<usize>().is_err());
    names.cloned().collect()
}

/// What no setting can hold.
pub(super) fn flaw(text: &str) -> Option<Flaw> {
    let quotes = ['"', '\'', '`', '“', '”', '‘', '’'];
    if is_unseen(text) {
        Some(Flaw::Unseen)
    } else if text.starts_with(quotes) || text.ends_with(quotes) {
        Some(Flaw::Quoted)
    } else if is_named(text) {
        Some(Flaw::Named)
    } else if has_pair(text, "${", "}") || has_pair(text, "{{", "}}") || is_shell_variable(text) {
        Some(Flaw::Unreplaced)
    } else {
        None
    }
}

/// Whether something is between the first `open` and a `close` after it.
fn has_pair(text: &str, open: &str, close: &str) -> bool {
    let rest = text.split_once(open).map(|(_, rest)| rest);
    rest.and_then(|rest| rest.find(close))
        .is_some_and(|at| at > 0)
}

fn is_unseen(text: &str) -> bool {
    matches!(neutral::line(text), Cow::Owned(_))
}

/// `NAME=value` or `export NAME=value`, for a variable of revwatch or one whose name sounds like a secret.
fn is_named(text: &str) -> bool {
    let text = text.strip_prefix("export ").unwrap_or(text);
    let Some((name, value)) = text.split_once('=') else {
        return false;
    };
    let name = name.trim();
    let is_known = || {
        let own = name.strip_suffix("_FILE").unwrap_or(name);
        definitions().any(|(known, _, _)| *known == own)
    };
    let sounds = || {
        let is_name = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
        let ends = ["SECRET", "TOKEN", "KEY", "PASSWORD", "URL"];
        name.bytes().all(is_name) && ends.iter().any(|end| name.ends_with(end))
    };
    !value.is_empty() && !value.starts_with('=') && (is_known() || sounds())
}

/// `$NAME`, as in a file that no shell reads.
fn is_shell_variable(text: &str) -> bool {
    text.strip_prefix('$').is_some_and(|name| {
        let is_name = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
        !name.is_empty() && name.bytes().all(is_name)
    })
}

/// What `revwatch config print` shows instead of a secret.
fn is_masked(text: &str) -> bool {
    text == MASK || text.contains(&format!(":{MASK}@"))
}

/// Whether it is what examples and documentation have in the place of a secret.
fn is_placeholder(text: &str) -> bool {
    const PHRASES: [&str; 12] = [
        "changeme",
        "changethis",
        "changeit",
        "replaceme",
        "replacethis",
        "replacewith",
        "placeholder",
        "yoursecret",
        "yourtoken",
        "yourpassword",
        "yourwebhook",
        "xxxxxxxx",
    ];
    const WORDS: [&str; 16] = [
        "secret",
        "password",
        "token",
        "key",
        "test",
        "example",
        "none",
        "null",
        "undefined",
        "todo",
        "tbd",
        "dummy",
        "foo",
        "abc",
        "default",
        "whsec",
    ];
    let lower = text.to_ascii_lowercase();
    let plain: String = lower.chars().filter(char::is_ascii_alphanumeric).collect();
    let is_elided = ["...", "…"].iter().any(|dots| text.ends_with(dots));
    let body = [
        "whsec_", "sk_live_", "sk_test_", "rk_live_", "rk_test_", "xoxb-", "xapp-",
    ]
    .iter()
    .find_map(|prefix| lower.strip_prefix(prefix))
    .unwrap_or(&lower);
    is_elided
        || is_bracketed(body)
        || password(text).is_some_and(is_bracketed)
        || PHRASES.iter().any(|phrase| plain.contains(phrase))
        || WORDS.contains(&body)
        || is_row(body)
}

fn is_bracketed(text: &str) -> bool {
    text.starts_with('<') && text.ends_with('>')
}

/// The password in a URL.
fn password(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("://")?;
    let (user, _) = rest.rsplit_once('@')?;
    user.split_once(':').map(|(_, password)| password)
}

/// The same character over and over, or digits that count: `xxxx`, `123456`.
fn is_row(text: &str) -> bool {
    let steps = |by: u8| {
        let bytes = text.as_bytes();
        let mut pairs = bytes.windows(2);
        bytes.len() >= 3 && pairs.all(|pair| pair[0].checked_add(by) == Some(pair[1]))
    };
    steps(0) || steps(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_with_what_is_not_part_of_it_is_suspect() {
        let table = [
            ("\"whsec_real\"", Some(Flaw::Quoted)),
            ("'whsec_real'", Some(Flaw::Quoted)),
            ("“whsec_real”", Some(Flaw::Quoted)),
            ("STRIPE_WEBHOOK_SECRET=whsec_real", Some(Flaw::Named)),
            ("export STRIPE_WEBHOOK_SECRET=whsec_real", Some(Flaw::Named)),
            ("WEBHOOK_SECRET=whsec_real", Some(Flaw::Named)),
            ("${STRIPE_WEBHOOK_SECRET}", Some(Flaw::Unreplaced)),
            ("whsec_${NAME:-x}", Some(Flaw::Unreplaced)),
            ("{{ .Values.secret }}", Some(Flaw::Unreplaced)),
            ("$STRIPE_WEBHOOK_SECRET", Some(Flaw::Unreplaced)),
            ("whsec_re\u{200b}al", Some(Flaw::Unseen)),
            ("whsec_re\u{feff}al", Some(Flaw::Unseen)),
            ("whsec_re\tal", Some(Flaw::Unseen)),
            ("amqp://u:***@h/v", Some(Flaw::Masked)),
            ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", None),
            ("whsec_test_of_a_case", None),
            ("whsec_the_one_from_the_dashboard", None),
            ("ABCDEFABCDEF==", None),
            ("X-Honeycomb-Team=aSecretKey", None),
            ("pa$$word", None),
            ("amqp://guest:guest@localhost/", None),
            ("smtp://u:a<b>c@mail.example", None),
            ("pa${ss", None),
            ("pa{{ss", None),
            ("pa}}ss{{", None),
        ];
        for (text, expected) in table {
            assert_eq!(flaw_of_secret(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_secret_that_is_only_a_comment_is_not_taken_for_one_that_is_not_set() {
        let table = [
            ("slack.webhook_url", "#alerts", true),
            ("stripe_webhook_secret", "# the old one\n", true),
            (
                "stripe_webhook_secret",
                "# the old one\nwhsec_MfKQ9r8GKYqrTwjUPD8I",
                false,
            ),
            ("stripe_webhook_secret", " \n", false),
        ];
        for (key, text, expected) in table {
            let settings = format!("{key} = {text:?}");
            let found = faults(&settings.parse().expect("TOML"));
            let is_named = found
                .iter()
                .any(|fault| fault.what.contains("only a comment"));
            assert_eq!(
                (is_named, found.len()),
                (expected, usize::from(expected)),
                "{text:?}"
            );
        }
    }

    #[test]
    fn what_documentation_has_in_place_of_a_secret_is_a_placeholder() {
        for text in [
            "whsec_change_me",
            "xoxb-change-me",
            "amqp://revwatch:change-me@rabbitmq.example.svc/revwatch",
            "whsec_...",
            "whsec_…",
            "<your signing secret>",
            "whsec_<yours>",
            "amqp://revwatch:<password>@rabbitmq.example/revwatch",
            "whsec_YOUR_SECRET",
            "whsec_xxx",
            "whsec_secret",
            "sk_test_...",
            "whsec_123456",
            "https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX",
            "REPLACE_ME",
            "todo",
        ] {
            assert_eq!(flaw_of_secret(text), Some(Flaw::Placeholder), "{text:?}");
        }
    }

    #[test]
    fn faults_name_the_key_and_quote_only_what_is_no_secret() {
        let text = "data = \"\\\"/var/lib\\\"\"\nstripe_secret_key = \"sk_1\\nsk_2\"\nslack.bot_token = \"'hidden'\"\n\
                    plans = { a = \"x\\u0007\" }\nemail.from = \"hid\\u0007den\"\n\
                    stripe_webhook_secret = \"# comment\\nwhsec_first\\nwhsec_second\"\n\
                    endpoints = [{ name = \"e\", secrets = [\"whsec_good\", \"${HIDDEN}\"] }]";
        let mut found: Vec<String> = faults(&text.parse().expect("TOML"))
            .iter()
            .map(ToString::to_string)
            .collect();
        found.sort();
        let expected = [
            "`data` must not be in quotes, which would be part of it (`docker run --env-file` keeps them), but is \
             \"\\\"/var/lib\\\"\"; give a folder, such as /var/lib/revwatch",
            "`email.from` must have no character that cannot be seen",
            "`endpoints.secrets` must not have a `${…}`, which nothing has replaced; give the `whsec_…` that",
            "`plans.a` must have no character that cannot be seen, but is \"x\\u{7}\"",
            "`slack.bot_token` must not be in quotes, which would be part of it (`docker run --env-file` keeps them); \
             give the `xoxb-…` that",
            "`stripe_secret_key` must have one line; give the `sk_…` or `rk_…` that",
        ];
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                found.starts_with(expected) && !found.contains("hid"),
                "{found}"
            );
        }
    }
}
