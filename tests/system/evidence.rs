//! The evidence of a review (R9): the contents of its folder, the absence of names, and the audit
//! entry.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::Deployment;
use crate::support::revwatch::{Revwatch, Variables, cli, metrics, post, print};
use crate::support::wait::until;

/// Everything that could identify a person.
const TELLTALES: [&str; 8] = [
    "acct_",
    "cus_",
    "sub_",
    "po_",
    "evt_",
    "maria",
    "ana santos",
    "@",
];

/// An event of Maria's account, or about her own subscription, with her name and address in every field that can hold text.
fn event(n: usize, kind: &str, object: &Value) -> String {
    let account = (!kind.starts_with("customer.")).then_some("acct_maria");
    json!({
        "id": format!("evt_maria{n}"), "object": "event", "api_version": "2025-03-31.basil", "type": kind,
        "created": jiff::Timestamp::now().as_second() - 600 + i64::try_from(n).expect("few"), "account": account,
        "livemode": true, "data": {"object": object},
    })
    .to_string()
}

fn events() -> Vec<String> {
    let account = |charges: bool| {
        json!({"id": "acct_maria", "object": "account", "country": "PT", "charges_enabled": charges,
            "payouts_enabled": true, "details_submitted": true, "email": "maria@maria.example",
            "business_profile": {"name": "Maria Lda"}, "requirements": {"currently_due": [], "past_due": []}})
    };
    let price = json!({"id": "price_1", "currency": "eur", "unit_amount": 900, "recurring": {"interval": "month", "interval_count": 1}});
    vec![
        event(1, "account.updated", &account(true)),
        event(2, "account.updated", &account(false)),
        event(
            3,
            "customer.subscription.created",
            &json!({"id": "sub_maria", "object": "subscription", "customer": "cus_maria", "status": "past_due",
                "currency": "eur", "items": {"data": [{"price": price, "quantity": 1}]}}),
        ),
        event(
            4,
            "payout.failed",
            &json!({"id": "po_maria", "object": "payout", "status": "failed", "amount": 15_000, "currency": "eur",
                "failure_code": "account_closed", "failure_message": "The account of Maria is closed"}),
        ),
    ]
}

/// Two rules, neither of which inhibits the other.
fn rules() -> tempfile::NamedTempFile {
    let rule = |name: &str, condition: &str| {
        format!(
            "[[rule]]\nname = \"{name}\"\nkind = \"condition\"\ncondition = \"{condition}\"\nseverity = \"critical\"\n\
             route = \"alerts-critical\"\ntitle = \"t\"\nactions = [\"Check it.\"]\n\n"
        )
    };
    let file = tempfile::Builder::new()
        .suffix(".toml")
        .tempfile()
        .expect("a file");
    let text =
        rule("provider_lost_charges", "charges_lost") + &rule("payout_failed", "payout_failed");
    fs::write(file.path(), text).expect("written");
    file
}

fn read(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// The rows after the header, split at commas (no value here contains one).
fn column(csv: &str, name: &str) -> Vec<String> {
    let mut lines = csv.lines();
    let at = lines
        .next()
        .expect("a header")
        .split(',')
        .position(|found| found == name)
        .expect("a column");
    lines
        .map(|line| line.split(',').nth(at).expect("a value").to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_review_leaves_evidence_without_names_embedded() {
    a_review_leaves_evidence_without_names(&Deployment::embedded()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_review_leaves_evidence_without_names_on_servers() {
    a_review_leaves_evidence_without_names(&Deployment::servers().await).await;
}

async fn a_review_leaves_evidence_without_names(deployment: &Deployment) {
    let rules = rules();
    let variables =
        deployment.variables(&[("REVWATCH_RULES", &rules.path().display().to_string())]);
    let process = Revwatch::serve(&variables, "ingest,worker,alerting");
    let client = reqwest::Client::new();
    for body in events() {
        assert_eq!(
            post(&client, &process.url("/webhooks/stripe"), &body)
                .await
                .expect("answered"),
            200
        );
    }
    let list = || -> Vec<Value> {
        serde_json::from_str(&print(&variables, &["alerts", "list", "--json"])).expect("JSON")
    };
    let alerts = until("both have fired", || async {
        Some(list()).filter(|found| found.len() == 2)
    })
    .await;
    let lost = alerts
        .iter()
        .find(|a| a["rule"] == "provider_lost_charges")
        .and_then(|a| a["id"].as_str());
    print(
        &variables,
        &[
            "alerts",
            "ack",
            lost.expect("fired"),
            "--by",
            "Ana Santos",
            "--wait",
            "30",
        ],
    );
    print(
        &variables,
        &["export", "subscriptions", "--by", "Ana Santos"],
    );
    // The evaluator writes the audit entry after it has carried out the command.
    until("the acknowledgement is in the audit", || async {
        print(&variables, &["audit"])
            .contains("alert acknowledged")
            .then_some(())
    })
    .await;
    process.stop();
    assert_eq!(metrics(&variables)["subscriptions"]["past_due"], 1);

    let out = tempfile::tempdir().expect("a folder");
    let reviews = out.path().join("reviews");
    let write = |variables: &Variables, more: &[&str]| -> Value {
        let folder = reviews.display().to_string();
        let args = [
            &["evidence", "--out", &folder, "--by", "Ana Santos", "--json"],
            more,
        ]
        .concat();
        serde_json::from_str(&print(variables, &args)).expect("JSON")
    };
    let printed = write(&variables, &["--since", "1d"]);
    let first = Path::new(printed["folder"].as_str().expect("a path")).to_owned();
    let day = jiff::Timestamp::now().to_string()[..10].to_owned();
    assert!(
        first.ends_with(&day)
            || !printed["manifest"]["made_at"]
                .as_str()
                .expect("a time")
                .starts_with(&day),
        "{printed}"
    );

    let cases = read(&first, "critical-cases.csv");
    assert_eq!(
        column(&cases, "rule")
            .into_iter()
            .collect::<BTreeSet<_>>()
            .len(),
        2,
        "{cases}"
    );
    assert!(
        column(&cases, "money").contains(&"EUR 150.00".to_owned()),
        "{cases}"
    );
    let accounts = column(&cases, "account");
    assert!(
        accounts[0].starts_with("account-") && accounts[0] == accounts[1],
        "one account, one name: {cases}"
    );
    let subjects = column(&cases, "subject");
    assert!(
        subjects.contains(&accounts[0]),
        "also where it is the subject: {cases}"
    );
    let acknowledged_by: Vec<_> = column(&cases, "acknowledged_by")
        .into_iter()
        .filter(|by| !by.is_empty())
        .collect();
    assert!(
        matches!(&acknowledged_by[..], [by] if by.starts_with("person-")),
        "{cases}"
    );
    assert!(
        column(&cases, "response").contains(&"within".to_owned()),
        "{cases}"
    );
    for file in ["critical-cases.csv", "scorecard.csv", "scorecard.md"] {
        let text = read(&first, file).to_lowercase();
        let ids = alerts.iter().filter_map(|alert| alert["id"].as_str());
        assert_eq!(
            TELLTALES
                .into_iter()
                .chain(ids)
                .find(|word| text.contains(word)),
            None,
            "{file}: {text}"
        );
    }

    let snapshot = read(&first, "subscriptions.csv");
    assert_eq!(snapshot, print(&variables, &["export", "subscriptions"]));
    assert!(
        snapshot.contains("sub_maria,cus_maria,,past_due,"),
        "{snapshot}"
    );
    let scorecard = read(&first, "scorecard.csv");
    let value_of = |name: &str| {
        scorecard
            .lines()
            .find(|line| line.starts_with(&format!("{name},")))
            .expect("a value")
    };
    assert!(
        value_of("past_due_share").starts_with("past_due_share,1.0000,share,"),
        "{scorecard}"
    );
    assert!(
        value_of("first_answer_to_tickets_mean").contains(",not known,"),
        "{scorecard}"
    );
    assert!(
        value_of("critical_alerts").starts_with("critical_alerts,2,count,"),
        "{scorecard}"
    );
    let log = read(&first, "decision-log.csv");
    for act in ["alert acknowledged", "export", "evidence"] {
        assert!(
            log.lines()
                .any(|line| line.contains(&format!("Ana Santos,{act},"))),
            "{act}: {log}"
        );
    }
    let manifest: Value = serde_json::from_str(&read(&first, "manifest.json")).expect("JSON");
    assert_eq!(
        (&manifest, &manifest["revwatch"]),
        (&printed["manifest"], &env!("CARGO_PKG_VERSION").into())
    );
    let listed: BTreeSet<String> = manifest["files"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|file| {
            let name = file["name"].as_str().expect("a name");
            let digest: String = Sha256::digest(read(&first, name))
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            assert_eq!(file["sha256"], digest.as_str(), "{name}");
            name.to_owned()
        })
        .collect();
    let mut files: BTreeSet<String> = fs::read_dir(&first)
        .expect("the folder")
        .map(|entry| {
            entry
                .expect("readable")
                .file_name()
                .into_string()
                .expect("text")
        })
        .collect();
    assert!(files.remove("manifest.json"));
    assert_eq!(listed, files);

    // A second review has its own folder with other pseudonyms, and no names in its log either.
    let again = write(&variables, &["--pseudonyms"]);
    let second = Path::new(again["folder"].as_str().expect("a path")).to_owned();
    let name = second
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned();
    assert!(
        name == format!("{day}-2") || !first.ends_with(&day),
        "{name}"
    );
    assert_eq!(
        read(&first, "critical-cases.csv"),
        cases,
        "the first is as it was"
    );
    assert_ne!(
        column(&read(&second, "critical-cases.csv"), "account")[0],
        accounts[0]
    );
    let log = read(&second, "decision-log.csv").to_lowercase();
    assert!(log.contains(",export,") && log.contains("person-"), "{log}");
    assert_eq!(
        TELLTALES.iter().find(|word| log.contains(**word)),
        None,
        "{log}"
    );

    let audit: Value = serde_json::from_str(&print(
        &variables,
        &["audit", "--who", "Ana Santos", "--json"],
    ))
    .expect("JSON");
    let acts: Vec<_> = audit
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|act| act["what"].as_str())
        .collect();
    assert_eq!(
        acts,
        ["alert acknowledged", "export", "evidence", "evidence"]
    );
    assert_eq!(audit[1]["detail"], "subscriptions");
    assert!(
        !cli(&variables, &["evidence", "--since", "soon"])
            .status
            .success()
    );
}
