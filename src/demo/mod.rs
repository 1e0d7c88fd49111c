//! `revwatch demo`: runs every role on a temporary store. A simulated marketplace and software
//! business posts signed webhooks to it over HTTP, and so does its own application, so that alerts fire and resolve
//! without any setup.
//!
//! Everything inside is real: this is `serve` with another notifier. The demo reads nothing of the
//! user's environment and settings, and makes no requests to anything but itself.

mod director;
mod notifier;
mod poster;
mod scenario;
mod screen;
pub mod simulator;
mod summary;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use clap::builder::FalseyValueParser;
use revwatch_alerting::notify::Notifier;
use revwatch_runtime::backend::Backend;
use revwatch_runtime::config::Config;
use revwatch_runtime::process::{Start, shutdown_on_signals};
use revwatch_runtime::telemetry::init_logs_or;
use revwatch_storage::private;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use self::director::Director;
use self::notifier::{DemoNotifier, SentAlert};
use self::poster::{Poster, Secrets};
use self::scenario::Scenario;
use self::screen::Screen;
use self::simulator::{Delivery, Simulator};
use crate::serve::{Addresses, Role, serve};

/// Options of `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// It lasts up to about this long.
    #[arg(long, default_value_t = 45, value_parser = clap::value_parser!(u32).range(10..=3600))]
    seconds: u32,
    /// Normal business in addition to the incidents, in events per second.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=500))]
    rate: u32,
    /// The same seed simulates the same business; default: random.
    #[arg(long)]
    seed: Option<u64>,
    /// Keep the store in this folder for inspection; it must be empty or new.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// No colors.
    #[arg(long, env = "NO_COLOR", hide_env = true, value_parser = FalseyValueParser::new())]
    no_color: bool,
}

/// Runs `demo`.
pub async fn run(args: DemoArgs) -> anyhow::Result<()> {
    // The deliveries are out of order on purpose: warnings about that would hide the demo's output.
    init_logs_or(None, "error");
    let shutdown = shutdown_on_signals();
    let folder = Folder::new(args.keep.as_deref())?;
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(1..1_000_000_000));
    // 32 hexadecimal digits are 24 bytes in base64, as an application's secret must be.
    let secret = || format!("whsec_{}", Uuid::now_v7().simple());
    let secrets = Secrets {
        stripe: secret(),
        application: secret(),
    };
    let config = config(&secrets, folder.path())?;
    let (notifier, alerts) = DemoNotifier::new();
    let (started, addresses) = oneshot::channel();
    let notifiers: Vec<Arc<dyn Notifier>> = vec![Arc::new(notifier)];
    let mut serving = tokio::spawn(serve(
        Start::fixed(config.clone(), shutdown.clone()),
        &Role::ALL,
        move |alerting| {
            alerting.notifiers = notifiers;
            // The demo shows these rules; other alerts would hide them.
            alerting
                .rules
                .retain(|rule| scenario::RULES.contains(&rule.name.as_str()));
        },
        started,
    ));
    let demo = async {
        let addresses = addresses.await.context("revwatch did not start")?;
        let demo = Demo {
            args: &args,
            seed,
            secrets: &secrets,
            config: &config,
        };
        demo.run_scenario(addresses, alerts).await
    };
    let outcome = tokio::select! {
        biased;
        ended = &mut serving => {
            ended??;
            // The server stops only on request.
            bail!("interrupted");
        }
        () = shutdown.cancelled() => Err(anyhow::anyhow!("interrupted")),
        outcome = demo => outcome,
    };
    shutdown.cancel();
    // An orderly shutdown, with a limit on how long the user waits.
    let _ = tokio::time::timeout(Duration::from_secs(5), serving).await;
    outcome
}

struct Demo<'a> {
    args: &'a DemoArgs,
    seed: u64,
    secrets: &'a Secrets,
    config: &'a Config,
}

impl Demo<'_> {
    async fn run_scenario(
        &self,
        at: Addresses,
        alerts: mpsc::UnboundedReceiver<SentAlert>,
    ) -> anyhow::Result<()> {
        let webhooks = at.webhooks.context("the webhook listener did not start")?;
        let screen = Screen::new(self.args.no_color);
        screen.print_line(&format!(
            "revwatch demo: up to about {} seconds, seed {} (repeat: revwatch demo --seed {}).\n\
             Webhooks go to http://{webhooks}/webhooks/stripe, metrics are at http://{}/metrics.\n\
             The business has an application, whose own events go to http://{webhooks}/webhooks/app.",
            self.args.seconds, self.seed, self.seed, at.admin
        ))?;
        let director = Director {
            poster: Poster::start(webhooks, self.secrets)?,
            store: Backend::store(self.config).await?,
            alerts,
            simulator: Simulator::new(self.seed),
            delivery: Delivery::new(self.seed),
            scenario: Scenario::new(f64::from(self.args.seconds)),
            rate: self.args.rate,
            events: 0,
            recovering: None,
            screen,
        };
        director.run().await?;
        let mut last = "\nAll three alerts fired and resolved.".to_owned();
        if let Some(folder) = &self.args.keep {
            let folder = folder.display();
            last.push_str(&format!(
                "\nInspect the store:     REVWATCH_DATA={folder} revwatch metrics"
            ));
            for kind in ["subscriptions", "tickets"] {
                last.push_str(&format!(
                    "\n                       REVWATCH_DATA={folder} revwatch export {kind}"
                ));
            }
        }
        last.push_str("\nRun it yourself:       STRIPE_WEBHOOK_SECRET=whsec_… SLACK_WEBHOOK_URL=https://… revwatch");
        use std::io::Write as _;
        Ok(writeln!(std::io::stdout().lock(), "{last}")?)
    }
}

/// The folder of the store; a temporary one is deleted on drop.
enum Folder {
    Kept(PathBuf),
    Temporary(tempfile::TempDir),
}

impl Folder {
    fn new(keep: Option<&Path>) -> anyhow::Result<Self> {
        let Some(keep) = keep else {
            return Ok(Self::Temporary(
                tempfile::tempdir().context("cannot create a temporary folder")?,
            ));
        };
        // The demo must never write into a store in use.
        if std::fs::read_dir(keep).is_ok_and(|mut entries| entries.next().is_some()) {
            bail!(
                "{} is not empty: give --keep an empty or new folder",
                keep.display()
            );
        }
        private::make_folder(keep)
            .with_context(|| format!("cannot create the folder {}", keep.display()))?;
        Ok(Self::Kept(keep.to_owned()))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary(folder) => folder.path(),
        }
    }
}

/// The defaults, on free ports. The user's environment is ignored: a demo must not reach the Slack
/// or Redis configured there.
fn config(secrets: &Secrets, data: &Path) -> anyhow::Result<Config> {
    let data = data.to_str().context("the folder's name is not UTF-8")?;
    let lookup = |name: &str| match name {
        "STRIPE_WEBHOOK_SECRET" => Some(secrets.stripe.clone()),
        "REVWATCH_APP_WEBHOOK_SECRET" => Some(secrets.application.clone()),
        "REVWATCH_LISTEN" | "REVWATCH_ADMIN_LISTEN" => Some("127.0.0.1:0".to_owned()),
        "REVWATCH_DATA" => Some(data.to_owned()),
        // All of the simulated business is news.
        "REVWATCH_BEGAN" => Some("1970-01-01T00:00:00Z".to_owned()),
        _ => None,
    };
    Ok(Config::load(None, &lookup)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_in_use_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(Folder::new(Some(folder.path())).is_ok());
        std::fs::write(folder.path().join("x"), "").expect("a file");
        let error = Folder::new(Some(folder.path()))
            .err()
            .expect("refused")
            .to_string();
        assert!(error.contains("--keep"), "{error}");
    }

    #[test]
    fn the_demo_connects_to_nothing_outside() {
        let secrets = Secrets {
            stripe: "whsec_of_the_demo".to_owned(),
            application: "whsec_0123456789abcdef0123456789abcdef".to_owned(),
        };
        let config = config(&secrets, Path::new("/tmp/x")).expect("valid");
        assert!(
            config.amqp_url.is_none()
                && config.slack.bot_token.is_none()
                && config.slack.webhook_url.is_none()
        );
        assert!(
            config.listen.ip().is_loopback()
                && config.listen.port() == 0
                && config.admin_listen.port() == 0
        );
    }
}
