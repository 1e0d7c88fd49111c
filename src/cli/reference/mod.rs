//! `revwatch reference`: the reference pages in `docs/reference`, printed from the program's own
//! definitions.
//!
//! Invariant: a page takes its statements about a command, a setting or a metric from the
//! definition. `tests/reference.rs` compares the pages with this output.

mod commands;
mod events;
mod metrics;
mod settings;

use std::io::Write as _;

use clap::{Args, ValueEnum};

use super::output;

/// Options of `reference`.
#[derive(Debug, Args)]
pub struct ReferenceArgs {
    /// Which page to print.
    page: Page,
}

/// The pages; each is a file of this name in `docs/reference`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Page {
    Commands,
    Settings,
    Metrics,
    Events,
}

/// Runs `reference`.
pub fn run(args: &ReferenceArgs) -> anyhow::Result<()> {
    let page = match args.page {
        Page::Commands => commands::page(),
        Page::Settings => settings::page()?,
        Page::Metrics => metrics::page(),
        Page::Events => events::page(),
    };
    Ok(output::stdout().write_all(page.as_bytes())?)
}

/// Replaces the line `{name}` of a page's text.
fn fill(text: &str, name: &str, content: &str) -> String {
    text.replace(&format!("{{{name}}}\n"), content)
}

/// A row of a Markdown table. `|` separates cells and is escaped.
fn row(cells: &[&str]) -> String {
    let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
    format!("| {} |\n", cells.join(" | "))
}
