//! Measured values: collected round by round, shown as a table, as JSON, and as ratios.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use serde::Serialize;

use super::ratios::{self, Ratio};

/// The values of one measurement, by name.
pub(crate) type Values = Vec<(&'static str, f64)>;

/// All values, in the order of the first measurement.
#[derive(Default)]
pub(crate) struct Report {
    names: Vec<String>,
    rounds: BTreeMap<String, BTreeMap<&'static str, Vec<f64>>>,
}

/// One line of the result.
#[derive(Serialize)]
struct Line<'a> {
    what: &'a str,
    median: BTreeMap<&'static str, f64>,
    rounds: &'a BTreeMap<&'static str, Vec<f64>>,
}

impl Report {
    /// Records values and prints them as progress.
    pub(crate) fn add(&mut self, name: &str, values: Values) {
        let line: Vec<String> = values
            .iter()
            .map(|(column, value)| format!("{column} {}", shown(*value)))
            .collect();
        eprintln!("  {name}: {}", line.join(", "));
        if !self.rounds.contains_key(name) {
            self.names.push(name.to_owned());
        }
        let rounds = self.rounds.entry(name.to_owned()).or_default();
        for (column, value) in values {
            rounds.entry(column).or_default().push(value);
        }
    }

    /// Prints tables and ratios, and writes everything as JSON.
    pub(crate) fn show(&self, json: Option<&Path>) {
        let mut out = std::io::stdout().lock();
        for (title, columns) in TABLES {
            let rows = self.rows(columns);
            if !rows.is_empty() {
                let mut table = comfy_table::Table::new();
                table.load_style(comfy_table::presets::ASCII_MARKDOWN);
                table
                    .set_header(std::iter::once(*title).chain(columns.iter().copied()))
                    .add_rows(rows);
                writeln!(out, "{table}\n").expect("standard output");
            }
        }
        let ratios: Vec<Ratio> = ratios::all().filter_map(|ratio| ratio.of(self)).collect();
        for ratio in &ratios {
            writeln!(out, "{ratio}").expect("standard output");
        }
        if let Some(file) = json {
            let lines: Vec<Line<'_>> = self.lines().collect();
            let all = serde_json::json!({ "values": lines, "ratios": ratios });
            std::fs::write(file, serde_json::to_vec_pretty(&all).expect("JSON"))
                .expect("the file of --json");
        }
    }

    /// The median of a value over the rounds.
    pub(crate) fn median(&self, name: &str, column: &str) -> Option<f64> {
        median(self.rounds.get(name)?.get(column)?)
    }

    /// The median of the ratios of two values within each round, in which they were measured one after another.
    pub(crate) fn median_ratio(&self, part: &str, of: &str, column: &str) -> Option<f64> {
        let rounds = |name: &str| self.rounds.get(name)?.get(column);
        let rounds = rounds(part)?.iter().zip(rounds(of)?);
        let ratios: Vec<f64> = rounds.map(|(part, of)| part / of).collect();
        median(&ratios)
    }

    fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        self.names.iter().map(|what| {
            let rounds = &self.rounds[what];
            let median = rounds
                .iter()
                .filter_map(|(column, values)| Some((*column, median(values)?)))
                .collect();
            Line {
                what,
                median,
                rounds,
            }
        })
    }

    /// The lines with one of these values, unless an earlier table has them.
    fn rows(&self, columns: &[&'static str]) -> Vec<Vec<String>> {
        let lines = self
            .lines()
            .filter(|line| line.median.contains_key(columns[0]));
        lines
            .map(|line| {
                let cells = columns.iter().map(|column| {
                    line.median
                        .get(column)
                        .copied()
                        .map(shown)
                        .unwrap_or_default()
                });
                std::iter::once(line.what.to_owned()).chain(cells).collect()
            })
            .collect()
    }
}

/// Tables by their title; a line is in the table whose first column it has.
const TABLES: &[(&str, &[&str])] = &[
    ("with nothing to do", &["start_ms", "rss_mb"]),
    (
        "events",
        &[
            "per_s",
            "us",
            "broker_us",
            "store_us",
            "p50_ms",
            "p99_ms",
            "p999_ms",
            "max_ms",
            "rss_mb",
        ],
    ),
    ("evaluator", &["tick_us", "first_s"]),
    ("conversion of the state", &["entities_per_s", "entities"]),
    (
        "hostile events",
        &["seconds", "drain_seconds", "ms_each", "one_over_idle_mb"],
    ),
    (
        "store",
        &[
            "entity_bytes",
            "conditions_bytes",
            "marks_bytes",
            "audit_bytes",
            "counters_bytes",
            "events_each",
        ],
    ),
];

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

fn shown(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.1}")
    }
}
