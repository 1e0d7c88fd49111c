//! Events that no webhook delivered are read from Stripe's API and applied like webhooks.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;

use serde_json::{Value, json};

use super::Deployment;
use super::crash::{load, same_exports};
use crate::support::history::History;
use crate::support::revwatch::{Revwatch, Variables, begin, cli, metrics, print};
use crate::support::stripe::{Fault, ListCall, Stripe, account};
use crate::support::wait::{until, until_blocking};

const KEY: &str = "sk_live_never_shown";

fn asking(deployment: &Deployment, stripe: &Stripe, key: &str) -> Variables {
    deployment.variables(&[
        ("STRIPE_SECRET_KEY", key),
        ("STRIPE_API_BASE", &stripe.url()),
    ])
}

fn now_s() -> i64 {
    jiff::Timestamp::now().as_second()
}

fn backfilled(variables: &Variables, args: &[&str]) -> Value {
    let args: Vec<&str> = ["backfill", "--rate", "100", "--json"]
        .iter()
        .chain(args)
        .copied()
        .collect();
    serde_json::from_str(&print(variables, &args)).expect("JSON")
}

fn refused(variables: &Variables, args: &[&str]) -> String {
    let output = cli(variables, args);
    assert!(!output.status.success(), "{args:?}");
    let text = String::from_utf8(output.stderr).expect("text");
    assert!(!text.contains(KEY), "{text}");
    text
}

fn account_of(event: &str) -> Option<String> {
    let event: Value = serde_json::from_str(event).expect("JSON");
    event["account"].as_str().map(str::to_owned)
}

fn accounts_of(events: &[String]) -> BTreeSet<String> {
    events
        .iter()
        .filter_map(|event| account_of(event))
        .collect()
}

fn payout(n: usize, created_s: i64, account: Option<&str>) -> String {
    let mut event = json!({
        "id": format!("evt_{n}"), "object": "event", "api_version": "2025-03-31.basil", "type": "payout.paid",
        "created": created_s, "livemode": true, "data": {"object": {
            "id": format!("po_{n}"), "object": "payout", "status": "paid", "amount": 100, "currency": "eur"}},
    });
    if let Some(account) = account {
        event["account"] = account.into();
    }
    event.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_in_deliveries_is_filled_embedded() {
    a_gap_in_deliveries_is_filled(&Deployment::embedded()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_in_deliveries_is_filled_on_servers() {
    a_gap_in_deliveries_is_filled(&Deployment::servers().await).await;
}

/// Half of the events arrive by webhook; then a backfill reads all of them while revwatch serves.
async fn a_gap_in_deliveries_is_filled(deployment: &Deployment) {
    let history = History::new(41, 60, now_s());
    let stripe = Stripe::start(&[]).await;
    stripe.add_events(&history.events, KEY);
    let variables = asking(deployment, &stripe, KEY);
    // Every second event, and one of each account, so that revwatch knows the accounts to read. Two
    // accounts are known to Stripe only.
    let new: Vec<String> = accounts_of(&history.events).into_iter().take(2).collect();
    new.iter()
        .for_each(|id| stripe.set_account(account(id, true)));
    let mut known = HashSet::new();
    let by_webhook: Vec<String> = history
        .events
        .iter()
        .enumerate()
        .filter(|(_, event)| account_of(event).is_none_or(|id| !new.contains(&id)))
        .filter(|(n, event)| account_of(event).is_some_and(|id| known.insert(id)) || n % 2 == 0)
        .map(|(_, event)| event.clone())
        .collect();
    let process = Revwatch::serve(&variables, "ingest,worker");
    load(&process, &by_webhook, by_webhook.len()).await;
    let applied = |shown: &Value| shown["events_applied"].as_u64().unwrap_or(0);
    until("half is applied", || async {
        (applied(&metrics(&variables)) == by_webhook.len() as u64).then_some(())
    })
    .await;

    let all = history.events.len() as u64;
    let printed = backfilled(
        &variables,
        &["--since", "1d", "--all-accounts", "--by", "ada"],
    );
    assert_eq!(
        (&printed["read"], &printed["published"], &printed["resumed"]),
        (&all.into(), &all.into(), &false.into())
    );
    assert_eq!(
        printed["accounts"].as_array().expect("a list").len(),
        1 + accounts_of(&history.events).len(),
        "{printed}"
    );
    until("all is applied", || async {
        let shown = metrics(&variables);
        let duplicates = shown["events_duplicate"].as_u64();
        (applied(&shown) == all && duplicates == Some(by_webhook.len() as u64)).then_some(())
    })
    .await;
    // A second run reads the same events, which count as duplicates.
    let again = backfilled(
        &variables,
        &["--since", "1d", "--all-accounts", "--restart"],
    );
    assert_eq!(again["read"], printed["read"]);
    until("they are processed", || async {
        let shown: Value =
            serde_json::from_str(&print(&variables, &["pause", "--show", "--json"])).expect("JSON");
        (shown["waiting"] == 0).then_some(())
    })
    .await;
    process.stop();
    let shown = metrics(&variables);
    assert_eq!((applied(&shown), &shown["events_dead"]), (all, &0.into()));
    history.expected.assert_shown(&shown);
    assert!(cli(&variables, &["verify"]).status.success());
    same_exports(&variables, &history.events).await;
    let audit = print(&variables, &["audit", "--who", "ada", "--what", "backfill"]);
    assert!(audit.contains(&format!("done: {all} read")), "{audit}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_backfill_continues_embedded() {
    killed_backfill_continues(&Deployment::embedded()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_backfill_continues_on_servers() {
    killed_backfill_continues(&Deployment::servers().await).await;
}

/// Killed repeatedly while it publishes: the same command finishes, and no event is missing.
async fn killed_backfill_continues(deployment: &Deployment) {
    let history = History::new(42, 120, now_s());
    let (own, connected): (Vec<_>, Vec<_>) = history
        .events
        .iter()
        .cloned()
        .partition(|e| account_of(e).is_none());
    assert!(own.len() > 500, "many pages: {}", own.len());
    let stripe = Stripe::start(&[]).await;
    stripe.add_events(&own, KEY);
    // Progress is kept in this folder, wherever the events are stored.
    let folder = tempfile::tempdir().expect("a folder");
    let data = match deployment {
        Deployment::Embedded(folder) => folder.path().to_owned(),
        Deployment::Servers(_) => folder.path().join("not/there/yet"),
    };
    let mut variables = asking(deployment, &stripe, KEY);
    variables.retain(|(name, _)| name != "REVWATCH_DATA");
    variables.push(("REVWATCH_DATA".into(), data.display().to_string()));
    let args = ["backfill", "--since", "1d", "--rate", "100"];
    let (mut kills, mut progress) = (0, progress_in(&data));
    loop {
        let mut process = begin(&variables, &args);
        // When the progress file changes, one page is done and the next has started.
        let ended = tokio::task::block_in_place(|| {
            until_blocking("it continues or finishes", || {
                match process.try_wait().expect("a child") {
                    Some(status) => Some(Some(status)),
                    // No file means that the backfill has finished.
                    None => Some(progress_in(&data))
                        .filter(|now| !now.is_empty() && *now != progress)
                        .map(|_| None),
                }
            })
        });
        if let Some(status) = ended {
            assert!(status.success(), "{status}");
            break;
        }
        process.kill().expect("killed");
        process.wait().expect("ended");
        progress = progress_in(&data);
        kills += 1;
        if progress.is_empty() {
            // The backfill finished before the signal arrived.
            break;
        }
        assert!(kills < 50, "each run makes progress");
    }
    assert!(kills >= 3, "{kills} kills");
    let from_the_top = stripe
        .lists()
        .iter()
        .filter(|call| call.after.is_none())
        .count();
    assert_eq!(
        from_the_top,
        1,
        "each continues where the previous one stopped: {:?}",
        stripe.lists()
    );
    let kept = std::fs::read_dir(data)
        .expect("created")
        .map(|entry| entry.expect("readable").file_name());
    let kept: Vec<_> = kept
        .filter(|name| name.to_string_lossy().starts_with("backfill"))
        .collect();
    assert!(
        kept.is_empty(),
        "finished progress files are removed: {kept:?}"
    );
    let process = Revwatch::serve(&variables, "ingest,worker");
    load(&process, &connected, connected.len()).await;
    let all = history.events.len();
    until("all is applied", || async {
        (metrics(&variables)["events_applied"] == all).then_some(())
    })
    .await;
    process.stop();
    history.expected.assert_shown(&metrics(&variables));
    same_exports(&variables, &history.events).await;
}

/// The progress files of backfills that have stored a page.
fn progress_in(folder: &Path) -> Vec<String> {
    let files = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    let progress = files.filter(|path| path.extension().is_some_and(|end| end == "json"));
    // A file may be replaced at this moment.
    progress
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .filter(|text| has_stored_a_page(text))
        .collect()
}

fn has_stored_a_page(progress: &str) -> bool {
    let progress: Value = serde_json::from_str(progress).expect("replaced as a whole");
    let mut listings = progress["listings"].as_array().expect("listings").iter();
    listings.any(|listing| listing["pages"] != 0)
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_time_ranges_accounts_and_api_errors_are_handled() {
    let at_s = now_s() - 5000;
    let mut events: Vec<String> = (0..350)
        .map(|n| payout(n, at_s + 3 * n as i64, None))
        .collect();
    events.extend((350..460).map(|n| payout(n, at_s + n as i64, Some("acct_1"))));
    events.push(payout(460, at_s, Some("acct_2")));
    let faults = [Fault::TooMany, Fault::Status(500), Fault::Closed];
    let stripe = Stripe::start(&faults).await;
    stripe.add_events(&events, KEY);
    let deployment = Deployment::embedded();
    let variables = asking(&deployment, &stripe, KEY);

    // From the 10th event to before the 340th.
    let iso = |s: i64| jiff::Timestamp::from_second(s).expect("a time").to_string();
    let (since, until_) = (iso(at_s + 30), iso(at_s + 3 * 340));
    let printed = backfilled(&variables, &["--since", &since, "--until", &until_]);
    assert_eq!(
        (&printed["read"], &printed["pages"], &printed["oldest"]),
        (&330.into(), &4.into(), &since.clone().into())
    );
    let call = |after: Option<usize>, status| {
        let after = after.map(|n| format!("evt_{n}"));
        ListCall {
            account: None,
            after,
            status,
        }
    };
    let expected = [
        call(None, 429),
        call(None, 500),
        call(None, 0),
        call(None, 200),
        call(Some(240), 200),
        call(Some(140), 200),
        call(Some(40), 200),
    ];
    assert_eq!(stripe.lists(), expected);

    let printed = backfilled(
        &variables,
        &[
            "--since",
            "1d",
            "--account",
            "acct_1",
            "--account",
            "acct_1",
        ],
    );
    assert_eq!(
        (
            &printed["read"],
            printed["accounts"].as_array().map(Vec::len)
        ),
        (&110.into(), Some(1)),
        "{printed}"
    );
    let process = Revwatch::serve(&variables, "worker");
    until("both are applied", || async {
        (metrics(&variables)["events_applied"] == 330 + 110).then_some(())
    })
    .await;
    process.stop();
    assert!(
        !print(&variables, &["export", "payouts"]).contains("po_460"),
        "the other account was not requested"
    );
    let payouts = print(&variables, &["export", "payouts"]);
    assert!(
        payouts.contains("po_350,acct_1,paid") && payouts.contains("po_10,,paid"),
        "{payouts}"
    );
    assert!(
        !payouts.contains("po_9,") && !payouts.contains("po_340,"),
        "{payouts}"
    );

    // An account that Stripe refuses is reported, and the others are read.
    let args = [
        "backfill",
        "--since",
        "1d",
        "--account",
        "acct_9",
        "--account",
        "acct_2",
    ];
    let output = cli(&variables, &args);
    assert!(!output.status.success());
    let (out, error) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        out.contains("1 events read") && error.contains("acct_9") && error.contains("403"),
        "{out} {error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_read_if_progress_cannot_be_saved() {
    let stripe = Stripe::start(&[]).await;
    stripe.add_events(&[payout(1, now_s(), None)], KEY);
    let deployment = Deployment::embedded();
    let variables = asking(&deployment, &stripe, KEY);
    // Stripe refuses this account, so the run ends before its first page. It leaves its file.
    let args = ["backfill", "--since", "1d", "--account", "acct_9"];
    refused(&variables, &args);
    let Deployment::Embedded(folder) = &deployment else {
        unreachable!("it is embedded")
    };
    let files = std::fs::read_dir(folder.path()).expect("a folder");
    let mut paths = files.map(|entry| entry.expect("readable").path());
    let file = paths
        .find(|path| path.extension().is_some_and(|end| end == "json"))
        .expect("a progress file");
    // A folder where the new file is written: unlike a read-only folder it also stops root.
    std::fs::create_dir(file.with_extension("json.new")).expect("created");
    let before = stripe.lists().len();
    let printed = refused(&variables, &args);
    assert!(printed.contains("cannot write"), "{printed}");
    assert!(!printed.contains("resumed"), "{printed}");
    assert_eq!(stripe.lists().len(), before, "nothing was read");
}

#[tokio::test(flavor = "multi_thread")]
async fn impossible_backfills_are_refused_with_a_reason() {
    let stripe = Stripe::start(&[]).await;
    stripe.add_events(&[payout(1, now_s(), None)], KEY);
    let deployment = Deployment::embedded();
    let keyless = deployment.variables(&[]);
    assert!(refused(&keyless, &["backfill", "--since", "1d"]).contains("STRIPE_SECRET_KEY"));
    let of_test = asking(&deployment, &stripe, "rk_test_never_read");
    let printed = refused(&of_test, &["backfill", "--since", "1d"]);
    assert!(
        printed.contains("STRIPE_SECRET_KEY")
            && printed.contains("REVWATCH_MODE=test")
            && !printed.contains("never_read"),
        "{printed}"
    );
    assert!(stripe.lists().is_empty(), "its events would be ignored");
    let wrong = asking(&deployment, &stripe, "sk_live_another");
    let printed = refused(&wrong, &["backfill", "--since", "1d"]);
    assert!(
        printed.contains("401")
            && printed.contains("STRIPE_SECRET_KEY")
            && !printed.contains("sk_live_another"),
        "{printed}"
    );
    assert_eq!(stripe.lists().len(), 1, "a wrong key is not tried again");
    let variables = asking(&deployment, &stripe, KEY);
    for (args, expected) in [
        (&["--since", "40d"][..], "30 days"),
        (&["--since", "soon"], "--since"),
        (&["--since", "1d", "--rate", "0"], "--rate"),
        (&["--since", "1d", "--account", "cus_1"], "acct_"),
        (&["--since", "1d", "--account", "acct_9"], "platform"),
    ] {
        let args: Vec<&str> = ["backfill"].iter().chain(args).copied().collect();
        let printed = refused(&variables, &args);
        assert!(printed.contains(expected), "{args:?}: {printed}");
    }
}
