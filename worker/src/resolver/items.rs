//! The items of a list in an object, such as a subscription's items or an invoice's lines, of which Stripe answers
//! one page at a time. Pure: which page is next, and the object with all of them.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

/// A page of a list.
#[derive(Debug, Deserialize)]
pub struct Page<'a> {
    #[serde(borrow)]
    data: Vec<&'a RawValue>,
    #[serde(default)]
    has_more: bool,
}

#[derive(Deserialize)]
struct Item {
    id: String,
}

impl<'a> Page<'a> {
    /// The page that an object shows of its list of this name.
    pub fn of_object(body: &'a str, list: &str) -> Option<Self> {
        let object: BTreeMap<String, &'a RawValue> = serde_json::from_str(body).ok()?;
        serde_json::from_str(object.get(list)?.get()).ok()
    }

    /// The answer to a request for a page.
    pub fn of_list(body: &'a str) -> Option<Self> {
        serde_json::from_str(body).ok()
    }

    /// The item after which the next page begins, if there is one.
    pub fn next_after(&self) -> Option<String> {
        let last = self.data.last().filter(|_| self.has_more)?;
        id(last)
    }
}

/// The object with the items of all pages of its list `name`, each once. `None` if one of them is not as
/// documented.
pub fn complete(body: &str, name: &str, rest: &[String]) -> Option<String> {
    let mut object: BTreeMap<String, &RawValue> = serde_json::from_str(body).ok()?;
    let mut list: BTreeMap<String, &RawValue> =
        serde_json::from_str(object.get(name)?.get()).ok()?;
    let pages = rest.iter().map(|body| Page::of_list(body));
    let pages = [Page::of_object(body, name)].into_iter().chain(pages);
    let pages: Vec<Page<'_>> = pages.collect::<Option<_>>()?;
    let mut seen = HashSet::new();
    let mut items = pages
        .iter()
        .flat_map(|page| page.data.iter().copied())
        .collect::<Vec<_>>();
    let ids: Vec<_> = items.iter().map(|item| id(item)).collect::<Option<_>>()?;
    let mut ids = ids.into_iter();
    items.retain(|_| ids.next().is_some_and(|id| seen.insert(id)));
    let (items, has_more) = (raw(&items)?, raw(&false)?);
    list.insert("data".to_owned(), &items);
    list.insert("has_more".to_owned(), &has_more);
    let list = raw(&list)?;
    object.insert(name.to_owned(), &list);
    serde_json::to_string(&object).ok()
}

fn id(item: &RawValue) -> Option<String> {
    let item: Item = serde_json::from_str(item.get()).ok()?;
    Some(item.id)
}

fn raw(value: &impl Serialize) -> Option<Box<RawValue>> {
    to_raw_value(value).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn list(items: &[&str], has_more: bool) -> Value {
        let data: Vec<_> = items
            .iter()
            .map(|id| json!({"id": id, "quantity": 1}))
            .collect();
        json!({"object": "list", "data": data, "has_more": has_more, "url": "/v1/subscription_items"})
    }

    fn subscription(items: &[&str], has_more: bool) -> String {
        json!({"id": "sub_1", "object": "subscription", "items": list(items, has_more)}).to_string()
    }

    #[test]
    fn the_next_page_begins_after_the_last_item_if_there_is_more() {
        let next = |body: &str| Page::of_object(body, "items")?.next_after();
        assert_eq!(
            next(&subscription(&["si_1", "si_2"], true)).as_deref(),
            Some("si_2")
        );
        assert_eq!(next(&subscription(&["si_1"], false)), None);
        assert_eq!(
            next(&subscription(&[], true)),
            None,
            "nothing to continue from"
        );
        assert_eq!(next(r#"{"id": "sub_1"}"#), None);
        let page = list(&["si_3"], true).to_string();
        let page = Page::of_list(&page).expect("a page");
        assert_eq!(page.next_after().as_deref(), Some("si_3"));
    }

    #[test]
    fn the_items_of_all_pages_are_there_once_and_unchanged() {
        let first = r#"{"status": "active", "id": "sub_1", "items": {"data": [{"id": "si_1", "q": 1.50e1}],
            "has_more": true, "url": "/v1"}}"#;
        // An item that was removed meanwhile moves the pages.
        let rest = [list(&["si_1", "si_2"], true), list(&["si_3"], false)];
        let whole = complete(first, "items", &rest.map(|page| page.to_string())).expect("complete");
        assert!(whole.contains(r#"{"id": "si_1", "q": 1.50e1}"#), "{whole}");
        let whole: Value = serde_json::from_str(&whole).expect("JSON");
        assert_eq!(
            (&whole["status"], &whole["items"]["url"]),
            (&json!("active"), &json!("/v1"))
        );
        let items = whole["items"]["data"].as_array().expect("a list").iter();
        let ids: Vec<_> = items
            .map(|item| item["id"].as_str().expect("text"))
            .collect();
        assert_eq!(ids, ["si_1", "si_2", "si_3"]);
        assert_eq!(whole["items"]["has_more"], json!(false));
    }

    #[test]
    fn a_page_that_is_not_as_documented_completes_nothing() {
        let first = subscription(&["si_1"], true);
        for page in [
            "",
            "[]",
            r#"{"data": [7]}"#,
            r#"{"data": [{"quantity": 1}]}"#,
        ] {
            assert_eq!(
                complete(&first, "items", &[page.to_owned()]),
                None,
                "{page}"
            );
        }
    }
}
