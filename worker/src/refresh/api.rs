//! The one question that refreshing asks of Stripe's API: how does this account stand?

use std::time::Duration;

use super::agenda::Outcome;
use crate::stripe_api::{self, Answer, Question, StripeApi, Why};

/// No account, and why: for the log, without a word of the answer.
pub struct NoAnswer {
    /// What follows from it.
    pub outcome: Outcome,
    /// For people.
    pub reason: String,
}

/// An account has some kilobytes.
const LARGEST_ANSWER: usize = 1 << 20;

/// `GET /v1/accounts/{id}`. Source: <https://docs.stripe.com/api/accounts/retrieve>.
pub async fn account(api: &StripeApi, id: &str) -> Result<Answer, NoAnswer> {
    let path = format!("/v1/accounts/{id}");
    let within = Duration::from_secs(20);
    Ok(api
        .ask(Question {
            path: &path,
            query: &[],
            account: None,
            largest: LARGEST_ANSWER,
            within,
        })
        .await?)
}

impl NoAnswer {
    /// Trying again will not help before somebody changes something.
    pub fn refused(reason: impl Into<String>) -> Self {
        Self {
            outcome: Outcome::Refused { all: false },
            reason: reason.into(),
        }
    }
}

impl From<stripe_api::NoAnswer> for NoAnswer {
    fn from(stripe_api::NoAnswer { why, reason }: stripe_api::NoAnswer) -> Self {
        Self {
            outcome: why.into(),
            reason,
        }
    }
}

impl From<Why> for Outcome {
    fn from(why: Why) -> Self {
        match why {
            Why::WrongKey => Self::Refused { all: true },
            // What the key may not see is answered like what does not exist.
            Why::Forbidden | Why::NotThere => Self::Gone,
            Why::Limited { wait } => Self::Limited { wait },
            Why::Failed => Self::Failed,
            Why::Refused => Self::Refused { all: false },
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
            (Why::WrongKey, Outcome::Refused { all: true }),
            (Why::Forbidden, Outcome::Gone),
            (Why::NotThere, Outcome::Gone),
            (Why::Limited { wait }, Outcome::Limited { wait }),
            (Why::Failed, Outcome::Failed),
            (Why::Refused, Outcome::Refused { all: false }),
        ];
        for (why, expected) in table {
            assert_eq!(Outcome::from(why), expected, "{why:?}");
        }
    }
}
