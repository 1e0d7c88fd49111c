//! Events of the user's own application in a batch.

use revwatch_core::app_event;

use super::*;

/// Whether Stripe is silent is seen in these counters.
#[test]
fn events_of_the_application_are_counted_apart() {
    let body = r#"{"specversion":"1.0","id":"1","source":"/app","type":"ticket.opened","time":"1970-01-01T00:16:40Z",
        "data":{"ticket":"T-1","customer":"cus_1","topic":"billing"}}"#;
    let of_app = Delivery {
        event_id: app_event::key("/app", "1"),
        event_type: "ticket.opened".into(),
        endpoint: "app".into(),
        ..delivery(1, body)
    };
    let decision = decide(&[of_app], &[]);
    assert_eq!(decision.outcomes, [Outcome::Applied]);
    let counters = decision.commit.counters;
    for what in ["created", "received"] {
        let of_app = format!("app_{what}");
        assert_eq!(counters.get(Bucket::Hour(0), &["events", &of_app]), 1);
        assert_eq!(counters.get(Bucket::Hour(0), &["events", what]), 0);
    }
    assert_eq!(counters.get(Bucket::Current, &["events", "applied"]), 1);
    assert_eq!(counters.get(Bucket::Current, &["events", LACKS_MODE]), 0);
    assert_eq!(decision.commit.entities[0].key.kind, EntityKind::Ticket);
}

/// A rebuild has them in one batch, and their dedupe keys tell them apart: it must not come to another state.
#[test]
fn an_id_that_comes_with_two_days_is_two_events_also_in_one_batch() {
    let of = |n: u128, day: u32| {
        let body = format!(
            r#"{{"specversion":"1.0","id":"1","source":"/app","type":"ticket.closed","time":"1970-01-0{day}T00:00:00Z",
            "data":{{"ticket":"T-1"}}}}"#
        );
        Delivery {
            event_id: app_event::key("/app", "1"),
            event_type: "ticket.closed".into(),
            received_ms: 2 * 86_400_000,
            ..delivery(n, &body)
        }
    };
    let decision = decide(&[of(1, 1), of(2, 2), of(3, 2)], &[]);
    let applied = Outcome::Applied;
    assert_eq!(
        decision.outcomes,
        [applied.clone(), applied, Outcome::Duplicate]
    );
}

/// It has one endpoint for the accounts of all realms.
#[test]
fn what_the_application_says_of_an_account_is_of_no_other_realm() {
    let link = r#"{"specversion":"1.0","id":"1","source":"/app","type":"account_link.clicked","time":"1970-01-01T00:00:00Z",
        "data":{"account":"acct_1","user":"u_1"}}"#;
    let of_app = Delivery {
        event_id: app_event::key("/app", "1"),
        event_type: "account_link.clicked".into(),
        ..at("app", delivery(1, link))
    };
    let of_stripe = at("k", delivery(2, FAILED));
    for deliveries in [[of_app.clone(), of_stripe.clone()], [of_stripe, of_app]] {
        let batch = Batch::read(Place::ONLY, &deliveries, &of_two_realms());
        let found = ReadResult {
            dedupe_keys: vec![None; batch.read_set.dedupe_keys.len()],
            entities: vec![None; batch.read_set.entities.len()],
        };
        let decision = batch.decide(&found, NOW_MS).expect("nothing stored");
        assert_eq!(decision.outcomes, [Outcome::Applied, Outcome::Applied]);
        let accounts = |class: &str| {
            let family = format!("{class}accounts");
            decision
                .commit
                .counters
                .get(Bucket::Current, &[&family, "unknown"])
        };
        assert_eq!(["", "kernel/platform:"].map(accounts), [0, 1]);
    }
}

/// It says no mode: a pause of the other mode does not concern it, and one of its own does.
#[test]
fn the_application_is_paused_with_the_mode_of_the_deployment() {
    let body = r#"{"specversion":"1.0","id":"1","source":"/app","type":"ticket.closed","time":"1970-01-01T00:00:00Z",
        "data":{"ticket":"T-1"}}"#;
    let of_app = Delivery {
        event_id: app_event::key("/app", "1"),
        event_type: "ticket.closed".into(),
        ..delivery(1, body)
    };
    let settings = EventSettings::default();
    for mode in [Mode::Live, Mode::Test] {
        let mut pauses = Pauses::default();
        pauses.set(&Scope::Mode(mode), true);
        let of_app = std::slice::from_ref(&of_app);
        let history = PauseHistory::from(pauses);
        let batch = Batch::read_under(&history, Place::ONLY, of_app, &settings);
        let found = ReadResult {
            dedupe_keys: vec![None; batch.read_set.dedupe_keys.len()],
            entities: vec![None; batch.read_set.entities.len()],
        };
        let outcomes = batch.decide(&found, NOW_MS).expect("readable").outcomes;
        let is_paused = matches!(outcomes.as_slice(), [Outcome::Paused(_)]);
        assert_eq!(is_paused, mode == settings.modes.deployment, "{mode}");
    }
}
