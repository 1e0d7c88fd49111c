//! Suggestions for misspelt names.

/// The entry of `known` that was probably meant.
pub fn closest_match<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const MIN_SIMILARITY: f64 = 0.75;
    let rated = known.map(|known| (strsim::normalized_damerau_levenshtein(name, known), known));
    let closest = rated
        .filter(|(alike, _)| *alike >= MIN_SIMILARITY)
        .max_by(|(a, _), (b, _)| a.total_cmp(b));
    closest.map(|(_, known)| known)
}
