//! One webhook endpoint: its path, its secrets, and the events it accepts.

use std::collections::BTreeMap;
use std::path::PathBuf;

use revwatch_core::event_settings::is_own_endpoint;
use revwatch_core::mode::Mode;
use revwatch_core::realm::{Realm, RealmsOfEndpoint};
use revwatch_core::signature::SigningKey;
use revwatch_core::standard_webhooks::{self, StandardKey};
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::error::{ConfigError, Fault, Faults};
use super::signing_secret::{Unfit, unfit};
use super::webhook_endpoints::KERNEL_PATH;
use super::written::{items, lines};
use crate::files::read_text;

/// One webhook endpoint.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointConfig {
    /// Shown in metrics and logs.
    pub name: String,
    /// For example `/webhooks/stripe/eu`.
    pub path: String,
    /// Who sends to it.
    #[serde(default)]
    pub source: EndpointSource,
    /// Signing secrets; several while one is being rotated out.
    #[serde(default)]
    pub secrets: Vec<SecretString>,
    /// A file with one secret per line, read at start. Lines that begin with `#` are comments.
    pub secret_file: Option<PathBuf>,
    /// The events that are applied; others are stored, but change nothing.
    #[serde(default)]
    pub mode: EndpointMode,
    /// Which of the platform's own Stripe accounts sends to it. Without it: that of its
    /// path, else that of all its own accounts, else the main one.
    #[serde(default, deserialize_with = "some_realm")]
    pub realm: Option<Realm>,
    /// Of an organisation's endpoint: the realm of each of its accounts, by id.
    #[serde(default, deserialize_with = "own_accounts")]
    pub own_accounts: BTreeMap<String, Realm>,
}

/// The name of a realm.
pub(super) fn realm<'de, D: Deserializer<'de>>(from: D) -> Result<Realm, D::Error> {
    let name = String::deserialize(from)?;
    Realm::named(&name).map_err(D::Error::custom)
}

fn some_realm<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Realm>, D::Error> {
    realm(from).map(Some)
}

fn own_accounts<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, Realm>, D::Error> {
    let names = BTreeMap::<String, String>::deserialize(from)?;
    let named = names.into_iter().map(|(id, name)| {
        if !id.starts_with("acct_") {
            let what = format!("`own_accounts` has Stripe's ids (acct_…) as keys, not {id:?}");
            return Err(D::Error::custom(what));
        }
        let realm = Realm::named(&name);
        let realm = realm.map_err(|error| D::Error::custom(format!("`own_accounts` {error}")))?;
        Ok((id, realm))
    });
    named.collect()
}

/// Who sends to an endpoint, and thus how what it sends is signed and written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EndpointSource {
    /// Stripe.
    #[default]
    Stripe,
    /// The user's own application.
    App,
}

/// Whether an endpoint's events are those of the deployment's mode, or fewer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EndpointMode {
    /// Of the deployment's mode.
    #[default]
    Any,
    /// `livemode: true` only.
    Live,
    /// `livemode: false` only.
    Test,
}

impl EndpointMode {
    /// The only mode whose events are applied; `None`: the deployment's mode decides.
    pub fn only(self) -> Option<Mode> {
        match self {
            Self::Any => None,
            Self::Live => Some(Mode::Live),
            Self::Test => Some(Mode::Test),
        }
    }
}

/// An endpoint, ready to verify.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Shown in metrics and logs.
    pub name: String,
    /// Path of the URL.
    pub path: String,
    /// Who may send to it.
    pub keys: Keys,
}

/// The secrets of an endpoint, at least one, by the scheme of its source.
#[derive(Debug, Clone)]
pub enum Keys {
    /// `Stripe-Signature`
    Stripe(Vec<SigningKey>),
    /// Standard Webhooks.
    App(Vec<StandardKey>),
}

impl Keys {
    /// `None` if there is no secret, or if one of them is none.
    pub(super) fn new<'a>(
        source: EndpointSource,
        secrets: impl Iterator<Item = &'a str>,
    ) -> Option<Self> {
        let keys = match source {
            EndpointSource::Stripe => {
                Self::Stripe(secrets.map(SigningKey::new).collect::<Option<_>>()?)
            }
            EndpointSource::App => Self::App(secrets.map(StandardKey::new).collect::<Option<_>>()?),
        };
        (keys.count() > 0).then_some(keys)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        match self {
            Self::Stripe(keys) => keys.len(),
            Self::App(keys) => keys.len(),
        }
    }
}

impl EndpointConfig {
    /// The realm that it names; else that of its path, else the one of all its own accounts, else the main one.
    fn realm(&self) -> Realm {
        let of_path = (self.path == KERNEL_PATH).then(Realm::kernel);
        let mut of_accounts = self.own_accounts.values();
        let first = of_accounts.next();
        let of_all = first.filter(|first| of_accounts.all(|other| other == *first));
        let named = self.realm.clone().or(of_path);
        named.or_else(|| of_all.cloned()).unwrap_or_default()
    }

    /// The realm of what comes to it.
    pub(super) fn realms(&self) -> RealmsOfEndpoint {
        RealmsOfEndpoint {
            realm: self.realm(),
            own_accounts: self.own_accounts.clone(),
        }
    }

    /// Whether events of this realm may come to it.
    pub(super) fn is_of(&self, realm: &Realm) -> bool {
        self.realm() == *realm || self.own_accounts.values().any(|known| known == realm)
    }

    /// `before` are the endpoints read so far, whose names and paths are in use, and `number` is its
    /// position in the list.
    pub(super) fn read(&self, number: usize, before: &[Endpoint]) -> Result<Endpoint, ConfigError> {
        let Self {
            name,
            path,
            source,
            secrets,
            secret_file,
            mode: _,
            realm: _,
            own_accounts: _,
        } = self;
        let mut faults = Faults::default();
        let key = |setting: &str| format!("endpoints.{number}.{setting}");
        let mut invalid = |settings: &[&str], what: String| {
            let settings: Vec<String> = settings.iter().map(|setting| key(setting)).collect();
            let fault = Fault::from(format!("endpoint {name:?}{what}"));
            faults.add(fault.about(settings.iter().map(String::as_str)));
        };
        let mut texts: Vec<String> = Vec::new();
        let mut take = |setting: &str, text: &str, invalid: &mut dyn FnMut(&[&str], String)| {
            for secret in items(text) {
                let is_of_app = *source == EndpointSource::App;
                match unfit(secret).filter(|_| !is_of_app) {
                    // Found in the values as they are written, with their places.
                    Some(Unfit::Suspect(_)) if setting == "secrets" => {}
                    Some(unfit) => invalid(&[setting], format!(": one of its secrets {unfit}")),
                    None => {}
                }
                texts.push(secret.to_owned());
            }
        };
        for secret in secrets {
            take("secrets", secret.expose_secret(), &mut invalid);
        }
        let has_empty = secrets
            .iter()
            .any(|secret| lines(secret.expose_secret()).next().is_none());
        let mut is_readable = true;
        if let Some(file) = secret_file {
            match read_text(file) {
                Ok(text) => take("secret_file", &text, &mut invalid),
                Err(error) => {
                    is_readable = false;
                    invalid(&["secret_file"], format!(": {error}"));
                }
            }
        }
        let secrets = texts.iter().map(String::as_str);
        let keys = Keys::new(*source, secrets).filter(|_| !has_empty);
        if keys.is_none()
            && is_readable
            && *source == EndpointSource::App
            && !has_empty
            && !texts.is_empty()
        {
            let what = format!(
                ": each of its secrets must be {}",
                standard_webhooks::SECRET
            );
            invalid(&["secrets", "secret_file"], what);
        } else if keys.is_none() && is_readable {
            invalid(
                &["secrets", "secret_file"],
                " needs at least one secret, and none may be empty: set `secrets` or `secret_file`"
                    .to_owned(),
            );
        }
        if !path.starts_with('/') {
            invalid(&["path"], format!(": path {path:?} must begin with /"));
        } else if !path.bytes().all(is_of_path) {
            let what = format!(
                ": path {path:?} must be the path of a URL, without host, query or fragment: letters and digits of ASCII, \
                 and - . _ ~ / and the like"
            );
            invalid(&["path"], what);
        }
        if before.iter().any(|e| e.path == *path) {
            invalid(&["path"], format!(": its path {path:?} is already used"));
        } else if before.iter().any(|e| e.name == *name) {
            invalid(&["name"], ": its name is already used".to_owned());
        }
        // The realm of these is that of the API key.
        if is_own_endpoint(name) {
            let what = ": its name is that of what revwatch fetches itself: choose another";
            invalid(&["name"], what.to_owned());
        }
        faults.none()?;
        Ok(Endpoint {
            name: name.clone(),
            path: path.clone(),
            keys: keys.unwrap_or(Keys::Stripe(Vec::new())),
        })
    }
}

/// What a path may have that is sent as it is written. Source: <https://www.rfc-editor.org/rfc/rfc3986#section-3.3>.
fn is_of_path(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~/!$&'()*+,;=:@%".contains(&byte)
}
