//! Rules: what to evaluate, the threshold, the severity, and the actions. Each kind of rule is one
//! file, and [`KINDS`] lists them. [`crate::rule_text`] defines their text form. Pure.
//!
//! What all kinds use is in files that import no kind. Only the table imports the kinds.

// What a sender sends must neither panic nor wrap; see `revwatch_core`.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

mod absence;
mod condition;
mod condition_or_metric;
mod consecutive;
mod count;
mod definition;
mod drop;
pub(crate) mod fields;
mod gauge;
mod kind_description;
mod kinds;
mod measure;
mod metric;
mod mrr_bounds;
mod percentile;
mod ratio;
mod scope;
mod segments;
mod threshold;
pub(crate) mod window;

pub(crate) use self::condition_or_metric::duration_field;
pub use self::condition_or_metric::{Delay, MetricRule, NoData, RuleKind};
pub use self::definition::{Rule, SlaOverride};
pub use self::kind_description::Kind;
pub use self::kinds::KINDS;
pub use self::measure::{Measure, MeasureNames};
pub use self::metric::Named;
pub use self::scope::About;
pub(crate) use self::segments::WEEKDAYS;
pub use self::segments::known_segments;
pub use self::threshold::{Bounds, Threshold, Verdict};
pub use self::window::{History, POINTS, Window};
pub use crate::alert::Severity;
