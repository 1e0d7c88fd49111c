//! `revwatch send`: posts your own events over HTTP, signed as Stripe signs them.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use reqwest::{Client, StatusCode};
use revwatch_core::signature::SigningKey;
use revwatch_runtime::egress::retry_after;
use serde_json::value::RawValue;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::global_options::GlobalOptions;

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
    /// Maximum events per second; default: as fast as they are answered.
    #[arg(long)]
    rate: Option<f64>,
    /// Concurrent requests. 1 keeps the order of the file.
    #[arg(long, default_value_t = 1)]
    concurrency: usize,
}

/// Runs `send`.
pub async fn run(options: &GlobalOptions, args: &SendArgs) -> anyhow::Result<()> {
    let secret = match &args.secret {
        Some(secret) => secret.clone(),
        None => first_secret(options)?,
    };
    let key = SigningKey::new(&secret).context("the secret is empty: give --secret whsec_…")?;
    let text = read(&args.file)?;
    let events = split(&text).with_context(|| format!("{} is not JSON", args.file))?;
    if args.rate.is_some_and(|rate| rate.is_nan() || rate <= 0.0) {
        bail!("--rate must be more than 0");
    }
    // The endpoint is named on the command line: a proxy of the environment would receive signed events.
    let client = Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(30))
        .build()?;
    let progress = progress_bar(events.len());
    let mut pace = args.rate.map(|rate| {
        let mut pace = interval(Duration::from_secs_f64(1.0 / rate));
        pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
        pace
    });
    let mut counts = PostCounts::default();
    let mut in_flight = JoinSet::new();
    for event in events {
        if let Some(pace) = &mut pace {
            pace.tick().await;
        }
        if in_flight.len() >= args.concurrency.max(1)
            && let Some(done) = in_flight.join_next().await
        {
            counts.record(done??, &progress);
        }
        let (client, key, url, body) = (
            client.clone(),
            key.clone(),
            args.url.clone(),
            event.to_owned(),
        );
        in_flight.spawn(async move { post(&client, &key, &url, body).await });
    }
    while let Some(done) = in_flight.join_next().await {
        counts.record(done??, &progress);
    }
    progress.finish_and_clear();
    let mut out = std::io::stdout().lock();
    if options.json {
        writeln!(
            out,
            "{}",
            serde_json::json!({"accepted": counts.accepted, "refused": counts.refused})
        )?;
    } else {
        writeln!(
            out,
            "{} accepted, {} refused",
            counts.accepted, counts.refused
        )?;
    }
    match counts.first_refusal {
        Some(refusal) => bail!("the first refusal was: {refusal}"),
        None => Ok(()),
    }
}

#[derive(Default)]
struct PostCounts {
    accepted: u64,
    refused: u64,
    first_refusal: Option<String>,
}

impl PostCounts {
    fn record(&mut self, refusal: Option<String>, progress: &ProgressBar) {
        progress.inc(1);
        match refusal {
            None => self.accepted += 1,
            Some(refusal) => {
                self.refused += 1;
                self.first_refusal.get_or_insert(refusal);
            }
        }
    }
}

/// Posts one event. A 503 is retried a few times, as Stripe would. `Some` is the refusal.
pub async fn post(
    client: &Client,
    key: &SigningKey,
    url: &str,
    body: String,
) -> anyhow::Result<Option<String>> {
    const MAX_ATTEMPTS: u32 = 5;
    const DEFAULT_WAIT: Duration = Duration::from_secs(1);
    const MAX_WAIT: Duration = Duration::from_secs(10);
    let mut refusal = String::new();
    for attempt in 0..MAX_ATTEMPTS {
        let signature = key.header(Timestamp::now().as_second(), body.as_bytes());
        let request = client
            .post(url)
            .header("content-type", "application/json; charset=utf-8");
        let response = request
            .header("stripe-signature", signature)
            .body(body.clone())
            .send()
            .await
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

fn read(file: &str) -> anyhow::Result<String> {
    if file == "-" {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .context("cannot read standard input")?;
        return Ok(text);
    }
    std::fs::read_to_string(file).with_context(|| format!("cannot read {file}"))
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

/// Shown only on a terminal, and only for many events.
fn progress_bar(length: usize) -> ProgressBar {
    if length < 50 || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} events, {per_sec}, {eta} left");
    ProgressBar::new(length as u64)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

#[cfg(test)]
mod tests {
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
}
