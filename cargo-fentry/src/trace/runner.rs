//! Somebody's own command that boots a kernel: on a board, in another emulator, by a build tool.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

/// The command's words, with places for what is known only when it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runner {
    words: Vec<String>,
}

/// What a runner is given.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "each is a place in the command")]
pub struct Given<'a> {
    pub image: &'a Path,
    pub boot: &'a Path,
    /// The kernel's command line.
    pub append: &'a str,
}

/// The place of the kernel's command line.
const APPEND: &str = "{append}";

impl Runner {
    /// Divides a command into words, as a shell does; it is not one, and expands nothing.
    ///
    /// # Errors
    ///
    /// There is no word, or a quote has no end.
    pub fn parse(command: &str) -> Result<Self, String> {
        let words = shell_words::split(command).map_err(|error| error.to_string())?;
        if words.is_empty() {
            return Err("expected a command".to_owned());
        }
        Ok(Self { words })
    }

    /// Whether it hands the kernel a command line.
    pub fn takes_command_line(&self) -> bool {
        self.words.iter().any(|word| word.contains(APPEND))
    }

    /// The program that is run.
    pub fn program(&self) -> &str {
        &self.words[0]
    }

    /// The command: `{image}`, `{boot}` and `{append}` replaced, each inside of one word.
    pub fn command(&self, given: Given<'_>) -> Command {
        let path = |path: &Path| path.as_os_str().to_string_lossy().into_owned();
        let places = [("{image}", path(given.image)), ("{boot}", path(given.boot)), (APPEND, given.append.to_owned())];
        let mut words = self.words.iter().map(|word| filled_in(word, &places));
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words.map(|word| OsStr::new(&word).to_owned()));
        command
    }
}

/// Replaces each place once; what is put in is not looked into.
fn filled_in(word: &str, places: &[(&str, String)]) -> String {
    let mut text = String::new();
    let mut rest = word;
    while let Some((at, (place, value))) =
        places.iter().filter_map(|place| Some((rest.find(place.0)?, place))).min_by_key(|(at, _)| *at)
    {
        text.push_str(&rest[..at]);
        text.push_str(value);
        rest = &rest[at + place.len()..];
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_replaced_inside_of_words() {
        let runner = Runner::parse("run --kernel={boot} -n 'a b' \"{append}\" {image}:{boot} $HOME").unwrap();
        let given =
            Given { image: Path::new("k {boot}.elf"), boot: Path::new("k.img"), append: "filter=\"a b\" {image}" };
        let command = runner.command(given);
        let args: Vec<_> = command.get_args().map(|arg| arg.to_str().unwrap()).collect();
        assert_eq!(command.get_program(), "run");
        assert_eq!(args, ["--kernel=k.img", "-n", "a b", "filter=\"a b\" {image}", "k {boot}.elf:k.img", "$HOME"]);
        assert!(runner.takes_command_line());
        assert!(!Runner::parse("./run.sh").unwrap().takes_command_line());
    }

    #[test]
    fn what_is_no_command_is_refused() {
        assert!(Runner::parse("  ").is_err());
        assert!(Runner::parse("run 'it").is_err());
    }
}
