//! Values of events that Stripe documents completely, such as statuses. A value that Stripe does not document is
//! accepted in webhooks, since Stripe may add some; in a test it is more likely misspelled. `json` and `file` are for
//! those that are meant. Pure.

use std::collections::BTreeSet;
use std::ops::Range;

use revwatch_core::entity::stripe_enums::documented_statuses;
use revwatch_runtime::config::closest_match;
use revwatch_runtime::wording;
use serde_json::Value;
use toml::de::DeValue;

use super::super::template::family_of;
use super::{Item, Reader};

/// Source: <https://docs.stripe.com/api/prices/object#price_object-recurring-interval>.
const INTERVALS: [&str; 4] = ["day", "week", "month", "year"];

/// Source: <https://docs.stripe.com/api/invoices/object#invoice_object-collection_method>.
const COLLECTION_METHODS: [&str; 2] = ["charge_automatically", "send_invoice"];

/// Of an invoice with a payment that is processing: named in
/// <https://docs.stripe.com/billing/subscriptions/overview>, not in the API's list.
const PAYMENT_PENDING: &str = "open_payment_pending";

/// The currencies of ISO 4217, of which Stripe supports most, and USDC.
/// Source: <https://docs.stripe.com/currencies#presentment-currencies>.
const CURRENCIES: &str = "aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bhd bif bmd bnd bob brl bsd btn bwp \
    byn bzd cad cdf chf clp cny cop crc cup cve czk djf dkk dop dzd egp ern etb eur fjd fkp gbp gel ghs gip gmd gnf \
    gtq gyd hkd hnl htg huf idr ils inr iqd irr isk jmd jod jpy kes kgs khr kmf kpw krw kwd kyd kzt lak lbp lkr lrd \
    lsl lyd mad mdl mga mkd mmk mnt mop mru mur mvr mwk mxn myr mzn nad ngn nio nok npr nzd omr pab pen pgk php pkr \
    pln pyg qar ron rsd rub rwf sar sbd scr sdg sek sgd shp sle sos srd ssp std stn svc syp szl thb tjs tmt tnd top \
    try ttd twd tzs uah ugx usd usdc uyu uzs ved ves vnd vuv wst xaf xcd xcg xof xpf yer zar zmw zwg";

/// Words for currencies.
const CALLED: [(&str, &str); 6] = [
    ("dollar", "usd"),
    ("euro", "eur"),
    ("franc", "chf"),
    ("pound", "gbp"),
    ("real", "brl"),
    ("yen", "jpy"),
];

/// ISO 3166-1.
const COUNTRIES: &str = "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR \
    BS BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET \
    FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ \
    IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML \
    MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS \
    PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL \
    TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS XK YE YT ZA ZM ZW";

/// The fields of the object of an event that have a value that Stripe does not document, and what is wrong with it.
pub(super) fn undocumented(event: &str, body: &[u8]) -> Vec<(String, String)> {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let mut found = Vec::new();
    note_json(&body["data"]["object"], "", &mut |path, text| {
        let what = fault(family_of(event), path, text);
        found.extend(what.map(|what| (path.to_owned(), what)));
    });
    found
}

impl Reader<'_> {
    /// Checks the values of a `send` with this type of event.
    pub(super) fn check_values(&mut self, item: &Item<'_>, event: &str) {
        let mut wrong: Vec<(Range<usize>, String)> = Vec::new();
        note_texts(item, "", &mut |path, text, span| {
            let of_object = ["object.", "previous."].map(|table| path.strip_prefix(table));
            let path = of_object.into_iter().flatten().next().unwrap_or(path);
            let what = fault(family_of(event), path, text);
            wrong.extend(what.map(|what| (span, what)));
        });
        for (span, what) in wrong {
            self.fault(Some(span), &what);
        }
    }
}

/// Why Stripe documents no such value of the field at `path` of an object.
fn fault(family: &str, path: &str, text: &str) -> Option<String> {
    // A placeholder stands for any text.
    if text.contains('{') {
        return None;
    }
    let field = path.rsplit('.').next().unwrap_or(path);
    let known: Vec<&str> = match path {
        "currency" => return fault_of_currency(text),
        "country" if family == "account" => return fault_of_country(text),
        "status" => documented(family, "status").collect(),
        // A capability may be disabled for a reason of its account.
        "disabled_reason" | "requirements.disabled_reason"
            if ["account", "capability"].contains(&family) =>
        {
            let of_capability = documented(family, "requirements.disabled_reason");
            let of_account = documented("account", "requirements.disabled_reason");
            let reasons: BTreeSet<&str> = of_capability.chain(of_account).collect();
            reasons.into_iter().collect()
        }
        "collection_method" => COLLECTION_METHODS.to_vec(),
        "interval" => INTERVALS.to_vec(),
        path if path.ends_with(".recurring.interval") || path.ends_with("plan.interval") => {
            INTERVALS.to_vec()
        }
        _ => return None,
    };
    let is_right = known.is_empty() || known.contains(&text);
    (!is_right).then(|| format!("`{field}` {}", wording::one_of(&known, text)))
}

/// The values that Stripe documents for a field of the objects of a family of events.
fn documented(family: &str, field: &str) -> impl Iterator<Item = &'static str> {
    let object = match family {
        "customer.subscription" => "subscription",
        "charge.dispute" => "dispute",
        "checkout.session" => "checkout_session",
        same => same,
    };
    let of_object =
        documented_statuses().filter(move |[of, name, _]| (*of, *name) == (object, field));
    let pending = Some(PAYMENT_PENDING).filter(|_| (object, field) == ("invoice", "status"));
    of_object.map(|[.., value]| value).chain(pending)
}

fn fault_of_currency(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    if CURRENCIES.split(' ').any(|known| known == lower) {
        return None;
    }
    let called = CALLED.iter().find(|(called, _)| lower.starts_with(called));
    let near = called
        .map(|(_, code)| *code)
        .or_else(|| near(&lower, CURRENCIES));
    let what = "must be the three letters of a currency (ISO 4217), such as \"usd\"";
    Some(unlike("currency", what, text, near))
}

fn fault_of_country(text: &str) -> Option<String> {
    let upper = text.to_ascii_uppercase();
    if COUNTRIES.split(' ').any(|known| known == upper) {
        return None;
    }
    let what = "must be the two letters of a country (ISO 3166-1), such as \"US\"";
    Some(unlike("country", what, text, near(&upper, COUNTRIES)))
}

fn unlike(field: &str, must: &str, text: &str, near: Option<&str>) -> String {
    let hint = near.map_or_else(String::new, |near| format!("; did you mean {near:?}?"));
    format!("`{field}` {must}, but is {text:?}{hint}")
}

/// The code that was probably meant: one that is alike, or has the same letters.
fn near<'a>(text: &str, codes: &'a str) -> Option<&'a str> {
    let letters = |text: &str| {
        let mut letters = text.as_bytes().to_vec();
        letters.sort_unstable();
        letters
    };
    let wanted = letters(text);
    let known = || codes.split(' ');
    closest_match(text, known()).or_else(|| known().find(|it| letters(it) == wanted))
}

/// Notes every text of a table, and of the tables and lists in it, with its path.
fn note_texts(item: &Item<'_>, path: &str, note: &mut dyn FnMut(&str, &str, Range<usize>)) {
    match item.get_ref() {
        DeValue::String(text) => note(path, text, item.span()),
        DeValue::Array(items) => items.iter().for_each(|it| note_texts(it, path, note)),
        DeValue::Table(table) => {
            for (key, value) in table {
                note_texts(value, &below(path, key.get_ref()), note);
            }
        }
        _ => {}
    }
}

/// The same of JSON.
fn note_json(value: &Value, path: &str, note: &mut dyn FnMut(&str, &str)) {
    match value {
        Value::String(text) => note(path, text),
        Value::Array(items) => items.iter().for_each(|it| note_json(it, path, note)),
        Value::Object(fields) => {
            for (key, value) in fields {
                note_json(value, &below(path, key), note);
            }
        }
        _ => {}
    }
}

fn below(path: &str, key: &str) -> String {
    match path {
        "" => key.to_owned(),
        path => format!("{path}.{key}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_stripe_does_not_document_is_named_with_the_one_that_was_meant() {
        let table = [
            (
                "customer.subscription",
                "status",
                "actve",
                "did you mean \"active\"?",
            ),
            (
                "customer.subscription",
                "interval",
                "fortnight",
                "day, week, month, year;",
            ),
            (
                "customer.subscription",
                "items.data.price.recurring.interval",
                "moth",
                "`interval` must be one of: day, week, month, year; but is \"moth\"; did you mean \"month\"?",
            ),
            ("payout", "currency", "dollar", "did you mean \"usd\"?"),
            ("payout", "currency", "Euros", "did you mean \"eur\"?"),
            ("payout", "currency", "uds", "did you mean \"usd\"?"),
            (
                "payout",
                "currency",
                "xxxxxx",
                "such as \"usd\", but is \"xxxxxx\"",
            ),
            (
                "account",
                "country",
                "Brazil",
                "(ISO 3166-1), such as \"US\"",
            ),
            (
                "account",
                "requirements.disabled_reason",
                "rejected.fruad",
                "\"rejected.fraud\"?",
            ),
            ("capability", "status", "activ", "\"active\"?"),
            ("invoice", "collection_method", "send", "send_invoice"),
            ("checkout.session", "status", "completed", "\"complete\"?"),
        ];
        for (family, path, text, expected) in table {
            let what = fault(family, path, text).expect(text);
            assert!(what.contains(expected), "{what}");
        }
    }

    #[test]
    fn what_stripe_documents_or_leaves_open_is_right() {
        for (family, path, text) in [
            ("customer.subscription", "status", "past_due"),
            ("invoice", "status", "open_payment_pending"),
            ("payout", "currency", "JPY"),
            ("payout", "currency", "usdc"),
            ("payout", "status", "{n}"),
            ("account", "country", "pt"),
            (
                "capability",
                "requirements.disabled_reason",
                "rejected.fraud",
            ),
            // Stripe documents no status of these, and that of a person is no country of the account.
            ("product", "status", "new"),
            ("account", "individual.address.country", "Brazil"),
            ("payout", "metadata.currency", "points"),
            ("payout", "reason", "new"),
        ] {
            assert_eq!(fault(family, path, text), None, "{path} {text}");
        }
    }

    #[test]
    fn each_list_of_codes_is_in_order() {
        for codes in [CURRENCIES, COUNTRIES] {
            assert!(codes.split(' ').is_sorted_by(|a, b| a < b));
        }
    }
}
