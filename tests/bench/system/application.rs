//! Events of the user's own application: what its endpoint takes, next to Stripe's in the same minute.

use bytes::Bytes;
use clap::ValueEnum;
use revwatch_core::standard_webhooks::StandardKey;
use serde::{Deserialize, Serialize};

use super::load::Plan;
use super::pipeline::{Bench, Group, Pipeline};
use super::process::Measured;
use super::report::Values;
use super::simulator::{Application, Provider, Ticket};

/// The secret of the application's endpoint.
pub(crate) const SECRET: &str = "whsec_0123456789abcdef0123456789abcdef";

/// What a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub(crate) enum Form {
    /// One of Stripe's events.
    Stripe,
    /// One of the application's, of some 300 bytes.
    One,
    /// The same, as large as Stripe's are.
    Large,
    /// Many of the application's.
    Batch,
}

/// The most events of a batch.
const BATCH: usize = 100;

/// As many as share `limits.in_flight`.
const BATCH_CONNECTIONS: usize = 4;

const LARGE_BYTES: usize = 2_650;

impl Bench<'_> {
    pub(super) fn application(&mut self, pipeline: Pipeline) {
        for (whose, form) in [
            ("Stripe's events", Form::Stripe),
            ("the application's events", Form::One),
            ("the application's events of 2.65 KB", Form::Large),
            ("the application's events, 100 at once", Form::Batch),
        ] {
            let name = format!("ingest of {whose}: {}", pipeline.name());
            self.measure(Group::Application, &name, |bench| {
                bench.ingested_form(pipeline, form)
            });
            self.purge();
        }
        for (whose, form) in [
            ("Stripe's events", Form::Stripe),
            ("the application's events", Form::One),
        ] {
            let name = format!("end to end of {whose}: {}", pipeline.name());
            self.measure(Group::Application, &name, |bench| {
                let folder = tempfile::tempdir().expect("a folder");
                let variables = bench.variables(pipeline, folder.path());
                let (processes, started) = pipeline.start(&variables);
                let plan = Plan {
                    form,
                    ..bench.plan()
                };
                bench.end_to_end_as(&plan, &processes, &started)
            });
        }
    }

    /// An ingest alone. What it has stored must not delay the next one.
    fn ingested_form(&mut self, pipeline: Pipeline, form: Form) -> Values {
        let folder = tempfile::tempdir().expect("a folder");
        let variables = self.variables(pipeline, folder.path());
        let (process, started) = Measured::revwatch(&variables, "ingest");
        let plan = Plan {
            address: started.webhooks,
            form,
            ..self.plan()
        };
        if form != Form::Batch {
            return self.ingested_as(&plan, &process);
        }
        let plan = Plan {
            connections: BATCH_CONNECTIONS,
            most: plan.most / BATCH,
            ..plan
        };
        let of_requests = self.ingested_as(&plan, &process).into_iter();
        let of_events = of_requests.map(|(name, value)| match name {
            "per_s" => (name, value * BATCH as f64),
            "us" | "broker_us" => (name, value / BATCH as f64),
            _ => (name, value),
        });
        of_events.collect()
    }
}

/// So many requests' bodies, of events that no other `seed` has.
pub(crate) fn bodies(form: Form, seed: u64, count: usize, now_s: i64) -> Vec<String> {
    match form {
        Form::Stripe | Form::One => events(seed, count, now_s),
        Form::Large => events(seed, count, now_s)
            .into_iter()
            .map(|body| padded(&body))
            .collect(),
        Form::Batch => events(seed, count * BATCH, now_s)
            .chunks(BATCH)
            .map(|events| format!("[{}]", events.join(",")))
            .collect(),
    }
}

/// One request on a keep-alive connection.
pub(crate) fn request(host: &str, form: Form, body: &str, now_s: i64) -> Bytes {
    let key = StandardKey::new(SECRET).expect("a secret");
    let signature = key.sign("msg_1", now_s, body.as_bytes());
    let path = match form {
        Form::Batch => "/webhooks/app/batch",
        _ => "/webhooks/app",
    };
    let length = body.len();
    Bytes::from(format!(
        "POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\nwebhook-id: msg_1\r\n\
         webhook-timestamp: {now_s}\r\nwebhook-signature: {signature}\r\ncontent-length: {length}\r\n\r\n{body}"
    ))
}

/// Providers that register, make an account and are paid, and whose customers pay fees and open tickets.
fn events(seed: u64, count: usize, now_s: i64) -> Vec<String> {
    let mut application = Application::new(seed, "/benchmark");
    let (mut events, mut number) = (Vec::with_capacity(count), 0);
    while events.len() < count {
        provider(
            &mut application,
            &format!("{seed}_{number}"),
            now_s - 86_400,
        );
        events.extend(application.take(now_s).into_iter().map(|event| event.body));
        number += 1;
    }
    events.truncate(count);
    events
}

fn provider(application: &mut Application, name: &str, at_s: i64) {
    let who = Provider {
        user: format!("user_{name}"),
        country: "BR",
        source: "google_ads",
    };
    let account = format!("acct_1Application{name}");
    let customer = format!("cus_{name}");
    application.registered(at_s, &who);
    application.account_created(at_s + 60, &who, &account);
    application.link_generated(at_s + 61, &who, &account);
    application.link_clicked(at_s + 300, &who, &account);
    application.job_paid(at_s + 3_600, &account, 12_500, "brl");
    let booking = format!("booking_{name}");
    application.booking_fee(at_s + 3_600, &booking, &customer, (250, "usd"));
    let ticket = Ticket {
        id: &format!("T-{name}"),
        customer: &customer,
        topic: "billing",
        steps: 2,
    };
    application.ticket(at_s + 7_200, 60, &ticket);
}

/// With one more field, which revwatch skips.
fn padded(body: &str) -> String {
    let filler = "f".repeat(LARGE_BYTES.saturating_sub(body.len()));
    body.replacen(
        r#""data":{"#,
        &format!(r#""data":{{"not_read":"{filler}","#),
        1,
    )
}
