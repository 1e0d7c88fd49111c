//! Reports for people's rounds: tables to read, and the same as JSON.

pub mod daily;
pub mod funnel;
pub mod weekly;

use std::io::Write as _;

use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use revwatch_core::durations::duration;
use revwatch_core::kpi::Kpis;
use revwatch_core::money::Money;
use revwatch_core::view::NOT_KNOWN;
use serde_json::{Map, Value, json};

use super::global_options::GlobalOptions;
use super::output;

/// A part of a report.
#[derive(Debug, Clone, PartialEq)]
pub struct Section {
    /// Its key in JSON.
    pub key: &'static str,
    /// Its title for people.
    pub title: String,
    /// Its columns. The name of a duration ends with `_seconds`, that of a share with `_share`.
    pub columns: Vec<&'static str>,
    /// Its rows; null: not known.
    pub rows: Vec<Vec<Value>>,
    /// Whether each row is one of what the title names, so that their number says something.
    pub is_list: bool,
}

/// An amount of money, as one value of a section.
pub fn money(money: &Money) -> Value {
    json!({"amount_minor": money.minor, "currency": money.currency})
}

/// What is known of the application.
pub fn application(kpis: &Kpis) -> &'static str {
    match &kpis.main.application {
        None => "it sends no events (docs/application.md)",
        Some(application) if application.silent => {
            "silent for a day: tickets and booking fees since then are not known"
        }
        Some(_) => "sends events",
    }
}

/// Prints what a report is about, then its sections.
pub fn print(
    options: &GlobalOptions,
    about: &[(&str, Value)],
    sections: &[Section],
) -> anyhow::Result<()> {
    let mut out = output::stdout();
    if options.json {
        let about = about
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()));
        let mut shown: Map<String, Value> = about.collect();
        shown.extend(sections.iter().map(|it| (it.key.to_owned(), it.json())));
        writeln!(out, "{:#}", Value::Object(shown))?;
        return Ok(());
    }
    for (name, value) in about {
        writeln!(out, "{}: {}", name.replace('_', " "), text(name, value))?;
    }
    for section in sections {
        match section.is_list {
            true => writeln!(out, "\n{}: {}", section.title, section.rows.len())?,
            false => writeln!(out, "\n{}", section.title)?,
        }
        if !section.rows.is_empty() {
            writeln!(out, "{}", section.table())?;
        }
    }
    Ok(())
}

impl Section {
    fn json(&self) -> Value {
        let row = |row: &Vec<Value>| -> Value {
            let cells = self.columns.iter().map(|name| (*name).to_owned());
            cells.zip(row.iter().cloned()).collect::<Map<_, _>>().into()
        };
        self.rows.iter().map(row).collect()
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(UTF8_BORDERS_ONLY);
        table.set_header(self.columns.iter().map(|name| title(name)));
        for row in &self.rows {
            let cells = self.columns.iter().zip(row);
            table.add_row(cells.map(|(name, value)| text(name, value)));
        }
        table
    }
}

/// The unit is with the values.
fn title(name: &str) -> String {
    let name = name.trim_end_matches("_seconds").trim_end_matches("_share");
    name.replace('_', " ")
}

/// A value for people.
fn text(name: &str, value: &Value) -> String {
    match value {
        Value::Null => NOT_KNOWN.to_owned(),
        Value::String(text) => text.clone(),
        Value::Object(amount) => {
            let minor = amount.get("amount_minor").and_then(Value::as_i64);
            let currency = amount.get("currency").and_then(Value::as_str);
            Money::known(minor, currency).map_or_else(|| NOT_KNOWN.to_owned(), |it| it.to_string())
        }
        Value::Number(number) if name.ends_with("_seconds") => {
            number.as_i64().map_or_else(|| number.to_string(), duration)
        }
        Value::Number(number) if name.ends_with("_share") => {
            let share = number.as_f64().unwrap_or_default();
            format!("{:.1} %", share * 100.0)
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_their_unit_and_what_is_not_known_is_a_dash() {
        let section = Section {
            key: "things",
            title: "Things".to_owned(),
            is_list: true,
            columns: vec!["id", "waits_seconds", "amount", "of_first_share"],
            rows: vec![
                vec![
                    json!("a"),
                    json!(7200),
                    money(&Money::new(123_450, "usd")),
                    json!(0.486),
                ],
                vec![json!("b"), Value::Null, Value::Null, Value::Null],
            ],
        };
        let shown = section.table().to_string();
        for text in ["of first", "2 h 0 min", "USD 1,234.50", "48.6 %", NOT_KNOWN] {
            assert!(shown.contains(text), "{text}: {shown}");
        }
        assert_eq!(
            section.json(),
            json!([
                {"id": "a", "waits_seconds": 7200, "amount": {"amount_minor": 123_450, "currency": "usd"}, "of_first_share": 0.486},
                {"id": "b", "waits_seconds": null, "amount": null, "of_first_share": null},
            ])
        );
    }
}
