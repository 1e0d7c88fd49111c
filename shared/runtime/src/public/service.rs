//! What answers the requests of a public port.

use std::error::Error;

use bytes::Bytes;
use hyper::Response;
use hyper::body::Body;

use super::received::Received;

/// What answers the requests of a public port.
pub trait Service: Send + Sync + 'static {
    /// The body of an answer.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static;

    /// Answers one request. An answer of 2xx says that the sender is one of ours: under pressure its
    /// connection is closed after those of others.
    fn answer<B>(
        &self,
        received: &mut Received<'_, B>,
    ) -> impl Future<Output = Response<Self::Body>> + Send
    where
        B: Body<Data = Bytes> + Send + Unpin;

    /// Counts a connection that ended without becoming a request: `malformed_http`, `header_too_large`,
    /// `header_timeout`, `too_many_connections` or `aborted`.
    fn count_unserved(&self, outcome: &'static str);
}
