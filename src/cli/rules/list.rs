//! `revwatch rules list`.

use std::io::Write as _;

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{ContentArrangement, Table};
use revwatch_alerting::rule::Rule;
use serde_json::{Value, json};

use crate::cli::global_options::GlobalOptions;

/// The width of the table.
const MAX_COLUMNS: u16 = 120;

/// Runs `rules list`.
pub fn run(options: &GlobalOptions) -> anyhow::Result<()> {
    let rules = super::rules(&options.config()?, None)?;
    let mut out = std::io::stdout().lock();
    if options.json {
        let row = |rule: &Rule| {
            let Rule {
                name,
                severity,
                route,
                title,
                requirement,
                labels,
                ..
            } = rule;
            json!({
                "name": name, "kind": rule.kind.name(), "severity": severity, "route": route, "title": title,
                "threshold": rule.describe(), "requirement": requirement, "labels": labels,
            })
        };
        writeln!(out, "{:#}", rules.iter().map(row).collect::<Value>())?;
        return Ok(());
    }
    writeln!(out, "{}", table(&rules))?;
    Ok(())
}

/// What people look for. `--json` has everything.
fn table(rules: &[Rule]) -> Table {
    let mut table = Table::new();
    table
        .load_style(UTF8_BORDERS_ONLY)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(MAX_COLUMNS)
        .set_header(["name", "severity", "fires when", "route"]);
    for rule in rules {
        table.add_row([
            rule.name.as_str(),
            rule.severity.as_str(),
            &rule.describe(),
            &rule.route,
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use revwatch_alerting::rule_text::built_in;

    use super::*;

    #[test]
    fn the_table_fits_a_terminal_and_has_no_codes() {
        let rules = built_in().expect("valid");
        let table = table(&rules).to_string();
        let is_wide = |line: &&str| line.chars().count() > usize::from(MAX_COLUMNS);
        assert_eq!(table.lines().find(is_wide), None);
        let has_code = |rule: &Rule| {
            let mut words = table.split_whitespace();
            words.any(|word| rule.requirement.iter().any(|code| code == word))
        };
        assert!(!rules.iter().any(has_code), "{table}");
        // Names are copied into commands and settings: they are not broken.
        for rule in &rules {
            assert!(table.contains(&format!(" {} ", rule.name)), "{table}");
        }
    }
}
