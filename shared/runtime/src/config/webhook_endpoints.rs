//! The webhook endpoints of the settings, ready to verify.

use revwatch_core::standard_webhooks;
use secrecy::ExposeSecret as _;

use super::endpoint::{Endpoint, EndpointSource, Keys};
use super::error::{ConfigError, Fault, Faults};
use super::settings::Config;

/// The name of the endpoint `/webhooks/stripe`.
pub(super) const STRIPE: &str = "stripe";

/// The name of the endpoint `/webhooks/kernel/stripe`.
pub(super) const KERNEL: &str = "kernel";

/// The name of the endpoint `/webhooks/app`.
const APP: &str = "app";

/// What comes here is of [`Realm::kernel`](revwatch_core::realm::Realm::kernel), unless the settings name another.
pub(super) const KERNEL_PATH: &str = "/webhooks/kernel/stripe";

impl Config {
    /// The endpoints to serve: those with variables of their own, then those of the file. Secret files are read now.
    pub fn webhook_endpoints(&self) -> Result<Vec<Endpoint>, ConfigError> {
        let (mut endpoints, mut faults) = (Vec::<Endpoint>::new(), Faults::default());
        let built_in = [
            (
                STRIPE,
                "/webhooks/stripe",
                EndpointSource::Stripe,
                "stripe_webhook_secret (STRIPE_WEBHOOK_SECRET)",
                &self.stripe_webhook_secret,
            ),
            (
                KERNEL,
                KERNEL_PATH,
                EndpointSource::Stripe,
                "stripe_kernel_webhook_secret (STRIPE_KERNEL_WEBHOOK_SECRET)",
                &self.stripe_kernel_webhook_secret,
            ),
            (
                APP,
                "/webhooks/app",
                EndpointSource::App,
                "app_webhook_secret (REVWATCH_APP_WEBHOOK_SECRET)",
                &self.app_webhook_secret,
            ),
        ];
        for (name, path, source, setting, secrets) in built_in {
            let Some(secrets) = secrets else { continue };
            let is_of_app = source == EndpointSource::App;
            match Keys::new(source, secrets.expose_secret().split(',')) {
                Some(keys) => endpoints.push(Endpoint {
                    name: name.into(),
                    path: path.into(),
                    keys,
                }),
                None if is_of_app => {
                    let what = format!("must be {}", standard_webhooks::SECRET);
                    faults.add(Fault::of(setting, what));
                }
                None => faults.add(Fault::of(
                    setting,
                    "holds an empty secret: separate several by single commas or line ends",
                )),
            }
        }
        for (number, endpoint) in self.endpoints.iter().enumerate() {
            endpoints.extend(faults.of(endpoint.read(number, &endpoints)));
        }
        faults.none()?;
        if endpoints.is_empty() {
            let what = "no webhook endpoint has a signing secret: set STRIPE_WEBHOOK_SECRET to the `whsec_…` that \
                        Stripe's dashboard (Workbench, Webhooks) or `stripe listen --print-secret` shows; without Stripe, set \
                        REVWATCH_APP_WEBHOOK_SECRET";
            let fault = Fault::from(what).about([
                "stripe_webhook_secret",
                "stripe_kernel_webhook_secret",
                "app_webhook_secret",
                "endpoints",
            ]);
            return Err(ConfigError::of(fault));
        }
        Ok(endpoints)
    }
}
