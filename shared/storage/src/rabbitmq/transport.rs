//! The byte stream of a connection to RabbitMQ: TCP, or TLS over TCP for `amqps://`.
//!
//! TLS is rustls with the system's certificate authorities, as for every other connection. lapin's own TLS brings
//! PKCS#12 and the ciphers that it needs (fifty crates), for client certificates in files that revwatch does not use.

use std::future::Future;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use async_rs::traits::{Executor, Reactor, RuntimeKit};
use async_rs::util::Task;
use async_rs::{Runtime, Tokio};
use futures_util::Stream;
use futures_util::io::{AsyncRead, AsyncWrite};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{AsyncTcpStream, Connection, ConnectionProperties, ErrorKind};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::compat::TokioAsyncReadCompatExt as _;

/// Connects to `uri` and performs AMQP's handshake.
pub(super) async fn connect(
    uri: AMQPUri,
    properties: ConnectionProperties,
) -> lapin::Result<Connection> {
    let runtime = Runtime::new(Transport(Tokio::current()));
    let open =
        async |uri: AMQPUri, _| Ok(AsyncTcpStream::Plain(open(&uri).await.map_err(io_error)?));
    Connection::connector(uri, runtime, open, properties).await
}

/// A byte stream, with or without TLS.
trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

type BoxedStream = Box<dyn Bytes>;

async fn open_plain(addr: SocketAddr) -> io::Result<BoxedStream> {
    let stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    Ok(Box::new(stream.compat()))
}

async fn open(uri: &AMQPUri) -> io::Result<BoxedStream> {
    let (host, port) = (uri.authority.host.as_str(), uri.authority.port);
    let connecting = async {
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        Ok::<BoxedStream, io::Error>(match uri.scheme {
            AMQPScheme::AMQP => Box::new(stream.compat()),
            AMQPScheme::AMQPS => {
                let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
                Box::new(
                    TlsConnector::from(client_config()?)
                        .connect(name, stream)
                        .await?
                        .compat(),
                )
            }
        })
    };
    match uri.query.connection_timeout {
        Some(ms) => tokio::time::timeout(Duration::from_millis(ms), connecting).await?,
        None => connecting.await,
    }
}

/// Read once: the system's certificate authorities are in a file or in a folder of many.
fn client_config() -> io::Result<Arc<ClientConfig>> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(config.clone());
    }
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let unread = found.errors.first().map(ToString::to_string);
        let unread = unread.map(io::Error::other);
        return Err(unread.unwrap_or_else(|| {
            io::Error::other(
                "there are no certificate authorities on this machine (Debian: install ca-certificates), or in the \
                 file that SSL_CERT_FILE names",
            )
        }));
    }
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(CONFIG.get_or_init(|| Arc::new(config)).clone())
}

fn io_error(error: io::Error) -> lapin::Error {
    ErrorKind::IOError(Arc::new(error)).into()
}

/// tokio, whose streams are what [`open`] returns.
#[derive(Debug, Clone)]
struct Transport(Tokio);

impl RuntimeKit for Transport {}

impl Executor for Transport {
    type Task<T: Send + 'static> = <Tokio as Executor>::Task<T>;

    fn block_on<T, F: Future<Output = T>>(&self, future: F) -> T {
        self.0.block_on(future)
    }

    fn spawn<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &self,
        future: F,
    ) -> Task<Self::Task<T>> {
        self.0.spawn(future)
    }

    fn spawn_blocking<T: Send + 'static, F: FnOnce() -> T + Send + 'static>(
        &self,
        work: F,
    ) -> Task<Self::Task<T>> {
        self.0.spawn_blocking(work)
    }
}

impl Reactor for Transport {
    type TcpStream = BoxedStream;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: Read + Write + AsFd + AsRawFd + Send + 'static>(
        &self,
        socket: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        self.0.register(socket)
    }

    fn sleep(&self, duration: Duration) -> Self::Sleep {
        self.0.sleep(duration)
    }

    fn interval(&self, duration: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.0.interval(duration)
    }

    fn tcp_connect_addr(
        &self,
        addr: SocketAddr,
    ) -> impl Future<Output = io::Result<BoxedStream>> + Send + 'static {
        open_plain(addr)
    }
}
