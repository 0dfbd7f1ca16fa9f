//! The bench's result: the counts and what they are compared with. It is printed, saved and compared.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::growth::exponent;
use super::lines::Count;
use super::mca::Pipeline;
use super::situations::Situations;

/// The column that is compared with Linux, which is compiled for general registers only, and with the aims.
pub(super) const FAIR: &str = "softfloat";

/// A whole result.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Report {
    /// How many callsites the images had.
    pub(super) callsites: Vec<u64>,
    pub(super) rows: Vec<Row>,
    #[serde(default)]
    pub(super) growth: Vec<Growth>,
    /// The stubs on models of CPUs, where LLVM is there.
    #[serde(default)]
    pub(super) stubs: Vec<Pipeline>,
}

/// One situation at one size.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) key: String,
    pub(super) size: Option<u64>,
    pub(super) title: String,
    /// Instructions or bytes.
    pub(super) unit: String,
    /// What a count is divided by for comparing.
    pub(super) each: Option<EachOf>,
    /// By column.
    pub(super) counts: BTreeMap<String, u64>,
    pub(super) linux: Option<LinuxFigure>,
    /// Ours by Linux's, where Linux's isn't 0.
    pub(super) ratio: Option<f64>,
    pub(super) aim: Option<f64>,
}

/// So many of what a count is for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct EachOf {
    pub(super) number: u64,
    /// A callsite or a name.
    pub(super) of: String,
}

/// Linux's best figure, and the kernel that it is of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct LinuxFigure {
    pub(super) figure: f64,
    pub(super) kernel: String,
}

/// How a cost grows with its size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Growth {
    pub(super) key: String,
    pub(super) column: String,
    pub(super) exponent: f64,
    /// Size and cost.
    pub(super) points: Vec<(u64, u64)>,
}

impl Row {
    /// What this column has for each.
    pub(super) fn value(&self, column: &str) -> Option<f64> {
        let divisor = self.each.as_ref().map_or(1, |each| each.number);
        self.counts.get(column).map(|count| *count as f64 / divisor as f64)
    }

    /// The value that is compared with Linux and the aim: the fair column's, or what there is.
    pub(super) fn fair_value(&self) -> Option<f64> {
        self.value(FAIR).or_else(|| self.counts.keys().find_map(|column| self.value(column)))
    }

    pub(super) fn misses_aim(&self) -> bool {
        self.aim.is_some_and(|aim| self.fair_value().is_some_and(|value| value > aim))
    }

    pub(super) fn is_behind_linux(&self) -> bool {
        self.linux.as_ref().is_some_and(|linux| self.fair_value().is_some_and(|value| value > linux.figure))
    }

    /// The situation's name for a person.
    pub(super) fn name(&self) -> String {
        match self.size {
            Some(size) => format!("{} [{size}]", self.key),
            None => self.key.clone(),
        }
    }
}

impl Report {
    /// Puts what was counted beside what it is compared with, in the order of the situations.
    pub(super) fn new(situations: &Situations, callsites: &[u64], counted: &[(&str, Vec<Count>)]) -> Result<Self> {
        let mut rows: BTreeMap<(usize, Option<u64>), Row> = BTreeMap::new();
        for (column, counts) in counted {
            for Count { key, size, count } in counts {
                let (place, situation) = situations
                    .find(key, *size)
                    .with_context(|| format!("xtask/data/situations.toml has no situation {key}"))?;
                let row = rows.entry((place, *size)).or_insert_with(|| Row {
                    key: key.clone(),
                    size: *size,
                    title: situation.title.clone(),
                    unit: situation.unit.name().to_owned(),
                    each: situation
                        .each
                        .map(|each| EachOf { number: situation.divisor(*size), of: each.name().to_owned() }),
                    linux: situation.linux().map(|(figure, kernel)| LinuxFigure { figure, kernel: kernel.to_owned() }),
                    aim: situation.aim(*size),
                    ..Row::default()
                });
                row.counts.insert((*column).to_owned(), *count);
            }
        }
        let mut rows: Vec<Row> = rows.into_values().collect();
        for row in &mut rows {
            let linux = row.linux.as_ref().map(|linux| linux.figure).filter(|figure| *figure > 0.0);
            row.ratio = row.fair_value().zip(linux).map(|(ours, linux)| ours / linux);
        }
        let growth = growth(&rows);
        Ok(Self { callsites: callsites.to_vec(), rows, growth, stubs: Vec::new() })
    }

    pub(super) fn save(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).context("the result can't be written as JSON")?;
        fs::write(file, text + "\n").with_context(|| format!("cannot write {}", file.display()))
    }

    pub(super) fn load(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is not a saved result of bench", file.display()))
    }
}

/// The growth of every cost of instructions that was counted at three sizes or more.
fn growth(rows: &[Row]) -> Vec<Growth> {
    let mut points: BTreeMap<(&str, &str), Vec<(u64, u64)>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.unit == "instructions") {
        for (column, count) in &row.counts {
            points.entry((&row.key, column)).or_default().extend(row.size.map(|size| (size, *count)));
        }
    }
    let fitted = |((key, column), points): ((&str, &str), Vec<(u64, u64)>)| {
        let exponent = exponent(&points)?;
        Some(Growth { key: key.to_owned(), column: column.to_owned(), exponent, points })
    };
    points.into_iter().filter_map(fitted).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn count(key: &str, size: impl Into<Option<u64>>, count: u64) -> Count {
        Count { key: key.to_owned(), size: size.into(), count }
    }

    /// A report with these counts in both columns, of images with these numbers of callsites.
    pub(in super::super) fn report_of(callsites: &[u64], counts: &[Count]) -> Report {
        let counted = [("hard-float", counts.to_vec()), (FAIR, counts.to_vec())];
        Report::new(&Situations::load().unwrap(), callsites, &counted).unwrap()
    }

    pub(in super::super) fn report(counts: &[Count]) -> Report {
        report_of(&[100, 1000, 10_000], counts)
    }

    #[test]
    fn ours_is_compared_with_linux_and_the_aim_by_the_fair_column() {
        let situations = Situations::load().unwrap();
        let counted = [("hard-float", vec![count("call-ops", 1, 68)]), (FAIR, vec![count("call-ops", 1, 20)])];
        let report = Report::new(&situations, &[], &counted).unwrap();
        let row = &report.rows[0];
        assert_eq!((row.ratio, row.aim), (Some(0.5), Some(30.0)));
        assert!(!row.misses_aim() && !row.is_behind_linux());

        let report = Report::new(&situations, &[], &counted[..1]).unwrap();
        assert_eq!(report.rows[0].ratio, Some(1.7));
        assert!(report.rows[0].misses_aim() && report.rows[0].is_behind_linux());
    }

    #[test]
    fn what_is_for_each_is_divided_by_the_size() {
        let report = report(&[count("init", 1000, 826_000), count("register-one", 1000, 1552)]);
        let values: Vec<_> = report.rows.iter().map(|row| (row.key.as_str(), row.value(FAIR))).collect();
        assert_eq!(values, [("register-one", Some(1552.0)), ("init", Some(826.0))]);
    }

    #[test]
    fn a_cost_of_nothing_has_no_ratio() {
        let report = report(&[count("call-untraced", None, 0)]);
        assert_eq!(report.rows[0].ratio, None);
        assert!(!report.rows[0].misses_aim() && !report.rows[0].is_behind_linux());
        let report = self::report(&[count("call-untraced", None, 1)]);
        assert!(report.rows[0].misses_aim() && report.rows[0].is_behind_linux());
    }

    #[test]
    fn an_unknown_situation_is_an_error() {
        let error = Report::new(&Situations::load().unwrap(), &[], &[(FAIR, vec![count("call-nonsense", None, 1)])]);
        assert!(error.unwrap_err().to_string().contains("call-nonsense"));
    }

    #[test]
    fn growth_is_of_totals_at_three_sizes() {
        let counts = [100, 1000, 10_000].map(|size| count("init", size, 800 * size));
        let bytes = [100, 1000, 10_000].map(|size| count("memory-record", size, 8 * size));
        let report = report(&[&counts[..], &bytes, &[count("list", 100, 5)]].concat());
        assert_eq!(report.growth.iter().map(|growth| growth.key.as_str()).collect::<Vec<_>>(), ["init", "init"]);
        assert!((report.growth[0].exponent - 1.0).abs() < 1e-9);
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let file = std::env::temp_dir().join(format!("fentry-bench-{}.json", std::process::id()));
        let saved = report(&[count("init", 1000, 826_000), count("call-ops", 1, 20)]);
        saved.save(&file).unwrap();
        let loaded = Report::load(&file);
        drop(fs::remove_file(&file));
        assert_eq!(format!("{:?}", loaded.unwrap().rows), format!("{:?}", saved.rows));
    }
}
