//! The one request that refreshing sends to Stripe's API: retrieve an account.
use std::time::Duration;

use revwatch_stripe::{ApiErrorKind, Request, Response, StripeApi};

use super::agenda::Outcome;

/// Why an account could not be fetched. Safe to log: it quotes nothing of the response.
pub struct RefreshError {
    /// What the agenda does next.
    pub outcome: Outcome,
    /// A message for operators.
    pub reason: String,
}

/// An account takes some kilobytes.
const MAX_RESPONSE_BYTES: usize = 1 << 20;

/// `GET /v1/accounts/{id}`. Source: <https://docs.stripe.com/api/accounts/retrieve>.
pub async fn account(api: &StripeApi, id: &str) -> Result<Response, RefreshError> {
    let path = format!("/v1/accounts/{id}");
    let timeout = Duration::from_secs(20);
    Ok(api
        .get(Request {
            path: &path,
            query: &[],
            account: None,
            max_bytes: MAX_RESPONSE_BYTES,
            timeout,
        })
        .await?)
}

impl RefreshError {
    /// A retry cannot help until the configuration or the account changes.
    pub fn refused(reason: impl Into<String>) -> Self {
        Self {
            outcome: Outcome::Refused { all: false },
            reason: reason.into(),
        }
    }
}

impl From<revwatch_stripe::ApiError> for RefreshError {
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
            // Stripe answers the same for what the key may not see and for what does not exist.
            ApiErrorKind::Forbidden | ApiErrorKind::NotFound => Self::Gone,
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
            (ApiErrorKind::Forbidden, Outcome::Gone),
            (ApiErrorKind::NotFound, Outcome::Gone),
            (ApiErrorKind::Limited { wait }, Outcome::Limited { wait }),
            (ApiErrorKind::Failed, Outcome::Failed),
            (ApiErrorKind::Refused, Outcome::Refused { all: false }),
        ];
        for (kind, expected) in table {
            assert_eq!(Outcome::from(kind), expected, "{kind:?}");
        }
    }
}
