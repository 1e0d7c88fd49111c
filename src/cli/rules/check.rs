//! `revwatch rules check`.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::bail;
use revwatch_alerting::rule_text::{self, RulesError};
use revwatch_alerting::rules_file::{self, RuleError};
use revwatch_runtime::files::read_toml;
use serde_json::{Value, json};

use crate::cli::global_options::GlobalOptions;

/// Runs `rules check`.
pub fn run(options: &GlobalOptions, paths: &[PathBuf]) -> anyhow::Result<()> {
    let checked = if paths.is_empty() {
        let config = options.config()?;
        rules_file::load(config.rules.as_deref()).map_err(|error| match error {
            RuleError::Invalid(invalid) => Ok(invalid),
            error => Err(error),
        })
    } else {
        let mut texts = Vec::new();
        for path in paths {
            texts.extend(read_toml(path)?);
        }
        rule_text::parse(&texts).map_err(Ok)
    };
    let mut out = std::io::stdout().lock();
    let RulesError { mut faults } = match checked {
        Ok(rules) if options.json => {
            writeln!(
                out,
                "{:#}",
                json!({"ok": true, "rules": rules.len(), "faults": []})
            )?;
            return Ok(());
        }
        Ok(rules) => {
            writeln!(out, "{} rule(s), all valid", rules.len())?;
            return Ok(());
        }
        Err(invalid) => invalid?,
    };
    in_order(&mut faults);
    if options.json {
        let described: Vec<Value> = faults.iter().map(|fault| describe(fault)).collect();
        writeln!(out, "{:#}", json!({"ok": false, "faults": described}))?;
    } else {
        for fault in &faults {
            writeln!(out, "{fault}")?;
        }
    }
    bail!("{} fault(s) in the rules", faults.len())
}

/// A fault as JSON. A fault without a place concerns all files.
pub fn describe(fault: &str) -> Value {
    match placed(fault) {
        Some((file, line, column, what)) => {
            json!({"file": file, "line": line, "column": column, "what": what})
        }
        None => json!({"file": null, "line": null, "column": null, "what": fault}),
    }
}

/// Files in their given order; within a file from top to bottom.
fn in_order(faults: &mut [String]) {
    let files: Vec<String> = faults
        .iter()
        .filter_map(|fault| Some(placed(fault)?.0.to_owned()))
        .collect();
    faults.sort_by_key(|fault| {
        let place = placed(fault);
        place.map(|(file, line, column, _)| (files.iter().position(|f| f == file), line, column))
    });
}

/// File, line, column and the fault itself.
fn placed(fault: &str) -> Option<(&str, u64, u64, &str)> {
    let (place, what) = fault.split_once(": ")?;
    let mut parts = place.rsplitn(3, ':');
    let (column, line) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    Some((parts.next()?, line, column, what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_may_have_a_place() {
        assert_eq!(
            describe("a b.toml:3:14: unknown field `x`: leave it out"),
            json!({"file": "a b.toml", "line": 3, "column": 14, "what": "unknown field `x`: leave it out"})
        );
        assert_eq!(describe("no [[rule]] in f.toml")["file"], Value::Null);
        let mut faults = ["b:2:9: x", "a:7:1: x", "b:2:1: x", "b:1:3: x"].map(str::to_owned);
        in_order(&mut faults);
        assert_eq!(faults, ["b:1:3: x", "b:2:1: x", "b:2:9: x", "a:7:1: x"]);
    }
}
