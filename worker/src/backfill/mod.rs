//! Reads past events from Stripe's List Events and publishes them, so that they go the way of all events: archived,
//! recognised where they are known, merged.
//!
//! [`page`] decides purely; here is the shell. Stripe keeps events for 30 days, and lists those of a connected account
//! only to whoever asks as that account.
//! Source: <https://docs.stripe.com/api/events/list>, <https://docs.stripe.com/connect/authentication>.
//!
//! Invariant: a listing has come past a page only when all events of the page are durable in the queue. Whoever stops in
//! between and goes on from the listing as it was publishes some a second time, as the same deliveries.

pub mod page;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use revwatch_storage::ports::{Delivery, EventQueue, QueueError};
use revwatch_stripe::{ApiError, ApiErrorKind, Request, StripeApi};
use serde::{Deserialize, Serialize};
use tokio::time::{Interval, MissedTickBehavior, interval};

use self::page::{Page, PageError, wait};

/// How far back Stripe lists events.
pub const STRIPE_RETENTION_DAYS: i64 = 30;

/// From when (inclusive) until when (exclusive) events were made, Unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeRange {
    /// The oldest second.
    pub since_s: i64,
    /// The second after the newest.
    pub until_s: i64,
}

/// The events of one account, and how far they were read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// The connected account; `None` is the key's own.
    pub account: Option<String>,
    /// The last event of the last page that is in the queue: there it goes on.
    pub last: Option<String>,
    /// Pages read.
    pub pages: u64,
    /// Events read and published.
    pub events: u64,
    /// When the oldest of them was made, Unix seconds.
    pub oldest_s: Option<i64>,
    /// Whether this was all.
    pub is_done: bool,
}

/// Asks, at its pace, and publishes.
pub struct Backfill {
    api: StripeApi,
    queue: Arc<dyn EventQueue>,
    pace: Interval,
}

/// It does not go on.
#[derive(Debug, thiserror::Error)]
pub enum BackfillError {
    /// Stripe gives no page.
    #[error("{}", .0.reason)]
    NoAnswer(ApiError),
    /// What it gives is no page.
    #[error(transparent)]
    NotAPage(#[from] PageError),
    /// The events cannot be stored.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// The most that Stripe gives at once.
const PAGE: &str = "100";

/// A hundred invoices with all their lines are some megabytes.
const MAX_PAGE_BYTES: usize = 64 << 20;

/// A page of large events takes its time.
const PAGE_TIMEOUT: Duration = Duration::from_secs(60);

/// Publishes under way at once.
const MAX_CONCURRENT: usize = 32;

/// How often an event is handed to a queue that does not take it.
const MAX_PUBLISH_ATTEMPTS: u32 = 6;

impl Backfill {
    /// `per_second` is how many requests Stripe gets at most.
    pub fn new(api: StripeApi, queue: Arc<dyn EventQueue>, per_second: f64) -> Self {
        let mut pace = interval(Duration::from_secs_f64(1.0 / per_second));
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { api, queue, pace }
    }

    /// Reads the next page of a listing and publishes it; only then has the listing come further. `troubled` is told
    /// of what is tried again, and in how long.
    pub async fn step(
        &mut self,
        stretch: TimeRange,
        listing: &mut Listing,
        troubled: &mut (dyn FnMut(&str, Duration) + Send),
    ) -> Result<(), BackfillError> {
        let (since, until) = (stretch.since_s.to_string(), stretch.until_s.to_string());
        let mut query = vec![
            ("limit", PAGE),
            ("created[gte]", &since),
            ("created[lt]", &until),
        ];
        query.extend(listing.last.as_deref().map(|last| ("starting_after", last)));
        let answer = self
            .ask("/v1/events", &query, listing.account.as_deref(), troubled)
            .await?;
        let page = Page::parse(&answer, listing.last.as_deref())?;
        let (account, partitions) = (listing.account.as_deref(), self.queue.partitions());
        let received_ms = Timestamp::now().as_millisecond();
        let made = |raw: &&serde_json::value::RawValue| {
            page::delivery(raw.get(), account, partitions, received_ms)
        };
        let made = page.data.iter().map(made).collect::<Result<Vec<_>, _>>()?;
        let (last, events) = (
            made.last().map(|(delivery, _)| delivery.event_id.clone()),
            made.len(),
        );
        let oldest_s = made
            .iter()
            .filter_map(|(_, created_s)| *created_s)
            .chain(listing.oldest_s)
            .min();
        let queue = self.queue.as_ref();
        stream::iter(made)
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

    /// The connected accounts, from Stripe: also those of which no event has come yet.
    pub async fn connected_accounts(
        &mut self,
        troubled: &mut (dyn FnMut(&str, Duration) + Send),
    ) -> Result<Vec<String>, BackfillError> {
        let mut found: Vec<String> = Vec::new();
        loop {
            let last = found.last().cloned();
            let mut query = vec![("limit", PAGE)];
            query.extend(last.as_deref().map(|last| ("starting_after", last)));
            let answer = self.ask("/v1/accounts", &query, None, troubled).await?;
            let (ids, has_more) = page::account_ids(&answer, last.as_deref())?;
            found.extend(ids);
            if !has_more {
                return Ok(found);
            }
        }
    }

    async fn ask(
        &mut self,
        path: &str,
        query: &[(&str, &str)],
        account: Option<&str>,
        troubled: &mut (dyn FnMut(&str, Duration) + Send),
    ) -> Result<String, BackfillError> {
        let question = Request {
            path,
            query,
            account,
            largest: MAX_PAGE_BYTES,
            within: PAGE_TIMEOUT,
        };
        let mut tries = 0;
        loop {
            self.pace.tick().await;
            let no_answer = match self.api.ask(question).await {
                Ok(answer) => return Ok(answer.body),
                Err(no_answer) => no_answer,
            };
            tries += 1;
            let Some(wait) = wait(no_answer.why, tries) else {
                return Err(BackfillError::NoAnswer(no_answer));
            };
            troubled(&no_answer.reason, wait);
            tokio::time::sleep(wait).await;
        }
    }
}

impl BackfillError {
    /// Why Stripe gives nothing, if that is the reason.
    pub fn why(&self) -> Option<ApiErrorKind> {
        match self {
            Self::NoAnswer(no_answer) => Some(no_answer.why),
            Self::NotAPage(_) | Self::Queue(_) => None,
        }
    }
}

/// Hands a delivery to the queue until it is durable there, some times. Each adapter bounds how long one time takes.
async fn publish(queue: &dyn EventQueue, delivery: Delivery) -> Result<(), QueueError> {
    let mut tries = 0;
    loop {
        match queue.publish(delivery.clone()).await {
            Err(QueueError::Unavailable(_)) if tries + 1 < MAX_PUBLISH_ATTEMPTS => {
                tokio::time::sleep(Duration::from_millis(200) * 2_u32.pow(tries)).await;
                tries += 1;
            }
            done => return done,
        }
    }
}
