//! Two results beside each other: what costs more now.

use std::fmt;

use super::report::{Report, Row};

/// What may change without being a regression, in percent: for figures so large that another layout moves them.
const TOLERANCE_PERCENT: u64 = 2;

/// A figure that is worse than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Regression {
    situation: String,
    column: String,
    before: u64,
    /// Nothing where the situation is no longer counted.
    now: Option<u64>,
}

impl fmt::Display for Regression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { situation, column, before, now } = self;
        match now {
            Some(now) => {
                write!(f, "{situation}, {column}: {before} -> {now}")?;
                if *before > 0 {
                    write!(f, " ({:+.1} %)", (*now as f64 / *before as f64 - 1.0) * 100.0)?;
                }
                Ok(())
            }
            None => write!(f, "{situation}, {column}: {before} -> no longer counted"),
        }
    }
}

/// What is worse in `now` than in `before`. Columns and numbers of callsites that `now` was not asked for are left out.
pub(super) fn regressions(before: &Report, now: &Report) -> Vec<Regression> {
    let was_asked_for = |row: &Row, column: &String| {
        let has_image = |size| !before.callsites.contains(&size) || now.callsites.contains(&size);
        now.rows.iter().any(|other| other.counts.contains_key(column)) && row.size.is_none_or(has_image)
    };
    let mut found = Vec::new();
    for row in &before.rows {
        let same = now.rows.iter().find(|other| (&other.key, other.size) == (&row.key, row.size));
        for (column, &count) in &row.counts {
            let count_now = same.and_then(|same| same.counts.get(column)).copied();
            let is_worse = match count_now {
                Some(count_now) => count_now * 100 > count * (100 + TOLERANCE_PERCENT),
                None => was_asked_for(row, column),
            };
            if is_worse {
                found.push(Regression { situation: row.name(), column: column.clone(), before: count, now: count_now });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::{count, report, report_of};
    use super::*;

    fn worse(before: u64, now: u64) -> Vec<String> {
        let of = |instructions| report(&[count("call-direct", None, instructions)]);
        regressions(&of(before), &of(now)).iter().map(ToString::to_string).collect()
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
    fn each_size_is_compared_with_itself() {
        let before = report(&[count("init", 100, 1000), count("init", 1000, 9000)]);
        let now = report(&[count("init", 100, 1100), count("init", 1000, 9000)]);
        let found = regressions(&before, &now);
        assert!(found.iter().all(|regression| regression.situation == "init [100]"));
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn what_is_no_longer_counted_is_one_too_unless_it_was_not_asked_for() {
        let counts = [count("init", 1000, 9000), count("list", 100, 5), count("call-ops", 1, 5)];
        let before = report_of(&[100, 1000], &counts);
        let now = report_of(&[100], &[count("init", 100, 1000)]);
        let situations: Vec<String> = regressions(&before, &now).into_iter().map(|found| found.situation).collect();
        assert_eq!(situations, ["call-ops [1]", "call-ops [1]", "list [100]", "list [100]"]);
        let text = regressions(&before, &now)[0].to_string();
        assert_eq!(text, "call-ops [1], hard-float: 5 -> no longer counted");
    }
}
