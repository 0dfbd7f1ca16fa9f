//! Compares two results: which costs have changed.

use std::fmt;

use super::report::{Report, Row};

/// What may change without being a regression, in percent: for figures so large that another layout moves them.
const TOLERANCE_PERCENT: u64 = 2;

/// A figure that has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    situation: String,
    column: String,
    before: u64,
    /// Nothing where the situation is no longer counted.
    now: Option<u64>,
}

impl Change {
    /// Whether it is too much worse to be let pass.
    pub(super) fn is_regression(&self) -> bool {
        self.now.is_none_or(|now| now * 100 > self.before * (100 + TOLERANCE_PERCENT))
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { situation, column, before, now } = self;
        let Some(now) = now else { return write!(f, "{situation}, {column}: {before} -> no longer counted") };
        write!(f, "{situation}, {column}: {before} -> {now}")?;
        if *before > 0 {
            write!(f, " ({:+.1} %)", (*now as f64 / *before as f64 - 1.0) * 100.0)?;
        }
        Ok(())
    }
}

/// What differs in `now` from `before`. Columns and numbers of callsites that `now` was not asked for are left out.
pub(super) fn changes(before: &Report, now: &Report) -> Vec<Change> {
    let was_asked_for = |row: &Row, column: &String| {
        let has_image = |size| !before.callsites.contains(&size) || now.callsites.contains(&size);
        now.rows.iter().any(|other| other.counts.contains_key(column)) && row.size.is_none_or(has_image)
    };
    let mut changes = Vec::new();
    for row in &before.rows {
        let same = now.rows.iter().find(|other| (&other.key, other.size) == (&row.key, row.size));
        for (column, &count) in row.counts.iter().filter(|(column, _)| was_asked_for(row, column)) {
            let now = same.and_then(|same| same.counts.get(column)).copied();
            if now != Some(count) {
                changes.push(Change { situation: row.name(), column: column.clone(), before: count, now });
            }
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::{count, report, report_of};
    use super::*;

    fn worse(before: u64, now: u64) -> Vec<String> {
        let of = |instructions| report(&[count("call-direct", None, instructions)]);
        let changes = changes(&of(before), &of(now));
        changes.iter().filter(|change| change.is_regression()).map(ToString::to_string).collect()
    }

    #[test]
    fn more_than_two_percent_is_a_regression_and_is_named() {
        assert!(worse(1000, 1020).is_empty());
        assert!(worse(1000, 500).is_empty());
        assert_eq!(
            worse(1000, 1021),
            ["call-direct, hard-float: 1000 -> 1021 (+2.1 %)", "call-direct, softfloat: 1000 -> 1021 (+2.1 %)"]
        );
        assert_eq!(worse(0, 1)[0], "call-direct, hard-float: 0 -> 1");
    }

    #[test]
    fn smaller_and_better_changes_are_shown_too() {
        let of = |instructions| report(&[count("call-direct", None, instructions)]);
        let shown = |now| changes(&of(100), &of(now)).first().map(ToString::to_string);
        assert_eq!(shown(100), None);
        assert_eq!(shown(101).unwrap(), "call-direct, hard-float: 100 -> 101 (+1.0 %)");
        assert_eq!(shown(50).unwrap(), "call-direct, hard-float: 100 -> 50 (-50.0 %)");
    }

    #[test]
    fn each_size_is_compared_with_itself() {
        let before = report(&[count("init", 100, 1000), count("init", 1000, 9000)]);
        let now = report(&[count("init", 100, 1100), count("init", 1000, 9000)]);
        let found = changes(&before, &now);
        assert!(found.iter().all(|change| change.situation == "init [100]"));
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn what_is_no_longer_counted_is_one_too_unless_it_was_not_asked_for() {
        let counts = [count("init", 1000, 9000), count("list", 100, 5), count("call-ops", 1, 5)];
        let before = report_of(&[100, 1000], &counts);
        let now = report_of(&[100], &[count("init", 100, 1000)]);
        let situations: Vec<String> = changes(&before, &now).into_iter().map(|change| change.situation).collect();
        assert_eq!(situations, ["call-ops [1]", "call-ops [1]", "list [100]", "list [100]"]);
        let text = changes(&before, &now)[0].to_string();
        assert_eq!(text, "call-ops [1], hard-float: 5 -> no longer counted");
    }
}
