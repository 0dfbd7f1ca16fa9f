//! What the guide asks for besides the crate: the linker fragment, and the guide itself, as of the version that this program
//! was built with.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use fentry::{GUIDE, LINKER_FRAGMENT};

/// Print the linker fragment, which a kernel's link needs besides the kernel's own script
///
/// Give it to the linker before that script, which stays as it is; the comments say what must be mapped how.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cargo fentry linker-script -o fentry.ld\n\nIn build.rs, then:\n  \
                        println!(\"cargo::rustc-link-arg-bins=-Tfentry.ld\");\n  \
                        println!(\"cargo::rustc-link-arg-bins=-Tkernel.ld\");")]
pub struct LinkerScriptArgs {
    /// Write it to this file, which is left as it is where it has the same text already
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Print the guide: how a kernel is given fentry, step by step
///
/// It is the chapter `guide` of fentry's documentation, as Markdown.
#[derive(Debug, Args)]
pub struct GuideArgs {}

/// Prints the linker fragment, or writes it.
///
/// # Errors
///
/// The file can't be written.
pub fn linker_script(args: &LinkerScriptArgs) -> Result<()> {
    let Some(output) = &args.output else { return print(LINKER_FRAGMENT) };
    // Cargo would link again for a file that is newer.
    if std::fs::read(output).is_ok_and(|text| text == LINKER_FRAGMENT.as_bytes()) {
        return Ok(());
    }
    std::fs::write(output, LINKER_FRAGMENT).with_context(|| format!("cannot write {}", output.display()))
}

/// Prints the guide.
///
/// # Errors
///
/// Standard output can't be written to.
pub fn guide(_args: &GuideArgs) -> Result<()> {
    print(&format!("{PREFACE}{}", markdown(GUIDE)))
}

/// Prints a text that may go through a pipe to a reader who has seen enough.
fn print(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("cannot write"),
        _ => Ok(()),
    }
}

/// Where the pieces are.
const PREFACE: &str = concat!(
    "<!-- fentry ",
    env!("CARGO_PKG_VERSION"),
    "
  the crate             fentry, of the same version; its documentation is `cargo doc --package fentry --open`
  the linker fragment   `cargo fentry linker-script -o fentry.ld`; the guide calls it examples/fentry.ld
  the symbol table      `cargo fentry symbols`
  the rest              `cargo fentry --help`
-->

"
);

/// The documentation of a module as Markdown, without what only rustdoc understands: lines of an example that it hides, and
/// links into the crate.
fn markdown(source: &str) -> String {
    let mut text = String::new();
    // Whether an example is being read, and whether that is Rust.
    let mut example: Option<bool> = None;
    for line in source.lines().map_while(|line| line.strip_prefix("//!")) {
        let line = line.strip_prefix(' ').unwrap_or(line);
        if let Some(language) = line.trim_start().strip_prefix("```") {
            example = match example {
                Some(_) => None,
                None => Some(!["toml", "text", "c", "sh", "asm"].contains(&language)),
            };
            // rustdoc's words (`no_run` and others) say nothing to other readers.
            text.push_str(if example == Some(true) { "```rust" } else { line });
        } else if example == Some(true) && (line.trim_start().starts_with("# ") || line.trim() == "#") {
            continue;
        } else if example.is_some() {
            text.push_str(line);
        } else {
            text.push_str(&without_links(line));
        }
        text.push('\n');
    }
    text
}

/// A line whose links into the crate are their texts only.
fn without_links(line: &str) -> String {
    let mut text = line.to_owned();
    while let Some(middle) = text.find("](crate::")
        && let Some(start) = text[..middle].rfind('[')
        && let Some(end) = text[middle..].find(')')
    {
        text.replace_range(middle..=middle + end, "");
        text.remove(start);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_rustdoc_understands_is_left_out() {
        let source = "//! One [`Two`](crate::Two) and [three](crate::four#five).\n//!\n//! # Six\n//! ```no_run\n\
                      //! # use hidden;\n//! let a = [1];\n//! #\n//! # }\n//! ```\n//! ```toml\n//! # seven\n//! ```\n\
                      //! [eight](https://nine)\ncode";
        let expected =
            "One `Two` and three.\n\n# Six\n```rust\nlet a = [1];\n```\n```toml\n# seven\n```\n[eight](https://nine)\n";
        assert_eq!(markdown(source), expected);
    }

    #[test]
    fn the_guide_is_whole() {
        let guide = markdown(GUIDE);
        assert!(guide.starts_with("Adding fentry to your kernel"), "{guide}");
        assert!(guide.lines().count() > 100, "{guide}");
        for rest in ["](crate::", "//!", "\n# use ", "\n# const ", "\n# fn "] {
            assert!(!guide.contains(rest), "{rest:?} is left");
        }
        assert_eq!(guide.matches("```").count() % 2, 0);
    }

    #[test]
    fn a_linker_script_that_is_there_keeps_its_time() {
        let dir = std::env::temp_dir().join(format!("fentry-pieces-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join("fentry.ld");
        let args = LinkerScriptArgs { output: Some(file.clone()) };
        std::fs::write(&file, "another version's").unwrap();
        linker_script(&args).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), LINKER_FRAGMENT);
        let long_ago = std::time::SystemTime::UNIX_EPOCH;
        std::fs::File::options().write(true).open(&file).unwrap().set_modified(long_ago).unwrap();
        linker_script(&args).unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().modified().unwrap(), long_ago);
        std::fs::remove_dir_all(&dir).unwrap();
        let error = linker_script(&LinkerScriptArgs { output: Some("/no/where/fentry.ld".into()) }).unwrap_err();
        assert_eq!(error.to_string(), "cannot write /no/where/fentry.ld");
    }
}
