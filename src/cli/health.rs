//! `revwatch health`: queries the readiness of the process on this machine, for containers and
//! scripts.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::global_options::GlobalOptions;
use super::output;

/// Shorter than Docker's default timeout of 30 seconds. (Kubernetes' is one second.)
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs `health`.
pub async fn run(options: &GlobalOptions) -> anyhow::Result<()> {
    let url = format!(
        "http://{}/readyz",
        reachable(options.config()?.admin_listen)
    );
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(REQUEST_TIMEOUT)
        .build()?;
    let answer = client
        .get(&url)
        .send()
        .await
        // The message names the address.
        .map_err(reqwest::Error::without_url)
        .with_context(|| {
            format!("{url} does not respond: does revwatch run? (REVWATCH_ADMIN_LISTEN)")
        })?;
    let report: Value = answer
        .json()
        .await
        .map_err(reqwest::Error::without_url)
        .with_context(|| format!("{url} is not revwatch"))?;
    let mut out = output::stdout();
    if options.json {
        writeln!(out, "{report:#}")?;
    } else {
        for (check, word) in report["checks"].as_object().into_iter().flatten() {
            writeln!(out, "{check:<12} {}", word.as_str().unwrap_or_default())?;
        }
    }
    if report["ready"] != true {
        bail!("not ready");
    }
    Ok(())
}

/// An address that stands for all interfaces is queried on loopback.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unspecified_addresses_are_queried_on_loopback() {
        for (listen, queried) in [
            ("0.0.0.0:9464", "127.0.0.1:9464"),
            ("[::]:9464", "[::1]:9464"),
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("10.1.2.3:9464", "10.1.2.3:9464"),
        ] {
            assert_eq!(
                reachable(listen.parse().expect("an address")).to_string(),
                queried
            );
        }
    }
}
