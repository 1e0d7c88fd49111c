//! Stripe's names of requirements, in plain words (C6, C14).
//!
//! A requirement is a path to a field of the account or of one of its persons. Sources:
//! <https://docs.stripe.com/connect/required-verification-information>,
//! <https://docs.stripe.com/api/accounts/object>, <https://docs.stripe.com/api/persons/object>.

/// The detail of a condition: Stripe's reason or a number, then the requirements that are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Detail<'a> {
    /// Empty if there is only what is due.
    pub reason: &'a str,
    names: &'a str,
}

const NEEDS: &str = "; needs ";

impl<'a> Detail<'a> {
    /// Reads what [`Detail::text`] wrote, or any other detail, which has no requirements.
    pub fn of(text: &'a str) -> Self {
        let (reason, names) = text.split_once(NEEDS).unwrap_or((text, ""));
        Self { reason, names }
    }

    /// As conditions store it. `unnamed` are further requirements.
    pub fn text(reason: &str, names: &[String], unnamed: usize) -> String {
        let more = if unnamed > 0 {
            format!(", +{unnamed}")
        } else {
            String::new()
        };
        format!("{reason}{NEEDS}{}{more}", names.join(", "))
    }

    /// Stripe's names of what is due.
    pub fn names(self) -> impl Iterator<Item = &'a str> {
        let names = self.names.split(", ");
        names.filter(|name| !name.is_empty() && !name.starts_with('+'))
    }

    /// What is due in words, each thing once.
    pub fn needs(self) -> Vec<String> {
        let mut needs = Vec::new();
        for name in self.names() {
            let words = in_words(name);
            if !needs.contains(&words) {
                needs.push(words);
            }
        }
        if self.unnamed() > 0 {
            needs.push(format!("{} more", self.unnamed()));
        }
        needs
    }

    /// How many more are due.
    pub fn unnamed(self) -> usize {
        let more = self.names.rsplit_once(", +");
        more.and_then(|(_, more)| more.parse().ok()).unwrap_or(0)
    }
}

/// Whose a field is: the first part of its path. A person of its own is `person_…`.
const HOLDERS: &[(&str, &str)] = &[
    ("authorizer", "the authorizer"),
    ("company", "the company"),
    ("directors", "the directors"),
    ("executives", "the executives"),
    ("individual", "the individual"),
    ("legal_guardian", "the legal guardian"),
    ("owners", "the owners"),
    ("representative", "the representative"),
];

/// Fields of a company or a person; those below them mean the same.
const FIELDS: &[(&str, &str)] = &[
    ("additional_tos_acceptances", "acceptance of further terms"),
    ("address", "address"),
    ("address_kana", "address in kana"),
    ("address_kanji", "address in kanji"),
    ("directors_provided", "complete list of directors"),
    ("directorship_declaration", "confirmation of the directors"),
    ("dob", "date of birth"),
    ("documents", "documents"),
    ("email", "e-mail address"),
    ("executives_provided", "complete list of executives"),
    ("export_license_id", "export license number"),
    ("export_purpose_code", "export purpose code"),
    ("first_name", "first name"),
    ("first_name_kana", "first name in kana"),
    ("first_name_kanji", "first name in kanji"),
    ("full_name_aliases", "other names"),
    ("gender", "gender"),
    ("id_number", "identity number"),
    ("id_number_secondary", "second identity number"),
    ("last_name", "last name"),
    ("last_name_kana", "last name in kana"),
    ("last_name_kanji", "last name in kanji"),
    ("maiden_name", "name at birth"),
    ("name", "name"),
    ("name_kana", "name in kana"),
    ("name_kanji", "name in kanji"),
    ("nationality", "nationality"),
    ("owners_provided", "complete list of owners"),
    ("ownership_declaration", "confirmation of the owners"),
    (
        "ownership_exemption_reason",
        "reason for an exemption from naming owners",
    ),
    ("phone", "telephone number"),
    ("political_exposure", "political exposure"),
    ("registered_address", "registered address"),
    ("registration_date", "date of registration"),
    ("registration_number", "registration number"),
    ("relationship", "relationship to the company"),
    ("relationship.authorizer", "role as authorizer"),
    ("relationship.director", "role as director"),
    ("relationship.executive", "role as executive"),
    ("relationship.legal_guardian", "role as legal guardian"),
    ("relationship.owner", "role as owner"),
    ("relationship.percent_ownership", "share of ownership"),
    ("relationship.representative", "role as representative"),
    ("relationship.title", "job title"),
    (
        "representative_declaration",
        "confirmation of the representative",
    ),
    ("ssn_last_4", "last four digits of the SSN"),
    ("structure", "legal structure"),
    ("tax_id", "tax number"),
    ("tax_id_registrar", "registrar of the tax number"),
    ("us_cfpb_data", "details for the CFPB"),
    ("vat_id", "VAT number"),
    ("verification", "verification"),
    ("verification.additional_document", "proof of address"),
    ("verification.document", "identity document"),
    ("verification.proof_of_liveness", "proof of liveness"),
];

/// Fields of the account itself, and of a company where they mean something else than of a person.
const OWN: &[(&str, &str)] = &[
    ("business_profile.annual_revenue", "annual revenue"),
    (
        "business_profile.estimated_worker_count",
        "number of workers",
    ),
    ("business_profile.mcc", "merchant category"),
    (
        "business_profile.minority_owned_business_designation",
        "kind of ownership of the business",
    ),
    (
        "business_profile.monthly_estimated_revenue",
        "monthly revenue",
    ),
    ("business_profile.name", "business name"),
    (
        "business_profile.product_description",
        "description of what is sold",
    ),
    ("business_profile.support_address", "support address"),
    ("business_profile.support_email", "support e-mail address"),
    ("business_profile.support_phone", "support telephone number"),
    ("business_profile.support_url", "support website"),
    ("business_profile.url", "business website"),
    ("business_type", "type of business"),
    ("company.verification.document", "document of the company"),
    ("country", "country"),
    ("default_currency", "currency"),
    ("directors_provided", "complete list of directors"),
    ("documents", "documents"),
    (
        "documents.bank_account_ownership_verification",
        "proof of who owns the bank account",
    ),
    ("documents.company_license", "license of the company"),
    (
        "documents.company_memorandum_of_association",
        "memorandum of association",
    ),
    (
        "documents.company_ministerial_decree",
        "ministerial decree of the company",
    ),
    (
        "documents.company_registration_verification",
        "proof of registration",
    ),
    (
        "documents.company_tax_id_verification",
        "proof of the tax number",
    ),
    ("documents.proof_of_address", "proof of address"),
    ("documents.proof_of_registration", "proof of registration"),
    (
        "documents.proof_of_ultimate_beneficial_ownership",
        "proof of who owns the company",
    ),
    ("email", "e-mail address"),
    ("executives_provided", "complete list of executives"),
    ("external_account", "bank account"),
    ("owners_provided", "complete list of owners"),
    // Of no person yet: one with this role must be named.
    ("relationship", "persons with their roles"),
    ("relationship.authorizer", "a person as authorizer"),
    ("relationship.director", "a person as director"),
    ("relationship.executive", "a person as executive"),
    ("relationship.legal_guardian", "a person as legal guardian"),
    ("relationship.owner", "a person as owner"),
    ("relationship.percent_ownership", "shares of ownership"),
    ("relationship.representative", "a person as representative"),
    ("relationship.title", "job titles"),
    (
        "settings.bacs_debit_payments",
        "settings of Bacs Direct Debit",
    ),
    (
        "settings.card_issuing.tos_acceptance",
        "acceptance of the card issuing terms",
    ),
    (
        "settings.payments.statement_descriptor",
        "statement descriptor",
    ),
    (
        "settings.treasury.tos_acceptance",
        "acceptance of the treasury terms",
    ),
    ("tos_acceptance", "acceptance of the terms"),
];

/// Begins the id of a request that Stripe makes of the account's owner, for instance about a risk.
/// Source: <https://docs.stripe.com/connect/handling-api-verification>.
const INTERVENTION: &str = "interv_";

/// A requirement in plain words; Stripe's name of it if it has no entry here.
pub fn in_words(name: &str) -> String {
    if let Some(words) = longest(OWN, name) {
        return words.to_owned();
    }
    if let Some(id) = intervention(name) {
        return format!("an answer to Stripe's request ({id})");
    }
    let of_holder = || {
        let (first, field) = name.split_once('.')?;
        let field = longest(FIELDS, field)?;
        Some(format!("{field} of {}", holder(first)?))
    };
    of_holder().unwrap_or_else(|| name.to_owned())
}

/// Whether it begins as one of Stripe's names: it holds no text of a person.
pub fn is_known(name: &str) -> bool {
    in_words(name) != name || name.split('.').next().and_then(holder).is_some()
}

/// The id of the request that a requirement is to answer.
fn intervention(name: &str) -> Option<&str> {
    let id = name.split('.').next()?;
    let rest = id.strip_prefix(INTERVENTION)?;
    let is_id = !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric());
    is_id.then_some(id)
}

fn holder(first: &str) -> Option<&'static str> {
    if first.starts_with("person_") {
        return Some("a person");
    }
    HOLDERS
        .iter()
        .find(|(name, _)| *name == first)
        .map(|(_, words)| *words)
}

/// The words of the longest entry that `path` is or lies below.
fn longest(table: &[(&str, &'static str)], path: &str) -> Option<&'static str> {
    let lies_below = |entry: &str| {
        path.strip_prefix(entry)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let fitting = table.iter().filter(|(entry, _)| lies_below(entry));
    fitting
        .max_by_key(|(entry, _)| entry.len())
        .map(|(_, words)| *words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_are_named_in_words_and_unknown_ones_by_stripes_name() {
        let table = [
            ("external_account", "bank account"),
            (
                "individual.verification.document",
                "identity document of the individual",
            ),
            (
                "individual.verification.document.front",
                "identity document of the individual",
            ),
            (
                "person_1A2b.verification.document",
                "identity document of a person",
            ),
            (
                "person_1A2b.verification.additional_document",
                "proof of address of a person",
            ),
            ("company.verification.document", "document of the company"),
            (
                "representative.relationship.title",
                "job title of the representative",
            ),
            ("owners.dob.day", "date of birth of the owners"),
            ("business_profile.mcc", "merchant category"),
            ("business_profile.url", "business website"),
            ("tos_acceptance.date", "acceptance of the terms"),
            ("company.tax_id", "tax number of the company"),
            (
                "settings.payments.statement_descriptor",
                "statement descriptor",
            ),
            (
                "representative.relationship.executive",
                "role as executive of the representative",
            ),
            (
                "representative.verification.additional_document",
                "proof of address of the representative",
            ),
            (
                "person_1A2b.relationship.owner",
                "role as owner of a person",
            ),
            (
                "person_1A2b.relationship.added_later",
                "relationship to the company of a person",
            ),
            ("relationship.owner", "a person as owner"),
            ("relationship.representative", "a person as representative"),
            ("relationship.director", "a person as director"),
            ("relationship.executive", "a person as executive"),
            ("directors_provided", "complete list of directors"),
            ("owners_provided", "complete list of owners"),
            ("executives_provided", "complete list of executives"),
            (
                "company.owners_provided",
                "complete list of owners of the company",
            ),
            (
                "company.representative_declaration.date",
                "confirmation of the representative of the company",
            ),
            (
                "legal_guardian.dob.year",
                "date of birth of the legal guardian",
            ),
            (
                "interv_1.other.support",
                "an answer to Stripe's request (interv_1)",
            ),
            (
                "interv_1.rejection_appeal.support",
                "an answer to Stripe's request (interv_1)",
            ),
            ("interv_1", "an answer to Stripe's request (interv_1)"),
            ("individual.added_later", "individual.added_later"),
            ("external_accounts", "external_accounts"),
            ("", ""),
        ];
        for (name, expected) in table {
            assert_eq!(in_words(name), expected);
        }
        assert!(is_known("individual.added_later") && !is_known("jane.doe"));
        assert!(is_known("relationship.owner"));
        // What follows the prefix could be any text.
        assert!(is_known("interv_1A2b.other.support") && !is_known("interv_jane doe"));
    }

    #[test]
    fn each_table_is_in_order_and_has_no_name_twice() {
        for table in [HOLDERS, FIELDS, OWN] {
            assert!(table.is_sorted_by(|a, b| a.0 < b.0), "{table:?}");
        }
    }

    #[test]
    fn a_detail_has_a_reason_and_what_is_due_each_thing_once() {
        let names = ["owners.dob.day", "owners.dob.month", "external_account"];
        let names = names.map(str::to_owned);
        let text = Detail::text("3 due, 1 overdue", &names, 0);
        let detail = Detail::of(&text);
        assert_eq!(detail.reason, "3 due, 1 overdue");
        assert_eq!(
            detail.needs(),
            ["date of birth of the owners", "bank account"]
        );
        assert!(detail.names().eq(names.iter().map(String::as_str)));
        let text = Detail::text("", &names[2..], 7);
        assert_eq!(Detail::of(&text).reason, "");
        assert_eq!(Detail::of(&text).needs(), ["bank account", "7 more"]);
        let other = Detail::of("account_closed: It was closed.");
        assert_eq!(
            (other.reason, other.needs().len()),
            ("account_closed: It was closed.", 0)
        );
    }
}
