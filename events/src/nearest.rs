//! The word that was probably meant.

/// A name of a megabyte is no near miss.
const CHARS_MAX: usize = 100;

/// The known word that is nearest to `word` by Levenshtein distance, whatever its case, if it is near enough to be meant:
/// a third of its characters may differ, one at least and three at most.
pub fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let chars = word.chars().count();
    if chars > CHARS_MAX {
        return None;
    }
    let far = (chars / 3).clamp(1, 3);
    let word = word.to_lowercase();
    known
        .iter()
        .map(|candidate| (strsim::levenshtein(&word, &candidate.to_lowercase()), *candidate))
        .filter(|(distance, _)| *distance <= far)
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(word: &str, expected: Option<&str>) {
        assert_eq!(nearest(word, &["target", "holder", "for", "until"]), expected, "{word}");
    }

    #[test]
    fn a_near_miss_is_named_and_nonsense_is_not() {
        check("target", Some("target"));
        check("Targt", Some("target"));
        check("hodler", Some("holder"));
        check("fro", None);
        check("fo", Some("for"));
        check("reason", None);
        check("", None);
        check(&"target".repeat(1_000), None);
    }
}
