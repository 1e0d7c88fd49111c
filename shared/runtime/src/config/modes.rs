//! What the settings say about live and test mode.

use revwatch_core::mode::{Mode, Modes};
use secrecy::ExposeSecret as _;

use super::endpoint::EndpointConfig;
use super::settings::Config;

impl Config {
    /// The deployment's mode, and those of its endpoints.
    pub fn modes(&self) -> Modes {
        let only = |e: &EndpointConfig| Some((e.name.clone(), e.mode.only()?));
        Modes::new(self.mode, self.endpoints.iter().filter_map(only))
    }

    /// What is wrong with the API key and how to fix it, if it is not of the mode of the `deployment`:
    /// all events made of what it reads would be ignored.
    pub fn key_of_other_mode(&self, deployment: Mode) -> Option<String> {
        let key = Mode::of_key(self.stripe_secret_key.as_ref()?.expose_secret().trim())?;
        (key != deployment).then(|| {
            format!(
                "stripe_secret_key (STRIPE_SECRET_KEY) is a key of {key} mode, but mode (REVWATCH_MODE) is {deployment}, so \
                 nothing is read with it: give a key of {deployment} mode, or set REVWATCH_MODE={key} if this deployment shows \
                 {key} mode"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use revwatch_core::mode::OtherMode;

    use super::*;

    fn config(variables: &[(&str, &str)]) -> Config {
        let lookup = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Config::load(None, &lookup).expect("valid")
    }

    #[test]
    fn a_deployment_is_live_unless_the_settings_say_test() {
        assert_eq!(config(&[]).modes().deployment, Mode::Live);
        let test = config(&[("REVWATCH_MODE", "test")]);
        assert_eq!(test.modes().deployment, Mode::Test);
        let lookup = |name: &str| (name == "REVWATCH_MODE").then(|| "prod".to_owned());
        let error = Config::load(None, &lookup).expect_err("refused");
        let error = error.to_string();
        assert!(
            error.contains("REVWATCH_MODE") && error.contains("must be one of: live, test"),
            "{error}"
        );
    }

    #[test]
    fn an_endpoint_of_one_mode_narrows_that_of_the_deployment() {
        let mut config = config(&[]);
        let endpoint = "name = \"a\"\npath = \"/a\"\nmode = \"test\"";
        config.endpoints = vec![toml::from_str(endpoint).expect("an endpoint")];
        let modes = config.modes();
        assert_eq!(modes.judge("a", Some(true)), Some(OtherMode::OfEndpoint));
        assert_eq!(modes.judge("stripe", Some(true)), None);
    }

    #[test]
    fn a_key_of_the_other_mode_is_named_with_the_fix() {
        let said = |mode, key| {
            let config = config(&[("REVWATCH_MODE", mode), ("STRIPE_SECRET_KEY", key)]);
            config.key_of_other_mode(config.mode)
        };
        for (mode, key) in [
            ("live", "rk_live_1"),
            ("test", "sk_test_1"),
            ("live", "sk_1"),
        ] {
            assert_eq!(said(mode, key), None, "{mode} {key}");
        }
        let warning = said("live", "rk_test_hidden").expect("a warning");
        assert!(
            warning.contains("STRIPE_SECRET_KEY")
                && warning.contains("REVWATCH_MODE=test")
                && !warning.contains("hidden"),
            "{warning}"
        );
        assert!(
            said("test", "sk_live_1")
                .expect("a warning")
                .contains("REVWATCH_MODE=live")
        );
    }
}
