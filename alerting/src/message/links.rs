//! Links to Stripe's dashboard. Pure.

use revwatch_core::source::Source;

use crate::alert::Alert;

/// Whether it is an id that may be part of a link: ids come from outside.
pub(super) fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The target of "Open in Stripe".
pub(super) fn stripe_url(alert: &Alert) -> Option<String> {
    match alert.subject.entity() {
        Some(key) => key
            .kind
            .dashboard_url(&key.id, alert.evidence.account.as_deref()),
        None => event_page(alert.evidence.event_ids.first()?),
    }
}

/// The page of an event; Stripe has none of the application's.
pub(super) fn event_page(id: &str) -> Option<String> {
    let is_of_stripe = Source::of(id) != Source::App;
    (is_of_stripe && is_plain(id)).then(|| format!("https://dashboard.stripe.com/events/{id}"))
}

/// The page of a customer, of the platform or of a connected account.
pub(super) fn customer_page(id: &str, account: Option<&str>) -> Option<String> {
    let is_linked = is_plain(id) && account.is_none_or(is_plain);
    let account = account.map_or_else(String::new, |account| format!("/{account}"));
    is_linked.then(|| format!("https://dashboard.stripe.com{account}/customers/{id}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_events_of_stripe_have_a_page_there() {
        let page = "https://dashboard.stripe.com/events/evt_1";
        assert_eq!(event_page("evt_1").as_deref(), Some(page));
        assert_eq!(event_page("app_9ad9"), None);
        assert_eq!(event_page("evt_1/../x"), None);
    }
}
