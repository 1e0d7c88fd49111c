//! Which of the platform's own Stripe accounts each endpoint is of.

use revwatch_core::event_settings::{BACKFILL, EventSettings, REFRESH, refresh_endpoint};
use revwatch_core::observe::{ObserveSettings, Plans};
use revwatch_core::realm::{Realm, Realms, RealmsOfEndpoint};

use super::settings::Config;
use super::webhook_endpoints::{KERNEL, STRIPE};

impl Config {
    /// What the settings say about events.
    pub fn event_settings(&self) -> EventSettings {
        EventSettings {
            modes: self.modes(),
            realms: self.realms(),
            observe: ObserveSettings {
                plans: Plans {
                    platform: self.plans.clone(),
                    connected: self.connected_plans.clone(),
                },
                metadata: self.metadata.clone(),
            },
        }
    }

    /// The realm of each endpoint, and of what is read with the API key.
    pub fn realms(&self) -> Realms {
        let built_in = [(STRIPE, Realm::MAIN), (KERNEL, Realm::kernel())];
        let of_key = [BACKFILL, REFRESH].map(|name| (name, self.stripe_secret_key_realm.clone()));
        let own = built_in.into_iter().chain(of_key);
        let own = own.map(|(name, realm)| (name.to_owned(), realm.into()));
        let of_file = self.endpoints.iter();
        let of_file = of_file.map(|e| (e.name.clone(), e.realms()));
        let all: Vec<(String, RealmsOfEndpoint)> = own.chain(of_file).collect();
        let realms = all.iter().flat_map(|(_, of_endpoint)| of_endpoint.all());
        // What the store has of a realm comes from an endpoint of its own.
        let of_store = realms.map(|realm| {
            let name = refresh_endpoint(realm, &self.stripe_secret_key_realm);
            (name, realm.clone().into())
        });
        let of_store: Vec<_> = of_store.collect();
        Realms::new(all.into_iter().chain(of_store))
    }

    /// Whether all endpoints are of the realm of `stripe_secret_key`.
    pub fn is_of_one_realm(&self) -> bool {
        let of_key = &self.stripe_secret_key_realm;
        let mut of_file = self.endpoints.iter().map(|endpoint| endpoint.realms());
        let is_of_file = of_file.all(|realms| realms.all().all(|realm| realm == of_key));
        let is_main = self.stripe_webhook_secret.is_none() || of_key.is_main();
        let is_kernel = self.stripe_kernel_webhook_secret.is_none() || *of_key == Realm::kernel();
        is_of_file && is_main && is_kernel
    }

    /// Whether an endpoint of the kernel's realm is configured.
    pub fn has_kernel(&self) -> bool {
        let mut endpoints = self.endpoints.iter();
        self.stripe_kernel_webhook_secret.is_some()
            || endpoints.any(|endpoint| endpoint.is_of(&Realm::kernel()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("revwatch.toml");
        std::fs::write(&path, text).expect("written");
        Config::load(Some(&path), &|_| None).map_err(|error| error.to_string())
    }

    #[test]
    fn an_endpoint_is_of_the_main_realm_unless_it_names_another() {
        let endpoint = |name: &str, rest: &str| {
            format!(
                "[[endpoints]]\nname = \"{name}\"\npath = \"/{name}\"\nsecrets = [\"s\"]\n{rest}\n"
            )
        };
        let config = load(&(endpoint("eu", "realm = \"eu\"") + &endpoint("us", "")));
        let config = config.expect("valid");
        let realms = config.realms();
        for (name, realm) in [
            ("stripe", "main"),
            ("kernel", "kernel"),
            ("eu", "eu"),
            ("us", "main"),
            ("backfill", "main"),
        ] {
            assert_eq!(realms.of(name, None).as_str(), realm, "{name}");
        }
        assert!(!config.has_kernel());
        let of_kernel = endpoint("k", "realm = \"kernel\"");
        assert!(load(&of_kernel).expect("valid").has_kernel());
        let error = load(&endpoint("eu", "realm = \"a/b\"")).expect_err("refused");
        assert!(
            error.contains("realm") && error.contains("lower-case letters"),
            "{error}"
        );
        let of_key = load("stripe_secret_key_realm = \"kernel\"").expect("valid");
        assert_eq!(of_key.realms().of("refresh", None).as_str(), "kernel");
        assert_eq!(of_key.realms().of("refresh/main", None).as_str(), "main");
        assert_eq!(realms.of("refresh/eu", None).as_str(), "eu");
    }

    #[test]
    fn an_endpoint_without_a_realm_has_that_of_its_path_or_of_its_accounts() {
        let of = |path: &str, rest: &str| {
            let text = format!(
                "[[endpoints]]\nname = \"k\"\npath = \"{path}\"\nsecrets = [\"s\"]\n{rest}\n"
            );
            let config = load(&text).expect("valid");
            config.realms().of("k", None).as_str().to_owned()
        };
        let kernel = "/webhooks/kernel/stripe";
        assert_eq!(of(kernel, ""), "kernel");
        assert_eq!(of(kernel, "realm = \"main\""), "main");
        assert_eq!(of("/k", "own_accounts = { acct_1 = \"eu\" }"), "eu");
        let two = "own_accounts = { acct_1 = \"eu\", acct_2 = \"us\" }";
        assert_eq!(of("/k", two), "main");
        assert_eq!(of(kernel, two), "kernel");
    }

    #[test]
    fn an_endpoint_has_no_name_that_stands_for_what_is_fetched() {
        for name in ["backfill", "refresh"] {
            let text =
                format!("[[endpoints]]\nname = \"{name}\"\npath = \"/x\"\nsecrets = [\"s\"]\n");
            let config = load(&text).and_then(|config| {
                let endpoints = config
                    .webhook_endpoints()
                    .map_err(|error| error.to_string());
                endpoints.map(|_| ())
            });
            let error = config.expect_err("refused");
            assert!(
                error.contains(name) && error.contains("choose another"),
                "{error}"
            );
        }
    }

    #[test]
    fn an_organisations_endpoint_names_the_realms_of_its_accounts() {
        let endpoint = |own_accounts: &str| {
            format!(
                "[[endpoints]]\nname = \"org\"\npath = \"/org\"\nsecrets = [\"s\"]\nown_accounts = {own_accounts}\n"
            )
        };
        let config = load(&endpoint("{ acct_1 = \"main\", acct_2 = \"kernel\" }")).expect("valid");
        let realms = config.realms();
        assert_eq!(realms.of("org", Some("acct_2")).as_str(), "kernel");
        assert_eq!(realms.of("org", Some("acct_9")), Realm::unknown());
        assert!(config.has_kernel());
        for (wrong, named) in [
            ("{ acct_1 = \"A\" }", "lower-case letters"),
            ("{ org_1 = \"main\" }", "acct_"),
        ] {
            let error = load(&endpoint(wrong)).expect_err("refused");
            assert!(
                error.contains("own_accounts") && error.contains(named),
                "{error}"
            );
        }
    }
}
