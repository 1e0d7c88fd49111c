//! A settings file: its values, their places, and every fault in it.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::closest_match::closest_match;
use super::error::Fault;
use super::settings::{Config, DEFAULTS};
use super::variables::private_paths;
use super::written::trimmed;
use crate::files::{NamedText, Place, place};
use crate::wording;

/// The keys that lead to a setting.
pub(super) type KeyPath = Vec<String>;

/// A settings file that was read.
pub(super) struct File {
    /// The values, without the faulty ones.
    pub table: toml::Table,
    /// The place of every value, and of every item of a list.
    pub places: BTreeMap<KeyPath, Place>,
    /// Each with its place.
    pub faults: Vec<Fault>,
    /// The keys of the settings that were meant to be set, but cannot be read.
    pub refused: Vec<String>,
    /// Whether it parses as TOML.
    pub is_toml: bool,
}

/// A fault among the values, and its position.
struct Found {
    at: Range<usize>,
    what: String,
    /// The key of the setting that was meant.
    setting: String,
}

/// The result of removing a faulty value.
enum Removal {
    /// It was inside, and was removed.
    Removed(KeyPath),
    /// It is the value itself: the container must remove it.
    Itself,
}

/// Reads `file` and names every fault.
pub(super) fn read(file: &NamedText) -> File {
    let (table, errors) = DeTable::parse_recoverable(&file.1);
    let mut rest = of(table);
    trim(&mut rest);
    let is_toml = errors.is_empty();
    let found = remove_faults(&mut rest, &file.1);
    let fault = |at, what: &str| Fault::at(place(file, at), what);
    // Where the syntax is wrong, other faults may only follow from that. Not the error's own
    // display: it quotes the line, which may hold a secret.
    let faults = if is_toml {
        found
            .iter()
            .map(|found| fault(Some(found.at.clone()), &found.what))
            .collect()
    } else {
        errors
            .iter()
            .map(|error| fault(error.span(), &wording::syntax(error.message())))
            .collect()
    };
    let mut places = BTreeMap::new();
    record_places(&rest, &mut Vec::new(), file, &mut places);
    File {
        table: toml::Table::deserialize(ValueDeserializer::from(rest)).unwrap_or_default(),
        places,
        faults,
        refused: found.into_iter().map(|found| found.setting).collect(),
        is_toml,
    }
}

/// Removes what surrounds values, as in variables.
fn trim(value: &mut Spanned<DeValue<'_>>) {
    match value.get_mut() {
        DeValue::String(text) if trimmed(text) != text.as_ref() => {
            *text = trimmed(text).to_owned().into();
        }
        DeValue::Array(items) => items.iter_mut().for_each(trim),
        DeValue::Table(table) => {
            for (_, value) in table.iter_mut() {
                trim(value);
            }
        }
        _ => {}
    }
}

/// All faulty settings and their positions in `text`: a faulty value is removed, and the rest is parsed
/// again.
fn remove_faults(rest: &mut Spanned<DeValue<'_>>, text: &str) -> Vec<Found> {
    let (mut faults, mut removed) = (Vec::new(), Vec::<KeyPath>::new());
    loop {
        let mut merged = defaults();
        overlay(&mut merged, rest);
        let Err(error) = Config::deserialize(ValueDeserializer::from(merged)) else {
            return faults;
        };
        let at = error.span().unwrap_or_default();
        let Some(Removal::Removed(path)) = remove(rest, &at) else {
            faults.push(Found {
                at,
                what: wording::plain(error.message()),
                setting: String::new(),
            });
            return faults;
        };
        // If a value was removed, the resulting missing field is not reported again.
        let follows = wording::missing_field(error.message()).is_some()
            && removed
                .iter()
                .any(|inner| inner.len() > path.len() && inner.starts_with(&path));
        if !follows {
            let (what, setting) = complaint(&path, error.message(), text.get(at.clone()));
            faults.push(Found { at, what, setting });
        }
        removed.push(path);
    }
}

fn defaults() -> Spanned<DeValue<'static>> {
    of(DeTable::parse(DEFAULTS).expect("the defaults are tested"))
}

/// The fault in words, with the full key and the key that was probably meant; and the latter.
fn complaint(path: &[String], message: &str, written: Option<&str>) -> (String, String) {
    let key = path.join(".");
    if let Some(rest) = message.strip_prefix("unknown field ") {
        let mut names = rest.split('`').skip(1).step_by(2);
        let wrong = names.next().unwrap_or_default();
        let known: Vec<&str> = names.collect();
        if path == ["rule"] {
            let what =
                "this is a file of rules, not of settings: name it in `rules` (REVWATCH_RULES)";
            return (what.to_owned(), "rules".to_owned());
        }
        if let Some(near) = closest_match(wrong, known.iter().copied()) {
            let meant = [&path[..path.len() - 1], &[near.to_owned()]].concat();
            let what = format!("unknown key `{key}`; did you mean `{near}`?");
            return (what, meant.join("."));
        }
        return match elsewhere(wrong) {
            Some((place, meant)) => (format!("unknown key `{key}`; {place}"), meant),
            None => (
                format!("unknown key `{key}`; {}", list_of_keys(&known)),
                key,
            ),
        };
    }
    // The value found instead may be the secret itself.
    let what = if may_hold_private(path) && quotes_value(message) {
        format!("`{key}` {}", wanted(&key, message))
    } else {
        let value = written.unwrap_or_default().trim_matches(['"', '\'']);
        wording::complaint_about(&format!("`{key}`"), message, value)
    };
    (what, key)
}

/// Whether a value at `path` may be a secret or personal data. A wrong value instead of a section
/// may be meant for a key of that section: `slack = "https://…"`.
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

/// Where the key of that name belongs: TOML assigns keys after a `[section]` to that section. And
/// its full key.
fn elsewhere(name: &str) -> Option<(String, String)> {
    let defaults: toml::Table = DEFAULTS.parse().expect("the defaults are tested");
    if defaults.contains_key(name) {
        let place = format!("`{name}` belongs before the first [section]");
        return Some((place, name.to_owned()));
    }
    let tables = defaults
        .iter()
        .filter_map(|(section, value)| Some((section, value.as_table()?)));
    let mut holding = tables.filter(|(_, table)| table.contains_key(name));
    holding.next().map(|(section, _)| {
        let place = format!("`{name}` belongs in [{section}]");
        (place, format!("{section}.{name}"))
    })
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

fn record_places(
    value: &Spanned<DeValue<'_>>,
    path: &mut KeyPath,
    file: &NamedText,
    places: &mut BTreeMap<KeyPath, Place>,
) {
    let mut record = |path: &KeyPath, at: Range<usize>| {
        places.insert(path.clone(), place(file, Some(at)));
    };
    match value.get_ref() {
        DeValue::Table(table) => {
            for (key, value) in table {
                path.push(key.get_ref().to_string());
                record_places(value, path, file, places);
                // The value of [[tables]] begins after the key.
                if is_list_of_tables(value.get_ref()) {
                    places.insert(path.clone(), place(file, Some(key.span())));
                }
                path.pop();
            }
        }
        DeValue::Array(items) => {
            record(path, value.span());
            for (number, item) in items.iter().enumerate() {
                path.push(number.to_string());
                places.insert(path.clone(), place(file, Some(item.span())));
                record_places(item, path, file, places);
                path.pop();
            }
        }
        _ => record(path, value.span()),
    }
}

fn is_list_of_tables(value: &DeValue<'_>) -> bool {
    value
        .as_array()
        .is_some_and(|items| items.iter().any(|item| item.get_ref().is_table()))
}

fn of(table: Spanned<DeTable<'_>>) -> Spanned<DeValue<'_>> {
    let span = table.span();
    Spanned::new(span, DeValue::Table(table.into_inner()))
}

#[cfg(test)]
mod tests {
    use super::super::error::in_order;
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
        let file = read(&("my.toml".to_owned(), text.to_owned()));
        let expected = [
            "my.toml:1:1: unknown key `lissten`; did you mean `listen`?",
            "my.toml:2:14: `partitions` must be a whole number from 0 to 4294967295, but is \"many\"",
            "my.toml:3:25: `stripe_webhook_secret` must be text in quotes, or a list of such where several are wanted",
            "my.toml:6:1: unknown key `limits.body_bites`; did you mean `body_bytes`?",
            "my.toml:7:13: `limits.in_flight` must be a whole number, 0 or more, but is -1",
            "my.toml:8:1: unknown key `limits.batch`; `batch` belongs in [worker]",
            "my.toml:9:1: unknown key `limits.data`; `data` belongs before the first [section]",
            "my.toml:12:11: `alerting.severity.high.respond`: \"soon\" is not a duration: write it like \"30s\", \"15m\", \"24h\" or \"7d\"",
            "my.toml:13:9: `alerting.severity.high.clock` must be one of: always, business_hours; but is \"never\"",
            "my.toml:14:29: unknown key `alerting.severity.high.escalate.notifi`; did you mean `notify`?",
            "my.toml:18:8: `endpoints.path` must be text in quotes, but is 7",
            "my.toml:23:1: unknown key `endpoints.secret`; did you mean `secrets`?",
            "my.toml:26:12: `alerting.routes.severity` must be a list in [ ], but is \"low\"",
        ];
        assert_eq!(texts(&file), expected);
        assert!(file.is_toml);
        let meant = [
            "listen",
            "limits.body_bytes",
            "worker.batch",
            "data",
            "endpoints.path",
            "endpoints.secrets",
        ];
        for key in meant {
            assert!(file.refused.iter().any(|refused| refused == key), "{key}");
        }
    }

    #[test]
    fn a_file_of_rules_is_named_as_one() {
        let text = "[[rule]]\nname = \"a\"\n".to_owned();
        let file = read(&("my.toml".to_owned(), text));
        let expected = "my.toml:1:3: this is a file of rules, not of settings: name it in `rules` (REVWATCH_RULES)";
        assert_eq!(texts(&file), [expected]);
    }

    /// All faults, in the order of their places.
    fn texts(file: &File) -> Vec<String> {
        let sorted = in_order(file.faults.clone());
        sorted.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_fault_does_not_show_what_may_be_a_secret_or_an_address() {
        let in_quotes = "must be text in quotes";
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
            (
                "[email.to]\ndefault = [4242]",
                "`email.to.default`",
                in_quotes,
            ),
            ("[sms.to]\ndefault = \"hidden\"", "`sms.to.default`", list),
            ("[sms]\nfrom = 4242", "`sms.from`", in_quotes),
            (
                "[slack]\nbot_token = [\"hidden\"]",
                "`slack.bot_token`",
                in_quotes,
            ),
        ];
        for (text, key, wanted) in table {
            let faults = texts(&read(&("my.toml".to_owned(), text.to_owned())));
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
        let text = "listen = \"x\"\nstripe_secret_key = sk_live_hidden\n[limits\n";
        let file = read(&("my.toml".to_owned(), text.to_owned()));
        let faults = texts(&file);
        assert!(!file.is_toml && faults.len() >= 2, "{faults:?}");
        assert!(faults[0].starts_with("my.toml:2:21: "), "{faults:?}");
        assert!(!faults.concat().contains("hidden"), "{faults:?}");
    }

    #[test]
    fn values_and_items_of_lists_have_their_places() {
        let text = "listen = \"127.0.0.1:1\"\n\n[limits]\nbody_bytes = 9\n\
                    [[endpoints]]\nname = \"a\"\npath = \"/a\"\nsecrets = [\n  \"b\"]\n";
        let file = read(&("my.toml".to_owned(), text.to_owned()));
        assert_eq!(texts(&file), [""; 0]);
        let shown = |(path, place): (&KeyPath, &Place)| format!("{} {place}", path.join("."));
        let places: Vec<_> = file.places.iter().map(shown).collect();
        let expected = [
            "endpoints my.toml:5:3",
            "endpoints.0 my.toml:5:1",
            "endpoints.0.name my.toml:6:8",
            "endpoints.0.path my.toml:7:8",
            "endpoints.0.secrets my.toml:8:11",
            "endpoints.0.secrets.0 my.toml:9:3",
            "limits.body_bytes my.toml:4:14",
            "listen my.toml:1:10",
        ];
        assert_eq!(places, expected);
    }
}
