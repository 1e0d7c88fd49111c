//! What the notifiers' settings share.

use secrecy::{ExposeSecret as _, SecretString};

use crate::config::definition::Definition;
use crate::config::egress::EgressConfig;
use crate::config::error::{ConfigError, Fault};

/// The settings of a notifier, apart from their types.
pub(in crate::config) struct Channel {
    /// Its name in `notify`, and its table.
    pub name: &'static str,
    /// Its environment variables.
    pub variables: &'static [Definition],
    /// Secrets that are URLs of servers: only their passwords are masked.
    pub server_urls: &'static [&'static [&'static str]],
    /// The settings that a reload does not change.
    pub startup_only: &'static [&'static [&'static str]],
}

pub(super) fn check_secret_url(
    egress: &EgressConfig,
    setting: &str,
    url: Option<&SecretString>,
) -> Result<(), ConfigError> {
    url.map_or(Ok(()), |url| {
        egress.url(setting, url.expose_secret()).map(drop)
    })
}

/// Checks whether a credential has only characters that can be sent, and is of the kind that is
/// wanted. `otherwise` says which kind that is, and where it is found.
pub(in crate::config) fn check_credential(
    setting: &str,
    credential: Option<&SecretString>,
    is_wanted: impl Fn(&str) -> bool,
    otherwise: &str,
) -> Result<(), ConfigError> {
    let Some(text) = credential.map(|credential| credential.expose_secret()) else {
        return Ok(());
    };
    let what = match text.bytes().all(|b| b.is_ascii_graphic()) {
        true if is_wanted(text) => return Ok(()),
        true => otherwise,
        false => {
            "has a space, a line break or another character that no key or token has: copy it again"
        }
    };
    Err(ConfigError::of(Fault::of(setting, what)))
}
