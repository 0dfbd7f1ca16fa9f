//! The names of the host tests, read from their files, for lists that select some of them: a name that is nobody's any more
//! selects nothing, and nothing would say so.

use std::fs;
use std::path::Path;

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Every test of the packages that Miri and the mutants are given, by its whole path.
pub(crate) fn all() -> Vec<String> {
    let mut names = Vec::new();
    for folder in ["src", "tests/safe/src", "examples/extent_status/src"] {
        read_folder(&root().join(folder), "", &mut names);
    }
    names
}

fn read_folder(folder: &Path, module: &str, names: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let inner = if ["mod", "lib"].contains(&stem) { module.to_owned() } else { format!("{module}{stem}::") };
        if path.is_dir() {
            read_folder(&path, &inner, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            read_file(&fs::read_to_string(&path).unwrap(), &inner, names);
        }
    }
}

/// Formatted files: only what is at the margin is the file's own.
fn read_file(text: &str, module: &str, names: &mut Vec<String>) {
    let (mut inline, mut is_test) = (String::new(), false);
    for line in text.lines() {
        let code = line.trim_start();
        if let Some(name) = line.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(" {")) {
            inline = format!("{name}::");
        } else if line == "}" {
            inline.clear();
        } else if code == "#[test]" {
            is_test = true;
        } else if let Some((name, _)) =
            code.strip_prefix("fn ").and_then(|rest| rest.split_once('(')).filter(|_| is_test)
        {
            names.push(format!("{module}{inline}{name}"));
            is_test = false;
        }
    }
}

#[test]
fn a_test_is_known_by_its_path() {
    let names = all();
    assert!(names.len() > 300, "{}", names.len());
    for name in ["context::tests::what_is_counted_shows", "engine::ops_come_and_go_and_change"] {
        assert!(names.iter().any(|known| known == name), "{name}");
    }
}
