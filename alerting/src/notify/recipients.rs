//! Who receives messages: a list for each route.

use std::collections::BTreeMap;

use revwatch_runtime::config::{ConfigError, Fault, Faults};

/// Recipients by a rule's `route`; `default` serves the rest.
pub struct Recipients<T> {
    lists: BTreeMap<String, Vec<T>>,
    default: Vec<T>,
}

const DEFAULT: &str = "default";

impl<T: PartialEq> Recipients<T> {
    /// `setting` is the table, for example `sms.to`, and `entry` what it lists, for example
    /// `a number`. `parse` takes an entry and its place, for example `[sms.to] default: entry 1`.
    /// Errors do not quote entries: they are logged.
    pub fn new(
        setting: &str,
        entry: &str,
        config: &BTreeMap<String, Vec<String>>,
        parse: impl Fn(&str, &str) -> Result<T, String>,
    ) -> Result<Self, ConfigError> {
        let (mut lists, mut faults) = (BTreeMap::new(), Faults::default());
        for (route, texts) in config {
            let key = format!("{setting}.{route}");
            if texts.is_empty() && route != DEFAULT {
                let what =
                    format!("[{setting}] {route} is empty: give {entry}, or remove the line");
                faults.add(Fault::from(what).about([key.as_str()]));
            }
            let mut list = Vec::new();
            for (number, text) in texts.iter().enumerate() {
                let place = format!("[{setting}] {route}: entry {}", number + 1);
                match parse(text.trim(), &place) {
                    Ok(recipient) if !list.contains(&recipient) => list.push(recipient),
                    Ok(_) => {}
                    Err(what) => {
                        let item = format!("{key}.{number}");
                        faults.add(Fault::from(what).about([item.as_str()]));
                    }
                }
            }
            lists.insert(route.clone(), list);
        }
        if config.get(DEFAULT).is_none_or(Vec::is_empty) {
            let what =
                format!("[{setting}] has no default, for routes that are not listed: give one");
            faults.add(Fault::from(what).about([setting]));
        }
        faults.none()?;
        let default = lists.remove(DEFAULT).unwrap_or_default();
        Ok(Self { lists, default })
    }

    /// The list that serves `route`, and the name that it is listed under: its own, or `default`.
    pub fn for_route(&self, route: &str) -> (&str, &[T]) {
        match self.lists.get_key_value(route) {
            Some((name, list)) => (name, list),
            None => (DEFAULT, &self.default),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Lists<'a> = &'a [(&'a str, &'a [&'a str])];

    #[test]
    fn a_route_without_a_list_has_the_default_one() {
        let lists = |routes: Lists<'_>| -> BTreeMap<String, Vec<String>> {
            let own = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
            routes
                .iter()
                .map(|(route, list)| ((*route).to_owned(), own(list)))
                .collect()
        };
        let parse = |text: &str, place: &str| match text {
            "?" => Err(format!("{place} is wrong")),
            text => Ok(text.to_owned()),
        };
        let read = |routes| Recipients::new("x.to", "a name", &lists(routes), parse);
        let recipients = read(&[("default", &["a", " b", "a"]), ("other", &["c"])]).expect("valid");
        assert_eq!(recipients.for_route("other").0, "other");
        let (name, list) = recipients.for_route("any");
        assert_eq!(
            (name, list),
            ("default", &["a".to_owned(), "b".to_owned()][..])
        );
        let table: [(Lists<'_>, &str); 4] = [
            (
                &[("default", &["a", "?"])],
                "[x.to] default: entry 2 is wrong",
            ),
            (&[("other", &["a"])], "[x.to] has no default"),
            (&[("default", &[])], "[x.to] has no default"),
            (
                &[("default", &["a"]), ("other", &[])],
                "[x.to] other is empty: give a name",
            ),
        ];
        for (routes, expected) in table {
            let Err(error) = read(routes) else {
                panic!("{expected}")
            };
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
