//! The page of commands, from the definitions that read the command line.

use clap::builder::StyledStr;
use clap::{Arg, ArgAction, Command, CommandFactory as _};

use super::{fill, row};
use crate::cli::Cli;

pub(super) fn page() -> String {
    let mut program = Cli::command();
    // Gives each command its full name and the global options.
    program.build();
    let mut all = String::new();
    describe(&mut program, &mut all);
    let global: Vec<&Arg> = program
        .get_arguments()
        .filter(|arg| arg.is_global_set())
        .collect();
    let text = fill(include_str!("commands.md"), "global", &options(&global));
    fill(&text, "commands", all.trim_start())
}

fn describe(command: &mut Command, text: &mut String) {
    let name = command
        .get_bin_name()
        .unwrap_or_else(|| command.get_name())
        .to_owned();
    text.push_str(&format!("\n## `{name}`\n\n"));
    let about = command
        .get_long_about()
        .or_else(|| command.get_about())
        .map(StyledStr::to_string)
        .unwrap_or_default();
    text.push_str(&format!("{}\n\n", sentence(about.trim_end())));
    let usage = command.render_usage().to_string();
    text.push_str(&format!(
        "```text\n{}\n```\n",
        usage.trim_start_matches("Usage:").trim()
    ));
    let own: Vec<&Arg> = command
        .get_arguments()
        .filter(|arg| !arg.is_global_set() && is_shown(arg))
        .collect();
    if !own.is_empty() {
        text.push_str(&format!("\n{}", options(&own)));
    }
    if let Some(after) = command.get_after_help() {
        text.push_str(&format!("\n{}", notes(&after.to_string())));
    }
    for inner in command
        .get_subcommands_mut()
        .filter(|inner| !inner.is_hide_set() && inner.get_name() != "help")
    {
        describe(inner, text);
    }
}

fn is_shown(arg: &Arg) -> bool {
    let is_standard = matches!(
        arg.get_action(),
        ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong | ArgAction::Version
    );
    !is_standard && !arg.is_hide_set()
}

fn options(args: &[&Arg]) -> String {
    let mut table = row(&["option", "meaning"]) + &row(&["---"; 2]);
    for arg in args {
        let help = arg
            .get_long_help()
            .or_else(|| arg.get_help())
            .map(StyledStr::to_string)
            .unwrap_or_default();
        let mut meaning = sentence(&help.split_whitespace().collect::<Vec<_>>().join(" "));
        let takes_values = arg.get_action().takes_values();
        let values: Vec<String> = arg
            .get_possible_values()
            .iter()
            .map(|value| format!("`{}`", value.get_name()))
            .collect();
        if takes_values && !values.is_empty() {
            meaning.push_str(&format!(" One of {}.", values.join(", ")));
        }
        let defaults: Vec<_> = arg
            .get_default_values()
            .iter()
            .map(|value| value.to_string_lossy())
            .collect();
        let environment = arg
            .get_env()
            .filter(|_| !arg.is_hide_env_set())
            .map(|name| name.to_string_lossy());
        match (takes_values && !defaults.is_empty(), environment) {
            (true, Some(name)) => {
                meaning.push_str(&format!(
                    " Default: the variable `{name}`, else `{}`.",
                    defaults.join(",")
                ));
            }
            (true, None) => meaning.push_str(&format!(" Default: `{}`.", defaults.join(","))),
            (false, Some(name)) => meaning.push_str(&format!(" Default: the variable `{name}`.")),
            (false, None) => {}
        }
        table.push_str(&row(&[&format!("`{arg}`"), &meaning]));
    }
    table
}

/// The text with its full stop, which clap removes.
fn sentence(text: &str) -> String {
    let end = if text.ends_with(['.', '!', '?', '…']) {
        ""
    } else {
        "."
    };
    format!("{text}{end}")
}

/// What follows the options: prose, and examples in a block of their own.
fn notes(after: &str) -> String {
    let (prose, examples) = match after
        .split_once("Examples:\n")
        .or_else(|| after.split_once("Example:\n"))
    {
        Some((prose, examples)) => (prose.trim_end(), Some(examples)),
        None => (after.trim_end(), None),
    };
    let mut text = String::new();
    if !prose.is_empty() {
        text.push_str(&format!("{prose}\n\n"));
    }
    if let Some(examples) = examples {
        let lines: Vec<&str> = examples
            .lines()
            .map(|line| line.strip_prefix("  ").unwrap_or(line))
            .collect();
        text.push_str(&format!("```text\n{}\n```\n", lines.join("\n").trim_end()));
    }
    text
}
