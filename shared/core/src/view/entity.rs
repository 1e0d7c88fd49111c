//! Entities as rows and as JSON. Each type of state has one table of columns: an export has a column
//! for each, and the JSON of an entity has a key for each.

use serde_json::{Map, Value, json};

use super::column::{Column, Unit, cell, column, time};
use super::field::Columns;
use crate::entity::account::Account;
use crate::entity::account::milestone::FIRST_PAYMENT;
use crate::entity::coupon::{Coupon, CouponFacts};
use crate::entity::customer::{Customer, CustomerFacts};
use crate::entity::invoice::Invoice;
use crate::entity::missing_event::MissingEvent;
use crate::entity::movement::MoneyMovement;
use crate::entity::payout::Payout;
use crate::entity::recurring::{AmountOff, MrrUnknown};
use crate::entity::subscription::Subscription;
use crate::entity::timeline::Stage;
use crate::entity::{Entity, EntityKey, EntityKind, EntityState as _};
use crate::realm::Realm;

/// The names of the columns of a kind.
pub fn header(kind: EntityKind) -> Vec<&'static str> {
    let empty = Entity::new(&EntityKey::new(kind, ""));
    empty
        .state()
        .fields()
        .into_iter()
        .map(|field| field.name)
        .collect()
}

/// The values of the columns as text; what is not known is empty. `None` for an object that events
/// only mentioned.
pub fn row(entity: &Entity) -> Option<Vec<String>> {
    let state = entity.state();
    let cells = || {
        state
            .fields()
            .iter()
            .map(|field| cell(&field.value))
            .collect()
    };
    state.has_row().then(cells)
}

/// Everything that is known of an entity: its columns and details, its history, its events and its
/// problems.
pub fn describe(key: &EntityKey, entity: &Entity) -> Value {
    let state = entity.state();
    let mut shown = Map::new();
    shown.insert("kind".to_owned(), json!(key.kind));
    for field in state.fields() {
        shown.insert(field.name.to_owned(), field.value);
    }
    if let Value::Object(details) = state.details() {
        shown.extend(details);
    }
    let history = entity.history().into_iter().map(|change| {
        json!({"at": time(Some(change.at_s)), "event": change.event_id.text(), "change": change.what, "expected": change.expected})
    });
    let events = entity.events().into_iter().map(|event| {
        json!({"event": event.event_id.text(), "created": time(Some(event.created_s)), "stage": event.stage.map(stage),
            "about": event.about})
    });
    let conditions = entity.conditions().into_iter().map(|condition| {
        json!({"kind": condition.key.kind, "since": time(Some(condition.since_s)), "due": time(Some(condition.due_s)),
            "began_before": condition.began_before.is_some(), "event": Some(condition.event_id).filter(|id| !id.is_empty()),
            "detail": condition.detail})
    });
    shown.insert("history".to_owned(), history.collect());
    shown.insert("events".to_owned(), events.collect());
    shown.insert("conditions".to_owned(), conditions.collect());
    Value::Object(shown)
}

impl Columns for Subscription {
    const COLUMNS: &'static [Column<Self>] = &[
        column("id", Unit::Text, |s| json!(s.id)),
        column("customer", Unit::Text, |s| json!(s.origin.customer)),
        column("account", Unit::Text, |s| json!(s.origin.account)),
        column("status", Unit::Text, |s| {
            json!(s.current().map(|f| &f.status))
        }),
        column("plan", Unit::Text, |s| json!(s.current().map(|f| &f.plan))),
        column("currency", Unit::Text, |s| json!(s.origin.currency)),
        column("mrr_minor", Unit::Minor, |s| {
            json!(s.mrr().map(|mrr| mrr.low_minor))
        }),
        column("cancel_scheduled", Unit::Flag, |s| {
            json!(s.current().map(|f| f.cancel_scheduled()))
        }),
        column("past_due_since", Unit::Time, |s| {
            time(s.past_due_since().map(|(at_s, _)| at_s))
        }),
        column("updated_at", Unit::Time, |s| time(s.timeline.newest_s())),
        column("owner", Unit::Text, |s| json!(s.class().owner.as_str())),
        column("realm", Unit::Text, |s| {
            json!(s.realm.as_ref().map(Realm::as_str))
        }),
        column("app_id", Unit::Text, |s| {
            json!(s.origin.ids.as_ref().and_then(|ids| ids.app_id.as_ref()))
        }),
        column("user_id", Unit::Text, |s| {
            json!(s.origin.ids.as_ref().and_then(|ids| ids.user_id.as_ref()))
        }),
        column("mrr_high_minor", Unit::Minor, |s| {
            json!(s.mrr().and_then(|mrr| mrr.high_minor))
        }),
        column("mrr_complete", Unit::Flag, |s| {
            json!(s.mrr().map(|mrr| mrr.known().is_some()))
        }),
        column("mrr_reason", Unit::Text, |s| {
            json!(s.mrr().and_then(|mrr| mrr.reason).map(MrrUnknown::as_str))
        }),
    ];

    fn details(&self) -> Value {
        json!({"current": self.current(), "recurring": self.recurring()})
    }

    fn has_row(&self) -> bool {
        self.current().is_some()
    }
}

impl Columns for Invoice {
    const COLUMNS: &'static [Column<Self>] = &[
        column("id", Unit::Text, |i| json!(i.id)),
        column("customer", Unit::Text, |i| json!(i.origin.customer)),
        column("subscription", Unit::Text, |i| json!(i.origin.subscription)),
        column("status", Unit::Text, |i| {
            json!(i.current().map(|f| &f.status))
        }),
        column("currency", Unit::Text, |i| json!(i.origin.currency)),
        column("amount_due_minor", Unit::Minor, |i| {
            json!(i.current().and_then(|f| f.amount_due_minor))
        }),
        column("amount_paid_minor", Unit::Minor, |i| json!(i.paid_minor())),
        column("attempts", Unit::Count, |i| {
            json!(i.current().and_then(|f| f.attempts))
        }),
        column("account", Unit::Text, |i| json!(i.origin.account)),
        column("owner", Unit::Text, |i| json!(i.class().owner.as_str())),
        column("realm", Unit::Text, |i| {
            json!(i.realm.as_ref().map(Realm::as_str))
        }),
        column("amount_remaining_minor", Unit::Minor, |i| {
            json!(i.owed_minor())
        }),
        column("next_attempt_at", Unit::Time, |i| {
            time(i.current().and_then(|f| f.next_attempt.at_s()))
        }),
        column("collection_method", Unit::Text, |i| {
            json!(i.current().and_then(|f| f.collection_method.as_ref()))
        }),
    ];

    fn details(&self) -> Value {
        let payments = self.payments.iter().map(|(id, payment)| {
            json!({"id": id, "amount_paid_minor": payment.paid_minor, "paid_at": time(payment.paid_s)})
        });
        json!({"current": self.current(), "payments": payments.collect::<Vec<_>>()})
    }

    fn has_row(&self) -> bool {
        self.current().is_some()
    }
}

impl Columns for Payout {
    const COLUMNS: &'static [Column<Self>] = &[
        column("id", Unit::Text, |p| json!(p.id)),
        column("account", Unit::Text, |p| json!(p.origin.account)),
        column("status", Unit::Text, |p| {
            json!(p.current().map(|f| &f.status))
        }),
        column("currency", Unit::Text, |p| json!(p.origin.currency)),
        column("amount_minor", Unit::Minor, |p| {
            json!(p.origin.amount_minor)
        }),
        column("failure_code", Unit::Text, |p| {
            json!(p.current().and_then(|f| f.failure_code.as_ref()))
        }),
        column("owner", Unit::Text, |p| json!(p.class().owner.as_str())),
        column("realm", Unit::Text, |p| {
            json!(p.realm.as_ref().map(Realm::as_str))
        }),
        column("original_payout", Unit::Text, |p| json!(p.origin.original)),
        column("reversed_by", Unit::Text, |p| {
            json!(p.current().and_then(|f| f.reversed_by.as_ref()))
        }),
    ];

    fn details(&self) -> Value {
        json!({"current": self.current()})
    }

    fn has_row(&self) -> bool {
        self.current().is_some()
    }
}

impl Columns for Account {
    const COLUMNS: &'static [Column<Self>] = &[
        column("id", Unit::Text, |a| json!(a.id)),
        column("country", Unit::Text, |a| json!(a.country)),
        column("charges_enabled", Unit::Flag, |a| {
            json!(a.current().map(|f| f.charges_enabled))
        }),
        column("payouts_enabled", Unit::Flag, |a| {
            json!(a.current().map(|f| f.payouts_enabled))
        }),
        column("connected", Unit::Flag, |a| json!(a.connected())),
        column("risk", Unit::Text, |a| json!(a.risk_label())),
        column("stage", Unit::Text, |a| json!(a.stage())),
        column("onboarding_seconds", Unit::Seconds, |a| {
            json!(a.onboarding_seconds())
        }),
        column("realm", Unit::Text, |a| {
            json!(a.realm.as_ref().map(Realm::as_str))
        }),
        column("user_id", Unit::Text, |a| json!(a.user_id())),
    ];

    fn details(&self) -> Value {
        let capabilities = self.capabilities.iter();
        let current =
            capabilities.filter_map(|(name, states)| Some((name, &*states.last()?.facts)));
        let status = current
            .clone()
            .map(|(name, f)| (name.clone(), json!(f.status)));
        let reasons = current.filter_map(|(name, f)| {
            let reason = f.disabled_reason.as_ref()?;
            Some((name.clone(), json!(reason)))
        });
        // Reached at an unknown time: null.
        let milestones = self.milestones.keys();
        let mut milestones: Map<_, _> = milestones
            .map(|m| (m.as_str().to_owned(), json!(self.milestone_s(*m))))
            .collect();
        if self.earliest_payment_s().is_some() {
            milestones.insert(FIRST_PAYMENT.to_owned(), json!(self.first_payment_s()));
        }
        json!({
            "current": self.current(), "milestones": milestones, "capabilities": status.collect::<Map<_, _>>(),
            "capability_disabled_reasons": reasons.collect::<Map<_, _>>(), "balance": self.balance,
            "external_accounts": self.external_accounts,
        })
    }

    /// From the first mention: it is a customer of the platform.
    fn has_row(&self) -> bool {
        true
    }
}

impl Columns for MoneyMovement {
    const COLUMNS: &'static [Column<Self>] = &[
        column("id", Unit::Text, |m| json!(m.id)),
        column("account", Unit::Text, |m| json!(m.account())),
        column("customer", Unit::Text, |m| json!(m.origin.customer)),
        column("status", Unit::Text, |m| {
            json!(m.current().map(|f| &f.status))
        }),
        column("currency", Unit::Text, |m| json!(m.origin.currency)),
        column("amount_minor", Unit::Minor, |m| {
            json!(m.current().and_then(|f| f.amount_minor))
        }),
        column("reason", Unit::Text, |m| {
            json!(m.current().and_then(|f| f.reason.as_ref()))
        }),
        column("of", Unit::Text, |m| json!(m.origin.of)),
        column("updated_at", Unit::Time, |m| time(m.timeline.newest_s())),
        column("owner", Unit::Text, |m| json!(m.class().owner.as_str())),
        column("realm", Unit::Text, |m| {
            json!(m.realm.as_ref().map(Realm::as_str))
        }),
        column("reversed_minor", Unit::Minor, |m| {
            json!(m.current().and_then(|f| f.reversed_minor))
        }),
        column("evidence_due_at", Unit::Time, |m| {
            time(m.current().and_then(|f| f.evidence_due_s))
        }),
    ];

    fn details(&self) -> Value {
        json!({"current": self.current()})
    }

    fn has_row(&self) -> bool {
        self.current().is_some()
    }
}

impl Columns for Customer {
    const COLUMNS: &'static [Column<Self>] = &[
        column("id", Unit::Text, |c| json!(c.id)),
        column("account", Unit::Text, |c| json!(c.origin.account)),
        column("status", Unit::Text, |c| {
            json!(c.current().map(CustomerFacts::status))
        }),
        column("owner", Unit::Text, |c| json!(c.class().owner.as_str())),
        column("realm", Unit::Text, |c| {
            json!(c.realm.as_ref().map(Realm::as_str))
        }),
        column("app_id", Unit::Text, |c| {
            json!(c.origin.ids.as_ref().and_then(|ids| ids.app_id.as_ref()))
        }),
        column("user_id", Unit::Text, |c| {
            json!(c.origin.ids.as_ref().and_then(|ids| ids.user_id.as_ref()))
        }),
        column("created_at", Unit::Time, |c| time(c.origin.created_s)),
        column("updated_at", Unit::Time, |c| time(c.timeline.newest_s())),
        column("paying_subscriptions", Unit::Count, |c| {
            json!(c.subscriptions.paying())
        }),
    ];

    fn details(&self) -> Value {
        json!({"current": self.current()})
    }

    /// Also from its subscriptions alone.
    fn has_row(&self) -> bool {
        self.current().is_some() || !self.subscriptions.is_empty()
    }
}

impl Columns for MissingEvent {
    const COLUMNS: &'static [Column<Self>] = &[
        column("id", Unit::Text, |e| json!(e.id)),
        column("account", Unit::Text, |e| json!(e.account)),
        column("found_at", Unit::Time, |e| time(e.found_s)),
        column("owner", Unit::Text, |e| json!(e.class().owner.as_str())),
        column("realm", Unit::Text, |e| {
            json!(e.realm.as_ref().map(Realm::as_str))
        }),
    ];

    fn details(&self) -> Value {
        json!({"current": null})
    }

    fn has_row(&self) -> bool {
        self.mention.is_some()
    }
}

impl Columns for Coupon {
    const COLUMNS: &'static [Column<Self>] = &[
        column("id", Unit::Text, |c| json!(c.id)),
        column("account", Unit::Text, |c| json!(c.owner_account())),
        column("status", Unit::Text, |c| {
            json!(c.current().map(CouponFacts::status))
        }),
        column("currency", Unit::Text, |c| {
            json!(amount_off(c).and_then(|off| off.currency.as_ref()))
        }),
        column("amount_off_minor", Unit::Minor, |c| {
            json!(amount_off(c).map(|off| off.minor))
        }),
        column("percent_off", Unit::Text, |c| {
            let percent = c.current().and_then(|f| f.terms.percent_off);
            json!(percent.map(|percent| percent.to_string()))
        }),
        column("forever", Unit::Flag, |c| {
            json!(c.current().map(|f| f.terms.is_forever))
        }),
        column("owner", Unit::Text, |c| json!(c.class().owner.as_str())),
        column("realm", Unit::Text, |c| {
            json!(c.realm.as_ref().map(Realm::as_str))
        }),
        column("updated_at", Unit::Time, |c| time(c.timeline.newest_s())),
    ];

    fn details(&self) -> Value {
        json!({"current": self.current()})
    }

    fn has_row(&self) -> bool {
        self.current().is_some()
    }
}

fn amount_off(coupon: &Coupon) -> Option<&AmountOff> {
    coupon.current()?.terms.amount_off.as_ref()
}

fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Created => "created",
        Stage::Updated => "updated",
        Stage::Deleted => "deleted",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::field::Field;

    #[test]
    fn the_name_of_a_column_says_its_unit() {
        for kind in EntityKind::ALL {
            let fields = Entity::new(&EntityKey::new(kind, "x")).state().fields();
            assert_eq!(fields[0].name, "id", "{kind:?}");
            for Field { name, unit, .. } in &fields {
                let suffix = match unit {
                    Unit::Minor => Some("_minor"),
                    Unit::Seconds => Some("_seconds"),
                    Unit::Time if name.ends_with("_since") => None,
                    Unit::Time => Some("_at"),
                    Unit::Text | Unit::Flag | Unit::Count => None,
                };
                assert!(suffix.is_none_or(|suffix| name.ends_with(suffix)), "{name}");
            }
            let has_amount = fields.iter().any(|field| field.unit == Unit::Minor);
            let has_currency = fields.iter().any(|field| field.name == "currency");
            assert_eq!(has_amount, has_currency, "{kind:?}");
        }
    }

    #[test]
    fn an_entity_without_any_state_shows_that_nothing_is_known() {
        for kind in EntityKind::ALL {
            let key = EntityKey::new(kind, "x_1");
            let entity = Entity::new(&key);
            let shown = describe(&key, &entity);
            assert_eq!(
                (&shown["id"], &shown["kind"]),
                (&json!("x_1"), &json!(kind))
            );
            assert_eq!(shown["current"], Value::Null);
            assert!(header(kind).iter().all(|name| shown.get(name).is_some()));
            let row = row(&entity);
            assert_eq!(row.is_some(), kind == EntityKind::Account, "{kind:?}");
        }
    }
}
