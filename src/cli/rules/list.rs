//! `revwatch rules list`.

use std::io::Write as _;

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{ContentArrangement, Table};
use revwatch_alerting::rule::{Rule, Severity};
use revwatch_alerting::rule_text::written;
use revwatch_runtime::config::AlertingConfig;
use serde_json::{Value, json};

use crate::cli::global_options::GlobalOptions;
use crate::cli::output;

/// The width of the table.
const MAX_COLUMNS: u16 = 120;

/// Runs `rules list`.
pub fn run(options: &GlobalOptions) -> anyhow::Result<()> {
    let config = options.config()?;
    let rules = super::rules(&config, None)?;
    let mut out = output::stdout();
    if options.json {
        let rows = rules.iter().map(|rule| row(rule, &config.alerting));
        writeln!(out, "{:#}", rows.collect::<Value>())?;
        return Ok(());
    }
    writeln!(out, "{}", table(&rules))?;
    Ok(())
}

/// A rule with all its fields. What it leaves to its severity has the value of the settings.
fn row(rule: &Rule, settings: &AlertingConfig) -> Value {
    let treatment = match rule.severity {
        Severity::Critical => &settings.severity.critical,
        Severity::High => &settings.severity.high,
        Severity::Medium => &settings.severity.medium,
        Severity::Low => &settings.severity.low,
    };
    let mut row = written(rule);
    for (field, of_severity) in [
        ("respond", json!(treatment.respond)),
        ("resolve", json!(treatment.resolve)),
        ("clock", json!(treatment.clock)),
        ("notify", json!(treatment.notifiers)),
    ] {
        let value = row.entry(field).or_insert(Value::Null);
        if value.is_null() {
            *value = of_severity;
        }
    }
    row.insert("remind".to_owned(), json!(treatment.remind));
    row.insert("threshold".to_owned(), json!(rule.describe()));
    Value::Object(row)
}

/// What people look for. `--json` has everything.
fn table(rules: &[Rule]) -> Table {
    let mut table = Table::new();
    table
        .load_style(UTF8_BORDERS_ONLY)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(MAX_COLUMNS)
        .set_header(["name", "severity", "fires when", "route"]);
    for rule in rules {
        let mut when = rule.describe();
        let own = own_treatment(rule);
        if !own.is_empty() {
            when.push_str(&format!("\n{own}"));
        }
        table.add_row([
            rule.name.as_str(),
            rule.severity.as_str(),
            &when,
            &rule.route,
        ]);
    }
    table
}

/// The fields in which a rule differs from others of its severity, for example `respond 30m, notify email, webhook`.
fn own_treatment(rule: &Rule) -> String {
    let fields = written(rule);
    let own = ["respond", "resolve", "clock", "reopen_within", "notify"];
    let set = own.into_iter().filter_map(|field| {
        let value = match fields.get(field)? {
            Value::String(text) => text.clone(),
            Value::Array(names) if names.is_empty() => "none".to_owned(),
            Value::Array(names) => {
                let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
                names.join(", ")
            }
            _ => return None,
        };
        Some(format!("{field} {value}"))
    });
    set.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use revwatch_alerting::rule_text::built_in;
    use revwatch_runtime::config::Config;

    use super::*;

    #[test]
    fn the_table_fits_a_terminal_and_has_no_codes() {
        let rules = built_in().expect("valid");
        let table = table(&rules).to_string();
        let is_wide = |line: &&str| line.chars().count() > usize::from(MAX_COLUMNS);
        assert_eq!(table.lines().find(is_wide), None);
        let has_code = |rule: &Rule| {
            let mut words = table.split_whitespace();
            words.any(|word| rule.requirement.iter().any(|code| code == word))
        };
        assert!(!rules.iter().any(has_code), "{table}");
        // Names are copied into commands and settings: they are not broken.
        for rule in &rules {
            assert!(table.contains(&format!(" {} ", rule.name)), "{table}");
        }
    }

    #[test]
    fn a_program_gets_all_fields_with_the_treatment_of_the_severity_where_a_rule_has_none() {
        let settings = Config::load(None, &|_| None)
            .expect("the defaults")
            .alerting;
        let rules = built_in().expect("valid");
        let of = |name: &str| {
            let rule = rules.iter().find(|rule| rule.name == name);
            row(rule.expect(name), &settings)
        };
        let named = |row: &Value, fields: &[&str]| -> Value {
            let fields = fields.iter().map(|field| row[field].clone());
            fields.collect()
        };
        let clocks = ["respond", "resolve", "clock", "remind"];
        let deauthorized = of("account_deauthorized");
        assert_eq!(
            named(&deauthorized, &clocks),
            json!(["30m", "4h", "always", true])
        );
        assert_eq!(deauthorized["notify"], json!(["slack", "email", "webhook"]));
        let reminder = of("onboarding_not_complete_24_hours");
        assert_eq!(
            named(&reminder, &clocks),
            json!(["1d", "7d", "always", false])
        );
        assert_eq!(reminder["notify"], json!(["email", "webhook"]));
        let milestone = of("milestone_reached");
        assert_eq!(milestone["notify"], json!([]));
        let lost = of("provider_lost_charges");
        let fields = ["reopen_within", "for", "condition", "threshold", "realm"];
        assert_eq!(
            named(&lost, &fields),
            json!(["10m", null, "charges_lost", "charges_lost", "any"])
        );
    }

    #[test]
    fn the_table_shows_what_a_rule_has_of_its_own() {
        let rules = built_in().expect("valid");
        let of = |name: &str| {
            let rule = rules.iter().find(|rule| rule.name == name);
            own_treatment(rule.expect(name))
        };
        assert_eq!(
            of("account_deauthorized"),
            "respond 30m, resolve 4h, notify slack, email, webhook"
        );
        assert_eq!(of("provider_lost_charges"), "reopen_within 10m");
        assert_eq!(of("past_due_72_hours"), "");
    }
}
