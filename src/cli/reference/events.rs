//! The page of Stripe's event types and statuses, from the lists that the program knows.

use std::collections::BTreeMap;

use revwatch_core::entity::kind::kind_of_event;
use revwatch_core::entity::stripe_enums::documented_statuses;
use revwatch_core::event::known_kinds;

use super::{fill, row};

pub(super) fn page() -> String {
    let page = fill(include_str!("events.md"), "statuses", &statuses());
    fill(&page, "events", &events())
}

fn statuses() -> String {
    let mut values = BTreeMap::<(&str, &str), Vec<String>>::new();
    for [object, field, value] in documented_statuses() {
        let of_field = values.entry((object, field)).or_default();
        of_field.push(format!("`{value}`"));
    }
    let mut table = row(&["object", "field", "values"]) + &row(&["---"; 3]);
    for ((object, field), values) in values {
        let field = format!("`{field}`");
        table.push_str(&row(&[object, &field, &values.join(", ")]));
    }
    table
}

fn events() -> String {
    let mut table = row(&["type", "object whose state it changes"]) + &row(&["---"; 2]);
    for event_type in known_kinds() {
        let kind = kind_of_event(event_type);
        let object = kind.map_or_else(String::new, |kind| format!("`{}`", kind.as_str()));
        table.push_str(&row(&[&format!("`{event_type}`"), &object]));
    }
    table
}
