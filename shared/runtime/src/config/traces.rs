//! Settings of traces, under the names that OpenTelemetry gives them.

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::definition::{Definition, Kind};
use super::egress::names_loopback;
use super::error::{ConfigError, Fault, Faults};
use super::non_empty::non_empty_secrets;

pub(super) const VARIABLES: &[Definition] = &[
    (
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        &["traces", "endpoint"],
        Kind::Text,
    ),
    (
        "OTEL_EXPORTER_OTLP_HEADERS",
        &["traces", "headers"],
        Kind::Secret,
    ),
    ("OTEL_SERVICE_NAME", &["traces", "service_name"], Kind::Text),
    (
        "OTEL_TRACES_SAMPLER_ARG",
        &["traces", "sample_ratio"],
        Kind::Ratio,
    ),
];

const ENDPOINT: &str = "traces.endpoint (OTEL_EXPORTER_OTLP_ENDPOINT)";
const HEADERS: &str = "traces.headers (OTEL_EXPORTER_OTLP_HEADERS)";

/// Destination of traces.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TracesConfig {
    /// Base URL of a collector; empty: no traces.
    pub endpoint: String,
    /// Headers of every request to it: `name=value,name=value`, values percent-encoded.
    #[serde(default, deserialize_with = "non_empty_secrets")]
    pub headers: Option<SecretString>,
    /// The process's service name; empty: derived from its roles.
    pub service_name: String,
    /// Share of events that are traced.
    pub sample_ratio: f64,
    /// The standard variable of OpenTelemetry that turns traces off whatever the endpoint is, with its value.
    #[serde(skip)]
    pub turned_off_by: Option<String>,
}

impl TracesConfig {
    /// The URL that spans are posted to, if any.
    pub fn url(&self) -> Option<String> {
        let base = self.endpoint.trim();
        (!base.is_empty()).then(|| format!("{}/v1/traces", base.trim_end_matches('/')))
    }

    /// Names and values of the headers.
    pub fn headers(&self) -> Result<Vec<(String, String)>, ConfigError> {
        let refused = || invalid(HEADERS, "must be name=value,name=value");
        let text = self
            .headers
            .as_ref()
            .map_or("", |headers| headers.expose_secret());
        let pairs = text
            .split(',')
            .map(str::trim)
            .filter(|pair| !pair.is_empty());
        pairs
            .map(|pair| {
                let (name, value) = pair.split_once('=').ok_or_else(refused)?;
                let (name, value) = (
                    name.trim(),
                    percent_encoding::percent_decode_str(value.trim()).decode_utf8(),
                );
                let value = value.map_err(|_| refused())?.into_owned();
                let is_name = !name.is_empty()
                    && name
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
                let is_value = value.bytes().all(|b| (b' '..=b'~').contains(&b));
                if is_name && is_value {
                    Ok((name.to_owned(), value))
                } else {
                    Err(refused())
                }
            })
            .collect()
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let mut faults = Faults::default();
        if !(0.0..=1.0).contains(&self.sample_ratio) {
            let ratio = "traces.sample_ratio (OTEL_TRACES_SAMPLER_ARG)";
            let what = format!("must be between 0 and 1, but is {}", self.sample_ratio);
            faults.add(Fault::of(ratio, what));
        }
        let headers = faults.of(self.headers());
        let url = faults.of(self.checked_url()).flatten();
        if let (Some(headers), Some(url)) = (headers, url)
            && url.scheme() == "http"
            && !headers.is_empty()
            && !names_loopback(&url)
        {
            let what =
                "go over https:// only (over http:// to this machine): they may hold a secret";
            faults.add(Fault::of(HEADERS, what).about([ENDPOINT]));
        }
        faults.none()
    }

    fn checked_url(&self) -> Result<Option<url::Url>, ConfigError> {
        let Some(url) = self.url() else {
            return Ok(None);
        };
        let Ok(url) = url::Url::parse(&url) else {
            return Err(invalid(
                ENDPOINT,
                "is not a URL, such as http://localhost:4318",
            ));
        };
        if !matches!(url.scheme(), "http" | "https") {
            return Err(invalid(ENDPOINT, "must begin with http:// or https://"));
        }
        if !url.username().is_empty()
            || url.password().is_some()
            || url.query().is_some()
            || url.fragment().is_some()
        {
            let what = "must be a plain base URL: no user, no password, no ? and no #";
            return Err(invalid(ENDPOINT, what));
        }
        Ok(Some(url))
    }
}

fn invalid(setting: &str, what: &str) -> ConfigError {
    ConfigError::of(Fault::of(setting, what))
}
