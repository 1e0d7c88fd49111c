//! The three sources merged, with the origin of each value.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::definition::Kind;
use super::error::{ConfigError, Fault, in_order};
use super::file::{self, File, KeyPath};
use super::otel;
use super::right_values::right_value;
use super::settings::{Config, DEFAULTS};
use super::suspect;
use super::variables::{Lookup, definitions, environment, set, variable};
use crate::files::{Place, read_text};
use crate::wording;

/// Settings, with their sources. They hold secrets and are not shown as they are: see
/// [`Effective::toml`].
pub struct Effective {
    /// The settings.
    pub config: Config,
    /// The same as keys and values.
    pub(super) table: toml::Table,
    /// A key that is missing here has its default.
    pub(super) origins: BTreeMap<KeyPath, Origin>,
}

/// The origin of a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The commented file that is compiled in.
    Default,
    /// The settings file.
    File(Place),
    /// An environment variable; with `_FILE`, the file that it names.
    Variable(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(place) => write!(f, "{}:{}", place.file, place.line),
            Self::Variable(name) => f.write_str(name),
        }
    }
}

/// Replaces a secret where settings are shown.
pub const MASK: &str = "***";

/// Settings that were read, as far as that was possible.
struct Reading {
    effective: Effective,
    faults: Vec<Fault>,
    /// The keys of settings that were meant to be set, but cannot be read.
    refused: Vec<String>,
    /// Whether nothing is known of the settings file, because it cannot be read or is not TOML.
    is_lost: bool,
}

impl Effective {
    /// Loads the defaults, then `file` (or the one in `REVWATCH_CONFIG`), then the environment.
    /// Names every fault.
    pub fn load(file: Option<&Path>, lookup: Lookup<'_>) -> Result<Self, ConfigError> {
        Self::accepted(file, lookup, |_| Ok(())).map(|(effective, ())| effective)
    }

    /// The same with the process's environment.
    pub fn from_environment(file: Option<&Path>) -> Result<Self, ConfigError> {
        Self::load(file, &environment)
    }

    /// The same, if those who will use the settings accept them: see [`Effective::accepted`].
    pub fn accepted_from_environment<T>(
        file: Option<&Path>,
        accept: impl FnOnce(&Config) -> Result<T, ConfigError>,
    ) -> Result<(Self, T), ConfigError> {
        Self::accepted(file, &environment, accept)
    }

    /// The one place where all faults of settings and rules meet, for `config check`, for every
    /// start and for a reload. `accept` makes of the settings what the roles need. It is also asked
    /// if there were faults before, so that all are named at once: each with its place, in the order
    /// of the lines.
    pub fn accepted<T>(
        file: Option<&Path>,
        lookup: Lookup<'_>,
        accept: impl FnOnce(&Config) -> Result<T, ConfigError>,
    ) -> Result<(Self, T), ConfigError> {
        let Reading {
            effective,
            mut faults,
            mut refused,
            is_lost,
        } = Self::read(file, lookup)?;
        let accepted = accept(&effective.config);
        let suspect = suspect::faults(&effective.table);
        let mut found = effective.config.check();
        let accepted = accepted.map_err(|error| found.extend(error.faults));
        refused.extend(suspect.iter().flat_map(Fault::keys));
        // What the settings file says is unknown, so only what comes from elsewhere is reported.
        let is_elsewhere =
            |fault: &Fault| fault.place.is_some() || effective.is_of_variables(fault);
        found.retain(|fault| !fault.follows_from(&refused));
        found.splice(..0, suspect);
        found.retain(|fault| !is_lost || is_elsewhere(fault));
        faults.extend(found.into_iter().map(|fault| effective.located(fault)));
        match accepted {
            Ok(accepted) if faults.is_empty() => Ok((effective, accepted)),
            _ => Err(ConfigError {
                faults: in_order(faults),
            }),
        }
    }

    fn read(file: Option<&Path>, lookup: Lookup<'_>) -> Result<Reading, ConfigError> {
        let named = set("REVWATCH_CONFIG", lookup).map(PathBuf::from);
        let mut table: toml::Table = DEFAULTS.parse().expect("the defaults are tested");
        let (mut origins, mut faults, mut refused) = (BTreeMap::new(), Vec::new(), Vec::new());
        let mut is_lost = false;
        if let Some(path) = file.map(Path::to_path_buf).or(named) {
            let text = read_text(&path);
            is_lost = text.is_err();
            match text {
                Ok(text) => {
                    let file = file::read(&(path.display().to_string(), text));
                    is_lost = !file.is_toml;
                    let File { places, .. } = file;
                    drop_default_channels(&mut table, &file.table);
                    overlay(&mut table, file.table);
                    origins.extend(places.into_iter().map(|(key, at)| (key, Origin::File(at))));
                    faults.extend(file.faults);
                    refused.extend(file.refused);
                }
                Err(error) => {
                    let error = format!("{error} (--config or REVWATCH_CONFIG names the file)");
                    faults.push(error.into());
                }
            }
        }
        for (name, keys, kind) in definitions() {
            match set_from_variable(&mut table, name, keys, *kind, lookup) {
                Ok(None) => {}
                Ok(Some(found)) => {
                    let keys = keys.iter().map(|key| (*key).to_owned()).collect();
                    origins.insert(keys, Origin::Variable(found));
                }
                Err(fault) => {
                    faults.push(fault.into());
                    refused.push(keys.join("."));
                }
            }
        }
        let config = toml::Value::Table(table.clone()).try_into();
        let mut config: Config = match config {
            Ok(config) => config,
            Err(_) if !faults.is_empty() => return Err(ConfigError { faults }),
            Err(error) => return Err(ConfigError::of(wording::plain(error.message()))),
        };
        config.traces.turned_off_by = otel::turned_off_by(lookup);
        Ok(Reading {
            effective: Self {
                config,
                table,
                origins,
            },
            faults,
            refused,
            is_lost,
        })
    }

    /// The fault with the place of the first of its settings that stands in a file. If the value
    /// comes from a variable that the fault does not name (a `NAME_FILE`), with the name.
    fn located(&self, mut fault: Fault) -> Fault {
        if fault.place.is_some() {
            return fault;
        }
        let origins = fault.settings.iter().filter_map(|key| self.origin_of(key));
        for origin in origins {
            match origin {
                Origin::File(place) => {
                    fault.place = Some(place.clone());
                    break;
                }
                Origin::Variable(name) if !fault.what.contains(name.as_str()) => {
                    fault.what = format!("{name}: {}", fault.what);
                    break;
                }
                _ => {}
            }
        }
        fault
    }

    /// Whether variables set all settings that it is about.
    fn is_of_variables(&self, fault: &Fault) -> bool {
        let is_variable = |key: &String| matches!(self.origin_of(key), Some(Origin::Variable(_)));
        !fault.settings.is_empty() && fault.settings.iter().all(is_variable)
    }

    /// The origin of the value with this key, or of the list that it is in.
    fn origin_of(&self, key: &str) -> Option<&Origin> {
        let mut key = key;
        loop {
            let mut origins = self.origins.iter();
            if let Some((_, origin)) = origins.find(|(path, _)| path.join(".") == key) {
                return Some(origin);
            }
            key = key.rsplit_once('.')?.0;
        }
    }

    /// The origin of the value at `path`.
    pub(super) fn origin(&self, path: &[String]) -> &Origin {
        self.origins.get(path).unwrap_or(&Origin::Default)
    }
}

impl Config {
    /// Loads the defaults, then `file` (or the one in `REVWATCH_CONFIG`), then the environment.
    pub fn load(file: Option<&Path>, lookup: Lookup<'_>) -> Result<Self, ConfigError> {
        Effective::load(file, lookup).map(|effective| effective.config)
    }

    /// The same with the process's environment.
    pub fn from_environment(file: Option<&Path>) -> Result<Self, ConfigError> {
        Effective::from_environment(file).map(|effective| effective.config)
    }
}

/// Sets the value of variable `name` if it is set; returns the name it was found under. Errors
/// leave `table` unchanged.
fn set_from_variable(
    table: &mut toml::Table,
    name: &str,
    keys: &[&str],
    kind: Kind,
    lookup: Lookup<'_>,
) -> Result<Option<String>, String> {
    let Some((text, found)) = variable(name, kind, lookup)? else {
        return Ok(None);
    };
    let shown = text.clone();
    if kind != Kind::Secret
        && let Some(flaw) = suspect::flaw(&text)
    {
        let example = right_value(&keys.join("."));
        let example = example.map_or_else(String::new, |value| format!("; give {value}"));
        return Err(format!("{name} {flaw}, but is {text:?}{example}"));
    }
    let value = match kind {
        Kind::Number => match text.trim().parse() {
            Ok(number) => toml::Value::Integer(number),
            Err(_) => return Err(format!("{name} must be a whole number, but is {text:?}")),
        },
        Kind::Ratio => match text.trim().parse() {
            Ok(number) => toml::Value::Float(number),
            Err(_) => {
                return Err(format!(
                    "{name} must be a number such as 0.1, but is {text:?}"
                ));
            }
        },
        Kind::Text | Kind::Secret => toml::Value::String(text),
    };
    let mut with = table.clone();
    insert(&mut with, keys, value);
    toml::Value::Table(with.clone())
        .try_into::<Config>()
        .map_err(|e| wording::complaint_about(name, e.message(), &shown))?;
    *table = with;
    Ok(Some(found))
}

/// Visits every value that is not a table, in the order of the keys.
pub(super) fn visit(
    table: &toml::Table,
    path: &mut KeyPath,
    each: &mut dyn FnMut(&[String], &toml::Value),
) {
    for (key, value) in table {
        path.push(key.clone());
        match value {
            toml::Value::Table(inner) => visit(inner, path, each),
            value => each(path, value),
        }
        path.pop();
    }
}

/// A file that says which channel is the default has channels of its own: those of the defaults, which may not
/// exist in its workspace, no longer apply.
fn drop_default_channels(base: &mut toml::Table, over: &toml::Table) {
    let has_default = |channels: &toml::Value| channels.get("default").is_some();
    let own = over.get("slack").and_then(|slack| slack.get("channels"));
    if own.is_some_and(has_default)
        && let Some(slack) = base.get_mut("slack").and_then(toml::Value::as_table_mut)
    {
        slack.remove("channels");
    }
}

/// Tables merge key by key; everything else is replaced.
fn overlay(base: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(toml::Value::Table(base)), toml::Value::Table(over)) => overlay(base, over),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

fn insert(table: &mut toml::Table, keys: &[&str], value: toml::Value) {
    let over = keys.iter().rev().fold(value, |inner, key| {
        toml::Value::Table(toml::Table::from_iter([((*key).to_owned(), inner)]))
    });
    if let toml::Value::Table(over) = over {
        overlay(table, over);
    }
}
