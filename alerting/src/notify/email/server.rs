//! The configured SMTP server, and connections to it up to authentication.
//!
//! TLS is required, except to this machine. `smtps://` begins with TLS, `smtp://` requires
//! STARTTLS, and `smtp://` to localhost or a loopback address is plain. Certificates are checked
//! against the system's roots.
//! Sources: <https://www.rfc-editor.org/rfc/rfc5321>, <https://www.rfc-editor.org/rfc/rfc8314>,
//! <https://www.rfc-editor.org/rfc/rfc4954>.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use std::{fmt, io};

use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use percent_encoding::percent_decode_str;
use revwatch_runtime::config::{ConfigError, Fault, names_loopback};
use revwatch_storage::{connection_failure, server_url};
use secrecy::{ExposeSecret, SecretString};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use url::{Host, Url};

use super::super::Outcome;
use super::bounded_stream::BoundedStream;

/// The mail server.
pub struct Server {
    host: String,
    port: u16,
    security: Security,
    credentials: Option<Credentials>,
}

enum Security {
    /// From the first byte.
    Tls(TlsParameters),
    /// After STARTTLS, which the server must offer.
    StartTls(TlsParameters),
    /// None: the server is on this machine.
    Plain,
}

/// The setting's name, for errors.
pub const SETTING: &str = "email.smtp_url (SMTP_URL)";
/// Timeout for one address of the server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

impl Server {
    /// Errors say what is invalid and never quote the URL: it holds a password.
    pub fn new(url: &SecretString) -> Result<Self, ConfigError> {
        let invalid = |what: &str| ConfigError::of(Fault::of(SETTING, what));
        let example = "is not an SMTP URL: write it like smtps://user:password@host:465";
        let text = url.expose_secret().trim();
        if server_url::is_unescaped(text) {
            return Err(invalid(&format!(
                "has characters in its user or password that end the URL: {}",
                server_url::ESCAPES
            )));
        }
        if !text.contains("://") {
            // `host:587` is a URL, too, whose scheme is `host`.
            return Err(invalid(example));
        }
        let url = Url::parse(text).map_err(|_| invalid(example))?;
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(invalid(
                "must end with its host or port: write / ? # and @ of a password like %2F %3F %23 %40",
            ));
        }
        let host = match url.host() {
            Some(Host::Domain(name)) if !name.is_empty() && !name.contains('%') => {
                name.to_ascii_lowercase()
            }
            Some(Host::Ipv4(ip)) => ip.to_string(),
            Some(Host::Ipv6(ip)) => ip.to_string(),
            _ => return Err(invalid(example)),
        };
        let decoded = |text: &str| -> Result<String, ConfigError> {
            let text = percent_decode_str(text).decode_utf8();
            text.map(Into::into)
                .map_err(|_| invalid("has a user or password that is not UTF-8"))
        };
        let credentials = match (url.username(), url.password()) {
            ("", None) => None,
            (user, Some(password)) if !user.is_empty() && !password.is_empty() => {
                Some(Credentials::new(decoded(user)?, decoded(password)?))
            }
            _ => {
                return Err(invalid(
                    "has only a user or only a password: give both, or neither",
                ));
            }
        };
        let tls = || {
            TlsParameters::new(host.clone())
                .map_err(|error| invalid(&format!("cannot be used: TLS is not available: {error}")))
        };
        let (security, usual_port) = match url.scheme() {
            "smtps" => (Security::Tls(tls()?), 465),
            "smtp" if names_loopback(&url) => (Security::Plain, 25),
            "smtp" => (Security::StartTls(tls()?), 587),
            _ => return Err(invalid("must begin with smtps:// or smtp://")),
        };
        let port = url.port().unwrap_or(usual_port);
        match (url.scheme(), port) {
            ("smtps", 25 | 587) => {
                let what = "begins with TLS (smtps://), but mail servers speak plainly at first on ports 25 and 587: write \
                            smtp://, which requires STARTTLS, or port 465";
                return Err(invalid(what));
            }
            ("smtp", 465) => {
                let what = "asks for STARTTLS (smtp://), but mail servers begin with TLS on port 465: write smtps://, or \
                            port 587";
                return Err(invalid(what));
            }
            _ => {}
        }
        Ok(Self {
            host,
            port,
            security,
            credentials,
        })
    }

    /// The same server at another host.
    #[cfg(test)]
    pub fn redirected(&mut self, host: &str) {
        host.clone_into(&mut self.host);
    }

    /// A connection that is ready for mail. Nothing has been sent so far, so every failure is
    /// [`Outcome::Failed`].
    pub async fn connect(&self, name: &ClientId) -> Result<AsyncSmtpConnection, Outcome> {
        let connected = match &self.security {
            // What it says is its own: its certificate was verified.
            Security::Tls(tls) => {
                let server = (self.host.as_str(), self.port);
                let (tls, timeout) = (Some(tls.clone()), Some(CONNECT_TIMEOUT));
                AsyncSmtpConnection::connect_tokio1(server, timeout, name, tls, None).await
            }
            Security::Plain | Security::StartTls(_) => {
                let stream = self.stream().await.map_err(|error| {
                    let cause = connection_failure::plain(&error);
                    Outcome::Failed {
                        reason: format!("{self}, connecting: {cause}: check {SETTING}"),
                        permanent: false,
                    }
                })?;
                AsyncSmtpConnection::connect_with_transport(Box::new(stream), name).await
            }
        };
        let mut connection =
            connected.map_err(|error| self.failed("connecting", &error, SETTING))?;
        if let Security::StartTls(tls) = &self.security {
            if !connection.can_starttls() {
                let reason = format!(
                    "{self} does not offer STARTTLS: use smtps:// in {SETTING}, or another port"
                );
                return Err(Outcome::Failed {
                    reason,
                    permanent: true,
                });
            }
            connection
                .starttls(tls.clone(), name)
                .await
                .map_err(|error| self.failed("STARTTLS", &error, SETTING))?;
        }
        if let Some(credentials) = &self.credentials {
            let ways = [Mechanism::Plain, Mechanism::Login];
            if connection.server_info().get_auth_mechanism(&ways).is_none() {
                let info = connection.server_info();
                let reason = match info.supports_auth_mechanism(Mechanism::Xoauth2) {
                    true => format!(
                        "{self} takes no passwords, only XOAUTH2, which revwatch does not have: name a server in \
                         {SETTING} that takes a password, for instance a relay"
                    ),
                    false => format!(
                        "{self} accepts no password here: leave user and password out of {SETTING}, or use \
                         another port"
                    ),
                };
                return Err(Outcome::Failed {
                    reason,
                    permanent: true,
                });
            }
            let settings = "the user and password in email.smtp_url (SMTP_URL)";
            connection
                .auth(&ways, credentials)
                .await
                .map_err(|error| self.failed("logging in", &error, settings))?;
        }
        Ok(connection)
    }

    /// A connection to the first of its addresses that answers.
    async fn stream(&self) -> io::Result<BoundedStream> {
        let addresses: Vec<SocketAddr> = match &self.security {
            // An unencrypted connection must stay on this machine, whatever its DNS says.
            Security::Plain if self.host == "localhost" => {
                let both = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
                both.map(|ip| SocketAddr::new(ip, self.port)).to_vec()
            }
            _ => lookup_host((self.host.as_str(), self.port))
                .await?
                .collect(),
        };
        let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in addresses {
            match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(BoundedStream::new(stream)),
                Ok(Err(error)) => failure = error,
                Err(_) => failure = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(failure)
    }

    /// The outcome of a failure before the mail itself was handed over: nothing was delivered. `settings` are those to
    /// check if the answer does not tell which.
    pub fn failed(
        &self,
        step: &str,
        error: &lettre::transport::smtp::Error,
        settings: &str,
    ) -> Outcome {
        let permanent = error.is_permanent();
        let fix = match error.status().map(|code| code.to_string()).as_deref() {
            Some("530") => format!(
                "it wants a user and a password: put both into {SETTING}, like smtps://user:password@host:465"
            ),
            Some("552") => {
                "the mail or its mailbox is too large for it: ask who runs it".to_owned()
            }
            Some("454") if step == "STARTTLS" => format!(
                "it cannot begin TLS now: ask who runs it, or use smtps:// with port 465 in {SETTING}"
            ),
            // What the server refuses for now is mended there.
            Some(_) if !permanent => {
                "it refuses that for now: if it lasts, ask who runs it".to_owned()
            }
            _ => format!("check {settings}"),
        };
        Outcome::Failed {
            reason: format!("{self}, {step}: {}: {fix}", cause(error)),
            permanent,
        }
    }

    /// It did not answer in time.
    pub fn silent(&self) -> String {
        format!("{self} ({SETTING}): {}", connection_failure::NO_ANSWER)
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mail server {}:{}", self.host, self.port)
    }
}

/// The cause, without the server's own text: servers tend to quote addresses.
pub fn cause(error: &lettre::transport::smtp::Error) -> String {
    match (error.status(), std::error::Error::source(error)) {
        (Some(code), _) => format!("answered {code}"),
        (None, _) if error.is_response() => "its answer ended early or is unreadable".into(),
        (None, Some(source)) => connection_failure::plain(source),
        (None, None) => "the connection failed".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mail_is_sent_over_tls_unless_it_stays_on_this_machine() {
        let table = [
            ("smtps://me:pw@mail.example", Ok(("tls", 465))),
            ("smtps://mail.example:2465/", Ok(("tls", 2465))),
            ("smtp://me:pw@mail.example", Ok(("starttls", 587))),
            ("smtp://mail.example:25", Ok(("starttls", 25))),
            ("smtp://10.0.0.1", Ok(("starttls", 587))),
            ("smtp://localhost.example", Ok(("starttls", 587))),
            ("smtp://localhost:2525", Ok(("plain", 2525))),
            ("smtp://LOCALHOST", Ok(("plain", 25))),
            ("smtp://127.0.0.1:2525", Ok(("plain", 2525))),
            ("smtp://[::1]:2525", Ok(("plain", 2525))),
            ("smtps://localhost", Ok(("tls", 465))),
            ("mail.example", Err("smtps://user:password@host")),
            ("smtp://", Err("smtps://user:password@host")),
            ("mail.example:587", Err("smtps://user:password@host")),
            ("mailto:a@mail.example", Err("smtps://user:password@host")),
            (
                "https://hidden@mail.example",
                Err("only a user or only a password"),
            ),
            ("https://mail.example", Err("must begin with smtps://")),
            (
                "smtp://mail.example?tls=none",
                Err("must end with its host"),
            ),
            ("smtps://me:hid/den@mail.example", Err("like %2F %3F %23")),
            ("smtps://me:hid#den@mail.example", Err("like %2F %3F %23")),
            ("smtps://me:hidden@mail.example:587", Err("write smtp://")),
            ("smtp://me:hidden@mail.example:465", Err("write smtps://")),
            ("smtps://hidden@mail.example", Err("give both")),
        ];
        for (text, expected) in table {
            match (Server::new(&SecretString::from(text.to_owned())), expected) {
                (Ok(server), Ok((security, port))) => {
                    let found = match server.security {
                        Security::Tls(_) => "tls",
                        Security::StartTls(_) => "starttls",
                        Security::Plain => "plain",
                    };
                    assert_eq!((found, server.port), (security, port), "{text}");
                }
                (Err(error), Err(expected)) => {
                    let error = error.to_string();
                    assert!(
                        error.starts_with(SETTING) && error.contains(expected),
                        "{text}: {error}"
                    );
                    assert!(!error.contains("hid"), "{error}");
                }
                (found, _) => panic!("{text}: {:?}", found.map(|s| s.port)),
            }
        }
    }

    #[test]
    fn passwords_may_contain_any_character() {
        let url = SecretString::from("smtps://me%40a.example:p%2Fw%3A%40@mail.example".to_owned());
        let server = Server::new(&url).expect("valid");
        assert_eq!(
            server.credentials,
            Some(Credentials::new("me@a.example".into(), "p/w:@".into()))
        );
    }
}
