//! Opens listening sockets, with errors that name the setting to change.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

/// The setting an address came from, which the error names to the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenSetting {
    /// The public webhook listener.
    Public,
    /// Metrics and health.
    Admin,
    /// Interactions (pressed buttons) in Slack.
    SlackInteractivity,
}

/// A listener could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {addr} ({}): {source}. {}", setting.name(), fix(source, *setting))]
pub struct ListenError {
    /// The setting of the address.
    pub setting: ListenSetting,
    /// The address.
    pub addr: SocketAddr,
    /// The cause.
    pub source: io::Error,
}

/// Connections that the kernel keeps until they are accepted; it refuses what comes while there are as many. Linux
/// takes no more than `net.core.somaxconn`, 4096 unless the machine has another value.
const BACKLOG: u32 = 4096;

/// Opens `addr`, and returns the address with the port that the system chose if `addr` has port 0.
pub async fn listen(
    addr: SocketAddr,
    setting: ListenSetting,
) -> Result<(TcpListener, SocketAddr), ListenError> {
    let bind = || {
        let socket = if addr.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        // A port that was in use a moment ago is free: a restart need not wait for the kernel's last packets.
        socket.set_reuseaddr(true)?;
        socket.bind(addr)?;
        let listener = socket.listen(BACKLOG)?;
        let local_addr = listener.local_addr()?;
        Ok((listener, local_addr))
    };
    bind().map_err(|source| ListenError {
        setting,
        addr,
        source,
    })
}

impl ListenSetting {
    fn name(self) -> &'static str {
        match self {
            Self::Public => "listen / REVWATCH_LISTEN",
            Self::Admin => "admin_listen / REVWATCH_ADMIN_LISTEN",
            Self::SlackInteractivity => "slack.interactivity_listen / SLACK_INTERACTIVITY_LISTEN",
        }
    }
}

fn fix(source: &io::Error, setting: ListenSetting) -> String {
    let name = setting.name();
    match source.kind() {
        io::ErrorKind::AddrInUse => {
            format!(
                "Another process, perhaps a second revwatch, listens there: stop it or change {name}"
            )
        }
        io::ErrorKind::PermissionDenied => {
            format!(
                "Ports below 1024 need CAP_NET_BIND_SERVICE: grant it or set {name} to a higher port"
            )
        }
        io::ErrorKind::AddrNotAvailable => {
            format!(
                "No interface of this machine has that address: set {name} to one it has, or to 0.0.0.0:PORT"
            )
        }
        _ => format!("Set {name} to an ADDRESS:PORT of this machine"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failed_bind_names_the_setting_and_the_fix() {
        let (_taken, addr) = listen(SocketAddr::from(([127, 0, 0, 1], 0)), ListenSetting::Public)
            .await
            .expect("a free port");
        let error = listen(addr, ListenSetting::Admin)
            .await
            .expect_err("the port is taken")
            .to_string();
        for part in [
            addr.to_string().as_str(),
            "REVWATCH_ADMIN_LISTEN",
            "Another process",
        ] {
            assert!(error.contains(part), "{error:?} should say {part:?}");
        }
        // 192.0.2.0/24 is for documentation; no machine has it.
        let foreign = SocketAddr::from(([192, 0, 2, 1], 0));
        let error = listen(foreign, ListenSetting::Public)
            .await
            .expect_err("not our address")
            .to_string();
        assert!(
            error.contains("REVWATCH_LISTEN") && error.contains("No interface"),
            "{error}"
        );
    }
}
