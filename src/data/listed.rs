//! Names in a row, for notes and errors.

/// Most names that a note lists.
pub(super) const MOST_LISTED: usize = 8;

/// Names in a row, the first few of them.
pub(super) fn listed(names: impl Iterator<Item = String>) -> String {
    let mut names: Vec<String> = names.take(MOST_LISTED + 1).collect();
    if names.len() > MOST_LISTED {
        names[MOST_LISTED] = "…".into();
    }
    names.join(", ")
}
