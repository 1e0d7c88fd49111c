//! `revwatch rules list`.

use std::io::Write as _;

use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use revwatch_alerting::rule::Rule;
use serde_json::{Value, json};

use crate::cli::global_options::GlobalOptions;

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
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY).set_header([
        "name",
        "kind",
        "severity",
        "route",
        "fires on",
        "requirements",
    ]);
    for rule in &rules {
        table.add_row([
            rule.name.as_str(),
            rule.kind.name(),
            rule.severity.as_str(),
            &rule.route,
            &rule.describe(),
            &rule.requirement.join(" "),
        ]);
    }
    writeln!(out, "{table}")?;
    Ok(())
}
