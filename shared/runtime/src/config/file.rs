//! A settings file: its values, their line numbers, and every fault in it.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::closest_match::closest_match;
use super::settings::{Config, DEFAULTS};
use super::variables::private_paths;
use crate::files;

/// The keys that lead to a setting.
pub(super) type KeyPath = Vec<String>;

/// A settings file that was read.
pub(super) struct File {
    /// The values, without the faulty ones.
    pub table: toml::Table,
    /// The line of every value.
    pub lines: BTreeMap<KeyPath, usize>,
    /// `FILE:LINE: message`, in the order of the lines.
    pub faults: Vec<String>,
    /// Whether it parses as TOML.
    pub is_toml: bool,
}

/// The result of removing a faulty value.
enum Removal {
    /// It was inside, and was removed.
    Removed(KeyPath),
    /// It is the value itself: the container must remove it.
    Itself,
}

/// Reads `text` and names every fault.
pub(super) fn read(name: &str, text: &str) -> File {
    let (table, errors) = DeTable::parse_recoverable(text);
    let line = |at| files::line(text, at);
    // Not the error's own display: it quotes the line, which may hold a secret.
    let mut faults: Vec<(usize, String)> = errors
        .iter()
        .map(|e| {
            (
                line(e.span().map_or(0, |s| s.start)),
                e.message().to_owned(),
            )
        })
        .collect();
    let (mut rest, is_toml) = (of(table), faults.is_empty());
    if is_toml {
        faults = remove_faults(&mut rest)
            .into_iter()
            .map(|(at, what)| (line(at), what))
            .collect();
    }
    faults.sort();
    let mut lines = BTreeMap::new();
    record_lines(&rest, &mut Vec::new(), &line, &mut lines);
    let table = toml::Table::deserialize(ValueDeserializer::from(rest)).unwrap_or_default();
    let faults = faults
        .into_iter()
        .map(|(line, what)| format!("{name}:{line}: {what}"))
        .collect();
    File {
        table: if is_toml { table } else { toml::Table::new() },
        lines,
        faults,
        is_toml,
    }
}

/// All faulty settings and their positions: a faulty value is removed, and the rest is parsed
/// again.
fn remove_faults(rest: &mut Spanned<DeValue<'_>>) -> Vec<(usize, String)> {
    let (mut faults, mut removed) = (Vec::new(), Vec::<KeyPath>::new());
    loop {
        let mut merged = defaults();
        overlay(&mut merged, rest);
        let Err(error) = Config::deserialize(ValueDeserializer::from(merged)) else {
            return faults;
        };
        let span = error.span().unwrap_or_default();
        let Some(Removal::Removed(path)) = remove(rest, &span) else {
            faults.push((span.start, error.message().to_owned()));
            return faults;
        };
        // If a value was removed, the resulting missing field is not reported again.
        let is_missing = error.message().starts_with("missing field ");
        let follows = is_missing
            && removed
                .iter()
                .any(|inner| inner.len() > path.len() && inner.starts_with(&path));
        if !follows {
            faults.push((span.start, complaint(&path, error.message())));
        }
        removed.push(path);
    }
}

fn defaults() -> Spanned<DeValue<'static>> {
    of(DeTable::parse(DEFAULTS).expect("the defaults are tested"))
}

/// The fault in words, with the full key and the key that was probably meant.
fn complaint(path: &[String], message: &str) -> String {
    let key = path.join(".");
    if let Some(rest) = message.strip_prefix("unknown field ") {
        let mut names = rest.split('`').skip(1).step_by(2);
        let wrong = names.next().unwrap_or_default();
        let known: Vec<&str> = names.collect();
        return match closest_match(wrong, known.iter().copied()) {
            Some(near) => format!("unknown key `{key}`; did you mean `{near}`?"),
            None => format!(
                "unknown key `{key}`; {}",
                elsewhere(wrong).unwrap_or_else(|| list_of_keys(&known))
            ),
        };
    }
    if may_hold_private(path) && quotes_value(message) {
        return format!("`{key}` {}", wanted(&key, message));
    }
    format!("`{key}`: {message}")
}

/// Whether a value at `path` may be a secret or personal data. A wrong value instead of a section
/// may be one that belongs into the section: `slack = "https://…"`.
fn may_hold_private(path: &[String]) -> bool {
    private_paths().any(|private| {
        let shared = path.len().min(private.len());
        path[..shared] == private[..shared]
    })
}

/// Whether serde's `message` may contain the value.
fn quotes_value(message: &str) -> bool {
    ["invalid type", "invalid value", "unknown variant"]
        .iter()
        .any(|start| message.starts_with(start))
}

/// What must be at `key`, without the value that is there instead.
fn wanted(key: &str, message: &str) -> String {
    let expected = message.rsplit(", expected ").next().unwrap_or_default();
    if key == "endpoints" {
        "must be sections: write `[[endpoints]]` above the keys of each endpoint".to_owned()
    } else if expected.starts_with("struct") || expected.starts_with("a map") {
        format!(
            "must be a section: write `[{key}]` on a line of its own, and its keys below that line"
        )
    } else if expected.starts_with("a sequence") {
        "must be a list of texts in quotes".to_owned()
    } else {
        "must be text in quotes, or a list of such where several are wanted".to_owned()
    }
}

fn list_of_keys(known: &[&str]) -> String {
    let names: Vec<_> = known.iter().map(|name| format!("`{name}`")).collect();
    if names.is_empty() {
        "nothing can be set here".to_owned()
    } else {
        format!("there are {}", names.join(", "))
    }
}

/// The key of that name in another section: TOML assigns keys after a `[section]` to that section.
fn elsewhere(name: &str) -> Option<String> {
    let defaults: toml::Table = DEFAULTS.parse().expect("the defaults are tested");
    if defaults.contains_key(name) {
        return Some(format!("`{name}` belongs before the first [section]"));
    }
    let tables = defaults
        .iter()
        .filter_map(|(section, value)| Some((section, value.as_table()?)));
    let mut holding = tables.filter(|(_, table)| table.contains_key(name));
    holding
        .next()
        .map(|(section, _)| format!("`{name}` belongs in [{section}]"))
}

/// Tables merge key by key; everything else is replaced.
fn overlay<'a>(base: &mut Spanned<DeValue<'a>>, over: &Spanned<DeValue<'a>>) {
    match (base.get_mut(), over.get_ref()) {
        (DeValue::Table(base), DeValue::Table(over)) => {
            for (key, value) in over {
                if let Some(old) = base.get_mut(key.get_ref().as_ref())
                    && value.get_ref().is_table()
                    && old.get_ref().is_table()
                {
                    overlay(old, value);
                } else {
                    // The key's position must be the file's, so the old key is removed first.
                    base.remove(key.get_ref().as_ref());
                    base.insert(key.clone(), value.clone());
                }
            }
        }
        _ => *base = over.clone(),
    }
}

/// Removes the smallest item that a fault at `span` refers to.
fn remove(value: &mut Spanned<DeValue<'_>>, span: &Range<usize>) -> Option<Removal> {
    let own = value.span();
    match value.get_mut() {
        DeValue::Table(table) => {
            let name = |key: &Spanned<std::borrow::Cow<'_, str>>| key.get_ref().to_string();
            if let Some(key) = table.keys().find(|key| key.span() == *span).map(name) {
                table.remove(key.as_str());
                return Some(Removal::Removed(vec![key]));
            }
            let keys: Vec<String> = table.keys().map(name).collect();
            for key in keys {
                let Some(removal) = table
                    .get_mut(key.as_str())
                    .and_then(|inner| remove(inner, span))
                else {
                    continue;
                };
                let mut path = vec![key.clone()];
                match removal {
                    Removal::Removed(inner) => path.extend(inner),
                    Removal::Itself => drop(table.remove(key.as_str())),
                }
                return Some(Removal::Removed(path));
            }
            (own == *span).then_some(Removal::Itself)
        }
        DeValue::Array(array) => {
            let found = array
                .iter_mut()
                .zip(0..)
                .find_map(|(inner, n)| Some((remove(inner, span)?, n)));
            match found {
                Some((Removal::Itself, n)) => {
                    let others = array.iter().zip(0..).filter(|(_, other)| *other != n);
                    *array = others.map(|(inner, _)| inner.clone()).collect();
                    Some(Removal::Removed(KeyPath::new()))
                }
                Some((removed, _)) => Some(removed),
                None => (own == *span).then_some(Removal::Itself),
            }
        }
        _ => (own.start <= span.start && span.end <= own.end).then_some(Removal::Itself),
    }
}

fn record_lines(
    value: &Spanned<DeValue<'_>>,
    path: &mut KeyPath,
    line: &dyn Fn(usize) -> usize,
    lines: &mut BTreeMap<KeyPath, usize>,
) {
    let Some(table) = value.get_ref().as_table() else {
        lines.insert(path.clone(), line(value.span().start));
        return;
    };
    for (key, value) in table {
        path.push(key.get_ref().to_string());
        record_lines(value, path, line, lines);
        // The key shows the position better than a value of many lines, or a list of [[tables]].
        if let Some(at) = lines.get_mut(path) {
            *at = line(key.span().start);
        }
        path.pop();
    }
}

fn of(table: Spanned<DeTable<'_>>) -> Spanned<DeValue<'_>> {
    let span = table.span();
    Spanned::new(span, DeValue::Table(table.into_inner()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_reported_with_its_line() {
        let text = "\
lissten = \"127.0.0.1:1\"
partitions = \"many\"
stripe_webhook_secret = 4242

[limits]
body_bites = 1
in_flight = -1
batch = 2
data = \"x\"

[alerting.severity.high]
respond = \"soon\"
clock = \"never\"
escalate = [{ after = \"1h\", notifi = [\"slack\"] }]

[[endpoints]]
name = \"a\"
path = 7

[[endpoints]]
name = \"b\"
path = \"/b\"
secret = \"whsec_hidden\"

[[alerting.routes]]
severity = \"low\"
";
        let file = read("my.toml", text);
        let expected = [
            "my.toml:1: unknown key `lissten`; did you mean `listen`?",
            "my.toml:2: `partitions`: invalid type: string \"many\", expected u32",
            "my.toml:3: `stripe_webhook_secret` must be text in quotes, or a list of such where several are wanted",
            "my.toml:6: unknown key `limits.body_bites`; did you mean `body_bytes`?",
            "my.toml:7: `limits.in_flight`: invalid value: integer `-1`, expected usize",
            "my.toml:8: unknown key `limits.batch`; `batch` belongs in [worker]",
            "my.toml:9: unknown key `limits.data`; `data` belongs before the first [section]",
            "my.toml:12: `alerting.severity.high.respond`: \"soon\" is not a duration",
            "my.toml:13: `alerting.severity.high.clock`: unknown variant `never`",
            "my.toml:14: unknown key `alerting.severity.high.escalate.notifi`; did you mean `notify`?",
            "my.toml:18: `endpoints.path`: invalid type: integer `7`, expected a string",
            "my.toml:23: unknown key `endpoints.secret`; did you mean `secrets`?",
            "my.toml:26: `alerting.routes.severity`: invalid type: string \"low\", expected a sequence",
        ];
        assert_eq!(file.faults.len(), expected.len(), "{:#?}", file.faults);
        for (fault, expected) in file.faults.iter().zip(expected) {
            assert!(
                fault.starts_with(expected),
                "{fault:?} should begin with {expected:?}"
            );
            assert!(
                !fault.contains("hidden") && !fault.contains("4242"),
                "{fault}"
            );
        }
        assert!(file.is_toml);
    }

    #[test]
    fn a_fault_does_not_show_what_may_be_a_secret_or_an_address() {
        let texts = "must be text in quotes";
        let list = "must be a list of texts";
        let endpoints = "must be sections: write `[[endpoints]]`";
        let table = [
            (
                "slack = \"hidden\"",
                "`slack`",
                "must be a section: write `[slack]`",
            ),
            ("webhook = \"hidden\"", "`webhook`", "must be a section"),
            ("slack = 4242", "`slack`", "must be a section"),
            ("traces = \"hidden\"", "`traces`", "must be a section"),
            ("endpoints = \"hidden\"", "`endpoints`", endpoints),
            ("endpoints = [\"hidden\"]", "`endpoints`", endpoints),
            (
                "[email]\nto = \"hidden\"",
                "`email.to`",
                "must be a section: write `[email.to]`",
            ),
            (
                "[email.to]\ndefault = \"hidden\"",
                "`email.to.default`",
                list,
            ),
            ("[email.to]\ndefault = [4242]", "`email.to.default`", texts),
            ("[sms.to]\ndefault = \"hidden\"", "`sms.to.default`", list),
            ("[sms]\nfrom = 4242", "`sms.from`", texts),
            (
                "[slack]\nbot_token = [\"hidden\"]",
                "`slack.bot_token`",
                texts,
            ),
        ];
        for (text, key, wanted) in table {
            let faults = read("my.toml", text).faults;
            assert_eq!(faults.len(), 1, "{text}: {faults:?}");
            assert!(faults[0].contains(&format!("{key} {wanted}")), "{faults:?}");
            assert!(
                !faults[0].contains("hidden") && !faults[0].contains("4242"),
                "{faults:?}"
            );
        }
    }

    #[test]
    fn invalid_toml_is_reported_without_quoting_the_line() {
        let file = read(
            "my.toml",
            "listen = \"x\"\nstripe_secret_key = sk_live_hidden\n[limits\n",
        );
        assert!(!file.is_toml && file.faults.len() >= 2, "{:?}", file.faults);
        assert!(
            file.faults[0].starts_with("my.toml:2: "),
            "{:?}",
            file.faults
        );
        assert!(
            !file.faults.concat().contains("hidden"),
            "{:?}",
            file.faults
        );
    }

    #[test]
    fn values_have_their_line_numbers() {
        let file = read(
            "my.toml",
            "listen = \"127.0.0.1:1\"\n\n[limits]\nbody_bytes = 9\n[[endpoints]]\nname = \"a\"\npath = \"/a\"\n",
        );
        let path = |keys: &[&str]| keys.iter().map(|k| (*k).to_owned()).collect::<KeyPath>();
        assert_eq!(file.faults, [""; 0]);
        let expected = [
            (path(&["endpoints"]), 5),
            (path(&["limits", "body_bytes"]), 4),
            (path(&["listen"]), 1),
        ];
        assert_eq!(file.lines.into_iter().collect::<Vec<_>>(), expected);
    }
}
