//! The results: a line for each file, and a summary.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use cargo_fentry::progress::in_words;

use super::Outcome;
use super::linked::Linked;
use super::module::{DISTANCES, Placed};

/// How often each thing was seen, and the first file with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Tally(BTreeMap<String, (usize, String)>);

impl Tally {
    fn add(&mut self, what: &str, file: &Path) {
        let counted = self.0.entry(what.to_owned()).or_insert_with(|| (0, file.display().to_string()));
        counted.0 += 1;
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, title: &str) -> fmt::Result {
        let mut all: Vec<_> = self.0.iter().collect();
        all.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
        for (what, (count, first)) in all {
            writeln!(f, "  {title}: {count:5}  {what} (first: {first})")?;
        }
        Ok(())
    }
}

/// The modules at one distance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct AtDistance {
    loaded: usize,
    callsites: usize,
    refused: Tally,
    untraced: Tally,
}

/// The sum of all.
#[derive(Debug, Default)]
pub(super) struct Summary {
    linker: Option<String>,
    modules: usize,
    images: usize,
    healthy: usize,
    others: usize,
    left_out: Tally,
    distances: [AtDistance; DISTANCES.len()],
    same: usize,
    same_bytes: u64,
    not_linked: Tally,
    not_examined: Tally,
    faults: Vec<String>,
    pub(super) took: Duration,
}

impl Summary {
    pub(super) fn new(linker: Option<String>) -> Self {
        Self { linker, ..Self::default() }
    }

    /// How often our code was wrong.
    pub(super) fn faults(&self) -> usize {
        self.faults.len()
    }

    /// Counts a file, and prints its line unless it is none of ours.
    pub(super) fn add(&mut self, file: &Path, outcome: &Outcome) {
        let faults = self.faults.len();
        let said = match outcome {
            Outcome::Module { placed, linked } => self.add_module(file, placed, linked.as_ref()),
            Outcome::Image(examined) => self.add_image(file, examined),
            Outcome::LeftOut(why) => {
                self.left_out.add(&without_numbers(why), file);
                format!("left out: {why}")
            }
            Outcome::Fault(why) => {
                self.faults.push(format!("{}: {why}", file.display()));
                why.clone()
            }
            Outcome::Other => {
                self.others += 1;
                return;
            }
        };
        let mark = if self.faults.len() > faults { "FAULT  " } else { "" };
        println!("{mark}{}: {said}", file.display());
    }

    fn add_module(&mut self, file: &Path, placed: &[Result<Placed, String>], linked: Option<&Linked>) -> String {
        self.modules += 1;
        let mut said = Vec::new();
        for ((distance, sum), placed) in DISTANCES.iter().zip(&mut self.distances).zip(placed) {
            let how = match placed {
                Ok(Placed::Traced { callsites, refused }) => {
                    sum.loaded += 1;
                    sum.callsites += callsites;
                    refused.iter().for_each(|why| sum.untraced.add(why, file));
                    let untraced =
                        if refused.is_empty() { String::new() } else { format!(" of {}", callsites + refused.len()) };
                    format!("{callsites}{untraced} callsites")
                }
                Ok(Placed::Refused { kind, error }) => {
                    sum.refused.add(kind, file);
                    format!("refused: {error}")
                }
                Err(why) => {
                    self.faults.push(format!("{}, {}: {why}", file.display(), distance.name));
                    why.clone()
                }
            };
            said.push(format!("{} {how}", distance.name));
        }
        match linked {
            Some(Linked::Same(bytes)) => {
                self.same += 1;
                self.same_bytes += bytes;
                said.push(format!("{bytes} bytes as linked"));
            }
            Some(Linked::Differs(how)) => {
                self.faults.push(format!("{}: {how}", file.display()));
                said.push(how.clone());
            }
            Some(Linked::LeftOut(why)) => {
                self.not_linked.add(&without_numbers(why), file);
                said.push(format!("not compared: {why}"));
            }
            None => {}
        }
        said.join("; ")
    }

    fn add_image(&mut self, file: &Path, examined: &Result<usize, String>) -> String {
        self.images += 1;
        match examined {
            Ok(0) => {
                self.healthy += 1;
                "healthy".to_owned()
            }
            Ok(problems) => format!("{problems} problems; `cargo fentry doctor` says which"),
            Err(why) => {
                self.not_examined.add(&without_numbers(why), file);
                format!("not looked into: {why}")
            }
        }
    }
}

/// A text in which equal causes are equal.
fn without_numbers(text: &str) -> String {
    let is_number = |word: &str| {
        let word = word.trim_matches(|letter: char| !letter.is_ascii_alphanumeric());
        word.starts_with("0x") || word.starts_with(|letter: char| letter.is_ascii_digit())
    };
    text.split(' ').map(|word| if is_number(word) { "#" } else { word }).collect::<Vec<_>>().join(" ")
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { modules, images, healthy, others, .. } = self;
        writeln!(f)?;
        writeln!(f, "  {modules} modules, {images} images, {others} other files, in {}", in_words(self.took))?;
        for (distance, sum) in DISTANCES.iter().zip(&self.distances) {
            let AtDistance { loaded, callsites, refused, untraced } = sum;
            writeln!(f, "  {:7}  {loaded} loaded, {callsites} callsites enabled and disabled", distance.name)?;
            refused.write(f, &format!("{:7}  refused", distance.name))?;
            untraced.write(f, &format!("{:7}  untraced", distance.name))?;
        }
        match &self.linker {
            Some(linker) => {
                writeln!(f, "  {linker}: {} modules are the same, {} bytes", self.same, self.same_bytes)?;
                self.not_linked.write(f, "not compared")?;
            }
            None => writeln!(f, "  LEFT OUT: the comparison with a linker")?,
        }
        if self.images > 0 {
            writeln!(f, "  {healthy} of {images} images are healthy")?;
        }
        self.not_examined.write(f, "not looked into")?;
        self.left_out.write(f, "left out")?;
        for fault in &self.faults {
            writeln!(f, "  FAULT: {fault}")?;
        }
        match self.faults() {
            0 => writeln!(f, "  no fault of ours"),
            faults => writeln!(f, "  {faults} faults of ours"),
        }
    }
}
