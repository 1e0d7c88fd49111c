//! Metrics have names: what every set of metrics of a kind has in common. Pure.

use super::scope::About;

/// A metric with a name in rule files.
pub trait Named: Copy + 'static {
    /// All of them.
    const ALL: &'static [Self];
    /// The name in rule files.
    fn name(self) -> &'static str;
    /// Whose figures it is computed from.
    fn about(self) -> About;
    /// The dimensions that it can be divided by.
    fn segments(self) -> &'static [&'static str];
    /// The names of all of them.
    fn names() -> Vec<&'static str> {
        Self::ALL.iter().map(|metric| metric.name()).collect()
    }
}

/// Defines the metrics of a kind: for each a variant, its name, whose figures it is computed from, and
/// its dimensions.
macro_rules! metrics {
    ($(#[$doc:meta])* $type:ident { $($(#[$of:meta])* $variant:ident = $name:literal of $about:ident by [$($by:literal),*],)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $type {
            $($(#[$of])* $variant,)+
        }

        impl $crate::rule::metric::Named for $type {
            const ALL: &'static [Self] = &[$(Self::$variant),+];

            fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            fn about(self) -> $crate::rule::About {
                match self { $(Self::$variant => $crate::rule::About::$about),+ }
            }

            fn segments(self) -> &'static [&'static str] {
                match self { $(Self::$variant => &[$($by),*]),+ }
            }
        }
    };
}

pub(crate) use metrics;
