//! Values of options that several commands take. A wrong value is refused before anything is opened.

/// A connected account. It is Stripe's id, so a mistyped one names no account at all.
pub fn account(text: &str) -> Result<String, String> {
    let is_id = text.strip_prefix("acct_").is_some_and(|rest| {
        !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_alphanumeric())
    });
    match is_id {
        true => Ok(text.to_owned()),
        false => Err(
            "it is not a connected account: write its id, acct_ followed by letters and digits"
                .to_owned(),
        ),
    }
}

/// A number of times per second, from 0.001 to `max`: a timer can wait for the time between two.
pub fn rate(max: f64) -> impl Fn(&str) -> Result<f64, String> + Clone + Send + Sync + 'static {
    const MIN: f64 = 0.001;
    move |text| {
        let rate: f64 = text.parse().map_err(|_| "it is not a number".to_owned())?;
        match (MIN..=max).contains(&rate) {
            true => Ok(rate),
            false => Err(format!("give a number per second from {MIN} to {max}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_stripes_id() {
        assert_eq!(account("acct_1032D82e"), Ok("acct_1032D82e".to_owned()));
        for text in ["", "acct_", "cus_1", "acct_1;", "acct_1 ", "ACCT_1"] {
            assert!(account(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_rate_is_one_that_a_timer_can_keep() {
        let rate = rate(100.0);
        for text in ["0.001", "20", "1e2"] {
            assert!(rate(text).is_ok(), "{text}");
        }
        for text in ["0", "-1", "1e10", "1e-30", "100.1", "inf", "NaN", "ten"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }
}
