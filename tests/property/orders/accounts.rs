//! Connected accounts: permissions, capabilities, payout destinations, disconnection.

use revwatch_core::entity::EntityKind;
use serde_json::{Value, json};

use super::{REPEAT, START_S, Scenario};

const UPDATED: &str = "account.updated";
const CAPABILITY: &str = "capability.updated";
const AUTHORIZED: &str = "account.application.authorized";
const DEAUTHORIZED: &str = "account.application.deauthorized";

fn account(name: &'static str, works: bool) -> Scenario {
    let object = json!({"id": "acct_1", "object": "account", "country": "DE", "created": START_S - 50,
        "charges_enabled": works, "payouts_enabled": works, "details_submitted": false,
        "requirements": {"disabled_reason": null, "currently_due": [], "past_due": []}});
    Scenario::of(name, EntityKind::Account, object).on("acct_1")
}

/// An event about another aspect of the account.
fn other(object: &Value) -> Value {
    json!({ "!object": object })
}

fn application() -> Value {
    other(&json!({"id": "ca_1", "object": "application"}))
}

fn capability(name: &str, status: &str) -> Value {
    other(&json!({"id": name, "object": "capability", "account": "acct_1", "status": status}))
}

fn bank() -> Value {
    other(
        &json!({"id": "ba_1", "object": "bank_account", "last4": "6789", "country": "DE", "currency": "eur"}),
    )
}

#[test]
fn onboarding_within_seconds_in_any_order() {
    account("onboarded within one second", false).check(
        &[
            (
                1,
                UPDATED,
                json!({"details_submitted": true, "requirements": {"currently_due": ["a", "b"]}}),
            ),
            (1, "account.external_account.created", bank()),
            (
                1,
                UPDATED,
                json!({"requirements": {"currently_due": ["b"]}}),
            ),
            (
                1,
                UPDATED,
                json!({"charges_enabled": true, "requirements": {"currently_due": []}}),
            ),
            (1, UPDATED, json!({"payouts_enabled": true})),
            (
                1,
                "person.created",
                other(&json!({"id": "person_1", "object": "person"})),
            ),
            (1, CAPABILITY, capability("card_payments", "active")),
        ],
        &[
            ("accounts|low", 1),
            ("accounts_charging", 1),
            ("funnel|onboarding_completed", 1),
        ],
        &[],
    );
    account("stuck", false).check(
        &[
            (
                0,
                UPDATED,
                json!({"requirements": {"currently_due": ["a"]}}),
            ),
            (3, UPDATED, json!({"requirements": {"currently_due": []}})),
            (
                3,
                UPDATED,
                json!({"requirements": {"currently_due": ["b"]}}),
            ),
            (3, UPDATED, json!({"details_submitted": true})),
            (
                3,
                UPDATED,
                json!({"requirements": {"currently_due": ["b", "c"]}}),
            ),
            (4, UPDATED, json!({"email": "a@example.com"})),
            (4, REPEAT, json!({})),
        ],
        &[
            ("accounts|medium", 1),
            ("funnel|onboarding_started", 1),
            ("funnel|charges_enabled", 0),
        ],
        &[("onboarding_incomplete", -50), ("requirements_due", 3)],
    );
}

#[test]
fn charges_and_payouts_toggle_in_any_order() {
    let past_due = json!({"disabled_reason": "requirements.past_due", "past_due": ["a"]});
    account("loses all within the second", true).check(
        &[
            (0, UPDATED, json!({"details_submitted": true})),
            (6, UPDATED, json!({"charges_enabled": false})),
            (6, UPDATED, json!({"charges_enabled": true})),
            (6, UPDATED, json!({"payouts_enabled": false})),
            (6, UPDATED, json!({"charges_enabled": false})),
            (6, UPDATED, json!({ "requirements": past_due })),
            (6, REPEAT, json!({})),
        ],
        &[
            ("accounts|high", 1),
            ("accounts_charging", 0),
            ("funnel|onboarding_completed", 1),
        ],
        &[("account_restricted", 6), ("charges_lost", 6)],
    );
    let held = |reason: Value| json!({ "disabled_reason": reason });
    account("is disabled and enabled again", true).check(
        &[
            (0, UPDATED, json!({"details_submitted": true})),
            (2, UPDATED, json!({"charges_enabled": false, "payouts_enabled": false, "requirements": held("under_review".into())})),
            (2, UPDATED, json!({"charges_enabled": true, "requirements": held(Value::Null)})),
            (2, UPDATED, json!({"charges_enabled": false, "requirements": held("listed".into())})),
            (2, UPDATED, json!({"payouts_enabled": true})),
            (2, UPDATED, json!({"charges_enabled": true})),
            (2, UPDATED, json!({"requirements": held(Value::Null)})),
        ],
        &[("accounts|low", 1), ("accounts_charging", 1)],
        &[],
    );
}

#[test]
fn capabilities_change_in_any_order() {
    account("two of them, each in its own way", true).check(
        &[
            (0, UPDATED, json!({"details_submitted": true})),
            (1, CAPABILITY, capability("card_payments", "pending")),
            (1, CAPABILITY, capability("transfers", "pending")),
            (2, CAPABILITY, capability("card_payments", "active")),
            (4, CAPABILITY, capability("transfers", "inactive")),
            (5, CAPABILITY, capability("card_payments", "disabled")),
            (7, CAPABILITY, capability("card_payments", "disabled")),
        ],
        &[("accounts|low", 1)],
        &[("capability_waiting", 1), ("capability_disabled", 5)],
    );
    let changed = |status: &str, before: &str| {
        let mut changed = capability("card_payments", status);
        changed["!previous"] = json!({ "status": before });
        changed
    };
    account("one to and fro within a second", true).check(
        &[
            (0, UPDATED, json!({"details_submitted": true})),
            (1, CAPABILITY, changed("pending", "unrequested")),
            (2, CAPABILITY, changed("active", "pending")),
            (2, CAPABILITY, changed("inactive", "active")),
            (2, CAPABILITY, changed("pending", "inactive")),
            (2, CAPABILITY, changed("active", "pending")),
            (2, CAPABILITY, changed("inactive", "active")),
        ],
        &[("accounts|low", 1)],
        &[("capability_waiting", 2)],
    );
}

#[test]
fn a_capability_is_rejected_in_any_order() {
    let changed = |status: &str, reason: &Value, previous: Value| {
        let object = json!({"id": "card_payments", "object": "capability", "account": "acct_1", "status": status,
            "requested": true, "requirements": {"disabled_reason": reason}});
        json!({"!object": object, "!previous": previous})
    };
    let (missing, rejected) = (json!("requirements.fields_needed"), json!("rejected.other"));
    let reason = |reason: &Value| json!({"requirements": {"disabled_reason": reason}});
    let waits = changed(
        "inactive",
        &missing,
        json!({"status": "active", "requirements": {"disabled_reason": null}}),
    );
    account("missing information, then rejected within a second", true).check(
        &[
            (0, UPDATED, json!({"details_submitted": true})),
            (
                1,
                CAPABILITY,
                changed("active", &Value::Null, json!({"status": "pending"})),
            ),
            (2, CAPABILITY, waits),
            (
                3,
                CAPABILITY,
                changed("inactive", &rejected, reason(&missing)),
            ),
            (
                3,
                CAPABILITY,
                changed("inactive", &missing, reason(&rejected)),
            ),
            (
                3,
                CAPABILITY,
                changed("inactive", &rejected, reason(&missing)),
            ),
            (3, REPEAT, json!({})),
        ],
        &[("accounts|low", 1)],
        &[("capability_disabled", 3)],
    );
}

#[test]
fn an_account_is_closed_in_any_order() {
    const CLOSED: &str = "v2.core.account.closed";
    account("loses its charges, is removed and closed", true).check(
        &[
            (0, UPDATED, json!({"details_submitted": true})),
            (1, CAPABILITY, capability("card_payments", "pending")),
            (2, UPDATED, json!({"charges_enabled": false})),
            (4, "v2.core.account.updated", json!({})),
            (5, CLOSED, json!({})),
            (5, DEAUTHORIZED, application()),
            (6, CLOSED, json!({})),
        ],
        &[
            ("accounts|closed", 1),
            ("accounts|critical", 0),
            ("accounts_charging", 0),
            ("accounts_stale", 0),
        ],
        &[],
    );
    account("charges until it is closed, removed before", true).check(
        &[
            (0, UPDATED, json!({"details_submitted": true})),
            (1, DEAUTHORIZED, application()),
            (2, AUTHORIZED, application()),
            (3, DEAUTHORIZED, application()),
            (5, CLOSED, json!({})),
            (6, AUTHORIZED, application()),
            (6, REPEAT, json!({})),
        ],
        &[("accounts|closed", 1), ("accounts_charging", 0)],
        &[],
    );
}

#[test]
fn a_balance_waits_in_any_order() {
    const AVAILABLE: &str = "balance.available";
    let balance = |usd: i64, eur: i64| {
        other(&json!({"object": "balance", "available": [
            {"amount": usd, "currency": "usd"}, {"amount": eur, "currency": "eur"}]}))
    };
    account("large, small, large", true).check(
        &[
            (0, UPDATED, json!({"details_submitted": true})),
            (1, AVAILABLE, balance(20_000, 0)),
            (2, UPDATED, json!({"payouts_enabled": false})),
            (3, AVAILABLE, balance(100, 10_000)),
            (4, AVAILABLE, balance(100, 10_001)),
            (4, REPEAT, json!({})),
            (
                5,
                UPDATED,
                json!({"requirements": {"currently_due": ["a"]}}),
            ),
        ],
        &[("accounts|high", 1)],
        &[
            ("balance_blocked", 2),
            ("payouts_blocked", 2),
            ("requirements_due", 5),
        ],
    );
}

#[test]
fn the_first_payment_in_any_order() {
    let payment = |id: &str| other(&json!({"id": id, "object": "charge", "captured": true}));
    account("takes two payments after its charges were enabled", false).check(
        &[
            (0, UPDATED, json!({"details_submitted": true})),
            (2, UPDATED, json!({"charges_enabled": true})),
            (4, "charge.succeeded", payment("ch_1")),
            (5, "charge.succeeded", payment("ch_2")),
            (5, "charge.failed", payment("ch_3")),
            (6, UPDATED, json!({"payouts_enabled": true})),
            (6, REPEAT, json!({})),
        ],
        &[
            ("funnel|first_payment", 1),
            ("funnel|onboarding_completed", 1),
        ],
        &[],
    );
}

#[test]
fn connecting_and_disconnecting_in_any_order() {
    account("connected, removed, connected, removed", true).check(
        &[
            (0, UPDATED, json!({"details_submitted": true})),
            (0, AUTHORIZED, application()),
            (3, DEAUTHORIZED, application()),
            (4, AUTHORIZED, application()),
            (6, UPDATED, json!({"charges_enabled": false})),
            (8, DEAUTHORIZED, application()),
            (8, REPEAT, json!({})),
        ],
        &[("accounts|critical", 1), ("accounts_charging", 0)],
        &[("deauthorized", 8)],
    );
    account("removed and back", true).check(
        &[
            (0, UPDATED, json!({"details_submitted": true})),
            (1, "account.external_account.created", bank()),
            (1, "account.external_account.updated", bank()),
            (1, "account.external_account.deleted", bank()),
            (2, DEAUTHORIZED, application()),
            (3, AUTHORIZED, application()),
            (3, REPEAT, json!({})),
        ],
        &[("accounts|low", 1), ("accounts_charging", 1)],
        &[],
    );
    account("thin events, some of them newer than the last view", true).check(
        &[
            (0, "v2.core.account.created", json!({})),
            (1, "v2.core.account[requirements].updated", json!({})),
            (2, UPDATED, json!({"details_submitted": true})),
            (2, "balance.available", other(&json!({"object": "balance"}))),
            (
                5,
                "v2.core.account[configuration.merchant].capability_status_updated",
                json!({}),
            ),
            (5, "v2.core.account.updated", json!({})),
            (6, "v2.core.account.updated", json!({})),
        ],
        &[("accounts|low", 1), ("accounts_stale", 1)],
        &[("account_stale", 6)],
    );
}
