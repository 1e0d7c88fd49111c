//! The page of settings, from the commented file of defaults and the environment variables.

use revwatch_runtime::config::{DEFAULTS, variables};

use super::{fill, row};

pub(super) fn page() -> anyhow::Result<String> {
    let defaults: toml::Table = toml::from_str(DEFAULTS)?;
    let mut table = row(&["variable", "key", "default", "secret", "reload"]) + &row(&["---"; 5]);
    for variable in variables() {
        let mark = |is: bool| if is { "yes" } else { "" };
        table.push_str(&row(&[
            &format!("`{}`", variable.name),
            &format!("`{}`", variable.key),
            &default(&defaults, &variable.key),
            mark(variable.secret),
            mark(variable.reloadable),
        ]));
    }
    let text = fill(include_str!("settings.md"), "variables", &table);
    Ok(fill(&text, "file", &sections()))
}

/// The value of `key`, given as `table.key`, in the file of defaults.
fn default(defaults: &toml::Table, key: &str) -> String {
    let mut keys = key.split('.');
    let first = keys.next().and_then(|key| defaults.get(key));
    match keys.fold(first, |value, key| value.and_then(|value| value.get(key))) {
        None => String::new(),
        Some(toml::Value::String(text)) if text.is_empty() => "unset".to_owned(),
        Some(toml::Value::String(text)) => format!("`{text}`"),
        Some(value) => format!("`{value}`"),
    }
}

/// The file of defaults, one heading for each of its tables.
fn sections() -> String {
    let mut text = "### Top level\n\n```toml\n".to_owned();
    for (n, paragraph) in DEFAULTS.trim_end().split("\n\n").enumerate() {
        let names = |line: &&str| line.trim_start_matches("# ").starts_with('[');
        match paragraph.lines().find(names) {
            Some(line) => {
                let name = line.trim_start_matches("# ");
                let end = name.rfind(']').map_or(name.len(), |at| at + 1);
                let name = name[..end].split('#').next().unwrap_or_default().trim_end();
                text.push_str(&format!("```\n\n### `{name}`\n\n```toml\n"));
            }
            None if n > 0 => text.push('\n'),
            None => {}
        }
        text.push_str(paragraph);
        text.push('\n');
    }
    text + "```\n"
}
