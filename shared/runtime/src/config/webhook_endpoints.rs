//! The webhook endpoints of the settings, ready to verify.

use secrecy::ExposeSecret as _;

use super::endpoint::{Endpoint, Mode, keys};
use super::error::ConfigError;
use super::settings::Config;

impl Config {
    /// The endpoints to serve: those with variables of their own, then those of the file. Secret files are read now.
    pub fn webhook_endpoints(&self) -> Result<Vec<Endpoint>, ConfigError> {
        let (mut endpoints, mut faults) = (Vec::<Endpoint>::new(), Vec::new());
        let built_in = [
            (
                "stripe",
                "/webhooks/stripe",
                "STRIPE_WEBHOOK_SECRET",
                &self.stripe_webhook_secret,
            ),
            (
                "kernel",
                "/webhooks/kernel/stripe",
                "STRIPE_KERNEL_WEBHOOK_SECRET",
                &self.stripe_kernel_webhook_secret,
            ),
        ];
        for (name, path, variable, secrets) in built_in {
            let Some(secrets) = secrets else { continue };
            match keys(secrets.expose_secret().split(',')) {
                Some(keys) => endpoints.push(Endpoint {
                    name: name.into(),
                    path: path.into(),
                    keys,
                    mode: Mode::Any,
                }),
                None => faults.push(format!(
                    "{variable} holds an empty secret: separate several by single commas"
                )),
            }
        }
        for endpoint in &self.endpoints {
            match endpoint.read(&endpoints) {
                Ok(endpoint) => endpoints.push(endpoint),
                Err(error) => faults.extend(error.faults),
            }
        }
        if endpoints.is_empty() && faults.is_empty() {
            faults.push(
                "no webhook endpoint has a signing secret: set STRIPE_WEBHOOK_SECRET to the `whsec_…` that Stripe's \
                 dashboard (Developers → Webhooks) or `stripe listen --print-secret` shows"
                    .into(),
            );
        }
        ConfigError::none_of(faults).map(|()| endpoints)
    }
}
