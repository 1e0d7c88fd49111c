//! Live and test mode. A deployment keeps the state of one of them; events of the other change
//! nothing.
//!
//! Both may come to one endpoint: what Stripe sends of connected accounts to a live endpoint includes
//! their test events. Source: <https://docs.stripe.com/connect/webhooks>.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

/// The mode of an event, a key, an endpoint or a deployment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// `livemode: true`: real money.
    #[default]
    Live,
    /// `livemode: false`: test mode and sandboxes.
    Test,
}

/// The mode of a deployment, and of those of its endpoints that accept only one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Modes {
    /// The deployment's.
    pub deployment: Mode,
    endpoints: BTreeMap<String, Mode>,
}

/// Why an event is ignored because of its mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtherMode {
    /// It is not of the deployment's mode.
    OfDeployment,
    /// It is of the deployment's mode, but not of its endpoint's.
    OfEndpoint,
}

/// The name of the count of applied events that do not say their mode.
pub const LACKS_MODE: &str = "lacks_mode";

/// The outcome of such an event, and the name of its count.
pub const OTHER_MODE: &str = "other_mode";

impl Mode {
    /// The mode that an object's `livemode` names.
    pub fn of(livemode: bool) -> Self {
        if livemode { Self::Live } else { Self::Test }
    }

    /// The mode of a key of Stripe's API; `None` if the key does not name it.
    pub fn of_key(key: &str) -> Option<Self> {
        let rest = key
            .strip_prefix("sk_")
            .or_else(|| key.strip_prefix("rk_"))?;
        match rest.split_once('_')?.0 {
            "live" => Some(Self::Live),
            "test" => Some(Self::Test),
            _ => None,
        }
    }

    /// The value of `livemode` in Stripe's objects.
    pub fn livemode(self) -> bool {
        self == Self::Live
    }

    /// The name in settings and commands.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Test => "test",
        }
    }

    /// The other one.
    pub fn other(self) -> Self {
        Self::of(!self.livemode())
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Modes {
    /// `endpoints` are the names of those that accept one mode only.
    pub fn new(deployment: Mode, endpoints: impl IntoIterator<Item = (String, Mode)>) -> Self {
        Self {
            deployment,
            endpoints: endpoints.into_iter().collect(),
        }
    }

    /// Why an event that came to `endpoint` is ignored; `None` if it is applied. An event without
    /// `livemode` is applied: it says nothing against the deployment's mode.
    pub fn judge(&self, endpoint: &str, livemode: Option<bool>) -> Option<OtherMode> {
        let mode = Mode::of(livemode?);
        if mode != self.deployment {
            return Some(OtherMode::OfDeployment);
        }
        let only = self.endpoints.get(endpoint)?;
        (mode != *only).then_some(OtherMode::OfEndpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_of_the_other_mode_is_ignored_and_one_without_a_mode_is_applied() {
        use OtherMode::{OfDeployment, OfEndpoint};
        let of = |deployment, livemode, expected| {
            let endpoints = [("a".to_owned(), Mode::Live), ("b".to_owned(), Mode::Test)];
            let modes = Modes::new(deployment, endpoints);
            let judged = ["any", "a", "b"].map(|endpoint| modes.judge(endpoint, livemode));
            assert_eq!(judged, expected, "{deployment} {livemode:?}");
        };
        of(Mode::Live, Some(true), [None, None, Some(OfEndpoint)]);
        of(Mode::Live, Some(false), [Some(OfDeployment); 3]);
        of(Mode::Live, None, [None; 3]);
        of(Mode::Test, Some(false), [None, Some(OfEndpoint), None]);
        of(Mode::Test, Some(true), [Some(OfDeployment); 3]);
        of(Mode::Test, None, [None; 3]);
    }

    #[test]
    fn a_key_names_its_mode_or_none() {
        for (key, mode) in [
            ("sk_live_1", Some(Mode::Live)),
            ("rk_live_1", Some(Mode::Live)),
            ("sk_test_1", Some(Mode::Test)),
            ("rk_test_1_live_2", Some(Mode::Test)),
            ("sk_1", None),
            ("sk_other_1", None),
            ("whsec_live_1", None),
        ] {
            assert_eq!(Mode::of_key(key), mode, "{key}");
        }
    }
}
