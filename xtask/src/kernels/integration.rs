//! How many lines it takes to put fentry into a kernel, counted in the examples.
//!
//! In an example, what is there for fentry only stands between lines that say `integration` and `end of integration` in a
//! comment, or in a file `src/tracing.rs`. Comments and blank lines are not counted. Nor is what an example traces then, to show
//! something, where it has a file `src/show.rs` for that.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

/// The integration's lines of an example, the compiler's flags of `.cargo/config.toml` included where `flags` says so.
fn lines_of(example: &Path, flags: Option<&Path>) -> Result<usize> {
    let mut files: Vec<PathBuf> = flags.into_iter().map(Path::to_path_buf).collect();
    // In C, sources stand beside the linker script.
    for directory in [example.to_path_buf(), example.join("src")].into_iter().filter(|directory| directory.is_dir()) {
        let entries = fs::read_dir(&directory).with_context(|| format!("{}", directory.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_file() {
                files.push(path);
            }
        }
    }
    let mut lines = 0;
    for file in files {
        let text = fs::read_to_string(&file).with_context(|| format!("{}", file.display()))?;
        lines += lines_in(&file, &text).with_context(|| format!("{}", file.display()))?;
    }
    Ok(lines)
}

/// The integration's lines of one file.
fn lines_in(file: &Path, text: &str) -> Result<usize> {
    let is_hashed = file.extension().is_none_or(|extension| extension == "toml" || extension == "mk");
    let is_whole = file.ends_with("src/tracing.rs");
    let is_use = file.ends_with("src/show.rs");
    let (mut count, mut is_inside, mut is_in_comment) = (0, is_whole, false);
    for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line.trim())) {
        match comment(line, is_hashed) {
            Some("integration") => {
                ensure!(!is_inside, "line {number} begins an integration inside another");
                is_inside = true;
            }
            Some("end of integration") => {
                ensure!(is_inside && !is_whole, "line {number} ends an integration that has not begun");
                is_inside = false;
            }
            _ => {
                let is_code = code_in(line, is_hashed, &mut is_in_comment);
                if is_code && !is_inside && !is_use && mentions_fentry(line) {
                    bail!("line {number} is there for fentry and not marked: {line}");
                }
                count += usize::from(is_code && is_inside);
            }
        }
    }
    ensure!(is_inside == is_whole, "an integration has no end");
    Ok(count)
}

/// What a line says that is a comment and nothing else.
fn comment(line: &str, is_hashed: bool) -> Option<&str> {
    let text = if is_hashed {
        line.strip_prefix('#')
    } else {
        line.strip_prefix("//").or_else(|| line.strip_prefix("/*")?.strip_suffix("*/"))
    };
    text.map(str::trim)
}

/// Whether there is code in a line; `is_in_comment` is whether a comment of several lines has begun before it.
fn code_in(line: &str, is_hashed: bool, is_in_comment: &mut bool) -> bool {
    if is_hashed {
        return !line.is_empty() && !line.starts_with('#');
    }
    let (mut rest, mut is_code) = (line, false);
    loop {
        if *is_in_comment {
            let Some((_, behind)) = rest.split_once("*/") else { return is_code };
            (rest, *is_in_comment) = (behind.trim(), false);
        }
        if rest.is_empty() || rest.starts_with("//") {
            return is_code;
        }
        match rest.split_once("/*") {
            // Not `Path/*` in a string or a glob: there is none in the examples.
            Some((before, behind)) => {
                is_code |= !before.trim().is_empty();
                (rest, *is_in_comment) = (behind, true);
            }
            None => return true,
        }
    }
}

/// Whether code names the crate or this integration's own file, other than in a text for people.
fn mentions_fentry(line: &str) -> bool {
    let is_word =
        |word: &str| line.split(|letter: char| !letter.is_alphanumeric() && letter != '_').any(|part| part == word);
    let is_described = line.starts_with("description");
    !is_described && (is_word("fentry") || is_word("tracing"))
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is in the repository").to_path_buf()
}

#[test]
fn the_examples_integrate_fentry_in_few_lines() {
    let root = repository();
    let flags = root.join(".cargo/config.toml");
    for (example, flags, most) in [("minimal", Some(&flags), 60), ("minimal-c", None, 60), ("smp", Some(&flags), 90)] {
        let directory = root.join("examples").join(example);
        let lines = lines_of(&directory, flags.map(PathBuf::as_path)).unwrap_or_else(|error| panic!("{error:#}"));
        println!("examples/{example}: {lines} lines of integration");
        assert!((10..=most).contains(&lines), "examples/{example} takes {lines} lines of {most}");
    }
}

#[test]
fn lines_are_those_with_code_between_the_marks() {
    let count = |name: &str, text: &str| lines_in(Path::new(name), text).map_err(|error| error.to_string());
    let marked =
        "a();\n// integration\n\nb(); // why\n/// What c does.\n/* and\n   why */ c();\n// end of integration\nd();\n";
    assert_eq!(count("main.rs", marked), Ok(2));
    assert_eq!(count("main.c", &marked.replace("// integration", "/* integration */")), Ok(2));
    assert_eq!(count("src/tracing.rs", "//! What.\n\na();\n// why\nb();\n"), Ok(2));
    assert_eq!(count("Cargo.toml", "x = 1\n# integration\n# why\ny = 2\n# end of integration\n"), Ok(1));
    assert_eq!(count("Makefile", "# integration\nx = fentry\n# end of integration\n"), Ok(1));
    assert_eq!(count("src/show.rs", "use fentry::Ops;\n"), Ok(0));
    for (wrong, problem) in [
        ("// integration\na();\n", "no end"),
        ("// end of integration\n", "has not begun"),
        ("// integration\n// integration\n", "inside another"),
        ("use fentry::Ops;\n", "not marked"),
    ] {
        assert!(count("main.rs", wrong).is_err_and(|error| error.contains(problem)), "{wrong}");
    }
}
