//! `revwatch rules test`.

use std::io::Write as _;

use anyhow::bail;
use revwatch_alerting::policy::Policy;
use revwatch_alerting::rule::Rule;
use revwatch_alerting::rule_text::NamedText;
use revwatch_runtime::config::Config;
use serde_json::{Value, json};

use super::files::{Folder, Nothing, SHIPPED, texts};
use super::{Common, TestArgs};
use crate::simulation::runner::{Failure, Verdict, moment_text, play};
use crate::simulation::scenario::Scenario;
use crate::simulation::scenario_file::parse;

/// A test, and what became of it.
enum Tried {
    Played(Verdict),
    Skipped { name: String, why: String },
}

/// Runs `rules test`.
pub fn run(common: &Common, args: &TestArgs) -> anyhow::Result<()> {
    let rules = super::rules(&common.config()?, args.rules.as_deref())?;
    // Tests mean the same everywhere: settings of this deployment are left out.
    let policy = super::policy(&Config::load(None, &|_| None)?.alerting)?;
    let mut files: Vec<(NamedText, bool)> = Vec::new();
    for path in &args.paths {
        files.extend(texts(path)?.into_iter().map(|text| (text, false)));
    }
    if args.paths.is_empty() {
        files.extend(
            SHIPPED
                .iter()
                .map(|(name, text)| (((*name).to_owned(), (*text).to_owned()), true)),
        );
    }
    let scripts = read(&files, &rules)?;
    let mut out = std::io::stdout().lock();
    let mut tried = Vec::new();
    for (script, shipped) in &scripts {
        let one = try_out(script, *shipped, &policy)?;
        if !common.json {
            write!(out, "{}", report(&one))?;
        }
        tried.push(one);
    }
    let count = |of: fn(&Tried) -> bool| tried.iter().filter(|one| of(one)).count();
    let skipped = count(|one| matches!(one, Tried::Skipped { .. }));
    let failed = count(|one| matches!(one, Tried::Played(verdict) if !verdict.failures.is_empty()));
    let passed = tried.len() - skipped - failed;
    if common.json {
        let described: Vec<Value> = tried.iter().map(describe).collect();
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

/// Reads all the files, or names every fault in them.
fn read(files: &[(NamedText, bool)], rules: &[Rule]) -> anyhow::Result<Vec<(Scenario, bool)>> {
    let (mut scripts, mut faults) = (Vec::new(), Vec::new());
    for (file, shipped) in files {
        let parsed = if *shipped {
            parse(file, rules, &Nothing)
        } else {
            parse(file, rules, &Folder::of(&file.0))
        };
        match parsed {
            Ok(read) => scripts.extend(read.into_iter().map(|script| (script, *shipped))),
            Err(found) => faults.extend(found),
        }
    }
    let strict = scripts.iter().filter(|(_, shipped)| !shipped);
    faults.extend(
        strict.flat_map(|(script, _)| script.missing.iter().map(|(_, fault)| fault.clone())),
    );
    if !faults.is_empty() {
        bail!("the tests cannot be read:\n{}", faults.join("\n"));
    }
    Ok(scripts)
}

fn try_out(script: &Scenario, shipped: bool, policy: &Policy) -> anyhow::Result<Tried> {
    if let Some((rule, _)) = script.missing.first().filter(|_| shipped) {
        let why = format!("there is no rule {rule:?} in effect");
        return Ok(Tried::Skipped {
            name: script.name.clone(),
            why,
        });
    }
    Ok(Tried::Played(play(script, policy)?))
}

fn report(tried: &Tried) -> String {
    match tried {
        Tried::Skipped { name, why } => format!("skipped  {name}: {why}\n"),
        Tried::Played(verdict) if verdict.failures.is_empty() => {
            format!("ok       {}\n", verdict.name)
        }
        Tried::Played(verdict) => {
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
                    text.push_str(&listed("told plainly", plain));
                    text.push_str(&listed("told then", other));
                }
            }
            if verdict
                .failures
                .iter()
                .all(|failure| failure.logs.is_none())
            {
                text.push_str(&listed("told", &verdict.log));
            }
            text
        }
    }
}

/// The first lines of what may be long.
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

fn describe(tried: &Tried) -> Value {
    match tried {
        Tried::Skipped { name, why } => json!({"name": name, "result": "skipped", "why": why}),
        Tried::Played(Verdict {
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
            json!({"name": name, "place": place, "result": result, "failures": failures, "told": log})
        }
    }
}
