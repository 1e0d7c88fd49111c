//! A transfer to a connected account: a problem when it was reversed, completely or in part.

use super::facts::{AMOUNT_REVERSED, MoneyMovement, MovementRules, NO_RULES};
use crate::condition::ConditionKind;
use crate::entity::transition::Transition;
use crate::money::Money;

/// What is different for transfers. They have no status: what was reversed is it.
pub const RULES: MovementRules = MovementRules {
    condition: |facts| {
        let reversed = matches!(facts.status.as_str(), "reversed" | "partially_reversed");
        reversed.then_some(ConditionKind::TransferReversed)
    },
    status_field: AMOUNT_REVERSED,
    detail,
    ..NO_RULES
};

/// Each reversal after the first, which is a change of status.
pub(super) fn further_reversals(movement: &MoneyMovement) -> Vec<Transition> {
    let mut found = Vec::new();
    let mut before = None;
    for state in movement.timeline.in_order() {
        let now = state.facts.reversed_minor.filter(|minor| *minor > 0);
        if let Some((was, is)) = before.zip(now).filter(|(was, is)| was != is) {
            let shown = |minor: i64| movement.shown(minor).unwrap_or_else(|| minor.to_string());
            let (was, is) = (shown(was), shown(is));
            found.push(Transition {
                at_s: state.created_s,
                event_id: state.event_id.clone(),
                what: format!("{AMOUNT_REVERSED} {was} → {is}"),
                expected: true,
            });
        }
        before = now.or(before);
    }
    found
}

/// For example `USD 3.00 of USD 50.00, USD 2.00 of it last`.
fn detail(transfer: &MoneyMovement) -> Option<String> {
    let facts = transfer.current()?;
    let (reversed, amount) = facts.reversed_minor.zip(facts.amount_minor)?;
    let states = transfer.timeline.in_order();
    let earlier = states.iter().rev().map(|s| s.facts.reversed_minor);
    let earlier = earlier.flatten().find(|minor| *minor < reversed);
    let last = match earlier {
        Some(earlier) if earlier > 0 => {
            format!(
                ", {} of it last",
                transfer.shown(reversed.saturating_sub(earlier))?
            )
        }
        _ => String::new(),
    };
    let (reversed, amount) = (transfer.shown(reversed)?, transfer.shown(amount)?);
    Some(format!("{reversed} of {amount}{last}"))
}

impl MoneyMovement {
    /// An amount with its currency, if that is known.
    fn shown(&self, minor: i64) -> Option<String> {
        let money = Money::known(Some(minor), self.origin.currency.as_deref())?;
        Some(money.to_string())
    }
}
