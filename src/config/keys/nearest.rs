//! Which key was meant.

/// The known key nearest to `word`, if one is near enough to have been meant.
pub(in crate::config) fn nearest(word: &str, known: &[&'static str]) -> Option<&'static str> {
    // Nobody means a key of twenty letters with a word of a thousand.
    if word.len() > 40 {
        return None;
    }
    let word = word.to_ascii_lowercase().replace('-', "_");
    known
        .iter()
        .map(|key| (distance(&word, key), *key))
        .min()
        .filter(|(distance, key)| *distance <= key.len().div_ceil(3))
        .map(|(_, key)| key)
}

/// How many letters must be put in, taken out or replaced.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, to) in row.iter_mut().skip(1).zip(b.chars()) {
            let changed = diagonal + usize::from(from != to);
            diagonal = *cell;
            *cell = changed.min(diagonal + 1).min(left + 1);
            left = *cell;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys::{ENDPOINT, TOP};

    #[test]
    fn the_nearest_key_is_the_one_meant() {
        assert_eq!(nearest("lisen", ENDPOINT.known), Some("listen"));
        assert_eq!(nearest("max-age", ENDPOINT.known), Some("max_age"));
        assert_eq!(nearest("Forward", ENDPOINT.known), Some("forward"));
        assert_eq!(nearest("endpoint", TOP.known), Some("endpoints"));
        assert_eq!(nearest("quux", ENDPOINT.known), None);
        assert_eq!(nearest(&"x".repeat(100_000), ENDPOINT.known), None);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
