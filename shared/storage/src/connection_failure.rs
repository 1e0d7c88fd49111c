//! Why a server cannot be reached, in words that say what to do. The libraries' own words name their types. Pure.

use std::error::Error;
use std::io;

/// What is said where nothing came back.
pub const NO_ANSWER: &str = "no answer in time: check host, port and firewall";

/// The usual reason why there is no connection.
const REFUSED: &str = "nothing listens there (connection refused)";

const CLOSED: &str = "it closed the connection: another service may listen there, or it wants TLS";

/// [`plain`] for a connection that began with TLS.
pub fn plain_over_tls(error: &(dyn Error + 'static)) -> String {
    let why = plain(error);
    // Its reason may get lost: it closes what is still written to.
    match why == CLOSED {
        true => "it closed the connection: another service may listen there, or it demands a certificate of its clients"
            .to_owned(),
        false => why,
    }
}

/// [`plain`] for a connection that had been in use.
pub fn plain_in_use(error: &(dyn Error + 'static)) -> String {
    match plain(error) {
        why if why == CLOSED => "the connection ended".to_owned(),
        why => why,
    }
}

/// What to do about the cause, where it does not say that itself: appended to it.
pub fn next_step(why: &str) -> &'static str {
    match why {
        REFUSED => ": start it, or correct host and port",
        _ => "",
    }
}

/// The cause at the end of `error`'s sources: one clause, without a full stop.
pub fn plain(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    let mut kind = None;
    loop {
        // The source of an I/O error that wraps another is that one's source.
        if let Some(io) = last.downcast_ref::<io::Error>() {
            kind.get_or_insert(io.kind());
            if let Some(inner) = io.get_ref() {
                last = inner;
                continue;
            }
        }
        match last.source() {
            Some(source) => last = source,
            None => break,
        }
    }
    let text = last.to_string();
    of_tls(&text)
        .or_else(|| of_kind(kind?))
        .or_else(|| of_text(&text))
        .map_or_else(|| without_number(&text), str::to_owned)
}

/// What rustls says, which has no kinds of its own here.
fn of_tls(text: &str) -> Option<&'static str> {
    const CERTIFICATE: &str = "invalid peer certificate: ";
    if text.contains("corrupt message") || text.contains("InvalidContentType") {
        return Some("it does not speak TLS on this port");
    }
    if text.contains("failed to read PEM from file") || text.contains("opening directory") {
        return Some(
            "the certificate authorities that SSL_CERT_FILE or SSL_CERT_DIR names cannot be read",
        );
    }
    if text.contains("CertificateRequired") {
        return Some(
            "it demands a certificate of its clients, and revwatch has none: let the password be enough (RabbitMQ: \
             ssl_options.fail_if_no_peer_cert = false, Redis: tls-auth-clients no)",
        );
    }
    let (_, fault) = text.split_once(CERTIFICATE)?;
    Some(match fault {
        // The latter if another authority has the same name.
        _ if fault.starts_with("UnknownIssuer") || fault.starts_with("BadSignature") => {
            "this machine does not know the authority that signed its certificate: install the authority's, or \
             name its file in SSL_CERT_FILE"
        }
        _ if fault.starts_with("NotValidForName") || fault.contains("not valid for name") => {
            "its certificate is for another host name"
        }
        _ if fault.starts_with("Expired") || fault.contains("expired") => {
            "its certificate has expired"
        }
        _ if fault.starts_with("NotValidYet") || fault.contains("not valid yet") => {
            "its certificate is not valid yet: check this machine's clock"
        }
        _ => "its certificate is not valid",
    })
}

fn of_kind(kind: io::ErrorKind) -> Option<&'static str> {
    Some(match kind {
        io::ErrorKind::ConnectionRefused => REFUSED,
        io::ErrorKind::TimedOut => NO_ANSWER,
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => CLOSED,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            "there is no route to this address"
        }
        _ => return None,
    })
}

fn of_text(text: &str) -> Option<&'static str> {
    let has = |part: &&str| text.contains(part);
    if [
        "failed to lookup address",
        "Name or service not known",
        "dns error",
    ]
    .iter()
    .any(has)
    {
        Some("no address is known for this host name: check the name, and DNS on this machine")
    } else if text.contains("Connection refused") {
        of_kind(io::ErrorKind::ConnectionRefused)
    } else if ["Connection reset", "unexpected end of file", "Broken pipe"]
        .iter()
        .any(has)
    {
        of_kind(io::ErrorKind::ConnectionReset)
    } else if ["timed out", "deadline has elapsed"].iter().any(has) {
        Some(NO_ANSWER)
    } else {
        None
    }
}

/// Without `(os error 111)`.
fn without_number(text: &str) -> String {
    let text = text.split(" (os error ").next().unwrap_or_default();
    text.trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("IO error: {0}")]
    struct Wrapped(#[source] io::Error);

    #[test]
    fn causes_are_in_plain_words_however_deep_they_are() {
        let table = [
            (
                io::Error::from_raw_os_error(111),
                "nothing listens there (connection refused)",
            ),
            (
                io::Error::other("failed to lookup address information: Name or service not known"),
                "no address is known for this host name: check the name, and DNS on this machine",
            ),
            (
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    "received corrupt message of type InvalidContentType",
                ),
                "it does not speak TLS on this port",
            ),
            (
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    "invalid peer certificate: UnknownIssuer",
                ),
                "this machine does not know the authority that signed its certificate: install the authority's, or \
                 name its file in SSL_CERT_FILE",
            ),
            (
                io::Error::other("failed to read PEM from file: No such file or directory"),
                "the certificate authorities that SSL_CERT_FILE or SSL_CERT_DIR names cannot be read",
            ),
            (
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    "received fatal alert: CertificateRequired",
                ),
                "it demands a certificate of its clients, and revwatch has none: let the password be enough \
                 (RabbitMQ: ssl_options.fail_if_no_peer_cert = false, Redis: tls-auth-clients no)",
            ),
            (
                io::Error::new(io::ErrorKind::TimedOut, "deadline has elapsed"),
                "no answer in time: check host, port and firewall",
            ),
            (
                io::Error::new(io::ErrorKind::UnexpectedEof, "tls handshake eof"),
                "it closed the connection: another service may listen there, or it wants TLS",
            ),
            (io::Error::from_raw_os_error(24), "Too many open files"),
        ];
        for (error, expected) in table {
            assert_eq!(plain(&Wrapped(error)), expected);
        }
        let closed = io::Error::from(io::ErrorKind::ConnectionReset);
        assert!(plain(&closed).ends_with("or it wants TLS"));
        assert_eq!(plain_in_use(&closed), "the connection ended");
        assert!(plain_over_tls(&closed).ends_with("or it demands a certificate of its clients"));
        let again = io::Error::from_raw_os_error(111);
        assert_eq!(plain(&again), "nothing listens there (connection refused)");
    }
}
