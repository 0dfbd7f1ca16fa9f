//! What is told in several places is told alike.

use std::collections::BTreeSet;

use crate::doctor::advice;

const GUIDE: &str = include_str!("../../../../src/guide.rs");
const CONFIG: &str = include_str!("../../../../.cargo/config.toml");
const README: &str = include_str!("../../../../README.md");
const SCRIPT: &str = include_str!("../../../../linker.ld");

/// For `=4,2` alone, which some variants of the tests are compiled with.
const ALIGNMENT: &str = "-Zmin-function-alignment=8";

/// The flags in an array of strings.
fn flags(array: &str) -> BTreeSet<&str> {
    let strings = array.split('"').skip(1).step_by(2);
    strings.inspect(|flag| assert!(flag.starts_with('-'), "{flag}")).collect()
}

/// What stands in the brackets behind each `rustflags`.
fn arrays(text: &str) -> Vec<BTreeSet<&str>> {
    let behind = text.split("rustflags = [").skip(1);
    behind.map(|behind| flags(behind.split("\n]").next().unwrap().split("\n//! ]").next().unwrap())).collect()
}

#[test]
fn the_compilers_flags_are_the_guides() {
    let guide = arrays(GUIDE);
    assert_eq!(guide.len(), 1);
    let (_, prefixed) = GUIDE.split_once("With `=4,2`").unwrap();
    assert!(prefixed.split("\n//!\n").next().unwrap().contains(ALIGNMENT));

    let words =
        advice::COMPILE.split([' ', '\'', '\n']).filter(|word| word.starts_with("-Z") || word.starts_with("-C"));
    let advised: BTreeSet<&str> = words.filter(|flag| !flag.starts_with("-Zbuild-std")).collect();
    assert_eq!(advised, guide[0]);
    assert!(GUIDE.contains("`-fpatchable-function-entry=2 -fno-omit-frame-pointer`"));
    assert!(advice::COMPILE.contains(" -fpatchable-function-entry=2 -fno-omit-frame-pointer"));

    let config = arrays(CONFIG);
    assert_eq!(config.len(), 2);
    for target in config {
        let others: BTreeSet<&str> = target.difference(&guide[0]).copied().collect();
        assert_eq!(others, BTreeSet::from([ALIGNMENT]));
        assert!(target.is_superset(&guide[0]));
    }
    assert_eq!(guide[0].len(), 3);
    assert!(README.contains("three compiler flags"));
}

#[test]
fn the_fragment_is_printed_and_the_tests_own_script_keeps_the_same() {
    for (advice, section) in [
        (advice::keep(), ".fentry.callsites"),
        (advice::gather(), ".text.fentry"),
        (advice::symbols(), ".fentry.symbols"),
    ] {
        let (_, printed) = advice.split_once(&format!("    {section} : ALIGN(")).unwrap();
        let (printed, _) = printed.split_once("\n    }\n").unwrap();
        let inputs: Vec<&str> = printed.lines().map(str::trim).filter(|line| line.contains("*(")).collect();
        let (_, script) = SCRIPT.split_once(&format!("    {section} : ALIGN(")).unwrap();
        let (script, _) = script.split_once("\n    }").unwrap();
        let of_script: Vec<&str> = script.lines().map(str::trim).filter(|line| line.contains("*(")).collect();
        assert!(!inputs.is_empty());
        assert_eq!(inputs, of_script, "{section}");
    }
}

#[test]
fn the_fragment_comes_before_the_kernel_s_script_and_alignment_is_of_the_compiler() {
    for advice in [advice::keep(), advice::gather()] {
        assert!(advice.contains("before"), "{advice}");
        assert!(!advice.contains("second -T"), "{advice}");
    }
    for flag in [ALIGNMENT, "-fmin-function-alignment=8", "-falign-functions=8"] {
        assert!(advice::ALIGNMENT.contains(flag) && GUIDE.contains(flag), "{flag}");
    }
}
