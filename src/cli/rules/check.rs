//! `revwatch rules check`.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::bail;
use revwatch_alerting::rule_text;
use revwatch_alerting::rules_file;
use revwatch_runtime::files::read_toml;
use serde_json::json;

use super::fault_json;
use crate::cli::global_options::GlobalOptions;
use crate::cli::output;

/// Runs `rules check`.
pub fn run(options: &GlobalOptions, paths: &[PathBuf]) -> anyhow::Result<()> {
    let checked = if paths.is_empty() {
        rules_file::load(options.config()?.rules.as_deref())
    } else {
        let mut texts = Vec::new();
        for path in paths {
            texts.extend(read_toml(path)?);
        }
        rule_text::parse(&texts)
    };
    let (rules, faults) = match checked {
        Ok(rules) => (rules.len(), Vec::new()),
        Err(error) => (0, error.faults),
    };
    let is_valid = faults.is_empty();
    let mut out = output::stdout();
    if options.json {
        let mut value =
            json!({"ok": is_valid, "faults": faults.iter().map(fault_json).collect::<Vec<_>>()});
        if is_valid {
            value["rules"] = rules.into();
        }
        writeln!(out, "{value:#}")?;
    } else if is_valid {
        writeln!(out, "{rules} rule(s), all valid")?;
    }
    if is_valid {
        return Ok(());
    }
    if !options.json {
        for fault in &faults {
            writeln!(out, "{fault}")?;
        }
    }
    bail!("{} fault(s) in the rules", faults.len())
}
