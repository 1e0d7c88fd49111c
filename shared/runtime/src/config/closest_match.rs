//! Suggestions for misspelt names.

/// The entry of `known` that was probably meant: a very similar one, the only one of which it is the beginning, or one
/// that is less similar.
pub fn closest_match<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const MIN_SIMILARITY: f64 = 0.75;
    const VERY_SIMILAR: f64 = 0.8;
    let known: Vec<&str> = known.collect();
    let rated = known
        .iter()
        .map(|known| (strsim::normalized_damerau_levenshtein(name, known), *known));
    let closest = rated
        .filter(|(alike, _)| *alike >= MIN_SIMILARITY)
        .max_by(|(a, _), (b, _)| a.total_cmp(b));
    let rest = |known: &str| {
        known
            .strip_prefix(name)
            .is_some_and(|it| it.starts_with('_'))
    };
    let mut begun = known.iter().copied().filter(|known| rest(known));
    match (closest, begun.next(), begun.next()) {
        (Some((alike, similar)), _, _) if alike >= VERY_SIMILAR => Some(similar),
        (_, Some(only), None) => Some(only),
        (closest, _, _) => closest.map(|(_, similar)| similar),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_counts_for_more_than_some_similarity() {
        let variables = ["REVWATCH_RULES", "REVWATCH_REDIS_URL", "REVWATCH_DATA"];
        let closest = |name| closest_match(name, variables.into_iter());
        assert_eq!(closest("REVWATCH_REDIS"), Some("REVWATCH_REDIS_URL"));
        assert_eq!(closest("REVWATCH_RULE"), Some("REVWATCH_RULES"));
        assert_eq!(closest("REVWATCH"), None, "it is the beginning of all");
        let keys = ["secrets", "secret_file"];
        assert_eq!(closest_match("secret", keys.into_iter()), Some("secrets"));
    }
}
