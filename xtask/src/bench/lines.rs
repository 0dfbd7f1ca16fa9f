//! Reads what the bench kernel prints.
//!
//! ```text
//! bench: <situation> <count> [<size>]
//! bench-code: <name> <instruction> ...
//! ```
//!
//! The first line that a case prints begins behind the case's name, so the words may stand anywhere in a line.

use std::collections::HashSet;

use anyhow::{Context, Result, bail, ensure};

const COUNT: &str = "bench: ";
const CODE: &str = "bench-code: ";

/// One count, of all that `size` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) key: String,
    pub(super) size: Option<u64>,
    pub(super) count: u64,
}

/// The instructions of a stub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Code {
    pub(super) name: String,
    pub(super) words: Vec<u32>,
}

/// All that a boot has printed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Printed {
    pub(super) counts: Vec<Count>,
    pub(super) codes: Vec<Code>,
}

/// Reads a console.
pub(super) fn parse(console: &[String]) -> Result<Printed> {
    let mut printed = Printed::default();
    for line in console {
        if let Some((_, text)) = line.split_once(CODE) {
            printed.codes.push(code(text).with_context(|| format!("the line: {line}"))?);
        } else if let Some((_, text)) = line.split_once(COUNT) {
            printed.counts.push(count(text).with_context(|| format!("the line: {line}"))?);
        }
    }
    let mut known = HashSet::new();
    for Count { key, size, .. } in &printed.counts {
        ensure!(known.insert((key, size)), "the kernel printed {key} twice");
    }
    Ok(printed)
}

fn count(text: &str) -> Result<Count> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let number = |word: &str| word.parse().with_context(|| format!("{word} is no number"));
    let (key, count, size) = match words[..] {
        [key, count] => (key, number(count)?, None),
        [key, count, size] => (key, number(count)?, Some(number(size)?)),
        _ => bail!("a count has a name, a number and perhaps a size"),
    };
    Ok(Count { key: key.to_owned(), size, count })
}

fn code(text: &str) -> Result<Code> {
    let mut words = text.split_whitespace();
    let name = words.next().context("the code has no name")?.to_owned();
    let word = |word| u32::from_str_radix(word, 16).with_context(|| format!("{word} is no instruction"));
    let words: Vec<u32> = words.map(word).collect::<Result<_>>()?;
    ensure!(!words.is_empty(), "{name} has no instructions");
    Ok(Code { name, words })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(console: &str) -> Result<Printed> {
        parse(&console.lines().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn counts_and_code_are_found_among_other_lines() {
        let printed = parsed(
            "running 2 tests\ntest a ... bench: init 826 100\nbench: call-untraced 0\ntest a ... ok\n\
             test b ... bench-code: stub d503245f D65F03C0\ntest b ... ok",
        );
        let count = |key: &str, size, count| Count { key: key.to_owned(), size, count };
        let code = Code { name: "stub".to_owned(), words: vec![0xd503_245f, 0xd65f_03c0] };
        let expected =
            Printed { counts: vec![count("init", Some(100), 826), count("call-untraced", None, 0)], codes: vec![code] };
        assert_eq!(printed.unwrap(), expected);
    }

    #[test]
    fn a_line_that_cannot_be_read_is_shown() {
        for line in ["bench: init", "bench: init 12x", "bench: init 1 2 3", "bench-code: stub", "bench-code: stub xyz"]
        {
            let error = parsed(line).unwrap_err();
            assert!(format!("{error:#}").contains(line), "{error:#}");
        }
    }

    #[test]
    fn a_situation_is_counted_once_for_each_size() {
        assert!(parsed("bench: a 1 10\nbench: a 1 100\nbench: a 1").is_ok());
        assert!(parsed("bench: a 1 10\nbench: a 2 10").is_err());
    }
}
