//! The order of sightings of one object in one second that neither kind of event nor lifecycle tells
//! apart: found by what each of them changed.
//!
//! Invariant: the order is a function of the sightings and of the one before them, whatever it costs to
//! find: the search is bounded by steps, never by time.

use super::{Change, Facts, Sighting};

/// Orders `class`, which is sorted by event id, so that as many as possible follow from their
/// predecessor; event ids break ties.
pub(super) fn order<'a, F: Facts>(before: Option<&'a Sighting<F>>, class: &[&'a Sighting<F>]) -> Vec<&'a Sighting<F>> {
    if class.len() < 2 {
        return class.to_vec();
    }
    let looks: Vec<Look<'_>> = class.iter().copied().chain(before).map(Look::at).collect();
    let mut search = Search::new(&looks, class.len());
    search.extend(class.len(), 0, search.least.iter().sum());
    search.best.map_or_else(|| class.to_vec(), |(_, order)| order.into_iter().map(|i| class[i]).collect())
}

/// After so many steps the best order found by then is taken; the first one found goes from each
/// sighting to the likeliest next.
const MAX_STEPS: u32 = 5_000;

/// What a sighting is recognised by, read once.
struct Look<'a> {
    fields: Vec<(&'static str, u32)>,
    changes: &'a [Change],
}

impl<'a> Look<'a> {
    fn at<F: Facts>(sighting: &'a Sighting<F>) -> Self {
        Self { fields: sighting.facts.fields(), changes: &sighting.changes }
    }
}

struct Search {
    /// What it costs to go from one to another; the last row is that of the sighting before all.
    costs: Vec<Vec<u32>>,
    /// The least that it can cost to come to each.
    least: Vec<u32>,
    has_before: bool,
    best: Option<(u32, Vec<usize>)>,
    path: Vec<usize>,
    used: Vec<bool>,
    steps: u32,
}

impl Search {
    /// `looks` are the `count` sightings to order, then the one before them if there is one.
    fn new(looks: &[Look<'_>], count: usize) -> Self {
        let has_before = looks.len() > count;
        let mut costs: Vec<Vec<u32>> = looks
            .iter()
            .enumerate()
            .map(|(i, a)| (0..count).map(|j| if i == j { AGAINST } else { link_cost(a, &looks[j]) }).collect())
            .collect();
        if !has_before {
            costs.push(vec![0; count]);
        }
        let least = (0..count).map(|j| costs.iter().map(|row| row[j]).min().unwrap_or(0)).collect();
        Self { costs, least, has_before, best: None, path: Vec::new(), used: vec![false; count], steps: 0 }
    }

    /// Depth first, keeping the first of the cheapest orders; `rest` is the least that what is left costs.
    fn extend(&mut self, last: usize, cost: u32, rest: u32) {
        if self.best.as_ref().is_some_and(|(best, _)| cost + rest >= *best || self.steps >= MAX_STEPS) {
            return;
        }
        self.steps += 1;
        if self.path.len() == self.used.len() {
            self.best = Some((cost, self.path.clone()));
            return;
        }
        let mut next: Vec<usize> = (0..self.used.len()).filter(|&i| !self.used[i]).collect();
        // With nothing before it, a chain begins at what follows from none of the others.
        let begins = self.path.is_empty() && !self.has_before;
        next.sort_by_key(|&i| (if begins { AGAINST - self.least_from_others(i) } else { self.costs[last][i] }, i));
        for i in next {
            self.used[i] = true;
            self.path.push(i);
            self.extend(i, cost + self.costs[last][i], rest - self.least[i]);
            self.path.pop();
            self.used[i] = false;
        }
    }

    /// The least that it costs to come to `i` from another one of the same second.
    fn least_from_others(&self, i: usize) -> u32 {
        self.costs[..self.used.len()].iter().map(|row| row[i]).min().unwrap_or(0)
    }
}

/// Something speaks against it.
const AGAINST: u32 = 3;
/// Both tell of the same change: Stripe sometimes sends two events for one.
const REPEATED: u32 = 2;

/// 0: `b` plainly follows `a`; 1: nothing speaks for or against it; else [`REPEATED`], [`AGAINST`].
///
/// `b` follows `a` when undoing what `b` changed gives `a`, in every field that both know.
fn link_cost(a: &Look<'_>, b: &Look<'_>) -> u32 {
    let against = if a.fields == b.fields && a.changes == b.changes { REPEATED } else { AGAINST };
    let mut evidence = false;
    for ((path, value_a), (_, value_b)) in a.fields.iter().zip(&b.fields) {
        let change = b.changes.iter().find(|c| c.path == *path);
        if change.is_none() && b.changes.iter().any(|c| encloses(&c.path, path) || encloses(path, &c.path)) {
            // A part of it changed, or something around it: what it was before cannot be told.
            continue;
        }
        if *value_a != change.map_or(*value_b, |c| c.from) {
            return against;
        }
        evidence |= change.is_some();
    }
    // Other fields are known of `a` only where it changed them itself.
    for change in b.changes.iter().filter(|c| a.fields.iter().all(|(path, _)| *path != c.path)) {
        match a.changes.iter().find(|c| c.path == change.path) {
            Some(earlier) if earlier.to == change.from => evidence = true,
            Some(_) => return against,
            None => {}
        }
    }
    u32::from(!evidence)
}

fn encloses(outer: &str, inner: &str) -> bool {
    inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('.'))
}
