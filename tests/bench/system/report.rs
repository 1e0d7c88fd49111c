//! Figures: gathered round by round, shown as a table, as JSON, and as ratios.

use std::collections::BTreeMap;

use serde::Serialize;

/// What one measurement gave, by the name of the figure.
pub(crate) type Figures = Vec<(&'static str, f64)>;

/// All of it, in the order in which things were first measured.
#[derive(Default)]
pub(crate) struct Report {
    names: Vec<String>,
    rounds: BTreeMap<String, BTreeMap<&'static str, Vec<f64>>>,
}

/// One line of the result.
#[derive(Serialize)]
pub(crate) struct Line<'a> {
    what: &'a str,
    median: BTreeMap<&'static str, f64>,
    rounds: &'a BTreeMap<&'static str, Vec<f64>>,
}

impl Report {
    pub(crate) fn add(&mut self, name: &str, figures: Figures) {
        if !self.rounds.contains_key(name) {
            self.names.push(name.to_owned());
        }
        let rounds = self.rounds.entry(name.to_owned()).or_default();
        for (figure, value) in figures {
            rounds.entry(figure).or_default().push(value);
        }
    }

    pub(crate) fn median(&self, name: &str, figure: &str) -> Option<f64> {
        median(self.rounds.get(name)?.get(figure)?)
    }

    pub(crate) fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        self.names.iter().map(|what| {
            let rounds = &self.rounds[what];
            let median = rounds.iter().filter_map(|(figure, values)| Some((*figure, median(values)?))).collect();
            Line { what, median, rounds }
        })
    }

    pub(crate) fn table(&self, columns: &[&str]) -> comfy_table::Table {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::ASCII_MARKDOWN);
        table.set_header(std::iter::once("what").chain(columns.iter().copied()));
        for line in self.lines() {
            let cells = columns.iter().map(|column| line.median.get(column).copied().map(shown).unwrap_or_default());
            table.add_row(std::iter::once(line.what.to_owned()).chain(cells));
        }
        table
    }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

fn shown(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}
