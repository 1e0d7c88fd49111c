//! The one question that refreshing asks of Stripe's API: how does this account stand?
use std::time::Duration;

use revwatch_stripe::{ApiErrorKind, Request, Response, StripeApi};

use super::agenda::Outcome;

/// No account, and why: for the log, without a word of the answer.
pub struct RefreshError {
    /// What follows from it.
    pub outcome: Outcome,
    /// For people.
    pub reason: String,
}

/// An account has some kilobytes.
const MAX_RESPONSE_BYTES: usize = 1 << 20;

/// `GET /v1/accounts/{id}`. Source: <https://docs.stripe.com/api/accounts/retrieve>.
pub async fn account(api: &StripeApi, id: &str) -> Result<Response, RefreshError> {
    let path = format!("/v1/accounts/{id}");
    let within = Duration::from_secs(20);
    Ok(api
        .ask(Request {
            path: &path,
            query: &[],
            account: None,
            largest: MAX_RESPONSE_BYTES,
            within,
        })
        .await?)
}

impl RefreshError {
    /// Trying again will not help before somebody changes something.
    pub fn refused(reason: impl Into<String>) -> Self {
        Self {
            outcome: Outcome::Refused { all: false },
            reason: reason.into(),
        }
    }
}

impl From<revwatch_stripe::ApiError> for RefreshError {
    fn from(revwatch_stripe::ApiError { why, reason }: revwatch_stripe::ApiError) -> Self {
        Self {
            outcome: why.into(),
            reason,
        }
    }
}

impl From<ApiErrorKind> for Outcome {
    fn from(why: ApiErrorKind) -> Self {
        match why {
            ApiErrorKind::WrongKey => Self::Refused { all: true },
            // What the key may not see is answered like what does not exist.
            ApiErrorKind::Forbidden | ApiErrorKind::NotThere => Self::Gone,
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
    fn what_follows_from_no_answer() {
        let wait = Some(Duration::from_secs(7));
        let table = [
            (ApiErrorKind::WrongKey, Outcome::Refused { all: true }),
            (ApiErrorKind::Forbidden, Outcome::Gone),
            (ApiErrorKind::NotThere, Outcome::Gone),
            (ApiErrorKind::Limited { wait }, Outcome::Limited { wait }),
            (ApiErrorKind::Failed, Outcome::Failed),
            (ApiErrorKind::Refused, Outcome::Refused { all: false }),
        ];
        for (why, expected) in table {
            assert_eq!(Outcome::from(why), expected, "{why:?}");
        }
    }
}
