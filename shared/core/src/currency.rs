//! Which texts are currencies. They become parts of counters and of metric labels, so there is a list.

/// Whether this code, in lower case, is a currency.
pub fn is_currency(code: &str) -> bool {
    CODES.binary_search(&code).is_ok()
}

/// The active codes of ISO 4217, without those of tests and of no currency; those that it withdrew in the last years,
/// which Stripe may still send; and the stablecoin that Stripe has as a currency.
/// Sources: <https://www.six-group.com/en/products-services/financial-information/data-standards.html>,
/// <https://docs.stripe.com/currencies>.
#[rustfmt::skip]
const CODES: &[&str] = &[
    "aed", "afn", "all", "amd", "ang", "aoa", "ars", "aud", "awg", "azn", "bam", "bbd", "bdt", "bgn", "bhd", "bif",
    "bmd", "bnd", "bob", "bov", "brl", "bsd", "btn", "bwp", "byn", "bzd", "cad", "cdf", "che", "chf", "chw", "clf",
    "clp", "cny", "cop", "cou", "crc", "cuc", "cup", "cve", "czk", "djf", "dkk", "dop", "dzd", "egp", "ern", "etb",
    "eur", "fjd", "fkp", "gbp", "gel", "ghs", "gip", "gmd", "gnf", "gtq", "gyd", "hkd", "hnl", "hrk", "htg", "huf",
    "idr", "ils", "inr", "iqd", "irr", "isk", "jmd", "jod", "jpy", "kes", "kgs", "khr", "kmf", "kpw", "krw", "kwd",
    "kyd", "kzt", "lak", "lbp", "lkr", "lrd", "lsl", "lyd", "mad", "mdl", "mga", "mkd", "mmk", "mnt", "mop", "mro",
    "mru", "mur", "mvr", "mwk", "mxn", "mxv", "myr", "mzn", "nad", "ngn", "nio", "nok", "npr", "nzd", "omr", "pab",
    "pen", "pgk", "php", "pkr", "pln", "pyg", "qar", "ron", "rsd", "rub", "rwf", "sar", "sbd", "scr", "sdg", "sek",
    "sgd", "shp", "sle", "sll", "sos", "srd", "ssp", "std", "stn", "svc", "syp", "szl", "thb", "tjs", "tmt", "tnd",
    "top", "try", "ttd", "twd", "tzs", "uah", "ugx", "usd", "usdc", "usn", "uyi", "uyu", "uyw", "uzs", "ved", "ves",
    "vnd", "vuv", "wst", "xad", "xaf", "xag", "xau", "xba", "xbb", "xbc", "xbd", "xcd", "xcg", "xdr", "xof", "xpd",
    "xpf", "xpt", "xsu", "xua", "yer", "zar", "zmw", "zwg", "zwl",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_and_decides() {
        assert!(CODES.is_sorted_by(|a, b| a < b));
        for code in ["usd", "jpy", "usdc", "xcg"] {
            assert!(is_currency(code), "{code}");
        }
        for code in ["", "us", "USD", "zzz", "xxx", "xts", "usdx"] {
            assert!(!is_currency(code), "{code}");
        }
    }
}
