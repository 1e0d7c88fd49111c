//! Reads past events from Stripe's List Events and publishes them to the queue. They are then
//! handled like any other event: archived, deduplicated, merged.
//!
//! [`page`] decides purely; this module is the shell. Stripe keeps events for 30 days, and lists
//! the events of a connected account only in requests made as that account.
//! Source: <https://docs.stripe.com/api/events/list>,
//! <https://docs.stripe.com/connect/authentication>.
//!
//! Invariant: a listing advances past a page only when all events of the page are durable in the
//! queue. After an interruption, the command continues from the stored listing and publishes some
//! events a second time, as the same deliveries.

pub mod page;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use revwatch_core::clock::Clock;
use revwatch_storage::ports::{Delivery, Publish, QueueError};
use revwatch_stripe::{ApiError, ApiErrorKind, Request, StripeApi};
use serde::{Deserialize, Serialize};
use tokio::time::{Interval, MissedTickBehavior, interval};

use self::page::{Page, PageError, wait};

/// A range of creation times, Unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeRange {
    /// The first second, inclusive.
    pub since_s: i64,
    /// The last second, exclusive.
    pub until_s: i64,
}

/// The progress of reading one account's events.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// The connected account; `None` is the key's own account.
    pub account: Option<String>,
    /// The last event of the last published page: the listing continues after it.
    pub last: Option<String>,
    /// Pages read.
    pub pages: u64,
    /// Events read and published.
    pub events: u64,
    /// When the oldest of them was created, Unix seconds.
    pub oldest_s: Option<i64>,
    /// Whether all events were read.
    pub is_done: bool,
}

/// Lists events at a limited rate and publishes them.
pub struct Backfill {
    api: StripeApi,
    queue: Arc<dyn Publish>,
    clock: Arc<dyn Clock>,
    pace: Interval,
}

/// Why a backfill stopped.
#[derive(Debug, thiserror::Error)]
pub enum BackfillError {
    /// Stripe did not return a page.
    #[error("{}", .0.reason)]
    Api(ApiError),
    /// Stripe's response is not a valid page.
    #[error(transparent)]
    Page(#[from] PageError),
    /// The events cannot be stored.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// The largest page that Stripe allows.
const PAGE: &str = "100";

/// A hundred invoices with all their lines take some megabytes.
const MAX_PAGE_BYTES: usize = 64 << 20;

/// A page of large events takes long.
const PAGE_TIMEOUT: Duration = Duration::from_secs(60);

/// Publishes in progress at the same time.
const MAX_CONCURRENT: usize = 32;

/// Attempts to publish one event before the backfill fails.
const MAX_PUBLISH_ATTEMPTS: u32 = 6;

impl Backfill {
    /// `per_second` limits the requests to Stripe.
    pub fn new(
        api: StripeApi,
        queue: Arc<dyn Publish>,
        clock: Arc<dyn Clock>,
        per_second: f64,
    ) -> Self {
        let mut pace = interval(Duration::from_secs_f64(1.0 / per_second));
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            api,
            queue,
            clock,
            pace,
        }
    }

    /// Reads and publishes the next page of a listing, then advances the listing. Calls `on_retry`
    /// with the error and the wait before each retry.
    pub async fn step(
        &mut self,
        range: TimeRange,
        listing: &mut Listing,
        on_retry: &mut (dyn FnMut(&str, Duration) + Send),
    ) -> Result<(), BackfillError> {
        let (since, until) = (range.since_s.to_string(), range.until_s.to_string());
        let mut query = vec![
            ("limit", PAGE),
            ("created[gte]", &since),
            ("created[lt]", &until),
        ];
        query.extend(listing.last.as_deref().map(|last| ("starting_after", last)));
        let response = self
            .get("/v1/events", &query, listing.account.as_deref(), on_retry)
            .await?;
        let page = Page::parse(&response, listing.last.as_deref())?;
        let (account, partitions) = (listing.account.as_deref(), self.queue.partitions());
        let received_ms = self.clock.now_ms();
        let parsed = |raw: &&serde_json::value::RawValue| {
            page::delivery(raw.get(), account, partitions, received_ms)
        };
        let parsed = page
            .data
            .iter()
            .map(parsed)
            .collect::<Result<Vec<_>, _>>()?;
        let (last, events) = (
            parsed.last().map(|(delivery, _)| delivery.event_id.clone()),
            parsed.len(),
        );
        let oldest_s = parsed
            .iter()
            .filter_map(|(_, created_s)| *created_s)
            .chain(listing.oldest_s)
            .min();
        let queue = self.queue.as_ref();
        stream::iter(parsed)
            .map(|(delivery, _)| publish(queue, delivery))
            .buffer_unordered(MAX_CONCURRENT)
            .try_collect::<()>()
            .await?;
        listing.last = last.or(listing.last.take());
        listing.pages += 1;
        listing.events += events as u64;
        listing.oldest_s = oldest_s;
        listing.is_done = !page.has_more;
        Ok(())
    }

    /// Lists the connected accounts from Stripe, including those without any event so far.
    pub async fn connected_accounts(
        &mut self,
        on_retry: &mut (dyn FnMut(&str, Duration) + Send),
    ) -> Result<Vec<String>, BackfillError> {
        let mut found: Vec<String> = Vec::new();
        loop {
            let last = found.last().cloned();
            let mut query = vec![("limit", PAGE)];
            query.extend(last.as_deref().map(|last| ("starting_after", last)));
            let response = self.get("/v1/accounts", &query, None, on_retry).await?;
            let (ids, has_more) = page::account_ids(&response, last.as_deref())?;
            found.extend(ids);
            if !has_more {
                return Ok(found);
            }
        }
    }

    async fn get(
        &mut self,
        path: &str,
        query: &[(&str, &str)],
        account: Option<&str>,
        on_retry: &mut (dyn FnMut(&str, Duration) + Send),
    ) -> Result<String, BackfillError> {
        let request = Request {
            path,
            query,
            account,
            max_bytes: MAX_PAGE_BYTES,
            timeout: PAGE_TIMEOUT,
        };
        let mut attempts = 0;
        loop {
            self.pace.tick().await;
            let error = match self.api.get(request).await {
                Ok(response) => return Ok(response.body),
                Err(error) => error,
            };
            attempts += 1;
            let Some(wait) = wait(error.kind, attempts) else {
                return Err(BackfillError::Api(error));
            };
            on_retry(&error.reason, wait);
            tokio::time::sleep(wait).await;
        }
    }
}

impl BackfillError {
    /// Stripe's error, if that is the cause.
    pub fn kind(&self) -> Option<ApiErrorKind> {
        match self {
            Self::Api(error) => Some(error.kind),
            Self::Page(_) | Self::Queue(_) => None,
        }
    }
}

/// Publishes a delivery to the queue until it is durable, up to a limit. Each adapter limits the
/// time of one attempt.
async fn publish(queue: &dyn Publish, delivery: Delivery) -> Result<(), QueueError> {
    let mut attempts = 0;
    loop {
        match queue.publish(delivery.clone()).await {
            Err(QueueError::Unavailable(_)) if attempts + 1 < MAX_PUBLISH_ATTEMPTS => {
                tokio::time::sleep(Duration::from_millis(200) * 2_u32.pow(attempts)).await;
                attempts += 1;
            }
            done => return done,
        }
    }
}
