//! The lines that a person types: edited, kept, completed.

use std::path::PathBuf;

use anyhow::Result;
use rustyline::completion::Completer;
use rustyline::config::Configurer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Context, Helper};

/// The commands of the control interface, and what ends it.
const COMMANDS: [&str; 7] = ["cat", "echo", "exit", "help", "ls", "mkdir", "rmdir"];
/// Where instances are, which have files of the same names.
const INSTANCES: &str = "instances/";

/// The most names that are offered.
const OFFERED: usize = 200;

/// What somebody has typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Typed {
    Line(String),
    /// ^C.
    Nothing,
    /// ^D.
    End,
}

/// Reads lines from this terminal.
pub(super) struct Editor {
    editor: rustyline::Editor<Names, DefaultHistory>,
    history: Option<PathBuf>,
}

impl Editor {
    /// Makes one that completes these names.
    pub(super) fn new(files: Vec<String>, mut functions: Vec<String>) -> Result<Self> {
        functions.sort();
        functions.dedup();
        let mut editor = rustyline::Editor::new()?;
        editor.set_completion_type(CompletionType::List);
        editor.set_helper(Some(Names { files, functions }));
        let history = std::env::home_dir().map(|home| home.join(".fentry_history"));
        if let Some(history) = &history {
            // The first time there is none.
            let _ = editor.load_history(history);
        }
        Ok(Self { editor, history })
    }

    /// Reads a line.
    pub(super) fn read(&mut self) -> Result<Typed> {
        match self.editor.readline("# ") {
            Ok(line) => {
                if self.editor.add_history_entry(&line)?
                    && let Some(history) = &self.history
                {
                    // Where it can't be written it is kept until the end all the same.
                    let _ = self.editor.save_history(history);
                }
                Ok(Typed::Line(line))
            }
            Err(ReadlineError::Interrupted) => Ok(Typed::Nothing),
            Err(ReadlineError::Eof) => Ok(Typed::End),
            Err(error) => Err(error.into()),
        }
    }
}

/// What can stand in a line.
struct Names {
    files: Vec<String>,
    functions: Vec<String>,
}

impl Names {
    /// Where the word begins that a line ends with, and what it may become.
    fn offer(&self, line: &str) -> (usize, Vec<String>) {
        let start = line.rfind(|c: char| c.is_whitespace() || matches!(c, '>' | '\'' | '!')).map_or(0, |at| at + 1);
        let inside = line.get(start..).and_then(|word| word.strip_prefix(INSTANCES)?.split_once('/'));
        let start = inside.map_or(start, |(_, file)| line.len() - file.len());
        let (before, word) = line.split_at(start);
        let command = before.split_whitespace().next();
        let wants_file =
            inside.is_some() || before.trim_end().ends_with('>') || matches!(command, Some("cat" | "help"));
        let names: Box<dyn Iterator<Item = &str>> = match command {
            None => Box::new(COMMANDS.into_iter()),
            _ if wants_file => Box::new(self.files.iter().map(String::as_str)),
            Some("echo") => {
                let tracers = ["function", "function_graph", "nop"];
                Box::new(tracers.into_iter().chain(self.functions.iter().map(String::as_str)))
            }
            Some(_) => Box::new(std::iter::empty()),
        };
        (start, names.filter(|name| name.starts_with(word)).take(OFFERED).map(str::to_owned).collect())
    }
}

impl Helper for Names {}
impl Highlighter for Names {}
impl Validator for Names {}

impl Hinter for Names {
    type Hint = String;
}

impl Completer for Names {
    type Candidate = String;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(self.offer(line.get(..pos).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_files_and_functions_are_completed_where_they_can_stand() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let known = Names {
            files: names(&["set_ftrace_filter", "set_ftrace_pid", "trace"]),
            functions: names(&["disk::read", "disk::seek", "net::send"]),
        };
        for (line, start, offered) in [
            ("", 0, &COMMANDS[..]),
            ("ec", 0, &["echo"]),
            ("cat tr", 4, &["trace"]),
            ("help set_", 5, &["set_ftrace_filter", "set_ftrace_pid"]),
            ("echo disk::", 5, &["disk::read", "disk::seek"]),
            ("echo '!net", 7, &["net::send"]),
            ("echo disk::read > set_ftrace_f", 18, &["set_ftrace_filter"]),
            ("echo disk::read >>", 18, &["set_ftrace_filter", "set_ftrace_pid", "trace"]),
            ("echo function_", 5, &["function_graph"]),
            ("cat instances/disk/tr", 19, &["trace"]),
            ("echo disk::read > instances/disk/set_ftrace_f", 33, &["set_ftrace_filter"]),
            ("mk", 0, &["mkdir"]),
            ("nosuch x", 7, &[]),
        ] {
            assert_eq!(known.offer(line), (start, names(offered)), "{line}");
        }
    }
}
