//! `revwatch send`: posts your own events over HTTP, signed as Stripe signs them. `revwatch app send` does so as an
//! application.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use indicatif::ProgressBar;
use jiff::Timestamp;
use reqwest::{Client, StatusCode};
use revwatch_core::signature::SigningKey;
use revwatch_core::standard_webhooks::{self, StandardKey};
use revwatch_runtime::egress::retry_after;
use serde_json::value::RawValue;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use uuid::Uuid;

use super::global_options::GlobalOptions;
use super::output;
use super::progress_bar;
use super::values::rate;

/// Options of `send`.
#[derive(Debug, Args)]
pub struct SendArgs {
    /// File of events, or - for standard input.
    file: String,
    /// URL to post to. It is not taken from the settings, because revwatch may be behind a proxy.
    #[arg(long, default_value = "http://127.0.0.1:8080/webhooks/stripe")]
    url: String,
    /// Signing secret of that endpoint; default: the first of `STRIPE_WEBHOOK_SECRET`, or of its
    /// file.
    #[arg(long)]
    secret: Option<String>,
    #[command(flatten)]
    pace: Pace,
}

/// How fast events are posted.
#[derive(Debug, Args)]
pub struct Pace {
    /// Maximum events per second; default: as fast as they are answered.
    #[arg(long, value_name = "N", value_parser = rate(100_000.0))]
    pub rate: Option<f64>,
    /// Concurrent requests. 1 keeps the order of the events.
    #[arg(long, default_value_t = 1)]
    pub concurrency: usize,
}

/// Signs as a sender does.
#[derive(Debug, Clone)]
pub enum Signer {
    /// `Stripe-Signature`
    Stripe(SigningKey),
    /// Standard Webhooks.
    App(StandardKey),
}

impl Signer {
    /// The headers of a webhook with this body, signed now.
    fn headers(&self, body: &str) -> Vec<(&'static str, String)> {
        let now_s = Timestamp::now().as_second();
        match self {
            Self::Stripe(key) => vec![("stripe-signature", key.header(now_s, body.as_bytes()))],
            Self::App(key) => {
                let id = format!("msg_{}", Uuid::now_v7().simple());
                let signature = key.sign(&id, now_s, body.as_bytes());
                vec![
                    (standard_webhooks::ID, id),
                    (standard_webhooks::TIMESTAMP, now_s.to_string()),
                    (standard_webhooks::SIGNATURE, signature),
                ]
            }
        }
    }
}

/// From this many events on, a progress bar is shown on a terminal.
const PROGRESS_MIN_EVENTS: usize = 50;

/// Runs `send`.
pub async fn run(options: &GlobalOptions, args: &SendArgs) -> anyhow::Result<()> {
    let secret = match &args.secret {
        Some(secret) => secret.clone(),
        None => first_secret(options)?,
    };
    let key = SigningKey::new(&secret).context("the secret is empty: give --secret whsec_…")?;
    let text = read(&args.file)?;
    let events = events(&args.file, &text)?;
    send(options, Signer::Stripe(key), &args.url, &args.pace, &events).await
}

/// Posts the events, and says how many were accepted.
pub async fn send(
    options: &GlobalOptions,
    signer: Signer,
    url: &str,
    pace: &Pace,
    events: &[&str],
) -> anyhow::Result<()> {
    // The endpoint is named on the command line: a proxy of the environment would receive signed events.
    let client = Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(30))
        .build()?;
    let mut counts = PostCounts::default();
    let result = post_all((url, pace), &client, &signer, events, &mut counts).await;
    // After an error as well: what was accepted before it stays accepted.
    counts.print(options)?;
    result?;
    match counts.first_refusal {
        Some(refusal) => bail!("the first refusal was: {refusal}"),
        None => Ok(()),
    }
}

/// Posts the events at the rate of the options. At an error it waits for the requests in progress, so
/// that they are counted.
async fn post_all(
    (url, pace): (&str, &Pace),
    client: &Client,
    signer: &Signer,
    events: &[&str],
    counts: &mut PostCounts,
) -> anyhow::Result<()> {
    let progress = progress_bar::bar(events.len(), PROGRESS_MIN_EVENTS, "events");
    let mut ticks = pace.rate.map(|rate| {
        let mut ticks = interval(Duration::from_secs_f64(1.0 / rate));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        ticks
    });
    let mut in_flight = JoinSet::new();
    let mut result = Ok(());
    for &event in events {
        if let Some(ticks) = &mut ticks {
            ticks.tick().await;
        }
        if in_flight.len() >= pace.concurrency.max(1)
            && let Some(done) = in_flight.join_next().await
        {
            result = counts.record(done?, &progress);
        }
        if result.is_err() {
            break;
        }
        let (client, signer, url, body) = (
            client.clone(),
            signer.clone(),
            url.to_owned(),
            event.to_owned(),
        );
        in_flight.spawn(async move { post(&client, &signer, &url, body).await });
    }
    while let Some(done) = in_flight.join_next().await {
        result = result.and(counts.record(done?, &progress));
    }
    progress.finish_and_clear();
    result
}

#[derive(Default)]
struct PostCounts {
    accepted: u64,
    refused: u64,
    first_refusal: Option<String>,
}

impl PostCounts {
    fn record(
        &mut self,
        outcome: anyhow::Result<Option<String>>,
        progress: &ProgressBar,
    ) -> anyhow::Result<()> {
        progress.inc(1);
        match outcome? {
            None => self.accepted += 1,
            Some(refusal) => {
                self.refused += 1;
                self.first_refusal.get_or_insert(refusal);
            }
        }
        Ok(())
    }

    fn print(&self, options: &GlobalOptions) -> anyhow::Result<()> {
        let mut out = output::stdout();
        let Self {
            accepted, refused, ..
        } = self;
        if options.json {
            let value = serde_json::json!({"accepted": accepted, "refused": refused});
            writeln!(out, "{value}")?;
        } else {
            writeln!(out, "{accepted} accepted, {refused} refused")?;
        }
        Ok(())
    }
}

/// Posts one event. A 503 is retried a few times, as Stripe would. `Some` is the refusal.
pub async fn post(
    client: &Client,
    signer: &Signer,
    url: &str,
    body: String,
) -> anyhow::Result<Option<String>> {
    const MAX_ATTEMPTS: u32 = 5;
    const DEFAULT_WAIT: Duration = Duration::from_secs(1);
    const MAX_WAIT: Duration = Duration::from_secs(10);
    let mut refusal = String::new();
    for attempt in 0..MAX_ATTEMPTS {
        let request = client
            .post(url)
            .header("content-type", "application/json; charset=utf-8");
        let signed = signer.headers(&body).into_iter();
        let request = signed.fold(request, |request, (name, value)| {
            request.header(name, value)
        });
        let response = request
            .body(body.clone())
            .send()
            .await
            // The message names the address.
            .map_err(reqwest::Error::without_url)
            .with_context(|| {
                format!("cannot post to {url}: does revwatch listen there? (--url)")
            })?;
        let status = response.status();
        if status.is_success() {
            return Ok(None);
        }
        let wait = retry_after(response.headers(), Timestamp::now());
        refusal = format!("{status} {}", response.text().await.unwrap_or_default());
        if status != StatusCode::SERVICE_UNAVAILABLE || attempt + 1 == MAX_ATTEMPTS {
            break;
        }
        tokio::time::sleep(wait.unwrap_or(DEFAULT_WAIT).min(MAX_WAIT)).await;
    }
    Ok(Some(refusal))
}

fn first_secret(options: &GlobalOptions) -> anyhow::Result<String> {
    use revwatch_runtime::config::ExposeSecret as _;
    let config = options.config()?;
    let secrets = config
        .stripe_webhook_secret
        .context("give --secret whsec_… or set STRIPE_WEBHOOK_SECRET")?;
    Ok(secrets
        .expose_secret()
        .split(',')
        .next()
        .unwrap_or_default()
        .to_owned())
}

pub fn read(file: &str) -> anyhow::Result<String> {
    if file == "-" {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .context("cannot read standard input")?;
        return Ok(text);
    }
    std::fs::read_to_string(file).with_context(|| format!("cannot read {file}"))
}

/// The events in the text of FILE; at least one.
pub fn events<'a>(file: &str, text: &'a str) -> anyhow::Result<Vec<&'a str>> {
    let source = match file {
        "-" => "standard input (FILE is -)",
        file => file,
    };
    let events = split(text).with_context(|| {
        format!("{source} is not JSON: FILE holds one event, an array of events, or one per line")
    })?;
    if events.is_empty() {
        bail!("{source} holds no event");
    }
    if events.iter().any(|event| !event.starts_with('{')) {
        bail!("{source} holds something else than events: each is a JSON object");
    }
    Ok(events)
}

/// Splits a file into events without changing a byte: one object, an array, or one after another.
fn split(text: &str) -> Result<Vec<&str>, serde_json::Error> {
    let mut events = Vec::new();
    for value in serde_json::Deserializer::from_str(text).into_iter::<&RawValue>() {
        let raw = value?.get();
        if raw.starts_with('[') {
            let inner: Vec<&RawValue> = serde_json::from_str(raw)?;
            events.extend(inner.into_iter().map(RawValue::get));
        } else {
            events.push(raw);
        }
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use revwatch_test_servers::listen;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[test]
    fn objects_arrays_and_lines_are_split_without_changing_a_byte() {
        let table: [(&str, &[&str]); 4] = [
            ("{\"a\": 1}", &["{\"a\": 1}"]),
            ("[{\"a\":1 }, {\"b\":2}]", &["{\"a\":1 }", "{\"b\":2}"]),
            ("{\"a\":1}\n{\"b\":2}\n", &["{\"a\":1}", "{\"b\":2}"]),
            ("", &[]),
        ];
        for (text, expected) in table {
            assert_eq!(split(text).expect("JSON"), expected, "{text}");
        }
        assert!(split("{").is_err());
    }

    #[test]
    fn a_file_without_events_is_refused_by_its_name() {
        let table = [
            ("-", "", "standard input (FILE is -) holds no event"),
            ("a.json", " \n", "a.json holds no event"),
            ("a.json", "[]", "a.json holds no event"),
            ("a.json", "{}\n7", "a.json holds something else than events"),
            ("-", "hello", "standard input (FILE is -) is not JSON"),
        ];
        for (file, text, expected) in table {
            let error = events(file, text).expect_err("refused").to_string();
            assert!(error.starts_with(expected), "{error}");
        }
        assert_eq!(events("-", "[{}]").expect("events"), ["{}"]);
    }

    #[tokio::test]
    async fn events_accepted_before_an_error_are_counted() {
        let (listener, addr) = listen().await;
        // It answers one request and then closes its port.
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            drop(listener);
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n{}") {
                request.push(stream.read_u8().await.expect("a request"));
            }
            let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            stream.write_all(answer.as_bytes()).await.expect("answered");
        });
        let pace = Pace {
            rate: None,
            concurrency: 1,
        };
        let url = format!("http://{addr}/");
        let signer = Signer::Stripe(SigningKey::new("whsec_1").expect("a key"));
        let mut counts = PostCounts::default();
        let events = ["{}", "{}", "{}"];
        let result = post_all((&url, &pace), &Client::new(), &signer, &events, &mut counts).await;
        assert!(result.is_err());
        assert_eq!((counts.accepted, counts.refused), (1, 0));
        server.await.expect("no panic");
    }
}
