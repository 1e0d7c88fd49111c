//! The page of metrics, from the registry of the process.

use revwatch_runtime::telemetry::Metrics;

use super::{fill, row};

pub(super) fn page() -> String {
    let mut table = row(&["metric", "type", "labels", "meaning"]) + &row(&["---"; 4]);
    for family in Metrics::new().families() {
        let labels: Vec<String> = family
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        table.push_str(&row(&[
            &format!("`{}`", family.name),
            family.kind,
            &labels.join(", "),
            &family.help,
        ]));
    }
    fill(include_str!("metrics.md"), "metrics", &table)
}
