//! The requests that the resolver sends to Stripe's API: retrieve an object, and list the rest of a
//! subscription's items or of an invoice's lines.

use std::time::Duration;

use revwatch_core::entity::EntityKind;
use revwatch_core::need::Need;
use revwatch_stripe::{ApiErrorKind, Request, Response, StripeApi};

use super::agenda::Outcome;
use super::items::{self, Page};

/// Why an object could not be fetched. Safe to log: it quotes nothing of the response.
pub struct FetchError {
    /// What the agenda does next.
    pub outcome: Outcome,
    /// A message for operators.
    pub reason: String,
}

/// Most objects take some kilobytes, a subscription with a hundred items and their tiers some hundred.
const MAX_RESPONSE_BYTES: usize = 4 << 20;

const TIMEOUT: Duration = Duration::from_secs(20);

/// What makes the amount of a subscription known: tiers, amounts in other currencies, and discounts with the
/// products to which they apply. At most four levels, so the coupons of items lack other currencies. The coupon of
/// a discount is expanded in the pinned version. Sources: <https://docs.stripe.com/api/expanding_objects>,
/// <https://docs.stripe.com/changelog/clover/2025-09-30/add-discount-source-property>.
const SUBSCRIPTION: &[(&str, &str)] = &[
    ("expand[]", "items.data.price.tiers"),
    ("expand[]", "items.data.price.currency_options"),
    ("expand[]", "items.data.discounts"),
    ("expand[]", "discounts.coupon.applies_to"),
    ("expand[]", "discounts.coupon.currency_options"),
];

/// The same for a page of items.
const ITEMS: &[(&str, &str)] = &[
    ("expand[]", "data.price.tiers"),
    ("expand[]", "data.price.currency_options"),
    ("expand[]", "data.discounts.coupon.currency_options"),
    ("limit", "100"),
];

/// What shows whether the last attempt to collect an invoice failed or is under way.
/// Source: <https://docs.stripe.com/api/invoice-payment/object>.
const INVOICE: &[(&str, &str)] = &[("expand[]", "payments.data.payment.payment_intent")];

/// Pages after the first. Of a list with more, only the first page is known.
const MAX_PAGES: usize = 20;

/// For instance `GET /v1/payouts/{id}`, as the connected account that owns it. Sources:
/// <https://docs.stripe.com/api>, <https://docs.stripe.com/connect/authentication>.
pub async fn object(api: &StripeApi, need: &Need) -> Result<Response, FetchError> {
    let path = format!("{}/{}", need.kind.row().api_path, need.id);
    let Some(list) = List::of(need, &path) else {
        return get(api, need, &path, &[]).await;
    };
    let mut response = match get(api, need, &path, list.of_object).await {
        // A restricted key may read invoices, but not payment intents.
        Err(FetchError {
            outcome: Outcome::Forbidden | Outcome::Gone,
            ..
        }) if need.kind == EntityKind::Invoice => get(api, need, &path, &[]).await?,
        response => response?,
    };
    let rest = list.rest(api, need, &response.body).await?;
    let whole = rest.and_then(|rest| items::complete(&response.body, list.name, &rest));
    if let Some(whole) = whole {
        response.body = whole;
    }
    Ok(response)
}

/// A list in an object, of which the object shows only the first page.
struct List<'a> {
    /// The field.
    name: &'static str,
    /// What the object is requested with.
    of_object: &'static [(&'static str, &'static str)],
    /// Where the other pages are.
    path: String,
    /// What they are requested with.
    query: Vec<(&'static str, &'a str)>,
}

impl<'a> List<'a> {
    /// Sources: <https://docs.stripe.com/api/subscription_items/list>,
    /// <https://docs.stripe.com/api/invoice-line-item/retrieve>.
    fn of(need: &'a Need, path: &str) -> Option<Self> {
        match need.kind {
            EntityKind::Subscription => Some(Self {
                name: "items",
                of_object: SUBSCRIPTION,
                path: "/v1/subscription_items".to_owned(),
                query: [ITEMS, &[("subscription", &need.id)]].concat(),
            }),
            EntityKind::Invoice => Some(Self {
                name: "lines",
                of_object: INVOICE,
                path: format!("{path}/lines"),
                query: vec![("limit", "100")],
            }),
            _ => None,
        }
    }

    /// The pages that follow the first; `None` if there are none or too many.
    async fn rest(
        &self,
        api: &StripeApi,
        need: &Need,
        object: &str,
    ) -> Result<Option<Vec<String>>, FetchError> {
        let mut pages = Vec::new();
        let mut next = Page::of_object(object, self.name).and_then(|page| page.next_after());
        while let Some(after) = &next {
            if pages.len() == MAX_PAGES {
                return Ok(None);
            }
            let mut query = self.query.clone();
            query.push(("starting_after", after));
            let page = get(api, need, &self.path, &query).await?.body;
            next = Page::of_list(&page).and_then(|page| page.next_after());
            pages.push(page);
        }
        Ok((!pages.is_empty()).then_some(pages))
    }
}

async fn get(
    api: &StripeApi,
    need: &Need,
    path: &str,
    query: &[(&str, &str)],
) -> Result<Response, FetchError> {
    Ok(api
        .get(Request {
            path,
            query,
            account: need.account.as_deref(),
            max_bytes: MAX_RESPONSE_BYTES,
            timeout: TIMEOUT,
        })
        .await?)
}

impl FetchError {
    /// A retry cannot help until the configuration or the object changes.
    pub fn refused(reason: impl Into<String>) -> Self {
        Self {
            outcome: Outcome::Refused { all: false },
            reason: reason.into(),
        }
    }

    /// Only Stripe has it.
    pub fn no_key() -> Self {
        Self {
            outcome: Outcome::NoKey,
            reason: "STRIPE_SECRET_KEY is not set".to_owned(),
        }
    }

    /// The store or the queue failed.
    pub fn failed(reason: impl Into<String>) -> Self {
        Self {
            outcome: Outcome::Failed,
            reason: reason.into(),
        }
    }
}

impl From<revwatch_stripe::ApiError> for FetchError {
    fn from(revwatch_stripe::ApiError { kind, reason }: revwatch_stripe::ApiError) -> Self {
        Self {
            outcome: kind.into(),
            reason,
        }
    }
}

impl From<ApiErrorKind> for Outcome {
    fn from(kind: ApiErrorKind) -> Self {
        match kind {
            ApiErrorKind::WrongKey => Self::Refused { all: true },
            ApiErrorKind::Forbidden => Self::Forbidden,
            ApiErrorKind::NotFound => Self::Gone,
            ApiErrorKind::Limited { wait } => Self::Limited { wait },
            ApiErrorKind::Failed => Self::Failed,
            ApiErrorKind::Refused => Self::Refused { all: false },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_api_error_has_its_outcome() {
        let wait = Some(Duration::from_secs(7));
        let table = [
            (ApiErrorKind::WrongKey, Outcome::Refused { all: true }),
            (ApiErrorKind::Forbidden, Outcome::Forbidden),
            (ApiErrorKind::NotFound, Outcome::Gone),
            (ApiErrorKind::Limited { wait }, Outcome::Limited { wait }),
            (ApiErrorKind::Failed, Outcome::Failed),
            (ApiErrorKind::Refused, Outcome::Refused { all: false }),
        ];
        for (kind, expected) in table {
            assert_eq!(Outcome::from(kind), expected, "{kind:?}");
        }
    }

    #[test]
    fn expansions_have_at_most_four_levels() {
        let expanded = SUBSCRIPTION.iter().chain(ITEMS).chain(INVOICE);
        for (_, path) in expanded.filter(|(name, _)| *name == "expand[]") {
            assert!(path.split('.').count() <= 4, "{path}");
        }
    }
}
