//! What the bench compares with: the situations, with Linux's figures and our aims, from `xtask/data/situations.toml`.

use std::collections::{BTreeMap, HashSet};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// The file, which says itself what stands in it.
const FILE: &str = include_str!("../../data/situations.toml");

/// All situations.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Situations {
    #[serde(rename = "kernel")]
    pub(super) kernels: Vec<LinuxKernel>,
    #[serde(rename = "situation")]
    pub(super) all: Vec<Situation>,
}

/// A Linux that was measured, and how.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LinuxKernel {
    pub(super) name: String,
    pub(super) built: String,
    pub(super) machine: String,
    pub(super) measured: String,
}

/// What counts are for each of.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Each {
    Callsite,
    Name,
}

impl Each {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Callsite => "callsite",
            Self::Name => "name",
        }
    }
}

/// What is counted.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Unit {
    #[default]
    Instructions,
    Bytes,
}

impl Unit {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Instructions => "instructions",
            Self::Bytes => "bytes",
        }
    }
}

/// One situation.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Situation {
    pub(super) key: String,
    pub(super) size: Option<u64>,
    pub(super) title: String,
    pub(super) each: Option<Each>,
    #[serde(default)]
    pub(super) unit: Unit,
    #[serde(default)]
    linux: BTreeMap<String, u64>,
    linux_of: Option<u64>,
    aim: Option<f64>,
    aim_from: Option<u64>,
}

impl Situations {
    /// The situations that this program was built with.
    pub(super) fn load() -> Result<Self> {
        Self::parse(FILE).context("xtask/data/situations.toml")
    }

    fn parse(text: &str) -> Result<Self> {
        let situations: Self = toml::from_str(text)?;
        let mut known = HashSet::new();
        for Situation { key, size, each, linux, linux_of, .. } in &situations.all {
            ensure!(known.insert((key, size)), "{key} stands there twice with the same size");
            ensure!(linux_of.is_none() || each.is_some(), "{key} has linux_of, but its figures are for nothing each");
            for name in linux.keys() {
                let is_known = situations.kernels.iter().any(|kernel| kernel.name == *name);
                ensure!(is_known, "{key} has a figure of Linux {name}, of which nothing else is said");
            }
        }
        Ok(situations)
    }

    /// The situation that a count of this key and size is for, and its place among all.
    pub(super) fn find(&self, key: &str, size: Option<u64>) -> Option<(usize, &Situation)> {
        let of_key = || self.all.iter().enumerate().filter(|(_, situation)| situation.key == key);
        of_key()
            .find(|(_, situation)| situation.size.is_some() && situation.size == size)
            .or_else(|| of_key().find(|(_, situation)| situation.size.is_none()))
    }
}

impl Situation {
    /// Linux's best figure, for each where ours is, and the kernel that it is of.
    pub(super) fn linux(&self) -> Option<(f64, &str)> {
        let (kernel, figure) = self.linux.iter().min_by_key(|(_, figure)| **figure)?;
        Some((*figure as f64 / self.linux_of.unwrap_or(1) as f64, kernel))
    }

    /// The most that it shall cost at this size.
    pub(super) fn aim(&self, size: Option<u64>) -> Option<f64> {
        self.aim.filter(|_| self.aim_from.is_none_or(|from| size.is_some_and(|size| size >= from)))
    }

    /// What a count of this size is divided by.
    pub(super) fn divisor(&self, size: Option<u64>) -> u64 {
        size.filter(|_| self.each.is_some()).unwrap_or(1).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNELS: &str = "[[kernel]]\nname='6.1'\nbuilt=''\nmachine=''\nmeasured=''\n\
                           [[kernel]]\nname='7.2'\nbuilt=''\nmachine=''\nmeasured=''\n";

    fn parsed(text: &str) -> Result<Situations> {
        Situations::parse(&format!("{KERNELS}{text}"))
    }

    #[test]
    fn the_file_names_each_situation_s_source_and_has_the_aims() {
        let situations = Situations::load().unwrap();
        let aims = [
            ("call-unrelated", None, 0.0),
            ("call-ops", Some(1), 30.0),
            ("call-ops", Some(2), 60.0),
            ("call-ops", Some(10), 200.0),
            ("call-direct", None, 4.0),
            ("call-counter", None, 10.0),
            ("call-recorder", None, 25.0),
            ("call-entry-exit", None, 90.0),
            ("call-graph", None, 160.0),
            ("call-profiler", None, 70.0),
            ("call-event", None, 40.0),
            ("call-fentry", None, 12.0),
            ("call-modify-return", None, 20.0),
            ("call-fexit", None, 40.0),
            ("call-ops-struct", None, 0.0),
            ("register-one", Some(100_000), 2000.0),
            ("enable-all", Some(1000), 60.0),
        ];
        for (key, size, aim) in aims {
            assert_eq!(situations.find(key, size).unwrap().1.aim(size), Some(aim), "{key}");
        }
        assert!(situations.kernels.iter().all(|kernel| !kernel.machine.is_empty() && !kernel.measured.is_empty()));
    }

    #[test]
    fn linux_s_best_figure_is_the_lowest_of_any_kernel() {
        let text = "[[situation]]\nkey='a'\ntitle=''\nlinux={'6.1'=301,'7.2'=435}\n\
                    [[situation]]\nkey='b'\ntitle=''\neach='name'\nlinux={'7.2'=3000}\nlinux_of=1500";
        let situations = parsed(text).unwrap();
        assert_eq!(situations.all[0].linux(), Some((301.0, "6.1")));
        assert_eq!(situations.all[1].linux(), Some((2.0, "7.2")));
    }

    #[test]
    fn a_size_of_its_own_comes_before_the_general_entry() {
        let text = "[[situation]]\nkey='a'\ntitle='any'\naim=7\naim_from=1000\n\
                    [[situation]]\nkey='a'\nsize=2\ntitle='two'\n";
        let situations = parsed(text).unwrap();
        let title = |size| situations.find("a", size).map(|(_, situation)| situation.title.as_str());
        assert_eq!([title(None), title(Some(2)), title(Some(3))], [Some("any"), Some("two"), Some("any")]);
        assert!(situations.find("b", None).is_none());
        let aim = |size| situations.all[0].aim(size);
        assert_eq!([aim(Some(999)), aim(Some(1000)), aim(None)], [None, Some(7.0), None]);
    }

    #[test]
    fn a_total_is_divided_only_where_figures_are_for_each() {
        let text = "[[situation]]\nkey='a'\ntitle=''\neach='callsite'\n[[situation]]\nkey='b'\ntitle=''";
        let situations = parsed(text).unwrap();
        let divisors = situations.all.iter().map(|situation| situation.divisor(Some(100)));
        assert_eq!(divisors.collect::<Vec<_>>(), [100, 1]);
    }

    #[test]
    fn mistakes_in_the_file_are_named() {
        let twice = "[[situation]]\nkey='a'\ntitle=''\n[[situation]]\nkey='a'\ntitle=''";
        assert!(parsed(twice).unwrap_err().to_string().contains("twice"));
        let unknown = "[[situation]]\nkey='a'\ntitle=''\nlinux={'5.10'=1}";
        assert!(parsed(unknown).unwrap_err().to_string().contains("5.10"));
        assert!(parsed("[[situation]]\nkey='a'\ntitle=''\naims=1").is_err());
    }
}
