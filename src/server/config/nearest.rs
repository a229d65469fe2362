//! The known word nearest to a mistyped one.

/// The most letters a word may be off by and still be meant.
const FURTHEST: usize = 4;

/// The word of `known` with the fewest letters to change, if it is near enough to be meant.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= FURTHEST && *distance < candidate.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// How many letters must be put in, taken out, replaced, or swapped with their neighbour.
pub fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(100).collect();
    let b: Vec<char> = b.chars().take(100).collect();
    let mut rows = vec![vec![0_usize; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_that_was_meant_is_found() {
        let known = ["listen", "hosts", "data_dir", "limits.runtime"];
        assert_eq!(nearest("lisen", known), Some("listen"));
        assert_eq!(nearest("limts.runtime", known), Some("limits.runtime"));
        assert_eq!(nearest("data-dir", known), Some("data_dir"));
        assert_eq!(nearest("colour_of_the_sky", known), None);
    }

    #[test]
    fn a_swap_counts_once() {
        assert_eq!(distance("host", "hsot"), 1);
        assert_eq!(distance("", "abc"), 3);
    }
}
