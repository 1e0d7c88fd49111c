//! Why settings cannot be used: faults, and where each value stands.

use std::fmt;

use crate::files::Place;

/// A fault in settings or rules, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where the value stands, if it stands in a file.
    pub place: Option<Place>,
    /// What is wrong, and the fix.
    pub what: String,
    /// The keys of the settings it is about, with positions in lists: `alerting.routes.0.severity`.
    pub(super) settings: Vec<String>,
}

/// The faults in the settings: each names the setting, its origin and the fix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines(faults))]
pub struct ConfigError {
    /// At least one.
    pub faults: Vec<Fault>,
}

/// Faults from several checks.
#[derive(Debug, Default)]
pub struct Faults(Vec<Fault>);

impl Fault {
    /// A fault of one setting. `setting` is its key, which may be followed by its variable:
    /// `slack.bot_token (SLACK_BOT_TOKEN)`.
    pub fn of(setting: &str, what: impl fmt::Display) -> Self {
        Self::from(format!("{setting} {what}")).about([setting])
    }

    /// A fault at a place in a file.
    pub fn at(place: Place, what: impl Into<String>) -> Self {
        Self {
            place: Some(place),
            ..Self::from(what.into())
        }
    }

    /// It is also about these settings. Its place is that of the first that stands in a file. If one
    /// of them cannot be read, this fault only follows from that, and is not reported.
    #[must_use]
    pub fn about<'a>(mut self, settings: impl IntoIterator<Item = &'a str>) -> Self {
        let key = |setting: &str| setting.split(' ').next().unwrap_or_default().to_owned();
        self.settings.extend(settings.into_iter().map(key));
        self
    }

    /// The keys of the settings it is about, without positions in lists.
    pub(super) fn keys(&self) -> impl Iterator<Item = String> {
        self.settings.iter().map(|setting| {
            let parts = setting.split('.');
            let named: Vec<_> = parts
                .filter(|part| part.parse::<usize>().is_err())
                .collect();
            named.join(".")
        })
    }

    /// Whether it only follows from settings that cannot be read.
    pub(super) fn follows_from(&self, refused: &[String]) -> bool {
        let holds = |outer: &str, inner: &str| {
            inner
                .strip_prefix(outer)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.keys().any(|setting| {
            refused
                .iter()
                .any(|refused| holds(refused, &setting) || holds(&setting, refused))
        })
    }
}

impl From<String> for Fault {
    fn from(what: String) -> Self {
        Self {
            place: None,
            what,
            settings: Vec::new(),
        }
    }
}

impl From<&str> for Fault {
    fn from(what: &str) -> Self {
        what.to_owned().into()
    }
}

/// `FILE:LINE:COLUMN: what is wrong`, if it has a place.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => write!(f, "{place}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

impl ConfigError {
    /// A single fault.
    pub fn of(fault: impl Into<Fault>) -> Self {
        Self {
            faults: vec![fault.into()],
        }
    }

    /// `Ok` if there are no faults.
    pub fn none_of(faults: Vec<Fault>) -> Result<(), Self> {
        if faults.is_empty() {
            Ok(())
        } else {
            Err(Self { faults })
        }
    }
}

impl Faults {
    /// Adds one.
    pub fn add(&mut self, fault: impl Into<Fault>) {
        self.0.push(fault.into());
    }

    /// The value, or `None` after adding the faults.
    pub fn of<T>(&mut self, result: Result<T, ConfigError>) -> Option<T> {
        result.map_err(|error| self.0.extend(error.faults)).ok()
    }

    /// `Ok` if there are none.
    pub fn none(self) -> Result<(), ConfigError> {
        ConfigError::none_of(self.0)
    }
}

impl From<Faults> for Vec<Fault> {
    fn from(faults: Faults) -> Self {
        faults.0
    }
}

/// Both values, or the faults of both.
pub fn both<A, B>(
    one: Result<A, ConfigError>,
    other: Result<B, ConfigError>,
) -> Result<(A, B), ConfigError> {
    match (one, other) {
        (Ok(one), Ok(other)) => Ok((one, other)),
        (Err(mut one), Err(other)) => {
            one.faults.extend(other.faults);
            Err(one)
        }
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}

/// Sorts faults: files as they first occur, each from top to bottom, then what stands in no file. A
/// fault that two checks found is kept once.
pub fn in_order(faults: Vec<Fault>) -> Vec<Fault> {
    let mut files: Vec<String> = Vec::new();
    let mut sorted: Vec<Fault> = Vec::new();
    for fault in faults {
        if let Some(place) = &fault.place
            && !files.contains(&place.file)
        {
            files.push(place.file.clone());
        }
        let is_known = |old: &Fault| (&old.place, &old.what) == (&fault.place, &fault.what);
        if !sorted.iter().any(is_known) {
            sorted.push(fault);
        }
    }
    sorted.sort_by_key(|fault| match &fault.place {
        Some(Place { file, line, column }) => {
            let file = files.iter().position(|known| known == file);
            (file.unwrap_or(files.len()), *line, *column)
        }
        None => (files.len(), 0, 0),
    });
    sorted
}

fn lines(faults: &[Fault]) -> String {
    let lines: Vec<_> = faults.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_in_the_order_of_files_and_lines_without_repeats() {
        let at = |file: &str, line, column| {
            let file = file.to_owned();
            Fault::at(Place { file, line, column }, "x")
        };
        let faults = vec![
            at("b", 2, 9),
            Fault::from("in no file"),
            at("a", 7, 1),
            at("b", 2, 1),
            at("b", 10, 3),
            at("b", 2, 9),
        ];
        let text: Vec<_> = in_order(faults).iter().map(ToString::to_string).collect();
        assert_eq!(
            text,
            [
                "b:2:1: x",
                "b:2:9: x",
                "b:10:3: x",
                "a:7:1: x",
                "in no file"
            ]
        );
    }
}
