//! The three sources merged, with the origin of each value.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::definition::Kind;
use super::error::ConfigError;
use super::file::{self, KeyPath};
use super::settings::{Config, DEFAULTS};
use super::variables::{Lookup, definitions, environment, is_secret, variable};
use crate::files::read_text;

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
    File {
        /// The path as it was given.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
    },
    /// An environment variable; with `_FILE`, the file that it names.
    Variable(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => f.write_str(name),
        }
    }
}

/// Replaces a secret where settings are shown.
pub const MASK: &str = "***";

impl Effective {
    /// Loads the defaults, then `file` (or the one in `REVWATCH_CONFIG`), then the environment.
    /// Names every fault.
    pub fn load(file: Option<&Path>, lookup: Lookup<'_>) -> Result<Self, ConfigError> {
        let (effective, faults) = Self::read(file, lookup);
        match effective {
            Some(effective) if faults.is_empty() => Ok(effective),
            _ => Err(ConfigError { faults }),
        }
    }

    /// The same with the process's environment.
    pub fn from_environment(file: Option<&Path>) -> Result<Self, ConfigError> {
        Self::load(file, &environment)
    }

    /// The same, but continues after faults with the valid settings, so that further faults are
    /// found. `None` if the file cannot be used at all.
    pub fn read_environment(file: Option<&Path>) -> (Option<Self>, Vec<String>) {
        Self::read(file, &environment)
    }

    fn read(file: Option<&Path>, lookup: Lookup<'_>) -> (Option<Self>, Vec<String>) {
        let named = lookup("REVWATCH_CONFIG")
            .filter(|p| !p.is_empty())
            .map(PathBuf::from);
        let mut table: toml::Table = DEFAULTS.parse().expect("the defaults are tested");
        let (mut origins, mut faults) = (BTreeMap::new(), Vec::new());
        if let Some(path) = file.map(Path::to_path_buf).or(named) {
            let text = match read_text(&path) {
                Ok(text) => text,
                Err(error) => return (None, vec![error.to_string()]),
            };
            let file = file::read(&path.display().to_string(), &text);
            if !file.is_toml {
                return (None, file.faults);
            }
            faults = file.faults;
            overlay(&mut table, file.table);
            let origin = |line| Origin::File {
                path: path.clone(),
                line,
            };
            origins.extend(
                file.lines
                    .into_iter()
                    .map(|(keys, line)| (keys, origin(line))),
            );
        }
        for (name, keys, kind) in definitions() {
            match set_from_variable(&mut table, name, keys, *kind, lookup) {
                Ok(None) => {}
                Ok(Some(found)) => {
                    let keys = keys.iter().map(|key| (*key).to_owned()).collect();
                    origins.insert(keys, Origin::Variable(found));
                }
                Err(fault) => faults.push(fault),
            }
        }
        let config: Config = match toml::Value::Table(table.clone()).try_into() {
            Ok(config) => config,
            Err(error) => {
                faults.push(error.message().to_owned());
                return (None, faults);
            }
        };
        let effective = Self {
            config,
            table,
            origins,
        };
        faults.extend(effective.masked_secrets());
        faults.extend(effective.config.check());
        (Some(effective), faults)
    }

    /// The origin of the value at `path`.
    pub(super) fn origin(&self, path: &[String]) -> &Origin {
        self.origins.get(path).unwrap_or(&Origin::Default)
    }

    /// The mask that `revwatch config print` shows is not a secret: anyone could sign with it.
    fn masked_secrets(&self) -> Vec<String> {
        let mut faults = Vec::new();
        visit(&self.table, &mut Vec::new(), &mut |path, value| {
            let is_masked = |text: &str| text.trim() == MASK || text.contains(&format!(":{MASK}@"));
            let is_placeholder = match value {
                toml::Value::Array(list) => holds_mask(list, &is_masked),
                other => is_secret(path) && other.as_str().is_some_and(is_masked),
            };
            if is_placeholder {
                let (key, origin) = (path.join("."), self.origin(path));
                faults.push(format!(
                    "{origin}: `{key}` holds {MASK}, which is only a placeholder: put the secret there"
                ));
            }
        });
        faults
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

/// The secrets of endpoints are inside a list.
fn holds_mask(list: &[toml::Value], is_masked: &dyn Fn(&str) -> bool) -> bool {
    let secrets = list
        .iter()
        .filter_map(|item| item.as_table()?.get("secrets")?.as_array());
    secrets
        .flatten()
        .filter_map(toml::Value::as_str)
        .any(is_masked)
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
    set(&mut with, keys, value);
    toml::Value::Table(with.clone())
        .try_into::<Config>()
        .map_err(|e| format!("{name}: {}", e.message()))?;
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

fn set(table: &mut toml::Table, keys: &[&str], value: toml::Value) {
    let over = keys.iter().rev().fold(value, |inner, key| {
        toml::Value::Table(toml::Table::from_iter([((*key).to_owned(), inner)]))
    });
    if let toml::Value::Table(over) = over {
        overlay(table, over);
    }
}
