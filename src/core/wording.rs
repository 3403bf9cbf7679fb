//! Lists and numbers in sentences.

/// `a`, `a and b`, `a, b and c`.
#[must_use]
pub fn listed<T: AsRef<str>>(items: &[T]) -> String {
    let items: Vec<&str> = items.iter().map(AsRef::as_ref).collect();
    match items.split_last() {
        Some((last, before @ [_, ..])) => format!("{} and {last}", before.join(", ")),
        _ => items.concat(),
    }
}

/// The verb that follows this many things.
#[must_use]
pub fn is_or_are(count: usize) -> &'static str {
    if count == 1 { "is" } else { "are" }
}

/// `3 of 5 slots taken`. Some providers let a server have more than its limit.
#[must_use]
pub fn slots_taken(taken: u32, cap: u32) -> String {
    if taken <= cap {
        return format!("{taken} of {cap} slots taken");
    }
    format!("{cap} slots, {taken} snapshots")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_snapshots_than_slots_are_not_told_as_a_part_of_them() {
        assert_eq!(slots_taken(5, 5), "5 of 5 slots taken");
        assert_eq!(slots_taken(7, 5), "5 slots, 7 snapshots");
    }

    #[test]
    fn a_list_has_an_and_before_its_last_item_only() {
        assert_eq!(listed::<&str>(&[]), "");
        assert_eq!(listed(&["a"]), "a");
        assert_eq!(listed(&["a", "b"]), "a and b");
        assert_eq!(listed(&["a", "b", "c"]), "a, b and c");
    }
}
