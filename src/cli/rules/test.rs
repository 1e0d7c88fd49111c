//! `revwatch rules test`.

use std::io::Write as _;

use anyhow::bail;
use revwatch_alerting::policy::Policy;
use revwatch_alerting::rule::Rule;
use revwatch_alerting::rule_text::NamedText;
use revwatch_runtime::config::{Config, Fault, in_order};
use revwatch_runtime::files::read_toml;
use serde_json::{Value, json};

use super::files::{Folder, Nothing, SHIPPED};
use super::{TestArgs, fault_json};
use crate::cli::global_options::GlobalOptions;
use crate::cli::output;
use crate::simulation::runner::{Failure, Verdict, moment_text, play};
use crate::simulation::scenario::Scenario;
use crate::simulation::scenario_file::parse;

/// A test with its result.
enum Outcome {
    Ran(Verdict),
    Skipped { name: String, why: String },
}

/// Runs `rules test`.
pub fn run(options: &GlobalOptions, args: &TestArgs) -> anyhow::Result<()> {
    let rules = super::rules(&options.config()?, args.rules.as_deref())?;
    // Tests mean the same everywhere: the settings of this deployment do not apply.
    let policy = super::policy(&Config::load(None, &|_| None)?.alerting)?;
    let mut files: Vec<(NamedText, bool)> = Vec::new();
    for path in &args.paths {
        files.extend(read_toml(path)?.into_iter().map(|text| (text, false)));
    }
    if args.paths.is_empty() {
        files.extend(
            SHIPPED
                .iter()
                .map(|(name, text)| (((*name).to_owned(), (*text).to_owned()), true)),
        );
    }
    let mut out = output::stdout();
    let scenarios = match read(&files, &rules) {
        Ok(scenarios) => scenarios,
        Err(faults) => {
            if options.json {
                let faults: Vec<Value> = faults.iter().map(fault_json).collect();
                writeln!(out, "{:#}", json!({"faults": faults}))?;
                bail!("the tests cannot be read: {} fault(s)", faults.len());
            }
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            bail!("the tests cannot be read:\n{}", faults.join("\n"));
        }
    };
    for warning in scenarios.iter().flat_map(|(it, _)| &it.warnings) {
        eprintln!("warning: {warning}");
    }
    let mut outcome = Vec::new();
    for (scenario, shipped) in &scenarios {
        let one = run_one(scenario, *shipped, &policy)?;
        if !options.json {
            write!(out, "{}", report(&one))?;
        }
        outcome.push(one);
    }
    let count = |of: fn(&Outcome) -> bool| outcome.iter().filter(|one| of(one)).count();
    let skipped = count(|one| matches!(one, Outcome::Skipped { .. }));
    let failed = count(|one| matches!(one, Outcome::Ran(verdict) if !verdict.failures.is_empty()));
    let passed = outcome.len() - skipped - failed;
    if options.json {
        let described: Vec<Value> = outcome.iter().map(describe).collect();
        writeln!(
            out,
            "{:#}",
            json!({"passed": passed, "failed": failed, "skipped": skipped, "tests": described})
        )?;
    } else {
        writeln!(out, "{passed} passed, {failed} failed, {skipped} skipped")?;
    }
    if failed > 0 {
        bail!("{failed} rule test(s) failed");
    }
    Ok(())
}

/// Reads all files, or finds every fault in them.
fn read(files: &[(NamedText, bool)], rules: &[Rule]) -> Result<Vec<(Scenario, bool)>, Vec<Fault>> {
    let (mut scenarios, mut faults) = (Vec::new(), Vec::new());
    for (file, shipped) in files {
        let parsed = if *shipped {
            parse(file, rules, &Nothing)
        } else {
            parse(file, rules, &Folder::of(&file.0))
        };
        match parsed {
            Ok(read) => scenarios.extend(read.into_iter().map(|scenario| (scenario, *shipped))),
            Err(found) => faults.extend(found),
        }
    }
    let strict = scenarios.iter().filter(|(_, shipped)| !shipped);
    faults.extend(
        strict.flat_map(|(scenario, _)| scenario.missing.iter().map(|(_, fault)| fault.clone())),
    );
    match faults.is_empty() {
        true => Ok(scenarios),
        false => Err(in_order(faults)),
    }
}

fn run_one(scenario: &Scenario, shipped: bool, policy: &Policy) -> anyhow::Result<Outcome> {
    if let Some((rule, _)) = scenario.missing.first().filter(|_| shipped) {
        let why = format!("there is no rule {rule:?} in effect");
        return Ok(Outcome::Skipped {
            name: scenario.name.clone(),
            why,
        });
    }
    Ok(Outcome::Ran(play(scenario, policy)?))
}

fn report(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Skipped { name, why } => format!("skipped  {name}: {why}\n"),
        Outcome::Ran(verdict) if verdict.failures.is_empty() => {
            format!("ok       {}\n", verdict.name)
        }
        Outcome::Ran(verdict) => {
            let mut text = format!("FAILED   {} ({})\n", verdict.name, verdict.place);
            for Failure {
                place,
                at_s,
                expected,
                seen,
                logs,
            } in &verdict.failures
            {
                text.push_str(&format!("         {place} at {}\n", moment_text(*at_s)));
                text.push_str(&format!(
                    "           expected  {expected}\n           seen      {seen}\n"
                ));
                if let Some((plain, other)) = logs {
                    text.push_str(&listed("notifications, plain run", plain));
                    text.push_str(&listed("notifications, this run", other));
                }
            }
            if verdict
                .failures
                .iter()
                .all(|failure| failure.logs.is_none())
            {
                text.push_str(&listed("notifications", &verdict.log));
            }
            text
        }
    }
}

/// The first lines of a list that may be long.
fn listed(head: &str, lines: &[String]) -> String {
    const MAX_LISTED: usize = 40;
    let mut text = format!("           {head}:\n");
    for line in lines.iter().take(MAX_LISTED) {
        text.push_str(&format!("             {line}\n"));
    }
    match lines.len() {
        0 => text.push_str("             nothing\n"),
        n if n > MAX_LISTED => {
            text.push_str(&format!("             … and {} more\n", n - MAX_LISTED));
        }
        _ => {}
    }
    text
}

fn describe(outcome: &Outcome) -> Value {
    match outcome {
        Outcome::Skipped { name, why } => json!({"name": name, "result": "skipped", "why": why}),
        Outcome::Ran(Verdict {
            name,
            place,
            failures,
            log,
        }) => {
            let failure = |f: &Failure| {
                let logs = f
                    .logs
                    .as_ref()
                    .map(|(plain, other)| json!({"plain": plain, "variant": other}));
                json!({"place": f.place, "at": moment_text(f.at_s), "expected": f.expected, "seen": f.seen, "logs": logs})
            };
            let result = if failures.is_empty() { "ok" } else { "failed" };
            let failures: Vec<Value> = failures.iter().map(failure).collect();
            json!({"name": name, "place": place, "result": result, "failures": failures, "notifications": log})
        }
    }
}
